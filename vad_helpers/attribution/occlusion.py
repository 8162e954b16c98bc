"""Occlusion: how far the probability falls when a window is filled with the baseline.

A window covers all channels. It slides from the start of every axis by its stride; the last one
is cut at the border, so that every voxel is covered. A voxel's value is the mean fall over the
windows that cover it. The functions follow the signature in `vad_helpers.attribution.spec`;
users call them through `vad_helpers.attribution.explain`. `IncrementalOcclusion` is the same with
the interface of Captum's `Occlusion`, for use elsewhere.

For a model that is a chain of stages only the part that a window reaches is recomputed
(`vad_helpers.inference.incremental`); any other gets windows written into a copy of the clip,
and taken out again.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from vad_helpers.attribution import checks
from vad_helpers.attribution.probability import Probability
from vad_helpers.attribution.spec import MethodSpec
from vad_helpers.errors import InputError
from vad_helpers.inference.chain import Triple
from vad_helpers.inference.incremental import Activations, Boxes, fill
from vad_helpers.inference.prepared import Model, Prepared, prepare

WINDOWS_AT_ONCE = 8
"""Windows that one worker recomputes together where no batch size is given: enough to share the
reading of the weights, few enough to stay in the processor's cache."""


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
    return _falls(
        probability.prepared,
        probability.of,
        clip,
        baseline,
        _windows(clip.shape, window, stride),
        at_once=probability.windows_at_once(WINDOWS_AT_ONCE),
        count=probability.count,
    )


class IncrementalOcclusion:
    """Captum's `Occlusion`, at a fraction of the cost for networks that are chains of stages.

    Parameters
    ----------
    forward_func : torch.nn.Module or callable
        (N, C, T, H, W) -> (N,) or (N, outputs). A module that offers `chain()`
        (`vad_helpers.inference.chain`), or a `Chain` itself, is recomputed piece by piece; any other runs
        whole, in batches.

    Examples
    --------
    >>> import torch
    >>> from vad_helpers.inference.chain import sequential
    >>> layers = torch.nn.Conv3d(1, 2, 3, padding=1), torch.nn.ReLU()
    >>> chain = sequential(layers, head=lambda x: x.mean(dim=(2, 3, 4)))
    >>> clips = torch.rand(1, 1, 4, 8, 8)
    >>> found = IncrementalOcclusion(chain).attribute(clips, (1, 2, 4, 4), (1, 2, 2, 2), target=0)
    >>> found.shape
    torch.Size([1, 1, 4, 8, 8])
    """

    def __init__(self, forward_func: Model) -> None:
        self.prepared = prepare(forward_func)

    @torch.no_grad()
    def attribute(
        self,
        inputs: torch.Tensor,
        sliding_window_shapes: Sequence[int],
        strides: Sequence[int] | None = None,
        baselines: torch.Tensor | float | None = None,
        target: int | None = None,
        *,
        perturbations_per_eval: int = WINDOWS_AT_ONCE,
    ) -> torch.Tensor:
        """Occlude every window and give each value the mean change over its windows.

        Parameters
        ----------
        inputs : torch.Tensor
            (N, C, T, H, W), floating.
        sliding_window_shapes, strides : sequence of int
            (C, t, h, w): a window covers all channels. Strides default to 1 on every axis.
        baselines : torch.Tensor or float, optional
            What fills a window: a number, (1, C, T, H, W) or like `inputs`; 0 by default.
        target : int, optional
            Column of the output; needed if there are several.
        perturbations_per_eval : int, optional
            Windows evaluated together, by each core.

        Returns
        -------
        torch.Tensor
            Like `inputs`.

        Raises
        ------
        InputError
            If windows, strides or baselines do not fit the inputs, or the target the output.
        """
        shape = tuple(inputs.shape[1:])
        window, stride = _checked_windows(shape, sliding_window_shapes, strides)
        fills = _checked_fills(inputs, baselines)
        checks.whole("perturbations_per_eval", perturbations_per_eval, minimum=1)

        def score(output: torch.Tensor) -> torch.Tensor:
            return _column(output, target)

        maps = [
            _falls(
                self.prepared,
                score,
                clip,
                baseline,
                _windows(shape, window, stride),
                at_once=perturbations_per_eval,
            )
            for clip, baseline in zip(inputs, fills, strict=True)
        ]
        return torch.stack(maps)[:, None].expand_as(inputs).clone()


