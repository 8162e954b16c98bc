"""Gradient methods: what a small change of each voxel does to the probability.

`vad_helpers.attribution.registry` says what `probability`, `clip`, `baseline` and the maps are.
`channels="sum"` adds channels up with their signs, "abs" their absolute values, so that nothing
cancels and no map has a sign.
"""

from __future__ import annotations

import warnings
from contextlib import ExitStack

import numpy as np
import torch
from torch import Tensor

from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError


def integrated_gradients(
    probability: Probability, clip: Tensor, baseline: Tensor, *, n_steps: int, channels: str = "sum"
) -> Tensor:
    """Integrate the gradient from baseline to clip (Gauss-Legendre), times their difference.

    With "sum" and enough steps the map sums to p(clip) - p(baseline).

    Parameters
    ----------
    n_steps : int
        Points on the straight line, at least 1.

    References
    ----------
    Sundararajan, Taly & Yan, Axiomatic attribution for deep networks, ICML 2017.
    """
    found = path_attribution(probability, clip, baseline, *_legendre(n_steps))
    return _one_channel(found, channels)


def smooth_integrated_gradients(
    probability: Probability,
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
    """Average Integrated Gradients over noisy copies of the clip (SmoothGrad).

    Parameters
    ----------
    n_steps, n_samples : int
        Points on each straight line, and noisy copies: at least 1.
    sigma : float
        Standard deviation of the noise in normalised units.
    noise : {"channels", "grey"}
        Drawn for every value of every channel on its own, or the same for all channels.
    noisy_baseline : bool
        Whether the baseline gets the same noise as the clip.

    References
    ----------
    Smilkov et al., SmoothGrad: removing noise by adding noise, arXiv:1706.03825, 2017.
    """
    total = torch.zeros_like(clip)
    for _ in range(n_samples):
        drawn = _noise(clip[:1] if noise == "grey" else clip, sigma)
        end, start = clip + drawn, baseline + drawn if noisy_baseline else baseline
        total += path_attribution(probability, end, start, *_legendre(n_steps))
    return _one_channel(total / n_samples, channels)


def gradient_shap(
    probability: Probability,
    clip: Tensor,
    baseline: Tensor,
    *,
    n_samples: int,
    sigma: float,
    channels: str = "sum",
) -> Tensor:
    """Average the gradient at random points between baseline and clip, times their difference.

    One baseline is used, not a distribution of them.

    Parameters
    ----------
    n_samples : int
        Random points, at least 1.
    sigma : float
        Standard deviation of noise added to the clip, in normalised units.

    References
    ----------
    Erion et al., Improving performance of deep learning models with axiomatic attribution priors
    and expected gradients, Nature Machine Intelligence 2021.
    """
    # From NumPy's global generator, as Captum's GradientShap draws: one seed, the same points.
    points, weights = np.random.uniform(size=n_samples), np.full(n_samples, 1 / n_samples)
    if sigma == 0:  # all points lie on one line
        found = path_attribution(probability, clip, baseline, points, weights)
        return _one_channel(found, channels)
    total = torch.zeros_like(clip)
    for point, weight in zip(points[:, None], weights[:, None], strict=True):
        noisy = clip + _noise(clip, sigma)
        total += path_attribution(probability, noisy, baseline, point, weight)
    return _one_channel(total, channels)


def guided_backprop(
    probability: Probability, clip: Tensor, baseline: None = None, *, channels: str = "sum"
) -> Tensor:
    """Back-propagate the probability, passing only positive gradients through every ReLU.

    ReLUs must be `torch.nn.ReLU` modules: functional ones cannot be hooked and pass plain
    gradients. There is no baseline.

    Raises
    ------
    InputError
        If no `torch.nn.ReLU` of the model took part in its forward pass.

    References
    ----------
    Springenberg et al., Striving for simplicity: the all convolutional net, ICLR workshop 2015.
    """
    from captum.attr import GuidedBackprop  # late: importing Captum takes as long as PyTorch

    used: list[torch.nn.Module] = []
    with ExitStack() as hooks, warnings.catch_warnings():
        for module in probability.modules():
            if isinstance(module, torch.nn.ReLU):
                handle = module.register_forward_hook(lambda module, *_: used.append(module))
                hooks.enter_context(handle)
        # Captum announces its hooks on every call; it removes them itself.
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        explained = clip[None].clone().requires_grad_()
        gradients = GuidedBackprop(probability).attribute(explained)[0]
    if not used:
        raise InputError(
            "guided_backprop found no torch.nn.ReLU in use: functional ReLUs and those of plain "
            "functions cannot be hooked; give a torch.nn.Module whose ReLUs are torch.nn.ReLU"
        )
    return _one_channel(gradients, channels)


def input_x_gradient(
    probability: Probability, clip: Tensor, baseline: None = None, *, channels: str = "sum"
) -> Tensor:
    """Multiply the gradient at the clip by the clip: the baseline is grey, zero once normalised.

    References
    ----------
    Shrikumar et al., Not just a black box: learning important features through propagating
    activation differences, arXiv:1605.01713, 2016.
    """
    from captum.attr import InputXGradient

    found = InputXGradient(probability).attribute(clip[None].requires_grad_())
    return _one_channel(found[0], channels)


def smoothgrad(
    probability: Probability,
    clip: Tensor,
    baseline: None = None,
    *,
    n_samples: int,
    sigma: float,
    channels: str = "sum",
) -> Tensor:
    """Average the gradient over noisy copies of the clip.

    Parameters
    ----------
    n_samples : int
        Noisy copies, at least 1.
    sigma : float
        Standard deviation of the noise in normalised units, drawn for every channel on its own.

    References
    ----------
    Smilkov et al., SmoothGrad: removing noise by adding noise, arXiv:1706.03825, 2017.
    """
    found = _over_noise("smoothgrad", probability, clip, n_samples, sigma)
    return _one_channel(found, channels)


def vargrad(
    probability: Probability, clip: Tensor, baseline: None = None, *, n_samples: int, sigma: float
) -> Tensor:
    """Add up over channels the variance of the gradient over noisy copies of the clip.

    The map has no sign: it tells where the gradient depends on the noise, not for which class.
    `n_samples` and `sigma` are those of `smoothgrad`; a single copy has no variance.

    References
    ----------
    Adebayo et al., Local explanation methods for deep neural networks lack sensitivity to parameter
    values, ICLR workshop 2018.
    """
    found = _over_noise("vargrad", probability, clip, n_samples, sigma)
    return found.clamp(min=0).sum(dim=0)  # a difference of two means: rounding may end below zero


def path_attribution(
    probability: Probability,
    clip: Tensor,
    baseline: Tensor,
    points: np.ndarray,
    weights: np.ndarray,
) -> Tensor:
    """Difference of clip and baseline, times a weighted sum of gradients on the line between them.

    Where the model's first stage is affine (`vad_helpers.inference.chain`), the line behind it is
    straight too: the stage is evaluated at the two ends alone, and passed backward once, for the
    averaged gradient. The result is the same. Points and weights are (n,): point 0 is the
    baseline, 1 the clip.
    """
    prepared = probability.prepared
    chain, start, end = prepared.chain, baseline, clip
    by_stem = chain is not None and chain.has_affine_stem
    if by_stem:
        with torch.no_grad():
            start = chain.stem(prepared.fit(baseline[None]))[0]
        clips = prepared.fit(clip[None]).requires_grad_()
        behind = chain.stem(clips)
        end = behind[0].detach()
    wide = torch.promote_types(end.dtype, torch.float32)
    first, way = start.to(wide), end.to(wide) - start.to(wide)
    columns = torch.from_numpy(np.stack([points, weights])).to(end.device, wide)

    def gradients(part: Tensor) -> Tensor:
        shares, factors = (column.view(-1, *[1] * end.ndim) for column in part)
        there = (first + shares * way).to(end.dtype).contiguous(memory_format=prepared.layout)
        there.requires_grad_()
        p = probability.of(chain.after_stem(there)) if by_stem else probability.uncounted(there)
        (found,) = torch.autograd.grad(p.sum(), there)
        return factors * found.to(wide)

    def work(n: int) -> None:
        parts = [columns[:, :1].expand(2, n)] * prepared.n_workers(end.device)
        for _ in prepared.spread(gradients, parts, device=end.device):
            pass

    parts = columns.split(probability.fastest("gradient", work), dim=1)
    total = torch.zeros_like(first)
    for found in prepared.spread(gradients, parts, device=end.device):
        for one in found:  # one by one: the order of the sum does not depend on the batch
            total += one
        probability.count(len(found))
    if by_stem:
        (back,) = torch.autograd.grad(behind, clips, total[None].to(end.dtype))
        total = back[0].to(clip.dtype)
    return (clip - baseline) * total


def _legendre(n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    # Captum, the reference, rounds the weights to float32.
    return (1 + nodes) / 2, (weights / 2).astype(np.float32).astype(np.float64)


def _noise(like: Tensor, sigma: float) -> Tensor:
    # Drawn as Captum's NoiseTunnel draws, in float32: one seed, the same copies.
    return torch.normal(0.0, torch.full_like(like, sigma, dtype=torch.float32))


def _over_noise(
    kind: str, probability: Probability, clip: Tensor, n_samples: int, sigma: float
) -> Tensor:
    from captum.attr import NoiseTunnel, Saliency

    # One copy at a time: memory does not grow, and batches would draw other noise.
    noise = {"nt_samples": n_samples, "nt_samples_batch_size": 1, "stdevs": sigma}
    explainer = NoiseTunnel(Saliency(probability))
    return explainer.attribute(clip[None], nt_type=kind, abs=False, **noise)[0]


def _one_channel(attribution: Tensor, channels: str) -> Tensor:
    return (attribution.abs() if channels == "abs" else attribution).sum(dim=0)
