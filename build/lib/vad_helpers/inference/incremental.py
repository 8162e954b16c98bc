"""Recompute only what a change of the clip reaches, as occlusion needs it.

A filled window changes a small box of the clip, and through a chain of local stages
(`vad_helpers.inference.chain`) only a slowly growing box of every activation. The activations of
the whole clip are kept; for each window the box is cut out with its surroundings, the change put
in, and the stage evaluated there. From the stage on where the boxes fill nearly everything, whole
tensors are computed: that is cheaper. The result is that of a full evaluation, not an
approximation.

Windows with boxes of equal sizes go through together. A box that would stick out of a tensor is
moved inside: recomputing a value that did not change gives that value again.

References
----------
S. Nakandala, A. Kumar and Y. Papakonstantinou, "Incremental and approximate inference for faster
occlusion-based deep CNN explanations", SIGMOD 2019: the idea, on images.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vad_helpers.inference.chain import Branches, Chain, Stage, Triple, flat_pads, run

WHOLE_FROM = 0.7
"""Share of a stage's output from which computing all of it is cheaper than cutting and pasting."""


@dataclass(frozen=True)
class Boxes:
    """Boxes of one size, one a window.

    Attributes
    ----------
    starts : ndarray of int64 (K, 3)
    size : tuple of int
        (T, H, W).
    """

    starts: np.ndarray
    size: Triple

    @classmethod
    def around(cls, first: np.ndarray, end: np.ndarray, full: Triple) -> Boxes:
        """Boxes as large as the largest of `first` to `end`, (K, 3) each, moved inside `full`."""
        size = (end - first).max(axis=0)
        return cls(np.minimum(first, np.array(full) - size), tuple(int(n) for n in size))


@dataclass(frozen=True)
class _Kept:
    """A stage with what it was given of the whole clip, padded: (T, H, W, C)."""

    stage: Stage
    size: Triple
    padded: Tensor


class Activations:
    """A clip's way through a chain, kept, so that changes of the clip can be followed cheaply.

    Parameters
    ----------
    chain : Chain
    clip : Tensor (3, T, H, W)
        In the chain's type and on its device.

    Attributes
    ----------
    logits : Tensor (1, classes)
        Of the clip as it is.
    """

    @torch.no_grad()
    def __init__(self, chain: Chain, clip: Tensor) -> None:
        self.chain = chain
        x = clip[None].contiguous(memory_format=torch.channels_last_3d)
        self._outputs = [_channels_last(x)]  # the clip, then each stage's output, (T, H, W, C)
        self._lines: list[list[list[_Kept]]] = []  # of each stage; one line if it has no branches
        for stage in chain.stages:
            ends, lines = [], []
            for line in stage.lines if isinstance(stage, Branches) else ((stage,),):
                y, kept = x, []
                for step in line:
                    size = tuple(y.shape[2:])
                    pads = flat_pads(step.pads(size))
                    padded = F.pad(y, pads, value=step.fill) if any(pads) else y
                    kept.append(_Kept(step, size, _channels_last(padded)))
                    y = step.whole(y)
                ends.append(y)
                lines.append(kept)
            x = ends[0] if len(ends) == 1 else torch.cat(ends, dim=1)
            self._lines.append(lines)
            self._outputs.append(_channels_last(x))
        self.logits = chain.head(x)

    def sizes(self, boxes: Boxes) -> list[Triple]:
        """Size of the boxes at the output of every stage."""
        found = []
        for lines, output in zip(self._lines, self._outputs[1:], strict=True):
            ends = [boxes] * len(lines)
            for i, line in enumerate(lines):
                for kept in line:
                    ends[i] = reached(kept.stage, kept.size, ends[i])
            boxes = _union(ends, output.shape[:3])
            found.append(boxes.size)
        return found

    @torch.no_grad()
    def change(self, boxes: Boxes, values: Tensor) -> Tensor:
        """Logits of the clip with the boxes, one at a time, holding other values.

        Parameters
        ----------
        boxes : Boxes
            Of the clip.
        values : Tensor (K, 3, t, h, w)
            What the k-th box holds.

        Returns
        -------
        Tensor (K, classes)
        """
        first_whole = 0
        for n, size in enumerate(self.sizes(boxes), start=1):
            if np.prod(size) / np.prod(self._outputs[n].shape[:3]) < WHOLE_FROM:
                first_whole = n
        for n in range(first_whole):
            values, boxes = self._follow(n, values, boxes)
        before = self._outputs[first_whole]
        if tuple(before.shape[:3]) != boxes.size:
            whole = before.repeat(len(values), 1, 1, 1, 1).permute(0, 4, 1, 2, 3)  # a new tensor
            _paste(whole, values, boxes.starts)
            values = whole
        return self.chain.head(run(self.chain.stages[first_whole:], values))

    def _follow(self, n: int, values: Tensor, boxes: Boxes) -> tuple[Tensor, Boxes]:
        """Values and boxes of the n-th stage's output."""
        ends = [(values, boxes)] * len(self._lines[n])
        for i, line in enumerate(self._lines[n]):
            for kept in line:
                ends[i] = _recompute(kept, *ends[i])
        if len(ends) == 1:
            return ends[0]
        output = self._outputs[n + 1]
        union = _union([box for _, box in ends], output.shape[:3])
        if all(b.size == union.size and (b.starts == union.starts).all() for _, b in ends):
            return torch.cat([part for part, _ in ends], dim=1), union
        crops, channel = gather(output, union), 0
        for part, box in ends:
            _paste(crops[:, channel : channel + part.shape[1]], part, box.starts - union.starts)
            channel += part.shape[1]
        return crops, union


