"""What the metrics share: checked arrays, thresholds, exact AUC, change in time.

Conventions
-----------
An attribution map E is a real array of finite numbers, shape (T, H, W), of any sign and scale. A
mask M is boolean (or holds only 0 and 1) and has the map's shape. Both may be NumPy arrays or
torch tensors. Maps keep their precision (float32 or float64); everything else becomes float64.
A map that holds NaN or infinity is an error; a score that is not defined is NaN, never 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vad_helpers.errors import InputError


def to_numpy(array: Any) -> np.ndarray:
    """Turn a torch tensor, on any device and with or without gradient, or a list into NumPy."""
    if not isinstance(array, torch.Tensor):
        return np.asarray(array)
    array = array.detach().cpu()
    return (array.float() if array.dtype == torch.bfloat16 else array).numpy()


def check_count(value: int, *, name: str, at_least: int = 1) -> None:
    """Raise InputError unless `value` is an integer of at least `at_least`."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < at_least:
        raise InputError(f"{name} is {value!r}; expected an integer of at least {at_least}")


def as_map(attribution: Any, *, name: str = "attribution", ndim: int | None = None) -> np.ndarray:
    """Check a map, which must be finite, real and not empty, and give it as an array.

    float32 stays float32, half precision becomes float32, all else float64. `name` is what an
    error calls it, `ndim` the number of axes that it must have, if any.
    """
    array = to_numpy(attribution)
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} holds {array.dtype}; expected real numbers")
    if array.size == 0 or (ndim is not None and array.ndim != ndim):
        wanted = "a non-empty array" if ndim is None else f"a non-empty array of {ndim} axes"
        raise InputError(f"{name} has shape {array.shape}; expected {wanted}")
    half_or_single = array.dtype in (np.float16, np.float32)
    array = array.astype(np.float32 if half_or_single else np.float64, copy=False)
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise InputError(f"{name} holds {bad} NaN or infinite values; expected finite numbers")
    return array


def as_mask(mask: Any, *, shape: tuple[int, ...], name: str = "mask") -> np.ndarray:
    """Check a mask, boolean or of zeros and ones, against the map's shape; give it as bool."""
    array = to_numpy(mask)
    if array.shape != tuple(shape):
        raise InputError(f"{name} has shape {array.shape}; expected the map's, {tuple(shape)}")
    if array.dtype == bool:
        return array
    if array.dtype.kind not in "iuf" or not ((array == 0) | (array == 1)).all():
        raise InputError(f"{name} must be boolean or hold only 0 and 1; try `{name} > 0`")
    return array.astype(bool)


def threshold_levels(positive: np.ndarray, n_thresholds: int) -> np.ndarray:
    """Find the highest threshold tau_i = i/n max(E+) that each voxel reaches.

    The sets {E+ > 0 and E+ >= tau_i} are nested, so this one number a voxel holds all of them:
    voxel v is in the set of tau_i if and only if its level is at least i. `positive` is E+ =
    max(E, 0), of any shape. Levels are int64, from 0 to n; -1 where E+ is 0 (in no set at all).
    InputError if n, `n_thresholds`, is not a positive integer.
    """
    check_count(n_thresholds, name="n_thresholds")
    levels = np.full(positive.shape, -1, dtype=np.int64)
    inside = positive > 0
    # E+/max and i/n are rounded alike, to the map's precision: rounding keeps the order, so a
    # voxel that equals a threshold reaches it whatever the scale (0.7 stored as float32 reaches
    # 35/50), which comparing E+ with i/n * max does not ensure.
    share = positive[inside] / positive.max()
    thresholds = np.arange(n_thresholds + 1, dtype=positive.dtype) / n_thresholds
    levels[inside] = np.searchsorted(thresholds, share, side="right") - 1
    return levels


def exact_auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """Area under the ROC curve, exact, ties at mid-rank.

    It is the probability that a positive scores above a negative, half of it where they tie
    (Mann-Whitney's U over the number of pairs), counted in integers. `labels` are bool, of the
    shape of `scores`; NaN if they hold one class only.
    """
    positives, negatives = np.sort(scores[labels]), np.sort(scores[~labels])
    if not (positives.size and negatives.size):
        return float("nan")
    # Searching the few in the many takes a third of the time.
    few, many = sorted((positives, negatives), key=len)
    doubled_wins = sum(
        int(np.searchsorted(many, few, side=side).sum(dtype=np.int64)) for side in ("left", "right")
    )
    share = doubled_wins / (2 * positives.size * negatives.size)
    return share if few is positives else 1 - share


def grey_change(clip: Any) -> np.ndarray:
    """dI/dt of a clip's grey values, float64 (T, H, W), in the clip's units a frame.

    It is each frame of a (T, H, W) grey or (C, T, H, W) clip, whose channels are averaged, minus
    the one before it. The first frame has none and takes the forward difference; a single frame
    gives zeros. InputError if the clip has another number of axes, is empty or not finite.
    """
    grey = as_map(clip, name="clip").astype(np.float64, copy=False)
    if grey.ndim not in (3, 4):
        raise InputError(f"clip has shape {grey.shape}; expected (T, H, W) or (C, T, H, W)")
    grey = grey.mean(axis=0) if grey.ndim == 4 else grey
    change = np.zeros_like(grey)
    change[1:] = np.diff(grey, axis=0)
    change[:1] = change[1:2] if len(grey) > 1 else 0
    return change
