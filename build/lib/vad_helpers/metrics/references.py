"""Maps that look at no model: what any explanation has to beat.

All are float32 of shape (T, H, W), not negative, and larger where the anomaly is supposed to be.
Those that take a `shape`, (T, H, W), raise InputError unless it is three positive integers. Maps of
a network with random weights are the fifth reference; they are made where a network is at hand.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vad_helpers.errors import InputError
from vad_helpers.metrics.arrays import check_count, grey_change

Shape = tuple[int, int, int]


def random_map(shape: Shape, *, seed: int) -> np.ndarray:
    """Independent uniform noise in [0, 1): the reference of chance.

    Parameters
    ----------
    shape : tuple of int
    seed : int
        Give every clip its own, or all clips share one noise.
    """
    return np.random.default_rng(seed).random(_check_shape(shape), dtype=np.float32)


def centre_prior(shape: Shape, *, sigma: float = 0.25) -> np.ndarray:
    """A Gaussian bump in the middle of every frame: the reference of framing.

    Parameters
    ----------
    shape : tuple of int
    sigma : float
        Standard deviation as a share of each side: of H down, of W across.

    Returns
    -------
    ndarray of float32, (T, H, W)
        Largest (at most 1) in the middle, the same in every frame.

    Raises
    ------
    InputError
        If `sigma` is not positive.
    """
    n_frames, height, width = _check_shape(shape)
    if not sigma > 0:
        raise InputError(f"sigma is {sigma!r}; expected a positive share of the frame's side")
    down, across = (
        np.exp(-0.5 * ((np.arange(side) - (side - 1) / 2) / (sigma * side)) ** 2)
        for side in (height, width)
    )
    frame = np.outer(down, across).astype(np.float32)
    return np.repeat(frame[None], n_frames, axis=0)


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
    InputError
        If the clip has another number of axes, is empty or not finite.
    """
    return np.abs(grey_change(clip)).astype(np.float32)


def constant_map(shape: Shape) -> np.ndarray:
    """Ones: the reference of flatness, which threshold-based deletion and insertion reward."""
    return np.ones(_check_shape(shape), dtype=np.float32)


def _check_shape(shape: Shape) -> Shape:
    shape = tuple(shape)
    if len(shape) != 3:
        raise InputError(f"shape is {shape}; expected (T, H, W)")
    for name, length in zip(("T", "H", "W"), shape, strict=True):
        check_count(length, name=f"{name} of the shape")
    return shape
