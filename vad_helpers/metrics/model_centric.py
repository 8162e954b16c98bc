"""Does the explanation say what the model uses? Deletion and insertion.

Conventions
-----------
p is the probability of "anomalous", x the clip, x_b the baseline that fills removed voxels. Only
positive attributions count: E+ = max(E, 0). A voxel is replaced in all channels together.

`deletion_insertion` follows the paper. The sets S_i = {E+ > 0 and E+ >= tau_i}, tau_i = i/n
max(E+), grow from i = n down to 0. Deletion is the mean over i of p(x) - p(x with S_i from x_b),
signed, **higher is better**; insertion the mean of p(x) - p(x_b with S_i from x), **lower is
better**: the opposite of RISE's directions. The axis is the threshold and not the area, so the
score depends on the distribution of a map's values and not on their ranks alone, and flat maps,
which remove much early, are rewarded: a constant map removes everything at once. Read them beside
``mean_area`` and a constant map's row.

`area_curves` and `area_matched` remove the same number of voxels from every map and see ranks
alone. Ties (also all voxels with E+ = 0, which come last) are in random order, seeded, for any
fixed order would favour some frames. An all-zero map is therefore a random one to them.

Every score is bounded by the gap p(x) - p(x_b): where the baseline keeps the probability, there is
nothing to measure. `vad_helpers.metrics.gaps.by_gap` reports the scores with this in mind.

References
----------
V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized input sampling for explanation of black-box
models", BMVC 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from vad_helpers.metrics.arrays import (
    as_map,
    check_count,
    positive_part,
    threshold_levels,
    to_numpy,
)

MATCHED_AREAS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2)

Predict = Callable[[Any], Any]


@dataclass(frozen=True)
class _Inputs:
    """A clip, its baseline, and how to ask the model about mixtures of them."""

    predict: Predict
    clip: torch.Tensor
    baseline: torch.Tensor
    batch_size: int
    progress: bool
    as_numpy: bool


@dataclass(frozen=True)
class _Sweep:
    """Probabilities while the first voxels of an order are replaced, step by step."""

    deleted: np.ndarray
    inserted: np.ndarray
    areas: np.ndarray
    p_clip: float
    p_baseline: float
    model_calls: int


def validate(
    clip: Any, baseline: Any, attribution: Any
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Check a clip, its baseline and a map; give the clips as tensors and E+ as an array.

    Parameters
    ----------
    clip, baseline : tensor or array, (C, T, H, W)
    attribution : array or tensor, (T, H, W)

    Returns
    -------
    clip, baseline : Tensor, (C, T, H, W)
        On the clip's device.
    positive : ndarray of float32 or float64, (T, H, W)
        E+.

    Raises
    ------
    ValueError
        If shapes do not fit together or the map is not finite.
    """
    attribution = as_map(attribution, ndim=3)
    clip, baseline = _as_tensor(clip), _as_tensor(baseline)
    if clip.ndim != 4 or tuple(clip.shape[1:]) != attribution.shape:
        raise ValueError(
            f"clip has shape {tuple(clip.shape)}; expected (C, T, H, W) over the map's "
            f"{attribution.shape}"
        )
    if baseline.shape != clip.shape:
        raise ValueError(
            f"baseline has shape {tuple(baseline.shape)}; expected the clip's, {tuple(clip.shape)}"
        )
    return clip, baseline.to(clip), positive_part(attribution)


def _as_tensor(clip: Any) -> torch.Tensor:
    tensor = clip.detach() if isinstance(clip, torch.Tensor) else torch.from_numpy(np.array(clip))
    return tensor if tensor.is_floating_point() else tensor.float()


