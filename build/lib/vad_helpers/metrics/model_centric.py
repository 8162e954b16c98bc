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

SRG, the symmetric relevance gain, is p with the top voxels alone minus p without them, a mean over
the areas: RISE's insertion minus its deletion, here `area_matched_deletion` minus
`area_matched_insertion`. At `LOG_AREAS` it weighs every order of magnitude of area alike.

The gap p(x) - p(x_b), ``p_clip`` - ``p_baseline``, is what the whole baseline does. Where it is
near 0 there is little to measure; it is no bound, see `tables.gaps`.

References
----------
V. Petsiuk, A. Das, K. Saenko, "RISE: Randomized input sampling for explanation of black-box
models", BMVC 2018.
S. Bluecher, J. Vielhaben, N. Strodthoff, "Decoupling pixel flipping and occlusion strategy for
consistent XAI benchmarks", TMLR 2024 (SRG).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from vad_helpers.errors import InputError
from vad_helpers.metrics.arrays import as_map, check_count, threshold_levels, to_numpy

MATCHED_AREAS = (5e-4, 1e-3, 2e-3, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2)
LOG_AREAS = tuple(np.geomspace(2e-4, 1, 24).tolist())
BLOCK, BLOCK_AREAS = (4, 8, 8), tuple(np.geomspace(2e-3, 1, 20).tolist())
"""Frames, rows and columns of a block, and shares of the blocks: 40 model calls a map."""
ROUNDING = 1e-3
"""How far outside [0, 1] a probability may lie: half precision rounds to about that."""

Predict = Callable[[Any], Any]


def checked(
    clip: Any, baseline: Any, attribution: Any
) -> tuple[torch.Tensor, torch.Tensor, np.ndarray]:
    """Clip and baseline as tensors on the clip's device, and E+; InputError if they do not fit."""
    attribution = as_map(attribution, ndim=3)
    tensors = (
        given.detach() if isinstance(given, torch.Tensor) else torch.from_numpy(np.array(given))
        for given in (clip, baseline)
    )
    clip, baseline = (each if each.is_floating_point() else each.float() for each in tensors)
    if clip.ndim != 4 or tuple(clip.shape[1:]) != attribution.shape:
        raise InputError(
            f"clip has shape {tuple(clip.shape)}; expected (C, T, H, W) over the map's "
            f"{attribution.shape}"
        )
    if baseline.shape != clip.shape:
        raise InputError(
            f"baseline has shape {tuple(baseline.shape)}; expected the clip's, {tuple(clip.shape)}"
        )
    return clip, baseline.to(clip), np.maximum(attribution, 0)


