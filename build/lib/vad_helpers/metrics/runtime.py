"""How long does an explanation take, on what machine?"""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vad_helpers.metrics.arrays import check_count

CPU_INFO = Path("/proc/cpuinfo")
BF16 = {"amx_bf16": "AMX", "avx512_bf16": "bf16"}
"""What a processor computes bf16 with, by its flag: in tiles, or in vectors."""


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
        ``seconds``: the median of wall times, lower is better. ``seconds_min``, ``seconds_max``:
        the extremes. ``repeats``: the number of timed runs.

    Raises
    ------
    InputError
        If `repeats` or `warmup` is too small or not an integer.
    """
    check_count(repeats, name="repeats")
    check_count(warmup, name="warmup", at_least=0)
    for _ in range(warmup):
        fn()
    wait, times = synchronize or (lambda: None), []
    for _ in range(repeats):
        wait()
        start = clock()
        fn()
        wait()
        times.append(clock() - start)
    return {
        "seconds": statistics.median(times),
        "seconds_min": min(times),
        "seconds_max": max(times),
        "repeats": repeats,
    }


def machine() -> dict[str, str | int]:
    """Describe what the timings were taken on, without host name or paths.

    Returns
    -------
    dict
        ``processor``: model name. ``instructions``: the widest that torch uses of it, and what it
        has for bf16, such as "AVX2", "AVX512 bf16" or "AVX512 AMX"; a cloud may name two processors
        alike whose times differ severalfold.
        ``cores``: processors this process may use. ``threads``: those torch uses. ``device``: the
        GPU's name, or "cpu". ``torch``, ``python``: versions. ``system``: operating system.
    """
    # Only Linux's own list has the model's name; `platform` gives the architecture.
    listing = CPU_INFO.read_text("utf-8", "replace") if CPU_INFO.is_file() else ""
    flags = re.search(r"^flags[ \t]*:(.*)$", listing, re.MULTILINE)
    flags = flags[1].split() if flags else []
    widest = torch.backends.cpu.get_cpu_capability()
    instructions = [widest, *[name for flag, name in BF16.items() if flag in flags][:1]]
    model = re.search(r"^model name[ \t]*:[ \t]*(\S.*?)\s*$", listing, re.MULTILINE)
    # A container often lends fewer cores than there are.
    lent = hasattr(os, "sched_getaffinity")
    return {
        "processor": model[1] if model else platform.processor() or platform.machine() or "unknown",
        "instructions": " ".join(instructions),
        "cores": len(os.sched_getaffinity(0)) if lent else os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.system(),
    }
