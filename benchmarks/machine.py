"""What the timings are taken on: its peak, its memory."""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from vad_helpers.inference.prepared import synchronize
from vad_helpers.metrics import runtime

try:
    import resource
except ImportError:  # Windows has none
    resource = None

STATUS = Path("/proc/self/status")
CLEAR = Path("/proc/self/clear_refs")


def name(device: torch.device) -> str:
    """Short name for files: a GPU's model, or a CPU's, its instructions, and the cores in use."""
    if device.type == "cuda":
        words = torch.cuda.get_device_name(device)
    else:
        facts = runtime.machine()
        words = f"{facts['processor']} {facts['instructions']} {facts['threads']} cores"
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-")


def matmul_gflops(
    device: torch.device, dtype: torch.dtype, *, size: int, repeats: int = 5
) -> float:
    """Billions of operations a second of a large matrix product: the practical peak."""
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    a @ b
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        a @ b
        synchronize(device)
        times.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(times) / 1e9


def peak_of(function: Callable[[], object], device: torch.device) -> float:
    """Peak memory in bytes while a function runs: the device's, or this process's on a CPU.

    On Linux the process's own high-water mark is reset before; elsewhere it is the largest of
    everything so far.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        function()
        return float(torch.cuda.max_memory_allocated(device))
    try:
        CLEAR.write_text("5")
    except OSError:
        function()
        return peak_memory()
    function()
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    return int(found.group(1)) * 1024.0 if found else peak_memory()


def peak_memory() -> float:
    """Largest resident memory of this process in bytes; NaN where nobody tells (Windows)."""
    if resource is None:
        return float("nan")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)  # macOS alone counts bytes
