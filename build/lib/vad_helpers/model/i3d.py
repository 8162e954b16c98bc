"""Inception-I3D: Inception-v1 with its 2-D filters inflated into time (RGB stream).

Conventions
-----------
- The network is a chain of stages, `STAGES`, then a head: pooling, dropout, `logits`, to which a
  softmax is applied by whoever wants probabilities.
- Names in the state dict are those that PyTorch checkpoints of I3D commonly use:
  `Conv3d_1a_7x7.conv3d.weight`, `Mixed_3b.b1a.bn.running_mean`, `logits.conv3d.bias`.
- Padding is TensorFlow's "SAME" (`same_pads`), which the published weights were trained with.
- Each use of a ReLU is an `nn.ReLU` of its own and none works in place: Guided Backpropagation
  hooks modules and would silently miss functional or shared ones.

References
----------
J. Carreira and A. Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics
Dataset", CVPR 2017. C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from vad_helpers.inference.chain import (
    Branches,
    Chain,
    Pads,
    Stage,
    Triple,
    convolve_padded,
    flat_pads,
    layer_stage,
)

BN_EPS = 1e-3

# Of a convolution: channels, kernel and stride. Of a pooling: kernel and stride. Of an Inception
# block: channels of its convolutions b0, b1a, b1b, b2a, b2b, b3b.
LAYERS: dict[str, tuple] = {
    "Conv3d_1a_7x7": (64, (7, 7, 7), (2, 2, 2)),
    "MaxPool3d_2a_3x3": ((1, 3, 3), (1, 2, 2)),
    "Conv3d_2b_1x1": (64, (1, 1, 1), (1, 1, 1)),
    "Conv3d_2c_3x3": (192, (3, 3, 3), (1, 1, 1)),
    "MaxPool3d_3a_3x3": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "MaxPool3d_4a_3x3": ((3, 3, 3), (2, 2, 2)),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "MaxPool3d_5a_2x2": ((2, 2, 2), (2, 2, 2)),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
STAGES: tuple[str, ...] = tuple(LAYERS)


def scaled_channels(channels: int, width: float) -> int:
    """Channels at a width: `channels * width` to the nearest multiple of 4, at least 8."""
    return max(8, 4 * round(channels * width / 4))


def same_pads(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> Pads:
    """Padding (before, after) of each axis for ceil(size / stride) outputs, an odd one after."""
    axes = zip(size, kernel, stride, strict=True)
    totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in axes]
    return tuple((total // 2, total - total // 2) for total in totals)  # type: ignore[return-value]


def same_padding(size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]) -> list[int]:
    """`same_pads` in the order of `torch.nn.functional.pad`: the *last* axis first."""
    return flat_pads(same_pads(size, kernel, stride))


def _fixed_padding(kernel: Triple, stride: Triple) -> Triple | None:
    """Padding that is "SAME" at every input size, so that PyTorch can apply it itself, or None."""
    fixed = all(s == 1 and k % 2 == 1 for k, s in zip(kernel, stride, strict=True))
    return tuple(k // 2 for k in kernel) if fixed else None  # type: ignore[return-value]


class SameConv3d(nn.Conv3d):
    """Convolution without dilation or groups, padded with zeros as TensorFlow's "SAME"."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Triple, stride: Triple, *, bias: bool = False
    ) -> None:
        padding = _fixed_padding(kernel, stride)
        super().__init__(inputs, outputs, kernel, stride, padding or 0, bias=bias)
        self.pads_itself = padding is not None

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (N, inputs, T, H, W)."""
        if not self.pads_itself:
            pads = same_padding(x.shape[2:], self.kernel_size, self.stride)
            return convolve_padded(self)(F.pad(x, pads))
        if x.shape[2] <= 2 and self.kernel_size[0] == 3:
            # In bf16 on some CPUs (torch 2.13 with oneDNN) a 3x3x3 convolution that pads so few
            # steps itself reads uninitialised memory: two steps (avx512_bf16), one (AMX).
            x = F.pad(x, (0, 0, 0, 0, 1, 1))
            return F.conv3d(x, self.weight, self.bias, self.stride, (0, *self.padding[1:]))
        return super().forward(x)


class SameMaxPool3d(nn.MaxPool3d):
    """Max pooling whose padding never wins, with the output size of TensorFlow's "SAME"."""

    def __init__(self, kernel: Triple, stride: Triple) -> None:
        padding = _fixed_padding(kernel, stride)
        super().__init__(kernel, stride, padding or 0)
        self.pads_itself = padding is not None

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, T, H, W)."""
        needs_gradient = torch.is_grad_enabled() and x.requires_grad
        if not self.pads_itself or not needs_gradient:
            pads = same_padding(x.shape[2:], self.kernel_size, self.stride)
            if any(pads):
                x = F.pad(x, pads, value=float("-inf"))
        return super().forward(x) if needs_gradient else self._pool_by_axis(x)

    def stages(self) -> tuple[Stage]:
        """The pooling as the stage of a chain."""
        kernel, stride = self.kernel_size, self.stride
        pads = functools.partial(same_pads, kernel=kernel, stride=stride)
        return (Stage(self, self._pool_by_axis, kernel, stride, pads, float("-inf")),)

    def _pool_by_axis(self, x: Tensor) -> Tensor:
        """The same maxima, axis by axis: twice as fast on CPUs, though backward would be slower."""
        for axis, (size, step) in enumerate(zip(self.kernel_size, self.stride, strict=True), 2):
            before, reach = (slice(None),) * axis, x.shape[axis] - size + 1
            parts = [x[(*before, slice(start, start + reach, step))] for start in range(size)]
            x = functools.reduce(torch.maximum, parts)
        return x


class Unit3d(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Triple = (1, 1, 1), stride: Triple = (1, 1, 1)
    ) -> None:
        super().__init__()
        self.conv3d = SameConv3d(inputs, outputs, kernel, stride)
        self.bn = nn.BatchNorm3d(outputs, eps=BN_EPS)
        self.relu = nn.ReLU(inplace=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, T, H, W) to (N, outputs, T', H', W')."""
        return self.relu(self.bn(self.conv3d(x)))

    def stages(self) -> tuple[Stage, ...]:
        """Convolution, batch norm and activation as stages of a chain."""
        conv, kernel, stride = self.conv3d, self.conv3d.kernel_size, self.conv3d.stride
        pads = functools.partial(same_pads, kernel=kernel, stride=stride)
        grey = not conv.pads_itself  # then it convolves by `convolve_padded`
        convolution = Stage(conv, convolve_padded(conv), kernel, stride, pads, 0.0, True, grey)
        folded = isinstance(self.bn, nn.Identity)
        return (convolution, *(() if folded else (layer_stage(self.bn),)), layer_stage(self.relu))


