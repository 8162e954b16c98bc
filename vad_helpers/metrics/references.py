"""Maps that look at no model: what any explanation has to beat.

All are float32 of shape (T, H, W), not negative, and larger where the anomaly is supposed to be.
Maps of a network with random weights are the fifth reference; they need a network and are made
where one is at hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vad_helpers.metrics.arrays import check_count, grey_clip, time_difference

Shape = tuple[int, int, int]


def random_map(shape: Shape, *, seed: int) -> np.ndarray:
    """Independent uniform noise in [0, 1): the reference of chance.

    Parameters
    ----------
    shape : tuple of int
        (T, H, W).
    seed : int
        Give every clip its own, or all clips share one noise.

    Returns
    -------
    ndarray of float32, (T, H, W)

    Raises
    ------
    ValueError
        If `shape` is not three positive integers.
    """
    return np.random.default_rng(seed).random(_check_shape(shape), dtype=np.float32)


def centre_prior(shape: Shape, *, sigma: float = 0.25) -> np.ndarray:
    """A Gaussian bump in the middle of every frame: the reference of framing.

    Parameters
    ----------
    shape : tuple of int
        (T, H, W).
    sigma : float
        Standard deviation as a share of each side: of H down, of W across.

    Returns
    -------
    ndarray of float32, (T, H, W)
        Largest (at most 1) in the middle, the same in every frame.

    Raises
    ------
    ValueError
        If `shape` is not three positive integers or `sigma` is not positive.
    """
    n_frames, height, width = _check_shape(shape)
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma!r}; expected a positive share of the frame's side")
    frame = np.outer(_bump(height, sigma), _bump(width, sigma)).astype(np.float32)
    return np.repeat(frame[None], n_frames, axis=0)


def _bump(length: int, sigma: float) -> np.ndarray:
    distance = (np.arange(length) - (length - 1) / 2) / (sigma * length)
    return np.exp(-0.5 * distance**2)


def frame_difference(clip: Any) -> np.ndarray:
    """|dI/dt| of the grey clip: the reference of motion.

    Parameters
    ----------
    clip : array or tensor, (T, H, W) grey or (C, T, H, W)
        In any units; channels are averaged.

    Returns
    -------
    ndarray of float32, (T, H, W)
        In the clip's units a frame. The first frame uses the forward difference; a single frame
        gives zeros.

    Raises
    ------
    ValueError
        If the clip has another number of axes, is empty or not finite.
    """
    return np.abs(time_difference(grey_clip(clip))).astype(np.float32)


def constant_map(shape: Shape) -> np.ndarray:
    """Ones: the reference of flatness, which threshold-based deletion and insertion reward.

    Parameters
    ----------
    shape : tuple of int
        (T, H, W).

    Returns
    -------
    ndarray of float32, (T, H, W)

    Raises
    ------
    ValueError
        If `shape` is not three positive integers.
    """
    return np.ones(_check_shape(shape), dtype=np.float32)


def _check_shape(shape: Shape) -> Shape:
    shape = tuple(shape)
    if len(shape) != 3:
        raise ValueError(f"shape is {shape}; expected (T, H, W)")
    for name, length in zip(("T", "H", "W"), shape, strict=True):
        check_count(length, name=f"{name} of the shape")
    return shape
