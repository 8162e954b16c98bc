"""How exact? Every method in float32 and float64, ours and Captum's, given the same samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import bench, plain_captum
from vad_helpers.attribution import METHODS, baselines, superpixels
from vad_helpers.attribution.prepared import prepare
from vad_helpers.attribution.probability import Probability, evaluating, seeded

FEWER: dict[str, dict[str, Any]] = {
    "ig": {"n_steps": 6},
    "ig_smoothgrad": {"n_steps": 4, "n_samples": 2},
    "gradient_shap": {"n_samples": 3},
    "kernel_shap": {"n_samples": 40, "n_segments": 16},
    "lime": {"n_samples": 40, "n_segments": 16},
    "occlusion_lp": {"window": (10, 30, 40), "stride": (10, 17, 28)},
    "occlusion_sp": {"window": (4, 16, 24), "stride": (8, 16, 24)},
}
"""Settings that float64, for which there are no fast kernels, finishes in a minute or two."""


def rows(subject: bench.Subject, methods: list[str]) -> list[dict[str, Any]]:
    """Largest differences between maps, as shares of the reference map's maximum.

    Returns
    -------
    list of dict
        ``method``; ``float64``: ours from Captum's, both in float64; ``ours_fp32``,
        ``captum_fp32``: from the same in float64; ``ratio``: ours over Captum's.
    """
    found = []
    for method in methods:
        options = {**METHODS[method].settings, **FEWER.get(method, {})}
        maps = {
            (whose, kind): _map(subject, method, options, whose, kind)
            for whose in ("ours", "captum")
            for kind in (torch.float32, torch.float64)
        }
        exact = {whose: maps[whose, torch.float64] for whose in ("ours", "captum")}
        errors = {
            whose: _error(maps[whose, torch.float32], exact[whose]) for whose in ("ours", "captum")
        }
        found.append(
            {
                "method": method,
                "float64": _error(exact["ours"], exact["captum"]),
                "ours_fp32": errors["ours"],
                "captum_fp32": errors["captum"],
                "ratio": errors["ours"] / errors["captum"] if errors["captum"] else None,
            }
        )
    return found


def _error(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(found - exact).max() / np.abs(exact).max())


def _map(
    subject: bench.Subject, method: str, options: dict[str, Any], whose: str, kind: torch.dtype
) -> np.ndarray:
    clip = subject.clip.to(kind)
    fill = baselines.make("blur", clip)
    before = next(subject.network.parameters()).dtype
    network = subject.network.to(kind)
    try:
        with seeded(0, subject.device), bench.quiet():
            if whose == "captum":
                model = plain_captum.AnomalyProbability(network)
                result = plain_captum.METHODS[method](model, clip, fill, **options)
            else:
                result = _ours(network, method, clip, fill, options)
    finally:
        subject.network.to(before)
    return result.detach().double().cpu().numpy()


def _ours(
    network: torch.nn.Module, method: str, clip: Tensor, fill: Tensor, options: dict[str, Any]
) -> Tensor:
    """Like `explain`, which gives float32 whatever it computed in."""
    spec, keywords = METHODS[method], dict(options)
    if spec.superpixels:
        sizes = {name: keywords.pop(name) for name in ("n_segments", "compactness")}
        labels = superpixels.slic(clip.float(), **sizes)
        keywords["segments"] = torch.from_numpy(labels).to(clip.device)
    probability = Probability(prepare(network), batch_size=2, example=clip)
    with evaluating(network):
        result = spec.attribute(probability, clip, fill, **keywords)
    return result[0] if isinstance(result, tuple) else result
