"""Occlusion: how far the probability falls when a window is filled with the baseline.

A window covers all channels. It slides from the start of every axis by its stride; the last one
is cut at the border, so that every voxel is covered. A voxel's value is the mean fall over the
windows that cover it. Of a model that is a chain of stages only the part that a window reaches is
recomputed (`vad_helpers.inference.incremental`).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vad_helpers.attribution import checks
from vad_helpers.attribution.probability import Probability, refuse_mixing
from vad_helpers.errors import InputError
from vad_helpers.inference.chain import Triple
from vad_helpers.inference.incremental import Activations, Boxes, fill
from vad_helpers.inference.prepared import Model, Prepared, prepare

# Windows that one worker recomputes together where no batch size is given: enough to share the
# reading of the weights, few enough to stay in the processor's cache.
WINDOWS_AT_ONCE = 8
BOXES_A_CLIP = 4  # boxes around windows that take about the memory of a clip

Score = Callable[[Tensor], Tensor]  # what falls, (N,), by the model's output for N clips
Windows = tuple[np.ndarray, np.ndarray]  # first and one-past-last indices, two arrays (n, 3)


@torch.no_grad()
def occlusion(
    probability: Probability, clip: Tensor, baseline: Tensor, *, window: Triple, stride: Triple
) -> Tensor:
    """Fill one window after the other and map how far the probability falls: in [-1, 1].

    Parameters
    ----------
    window, stride : tuple of int
        (frames, rows, columns); no window larger than the clip, no stride larger than the window.

    References
    ----------
    Zeiler & Fergus, Visualizing and understanding convolutional networks, ECCV 2014.
    """
    prepared, given = probability.prepared, probability.given
    if prepared.chain is None:
        at_once = probability.batch_size
    else:
        at_once = WINDOWS_AT_ONCE if given is None else BOXES_A_CLIP * given
        probability.largest = max(probability.largest, at_once // BOXES_A_CLIP)
    windows, count = _windows(clip.shape, window, stride), probability.count
    return _falls(prepared, probability.of, clip, baseline, windows, at_once, count)


class IncrementalOcclusion:
    """Captum's `Occlusion`, at a fraction of the cost for networks that are chains of stages.

    Parameters
    ----------
    forward_func : torch.nn.Module or callable
        (N, C, T, H, W) -> (N,) or (N, outputs). A module that offers `chain()`, or a
        `vad_helpers.inference.chain.Chain`, is recomputed piece by piece; any other runs whole.

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
        inputs: Tensor,
        sliding_window_shapes: Sequence[int],
        strides: Sequence[int] | None = None,
        baselines: Tensor | float | None = None,
        target: int | None = None,
        *,
        perturbations_per_eval: int = WINDOWS_AT_ONCE,
    ) -> Tensor:
        """Occlude every window and give each value the mean change over its windows, like `inputs`.

        InputError if windows or strides do not fit the inputs, or the target the output; or if the
        output for a clip depends on the other clips of its batch.

        Parameters
        ----------
        inputs : torch.Tensor
            (N, C, T, H, W), floating.
        sliding_window_shapes, strides : sequence of int
            (C, t, h, w): a window covers all channels. Strides default to 1.
        baselines : torch.Tensor or float, optional
            What fills a window: a number, (1, C, T, H, W) or like `inputs`; 0 by default.
        target : int, optional
            Column of the output; needed if there are several.
        perturbations_per_eval : int, optional
            Windows evaluated together, by each core.
        """
        shape, window = tuple(inputs.shape[1:]), tuple(sliding_window_shapes)
        stride = (1,) * len(shape) if strides is None else tuple(strides)
        if not len(shape) == len(window) == len(stride) == 4 or window[0] != shape[0]:
            raise InputError(
                f"windows are {window} and strides {stride} for inputs {shape}; give (channels, "
                "frames, rows, columns), all channels in a window"
            )
        if not inputs.is_floating_point():
            raise InputError(f"inputs are {inputs.dtype}; give floats, for the map has their type")
        window = checks.value("sliding_window_shapes", window[1:], (1, 1, 1), ">= 1")
        stride = checks.value("strides", stride[1:], (1, 1, 1), ">= 1")
        check({"window": window, "stride": stride}, shape)
        windows = _windows(shape, window, stride)
        fills = torch.as_tensor(0.0 if baselines is None else baselines).to(inputs)

        def score(output: Tensor) -> Tensor:
            width = output[0].numel() if output.ndim else 0
            if target is None and width == 1:
                return output.reshape(len(output))
            if target is None or output.ndim != 2 or not -width <= target < width:
                raise InputError(
                    f"the output has shape {tuple(output.shape)} and target is {target}; give the "
                    "number of a column of (N, outputs), or None for (N,)"
                )
            return output[:, target]

        refuse_mixing(self.prepared, inputs[0])
        maps = [
            _falls(self.prepared, score, clip, filling, windows, perturbations_per_eval)
            for clip, filling in zip(inputs, fills.expand_as(inputs), strict=True)
        ]
        return torch.stack(maps)[:, None].expand_as(inputs).clone()


def model_calls(settings: Mapping[str, Any], shape: Sequence[int], *_: object) -> int:
    """Count the windows that cover a clip (..., T, H, W), and the clip itself."""
    axes = zip(shape[-3:], settings["window"], settings["stride"], strict=True)
    return 1 + math.prod(1 + math.ceil((size - wide) / step) for size, wide, step in axes)


