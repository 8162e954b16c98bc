"""All scores of one map, by table: what is measured, and at which levels.

Lines are tuples as the tables of a run hold them, without the columns that say which map it is:
(level, metric, value) of human_centric, model_centric and robustness, (frame, auc) of frame_auc,
(curve, numbers apart by spaces) of curves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from vad_helpers.errors import InputError
from vad_helpers.metrics import human_centric, model_centric, robustness
from vad_helpers.metrics.catalog import Metric

Lines = dict[str, list[tuple]]


def over_time(attribution: Any, mask: Any) -> Lines:
    """Score a map on its robustness alone: lines of robustness and frame_auc.

    Parameters and errors are those of `robustness.temporal`; frames without an AUC have no line.
    """
    aucs = robustness.frame_aucs(attribution, mask)
    scores = robustness.temporal(attribution, mask)
    return {
        "robustness": [("clip", metric, float(value)) for metric, value in scores.items()],
        "frame_auc": [(t, float(auc)) for t, auc in enumerate(aucs) if not np.isnan(auc)],
    }


def evaluate(
    attribution: np.ndarray,
    *,
    mask: np.ndarray,
    changing: np.ndarray,
    moving: np.ndarray,
    clip: Any,
    baseline: Any,
    predict: Callable[[Any], Any],
    n_thresholds: int = 50,
    n_steps: int = 50,
    batch_size: int = 8,
    seed: int = 0,
    ends: Sequence[float] | None = None,
    own: Sequence[Metric] = (),
) -> Lines:
    """Score a map on everything.

    Parameters
    ----------
    attribution : ndarray, (T, H, W)
        Signed map.
    mask : ndarray of bool, (T, H, W)
        True on the anomaly.
    changing, moving : ndarray of bool, (T, H, W)
        From `human_centric.moving_voxels`: any change where a clip mostly stands still; and, with
        its `step`, more than the rounding of grey values.
    clip, baseline : tensor or array, (3, T, H, W)
    predict, n_thresholds, n_steps, batch_size, seed, ends
        As `model_centric.both_axes`.
    own : sequence of Metric
        More metrics, with a `score`: each is a line, of the clip, in the table of its family.

    Returns
    -------
    dict of str to list of tuple
        Lines by table, those of `over_time` too.

    Raises
    ------
    InputError
        If shapes do not fit together, the map is not finite, or `predict` gives no probabilities.
    """
    n = {"n_thresholds": n_thresholds}

    def at_peak(values: np.ndarray, **rule: str) -> dict[str, float]:
        scores = human_centric.frame_localization(values, mask, **n, **rule)
        return {name: scores[name] for name in human_centric.KEYS}

    of_changing, of_moving = (
        human_centric.motion_localization(attribution, mask, motion)
        for motion in (changing, moving)
    )
    signed = human_centric.signed_aucs(attribution, mask)
    levels = {
        "clip": human_centric.localization(attribution, mask, **n)
        | {"motion_auc": of_changing["auc"]}
        | {name: of_changing[name] for name in ("n_moving", "n_anomalous_moving", "leak")}
        | {"share_in_mask": human_centric.concentration(attribution, mask)["share_in_mask"]}
        | {"pointing": human_centric.pointing(attribution, mask)}
        | {"gini": human_centric.sparseness(attribution)}
        | {"all_zero": human_centric.is_all_zero(attribution)},
        "frame": human_centric.frame_localization(attribution, mask, **n),
        "moving": {
            "auc": of_moving["auc"],
            "leak": of_moving["leak_moving"],
            "n_moving": of_moving["n_moving"],
            "n_anomalous": of_moving["n_anomalous_moving"],
        },
        # What the paper leaves open, settled differently: for the sensitivity of the rankings.
        "clip_abs": human_centric.localization(np.abs(attribution), mask, **n),
        "frame_abs": at_peak(np.abs(attribution)),
        "frame_any": at_peak(attribution, frames="masked"),
        "frame_first": at_peak(attribution, ties="first"),
        "clip_signed": {"auc": signed["clip"]},
        "frame_signed": {"auc": signed["frame"]},
    }
    asked = predict, clip, baseline, attribution
    options = {"batch_size": batch_size, "seed": seed}
    axes = model_centric.both_axes(*asked, **n, n_steps=n_steps, ends=ends, **options)
    faithful = {**axes["area"], **axes["threshold"], **axes["shared"]}
    blocks = {"areas": model_centric.BLOCK_AREAS, "block": model_centric.BLOCK}
    ends = faithful["p_clip"], faithful["p_baseline"]
    of_blocks = model_centric.area_matched(*asked, **blocks, ends=ends, **options)
    faithful |= {"srg_blocks": of_blocks["srg"]}
    faithful["model_calls"] += of_blocks["model_calls"]
    lines = over_time(attribution, mask) | {
        "human_centric": [
            (level, metric, float(value))
            for level, scores in levels.items()
            for metric, value in scores.items()
        ],
        "model_centric": [
            ("clip", metric, float(value))
            for metric, value in faithful.items()
            if np.ndim(value) == 0
        ],
        "curves": [
            (f"{axis}_{name}", " ".join(f"{value:.4g}" for value in line))
            for axis in ("threshold", "area")
            for name, line in axes[axis].items()
            if np.ndim(line)
        ],
    }
    given = {"mask": mask, "clip": clip, "baseline": baseline, "predict": predict}
    for metric in own:
        value = metric.score(attribution.copy(), **given)  # which it may write into
        low, high = metric.range
        if not isinstance(value, Real) or not (np.isnan(value) or low <= value <= high):
            span = f"a number from {low:g} to {high:g}, or NaN"
            raise InputError(f"metric {metric.key!r} gave {value!r}; expected {span}")
        lines[metric.family.replace("-", "_")].append(("clip", metric.key, float(value)))
    return lines