def deletion_insertion(
    predict: Predict,
    clip: Any,
    baseline: Any,
    attribution: Any,
    *,
    n_thresholds: int = 50,
    batch_size: int = 8,
    progress: bool = False,
    ends: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Deletion and insertion on the threshold axis, as the paper has them.

    Parameters
    ----------
    predict : callable
        (N, C, T, H, W) -> (N,) probabilities of "anomalous", in [0, 1]; logits, NaN and other
        shapes are refused. It gets what `clip` is: a tensor on its device, without gradients, or a
        NumPy array.
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
    ends : sequence of float, optional
        p(x) and p(x_b) where they are known, say from another map of the clip: not asked again.

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
    InputError
        If shapes do not fit together, the map is not finite, a count is not a positive integer,
        or `predict` gives something else than N probabilities.

    Notes
    -----
    An all-zero map has empty sets: deletion 0 and insertion p(x) - p(x_b).
    """
    asked = {"n_thresholds": n_thresholds, "batch_size": batch_size, "progress": progress}
    found = _measure(("threshold",), predict, clip, baseline, attribution, ends=ends, **asked)
    return {**found["threshold"], **found["shared"]}


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
    ends: Sequence[float] | None = None,
) -> dict[str, Any]:
    """RISE's curves on the area axis, and the scores of `area_matched`, in one pass.

    Voxels are ranked by E+; the curves are probabilities, not differences, while 0, 1/n, ..., all
    of the voxels are replaced, most important first.

    Parameters
    ----------
    predict, clip, baseline, attribution, batch_size, progress, ends
        As `deletion_insertion`.
    n_steps : int
        Equal steps of area.
    areas : sequence of float
        Shares of voxels for the area-matched scores, in (0, 1]; at least one voxel is taken.
    seed : int
        Of the random order among ties.

    Returns
    -------
    dict
        ``area_deletion``: area under p(x without the top), in [0, 1], **lower** is better.
        ``area_insertion``: area under p(x_b with the top), in [0, 1], **higher** is better.
        ``area_axis``, ``deletion_curve``, ``insertion_curve``: ndarrays (n_steps + 1,), shares of
        voxels and probabilities there. ``area_matched_deletion``: mean over `areas` of p(x) -
        p(x without the top share), in [-1, 1], **higher** is better. ``area_matched_insertion``:
        mean of p(x) - p(x_b with the top share), in [-1, 1], **lower** is better.
        ``matched_areas``, ``matched_deletion_curve``, ``matched_insertion_curve``: ndarrays
        (n_areas,). ``srg``: the difference of these two scores, in [-1, 1], **higher** is better.
        ``p_clip``, ``p_baseline``, ``model_calls``: as `deletion_insertion`.

    Raises
    ------
    InputError
        As `deletion_insertion`; also if an area is not in (0, 1].
    """
    asked = {"n_steps": n_steps, "areas": areas, "seed": seed}
    asked |= {"batch_size": batch_size, "progress": progress, "ends": ends}
    found = _measure(("area", "matched"), predict, clip, baseline, attribution, **asked)
    return {**found["area"], **found["matched"], **found["shared"]}


def area_matched(
    predict: Predict,
    clip: Any,
    baseline: Any,
    attribution: Any,
    *,
    areas: Sequence[float] = MATCHED_AREAS,
    block: tuple[int, int, int] | None = None,
    seed: int = 0,
    batch_size: int = 8,
    progress: bool = False,
    ends: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Deletion, insertion and SRG at fixed shares of the voxels, or of blocks of voxels.

    Parameters, errors and results are those of `area_curves`, less its curves over all areas.
    `block` has the frames, rows and columns of blocks that are ranked by mean signed attribution,
    in which noise cancels, and replaced whole, (1, H, W) for whole frames; `areas` are then shares
    of the blocks.
    """
    asked = {"areas": areas, "block": block, "seed": seed, "ends": ends}
    asked |= {"batch_size": batch_size, "progress": progress}
    found = _measure(("matched",), predict, clip, baseline, attribution, **asked)
    return {**found["matched"], **found["shared"]}


def both_axes(
    predict: Predict, clip: Any, baseline: Any, attribution: Any, **options: Any
) -> dict[str, dict[str, Any]]:
    """`deletion_insertion` and `area_curves` together; sets that both ask about are asked once.

    Parameters and errors are those of these two.

    Returns
    -------
    dict of dict
        ``threshold``: as `deletion_insertion`. ``area``: as `area_curves`. ``shared``:
        ``p_clip``, ``p_baseline`` and ``model_calls``, which both have in common.
    """
    axes = ("threshold", "area", "matched")
    found = _measure(axes, predict, clip, baseline, attribution, **options)
    area = {**found["area"], **found["matched"]}
    return {"threshold": found["threshold"], "area": area, "shared": found["shared"]}


def importance_rank(positive: np.ndarray, *, seed: int) -> np.ndarray:
    """Rank voxels by E+, of any shape: int64, 0 the most important, ties in a seeded order."""
    shuffled = np.random.default_rng(seed).permutation(positive.size)
    order = shuffled[np.argsort(-positive.ravel()[shuffled], kind="stable")]
    ranks = np.empty(positive.size, dtype=np.int64)
    ranks[order] = np.arange(positive.size)
    return ranks.reshape(positive.shape)


def block_means(attribution: np.ndarray, block: tuple[int, int, int]) -> np.ndarray:
    """Mean of each block of a (T, H, W) array; blocks at the end may be cut."""
    if len(block) != 3:
        raise InputError(f"block is {block}; expected frames, rows and columns")
    sums, counts = attribution.astype(np.float64), np.ones(attribution.shape)
    for axis, side in enumerate(block):
        check_count(side, name="a side of the block")
        starts = np.arange(0, attribution.shape[axis], side)
        sums, counts = (np.add.reduceat(one, starts, axis) for one in (sums, counts))
    return sums / counts


def spread(values: np.ndarray, block: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Give every voxel of a (T, H, W) `shape` the value of its block."""
    for axis, side in enumerate(block):
        values = values.repeat(side, axis).take(np.arange(shape[axis]), axis)
    return values


@torch.no_grad()
def _measure(
    axes: tuple[str, ...],
    predict: Predict,
    clip: Any,
    baseline: Any,
    attribution: Any,
    *,
    n_thresholds: int = 50,
    n_steps: int = 50,
    areas: Sequence[float] = MATCHED_AREAS,
    block: tuple[int, int, int] | None = None,
    seed: int = 0,
    batch_size: int = 8,
    progress: bool = False,
    ends: Sequence[float] | None = None,
) -> dict[str, dict[str, Any]]:
    """Score a map on the axes "threshold", "area", "matched", and give what they "share".

    All sets are the first voxels of one order, as many as `sizes` says, and each different one is
    asked about once: voxels above a threshold are the first by rank too.
    """
    check_count(batch_size, name="batch_size")
    as_numpy = not isinstance(clip, torch.Tensor)
    clip, baseline, positive = checked(clip, baseline, attribution)
    if block is not None:
        positive = np.maximum(block_means(as_map(attribution), block), 0)
    n_voxels = positive.size  # or blocks
    sizes = {}
    if "threshold" in axes:
        levels = threshold_levels(positive, n_thresholds).ravel()
        # The shift by one gives the voxels of no set (-1) a bin of their own, dropped here.
        sizes["threshold"] = np.bincount(levels + 1, minlength=n_thresholds + 2)[:0:-1].cumsum()
    if "area" in axes:
        check_count(n_steps, name="n_steps")
        sizes["area"] = np.rint(np.linspace(0, 1, n_steps + 1) * n_voxels).astype(np.int64)
    if "matched" in axes:
        sizes["matched"] = sizes_of(areas, n_voxels)

    counts = dict.fromkeys(np.concatenate(list(sizes.values())).tolist())
    partial = [n for n in counts if 0 < n < n_voxels]
    # The clip without its first n voxels, or these alone; with n = 0, clip and baseline themselves.
    mixtures = [(n, deletes) for deletes in (True, False) for n in partial]
    if ends is None:
        mixtures = [(0, True), (0, False), *mixtures]
    rank = importance_rank(positive, seed=seed)
    rank = torch.from_numpy(spread(rank, block or (), clip.shape[1:])).to(clip.device, torch.int32)
    found = [] if ends is None else [probabilities(ends, 2)]
    starts = range(0, len(mixtures), batch_size)
    for start in tqdm(starts, desc="masked clips", disable=not progress, leave=False):
        chosen = mixtures[start : start + batch_size]
        batch = clip.new_empty((len(chosen), *clip.shape))
        for mixed, (n, deletes) in zip(batch, chosen, strict=True):
            top, rest = (baseline, clip) if deletes else (clip, baseline)
            torch.where(rank < n, top, rest, out=mixed)
        found.append(probabilities(predict(batch.numpy() if as_numpy else batch), len(batch)))
    p = np.concatenate(found)

    p_clip, p_baseline = float(p[0]), float(p[1])
    without, alone = (dict(zip(partial, half, strict=True)) for half in np.split(p[2:], 2))
    without |= {0: p_clip, n_voxels: p_baseline}
    alone |= {0: p_baseline, n_voxels: p_clip}
    scores = {"shared": {"p_clip": p_clip, "p_baseline": p_baseline, "model_calls": len(mixtures)}}
    for axis, wanted in sizes.items():
        deleted = np.array([without[n] for n in wanted.tolist()])
        inserted = np.array([alone[n] for n in wanted.tolist()])
        scores[axis] = _scores(axis, p_clip, deleted, inserted, wanted / n_voxels)
    return scores


def sizes_of(areas: Sequence[float], n_voxels: int) -> np.ndarray:
    """Numbers of voxels that shares of them are, one at least; InputError if they are no shares."""
    shares = np.asarray(areas, dtype=np.float64)
    if shares.ndim != 1 or not shares.size or not ((shares > 0) & (shares <= 1)).all():
        raise InputError(f"areas are {shares.tolist()}; expected shares of voxels in (0, 1]")
    return np.maximum(1, np.rint(shares * n_voxels)).astype(np.int64)


def probabilities(p: Any, n_clips: int) -> np.ndarray:
    """Check what `predict` gave for some clips; probabilities as float64 (n_clips,)."""
    wanted = f"expected ({n_clips},) probabilities in [0, 1], that of 'anomalous' for each clip"
    try:
        p = to_numpy(p)
    except (RuntimeError, TypeError, ValueError):  # a tuple of tensors, say
        raise InputError(f"predict gave a {type(p).__name__}; {wanted}") from None
    if p.shape != (n_clips,) or p.dtype.kind not in "biuf":
        raise InputError(f"predict gave shape {p.shape}, {p.dtype}; {wanted}")
    p = p.astype(np.float64)
    if np.isnan(p).any():
        raise InputError(f"predict gave NaN for {np.isnan(p).sum()} of {n_clips} clips; {wanted}")
    if p.min() < -ROUNDING or p.max() > 1 + ROUNDING:
        raise InputError(
            f"predict gave {p.min():.4g} to {p.max():.4g}; {wanted}: "
            "pass logits through softmax or sigmoid first"
        )
    return p


def _scores(
    axis: str, p_clip: float, deleted: np.ndarray, inserted: np.ndarray, shares: np.ndarray
) -> dict[str, Any]:
    """Scores and curves of one axis, of probabilities while `shares` of voxels are replaced."""
    if axis == "area":
        return {
            "area_deletion": float(np.trapezoid(deleted, shares)),
            "area_insertion": float(np.trapezoid(inserted, shares)),
            "area_axis": shares,
            "deletion_curve": deleted,
            "insertion_curve": inserted,
        }
    deletion, insertion = p_clip - deleted, p_clip - inserted
    if axis == "matched":
        return {
            "area_matched_deletion": float(deletion.mean()),
            "area_matched_insertion": float(insertion.mean()),
            "srg": float(deletion.mean() - insertion.mean()),
            "matched_areas": shares,
            "matched_deletion_curve": deletion,
            "matched_insertion_curve": insertion,
        }
    return {
        "deletion": float(deletion.mean()),
        "insertion": float(insertion.mean()),
        "mean_area": float(shares.mean()),
        "deletion_curve": deletion,
        "insertion_curve": insertion,
        "areas": shares,
    }
