"""Timing on a clock that the tests wind, and a description without private details."""

import socket

import pytest

from vad_helpers.errors import InputError
from vad_helpers.metrics import runtime


class Clock:
    """A clock that moves only when the timed function runs."""

    def __init__(self, *durations):
        self.now, self.durations = 0.0, list(durations)

    def __call__(self):
        return self.now

    def work(self):
        self.now += self.durations.pop(0)


def test_the_median_of_the_warm_runs_is_reported_and_the_device_waited_for():
    clock = Clock(100, 3, 1, 7)  # the first run is the warm-up
    found = runtime.measure(clock.work, repeats=3, warmup=1, clock=clock)
    assert found == {"seconds": 3.0, "seconds_min": 1.0, "seconds_max": 7.0, "repeats": 3}
    clock = Clock(5, 1)
    assert runtime.measure(clock.work, repeats=2, warmup=0, clock=clock)["seconds"] == 3.0
    clock = Clock(2, 2, 2, 2)
    found = runtime.measure(lambda: None, repeats=2, warmup=0, clock=clock, synchronize=clock.work)
    assert found["seconds"] == 2.0
    for wrong in ({"repeats": 0}, {"warmup": -1}, {"repeats": 1.5}):
        with pytest.raises(InputError, match="expected an integer of at least"):
            runtime.measure(lambda: None, **wrong)


def test_the_machine_is_described_without_host_or_paths():
    found = runtime.machine()
    parts = {"processor", "instructions", "cores", "threads", "device"}
    assert set(found) == parts | {"torch", "python", "system"}
    assert found["cores"] >= 1
    assert socket.gethostname() not in " ".join(str(value) for value in found.values())


def test_the_systems_list_names_the_processor_else_its_architecture(tmp_path, monkeypatch):
    listing = tmp_path / "cpuinfo"
    monkeypatch.setattr(runtime, "CPU_INFO", listing)
    monkeypatch.setattr(runtime.platform, "processor", lambda: "riscv64")
    for content, expected in (
        (None, "riscv64"),
        ("processor : 0\nmodel name :\nBogoMIPS : 50\n", "riscv64"),
        ("processor\t: 0\nmodel name\t: Chip 9: fast\nmodel name\t: Other\n", "Chip 9: fast"),
    ):
        if content is not None:
            listing.write_text(content)
        assert runtime.machine()["processor"] == expected