def _checked_windows(
    shape: tuple[int, ...], window: Sequence[int], stride: Sequence[int] | None
) -> tuple[Triple, Triple]:
    stride = (1,) * len(shape) if stride is None else stride
    if len(shape) != 4 or len(window) != 4 or len(stride) != 4 or window[0] != shape[0]:
        raise InputError(
            f"windows are {tuple(window)} and strides {tuple(stride)} for inputs {shape}; give "
            "(channels, frames, rows, columns), all channels in a window"
        )
    window, stride = tuple(window[1:]), tuple(stride[1:])
    _check({"window": window, "stride": stride}, shape)
    return window, stride


def _checked_fills(inputs: torch.Tensor, baselines: torch.Tensor | float | None) -> torch.Tensor:
    if not inputs.is_floating_point():
        raise InputError(f"inputs are {inputs.dtype}; give floats, for the map has their type")
    fills = torch.as_tensor(0.0 if baselines is None else baselines).to(inputs)
    try:
        return fills.expand_as(inputs)
    except RuntimeError as error:
        raise InputError(
            f"baselines have shape {tuple(fills.shape)}, inputs {tuple(inputs.shape)}; give a "
            "number, one clip, or a clip for every input"
        ) from error


def _column(output: torch.Tensor, target: int | None) -> torch.Tensor:
    """What is explained, (N,), of the output (N,) or (N, outputs)."""
    width = output[0].numel() if output.ndim else 0
    if target is None and width == 1:
        return output.reshape(len(output))
    if target is None or output.ndim != 2 or not -width <= target < width:
        raise InputError(
            f"the output has shape {tuple(output.shape)} and target is {target}; give the number "
            "of a column of (N, outputs), or None for (N,)"
        )
    return output[:, target]


@dataclass(frozen=True)
class _Windows:
    """All windows of a clip: first and one-past-last index on each axis, ndarrays (n, 3)."""

    starts: np.ndarray
    ends: np.ndarray

    def part(self, index: np.ndarray) -> _Windows:
        return _Windows(self.starts[index], self.ends[index])

    def slices(self, k: int) -> tuple[slice, ...]:
        return tuple(map(slice, self.starts[k].tolist(), self.ends[k].tolist()))


def _windows(shape: Sequence[int], window: Triple, stride: Triple) -> _Windows:
    axes = zip(shape[-3:], window, stride, strict=True)
    firsts = [range(0, _count(*axis) * axis[2], axis[2]) for axis in axes]
    starts = np.array(list(itertools.product(*firsts)))
    return _Windows(starts, np.minimum(starts + np.array(window), shape[-3:]))


def _falls(
    prepared: Prepared,
    score: Callable[[torch.Tensor], torch.Tensor],
    clip: torch.Tensor,
    baseline: torch.Tensor,
    windows: _Windows,
    *,
    at_once: int,
    count: Callable[[int], object] = lambda n: None,
) -> torch.Tensor:
    """Mean fall of the score over the windows that cover a voxel, (T, H, W)."""
    follow = _follow_windows if prepared.chain is not None else _run_windows
    whole, parts = follow(prepared, score, clip, baseline, windows, at_once)
    count(1)
    total = np.zeros(clip.shape[1:])
    cover = np.zeros(clip.shape[1:], dtype=np.int64)
    for index, scores in parts:
        count(len(index))
        for k, fall in zip(index, (whole - scores.double().cpu()).tolist(), strict=True):
            total[windows.slices(k)] += fall
            cover[windows.slices(k)] += 1
    return torch.from_numpy(total / cover).to(clip.device, clip.dtype)


Parts = tuple[float, Iterator[tuple[np.ndarray, torch.Tensor]]]


def _follow_windows(
    prepared: Prepared,
    score: Callable[[torch.Tensor], torch.Tensor],
    clip: torch.Tensor,
    baseline: torch.Tensor,
    windows: _Windows,
    at_once: int,
) -> Parts:
    """Score of the clip, and of the windows recomputed from its activations, part by part."""
    fitted, filling = (prepared.fit(video[None])[0] for video in (clip, baseline))
    activations = Activations(prepared.chain, fitted)

    def scores(index: np.ndarray) -> torch.Tensor:
        part = windows.part(index)
        boxes, values = fill(fitted, filling, part.starts, part.ends)
        return score(activations.change(boxes, values))

    parts = _alike(activations, windows, at_once)
    found = prepared.spread(scores, parts, device=clip.device)
    return float(score(activations.logits)), zip(parts, found, strict=True)


