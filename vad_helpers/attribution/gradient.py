"""Gradient methods: what a small change of each voxel does to the probability.

Gradients are summed over the channels. The functions follow the signature in
`vad_helpers.attribution.spec`; users call them through `vad_helpers.attribution.explain`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from captum.attr import GradientShap, GuidedBackprop, IntegratedGradients, NoiseTunnel

from vad_helpers.attribution import checks
from vad_helpers.attribution.probability import Probability
from vad_helpers.attribution.spec import MethodSpec
from vad_helpers.errors import InputError


def integrated_gradients(
    probability: Probability, clip: torch.Tensor, baseline: torch.Tensor, *, n_steps: int
) -> torch.Tensor:
    """Integrate the gradient from baseline to clip (Gauss-Legendre), times their difference.

    Parameters
    ----------
    probability, clip, baseline
        As in `vad_helpers.attribution.spec`.
    n_steps : int
        Points on the straight line, at least 1.

    Returns
    -------
    torch.Tensor
        (T, H, W). For enough steps it sums to p(clip) - p(baseline).

    References
    ----------
    Sundararajan, Taly & Yan, Axiomatic attribution for deep networks, ICML 2017.
    """
    gradients = IntegratedGradients(probability).attribute(
        clip[None],
        baselines=baseline[None],
        n_steps=n_steps,
        internal_batch_size=probability.batch_size,
    )
    return gradients[0].sum(dim=0)


def smooth_integrated_gradients(
    probability: Probability,
    clip: torch.Tensor,
    baseline: torch.Tensor,
    *,
    n_steps: int,
    n_samples: int,
    sigma: float,
) -> torch.Tensor:
    """Average Integrated Gradients over noisy copies of the clip (SmoothGrad).

    Parameters
    ----------
    probability, clip, baseline
        As in `vad_helpers.attribution.spec`. The baseline gets no noise.
    n_steps : int
        Points on each straight line, at least 1.
    n_samples : int
        Noisy copies, at least 1.
    sigma : float
        Standard deviation of the noise in normalised units, drawn for every value of every
        channel on its own.

    Returns
    -------
    torch.Tensor
        (T, H, W).

    References
    ----------
    Smilkov et al., SmoothGrad: removing noise by adding noise, arXiv:1706.03825, 2017.
    """
    gradients = NoiseTunnel(IntegratedGradients(probability)).attribute(
        clip[None],
        nt_type="smoothgrad",
        nt_samples=n_samples,
        # All copies at once, the default, would hold n_samples times the memory.
        nt_samples_batch_size=1,
        stdevs=sigma,
        baselines=baseline[None],
        n_steps=n_steps,
        internal_batch_size=probability.batch_size,
    )
    return gradients[0].sum(dim=0)


def guided_backprop(
    probability: Probability, clip: torch.Tensor, baseline: None = None
) -> torch.Tensor:
    """Back-propagate the probability, passing only positive gradients through every ReLU.

    Parameters
    ----------
    probability, clip
        As in `vad_helpers.attribution.spec`. ReLUs must be `torch.nn.ReLU` modules: functional
        ones cannot be hooked and pass plain gradients.
    baseline : None
        Not used.

    Returns
    -------
    torch.Tensor
        (T, H, W).

    Raises
    ------
    InputError
        If the model is no module, or no `torch.nn.ReLU` took part in its forward pass.

    References
    ----------
    Springenberg et al., Striving for simplicity: the all convolutional net, ICLR workshop 2015.
    """
    if not isinstance(probability.model, torch.nn.Module):
        raise InputError(
            "guided_backprop needs a torch.nn.Module, whose ReLUs it can hook; "
            f"a {type(probability.model).__name__} was given"
        )
    used: list[torch.nn.Module] = []
    handles = [
        module.register_forward_hook(lambda module, *_: used.append(module))
        for module in probability.modules()
        if isinstance(module, torch.nn.ReLU)
    ]
    try:
        gradients = _guided_gradients(probability, clip)
    finally:
        for handle in handles:
            handle.remove()
    if not used:
        raise InputError(
            "guided_backprop found no torch.nn.ReLU in use: functional ReLUs cannot be hooked and "
            "would pass plain gradients; make them torch.nn.ReLU modules"
        )
    return gradients.sum(dim=0)


def _guided_gradients(probability: Probability, clip: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        # Captum announces its hooks on every call; it removes them itself.
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        explained = clip[None].clone().requires_grad_()
        return GuidedBackprop(probability).attribute(explained)[0]


def gradient_shap(
    probability: Probability,
    clip: torch.Tensor,
    baseline: torch.Tensor,
    *,
    n_samples: int,
    sigma: float,
) -> torch.Tensor:
    """Average the gradient at random points between baseline and clip, times their difference.

    Parameters
    ----------
    probability, clip, baseline
        As in `vad_helpers.attribution.spec`. One baseline is used, not a distribution of them.
    n_samples : int
        Random points, at least 1. They go through the model together, whatever the batch size,
        so memory grows with them.
    sigma : float
        Standard deviation of noise added to the clip, in normalised units.

    Returns
    -------
    torch.Tensor
        (T, H, W).

    References
    ----------
    Lundberg & Lee, A unified approach to interpreting model predictions, NeurIPS 2017.
    """
    gradients = GradientShap(probability).attribute(
        clip[None], baselines=baseline[None], n_samples=n_samples, stdevs=sigma
    )
    return gradients[0].sum(dim=0)


def _check_ig(settings: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    checks.at_least("ig", settings, n_steps=1)


def _check_smooth(settings: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    checks.at_least("ig_smoothgrad", settings, n_steps=1, n_samples=1, sigma=0)


def _check_shap(settings: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    checks.at_least("gradient_shap", settings, n_samples=1, sigma=0)


SPECS = (
    MethodSpec(
        key="ig",
        name="Integrated Gradients",
        family="gradient",
        attribute=integrated_gradients,
        model_calls=lambda settings, shape, n_segments: settings["n_steps"],
        settings={"n_steps": 30},
        check=_check_ig,
        citation="sundararajan2017axiomatic",
        reference="M. Sundararajan, A. Taly, Q. Yan: Axiomatic attribution for deep networks. "
        "ICML, 2017.",
    ),
    MethodSpec(
        key="ig_smoothgrad",
        name="IG + SmoothGrad",
        family="gradient",
        attribute=smooth_integrated_gradients,
        model_calls=lambda settings, shape, n_segments: settings["n_steps"] * settings["n_samples"],
        settings={"n_steps": 30, "n_samples": 5, "sigma": 1.0},
        check=_check_smooth,
        citation="smilkov2017smoothgrad",
        reference="D. Smilkov, N. Thorat, B. Kim, F. Viégas, M. Wattenberg: SmoothGrad: removing "
        "noise by adding noise. arXiv:1706.03825, 2017.",
    ),
    MethodSpec(
        key="guided_backprop",
        name="Guided Backpropagation",
        family="gradient",
        attribute=guided_backprop,
        model_calls=lambda settings, shape, n_segments: 1,
        uses_baseline=False,
        citation="springenberg2015striving",
        reference="J. T. Springenberg, A. Dosovitskiy, T. Brox, M. Riedmiller: Striving for "
        "simplicity: the all convolutional net. ICLR workshop, 2015.",
    ),
    MethodSpec(
        key="gradient_shap",
        name="GradientSHAP",
        family="gradient",
        attribute=gradient_shap,
        model_calls=lambda settings, shape, n_segments: settings["n_samples"],
        settings={"n_samples": 5, "sigma": 0.0},
        check=_check_shap,
        citation="lundberg2017unified",
        reference="S. M. Lundberg, S.-I. Lee: A unified approach to interpreting model "
        "predictions. NeurIPS, 2017.",
    ),
)
