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


def _no_pads(size: Triple) -> Pads:
    return NO_PADS


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
    """

    whole: Callable[[Tensor], Tensor]
    valid: Callable[[Tensor], Tensor]
    kernel: Triple = (1, 1, 1)
    stride: Triple = (1, 1, 1)
    pads: Callable[[Triple], Pads] = _no_pads
    fill: float = 0.0
    affine: bool = False

    @property
    def elementwise(self) -> bool:
        """Whether an output value depends on the input values at its own position alone."""
        one = (1, 1, 1)
        return self.kernel == self.stride == one and self.pads(one) == NO_PADS


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
        first = self.stages[0] if self.stages else None
        return isinstance(first, Stage) and first.affine

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


def output_size(stage: Stage, size: Triple) -> Triple:
    """(T, H, W) of a stage's output for an input of (T, H, W)."""
    axes = zip(size, stage.pads(size), stage.kernel, stage.stride, strict=True)
    return tuple((n + before + after - k) // s + 1 for n, (before, after), k, s in axes)


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
        return _convolution(layer)
    if kind in (nn.MaxPool3d, nn.AvgPool3d):
        return _pooling(layer)
    raise InputError(
        f"a {type(layer).__name__} is no stage of a chain; give Conv3d, MaxPool3d, AvgPool3d or "
        "layers that work value by value, and put the rest into the head"
    )


def _convolution(layer: nn.Conv3d) -> Stage:
    numbers = not isinstance(layer.padding, str) and layer.padding_mode == "zeros"
    if not numbers or set(layer.dilation) != {1}:
        raise InputError(
            f"{layer} is no stage of a chain; its padding must be zeros, given in numbers, and "
            "its dilation 1"
        )
    return Stage(
        layer,
        convolve_padded(layer),
        tuple(layer.kernel_size),
        tuple(layer.stride),
        _constant((layer.padding[0],) * 2, (layer.padding[1],) * 2, (layer.padding[2],) * 2),
        affine=True,
    )


def convolve_padded(layer: nn.Conv3d) -> Callable[[Tensor], Tensor]:
    """The layer's convolution for an input that is padded already."""

    def convolve(x: Tensor) -> Tensor:
        if _columns_fold(layer, x):
            return _convolve_folded(layer, x)
        return F.conv3d(x, layer.weight, layer.bias, layer.stride, groups=layer.groups)

    return convolve


def _columns_fold(layer: nn.Conv3d, x: Tensor) -> bool:
    """Whether `_convolve_folded` is the faster way to the same result.

    CPUs multiply bf16 in tiles of many channels, which the three of an image leave empty: the
    first convolution of I3D takes a third of the time so. Float32 and gradients take more.
    """
    few = layer.groups == 1 and layer.in_channels < FEW_CHANNELS
    tiled = x.device.type == "cpu" and x.dtype == layer.weight.dtype == torch.bfloat16
    needs_gradient = torch.is_grad_enabled() and (x.requires_grad or layer.weight.requires_grad)
    return few and tiled and layer.stride[2] > 1 and not needs_gradient


def _convolve_folded(layer: nn.Conv3d, x: Tensor) -> Tensor:
    """The convolution with each run of `stride` columns as channels of one column."""
    step = layer.stride[2]
    width = (x.shape[-1] - layer.kernel_size[2]) // step + -(-layer.kernel_size[2] // step)
    x = _fold_columns(F.pad(x, (0, width * step - x.shape[-1])), step)
    weight = F.pad(layer.weight, (0, -layer.kernel_size[2] % step))
    return F.conv3d(x, _fold_columns(weight, step), layer.bias, (*layer.stride[:2], 1))


def _fold_columns(x: Tensor, step: int) -> Tensor:
    """(N, C, T, H, W) to (N, step * C, T, H, W / step); a view if channels are last in memory."""
    last = x.permute(0, 2, 3, 4, 1)
    folded = last.reshape(*last.shape[:3], last.shape[3] // step, step * last.shape[4])
    return folded.permute(0, 4, 1, 2, 3)


def _pooling(layer: nn.MaxPool3d | nn.AvgPool3d) -> Stage:
    kernel, stride, padding = map(_triple, (layer.kernel_size, layer.stride, layer.padding))
    is_max = isinstance(layer, nn.MaxPool3d)
    plain = not layer.ceil_mode and (_triple(layer.dilation) == (1, 1, 1) if is_max else True)
    if not plain or (not is_max and (any(padding) or layer.divisor_override)):
        raise InputError(
            f"{layer} is no stage of a chain; pool without ceil_mode and dilation, and average "
            "without padding and divisor_override"
        )
    pool = F.max_pool3d if is_max else F.avg_pool3d
    return Stage(
        layer,
        lambda x: pool(x, kernel, stride),
        kernel,
        stride,
        _constant(*((side, side) for side in padding)),
        float("-inf") if is_max else 0.0,
        affine=not is_max,
    )


def _constant(*pads: tuple[int, int]) -> Callable[[Triple], Pads]:
    return lambda size: pads


def _triple(value: int | Triple) -> Triple:
    return (value,) * 3 if isinstance(value, int) else tuple(value)
