"""Occlusion that recomputes only what a window changes.

A filled window changes a small box of the clip, and through a chain of local stages
(`vad_helpers.inference.chain`) only a slowly growing box of every activation. The activations of the whole
clip are kept; for each window the box is cut out with its surroundings, the change put in, and the
stage evaluated there. From the stage on where the boxes fill nearly everything, whole tensors are
computed: that is cheaper. The result is that of a full evaluation, not an approximation.

Windows with boxes of equal sizes go through together. A box that would stick out of a tensor is
moved inside: recomputing a value that did not change gives that value again.

References
----------
S. Nakandala, A. Kumar and Y. Papakonstantinou, "Incremental and approximate inference for faster
occlusion-based deep CNN explanations", SIGMOD 2019: the idea, on images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vad_helpers.inference.chain import Branches, Chain, Stage, Triple, flat_pads, output_size, run

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

    def slices(self, k: int) -> tuple[slice, slice, slice]:
        """Index of the k-th box into (T, H, W)."""
        return tuple(slice(a, a + n) for a, n in zip(self.starts[k], self.size, strict=True))


@dataclass(frozen=True)
class _Memory:
    """What is kept of the whole clip for one stage: arrays (T, H, W, C)."""

    input: Tensor
    padded: Tensor
    output_size: Triple


class Activations:
    """A clip's way through a chain, kept, so that changes of the clip can be followed cheaply.

    Parameters
    ----------
    chain : Chain
    clip : Tensor (3, T, H, W)
        In the chain's type and on its device.
    """

    @torch.no_grad()
    def __init__(self, chain: Chain, clip: Tensor) -> None:
        self.chain = chain
        self.kept: list[_Memory | list[list[_Memory]]] = []
        self.inputs: list[Tensor] = []
        x = clip[None].contiguous(memory_format=torch.channels_last_3d)
        for stage in chain.stages:
            self.inputs.append(_channels_last(x))
            if isinstance(stage, Branches):
                x, kept = _keep_branches(stage, x)
            else:
                x, kept = _keep(stage, x)
            self.kept.append(kept)
        self.inputs.append(_channels_last(x))
        self.logits = chain.head(x)

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
        first_whole = self._first_whole(boxes)
        for stage, kept in zip(
            self.chain.stages[:first_whole], self.kept[:first_whole], strict=True
        ):
            values, boxes = _follow(stage, kept, values, boxes)
        whole = _put_back(self.inputs[first_whole], values, boxes)
        return self.chain.head(run(self.chain.stages[first_whole:], whole))

    def sizes(self, boxes: Boxes) -> list[Triple]:
        """Size of the boxes at the output of every stage."""
        found = []
        for stage, kept in zip(self.chain.stages, self.kept, strict=True):
            boxes = _reach(stage, kept, boxes)
            found.append(boxes.size)
        return found

    def _first_whole(self, boxes: Boxes) -> int:
        shares = [
            np.prod(size) / np.prod(full.shape[:3])
            for size, full in zip(self.sizes(boxes), self.inputs[1:], strict=True)
        ]
        first = len(shares)
        while first and shares[first - 1] >= WHOLE_FROM:
            first -= 1
        return first


def _channels_last(x: Tensor) -> Tensor:
    return x[0].permute(1, 2, 3, 0).contiguous()


def _keep(stage: Stage, x: Tensor) -> tuple[Tensor, _Memory]:
    size = tuple(x.shape[2:])
    padded = kept = _channels_last(x)
    pads = flat_pads(stage.pads(size))
    if any(pads):
        padded = _channels_last(F.pad(x, pads, value=stage.fill))
    return stage.whole(x), _Memory(kept, padded, output_size(stage, size))


def _keep_branches(stage: Branches, x: Tensor) -> tuple[Tensor, list[list[_Memory]]]:
    outputs, kept = [], []
    for line in stage.lines:
        y, memories = x, []
        for step in line:
            y, memory = _keep(step, y)
            memories.append(memory)
        outputs.append(y)
        kept.append(memories)
    output = torch.cat(outputs, dim=1)
    last = _Memory(_channels_last(output), _channels_last(output), tuple(output.shape[2:]))
    return output, [*kept, [last]]


def _reach(stage: Stage | Branches, kept: _Memory | list[list[_Memory]], boxes: Boxes) -> Boxes:
    """Boxes of a stage's output that boxes of its input reach."""
    if isinstance(stage, Stage):
        return reached(stage, tuple(kept.input.shape[:3]), boxes)
    ends = []
    for line, memories in zip(stage.lines, kept[:-1], strict=True):
        end = boxes
        for step, memory in zip(line, memories, strict=True):
            end = _reach(step, memory, end)
        ends.append(end)
    return _around(ends, kept[-1][0].output_size)


