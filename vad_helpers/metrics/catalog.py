"""What each metric is: its name, family, direction, range, and what it depends on.

Tables and figures look here for which way is better; the values come from the other modules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

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
    levels : tuple of str
        "clip", "frame": what it is computed on.
    sensitive_to : tuple of str
        Parameters and properties, beside the quality of the map, that move it.
    unit : str
        Empty for pure numbers.
    """

    key: str
    name: str
    family: str
    direction: str | None
    range: tuple[float, float]
    sensitive_to: tuple[str, ...] = ()
    levels: tuple[str, ...] = ("clip",)
    unit: str = ""


_BOTH = ("clip", "frame")
_SHARE, _SIGNED, _POSITIVE = (0.0, 1.0), (-1.0, 1.0), (0.0, math.inf)
_SETS = ("n_thresholds", "distribution of the map's values", "size of the anomaly")
_THRESHOLD_AXIS = ("baseline", "n_thresholds", "distribution of the map's values", "flatness")
_AREA_AXIS = ("baseline", "order of ties")
_FRAMES = ("motion of the anomaly", "number of valid frames")
_CLOCK = ("machine", "precision", "batch size", "settings of the method")
_HUMAN, _MODEL, _TIME = "human-centric", "model-centric", "run time"

_ALL = (
    Metric("iou", "IoU", _HUMAN, HIGHER, _SHARE, _SETS, _BOTH),
    Metric("f1", "F1", _HUMAN, HIGHER, _SHARE, _SETS, _BOTH),
    Metric("auc", "AUC", _HUMAN, HIGHER, _SHARE, ("ties (they count half)",), _BOTH),
    Metric("share_in_mask", "Share in the mask", _HUMAN, HIGHER, _SHARE, _SETS[1:]),
    Metric("leak", "Leak onto other movers", _HUMAN, LOWER, _SHARE, ("what counts as moving",)),
    Metric("motion_auc", "AUC among moving voxels", _HUMAN, HIGHER, _SHARE, ("n_mads",)),
    Metric("mover_auc", "AUC among movers", _HUMAN, HIGHER, _SHARE, ("n_mads", "grey step")),
    Metric("mover_leak", "Leak among movers", _HUMAN, LOWER, _SHARE, ("n_mads", "grey step")),
    Metric("deletion", "Deletion", _MODEL, HIGHER, _SIGNED, _THRESHOLD_AXIS),
    Metric("insertion", "Insertion", _MODEL, LOWER, _SIGNED, _THRESHOLD_AXIS),
    Metric("mean_area", "Mean area removed", _MODEL, None, _SHARE, ("n_thresholds",)),
    Metric("p_clip", "p(x)", _MODEL, None, _SHARE, ("model",)),
    Metric("p_baseline", "p(baseline)", _MODEL, None, _SHARE, ("model", "baseline")),
    Metric(
        "area_deletion",
        "Deletion, area axis (RISE)",
        _MODEL,
        LOWER,
        _SHARE,
        (*_AREA_AXIS, "n_steps"),
    ),
    Metric(
        "area_insertion",
        "Insertion, area axis (RISE)",
        _MODEL,
        HIGHER,
        _SHARE,
        (*_AREA_AXIS, "n_steps"),
    ),
    Metric(
        "area_matched_deletion",
        "Deletion at equal area",
        _MODEL,
        HIGHER,
        _SIGNED,
        (*_AREA_AXIS, "areas"),
    ),
    Metric(
        "area_matched_insertion",
        "Insertion at equal area",
        _MODEL,
        LOWER,
        _SIGNED,
        (*_AREA_AXIS, "areas"),
    ),
    Metric("mauc", "mAUC", "robustness", HIGHER, _SHARE, _FRAMES),
    Metric("stdauc", "stdAUC", "robustness", LOWER, (0.0, 0.5), _FRAMES),
    Metric("cv", "C_v", "robustness", LOWER, _POSITIVE, _FRAMES),
    Metric("worst", "AUC of the worst frame", "robustness", HIGHER, _SHARE, _FRAMES),
    Metric("n_frames", "Valid frames", "robustness", None, _POSITIVE, ("mask",)),
    Metric("seconds", "Run time", _TIME, LOWER, _POSITIVE, _CLOCK, unit="s"),
    Metric("model_calls", "Model calls", _TIME, LOWER, _POSITIVE, ("settings of the method",)),
)

METRICS: dict[str, Metric] = {metric.key: metric for metric in _ALL}


def direction(key: str) -> str | None:
    """Tell which way a metric is better: "higher", "lower", or None where neither is.

    Raises
    ------
    ValueError
        If there is no such metric.
    """
    if key not in METRICS:
        raise ValueError(f"no metric {key!r}; expected one of {', '.join(METRICS)}")
    return METRICS[key].direction
