"""The table of faults that were survived."""

import json

from benchmarks import survival


def test_trials_are_counted_by_fault_in_the_order_of_the_faults(tmp_path):
    trials = {
        "two-000": (True, 0.0, "", 1),
        "kill-000": (True, 7.0, "a", 3),
        "kill-001": (False, 2.0, "", 1),
        "kill-002": (True, 0.0, "", 0),  # it ended before it could be killed
    }
    for name, found in trials.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(found))
    found = survival.summary(tmp_path)
    assert tuple(found.columns) == survival.COLUMNS
    assert found.values.tolist() == [["kill", 4, 3, 2.2, "a"], ["two", 1, 1, 0.0, ""]]


def test_rounding_is_no_other_table():
    own = {"row": "ig", "values": "1 2"}
    tables = lambda **line: dict.fromkeys(survival.TABLES, [own | line])  # noqa: E731
    assert survival.nearly(tables(values="1.004 2"), tables())
    for other in ({"values": "1.01 2"}, {"values": "1"}, {"row": "lime"}, {"more": "1"}):
        assert not survival.nearly(tables(**other), tables())
