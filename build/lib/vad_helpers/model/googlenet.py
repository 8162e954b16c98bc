"""BVLC GoogLeNet, a 2-D Inception-v1 in Caffe's layout, as the start of an I3D.

Conventions
-----------
- Names are Caffe's: `conv1_7x7_s2.weight` (out, in, k, k), `inception_3a_3x3_reduce.bias` (out,).
- It sees blue, green, red in 0 to 255, minus `MEAN`; what is given here is RGB, in [-1, 1].
- It has biases, and local response normalisation twice, where an I3D has batch norms: these give
  each channel, ahead of its ReLU, the mean and deviation that it has in the 2-D network.

References
----------
C. Szegedy et al., "Going Deeper with Convolutions", CVPR 2015.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vad_helpers.errors import InputError

MEAN = (104.0, 117.0, 123.0)  # of blue, green and red
BLOCKS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
_BRANCHES = {"1x1": "1", "3x3_reduce": "2.0", "3x3": "2.1"}
_BRANCHES |= {"5x5_reduce": "3.0", "5x5": "3.1", "pool_proj": "4.1"}
UNITS = {"conv1_7x7_s2": "conv1", "conv2_3x3_reduce": "conv2", "conv2_3x3": "conv3"} | {
    f"inception_{block}_{name}": f"inception{block}.branch{other}"
    for block in BLOCKS
    for name, other in _BRANCHES.items()
}
"""Convolutions by Caffe's names -> names in torchvision's GoogLeNet."""
TENSORS = {f"{name}.{leaf}" for name in UNITS for leaf in ("weight", "bias")}
# A 5x5 kernel's outer ring goes into the nearest taps of a 3x3 one: FOLD @ kernel @ FOLD.T.
FOLD = torch.tensor([[1.0, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 1, 1]])


def features(state: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Run the 2-D network on images (N, 3, H, W): features (N, 1024, h, w), whose mean it
    classifies, and by name what each convolution gives without its bias (N, out, h, w)."""
    before = {}

    def unit(x: Tensor, name: str, stride: int = 1) -> Tensor:
        kernel = state[f"{name}.weight"]
        before[name] = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
        return (before[name] + state[f"{name}.bias"].view(-1, 1, 1)).relu()

    halve = partial(F.max_pool2d, kernel_size=3, stride=2, ceil_mode=True)
    normalise = partial(F.local_response_norm, size=5, alpha=1e-4, beta=0.75, k=1.0)
    x = 127.5 * (images.flip(1) + 1) - images.new_tensor(MEAN).view(3, 1, 1)
    x = normalise(halve(unit(x, "conv1_7x7_s2", stride=2)))
    x = halve(normalise(unit(unit(x, "conv2_3x3_reduce"), "conv2_3x3")))
    for block in BLOCKS:
        if block in ("4a", "5a"):
            x = halve(x)
        name = f"inception_{block}_"
        lines = [unit(x, f"{name}1x1")]
        lines += [unit(unit(x, f"{name}{k}_reduce"), f"{name}{k}") for k in ("3x3", "5x5")]
        lines += [unit(F.max_pool2d(x, 3, stride=1, padding=1), f"{name}pool_proj")]
        x = torch.cat(lines, dim=1)
    return x, before


def as_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The network as `weights.inflate` expects one: names, conv1 for images in [-1, 1], kernels
    of 5x5 folded to 3x3, and batch norms that add the bias until they are measured."""
    found = {name: tensor for name, tensor in state.items() if name not in TENSORS}
    for name, other in UNITS.items():
        kernel, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        if name == "conv1_7x7_s2":  # the shift, 127.5 - MEAN, is left to the running mean
            kernel = 127.5 * kernel.flip(1)
        elif kernel.shape[-1] == 5:
            kernel = FOLD @ kernel @ FOLD.T
        found |= {f"{other}.conv.weight": kernel, f"{other}.bn.bias": bias}
        found |= {f"{other}.bn.running_mean": torch.zeros_like(bias)}
        found |= {f"{other}.bn.{leaf}": torch.ones_like(bias) for leaf in ("weight", "running_var")}
    return found


@torch.no_grad()
def matched_norms(state: Mapping[str, Tensor], clips: Sequence[Tensor]) -> dict[str, Tensor]:
    """Scale and shift of the batch norms (torchvision's names): each channel's deviation and mean,
    its bias added, in the 2-D network on three frames of each clip (3, T, H, W)."""
    moments: dict[str, list[Tensor]] = {name: [] for name in UNITS}
    for clip in clips:
        if clip.abs().max() > 1.001:
            raise InputError(
                f"a clip reaches {clip.abs().max():.3g}, but BVLC GoogLeNet starts from clips in "
                "[-1, 1]: give mean=0.5 and std=0.5, or other initial weights"
            )
        frames = clip[:, torch.linspace(0, clip.shape[1] - 1, 3).long()].transpose(0, 1)
        for name, x in features(state, frames)[1].items():
            x = x.double()  # for the difference of squares
            moments[name].append(torch.stack([x.mean((0, 2, 3)), x.square().mean((0, 2, 3))]))
    norms = {}
    for name, found in moments.items():
        mean, square = torch.stack(found).mean(dim=0)
        norms[f"{UNITS[name]}.bn.weight"] = (square - mean**2).clamp(min=0).sqrt().float()
        norms[f"{UNITS[name]}.bn.bias"] = mean.float() + state[f"{name}.bias"]
    return norms
