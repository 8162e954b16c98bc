"""The paper's fourteen claims, each with the comparisons that decide it, fixed beforehand.

A claim is about the paper's text; its own printed table sometimes says otherwise. Rules for putting
a sentence into comparisons:

- IoU and F1 order clips alike (F1 = 2 IoU / (1 + IoU) on one clip), so IoU and AUC decide a claim
  on localisation, and F1 does not vote a second time.
- A family is compared by the mean of its methods, clip by clip. "Best" and "worst" mean better or
  worse than every other method, each compared singly; so do several methods that are "the best".
- GradientSHAP is a gradient method here, as the paper's results treat it.
- Some claims also carry secondary comparisons (`required=False`): the same question asked of scores
  that the paper does not have. They are shown beside the verdict and never enter it.
- An explanation names what could move a comparison. What did, on given data, is for the numbers.

`vad_helpers.store.verdicts` judges them.
"""

from __future__ import annotations

import dataclasses

from vad_helpers.store.contrasts import BUT_LIME, GRADIENT, PERTURBATION, REST, Side

HIGHER, LOWER = 1, -1

EQUAL_AREA = "area_matched_"
"""How the metrics begin that compare maps at equal area."""

WITH_BLUR = "methods with the blurred baseline"
WITH_BLACK = "the same methods with the black one"
"""Two sides made of the variants with a black baseline and of the methods that they vary."""


@dataclasses.dataclass(frozen=True)
class Contrast:
    """One comparison that a claim rests on.

    Attributes
    ----------
    table, level, metric : str
        Which scores; the table "cost" is made by `verdicts.cost_scores`.
    first, second : tuple of str
        The sides: methods, or a group of `contrasts`.
    claimed : int
        `HIGHER`: the claim says that the first side's score is the higher one; or `LOWER`.
    each : bool
        Compare every method of the first side with every one of the second, instead of the means.
    required : bool
        Whether it decides; others are secondary, shown beside.
    instead : Contrast or None
        What takes its place if it is not measured.
    """

    table: str
    level: str
    metric: str
    first: Side
    second: Side
    claimed: int
    each: bool = False
    required: bool = True
    instead: Contrast | None = None


@dataclasses.dataclass(frozen=True)
class Claim:
    """A claim of the paper, in our words.

    Attributes
    ----------
    number : int
    statement : str
    contrasts : tuple of Contrast
    explanation : str
        What could make other data, or another choice, come out differently.
    """

    number: int
    statement: str
    contrasts: tuple[Contrast, ...]
    explanation: str


def _located(level: str, first: Side, second: Side, **options) -> tuple[Contrast, ...]:
    """The first side localises better: IoU and AUC."""
    return tuple(
        Contrast("human_centric", level, metric, first, second, HIGHER, **options)
        for metric in ("iou", "auc")
    )


def _faithful(first: Side, second: Side, **options) -> tuple[Contrast, ...]:
    """The first side is more faithful: higher deletion, lower insertion."""
    return (
        Contrast("model_centric", "clip", "deletion", first, second, HIGHER, **options),
        Contrast("model_centric", "clip", "insertion", first, second, LOWER, **options),
    )


def _at_equal_area(contrasts: tuple[Contrast, ...]) -> tuple[Contrast, ...]:
    """The same comparisons where every map removes the same areas; they decide nothing."""
    return tuple(
        dataclasses.replace(contrast, metric=f"{EQUAL_AREA}{contrast.metric}", required=False)
        for contrast in contrasts
    )


_GUIDED, _OTHERS = ("guided_backprop",), (REST,)
_BLUR, _BLACK = (WITH_BLUR,), (WITH_BLACK,)
_FOLLOW = _faithful((PERTURBATION,), (GRADIENT,))
_WORST = tuple(
    Contrast("model_centric", "clip", metric, _GUIDED, _OTHERS, side, each=True)
    for metric, side in (("deletion", LOWER), ("insertion", HIGHER))
)
_DELETE = (
    Contrast(
        *("model_centric", "clip", "deletion"),
        *(("lime", "occlusion_lp"), _OTHERS, HIGHER),
        each=True,
    ),
)

