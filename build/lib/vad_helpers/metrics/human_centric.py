"""Does the explanation find what a person marked? IoU, F1 and AUC against the mask.

Conventions
-----------
Only positive attributions count: E+ = max(E, 0). IoU and F1 are each the maximum over the sets
E_tau = {E+ > 0 and E+ >= tau_i}, tau_i = i/n max(E+), i = 0..n. AUC is the exact area under the
ROC curve of E+ against the mask, ties at mid-rank. All are better when higher and lie in [0, 1].

On one clip F1 = 2 IoU / (1 + IoU), so the two are one test of a clip and not two.

A map without a positive voxel has no set to offer: IoU = F1 = 0 and AUC = .5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vad_helpers.errors import InputError
from vad_helpers.metrics.arrays import as_map, as_mask, exact_auc, grey_change, threshold_levels

KEYS = ("iou", "f1", "auc")


def validate(
    attribution: Any, mask: Any, *, ndim: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Check a signed map and its mask; give E+ (float32 or float64) and the mask (bool) as arrays.

    InputError if the map is empty, not finite or has not `ndim` axes, the shapes differ, or the
    mask is not binary.
    """
    attribution = as_map(attribution, ndim=ndim)
    return np.maximum(attribution, 0), as_mask(mask, shape=attribution.shape)


def is_all_zero(attribution: Any) -> bool:
    """Say whether a map has no positive voxel, so that its scores are 0, 0 and .5 by convention.

    InputError if the map is empty or not finite.
    """
    return not (as_map(attribution) > 0).any()


def localization(attribution: Any, mask: Any, *, n_thresholds: int = 50) -> dict[str, float]:
    """IoU, F1 and AUC of a map against a mask, over all voxels (clip level).

    Parameters
    ----------
    attribution : array or tensor, (T, H, W)
        Signed map; negative values count as zero.
    mask : array or tensor of bool, (T, H, W)
        True on the anomaly.
    n_thresholds : int
        n of tau_i = i/n max(E+), i = 0..n.

    Returns
    -------
    dict
        ``iou``, ``f1``, ``auc``: floats in [0, 1], higher is better. All NaN for an empty mask;
        ``auc`` NaN for a full one.

    Raises
    ------
    InputError
        If the map holds NaN or infinity, the shapes differ, the mask is not binary, or
        `n_thresholds` is not a positive integer.

    Notes
    -----
    Thresholds are compared as shares of the maximum, in the precision of the map. One pass sorts
    every voxel into the highest threshold it reaches; the sets are counted from that.
    """
    return _localize(*validate(attribution, mask), n_thresholds)


def iou_curve(attribution: Any, mask: Any, *, n_thresholds: int = 50) -> np.ndarray:
    """IoU of a map against a mask at every threshold; its maximum is the ``iou`` of `localization`.

    Parameters
    ----------
    attribution, mask, n_thresholds
        As `localization`; map and mask of any one shape.

    Returns
    -------
    ndarray of float64, (n + 1,)
        IoU at tau_0 .. tau_n, in [0, 1], higher is better; all NaN for an empty mask.

    Raises
    ------
    InputError
        As `localization`.
    """
    return _overlaps(*validate(attribution, mask), n_thresholds)[0]


def _overlaps(
    positive: np.ndarray, mask: np.ndarray, n_thresholds: int
) -> tuple[np.ndarray, np.ndarray]:
    """IoU and F1 at tau_0 .. tau_n; NaN for an empty mask."""
    levels = threshold_levels(positive, n_thresholds)
    # |E_tau_i| and |M and E_tau_i|. The shift by one gives the voxels of no set (-1) a bin of
    # their own, dropped here.
    selected, hits = (
        np.bincount(found.ravel() + 1, minlength=n_thresholds + 2)[:0:-1].cumsum()[::-1]
        for found in (levels, levels[mask])
    )
    n_true = int(mask.sum())
    if n_true == 0:
        return np.full(n_thresholds + 1, np.nan), np.full(n_thresholds + 1, np.nan)
    return hits / (n_true + selected - hits), 2 * hits / (n_true + selected)


def _localize(positive: np.ndarray, mask: np.ndarray, n_thresholds: int) -> dict[str, float]:
    iou, f1 = _overlaps(positive, mask, n_thresholds)
    return {"iou": float(iou.max()), "f1": float(f1.max()), "auc": exact_auc(positive, mask)}


