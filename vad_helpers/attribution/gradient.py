"""Gradient methods: what a small change of each voxel does to the probability.

The functions follow the signature in `vad_helpers.attribution.registry`, which says what
`probability`, `clip` and `baseline` are, and give maps (T, H, W); users call them through
`vad_helpers.attribution.explain`. Channels become one map by the setting `channels`: "sum" adds
them up with their signs, "abs" adds up their absolute values, so that nothing cancels and no map
has a sign.

The path methods (Integrated Gradients and its relatives) average gradients along straight lines
from baseline to clip. A model whose first stage is affine (`vad_helpers.inference.chain`) maps
such a line to a straight line: that stage is evaluated at the two ends alone, and passed backward
once, for the averaged gradient. The result is the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError

CHANNELS = ("sum", "abs")
NOISE = ("channels", "grey")


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
    gradient = path_gradient(probability, clip, baseline, *_legendre(n_steps))
    return _one_channel((clip - baseline) * gradient, channels)


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
    n_steps : int
        Points on each straight line, at least 1.
    n_samples : int
        Noisy copies, at least 1.
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
        total += (end - start) * path_gradient(probability, end, start, *_legendre(n_steps))
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
    Lundberg & Lee, A unified approach to interpreting model predictions, NeurIPS 2017.
    """
    # From NumPy's global generator, as Captum's GradientShap draws: one seed, the same points.
    points, weights = np.random.uniform(size=n_samples), np.full(n_samples, 1 / n_samples)
    if sigma == 0:  # all points lie on one line
        gradient = path_gradient(probability, clip, baseline, points, weights)
        return _one_channel((clip - baseline) * gradient, channels)
    total = torch.zeros_like(clip)
    for k in range(n_samples):
        noisy, one = clip + _noise(clip, sigma), slice(k, k + 1)
        gradient = path_gradient(probability, noisy, baseline, points[one], weights[one])
        total += (noisy - baseline) * gradient
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
        If the model is no module, or no `torch.nn.ReLU` took part in its forward pass.

    References
    ----------
    Springenberg et al., Striving for simplicity: the all convolutional net, ICLR workshop 2015.
    """
    from captum.attr import GuidedBackprop  # late: importing Captum takes as long as PyTorch

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
        with warnings.catch_warnings():
            # Captum announces its hooks on every call; it removes them itself.
            warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
            explained = clip[None].clone().requires_grad_()
            gradients = GuidedBackprop(probability).attribute(explained)[0]
    finally:
        for handle in handles:
            handle.remove()
    if not used:
        raise InputError(
            "guided_backprop found no torch.nn.ReLU in use: functional ReLUs cannot be hooked and "
            "would pass plain gradients; make them torch.nn.ReLU modules"
        )
    return _one_channel(gradients, channels)


def path_gradient(
    probability: Probability,
    clip: Tensor,
    baseline: Tensor,
    points: np.ndarray,
    weights: np.ndarray,
) -> Tensor:
    """Weighted sum of the gradients at points on the line from baseline to clip.

    Parameters
    ----------
    points : ndarray (n,)
        0 is the baseline, 1 the clip.
    weights : ndarray (n,)

    Returns
    -------
    torch.Tensor
        Like `clip`.
    """
    prepared = probability.prepared
    chain = prepared.chain
    if chain is None or not chain.has_affine_stem:
        return _sum_along(probability, probability.uncounted, clip, baseline, points, weights)

    def after_stem(z: Tensor) -> Tensor:
        return probability.of(chain.after_stem(z))

    with torch.no_grad():
        start = chain.stem(prepared.fit(baseline[None]))[0]
    clips = prepared.fit(clip[None]).requires_grad_()
    end = chain.stem(clips)
    gradient = _sum_along(probability, after_stem, end[0].detach(), start, points, weights)
    (back,) = torch.autograd.grad(end, clips, gradient[None].to(end.dtype))
    return back[0].to(clip.dtype)


def _sum_along(
    probability: Probability,
    evaluate: Callable[[Tensor], Tensor],
    end: Tensor,
    start: Tensor,
    points: np.ndarray,
    weights: np.ndarray,
) -> Tensor:
    """Weighted sum of the gradients of `evaluate` at points from start to end, at least float32."""
    prepared = probability.prepared
    wide = torch.promote_types(end.dtype, torch.float32)
    first, way = start.to(wide), end.to(wide) - start.to(wide)
    columns = torch.from_numpy(np.stack([points, weights])).to(end.device, wide)

    def gradients(part: Tensor) -> Tensor:
        shares, factors = (column.view(-1, *[1] * end.ndim) for column in part)
        there = (first + shares * way).to(end.dtype).contiguous(memory_format=prepared.layout)
        there.requires_grad_()
        (found,) = torch.autograd.grad(evaluate(there).sum(), there)
        return factors * found.to(wide)

    def work(n: int) -> None:
        parts = [columns[:, :1].expand(2, n)] * prepared.n_workers(end.device)
        for _ in prepared.spread(gradients, parts, device=end.device):
            pass

    parts = columns.split(probability.fastest("gradient", work), dim=1)
    total = torch.zeros_like(first)
    for part, found in zip(
        parts, prepared.spread(gradients, parts, device=end.device), strict=True
    ):
        for one in found:  # one by one: the order of the sum does not depend on the batch
            total += one
        probability.count(part.shape[1])
    return total


def _legendre(n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre points on [0, 1] and their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(n_steps)
    # Captum, the reference, rounds the weights to float32.
    return (1 + nodes) / 2, (weights / 2).astype(np.float32).astype(np.float64)


def _noise(like: Tensor, sigma: float) -> Tensor:
    # Drawn as Captum's NoiseTunnel draws, in float32: one seed, the same copies.
    return torch.normal(0.0, torch.full_like(like, sigma, dtype=torch.float32))


def _one_channel(attribution: Tensor, channels: str) -> Tensor:
    """(3, T, H, W) to (T, H, W)."""
    return (attribution.abs() if channels == "abs" else attribution).sum(dim=0)