class InceptionBlock(nn.Module):
    """Four parallel branches, concatenated along the channels.

    `b0`: 1x1x1; `b1a`, `b1b`: 1x1x1 then 3x3x3; `b2a`, `b2b`: the same, narrower; `b3a`, `b3b`:
    3x3x3 max pooling then 1x1x1.
    """

    def __init__(self, inputs: int, channels: Sequence[int]) -> None:
        super().__init__()
        c0, c1a, c1b, c2a, c2b, c3b = channels
        self.b0 = Unit3d(inputs, c0)
        self.b1a = Unit3d(inputs, c1a)
        self.b1b = Unit3d(c1a, c1b, (3, 3, 3))
        self.b2a = Unit3d(inputs, c2a)
        self.b2b = Unit3d(c2a, c2b, (3, 3, 3))
        self.b3a = SameMaxPool3d((3, 3, 3), (1, 1, 1))
        self.b3b = Unit3d(inputs, c3b)
        self.out_channels = c0 + c1b + c2b + c3b

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, T, H, W) to (N, out_channels, T, H, W)."""
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.b3a(x))]
        return torch.cat(branches, dim=1)

    def stages(self) -> tuple[Branches]:
        """The block as the stage of a chain."""
        lines = ((self.b0,), (self.b1a, self.b1b), (self.b2a, self.b2b), (self.b3a, self.b3b))
        return (Branches(tuple(tuple(s for m in line for s in m.stages()) for line in lines)),)


class HeadPool(nn.Module):
    """Average over all positions and over windows of two steps in time (one if there is one).

    At 224x224 pixels this is the original's 2x7x7 average pooling; elsewhere it stays global in
    space, so that the logits do not depend on where in the frame something is.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, T, H, W) to (N, C, max(T - 1, 1), 1, 1)."""
        x = x.mean(dim=(3, 4), keepdim=True)
        return F.avg_pool3d(x, (min(2, x.shape[2]), 1, 1), stride=1)


class Logits(nn.Module):
    """The classifier: a 1x1x1 convolution with a bias, then the mean over time."""

    def __init__(self, inputs: int, num_classes: int) -> None:
        super().__init__()
        self.conv3d = SameConv3d(inputs, num_classes, (1, 1, 1), (1, 1, 1), bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, inputs, T, 1, 1) to (N, num_classes)."""
        return self.conv3d(x).mean(dim=(2, 3, 4))


