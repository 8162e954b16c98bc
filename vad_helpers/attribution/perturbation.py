"""Surrogate methods: a linear model of what switching superpixels off does to the probability.

A sample keeps some superpixels and fills the others, all channels together, with the baseline. A
superpixel's coefficient is the value of all its voxels. `vad_helpers.attribution.registry` says
what `probability`, `clip`, `baseline` and `segments` are; maps are (T, H, W); users call the
methods through `vad_helpers.attribution.explain`.
"""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError


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

    Beside the map it reports `n_nonzero`: how many coefficients are not zero.

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
        After each sample comes the one that keeps what it fills: effects of two superpixels at a
        time cancel, so that the same map takes fewer samples.

    References
    ----------
    Ribeiro, Singh & Guestrin, "Why should I trust you?": explaining the predictions of any
    classifier, KDD 2016.
    """
    # Here, because importing Captum takes as long as importing PyTorch.
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
        As in `lime`, for the samples that are drawn.

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


@torch.no_grad()
def _fit(
    explainer: Any, clip: Tensor, baseline: Tensor, segments: Tensor, n_samples: int, paired: bool
) -> Tensor:
    """Coefficient of every superpixel, (n_segments,)."""
    draw = explainer.perturb_func

    def pairs(original: Tensor, **options: Any) -> Iterator[Tensor]:
        if inspect.isgeneratorfunction(draw):  # KernelSHAP's, without an end
            samples = draw(original, **options)
        else:  # LIME's draws one
            samples = (draw(original, **options) for _ in itertools.count())
        for sample in samples:
            yield sample
            if sample.any() and not sample.all():  # not the clip and the baseline themselves
                yield 1 - sample  # as likely as the sample

    if paired:
        explainer.perturb_func = pairs
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
