"""Does the explanation hold from frame to frame? Spread of the frame-wise AUC of one clip.

Conventions
-----------
A frame counts if its mask is neither empty nor full: only there is an AUC defined. The AUC of a
frame is that of E+ = max(E, 0) in that frame alone, exact, ties at mid-rank. The published C_v is
the mean over clips of each clip's ratio, not the ratio of the means: average ``cv``, do not
recompute it.

A map without a positive voxel is at chance in every frame. That is the absence of an explanation
and not a steady one: its AUCs stay .5, its spread is undefined. A map that is the same positive
number everywhere does say something, and keeps a spread of 0.

Part of the spread is the object's motion: a map that stands still (superpixels span the clip)
drifts on and off a moving object. `time_average` gives a map's still version, as a reference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from vad_helpers.errors import InputError
from vad_helpers.metrics.arrays import as_map, check_count, exact_auc
from vad_helpers.metrics.human_centric import is_all_zero, validate


def temporal(attribution: Any, mask: Any) -> dict[str, float]:
    """Mean, spread and worst of a map's frame-wise AUC.

    Parameters
    ----------
    attribution : array or tensor, (T, H, W)
        Signed map; negative values count as zero.
    mask : array or tensor of bool, (T, H, W)
        True on the anomaly.

    Returns
    -------
    dict
        ``mauc``: mean AUC, in [0, 1], higher is better. ``stdauc``: its standard deviation over
        frames (ddof 0), in [0, .5], lower is better. ``cv``: stdauc / mauc, at least 0, lower is
        better; NaN if mauc is 0. ``worst``: lowest AUC of a frame, higher is better.
        ``n_frames``: frames with an AUC. With fewer than two such frames all but ``n_frames``
        are NaN; for a map without a positive voxel ``stdauc`` and ``cv`` are.

    Raises
    ------
    InputError
        If the map is not (T, H, W) or not finite, shapes differ, or the mask is not binary.
    """
    aucs = frame_aucs(attribution, mask)
    aucs = aucs[~np.isnan(aucs)]
    if len(aucs) < 2:
        return {**dict.fromkeys(("mauc", "stdauc", "cv", "worst"), np.nan), "n_frames": len(aucs)}
    mean = float(aucs.mean())
    deviation = np.nan if is_all_zero(attribution) else float(aucs.std())
    return {
        "mauc": mean,
        "stdauc": deviation,
        "cv": deviation / mean if mean > 0 else np.nan,
        "worst": float(aucs.min()),
        "n_frames": len(aucs),
    }


def frame_aucs(attribution: Any, mask: Any) -> np.ndarray:
    """AUC of each frame of a map against its mask.

    Parameters
    ----------
    attribution : array or tensor, (T, H, W)
    mask : array or tensor of bool, (T, H, W)

    Returns
    -------
    ndarray of float64, (T,)
        In [0, 1], higher is better; NaN where the mask is empty or full.

    Raises
    ------
    InputError
        As `temporal`.
    """
    positive, mask = validate(attribution, mask, ndim=3)
    return np.array([exact_auc(e, m) for e, m in zip(positive, mask, strict=True)])


def max_sensitivity(
    explain: Callable[[torch.Tensor], Any],
    clip: torch.Tensor,
    *,
    radius: float = 0.05,
    n_samples: int = 10,
    seed: int = 0,
) -> float:
    """Largest change of a map under noise on its clip, as a share of the map's size.

    That is the largest norm of E(x + noise) - E(x), over that of E(x).

    Parameters
    ----------
    explain : callable
        (C, T, H, W) -> map (T, H, W). It is called `n_samples` + 1 times.
    clip : torch.Tensor, (C, T, H, W)
    radius : float
        Noise is uniform in [-radius, radius], in the clip's units.
    n_samples : int
        Noisy clips, at least 1.
    seed : int

    Returns
    -------
    float
        At least 0, lower is better. A map that does not look at the clip has 0. NaN for an all-zero
        map.

    Raises
    ------
    InputError
        If `n_samples` or `radius` is not positive, or a map is not finite.

    References
    ----------
    C.-K. Yeh et al., "On the (in)fidelity and sensitivity of explanations", NeurIPS 2019.
    """
    check_count(n_samples, name="n_samples")
    if not radius > 0:
        raise InputError(f"radius is {radius!r}; expected a positive number")
    rng, own = torch.Generator().manual_seed(seed), as_map(explain(clip)).astype(np.float64)
    noises = (torch.rand(clip.shape, generator=rng) for _ in range(n_samples))
    noisy = (as_map(explain(clip + radius * (2 * noise - 1).to(clip))) for noise in noises)
    size, largest = np.linalg.norm(own), max(np.linalg.norm(other - own) for other in noisy)
    return float(largest / size) if size else np.nan


def time_average(attribution: Any) -> np.ndarray:
    """Replace every frame of a map by the mean over its frames: the map, standing still.

    Parameters
    ----------
    attribution : array or tensor, (T, H, W)
        Signed map; signs take part in the mean.

    Returns
    -------
    ndarray of float32, (T, H, W)

    Raises
    ------
    InputError
        If the map is not (T, H, W) or not finite.
    """
    attribution = as_map(attribution, ndim=3)
    mean = attribution.mean(axis=0, dtype=np.float64).astype(np.float32)
    return np.repeat(mean[None], len(attribution), axis=0)
