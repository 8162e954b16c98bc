"""Surrogate methods: a linear model of what switching superpixels off does to the probability.

A sample keeps some superpixels and fills the others, all channels together, with the baseline.
A superpixel's coefficient is the value of all its voxels. The functions follow the signature in
`vad_helpers.attribution.registry`, which says what `probability`, `clip`, `baseline` and `segments`
are, and give maps (T, H, W); users call them through `vad_helpers.attribution.explain`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError

if TYPE_CHECKING:  # importing Captum takes as long as importing PyTorch: late, where it is used
    from captum.attr import Lime


def lime(
    probability: Probability,
    clip: Tensor,
    baseline: Tensor,
    *,
    segments: Tensor,
    n_samples: int,
    alpha: float,
    kernel_width: float,
    paired: bool = False,
) -> tuple[Tensor, dict[str, Any]]:
    """Fit a LASSO to the probability of clips with half of their superpixels filled.

    Parameters
    ----------
    n_samples : int
        Filled clips, at least 2; every superpixel is kept with probability one half.
    alpha : float
        Weight of the LASSO's penalty: larger leaves fewer coefficients that are not zero.
    kernel_width : float
        w of a sample's weight exp(-d^2 / 2 w^2), d its Euclidean distance from the clip over
        all normalised values of the three channels.
    paired : bool
        After each sample comes the one that keeps what it fills, see `_in_pairs`.

    Returns
    -------
    map : torch.Tensor
    info : dict
        `n_nonzero`: how many coefficients are not zero.

    References
    ----------
    Ribeiro, Singh & Guestrin, "Why should I trust you?": explaining the predictions of any
    classifier, KDD 2016.
    """
    from captum._utils.models.linear_model import SkLearnLasso
    from captum.attr import Lime
    from captum.attr._core.lime import get_exp_kernel_similarity_function

    explainer = Lime(
        probability,
        interpretable_model=SkLearnLasso(alpha=alpha, max_iter=20_000),
        similarity_func=get_exp_kernel_similarity_function("euclidean", kernel_width=kernel_width),
    )
    coefficients = _fit(explainer, clip, baseline, segments, n_samples, paired)
    return coefficients[segments], {"n_nonzero": int(torch.count_nonzero(coefficients))}


def kernel_shap(
    probability: Probability,
    clip: Tensor,
    baseline: Tensor,
    *,
    segments: Tensor,
    n_samples: int,
    paired: bool = False,
) -> Tensor:
    """Estimate the superpixels' Shapley values by weighted least squares.

    Parameters
    ----------
    n_samples : int
        Filled clips, at least 2: the first two are the clip and the baseline themselves, the
        others are drawn by the Shapley kernel.
    paired : bool
        After each drawn sample comes the one that keeps what it fills, see `_in_pairs`.

    Raises
    ------
    InputError
        If there is a single superpixel: it leaves nothing to share out.

    References
    ----------
    Lundberg & Lee, A unified approach to interpreting model predictions, NeurIPS 2017.
    Covert & Lee, Improving KernelSHAP: practical Shapley value estimation using linear regression,
    AISTATS 2021 (samples in pairs).
    """
    from captum.attr import KernelShap

    if not segments.any():
        raise InputError(
            "kernel_shap needs two superpixels or more, and SLIC found one; raise n_segments"
        )
    return _fit(KernelShap(probability), clip, baseline, segments, n_samples, paired)[segments]


def _in_pairs(draw: Callable[..., Any]) -> Callable[..., Iterator[Tensor]]:
    """Follow every sample by its complement, as likely as itself under both methods' draws.

    What superpixels do two at a time cancels in a pair, so that the same map takes fewer samples.
    Nothing is appended to the clip and the baseline, which KernelSHAP asks for once each.
    """

    def drawn(original: Tensor, **options: Any) -> Iterator[Tensor]:
        if inspect.isgeneratorfunction(draw):
            yield from draw(original, **options)  # without an end
        while True:
            yield draw(original, **options)

    def pairs(original: Tensor, **options: Any) -> Iterator[Tensor]:
        for sample in drawn(original, **options):
            yield sample
            if sample.any() and not sample.all():
                yield 1 - sample

    return pairs


@torch.no_grad()
def _fit(
    explainer: Lime, clip: Tensor, baseline: Tensor, segments: Tensor, n_samples: int, paired: bool
) -> Tensor:
    """Coefficient of every superpixel, (n_segments,)."""
    if paired:
        explainer.perturb_func = _in_pairs(explainer.perturb_func)
    try:
        fitted = explainer.attribute(
            clip[None],
            baselines=baseline[None],
            feature_mask=segments[None, None],
            n_samples=n_samples,
            perturbations_per_eval=explainer.forward_func.batch_size,
            return_input_shape=False,
        )
    except InputError:
        raise
    except ValueError as error:
        # scikit-learn refuses NaN, and weights that are all zero, in words of its own.
        raise InputError(
            f"the linear model could not be fitted ({str(error).splitlines()[0]}); check that the "
            "model's logits are finite and the settings not extreme"
        ) from error
    return fitted.flatten().to(clip.device)
