"""How exact? Every method in float32 and float64, ours and Captum's, given the same samples."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from benchmarks import bench, plain_captum
from vad_helpers.attribution import METHODS, baselines, superpixels
from vad_helpers.attribution.probability import Probability, seeded
from vad_helpers.inference.prepared import evaluating, prepare

N_CLIPS = 6

FEWER: dict[str, dict[str, Any]] = {
    "ig": {"n_steps": 6},
    "ig_smoothgrad": {"n_steps": 4, "n_samples": 2},
    "gradient_shap": {"n_samples": 3},
    "kernel_shap": {"n_samples": 40, "n_segments": 16},
    "lime": {"n_samples": 40, "n_segments": 16},
    "occlusion_lp": {"window": (10, 30, 40), "stride": (10, 17, 28)},
    "occlusion_sp": {"window": (4, 16, 24), "stride": (4, 16, 24)},
}
"""Settings that float64, for which there are no fast kernels, finishes in a minute or two."""


def rows(subject: bench.Subject, methods: list[str]) -> list[dict[str, Any]]:
    """Largest differences between maps, as shares of the reference map's maximum.

    A gradient jumps where rounding carries a value across the corner of a ReLU: a rare event,
    with or without which a single map's error says little. Methods of few gradients are averaged
    over `N_CLIPS` slightly different clips.

    Returns
    -------
    list of dict
        ``method``; ``clips``; ``float64``: ours from Captum's, both in float64; ``ours_fp32``,
        ``captum_fp32``: from the same in float64; ``ratio``: ours over Captum's.
    """
    found = []
    for method in methods:
        few = method in ("guided_backprop", "gradient_shap")
        errors = [_errors(clip, method) for clip in _jittered(subject, N_CLIPS if few else 1)]
        row = {name: float(np.mean([error[name] for error in errors])) for name in errors[0]}
        row["float64"] = max(error["float64"] for error in errors)
        ratio = row["ours_fp32"] / row["captum_fp32"] if row["captum_fp32"] else None
        found.append({"method": method, "clips": len(errors), **row, "ratio": ratio})
    return found


def _jittered(subject: bench.Subject, n: int) -> list[bench.Subject]:
    """The subject, and the same with a little noise on its clip."""
    generator = torch.Generator().manual_seed(0)
    noise = [torch.randn(subject.clip.shape, generator=generator) for _ in range(n - 1)]
    clips = [subject.clip, *(subject.clip + 0.02 * one.to(subject.device) for one in noise)]
    return [dataclasses.replace(subject, clip=clip) for clip in clips]


def _errors(subject: bench.Subject, method: str) -> dict[str, float]:
    maps = {
        (whose, kind): _map(subject, method, whose, kind)
        for whose in ("ours", "captum")
        for kind in (torch.float32, torch.float64)
    }

    def error(found: tuple, exact: tuple) -> float:
        difference = np.abs(maps[found] - maps[exact]).max()
        return float(difference / np.abs(maps[exact]).max())

    return {
        "float64": error(("ours", torch.float64), ("captum", torch.float64)),
        "ours_fp32": error(("ours", torch.float32), ("ours", torch.float64)),
        "captum_fp32": error(("captum", torch.float32), ("captum", torch.float64)),
    }


def _map(subject: bench.Subject, method: str, whose: str, kind: torch.dtype) -> np.ndarray:
    """A map in the precision that it was computed in: `explain` always gives float32."""
    clip, spec = subject.clip.to(kind), METHODS[method]
    fill, options = baselines.make("blur", clip), {**spec.settings, **FEWER.get(method, {})}
    before = next(subject.network.parameters()).dtype
    network = subject.network.to(kind)
    try:
        with seeded(0, subject.device), evaluating(network), bench.quiet():
            if whose == "captum":
                model = plain_captum.AnomalyProbability(network)
                result = plain_captum.METHODS[method](model, clip, fill, **options)
            else:
                if spec.superpixels:
                    sizes = {name: options.pop(name) for name in ("n_segments", "compactness")}
                    labels = superpixels.slic(clip.float(), **sizes)
                    options["segments"] = torch.from_numpy(labels).to(clip.device)
                probability = Probability(prepare(network), batch_size=2, example=clip)
                result = spec.attribute(probability, clip, fill, **options)
                result = result[0] if isinstance(result, tuple) else result
    finally:
        subject.network.to(before)
    return result.detach().double().cpu().numpy()
