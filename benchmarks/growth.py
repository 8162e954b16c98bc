"""How the cost grows with frames, pixels and clips."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from benchmarks import bench
from vad_helpers.attribution import attribute
from vad_helpers.inference.prepared import Prepared, prepare, synchronize

SHARES = {"frames": (0.4, 0.6, 0.8, 1.0, 1.4), "pixels": (0.25, 0.5, 1.0, 1.5), "clips": (1, 2, 4)}
CHEAP: dict[str, dict[str, Any]] = {
    "guided_backprop": {},
    "ig": {"n_steps": 4},
    "lime": {"n_samples": 6},
    "occlusion_lp": {},
}
"""One method of a kind, with few samples: the exponent does not depend on their number."""


def rows(subject: bench.Subject, *, precision: str | None = None) -> list[dict[str, Any]]:
    """Seconds at several sizes, and the exponent of the power law that fits them.

    Without a precision, in bf16 where the device computes it, else in fp32.

    Returns
    -------
    list of dict
        ``axis`` ("frames", "pixels", "clips"), ``method``, ``sizes``, ``seconds``, ``exponent``:
        1 means proportional.
    """
    prepared = prepare(subject.network, precision=precision or bench.precisions(subject.device)[-1])
    found = []
    for axis, shares in SHARES.items():
        for method, settings in CHEAP.items():
            pairs = [_point(subject.clip, prepared, axis, s, method, settings) for s in shares]
            sizes, seconds = (list(column) for column in zip(*pairs, strict=True))
            exponent = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
            row = {"axis": axis, "method": method, "sizes": sizes, "seconds": seconds}
            found.append(row | {"exponent": exponent})
    return found


def _point(
    clip: torch.Tensor,
    prepared: Prepared,
    axis: str,
    share: float,
    method: str,
    settings: dict[str, Any],
) -> tuple[float, float]:
    """Size along an axis, and seconds."""
    clip, n_clips = resized(clip, axis, share), int(share) if axis == "clips" else 1
    if method.startswith("occlusion"):
        parts = {"window": 1 / 3, "stride": 1 / 6}
        settings = {
            name: tuple(max(1, round(n * part)) for n in clip.shape[1:])
            for name, part in parts.items()
        }
    options = {"precision": prepared.precision, "batch_size": 2, **settings}
    size = {"frames": clip.shape[1], "pixels": clip.shape[2] * clip.shape[3], "clips": n_clips}
    with bench.quiet():
        attribute(prepared, clip, method, **options)  # measures what later calls share
        synchronize(clip.device)
        start = time.perf_counter()
        for _ in range(n_clips):
            attribute(prepared, clip, method, **options)
        synchronize(clip.device)
    return float(size[axis]), time.perf_counter() - start


def resized(clip: torch.Tensor, axis: str, share: float) -> torch.Tensor:
    """The clip with another number of frames or pixels."""
    size = list(clip.shape[1:])
    if axis == "frames":
        size[0] = max(2, round(size[0] * share))
    elif axis == "pixels":
        size[1:] = [max(16, round(n * share**0.5)) for n in size[1:]]
    return torch.nn.functional.interpolate(clip[None], size=size, mode="trilinear")[0]
