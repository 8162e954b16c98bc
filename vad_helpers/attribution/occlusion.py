"""Occlusion: how far the probability falls when a window is filled with the baseline.

A window covers all channels. It slides from the start of every axis by its stride; the last one
is cut at the border, so that every voxel is covered. A voxel's value is the mean fall over the
windows that cover it. The functions follow the signature in `vad_helpers.attribution.spec`;
users call them through `vad_helpers.attribution.explain`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from captum.attr import Occlusion

from vad_helpers.attribution.probability import Probability
from vad_helpers.attribution.spec import MethodSpec
from vad_helpers.errors import InputError


@torch.no_grad()
def occlusion(
    probability: Probability,
    clip: torch.Tensor,
    baseline: torch.Tensor,
    *,
    window: tuple[int, int, int],
    stride: tuple[int, int, int],
) -> torch.Tensor:
    """Fill one window after the other and record how far the probability falls.

    Parameters
    ----------
    probability, clip, baseline
        As in `vad_helpers.attribution.spec`.
    window, stride : tuple of int
        (frames, rows, columns); no window larger than the clip, no stride larger than the window.

    Returns
    -------
    torch.Tensor
        (T, H, W), in [-1, 1]: p(clip) - p(filled), averaged over the windows of a voxel.

    References
    ----------
    Zeiler & Fergus, Visualizing and understanding convolutional networks, ECCV 2014.
    """
    channels = clip.shape[0]
    falls = Occlusion(probability).attribute(
        clip[None],
        sliding_window_shapes=(channels, *window),
        strides=(channels, *stride),
        baselines=baseline[None],
        perturbations_per_eval=probability.batch_size,
    )
    # The windows cover all channels, so the channels' values are equal.
    return falls[0, 0]


def count_windows(
    shape: tuple[int, ...], window: tuple[int, int, int], stride: tuple[int, int, int]
) -> int:
    """Count the windows that cover a clip.

    Parameters
    ----------
    shape : tuple of int
        Of the clip; the last three are (T, H, W).
    window, stride : tuple of int
        (frames, rows, columns).

    Returns
    -------
    int
        The product over the axes of 1 + ceil((size - window) / stride).
    """
    axes = zip(shape[-3:], window, stride, strict=True)
    return math.prod(1 + math.ceil((size - wide) / step) for size, wide, step in axes)


def _check(settings: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    window, stride = settings["window"], settings["stride"]
    for axis, size, wide, step in zip(
        ("frames", "rows", "columns"), shape[-3:], window, stride, strict=True
    ):
        if min(wide, step) < 1:
            raise InputError(
                f"occlusion's window is {window} and its stride {stride}; give numbers above 0"
            )
        if wide > size:
            raise InputError(
                f"occlusion's window has {wide} {axis}, but the clip only {size}; give a window "
                f"that fits, such as window={_fitting(window, shape)}"
            )
        if step > wide and wide < size:
            raise InputError(
                f"occlusion's stride is {step} {axis}, its window only {wide}: voxels between "
                "windows would have no value; give a stride no larger than the window"
            )


def _fitting(window: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(min(wide, size) for wide, size in zip(window, shape[-3:], strict=True))


def _model_calls(
    settings: Mapping[str, Any], shape: tuple[int, ...], n_segments: int | None
) -> int:
    # The one more is the whole clip, from which the falls are counted.
    return count_windows(shape, settings["window"], settings["stride"]) + 1


def _spec(key: str, name: str, window: tuple[int, ...], stride: tuple[int, ...]) -> MethodSpec:
    return MethodSpec(
        key=key,
        name=name,
        family="perturbation",
        attribute=occlusion,
        model_calls=_model_calls,
        settings={"window": window, "stride": stride},
        check=_check,
        citation="zeiler2014visualizing",
        reference="M. D. Zeiler, R. Fergus: Visualizing and understanding convolutional networks. "
        "ECCV, 2014.",
    )


SPECS = (
    _spec("occlusion_lp", "Occlusion (large)", (10, 52, 78), (10, 32, 32)),
    _spec("occlusion_sp", "Occlusion (small)", (4, 16, 24), (2, 8, 8)),
)
