"""Class activation maps: what one layer holds, weighted by what the answer would gain from it.

A (K, t, h, w) is the layer's output, g the gradient of the probability (of the logit in
`grad_cam_pp`) with respect to it. Each map is a sum over the K channels, enlarged by trilinear
interpolation to (T, H, W). `layer` names a module of the model as `named_modules` does, such as
"Mixed_5c"; its output must be (N, K, t, h, w).

The papers end with a ReLU. `grad_cam` and `hirescam` leave it out here: what speaks against the
class keeps its sign, and metrics take the positive part themselves. In `layercam` and `grad_cam_pp`
it is part of the definition: their maps are never negative.

`vad_helpers.attribution.registry` says what `probability` and `clip` are. InputError if the model
is a plain function, which has no layers, or `layer` is not as described.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError


def grad_cam(probability: Probability, clip: Tensor, baseline: None, *, layer: str) -> Tensor:
    """Weight every channel by its gradient's mean over time and space: sum of mean(g) A.

    References
    ----------
    Selvaraju et al., Grad-CAM: visual explanations from deep networks via gradient-based
    localization, ICCV 2017.
    """
    found, gradient = _at_layer(probability, clip, layer)
    return _enlarged(gradient.mean(dim=(1, 2, 3), keepdim=True) * found, clip)


def hirescam(probability: Probability, clip: Tensor, baseline: None, *, layer: str) -> Tensor:
    """Weight every value by its own gradient: sum of g A.

    The same as Grad-CAM where the gradient does not depend on the place, as behind the last
    convolution of a network that ends in a global average.

    References
    ----------
    Draelos & Carin, Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional
    neural networks, arXiv:2011.08891, 2020.
    """
    found, gradient = _at_layer(probability, clip, layer)
    return _enlarged(gradient * found, clip)


def layercam(probability: Probability, clip: Tensor, baseline: None, *, layer: str) -> Tensor:
    """Weight every value by its own gradient where that is positive: ReLU of sum of ReLU(g) A.

    References
    ----------
    Jiang et al., LayerCAM: exploring hierarchical class activation maps for localization, IEEE
    Transactions on Image Processing 30, 2021.
    """
    found, gradient = _at_layer(probability, clip, layer)
    return _enlarged(gradient.relu() * found, clip).relu()


def grad_cam_pp(probability: Probability, clip: Tensor, baseline: None, *, layer: str) -> Tensor:
    """Weight every channel by a weighted sum of its positive gradients: ReLU of sum of w A.

    w = sum of alpha ReLU(g), alpha = 1 / (2 + g sum(A)), sums over time and space. That is the
    paper's formula for a score exp(z), z the logit, with g = dz/dA, without the factor exp(z) and
    divided by g^2, so that no small number is needed in a denominator. It is exact where the
    network behind the layer is piecewise linear. For a probability the formula has poles.

    Raises
    ------
    InputError
        Also if the layer has negative values: it must lie behind a ReLU.

    References
    ----------
    Chattopadhay et al., Grad-CAM++: generalized gradient-based visual explanations for deep
    convolutional networks, WACV 2018.
    """
    found, gradient = _at_layer(probability, clip, layer, of_logit=True)
    if (found < 0).any():
        raise InputError(f"grad_cam_pp: {layer!r} has negative values; give a layer behind a ReLU")
    place = {"dim": (1, 2, 3), "keepdim": True}
    positive = gradient.relu()
    weights = (positive / (2 + positive * found.sum(**place))).sum(**place)
    return _enlarged(weights * found, clip).relu()


def _at_layer(
    probability: Probability, clip: Tensor, layer: str, *, of_logit: bool = False
) -> tuple[Tensor, Tensor]:
    """Output of a layer and the score's gradient there, (K, t, h, w), float32 at least."""
    model = probability.model
    modules = dict(model.named_modules()) if isinstance(model, torch.nn.Module) else {}
    if len(modules) < 2:
        raise InputError("class activation maps need a torch.nn.Module with layers; this has none")
    if layer not in modules or not layer:
        outer = ", ".join(name for name, _ in model.named_children())
        raise InputError(
            f"unknown layer: {layer!r}; give one of {outer}, or one inside them, such as "
            f"{list(modules)[-1]!r}"
        )
    kept: list[Tensor] = []

    def keep(module: torch.nn.Module, inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor) or output.ndim != 5:
            shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise InputError(f"layer {layer!r} gives {shape}; give a layer with (N, K, t, h, w)")
        # Nothing before the layer is differentiated; what follows may write into the copy alone.
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    with modules[layer].register_forward_hook(keep):
        score = (probability.logit if of_logit else probability)(clip[None])
    if len(kept) != 1:
        raise InputError(f"layer {layer!r} was used {len(kept)} times; give one that is used once")
    gradient = None
    if score.requires_grad:
        (gradient,) = torch.autograd.grad(score.sum(), kept, allow_unused=True)
    if gradient is None:
        raise InputError(f"the model's answer has no gradient with respect to layer {layer!r}")
    wide = torch.promote_types(gradient.dtype, torch.float32)
    return kept[0][0].detach().to(wide), gradient[0].to(wide)


def _enlarged(parts: Tensor, clip: Tensor) -> Tensor:
    """Sum over channels, (K, t, h, w), in the size of the clip: (T, H, W)."""
    coarse = parts.sum(dim=0)[None, None]
    return F.interpolate(coarse, size=clip.shape[1:], mode="trilinear", align_corners=False)[0, 0]