def reached(stage: Stage, size: Triple, boxes: Boxes) -> Boxes:
    """Boxes of a stage's output that depend on boxes of its input of (T, H, W) `size`.

    They are of one size, each inside the output and at least one value large.
    """
    if stage.elementwise:
        return boxes
    full = np.array(stage.output_size(size))
    before = np.array([axis[0] for axis in stage.pads(size)])
    kernel, stride = np.array(stage.kernel), np.array(stage.stride)
    first = -((kernel - 1 - boxes.starts - before) // stride)
    last = (boxes.starts + np.array(boxes.size) - 1 + before) // stride
    first, last = np.clip(first, 0, full - 1), np.clip(last, 0, full - 1)
    return Boxes.around(first, np.maximum(last, first) + 1, full)


def _union(ends: list[Boxes], full: Triple) -> Boxes:
    """Boxes around those at the ends of several lines."""
    first = np.min([boxes.starts for boxes in ends], axis=0)
    end = np.max([boxes.starts + np.array(boxes.size) for boxes in ends], axis=0)
    return Boxes.around(first, end, full)


def _recompute(kept: _Kept, values: Tensor, boxes: Boxes) -> tuple[Tensor, Boxes]:
    """Values and boxes of one stage's output: cut out with surroundings, paste, evaluate."""
    stage = kept.stage
    if stage.elementwise:
        return stage.valid(values), boxes
    result = reached(stage, kept.size, boxes)
    stride, kernel = np.array(stage.stride), np.array(stage.kernel)
    size = (np.array(result.size) - 1) * stride + kernel
    needed = Boxes(result.starts * stride, tuple(size.tolist()))
    crops = gather(kept.padded, needed)
    before = np.array([axis[0] for axis in stage.pads(kept.size)])
    _paste(crops, values, boxes.starts + before - needed.starts)
    return stage.valid(crops), result


def fill(
    clip: Tensor, baseline: Tensor, starts: np.ndarray, ends: np.ndarray
) -> tuple[Boxes, Tensor]:
    """Boxes of one size around windows, and what they hold, (K, C, t, h, w), once these are filled.

    Clip and baseline are (C, T, H, W), the windows' first and one-past-last indices int (K, 3).
    """
    boxes = Boxes.around(starts, ends, tuple(clip.shape[1:]))
    values = gather(clip.permute(1, 2, 3, 0), boxes)
    for k, start in enumerate(boxes.starts):
        window = tuple(map(slice, starts[k].tolist(), ends[k].tolist()))
        inside = tuple(map(slice, (starts[k] - start).tolist(), (ends[k] - start).tolist()))
        values[(k, slice(None), *inside)] = baseline[(slice(None), *window)]
    return boxes, values


def gather(kept: Tensor, boxes: Boxes) -> Tensor:
    """Cut boxes out of a contiguous (T, H, W, C): (K, C, t, h, w), new, channels_last_3d."""
    ends = boxes.starts + np.array(boxes.size)
    pairs = zip(boxes.starts.tolist(), ends.tolist(), strict=True)
    crops = torch.stack([kept[tuple(map(slice, start, end))] for start, end in pairs])
    return crops.permute(0, 4, 1, 2, 3)


def _channels_last(x: Tensor) -> Tensor:
    """(1, C, T, H, W) as (T, H, W, C); a view if channels are last in memory."""
    return x[0].permute(1, 2, 3, 0).contiguous()


def _paste(crops: Tensor, values: Tensor, offsets: np.ndarray) -> None:
    """Put values (K, C, ...) into crops (K, C, ...) at offsets (K, 3); what sticks out is cut."""
    alike = (offsets == offsets[0]).all()
    for k, offset in [(slice(None), offsets[0])] if alike else enumerate(offsets):
        into, part = [k, slice(None)], [k, slice(None)]
        for at, size, full in zip(offset.tolist(), values.shape[2:], crops.shape[2:], strict=True):
            first, end = max(at, 0), max(min(at + size, full), max(at, 0))
            into.append(slice(first, end))
            part.append(slice(first - at, end - at))
        crops[tuple(into)] = values[tuple(part)]