def frame_localization(
    attribution: Any,
    mask: Any,
    *,
    n_thresholds: int = 50,
    frames: str = "visible",
    ties: str = "mean",
) -> dict[str, float]:
    """IoU, F1 and AUC on the frame where the map peaks (frame level).

    Considered are the frames that show the anomaly entirely: a mask that is not empty and does
    not touch the border of the frame. Of these, the frame that holds the largest E+ is scored
    alone, with thresholds from its own maximum. If several frames share that maximum (superpixels
    span the clip), the scores are averaged over them.

    Parameters
    ----------
    attribution, mask, n_thresholds
        As `localization`; map and mask (T, H, W).
    frames : {"visible", "masked"}
        Which frames are considered: those that show the anomaly entirely, or all whose mask is not
        empty.
    ties : {"mean", "first"}
        What is scored where frames share the maximum: all of them, or the first.

    Returns
    -------
    dict
        ``iou``, ``f1``, ``auc``: floats in [0, 1], higher is better. ``frame``: index of the
        first frame scored. ``n_tied``: how many frames were scored. Where no frame is considered:
        ``n_tied`` is 0 and the rest NaN.

    Raises
    ------
    InputError
        As `localization`; also if the map does not have three axes, or `frames` or `ties` is
        unknown.
    """
    if ties not in ("mean", "first"):
        raise InputError(f"ties is {ties!r}; give 'mean' or 'first'")
    positive, mask = validate(attribution, mask, ndim=3)
    scored = _peak_frames(positive, mask, frames)[: 1 if ties == "first" else None]
    if scored.size == 0:
        return {**dict.fromkeys(KEYS, np.nan), "frame": np.nan, "n_tied": 0}
    scores = [_localize(positive[t], mask[t], n_thresholds) for t in scored]
    means = {key: float(np.mean([score[key] for score in scores])) for key in KEYS}
    return {**means, "frame": int(scored[0]), "n_tied": len(scored)}


def _peak_frames(positive: np.ndarray, mask: np.ndarray, frames: str = "visible") -> np.ndarray:
    """Indices of the frames that `frame_localization` considers and that hold the largest E+."""
    if frames not in ("visible", "masked"):
        raise InputError(f"frames is {frames!r}; give 'visible' or 'masked'")
    considered = mask.any(axis=(1, 2))
    if frames == "visible":
        rows, columns = mask[:, [0, -1]], mask[:, :, [0, -1]]
        considered &= ~(rows.any(axis=(1, 2)) | columns.any(axis=(1, 2)))
    found = np.flatnonzero(considered)
    peaks = positive[found].max(axis=(1, 2))
    return found[peaks == peaks.max()] if found.size else found


def signed_aucs(attribution: Any, mask: Any) -> dict[str, float]:
    """AUC of a map with its signs, where `localization` counts all that is negative as zero.

    IoU and F1 need no such twin: their sets hold positive voxels alone.

    Parameters
    ----------
    attribution, mask
        As `localization`; (T, H, W), signs count.

    Returns
    -------
    dict
        ``clip``: over all voxels. ``frame``: on the frame, or mean over the tied frames, that
        `frame_localization` scores. Floats in [0, 1], higher is better, NaN where the mask leaves
        them undefined.

    Raises
    ------
    InputError
        As `frame_localization`.
    """
    positive, mask = validate(attribution, mask, ndim=3)
    signed = as_map(attribution)
    of_frames = [exact_auc(signed[t], mask[t]) for t in _peak_frames(positive, mask)]
    return {
        "clip": exact_auc(signed, mask),
        "frame": float(np.mean(of_frames)) if of_frames else np.nan,
    }


def concentration(attribution: Any, mask: Any) -> dict[str, float]:
    """Say how a map's signs balance, and how much of its positive part lies in the mask.

    Parameters
    ----------
    attribution, mask
        As `localization`.

    Returns
    -------
    dict
        ``positive_share``: sum of E+ over sum of |E|, in [0, 1]; near .5 the signs nearly
        cancel. ``share_in_mask``: sum of E+ inside the mask over all of it, in [0, 1], higher
        means more on the anomaly. ``mask_share``: share of voxels in the mask, which an even
        map's ``share_in_mask`` is. The first two are NaN where they would divide by zero.

    Raises
    ------
    InputError
        As `localization`.
    """
    positive, mask = validate(attribution, mask)
    up = positive.sum(dtype=np.float64)
    total = np.abs(as_map(attribution)).sum(dtype=np.float64)
    return {
        "positive_share": float(up / total) if total else np.nan,
        "share_in_mask": float(positive[mask].sum(dtype=np.float64) / up) if up else np.nan,
        "mask_share": float(mask.mean()),
    }