def deletion_insertion(
    predict: Predict,
    clip: Any,
    baseline: Any,
    attribution: Any,
    *,
    n_thresholds: int = 50,
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """Deletion and insertion on the threshold axis, as the paper has them.

    Parameters
    ----------
    predict : callable
        (N, C, T, H, W) -> (N,) probabilities of "anomalous". It gets what `clip` is: a tensor on
        its device, without gradients, or a NumPy array.
    clip, baseline : tensor or array, (C, T, H, W)
        x and x_b.
    attribution : array or tensor, (T, H, W)
        Signed map; negative values count as zero.
    n_thresholds : int
        n of tau_i = i/n max(E+), i = n..0.
    batch_size : int
        Clips a call of `predict`; changes speed and memory alone.
    progress : bool
        Show a bar.

    Returns
    -------
    dict
        ``deletion``: in [-1, 1], higher is better. ``insertion``: in [-1, 1], lower is better.
        ``p_clip``, ``p_baseline``: p(x), p(x_b). ``mean_area``: mean share of voxels in S_i.
        ``deletion_curve``, ``insertion_curve``: the differences whose means the scores are, and
        ``areas``: |S_i| as a share, each an ndarray (n + 1,) from i = n to i = 0.
        ``model_calls``: clips that went through the model; a set that comes up twice, or is empty
        or everything, costs nothing again.

    Raises
    ------
    ValueError
        If shapes do not fit together, the map is not finite, a count is not a positive integer,
        or `predict` gives something else than N finite numbers.

    Notes
    -----
    An all-zero map has empty sets: deletion 0 and insertion p(x) - p(x_b).
    """
    inputs, positive = _prepare(predict, clip, baseline, attribution, batch_size, progress)
    depth = n_thresholds - threshold_levels(positive, n_thresholds)
    sweep = _sweep(inputs, depth, np.arange(1, n_thresholds + 2))
    return {**_threshold_scores(sweep, slice(None)), **_shared(sweep)}


def _threshold_scores(sweep: _Sweep, part: slice) -> dict[str, Any]:
    deletion_curve = sweep.p_clip - sweep.deleted[part]
    insertion_curve = sweep.p_clip - sweep.inserted[part]
    return {
        "deletion": float(deletion_curve.mean()),
        "insertion": float(insertion_curve.mean()),
        "mean_area": float(sweep.areas[part].mean()),
        "deletion_curve": deletion_curve,
        "insertion_curve": insertion_curve,
        "areas": sweep.areas[part],
    }


def _shared(sweep: _Sweep) -> dict[str, Any]:
    return {
        "p_clip": sweep.p_clip,
        "p_baseline": sweep.p_baseline,
        "model_calls": sweep.model_calls,
    }


def area_curves(
    predict: Predict,
    clip: Any,
    baseline: Any,
    attribution: Any,
    *,
    n_steps: int = 50,
    areas: Sequence[float] = MATCHED_AREAS,
    seed: int = 0,
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """RISE's curves on the area axis, and the scores of `area_matched`, in one pass.

    Voxels are ranked by E+; the curves are probabilities, not differences, while 0, 1/n, ..., all
    of the voxels are replaced, most important first.

    Parameters
    ----------
    predict, clip, baseline, attribution, batch_size, progress
        As `deletion_insertion`.
    n_steps : int
        Equal steps of area.
    areas : sequence of float
        Shares of voxels for the area-matched scores, in (0, 1].
    seed : int
        Of the random order among ties.

    Returns
    -------
    dict
        ``area_deletion``: area under p(x without the top), in [0, 1], **lower** is better.
        ``area_insertion``: area under p(x_b with the top), in [0, 1], **higher** is better.
        ``area_axis``, ``deletion_curve``, ``insertion_curve``: ndarrays (n_steps + 1,), shares of
        voxels and probabilities there. Also all that `area_matched` gives; ``model_calls``
        counts both.

    Raises
    ------
    ValueError
        As `deletion_insertion`; also if an area is not in (0, 1].
    """
    check_count(n_steps, name="n_steps")
    inputs, positive = _prepare(predict, clip, baseline, attribution, batch_size, progress)
    steps, counts = _area_steps(n_steps, positive.size), _matched_counts(areas, positive.size)
    sweep = _sweep(inputs, importance_rank(positive, seed=seed), np.append(steps, counts))
    return {
        **_area_scores(sweep, slice(0, n_steps + 1)),
        **_matched_scores(sweep, slice(n_steps + 1, None)),
        **_shared(sweep),
    }


def _area_steps(n_steps: int, n_voxels: int) -> np.ndarray:
    return np.rint(np.linspace(0, 1, n_steps + 1) * n_voxels).astype(np.int64)


def _area_scores(sweep: _Sweep, part: slice) -> dict[str, Any]:
    deleted, inserted, areas = sweep.deleted[part], sweep.inserted[part], sweep.areas[part]
    return {
        "area_deletion": float(np.trapezoid(deleted, areas)),
        "area_insertion": float(np.trapezoid(inserted, areas)),
        "area_axis": areas,
        "deletion_curve": deleted,
        "insertion_curve": inserted,
    }


def both_axes(
    predict: Predict,
    clip: Any,
    baseline: Any,
    attribution: Any,
    *,
    n_thresholds: int = 50,
    n_steps: int = 50,
    areas: Sequence[float] = MATCHED_AREAS,
    seed: int = 0,
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, dict[str, Any]]:
    """`deletion_insertion` and `area_curves` together; sets that both ask about are asked once.

    Parameters
    ----------
    predict, clip, baseline, attribution, n_thresholds, batch_size, progress
        As `deletion_insertion`.
    n_steps, areas, seed
        As `area_curves`.

    Returns
    -------
    dict of dict
        ``threshold``: as `deletion_insertion`. ``area``: as `area_curves`. ``shared``:
        ``p_clip``, ``p_baseline`` and ``model_calls``, which both have in common.

    Raises
    ------
    ValueError
        As these two.
    """
    check_count(n_steps, name="n_steps")
    inputs, positive = _prepare(predict, clip, baseline, attribution, batch_size, progress)
    levels = threshold_levels(positive, n_thresholds)
    # Voxels above a threshold are the first ones by rank, so one order serves both axes.
    reach = np.arange(n_thresholds, -1, -1)
    sets = levels.size - np.searchsorted(np.sort(levels, axis=None), reach, side="left")
    cuts = [sets, _area_steps(n_steps, levels.size), _matched_counts(areas, levels.size)]
    sweep = _sweep(inputs, importance_rank(positive, seed=seed), np.concatenate(cuts))
    first, second = n_thresholds + 1, n_thresholds + n_steps + 2
    return {
        "threshold": _threshold_scores(sweep, slice(0, first)),
        "area": {
            **_area_scores(sweep, slice(first, second)),
            **_matched_scores(sweep, slice(second, None)),
        },
        "shared": _shared(sweep),
    }


def area_matched(
    predict: Predict,
    clip: Any,
    baseline: Any,
    attribution: Any,
    *,
    areas: Sequence[float] = MATCHED_AREAS,
    seed: int = 0,
    batch_size: int = 8,
    progress: bool = False,
) -> dict[str, Any]:
    """Deletion and insertion at fixed shares of the voxels: equal area for every map.

    Parameters
    ----------
    predict, clip, baseline, attribution, batch_size, progress
        As `deletion_insertion`.
    areas : sequence of float
        Shares of voxels, in (0, 1]; at least one voxel is taken.
    seed : int
        Of the random order among ties.

    Returns
    -------
    dict
        ``area_matched_deletion``: mean over areas of p(x) - p(x without the top share), in
        [-1, 1], higher is better. ``area_matched_insertion``: mean of p(x) - p(x_b with the top
        share), in [-1, 1], lower is better. ``p_clip``, ``p_baseline``; ``matched_areas``,
        ``matched_deletion_curve``, ``matched_insertion_curve``: ndarrays (n_areas,);
        ``model_calls``.

    Raises
    ------
    ValueError
        As `area_curves`.
    """
    inputs, positive = _prepare(predict, clip, baseline, attribution, batch_size, progress)
    counts = _matched_counts(areas, positive.size)
    sweep = _sweep(inputs, importance_rank(positive, seed=seed), counts)
    return {**_matched_scores(sweep, slice(None)), **_shared(sweep)}


def importance_rank(positive: np.ndarray, *, seed: int) -> np.ndarray:
    """Rank voxels by E+, 0 the most important, ties in a seeded random order.

    Parameters
    ----------
    positive : ndarray of float, any shape
    seed : int

    Returns
    -------
    ndarray of int64, same shape
    """
    shuffled = np.random.default_rng(seed).permutation(positive.size)
    order = shuffled[np.argsort(-positive.ravel()[shuffled], kind="stable")]
    ranks = np.empty(positive.size, dtype=np.int64)
    ranks[order] = np.arange(positive.size)
    return ranks.reshape(positive.shape)


def _prepare(
    predict: Predict, clip: Any, baseline: Any, attribution: Any, batch_size: int, progress: bool
) -> tuple[_Inputs, np.ndarray]:
    check_count(batch_size, name="batch_size")
    as_numpy = not isinstance(clip, torch.Tensor)
    clip, baseline, positive = validate(clip, baseline, attribution)
    return _Inputs(predict, clip, baseline, batch_size, progress, as_numpy), positive


def _matched_counts(areas: Sequence[float], n_voxels: int) -> np.ndarray:
    shares = np.asarray(areas, dtype=np.float64)
    if shares.ndim != 1 or not shares.size or not ((shares > 0) & (shares <= 1)).all():
        raise ValueError(f"areas are {areas!r}; expected shares of the voxels in (0, 1]")
    return np.maximum(1, np.rint(shares * n_voxels)).astype(np.int64)


def _matched_scores(sweep: _Sweep, part: slice) -> dict[str, Any]:
    deletion, insertion = sweep.p_clip - sweep.deleted[part], sweep.p_clip - sweep.inserted[part]
    return {
        "area_matched_deletion": float(deletion.mean()),
        "area_matched_insertion": float(insertion.mean()),
        "matched_areas": sweep.areas[part],
        "matched_deletion_curve": deletion,
        "matched_insertion_curve": insertion,
    }


def _sweep(inputs: _Inputs, depth: np.ndarray, cuts: np.ndarray) -> _Sweep:
    """Ask the model about every set {depth < cut}, each different set once.

    Nested sets are equal if and only if their sizes are, so a size stands for its set.
    """
    sizes = np.searchsorted(np.sort(depth, axis=None), cuts, side="left")
    partial = {int(n): int(c) for n, c in zip(sizes, cuts, strict=True) if 0 < n < depth.size}
    mixtures = [(cut, deletes) for deletes in (True, False) for cut in partial.values()]
    # Cut 0 replaces nothing: the clip and the baseline themselves.
    p = _probabilities(inputs, depth, [(0, True), (0, False), *mixtures])
    p_clip, p_baseline = float(p[0]), float(p[1])
    by_size = np.split(p[2:], 2)
    deleted = {0: p_clip, depth.size: p_baseline, **dict(zip(partial, by_size[0], strict=True))}
    inserted = {0: p_baseline, depth.size: p_clip, **dict(zip(partial, by_size[1], strict=True))}
    return _Sweep(
        deleted=np.array([deleted[int(n)] for n in sizes]),
        inserted=np.array([inserted[int(n)] for n in sizes]),
        areas=sizes / depth.size,
        p_clip=p_clip,
        p_baseline=p_baseline,
        model_calls=len(p),
    )


@torch.no_grad()
def _probabilities(
    inputs: _Inputs, depth: np.ndarray, mixtures: list[tuple[int, bool]]
) -> np.ndarray:
    """p of each mixture (cut, deletes): one image with {depth < cut} from the other."""
    depth = torch.from_numpy(depth).to(inputs.clip.device)
    found = []
    starts = range(0, len(mixtures), inputs.batch_size)
    for start in tqdm(starts, desc="masked clips", disable=not inputs.progress, leave=False):
        batch = [
            _mix(inputs, depth < cut, deletes)
            for cut, deletes in mixtures[start : start + inputs.batch_size]
        ]
        found.append(_ask(inputs, torch.stack(batch)))
    return np.concatenate(found)


def _mix(inputs: _Inputs, replaced: torch.Tensor, deletes: bool) -> torch.Tensor:
    image, filling = inputs.clip, inputs.baseline
    if not deletes:
        image, filling = filling, image
    return torch.where(replaced, filling, image)


def _ask(inputs: _Inputs, batch: torch.Tensor) -> np.ndarray:
    p = to_numpy(inputs.predict(batch.numpy() if inputs.as_numpy else batch))
    if p.shape != (len(batch),) or p.dtype.kind not in "biuf" or not np.isfinite(p).all():
        raise ValueError(
            f"predict gave shape {p.shape}, {p.dtype}; expected ({len(batch)},) finite numbers, "
            "one probability a clip"
        )
    return p.astype(np.float64)
