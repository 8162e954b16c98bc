"""Inflation: the weights of a 2-D Inception-v1 as those of an I3D.

Conventions
-----------
- The 2-D state is in the layout of torchvision's GoogLeNet (whose third branches are 3x3, as in
  the I3D). It expects images in [-1, 1].
- Filters are cubic afterwards: as deep in time as they are wide.

References
----------
J. Carreira and A. Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics
Dataset", CVPR 2017 (section 2.4.1: bootstrapping 3-D filters from 2-D ones).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from vad_helpers.errors import InputError

_STEM_2D = {"conv1": "Conv3d_1a_7x7", "conv2": "Conv3d_2b_1x1", "conv3": "Conv3d_2c_3x3"}
_BLOCKS_2D = {
    "3a": "3b", "3b": "3c", "4a": "4b", "4b": "4c", "4c": "4d", "4d": "4e", "4e": "4f",
    "5a": "5b", "5b": "5c",
}  # fmt: skip
_BRANCHES_2D = {
    "1": "b0", "2.0": "b1a", "2.1": "b1b", "3.0": "b2a", "3.1": "b2b", "4.1": "b3b",
}  # fmt: skip
_STEM_KEY = re.compile(r"(conv[123])\.(conv|bn)\.(\w+)")
_BLOCK_KEY = re.compile(r"inception(\d[a-e])\.branch([\d.]+)\.(conv|bn)\.(\w+)")


def is_inception_2d(names: Iterable[str]) -> bool:
    """Whether these are names of a 2-D Inception-v1 in torchvision's GoogLeNet layout."""
    return any(_name_in_3d(name) is not None and name.endswith(".conv.weight") for name in names)


def inflate(state_2d: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Turn the weights of a 2-D Inception-v1 into those of an I3D.

    Each filter is repeated along time and divided by its depth, so that a video which repeats one
    image gives the 2-D network's activations (away from the padding in time).

    Parameters
    ----------
    state_2d : mapping of str to Tensor
        In the layout of torchvision's GoogLeNet: `conv1.conv.weight` (64, 3, 7, 7),
        `inception3a.branch2.1.bn.running_mean` and so on. Expects images in [-1, 1].

    Returns
    -------
    dict of str to Tensor
        In the layout of `InceptionI3d`, convolutions (out, in, k, k, k). Tensors without a
        counterpart (`fc.*`, `aux1.*`, `aux2.*`) keep their names, so that `load_into` reports
        them as ignored.

    Raises
    ------
    InputError
        If no tensor is one of such a network, or a filter is not square in 2-D.

    References
    ----------
    J. Carreira and A. Zisserman, CVPR 2017, section 2.4.1.
    """
    if not is_inception_2d(state_2d):
        raise InputError(
            f"no 2-D Inception-v1 weights among {len(state_2d)} tensors: expected torchvision's "
            "GoogLeNet layout (conv1.conv.weight, inception3a.branch1.conv.weight, ...)"
        )
    state: dict[str, Tensor] = {}
    for name, tensor in state_2d.items():
        name_3d = _name_in_3d(name)
        if name_3d is not None and name_3d.endswith(".conv3d.weight"):
            tensor = _inflate_filter(name, tensor)
        state[name_3d or name] = tensor
    return state


def _inflate_filter(name: str, weight: Tensor) -> Tensor:
    if weight.ndim != 4 or weight.shape[2] != weight.shape[3]:
        raise InputError(
            f"{name} has shape {tuple(weight.shape)}: expected a square 2-D filter (out, in, k, k)"
        )
    depth = weight.shape[-1]
    return weight.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth


def _name_in_3d(name: str) -> str | None:
    """Name in an I3D of a tensor of GoogLeNet; None if it has no counterpart."""
    if match := _STEM_KEY.fullmatch(name):
        stem, kind, leaf = match.groups()
        unit: str | None = _STEM_2D[stem]
    elif match := _BLOCK_KEY.fullmatch(name):
        block, branch, kind, leaf = match.groups()
        if block not in _BLOCKS_2D or branch not in _BRANCHES_2D:
            return None
        unit = f"Mixed_{_BLOCKS_2D[block]}.{_BRANCHES_2D[branch]}"
    else:
        return None
    return f"{unit}.{'conv3d' if kind == 'conv' else 'bn'}.{leaf}"
