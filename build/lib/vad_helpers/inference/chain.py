"""How a network describes itself as a chain of local stages, from the clip to its logits.

A stage computes every output value from a small box of its input: a convolution, a pooling, an
activation. Whoever knows a network as a chain can recompute just the part of it that a change of
the clip reaches (occlusion), or go through its first, linear stage once for many points on a line
(path methods). A network offers it by a method `chain()`; `sequential` makes one of PyTorch layers.

Conventions
-----------
- Tensors are (N, C, T, H, W); triples are in the order (T, H, W).
- A chain is for inference: stages hold the network's modules in evaluation mode.
- Padding may depend on the size of the input (TensorFlow's "SAME"), so it is a function of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vad_helpers.errors import InputError

Triple = tuple[int, int, int]
Pads = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
"""(before, after) of each axis."""

FEW_CHANNELS = 8
"""Below this many inputs, a strided bf16 convolution on a CPU takes its columns as channels."""
NO_PADS: Pads = ((0, 0), (0, 0), (0, 0))
_ELEMENTWISE = (nn.BatchNorm3d, nn.Identity, nn.Dropout, nn.Dropout3d)


@dataclass(frozen=True)
class Stage:
    """One local operation.

    Attributes
    ----------
    whole : callable
        (N, C, T, H, W) -> (N, C', T', H', W'): the operation, its padding included.
    valid : callable
        The same operation on an input that is padded already.
    kernel, stride : tuple of int
        Reach and step on each axis.
    pads : callable
        (T, H, W) of the input -> padding.
    fill : float
        What the padding holds.
    affine : bool
        Whether the output is an affine function of the input.
    grey : bool
        Whether `whole` takes an input of one channel for one of as many equal channels as it has.
    """

    whole: Callable[[Tensor], Tensor]
    valid: Callable[[Tensor], Tensor]
    kernel: Triple = (1, 1, 1)
    stride: Triple = (1, 1, 1)
    pads: Callable[[Triple], Pads] = lambda size: NO_PADS
    fill: float = 0.0
    affine: bool = False
    grey: bool = False

    @property
    def elementwise(self) -> bool:
        """Whether an output value depends on the input values at its own position alone."""
        one = (1, 1, 1)
        return self.kernel == self.stride == one and self.pads(one) == NO_PADS

    def output_size(self, size: Triple) -> Triple:
        """(T, H, W) of the output for an input of (T, H, W)."""
        axes = zip(size, self.pads(size), self.kernel, self.stride, strict=True)
        return tuple((n + before + after - k) // s + 1 for n, (before, after), k, s in axes)


@dataclass(frozen=True)
class Branches:
    """Parallel lines of stages on one input, concatenated along the channels.

    Attributes
    ----------
    lines : tuple of tuple of Stage
        All of them give the same (T, H, W).
    """

    lines: tuple[tuple[Stage, ...], ...]

    def whole(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C', T', H', W')."""
        return torch.cat([run(line, x) for line in self.lines], dim=1)


