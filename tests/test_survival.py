"""The table of faults that were survived."""

import json

from benchmarks import survival


def test_trials_are_counted_by_fault_in_the_order_of_the_faults(tmp_path):
    trials = {
        "two-000": (True, 0.0, ""),
        "kill-000": (True, 1.0, "a"),
        "kill-001": (False, 2.0, ""),
    }
    for name, found in trials.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    found = survival.summary(tmp_path)
    assert tuple(found.columns) == survival.COLUMNS
    assert found.values.tolist() == [["kill", 2, 1, 1.5, "a"], ["two", 1, 1, 0.0, ""]]


def test_tables_are_compared_without_run_time_and_with_all_else(tmp_path):
    path = tmp_path / "explanations.csv"
    path.write_text("clip_id,row,seconds,key\na,ig,1.5,k\n")
    before = survival.tables(tmp_path)
    path.write_text("clip_id,row,seconds,key\na,ig,2.5,k\n")
    assert survival.tables(tmp_path) == before and survival.n_done(tmp_path) == 2
    path.write_text("clip_id,row,seconds,key\na,ig,2.5,j\n")
    assert survival.tables(tmp_path) != before
    path.write_bytes(b"clip_id,row,seconds,key\na,ig\xff")
    assert survival.tables(tmp_path) != before and survival.n_done(tmp_path) == 1