CLAIMS: tuple[Claim, ...] = (
    Claim(
        1,
        "Gradient methods localise better than perturbation methods, at clip and at frame level; "
        "LIME at clip level is the exception.",
        _located("clip", (GRADIENT,), (BUT_LIME,))
        + _located("frame", (GRADIENT,), (PERTURBATION,))
        # The exception is no condition of the rule: whether it is one is shown beside.
        + _located("clip", ("lime",), (GRADIENT,), required=False),
        "IoU is of one set of the largest values, AUC of the order of all voxels: where one family "
        "marks points and the other areas, the two can disagree. The rule that picks the frame is "
        "not printed in the paper.",
    ),
    Claim(
        2,
        "LIME localises best at clip level.",
        _located("clip", ("lime",), _OTHERS, each=True),
        "LIME's map depends on its number of samples, its penalty and the superpixels. With fewer "
        "samples than superpixels its place could vary with the seed.",
    ),
    Claim(
        3,
        "For a user, LIME and IG with SmoothGrad are the best at clip level.",
        _located("clip", ("lime", "ig_smoothgrad"), _OTHERS, each=True),
        "SmoothGrad's noise could be larger than the distance from clip to baseline: then its map "
        "tells of noisy clips, and how the network was augmented in training could matter.",
    ),
    Claim(
        4,
        "IG and IG with SmoothGrad localise best on the frame of the highest attribution.",
        _located("frame", ("ig", "ig_smoothgrad"), _OTHERS, each=True),
        "Which frame is scored follows from the map itself. A superpixel can span many frames, "
        "which then share the maximum: how such ties are broken could decide the score.",
    ),
    Claim(
        5,
        "Perturbation methods follow the model's decision more faithfully: higher deletion, lower "
        "insertion.",
        _FOLLOW + _at_equal_area(_FOLLOW),
        "On the threshold axis a map of large even patches can remove more of the clip than a "
        "sparse one, and be rewarded for it; at equal area it cannot. There, chosen voxels "
        "could make an input unlike any in training, and lower p by more than the whole baseline.",
    ),
    Claim(
        6,
        "Guided Backpropagation is the worst on deletion and on insertion.",
        _WORST + _at_equal_area(_WORST),
        "Its map could follow edges more than the decision. On the threshold axis it could also "
        "lose by removing smaller sets than others; the mean area tells, and so do the scores at "
        "equal area.",
    ),
    Claim(
        7,
        "LIME and Occlusion with the large window are clearly the best on deletion.",
        _DELETE + _at_equal_area(_DELETE),
        "Both are made of large patches, which the threshold axis could reward. A map without a "
        "positive voxel, as LIME can return, deletes nothing.",
    ),
    Claim(
        8,
        "Gradient methods are steadier over the frames of a clip: lower C_v.",
        (
            Contrast("robustness", "clip", "cv", (GRADIENT,), (PERTURBATION,), LOWER),
            # To be steady is worth something only where the mean is no worse.
            Contrast(
                *("robustness", "clip", "mauc", (GRADIENT,), (PERTURBATION,), HIGHER),
                required=False,
            ),
        ),
        "A map of superpixels can stand still while the anomaly moves, so a part of its spread "
        "could be the object's motion. The time-averaged row shows what standing still does to IG, "
        "averaging noise away included.",
    ),
    Claim(
        9,
        "KernelSHAP is the least stable method, and poor at localisation.",
        (
            Contrast("robustness", "clip", "cv", ("kernel_shap",), _OTHERS, HIGHER, each=True),
            *(
                Contrast("human_centric", "clip", metric, ("kernel_shap",), _OTHERS, LOWER)
                for metric in ("iou", "auc")
            ),
        ),
        "Where it has more unknowns (superpixels) than samples, much of its map could be the noise "
        "of the draw, and more samples could make another map of it.",
    ),
    Claim(
        10,
        "Occlusion covers anomalies better with the large window than with the small one.",
        _located("clip", ("occlusion_lp",), ("occlusion_sp",)),
        "A large window smears its value over its whole extent, which could help the order of "
        "voxels and spoil the outline of a small object.",
    ),
    Claim(
        11,
        "LIME concentrates more on the anomaly than KernelSHAP.",
        _located("clip", ("lime",), ("kernel_shap",))
        + (
            Contrast(
                *("human_centric", "clip", "share_in_mask"),
                *(("lime",), ("kernel_shap",), HIGHER),
                required=False,
            ),
        ),
        "Both use the same superpixels and the same number of samples. They draw and weigh samples "
        "differently, and LIME's penalty can set coefficients to zero.",
    ),
    Claim(
        12,
        "IG and IG with SmoothGrad leak less onto other objects than Guided Backpropagation.",
        tuple(
            Contrast(
                *("human_centric", "clip", "leak", (method,), _GUIDED, LOWER),
                instead=Contrast("human_centric", "clip", "motion_auc", (method,), _GUIDED, HIGHER),
            )
            for method in ("ig", "ig_smoothgrad")
        )
        # A flat map leaks little of all that it has; of what it has on movers, it leaks its share.
        + tuple(
            Contrast("controls", "clip", "mover_leak", (method,), _GUIDED, LOWER, required=False)
            for method in ("ig", "ig_smoothgrad")
        ),
        "The paper reads this off one picture. Other objects are taken as moving voxels outside "
        "the mask, which could hold noise of the camera too.",
    ),
    Claim(
        13,
        "Guided Backpropagation is the fastest and Occlusion with the small window the slowest; IG "
        "with SmoothGrad costs more than it gives.",
        (
            Contrast("cost", "clip", "seconds", _GUIDED, _OTHERS, LOWER, each=True),
            Contrast("cost", "clip", "seconds", ("occlusion_sp",), _OTHERS, HIGHER, each=True),
            Contrast("cost", "clip", "auc_per_second", ("ig",), ("ig_smoothgrad",), HIGHER),
        ),
        "Seconds follow from the number of model calls and from how each is made; this project "
        "computes occlusion without repeating what a window does not reach. The last part is "
        "judged by the clip AUC above chance that a second buys.",
    ),
    Claim(
        14,
        "The blurred baseline gives better explanations than the black one.",
        _located("clip", _BLUR, _BLACK)
        + (Contrast("model_centric", "clip", "deletion", _BLUR, _BLACK, HIGHER, required=False),),
        "A black patch could itself be an unusual sight; a blurred one may leave the anomaly "
        "visible to the network. Faithfulness is measured with the blurred baseline for both.",
    ),
)
