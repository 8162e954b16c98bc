"""The eight methods as a reader of Captum's documentation would call them: its defaults, float32.

Each function takes a module (N, 3, T, H, W) -> (N,) probabilities, a clip and a baseline
(3, T, H, W) and the settings of `vad_helpers.attribution.METHODS`, and gives a map (T, H, W).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from captum._utils.models.linear_model import SkLearnLasso
from captum.attr import (
    GradientShap,
    GuidedBackprop,
    IntegratedGradients,
    KernelShap,
    Lime,
    NoiseTunnel,
    Occlusion,
)
from captum.attr._core.lime import get_exp_kernel_similarity_function
from torch import Tensor, nn

from vad_helpers.attribution import superpixels
from vad_helpers.model.i3d import InceptionI3d, SameMaxPool3d, same_padding


class StockMaxPool3d(nn.Module):
    """Max pooling as PyTorch has it, on an input padded like TensorFlow's "SAME"."""

    def __init__(self, pool: nn.MaxPool3d) -> None:
        super().__init__()
        self.pool = nn.MaxPool3d(pool.kernel_size, pool.stride)

    def forward(self, x: Tensor) -> Tensor:
        """Pool (N, C, T, H, W)."""
        pads = same_padding(x.shape[2:], self.pool.kernel_size, self.pool.stride)
        return self.pool(F.pad(x, pads, value=float("-inf")))


def stock(network: InceptionI3d) -> InceptionI3d:
    """The network as others have it: this project's pooling, which is faster, taken out again."""
    network = copy.deepcopy(network)
    for block in list(network.modules()):
        for name, layer in block.named_children():
            if isinstance(layer, SameMaxPool3d):
                setattr(block, name, StockMaxPool3d(layer))
    return network


class AnomalyProbability(nn.Module):
    """Softmax probability of class 1 of a network that gives logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, clips: Tensor) -> Tensor:
        """Map (N, 3, T, H, W) to (N,)."""
        return self.network(clips).softmax(dim=1)[:, 1]


def ig(
    model: nn.Module, clip: Tensor, baseline: Tensor, *, n_steps: int, channels: str = "sum"
) -> Tensor:
    """Integrated Gradients; one point at a time, for all at once do not fit into memory."""
    found = IntegratedGradients(model).attribute(
        clip[None], baselines=baseline[None], n_steps=n_steps, internal_batch_size=1
    )
    return _one_channel(found[0], channels)


def _one_channel(attribution: Tensor, channels: str) -> Tensor:
    return (attribution.abs() if channels == "abs" else attribution).sum(dim=0)


def ig_smoothgrad(
    model: nn.Module,
    clip: Tensor,
    baseline: Tensor,
    *,
    n_steps: int,
    n_samples: int,
    sigma: float,
    channels: str = "sum",
    noise: str = "channels",
    noisy_baseline: bool = False,
) -> Tensor:
    """SmoothGrad over Integrated Gradients; one noisy copy at a time, for the same reason."""
    if noise != "channels" or noisy_baseline:
        raise NotImplementedError("Captum's NoiseTunnel draws every channel, and the clip alone")
    found = NoiseTunnel(IntegratedGradients(model)).attribute(
        clip[None],
        nt_type="smoothgrad",
        nt_samples=n_samples,
        nt_samples_batch_size=1,
        stdevs=sigma,
        baselines=baseline[None],
        n_steps=n_steps,
        internal_batch_size=1,
    )
    return _one_channel(found[0], channels)


def guided_backprop(
    model: nn.Module, clip: Tensor, baseline: Tensor, *, channels: str = "sum"
) -> Tensor:
    """Guided Backpropagation."""
    found = GuidedBackprop(model).attribute(clip[None].clone().requires_grad_())
    return _one_channel(found[0], channels)


def gradient_shap(
    model: nn.Module,
    clip: Tensor,
    baseline: Tensor,
    *,
    n_samples: int,
    sigma: float,
    channels: str = "sum",
) -> Tensor:
    """GradientSHAP."""
    found = GradientShap(model).attribute(
        clip[None], baselines=baseline[None], n_samples=n_samples, stdevs=sigma
    )
    return _one_channel(found[0], channels)


def lime(
    model: nn.Module,
    clip: Tensor,
    baseline: Tensor,
    *,
    alpha: float,
    kernel_width: float,
    **settings: Any,
) -> Tensor:
    """LIME on superpixels; other settings as `kernel_shap`."""
    explainer = Lime(
        model,
        interpretable_model=SkLearnLasso(alpha=alpha, max_iter=20_000),
        similarity_func=get_exp_kernel_similarity_function("euclidean", kernel_width=kernel_width),
    )
    return kernel_shap(explainer, clip, baseline, **settings)


def kernel_shap(
    model: nn.Module | Lime,
    clip: Tensor,
    baseline: Tensor,
    *,
    n_samples: int,
    n_segments: int,
    compactness: float,
    relative: bool = False,
    paired: bool = False,
    agreement: float = 0.0,
) -> Tensor:
    """KernelSHAP on superpixels, or another explainer of its kind."""
    if relative or paired or agreement:
        raise NotImplementedError("Captum scales no penalty, has no pairs, doubles no samples")
    explainer = model if isinstance(model, Lime) else KernelShap(model)
    labels = superpixels.slic(clip, n_segments=n_segments, compactness=compactness)
    found = explainer.attribute(
        clip[None],
        baselines=baseline[None],
        feature_mask=torch.from_numpy(labels)[None, None].to(clip.device),
        n_samples=n_samples,
    )
    return found[0, 0]


def occlusion(
    model: nn.Module,
    clip: Tensor,
    baseline: Tensor,
    *,
    window: tuple[int, int, int],
    stride: tuple[int, int, int],
) -> Tensor:
    """Occlusion."""
    with torch.no_grad():
        found = Occlusion(model).attribute(
            clip[None],
            sliding_window_shapes=(len(clip), *window),
            strides=(len(clip), *stride),
            baselines=baseline[None],
        )
    return found[0, 0]


METHODS: dict[str, Callable[..., Tensor]] = {
    "ig": ig,
    "ig_smoothgrad": ig_smoothgrad,
    "guided_backprop": guided_backprop,
    "gradient_shap": gradient_shap,
    "kernel_shap": kernel_shap,
    "lime": lime,
    "occlusion_lp": occlusion,
    "occlusion_sp": occlusion,
}