def _alike(activations: Activations, windows: _Windows, at_once: int) -> list[np.ndarray]:
    """Parts of at most `at_once` windows whose boxes have about equal sizes on their way."""
    columns = []
    for axis in (0, 1, 2):
        ends, inverse = np.unique(
            np.stack([windows.starts[:, axis], windows.ends[:, axis]]), axis=1, return_inverse=True
        )
        sizes = np.array([_sizes_along(activations, axis, *pair) for pair in ends.T])
        columns.append(sizes[inverse.ravel()])
    # The last stages come first: sizes differ most there, and cost most.
    order = np.lexsort(np.concatenate(columns, axis=1).T)
    return np.split(order, range(at_once, len(order), at_once))


def _sizes_along(activations: Activations, axis: int, start: int, end: int) -> list[int]:
    starts, size = np.zeros((1, 3), dtype=np.int64), [1, 1, 1]
    starts[0, axis], size[axis] = start, int(end - start)
    return [size[axis], *(found[axis] for found in activations.sizes(Boxes(starts, tuple(size))))]


def _run_windows(
    prepared: Prepared,
    score: Callable[[torch.Tensor], torch.Tensor],
    clip: torch.Tensor,
    baseline: torch.Tensor,
    windows: _Windows,
    at_once: int,
) -> Parts:
    """The same by whole evaluations: windows are written into copies of the clip and taken out."""
    copies = clip.repeat(min(at_once, len(windows.starts)), 1, 1, 1, 1)
    channels = (slice(None),)

    def scores(index: np.ndarray) -> torch.Tensor:
        for copy, k in zip(copies, index, strict=False):
            copy[channels + windows.slices(k)] = baseline[channels + windows.slices(k)]
        found = score(prepared.evaluate(copies[: len(index)]))
        for copy, k in zip(copies, index, strict=False):
            copy[channels + windows.slices(k)] = clip[channels + windows.slices(k)]
        return found

    whole = float(score(prepared.evaluate(clip[None])))
    order = np.arange(len(windows.starts))
    parts = np.split(order, range(at_once, len(order), at_once))
    return whole, ((index, scores(index)) for index in parts)


def _count(size: int, wide: int, step: int) -> int:
    return 1 + math.ceil((size - wide) / step)


@torch.no_grad()
def seconds_per_window(
    prepared: Prepared, clip: torch.Tensor, window: Triple, stride: Triple, *, n_windows: int = 16
) -> float:
    """Time some windows of an occlusion, evenly taken from all: seconds a window, warm.

    Parameters
    ----------
    prepared : Prepared
    clip : torch.Tensor
        (3, T, H, W), of the type and on the device that the model takes.
    window, stride : tuple of int
        (frames, rows, columns).
    n_windows : int, optional
        How many are timed, at most.

    Returns
    -------
    float
    """
    everything = _windows(clip.shape, window, stride)
    n_windows = min(n_windows, len(everything.starts))
    some = everything.part(np.linspace(0, len(everything.starts) - 1, n_windows).astype(int))
    follow = _follow_windows if prepared.chain is not None else _run_windows
    seconds = 0.0
    for _ in range(2):  # the first time pays for what later ones share
        _, parts = follow(prepared, lambda logits: logits[:, 0], clip, clip, some, WINDOWS_AT_ONCE)
        start = time.perf_counter()
        for _, scores in parts:
            scores.sum().item()  # waits for the device
        seconds = time.perf_counter() - start
    return seconds / n_windows


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
    return math.prod(_count(*axis) for axis in axes)


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


def _spec(
    key: str, name: str, window: tuple[int, ...], stride: tuple[int, ...], precision: str
) -> MethodSpec:
    return MethodSpec(
        key=key,
        name=name,
        precision=precision,
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
    _spec("occlusion_lp", "Occlusion (large)", (10, 52, 78), (10, 32, 32), "fp32"),
    _spec("occlusion_sp", "Occlusion (small)", (4, 16, 24), (2, 8, 8), "bf16"),
)