def reached(stage: Stage, size: Triple, boxes: Boxes) -> Boxes:
    """Boxes of a stage's output that depend on boxes of its input.

    Parameters
    ----------
    stage : Stage
    size : tuple of int
        (T, H, W) of the input.
    boxes : Boxes

    Returns
    -------
    Boxes
        Of one size, each inside the output and at least one value large.
    """
    if stage.elementwise:
        return boxes
    full = np.array(output_size(stage, size))
    before = np.array([axis[0] for axis in stage.pads(size)])
    kernel, stride = np.array(stage.kernel), np.array(stage.stride)
    first = -((kernel - 1 - boxes.starts - before) // stride)
    last = (boxes.starts + np.array(boxes.size) - 1 + before) // stride
    first, last = np.clip(first, 0, full - 1), np.clip(last, 0, full - 1)
    return _inside(first, np.maximum(last, first) + 1, full)


def _inside(first: np.ndarray, end: np.ndarray, full: np.ndarray) -> Boxes:
    size = (end - first).max(axis=0)
    return Boxes(np.minimum(first, full - size), tuple(int(n) for n in size))


def _around(boxes: Sequence[Boxes], full: Triple) -> Boxes:
    first = np.min([b.starts for b in boxes], axis=0)
    end = np.max([b.starts + np.array(b.size) for b in boxes], axis=0)
    return _inside(first, end, np.array(full))


def _follow(
    stage: Stage | Branches, kept: _Memory | list[list[_Memory]], values: Tensor, boxes: Boxes
) -> tuple[Tensor, Boxes]:
    """Values and boxes of a stage's output."""
    if isinstance(stage, Stage):
        return _recompute(stage, kept, values, boxes)
    ends = []
    for line, memories in zip(stage.lines, kept[:-1], strict=True):
        end = values, boxes
        for step, memory in zip(line, memories, strict=True):
            end = _recompute(step, memory, *end)
        ends.append(end)
    last = kept[-1][0]
    around = _around([box for _, box in ends], last.output_size)
    if all(_same(box, around) for _, box in ends):
        return torch.cat([part for part, _ in ends], dim=1), around
    crops = gather(last.input, around)
    channel = 0
    for part, box in ends:
        _paste(crops[:, channel : channel + part.shape[1]], part, box.starts - around.starts)
        channel += part.shape[1]
    return crops, around


def _same(a: Boxes, b: Boxes) -> bool:
    return a.size == b.size and np.array_equal(a.starts, b.starts)


def _recompute(stage: Stage, memory: _Memory, values: Tensor, boxes: Boxes) -> tuple[Tensor, Boxes]:
    if stage.elementwise:
        return stage.valid(values), boxes
    size = tuple(memory.input.shape[:3])
    result = reached(stage, size, boxes)
    stride, kernel = np.array(stage.stride), np.array(stage.kernel)
    needed = (np.array(result.size) - 1) * stride + kernel
    needed = Boxes(result.starts * stride, tuple(int(n) for n in needed))
    crops = gather(memory.padded, needed)
    before = np.array([axis[0] for axis in stage.pads(size)])
    _paste(crops, values, boxes.starts + before - needed.starts)
    return stage.valid(crops), result


def gather(kept: Tensor, boxes: Boxes) -> Tensor:
    """Cut boxes out of an array.

    Parameters
    ----------
    kept : Tensor (T, H, W, C)
        Contiguous.
    boxes : Boxes

    Returns
    -------
    Tensor (K, C, t, h, w)
        New memory, laid out as channels_last_3d.
    """
    crops = torch.stack([kept[boxes.slices(k)] for k in range(len(boxes.starts))])
    return crops.permute(0, 4, 1, 2, 3)


def _paste(crops: Tensor, values: Tensor, offsets: np.ndarray) -> None:
    """Put values (K, C, ...) into crops (K, C, ...) at offsets (K, 3); what sticks out is cut."""
    if (offsets == offsets[0]).all():
        into, part = _overlap(crops, values, offsets[0])
        crops[(slice(None), slice(None), *into)] = values[(slice(None), slice(None), *part)]
        return
    for k, offset in enumerate(offsets):
        into, part = _overlap(crops, values, offset)
        crops[(k, slice(None), *into)] = values[(k, slice(None), *part)]


def _overlap(crops: Tensor, values: Tensor, offset: np.ndarray) -> tuple[list[slice], list[slice]]:
    into, part = [], []
    for at, inner, outer in zip(offset.tolist(), values.shape[2:], crops.shape[2:], strict=True):
        first, end = max(at, 0), max(min(at + inner, outer), max(at, 0))
        into.append(slice(first, end))
        part.append(slice(first - at, end - at))
    return into, part


def _put_back(kept: Tensor, values: Tensor, boxes: Boxes) -> Tensor:
    """Whole tensors (K, C, T, H, W) with the boxes' values."""
    if tuple(kept.shape[:3]) == boxes.size:
        return values
    whole = kept.repeat(len(values), 1, 1, 1, 1).permute(0, 4, 1, 2, 3)  # always new memory
    _paste(whole, values, boxes.starts)
    return whole


def fill(
    clip: Tensor, baseline: Tensor, starts: np.ndarray, ends: np.ndarray
) -> tuple[Boxes, Tensor]:
    """Boxes of one size around windows, and what they hold once the windows are filled.

    Parameters
    ----------
    clip, baseline : Tensor (C, T, H, W)
    starts, ends : ndarray of int (K, 3)
        First and one-past-last index of every window.

    Returns
    -------
    boxes : Boxes
    values : Tensor (K, C, t, h, w)
    """
    boxes = _inside(starts, ends, np.array(clip.shape[1:]))
    values = gather(clip.permute(1, 2, 3, 0), boxes)
    for k, start in enumerate(boxes.starts):
        window = tuple(map(slice, starts[k].tolist(), ends[k].tolist()))
        inside = tuple(map(slice, (starts[k] - start).tolist(), (ends[k] - start).tolist()))
        values[(k, slice(None), *inside)] = baseline[(slice(None), *window)]
    return boxes, values
