"""What each metric is: its name, family, direction, range, and what it depends on.

Tables and figures look here for which way is better; the values come from the other modules.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace

from vad_helpers.errors import InputError

HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    key : str
        As in the column ``metric`` of a table of scores.
    name : str
        For headings.
    family : str
        "human-centric", "model-centric", "robustness" or "run time".
    direction : str or None
        "higher" or "lower" is better; None where neither is (a description, not a score).
    range : tuple of float
        Smallest and largest possible value, in `unit`.
    sensitive_to : tuple of str
        Parameters and properties, beside the quality of the map, that move it.
    unit : str
        Empty for pure numbers.
    description : str
        What the number is, in one line.
    score : callable or None
        Of a metric of one's own: ``score(attribution, *, mask, clip, baseline, predict) -> float``,
        NaN where it is not defined; arguments as those of `evaluate.evaluate`. None: the package's.
    """

    key: str
    name: str
    family: str
    direction: str | None
    range: tuple[float, float]
    sensitive_to: tuple[str, ...] = ()
    unit: str = ""
    description: str = ""
    score: Callable[..., float] | None = None


_SHARE, _SIGNED, _POSITIVE = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)
_SETS = ("n_thresholds", "distribution of the map's values", "size of the anomaly")
_THRESHOLDS = ("baseline", "n_thresholds", "distribution of the map's values", "flatness")
_STEPS = ("baseline", "order of ties", "n_steps")
_NOISE = ("radius", "n_samples")
_AREAS = ("baseline", "order of ties", "areas")
_FRAMES = ("motion of the anomaly", "number of valid frames")
_CLOCK = ("machine", "precision", "batch size", "settings of the method")
_HUMAN, _MODEL, _STEADY, _TIME = "human-centric", "model-centric", "robustness", "run time"

_ALL = (
    Metric("iou", "IoU", _HUMAN, HIGHER, _SHARE, _SETS),
    Metric("f1", "F1", _HUMAN, HIGHER, _SHARE, _SETS),
    Metric("auc", "AUC", _HUMAN, HIGHER, _SHARE, ("ties (they count half)",)),
    Metric("share_in_mask", "Share in the mask", _HUMAN, HIGHER, _SHARE, _SETS[1:]),
    Metric("pointing", "Pointing game", _HUMAN, HIGHER, _SHARE, ("the largest value alone",)),
    Metric("gini", "Sparseness (Gini)", _HUMAN, HIGHER, _SHARE, _SETS[1:2]),
    Metric(
        "leak", "Leak onto other moving objects", _HUMAN, LOWER, _SHARE, ("what counts as moving",)
    ),
    Metric("motion_auc", "AUC among moving voxels", _HUMAN, HIGHER, _SHARE, ("n_mads",)),
    Metric("deletion", "Deletion", _MODEL, HIGHER, _SIGNED, _THRESHOLDS),
    Metric("insertion", "Insertion", _MODEL, LOWER, _SIGNED, _THRESHOLDS),
    Metric("mean_area", "Mean area removed", _MODEL, None, _SHARE, ("n_thresholds",)),
    Metric("p_clip", "p(x)", _MODEL, None, _SHARE, ("model",)),
    Metric("p_baseline", "p(baseline)", _MODEL, None, _SHARE, ("model", "baseline")),
    Metric("area_deletion", "Deletion, area axis (RISE)", _MODEL, LOWER, _SHARE, _STEPS),
    Metric("area_insertion", "Insertion, area axis (RISE)", _MODEL, HIGHER, _SHARE, _STEPS),
    Metric("area_matched_deletion", "Deletion at equal area", _MODEL, HIGHER, _SIGNED, _AREAS),
    Metric("area_matched_insertion", "Insertion at equal area", _MODEL, LOWER, _SIGNED, _AREAS),
    Metric("srg", "SRG at equal area", _MODEL, HIGHER, _SIGNED, _AREAS),
    Metric("srg_log", "SRG, log-spaced areas", _MODEL, HIGHER, _SIGNED, _AREAS[:2]),
    Metric("srg_blocks", "SRG of blocks", _MODEL, HIGHER, _SIGNED, (*_AREAS, "size of the blocks")),
    Metric("road", "ROAD", _MODEL, HIGHER, _SIGNED, ("areas", "order of ties", "noise")),
    Metric("frame_deletion", "Deletion of whole frames", _MODEL, HIGHER, _SIGNED, _AREAS),
    Metric("mauc", "mAUC", _STEADY, HIGHER, _SHARE, _FRAMES),
    Metric("stdauc", "stdAUC", _STEADY, LOWER, (0.0, 0.5), _FRAMES),
    Metric("cv", "C_v", _STEADY, LOWER, _POSITIVE, _FRAMES),
    Metric("worst", "AUC of the worst frame", _STEADY, HIGHER, _SHARE, _FRAMES),
    Metric("max_sensitivity", "Max-sensitivity", _STEADY, LOWER, _POSITIVE, _NOISE),
    Metric("n_frames", "Valid frames", _STEADY, None, _POSITIVE, ("mask",)),
    Metric("seconds", "Run time", _TIME, LOWER, _POSITIVE, _CLOCK, unit="s"),
    Metric("model_calls", "Model calls", _TIME, LOWER, _POSITIVE, ("settings of the method",)),
)

