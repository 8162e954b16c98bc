import json
import multiprocessing
import os
import time

import pytest

from vad_helpers.store import cache


@pytest.fixture
def run(tmp_path):
    return cache.Run(params=None, root=tmp_path, dir=tmp_path / "run")


def build_counter(value):
    calls = []

    def build():
        calls.append(value)
        return value

    return build, calls


def get(run, key, build, name="value.txt"):
    return cache.load_or_build(
        run,
        name,
        key,
        build=build,
        save=lambda value, path: path.write_text(value),
        load=lambda path: path.read_text(),
    )


def test_a_second_request_loads_what_the_first_built(run):
    build, calls = build_counter("a")
    assert [get(run, "k", build), get(run, "k", build)] == ["a", "a"]
    assert calls == ["a"]
    assert cache.cached(run, "value.txt", "k")


def test_another_key_rebuilds_and_going_back_rebuilds_again(run):
    for key, value in (("k1", "a"), ("k2", "b"), ("k1", "c")):
        build, calls = build_counter(value)
        assert get(run, key, build) == value
        assert calls == [value]


def test_a_crash_while_writing_never_leaves_an_old_key_beside_a_new_file(run, monkeypatch):
    get(run, "old", lambda: "a")
    entered = cache.enter

    def die_after_writing(run, name, entry):
        if entry is not None:
            raise KeyboardInterrupt
        entered(run, name, entry)

    monkeypatch.setattr(cache, "enter", die_after_writing)
    with pytest.raises(KeyboardInterrupt):
        get(run, "new", lambda: "b")
    monkeypatch.undo()
    assert run.path("value.txt").read_text() == "b"
    assert get(run, "old", lambda: "rebuilt") == "rebuilt"


def test_a_failing_build_keeps_the_earlier_artifact(run):
    get(run, "k", lambda: "a")

    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        get(run, "other", fail)
    assert get(run, "k", lambda: "never") == "a"


def test_a_deleted_file_is_rebuilt(run):
    get(run, "k", lambda: "a")
    run.path("value.txt").unlink()
    assert get(run, "k", lambda: "b") == "b"


def test_a_damaged_artifact_is_rebuilt_with_a_warning(run):
    def load(path):
        text = path.read_text()
        if text == "damaged":
            raise ValueError("not a value")
        return text

    def request():
        return cache.load_or_build(
            run,
            "value.txt",
            "k",
            build=lambda: "a",
            save=lambda v, p: p.write_text(v),
            load=load,
        )

    request()
    run.path("value.txt").write_text("damaged")
    with pytest.warns(UserWarning, match="not a value.*rebuilding"):
        assert request() == "a"


@pytest.mark.parametrize("text", ["{not json", "[]"])
def test_a_damaged_manifest_counts_as_empty(run, text):
    get(run, "k", lambda: "a")
    run.path("manifest.json").write_text(text)
    with pytest.warns(UserWarning) if text.startswith("{") else _nothing():
        assert get(run, "k", lambda: "b") == "b"


def _nothing():
    import contextlib

    return contextlib.nullcontext()


def test_the_manifest_tells_key_settings_and_time(run):
    cache.load_or_build(
        run,
        "value.txt",
        "k",
        build=lambda: "a",
        save=lambda v, p: p.write_text(v),
        load=lambda p: p.read_text(),
        settings={"epochs": 3},
    )
    entry = json.loads(run.path("manifest.json").read_text())["value.txt"]
    assert (entry["key"], entry["epochs"]) == ("k", 3)
    assert entry["seconds"] >= 0 and entry["written"].endswith("Z")


def test_keys_depend_on_every_part_and_on_nothing_else():
    base = cache.key_of("step", 1, a=[1, 2], b={"x": 1, "y": 2})
    assert base == cache.key_of("step", 1, b={"y": 2, "x": 1}, a=(1, 2))
    others = [
        cache.key_of("other", 1, a=[1, 2], b={"x": 1, "y": 2}),
        cache.key_of("step", 2, a=[1, 2], b={"x": 1, "y": 2}),
        cache.key_of("step", 1, a=[1, 3], b={"x": 1, "y": 2}),
        cache.key_of("step", 1, a=[1, 2], b={"x": 1, "y": 2}, c=None),
    ]
    assert len({base, *others}) == 5


def _slow_request(folder, done):
    run = cache.Run(params=None, root=folder, dir=folder / "run")

    def build():
        time.sleep(0.5)
        (folder / f"built-{os.getpid()}").touch()
        return "a"

    done.put(get(run, "k", build))


def test_two_processes_build_once(tmp_path):
    context = multiprocessing.get_context("fork")
    done = context.Queue()
    workers = [context.Process(target=_slow_request, args=(tmp_path, done)) for _ in range(2)]
    for worker in workers:
        worker.start()
    assert [done.get(timeout=20) for _ in workers] == ["a", "a"]
    for worker in workers:
        worker.join()
    assert len(list(tmp_path.glob("built-*"))) == 1


def test_remember_looks_up_once_a_handle(run):
    calls = []
    for _ in range(2):
        assert cache.remember(run, "x", lambda: calls.append(1) or len(calls)) == 1