def pointing(attribution: Any, mask: Any) -> float:
    """Pointing game: 1 if the map's largest value lies in the mask, else 0; higher is better.

    Parameters and errors are those of `localization`. Where several voxels share the maximum, it is
    the share of them in the mask; 0 without a positive voxel, NaN for an empty mask, never a hit.

    References
    ----------
    J. Zhang et al., "Top-down neural attention by excitation backprop", IJCV 2018.
    """
    positive, mask = validate(attribution, mask)
    if not mask.any():
        return np.nan
    return float(mask[positive == positive.max()].mean()) if positive.any() else 0.0


def sparseness(attribution: Any) -> float:
    """Gini index of |E|, of a map of any shape: 0 if constant, near 1 if few voxels hold all.

    In [0, 1); sparser, which is higher, counts as better. NaN for an all-zero map, InputError for
    one that is empty or not finite.

    References
    ----------
    P. Chalasani et al., "Concise explanations of neural networks using adversarial training",
    ICML 2020.
    """
    values = np.sort(np.abs(as_map(attribution)), axis=None).astype(np.float64)
    n, total = values.size, values.sum()
    return float(np.arange(1 - n, n, 2) @ values / (n * total)) if total else np.nan


def moving_voxels(clip: Any, *, n_mads: float = 3.0, step: float = 0.0) -> np.ndarray:
    """Find the voxels whose grey value changes: |dI/dt| above `n_mads` deviations of the clip.

    Parameters
    ----------
    clip : array or tensor, (T, H, W) grey or (C, T, H, W)
        In any units.
    n_mads : float
        Factor on the clip's median absolute deviation of dI/dt from its median.
    step : float
        Distance of two grey values in the units of the clip (1/255 for bytes in [0, 1]), below
        which a deviation cannot be told: it is taken to be at least that.

    Returns
    -------
    ndarray of bool, (T, H, W)
        The first frame uses the forward difference; a single frame does not move. In a clip
        that mostly stands still the deviation is 0, and without `step` any change counts.

    Raises
    ------
    InputError
        If the clip has another number of axes or is not finite, or `n_mads` or `step` is
        negative.
    """
    for name, value in (("n_mads", n_mads), ("step", step)):
        if not value >= 0:
            raise InputError(f"{name} is {value!r}; expected a number of at least 0")
    change = grey_change(clip)
    limit = n_mads * max(np.median(np.abs(change - np.median(change))), step)
    # Grey values come in 256 steps, so many voxels sit exactly on the limit: the slack keeps
    # float32 rounding of a normalised clip (some 1e-5 of the limit) from deciding for them.
    return np.abs(change) > limit * (1 + 1e-4)


def motion_localization(attribution: Any, mask: Any, motion: Any) -> dict[str, float]:
    """Localisation among moving voxels: does the map tell the anomaly from the other walkers?

    Anomalies in these videos move fast, so a map can score by finding motion. Here only voxels
    that change are compared, and finding change earns nothing. Change is not all motion: part of
    what `moving_voxels` finds is sensor noise on the still background, so telling walkers from
    noise still earns something. Compare with the score of `references.frame_difference`.

    Parameters
    ----------
    attribution, mask
        As `localization`.
    motion : array or tensor of bool, (T, H, W)
        True where something moves; see `moving_voxels`.

    Returns
    -------
    dict
        ``auc``: float in [0, 1], higher is better; NaN unless both kinds of voxel move.
        ``leak``: sum of E+ on moving voxels outside the mask over all of E+, in [0, 1], lower is
        better. A flat map leaks little, for most of it lies where nothing moves.
        ``leak_moving``: the same over E+ on moving voxels. Of it a flat map leaks the share of
        the moving voxels that are not anomalous. Both are NaN where they would divide by zero.
        ``n_moving`` and ``n_anomalous_moving``: numbers of voxels.

    Raises
    ------
    InputError
        If the map is empty or not finite, shapes differ, or a mask is not binary.
    """
    positive, mask = validate(attribution, mask)
    motion = as_mask(motion, shape=mask.shape, name="motion")
    moving, anomalous = positive[motion], mask[motion]
    total, on_moving, outside = (
        part.sum(dtype=np.float64) for part in (positive, moving, moving[~anomalous])
    )
    return {
        "auc": exact_auc(moving, anomalous),
        "leak": float(outside / total) if total else np.nan,
        "leak_moving": float(outside / on_moving) if on_moving else np.nan,
        "n_moving": int(anomalous.size),
        "n_anomalous_moving": int(anomalous.sum()),
    }