def check(settings: Mapping[str, Any], shape: Sequence[int]) -> None:
    """Raise InputError if the settings `window` and `stride` leave voxels of a clip uncovered."""
    window, stride = settings["window"], settings["stride"]
    names = ("frames", "rows", "columns")
    for axis, size, wide, step in zip(names, shape[-3:], window, stride, strict=True):
        if wide > size:
            fitting = tuple(min(pair) for pair in zip(window, shape[-3:], strict=True))
            raise InputError(
                f"occlusion's window has {wide} {axis}, the clip {size}; give window={fitting}"
            )
        if step > wide and wide < size:
            raise InputError(
                f"occlusion's stride is {step} {axis}, its window only {wide}: voxels between "
                "windows would have no value; give a stride no larger than the window"
            )


@torch.no_grad()
def seconds_per_window(prepared: Prepared, clip: Tensor, window: Triple, stride: Triple) -> float:
    """Time up to 16 windows of an occlusion, evenly taken from all: seconds a window, warm.

    The clip is (3, T, H, W), of the type and on the device that the model takes.
    """
    starts, ends = _windows(clip.shape, window, stride)
    some = np.linspace(0, len(starts) - 1, min(16, len(starts))).astype(int)
    windows = starts[some], ends[some]
    seconds = 0.0
    for _ in range(2):  # the first time pays for what later ones share
        found = _scores(prepared, lambda logits: logits[:, 0], clip, clip, windows, WINDOWS_AT_ONCE)
        next(found)  # the clip itself
        start = time.perf_counter()
        for _, scores in found:
            scores.sum().item()  # waits for the device
        seconds = time.perf_counter() - start
    return seconds / len(some)


def _windows(shape: Sequence[int], window: Triple, stride: Triple) -> Windows:
    axes = zip(shape[-3:], window, stride, strict=True)
    firsts = [range(0, max(size - wide, 0) + step, step) for size, wide, step in axes]
    starts = np.array(list(itertools.product(*firsts)))
    return starts, np.minimum(starts + np.array(window), shape[-3:])


def _falls(
    prepared: Prepared,
    score: Score,
    clip: Tensor,
    baseline: Tensor,
    windows: Windows,
    at_once: int,
    count: Callable[[int], object] = lambda n: None,
) -> Tensor:
    """Mean fall of the score over the windows that cover a voxel, (T, H, W)."""
    total = np.zeros(clip.shape[1:])
    cover = np.zeros(clip.shape[1:], dtype=np.int64)
    found = _scores(prepared, score, clip, baseline, windows, at_once)
    whole = float(next(found)[1])
    count(1)
    for boxes, scores in found:
        count(len(boxes))
        for box, fall in zip(boxes, (whole - scores.double().cpu()).tolist(), strict=True):
            total[box] += fall
            cover[box] += 1
    return torch.from_numpy(total / cover).to(clip.device, clip.dtype)


def _scores(
    prepared: Prepared, score: Score, clip: Tensor, baseline: Tensor, windows: Windows, at_once: int
) -> Iterator[tuple[list[tuple[slice, ...]], Tensor]]:
    """Score of the clip, then of windows, some at a time: their slices and their scores."""
    starts, ends = windows
    boxes = [tuple(map(slice, *pair)) for pair in zip(starts.tolist(), ends.tolist(), strict=True)]
    if prepared.chain is None:
        yield [], score(prepared.evaluate(clip[None]))
        for first in range(0, len(boxes), at_once):
            some = boxes[first : first + at_once]
            copies = clip.repeat(len(some), 1, 1, 1, 1)
            for copy, box in zip(copies, some, strict=True):
                copy[:, *box] = baseline[:, *box]
            yield some, score(prepared.evaluate(copies))
        return
    fitted, filling = (prepared.fit(video[None])[0] for video in (clip, baseline))
    activations = Activations(prepared.chain, fitted)
    yield [], score(activations.logits)

    def change(index: np.ndarray) -> Tensor:
        return score(activations.change(*fill(fitted, filling, starts[index], ends[index])))

    parts = _alike(activations, starts, ends, at_once)
    for index, scores in zip(
        parts, prepared.spread(change, parts, device=clip.device), strict=True
    ):
        yield [boxes[k] for k in index], scores


def _alike(
    activations: Activations, starts: np.ndarray, ends: np.ndarray, at_once: int
) -> list[np.ndarray]:
    """Parts of at most `at_once` windows whose boxes have about equal sizes on their way."""
    columns = []
    for axis in (0, 1, 2):
        sides, inverse = np.unique(
            np.stack([starts[:, axis], ends[:, axis]]), axis=1, return_inverse=True
        )
        sizes = []
        for start, end in sides.T:
            corner, size = np.zeros((1, 3), dtype=np.int64), [1, 1, 1]
            corner[0, axis], size[axis] = start, int(end - start)
            later = activations.sizes(Boxes(corner, tuple(size)))
            sizes.append([size[axis], *(found[axis] for found in later)])
        columns.append(np.array(sizes)[inverse.ravel()])
    # The last stages come first: sizes differ most there, and cost most.
    order = np.lexsort(np.concatenate(columns, axis=1).T)
    return np.split(order, range(at_once, len(order), at_once))