class InceptionI3d(nn.Module):
    """Inception-I3D for clips of any length and frame size.

    Parameters
    ----------
    num_classes : int, default 2
        Number of logits; with two, index 1 is "anomalous".
    width : float, default 1.0
        Scales the channels of every convolution (`scaled_channels`). 1.0 is the published
        network; a narrow one trains in minutes on a CPU.
    dropout : float, default 0.5
        Share of pooled features dropped before the classifier, in training mode only.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    Notes
    -----
    Weights are drawn from PyTorch's global generator (He normal, classifier N(0, 0.01)): seed it,
    or fork it, for a reproducible start.
    """

    keeps_clips_apart = True
    """In evaluation mode, no layer looks at the other clips of a batch."""

    def __init__(self, num_classes: int = 2, width: float = 1.0, *, dropout: float = 0.5) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"num_classes is {num_classes}: give a whole number of at least 1")
        if not 0 < width < float("inf"):
            raise ValueError(f"width is {width}: give a positive factor, 1.0 for the full network")
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is {dropout}: give a share in [0, 1)")
        self.num_classes = num_classes
        self.width = float(width)
        channels = 3
        for name, layer in LAYERS.items():
            if name.startswith("MaxPool3d"):
                module: nn.Module = SameMaxPool3d(*layer)
            elif name.startswith("Conv3d"):
                outputs = scaled_channels(layer[0], self.width)
                module, channels = Unit3d(channels, outputs, *layer[1:]), outputs
            else:
                module = InceptionBlock(channels, [scaled_channels(c, self.width) for c in layer])
                channels = module.out_channels
            self.add_module(name, module)
        self.avg_pool = HeadPool()
        self.dropout = nn.Dropout(dropout)
        self.logits = Logits(channels, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        # Small logits: training starts near p = .5 instead of a random, confident mistake.
        nn.init.normal_(self.logits.conv3d.weight, std=0.01)
        nn.init.zeros_(self.logits.conv3d.bias)

    def head(self, features: Tensor) -> Tensor:
        """Logits (N, num_classes) of the last stage's output (N, C, T', H', W')."""
        features = features.to(self.logits.conv3d.weight.dtype)
        return self.logits(self.dropout(self.avg_pool(features)))

    def for_inference(self, dtype: torch.dtype | None = None) -> InceptionI3d:
        """Copy for inference: evaluation mode, batch norms folded into the convolutions.

        Parameters
        ----------
        dtype : torch.dtype, optional
            Type of the convolutions, such as `torch.bfloat16`; the network's own by default. The
            classifier keeps at least float32: logits of half precision would round away the
            differences that explanations are made of.

        Returns
        -------
        InceptionI3d
            On the same device, without gradients to its weights. It gives the network's logits to
            rounding, is no longer trainable and does not load the network's state dict.
        """
        network = copy.deepcopy(self).eval().requires_grad_(False)
        for module in network.modules():
            if isinstance(module, Unit3d) and isinstance(module.bn, nn.BatchNorm3d):  # else folded
                module.conv3d = fuse_conv_bn_eval(module.conv3d, module.bn)
                module.bn = nn.Identity()
        for module in network.children():
            if module is not network.logits:
                module.to(dtype=dtype, memory_format=torch.channels_last_3d)
        network.logits.to(torch.promote_types(network.logits.conv3d.weight.dtype, torch.float32))
        return network

    def chain(self) -> Chain:
        """The network as a chain of local stages, for inference: `vad_helpers.inference.chain`."""
        stages = (stage for name in STAGES for stage in self.get_submodule(name).stages())
        return Chain(tuple(stages), self.head)

    def forward(self, x: Tensor) -> Tensor:
        """Logits of a batch of clips.

        Parameters
        ----------
        x : Tensor (N, 3, T, H, W)
            Normalised clips, T, H and W at least 1.

        Returns
        -------
        Tensor (N, num_classes)

        Raises
        ------
        ValueError
            If `x` has another shape or type.
        """
        if x.ndim != 5 or x.shape[1] != 3 or 0 in x.shape:
            raise ValueError(
                f"clips have shape {tuple(x.shape)}: expected (N, 3, T, H, W), none of them 0; "
                "add the batch axis with clip[None] or repeat grey to 3 channels"
            )
        if not x.is_floating_point():
            raise ValueError(f"clips are {x.dtype}: expected floats; normalise them first")
        for name in STAGES:
            x = self.get_submodule(name)(x)
        return self.head(x)
