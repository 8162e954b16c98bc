"""How long does an explanation take, on what machine, in how much memory?

Conventions
-----------
Seconds of wall time for one clip at a time, warm (after runs that are not timed), the median of
repeats. On a GPU the clock must wait for the device: pass `synchronize`.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from vad_helpers.metrics.arrays import check_count

try:
    import resource
except ImportError:  # Windows has none
    resource = None

CPU_INFO = Path("/proc/cpuinfo")


def measure(
    fn: Callable[[], Any],
    *,
    repeats: int = 3,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
    synchronize: Callable[[], Any] | None = None,
) -> dict[str, float]:
    """Time a function.

    Parameters
    ----------
    fn : callable
        Takes nothing; what it returns is dropped.
    repeats : int
        Timed runs, at least 1.
    warmup : int
        Runs before them that are not timed (caches, compilation), at least 0.
    clock : callable
        Gives seconds.
    synchronize : callable, optional
        Called before each reading of the clock, ``torch.cuda.synchronize`` for a GPU.

    Returns
    -------
    dict
        ``seconds``: the median, lower is better. ``seconds_min``, ``seconds_max``: the extremes.
        ``repeats``: the number of timed runs.

    Raises
    ------
    ValueError
        If `repeats` or `warmup` is too small or not an integer.
    """
    check_count(repeats, name="repeats")
    check_count(warmup, name="warmup", at_least=0)
    for _ in range(warmup):
        fn()
    times = [_time_once(fn, clock, synchronize or _nothing) for _ in range(repeats)]
    return {
        "seconds": statistics.median(times),
        "seconds_min": min(times),
        "seconds_max": max(times),
        "repeats": repeats,
    }


def alike_timed(timed: pd.DataFrame) -> pd.DataFrame:
    """Keep the timings that compare: of the machine and batch size with the most lines.

    Parameters
    ----------
    timed : DataFrame
        One line a timing, with ``machine`` and ``batch_size``.

    Returns
    -------
    DataFrame
        Those lines, in their order.
    """
    if timed.empty:
        return timed
    conditions = pd.Series(list(zip(timed["machine"], timed["batch_size"], strict=True)))
    return timed[(conditions == conditions.mode()[0]).to_numpy()]


def _time_once(fn: Callable, clock: Callable[[], float], synchronize: Callable) -> float:
    synchronize()
    start = clock()
    fn()
    synchronize()
    return clock() - start


def _nothing() -> None:
    """Wait for no device."""


def machine() -> dict[str, str | int]:
    """Describe what the timings were taken on, without host name or paths.

    Returns
    -------
    dict
        ``processor``: model name. ``instructions``: the widest that torch uses of it, such as
        "AVX2" or "AVX512"; a cloud may name two processors alike whose times differ severalfold.
        ``cores``: processors this process may use. ``threads``: those torch uses. ``device``: the
        GPU's name, or "cpu". ``torch``, ``python``: versions. ``system``: operating system.
    """
    gpu = torch.cuda.is_available()
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if gpu else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # a container often lends fewer than there are
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Model name; only Linux's own list has it there, `platform` gives the architecture."""
    if CPU_INFO.is_file():
        for line in CPU_INFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine() or "unknown"


def peak_memory() -> float:
    """Largest resident memory of this process so far.

    Returns
    -------
    float
        Bytes; NaN where the system does not tell (Windows).
    """
    if resource is None:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)  # macOS alone counts bytes
