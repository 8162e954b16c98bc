"""Surrogate methods: a linear model of what switching superpixels off does to the probability.

A sample keeps some superpixels and fills the others, all channels together, with the baseline.
A superpixel's coefficient is the value of all its voxels. The functions follow the signature in
`vad_helpers.attribution.spec`; users call them through `vad_helpers.attribution.explain`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from captum._utils.models.linear_model import SkLearnLasso
from captum.attr import KernelShap, Lime
from captum.attr._core.lime import get_exp_kernel_similarity_function

from vad_helpers.attribution import checks
from vad_helpers.attribution.probability import Probability
from vad_helpers.attribution.spec import MethodSpec
from vad_helpers.errors import InputError

_SUPERPIXELS = {"n_segments": 80, "compactness": 60.0}


def lime(
    probability: Probability,
    clip: torch.Tensor,
    baseline: torch.Tensor,
    *,
    segments: torch.Tensor,
    n_samples: int,
    alpha: float,
    kernel_width: float,
    paired: bool = False,
) -> tuple[torch.Tensor, dict[str, Any]]:
    """Fit a LASSO to the probability of clips with half of their superpixels filled.

    Parameters
    ----------
    probability, clip, baseline, segments
        As in `vad_helpers.attribution.spec`.
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
        (T, H, W), constant within a superpixel.
    info : dict
        `n_nonzero`: how many coefficients are not zero.

    References
    ----------
    Ribeiro, Singh & Guestrin, "Why should I trust you?": explaining the predictions of any
    classifier, KDD 2016.
    """
    explainer = Lime(
        probability,
        interpretable_model=SkLearnLasso(alpha=alpha, max_iter=20_000),
        similarity_func=get_exp_kernel_similarity_function("euclidean", kernel_width=kernel_width),
    )
    if paired:
        explainer.perturb_func = _in_pairs(explainer.perturb_func)
    coefficients = _fit("lime", explainer, probability, clip, baseline, segments, n_samples)
    return coefficients[segments], {"n_nonzero": int(torch.count_nonzero(coefficients))}


def kernel_shap(
    probability: Probability,
    clip: torch.Tensor,
    baseline: torch.Tensor,
    *,
    segments: torch.Tensor,
    n_samples: int,
    paired: bool = False,
) -> torch.Tensor:
    """Estimate the superpixels' Shapley values by weighted least squares.

    Parameters
    ----------
    probability, clip, baseline, segments
        As in `vad_helpers.attribution.spec`.
    n_samples : int
        Filled clips, at least 2: the first two are the clip and the baseline themselves, the
        others are drawn by the Shapley kernel.
    paired : bool
        After each drawn sample comes the one that keeps what it fills, see `_in_pairs`.

    Returns
    -------
    torch.Tensor
        (T, H, W), constant within a superpixel.

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
    if not segments.any():
        raise InputError(
            "kernel_shap needs two superpixels or more, and SLIC found one; raise n_segments"
        )
    explainer = KernelShap(probability)
    if paired:
        explainer.perturb_func = _in_pairs(explainer.perturb_func)
    coefficients = _fit("kernel_shap", explainer, probability, clip, baseline, segments, n_samples)
    return coefficients[segments]


Draw = Callable[..., Any]


def _in_pairs(draw: Draw) -> Draw:
    """Follow every sample by its complement, as likely as itself under both methods' draws.

    What superpixels do two at a time cancels in a pair, so that the same map takes fewer samples.
    Nothing is appended to the clip and the baseline, which KernelSHAP asks for once each.
    """

    def pairs(original: torch.Tensor, **options: Any) -> Iterator[torch.Tensor]:
        for sample in _drawn(draw, original, options):
            yield sample
            if sample.any() and not sample.all():
                yield 1 - sample

    return pairs


def _drawn(draw: Draw, original: torch.Tensor, options: dict[str, Any]) -> Iterator[torch.Tensor]:
    if inspect.isgeneratorfunction(draw):
        yield from draw(original, **options)  # without an end
    while True:
        yield draw(original, **options)


@torch.no_grad()
def _fit(
    key: str,
    explainer: Lime,
    probability: Probability,
    clip: torch.Tensor,
    baseline: torch.Tensor,
    segments: torch.Tensor,
    n_samples: int,
) -> torch.Tensor:
    try:
        fitted = explainer.attribute(
            clip[None],
            baselines=baseline[None],
            feature_mask=segments[None, None],
            n_samples=n_samples,
            perturbations_per_eval=probability.batch_size,
            return_input_shape=False,
        )
    except InputError:
        raise
    except ValueError as error:
        # scikit-learn refuses NaN, and weights that are all zero, in words of its own.
        raise InputError(
            f"method {key!r} could not fit its linear model ({str(error).splitlines()[0]}); check "
            "that the model's logits are finite and the settings not extreme"
        ) from error
    return fitted.flatten().to(clip.device)


def _check_superpixels(key: str, settings: Mapping[str, Any]) -> None:
    checks.at_least(key, settings, n_segments=1, n_samples=2)
    checks.above_zero(key, settings, "compactness")


def _check_lime(settings: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    _check_superpixels("lime", settings)
    checks.at_least("lime", settings, alpha=0)
    checks.above_zero("lime", settings, "kernel_width")


def _check_kernel_shap(settings: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    _check_superpixels("kernel_shap", settings)


SPECS = (
    MethodSpec(
        key="kernel_shap",
        precision="bf16",
        name="KernelSHAP",
        family="perturbation",
        attribute=kernel_shap,
        model_calls=lambda settings, shape, n_segments: settings["n_samples"],
        settings={"n_samples": 25, "paired": False, **_SUPERPIXELS},
        check=_check_kernel_shap,
        superpixels=True,
        citation="lundberg2017unified",
        reference="S. M. Lundberg, S.-I. Lee: A unified approach to interpreting model "
        "predictions. NeurIPS, 2017.",
    ),
    MethodSpec(
        key="lime",
        name="LIME",
        family="perturbation",
        attribute=lime,
        model_calls=lambda settings, shape, n_segments: settings["n_samples"],
        settings={
            "n_samples": 25,
            "alpha": 1e-3,
            "kernel_width": 1000.0,
            "paired": False,
            **_SUPERPIXELS,
        },
        check=_check_lime,
        superpixels=True,
        citation="ribeiro2016should",
        reference='M. T. Ribeiro, S. Singh, C. Guestrin: "Why should I trust you?": explaining '
        "the predictions of any classifier. KDD, 2016.",
    ),
)