@dataclass(frozen=True)
class Chain:
    """A network: stages, then a head.

    Attributes
    ----------
    stages : tuple of Stage or Branches
    head : callable
        (N, C, T, H, W) of the last stage -> (N, classes) logits. It may look at everything.
    """

    stages: tuple[Stage | Branches, ...]
    head: Callable[[Tensor], Tensor]

    def __call__(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of clips (N, 3, T, H, W)."""
        return self.head(run(self.stages, x))

    @property
    def has_affine_stem(self) -> bool:
        """Whether the first stage is affine, so that it maps straight lines to straight lines."""
        return bool(self.stages) and getattr(self.stages[0], "affine", False)

    @property
    def takes_grey(self) -> bool:
        """Whether one channel stands for three equal ones."""
        return bool(self.stages) and getattr(self.stages[0], "grey", False)

    def stem(self, x: Tensor) -> Tensor:
        """Output of the first stage."""
        return self.stages[0].whole(x)

    def after_stem(self, x: Tensor) -> Tensor:
        """Logits (N, classes) of the first stage's output."""
        return self.head(run(self.stages[1:], x))


def run(stages: Iterable[Stage | Branches], x: Tensor) -> Tensor:
    """Send a whole tensor through stages."""
    for stage in stages:
        x = stage.whole(x)
    return x


def flat_pads(pads: Pads) -> list[int]:
    """Padding in the order of `torch.nn.functional.pad`: the last axis first."""
    return [side for axis in reversed(pads) for side in axis]


def sequential(layers: Iterable[nn.Module], head: Callable[[Tensor], Tensor]) -> Chain:
    """Make a chain of PyTorch layers.

    Parameters
    ----------
    layers : iterable of nn.Module
        `Conv3d` (no dilation, zero padding by numbers), `MaxPool3d`, `AvgPool3d`, and layers that
        work value by value in evaluation mode: `ReLU`, `BatchNorm3d`, `Dropout`, `Identity`.
    head : callable
        As in `Chain`.

    Returns
    -------
    Chain

    Raises
    ------
    InputError
        For another layer, or options that are not covered.
    """
    return Chain(tuple(layer_stage(layer) for layer in layers), head)


def layer_stage(layer: nn.Module) -> Stage:
    """Make a stage of one PyTorch layer; see `sequential`."""
    kind = type(layer)  # a subclass may compute something else
    if kind is nn.ReLU:  # never in place: what is kept of the clip must stay as it is
        return Stage(torch.relu, torch.relu) if layer.inplace else Stage(layer, layer)
    if kind in _ELEMENTWISE:
        return Stage(layer, layer, affine=True)
    if kind is nn.Conv3d:
        in_numbers = not isinstance(layer.padding, str) and layer.padding_mode == "zeros"
        if not in_numbers or set(layer.dilation) != {1}:
            raise InputError(
                f"{layer} is no stage of a chain; its padding must be zeros, given in numbers, and "
                "its dilation 1"
            )
        kernel, stride, padding = layer.kernel_size, layer.stride, layer.padding
        valid, fill, affine = convolve_padded(layer), 0.0, True
    elif kind in (nn.MaxPool3d, nn.AvgPool3d):
        options = layer.kernel_size, layer.stride, layer.padding, getattr(layer, "dilation", 1)
        kernel, stride, padding, dilation = (
            (n,) * 3 if isinstance(n, int) else tuple(n) for n in options
        )
        if kind is nn.MaxPool3d:
            pool, fill, covered = F.max_pool3d, float("-inf"), set(dilation) == {1}
        else:
            pool, fill, covered = F.avg_pool3d, 0.0, not (any(padding) or layer.divisor_override)
        if layer.ceil_mode or not covered:
            raise InputError(
                f"{layer} is no stage of a chain; pool without ceil_mode and dilation, and average "
                "without padding and divisor_override"
            )
        valid, affine = (lambda x: pool(x, kernel, stride)), kind is nn.AvgPool3d
    else:
        raise InputError(
            f"a {kind.__name__} is no stage of a chain; give Conv3d, MaxPool3d, AvgPool3d or "
            "layers that work value by value, and put the rest into the head"
        )
    pads = tuple((side, side) for side in padding)
    return Stage(layer, valid, tuple(kernel), tuple(stride), lambda size: pads, fill, affine)


def convolve_padded(layer: nn.Conv3d) -> Callable[[Tensor], Tensor]:
    """Give the layer's convolution for an input that is padded already.

    An input of one channel stands for equal ones: their weights add up, which saves work.

    Where it pays, each run of `stride` columns becomes the channels of one column. CPUs multiply
    bf16 in tiles of many channels, which the three of an image leave empty: the first convolution
    of I3D takes a third of the time so. Float32 and gradients take more.
    """
    (*strides, step), columns = layer.stride, layer.kernel_size[2]
    few = layer.groups == 1 and layer.in_channels < FEW_CHANNELS and step > 1

    def convolve(x: Tensor) -> Tensor:
        tiled = x.device.type == "cpu" and x.dtype == layer.weight.dtype == torch.bfloat16
        gradient = torch.is_grad_enabled() and (x.requires_grad or layer.weight.requires_grad)
        weight = layer.weight
        if x.shape[1] == 1 < layer.in_channels and layer.groups == 1:
            weight = weight.sum(dim=1, keepdim=True)
        if not few or not tiled or gradient:
            return F.conv3d(x, weight, layer.bias, layer.stride, groups=layer.groups)
        width = (x.shape[-1] - columns) // step + -(-columns // step)
        x = _fold_columns(F.pad(x, (0, width * step - x.shape[-1])), step)
        weight = _fold_columns(F.pad(weight, (0, -columns % step)), step)
        return F.conv3d(x, weight, layer.bias, (*strides, 1))

    return convolve


def _fold_columns(x: Tensor, step: int) -> Tensor:
    """(N, C, T, H, W) to (N, step * C, T, H, W / step); a view if channels are last in memory."""
    last = x.permute(0, 2, 3, 4, 1)
    folded = last.reshape(*last.shape[:3], last.shape[3] // step, step * last.shape[4])
    return folded.permute(0, 4, 1, 2, 3)