_DESCRIPTIONS = {
    "iou": "Overlap of mask and thresholded map over their union, at the best threshold",
    "f1": "Harmonic mean of precision and recall of the thresholded map, at the best threshold",
    "auc": "Probability that a voxel of the anomaly has a larger value than one outside",
    "share_in_mask": "Share of the map's positive part that lies in the mask",
    "pointing": "Whether the largest value lies in the mask",
    "gini": "Gini index of |E|: 0 where all voxels are alike, near 1 where few hold everything",
    "leak": "Share of the map's positive part on moving voxels outside the mask",
    "motion_auc": "AUC among the voxels whose grey value changes",
    "deletion": "Mean drop of p while what lies above each threshold is replaced by the baseline",
    "insertion": "Mean of p(x) - p while only what lies above each threshold is shown",
    "mean_area": "Mean share of voxels above the thresholds of deletion and insertion",
    "p_clip": "Probability of 'anomalous' of the clip",
    "p_baseline": "Probability of 'anomalous' of the baseline",
    "area_deletion": "Area under p while 0 to 100 % of the voxels are deleted, largest first",
    "area_insertion": "Area under p while 0 to 100 % of the voxels are inserted, largest first",
    "area_matched_deletion": "Mean drop of p without the top .05 to 20 % of the voxels",
    "area_matched_insertion": "Mean of p(x) - p with only the top .05 to 20 % of the voxels",
    "srg": "Insertion minus deletion (RISE's) at the top .05 to 20 % of the voxels",
    "srg_log": "The same at 24 areas from .02 to 100 %, evenly spaced in their logarithm",
    "srg_blocks": "The same for blocks of 4 frames x 8 x 8 voxels, at 20 log-spaced shares of them",
    "road": "Mean drop of p while the top 1, 5, 20 % are filled from their surroundings",
    "frame_deletion": "Mean drop of p without the frames of largest mean relevance",
    "mauc": "Mean over frames of the AUC in the frame",
    "stdauc": "Standard deviation over frames of the AUC in the frame",
    "cv": "stdAUC over mAUC, clip by clip",
    "worst": "Lowest AUC of a frame",
    "max_sensitivity": "Largest change of the map under small noise on the clip, over its size",
    "n_frames": "Number of frames whose mask is neither empty nor full",
    "seconds": "Wall time of one explanation, one clip at a time, warm, the median of repeats",
    "model_calls": "Clips that went through the network",
}

METRICS: dict[str, Metric] = {m.key: replace(m, description=_DESCRIPTIONS[m.key]) for m in _ALL}


def direction(key: str) -> str | None:
    """Tell which way a metric is better: "higher", "lower", or None where neither is.

    InputError if there is no such metric.
    """
    if key not in METRICS:
        raise InputError(f"no metric {key!r}; expected one of {', '.join(METRICS)}")
    return METRICS[key].direction


def register(metric: Metric) -> None:
    """Add a metric of one's own, so that runs score by it and tables know which way is better.

    Another one of its key is replaced. InputError if it cannot be used, or has a key of the
    package's.
    """
    families = (_HUMAN, _MODEL, _STEADY)
    if not isinstance(metric, Metric) or not metric.key.isidentifier():
        raise InputError(f"register() was given {metric!r}; give a Metric, its key an identifier")
    for name, known in (("family", families), ("direction", (HIGHER, LOWER, None))):
        if (given := getattr(metric, name)) not in known:
            raise InputError(f"metric {metric.key!r} has {name} {given!r}; expected one of {known}")
    if metric.key in _DESCRIPTIONS:
        raise InputError(f"metric {metric.key!r} exists already; give yours another key")
    if not callable(metric.score):
        raise InputError(f"metric {metric.key!r} has no score; give it a function")
    METRICS[metric.key] = metric


def described(metric: Metric) -> dict[str, object]:
    """What a manifest keeps of a metric of one's own, so that its scores can be read without it."""
    about = asdict(metric)
    return {name: value for name, value in about.items() if name not in ("key", "score")}
