"""Timing on a clock that the tests wind, and a description without private details."""

import socket

import numpy as np
import pandas as pd
import pytest

from vad_helpers.metrics import runtime


class Clock:
    """A clock that moves only when the timed function runs."""

    def __init__(self, durations):
        self.now, self.durations = 0.0, list(durations)

    def __call__(self):
        return self.now

    def work(self):
        self.now += self.durations.pop(0)


def test_the_median_of_the_warm_runs_is_reported():
    clock = Clock([100, 3, 1, 7])  # the first run is the warm-up
    found = runtime.measure(clock.work, repeats=3, warmup=1, clock=clock)
    assert found == {"seconds": 3.0, "seconds_min": 1.0, "seconds_max": 7.0, "repeats": 3}


def test_no_warmup_times_every_run():
    clock = Clock([5, 1])
    assert runtime.measure(clock.work, repeats=2, warmup=0, clock=clock)["seconds"] == 3.0
    assert not clock.durations


def test_work_still_running_on_the_device_is_waited_for():
    clock = Clock([2] * 4)
    found = runtime.measure(lambda: None, repeats=2, warmup=0, clock=clock, synchronize=clock.work)
    assert found["seconds"] == 2.0


def test_the_real_clock_counts_seconds():
    found = runtime.measure(lambda: sum(range(1000)), repeats=3)
    assert 0 < found["seconds_min"] <= found["seconds"] <= found["seconds_max"] < 1


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"warmup": -1}, {"repeats": 1.5}])
def test_numbers_of_runs_must_make_sense(wrong):
    with pytest.raises(ValueError, match="expected an integer of at least"):
        runtime.measure(lambda: None, **wrong)


def test_the_machine_is_described_without_host_or_paths():
    found = runtime.machine()
    assert set(found) == {
        "processor", "instructions", "cores", "threads", "device", "torch", "python", "system"
    }  # fmt: skip
    assert found["cores"] >= 1
    text = " ".join(str(value) for value in found.values())
    assert socket.gethostname() not in text


def test_the_processors_model_is_read_from_the_systems_list(tmp_path, monkeypatch):
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Chip 9000: fast\n")
    monkeypatch.setattr(runtime, "CPU_INFO", listing)
    assert runtime.machine()["processor"] == "Chip 9000: fast"


@pytest.mark.parametrize("content", [None, "processor : 0\nBogoMIPS : 50\n"])
def test_without_a_model_name_the_platform_is_asked(tmp_path, monkeypatch, content):
    listing = tmp_path / "cpuinfo"
    if content is not None:
        listing.write_text(content)
    monkeypatch.setattr(runtime, "CPU_INFO", listing)
    monkeypatch.setattr(runtime.platform, "processor", lambda: "")
    monkeypatch.setattr(runtime.platform, "machine", lambda: "riscv64")
    assert runtime.machine()["processor"] == "riscv64"


def test_cores_fall_back_on_the_machines_number(monkeypatch):
    monkeypatch.delattr(runtime.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(runtime.os, "cpu_count", lambda: 12)
    assert runtime.machine()["cores"] == 12


def test_peak_memory_is_in_bytes_and_holds_what_was_allocated():
    ballast = np.ones(8_000_000)  # 64 MB
    assert runtime.peak_memory() > ballast.nbytes
    assert runtime.peak_memory() < 2**40


@pytest.mark.parametrize(("system", "factor"), [("darwin", 1), ("linux", 1024)])
def test_peak_memory_knows_the_unit_of_the_system(monkeypatch, system, factor):
    class Usage:
        ru_maxrss = 7

    class Resource:
        RUSAGE_SELF = 0
        getrusage = staticmethod(lambda who: Usage)

    monkeypatch.setattr(runtime, "resource", Resource)
    monkeypatch.setattr(runtime.sys, "platform", system)
    assert runtime.peak_memory() == 7 * factor


def test_peak_memory_is_undefined_where_the_system_does_not_tell(monkeypatch):
    monkeypatch.setattr(runtime, "resource", None)
    assert np.isnan(runtime.peak_memory())


def test_timings_compare_within_the_commonest_machine_and_batch_size():
    timed = pd.DataFrame(
        [("a", 1, 1.0), ("b", 1, 2.0), ("a", 2, 3.0), ("a", 1, 4.0)],
        columns=["machine", "batch_size", "seconds"],
        index=[7, 7, 8, 9],
    )
    assert runtime.alike_timed(timed)["seconds"].tolist() == [1.0, 4.0]
    assert runtime.alike_timed(timed.iloc[:0]).empty
