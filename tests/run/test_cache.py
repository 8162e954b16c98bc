"""Locks, the manifest, and tables that are computed whole."""

import json
import multiprocessing
import time

import numpy as np
import pandas as pd
import pytest
from filelock import Timeout

from vad_helpers.errors import InputError
from vad_helpers.run import cache, open_run

LINE = {"row": "a", "kind": "method", "of": "ig", "family": "gradient", "label": "A"}


@pytest.fixture
def run(tmp_path):
    return open_run("tiny", run_dir=str(tmp_path / "run"))


def get(run, key, value, calls):
    def made():
        calls.append(value)
        return pd.DataFrame([{**LINE, "settings": json.dumps({"value": value})}])

    return cache.load_or_build(run, "rows", key, made)["settings"][0]


def test_a_second_request_reads_and_another_key_computes_again(run):
    calls = []
    for key, value in (("k1", "a"), ("k1", "a"), ("k2", "b"), ("k1", "c")):
        assert get(run, key, value, calls) == json.dumps({"value": value})
    assert calls == ["a", "b", "c"]
    manifest = cache.manifest_in(run.dir)
    assert manifest["counts"] == {"rows": 1} and manifest["files"]["rows"]["key"] == "k1"


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_file_that_is_not_what_was_written_is_computed_again_with_a_warning(run, damage):
    calls = []
    get(run, "k", "a", calls)
    path = run.path("rows.csv")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"A", b"B") if damage == "changed" else content[:9])
    if damage == "gone":
        path.unlink()
    with pytest.warns(UserWarning, match="gone, changed or damaged"):
        get(run, "k", "a", calls)
    assert calls == ["a", "a"] and path.read_bytes() == content


def test_a_failing_computation_leaves_what_was_there(run):
    get(run, "k", "a", [])
    with pytest.raises(ZeroDivisionError):
        cache.load_or_build(run, "rows", "other", lambda: 1 / 0)
    assert get(run, "k", "b", []) == json.dumps({"value": "a"})


@pytest.mark.parametrize("text", ["{", "[]", '{"files": 3}', ""])
def test_a_damaged_manifest_is_refused(run, text):
    run.dir.mkdir()
    run.path("manifest.json").write_text(text)
    with pytest.raises(InputError, match="manifest.json is damaged"):
        get(run, "k", "a", [])
    with pytest.raises(InputError, match="manifest.json is damaged"):
        open_run(run_dir=str(run.dir))


def test_dicts_in_the_manifest_are_merged_and_none_removes(run):
    cache.update(run, seconds={"a": 1, "b": 2}, evaluation=["x"])
    cache.update(run, seconds={"b": None, "c": 3}, evaluation=["y"])
    found = cache.manifest_in(run.dir)
    assert found["seconds"] == {"a": 1, "c": 3} and found["evaluation"] == ["y"]
    assert found["parameters"]["epochs"] == 1


def _hold(folder, held):
    with cache.lock(folder, "x"):
        held.set()
        time.sleep(600)


def test_a_killed_process_leaves_no_lock_behind(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, lock = context.Event(), cache.lock(tmp_path, "x")
    process = context.Process(target=_hold, args=(tmp_path, held), daemon=True)
    process.start()
    assert held.wait(600)
    with pytest.raises(Timeout):
        lock.acquire(blocking=False)
    process.kill()
    process.join()
    with lock:
        assert lock.is_locked


def test_numbers_read_back_and_half_lines_and_other_headings_are_not_read(run):
    run.dir.mkdir()
    path, value = run.path("frame_auc.csv"), 0.1 + 0.2
    path.write_text("clip_id,row,frame,auc\na,b,0,0.5\n")
    assert cache.read_lines(run, "frame_auc") == []
    path.write_text("clip_id,row,frame,auc,key\na,b,0,0.5,k\na,b,1\na,b,1,0.")
    assert cache.read_lines(run, "frame_auc") == [["a", "b", "0", "0.5", "k"]]
    cache.append(run, {"frame_auc": [("a", "b", 1, value, "k"), ("a", "b", 2, np.nan, "k")]})
    *_, third, fourth = cache.read_lines(run, "frame_auc")
    assert third[2] == "1" and float(third[3]) == pytest.approx(value, abs=1e-9)
    assert fourth == ["a", "b", "2", "", "k"]


def test_look_ups_are_made_once_a_handle_and_tables_are_the_callers_own(run):
    calls = []

    @cache.once
    def look_up(run, name, *, n=0):
        calls.append((name, n))
        return pd.DataFrame({"x": [1]})

    table = look_up(run, "a")
    table["x"] = 2
    assert look_up(run, "a")["x"][0] == 1
    look_up(run, "a", n=1)
    look_up(open_run("tiny"), "a")
    assert calls == [("a", 0), ("a", 1), ("a", 0)]
