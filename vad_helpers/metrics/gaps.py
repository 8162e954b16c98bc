"""Deletion and insertion where there is something to measure: by the gap p(x) - p(x_b).

The gap bounds every score of `vad_helpers.metrics.model_centric`. A baseline that keeps the
probability leaves nothing to delete, and a mean over such clips says little of a method.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vad_helpers.metrics.resampling import LEVEL, bootstrap_mean

GAPS = (0.0, 0.05, 0.1, 0.2)


def by_gap(
    scores: pd.DataFrame,
    *,
    gaps: Sequence[float] = GAPS,
    n_resamples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
) -> pd.DataFrame:
    """Average deletion and insertion over the clips whose baseline moves the model enough.

    Parameters
    ----------
    scores : DataFrame
        One row a clip and method: ``clip_id``, ``sequence``, ``method``, ``deletion``,
        ``insertion``, ``p_clip``, ``p_baseline``.
    gaps : sequence of float
        Lower bounds of the gap p(x) - p(x_b), exclusive.
    n_resamples, level, seed
        As `bootstrap_mean`.

    Returns
    -------
    DataFrame
        One row a method and bound, that of all clips (``min_gap`` of -inf) first: ``method``,
        ``min_gap``, ``n_clips``, ``n_sequences``, ``deletion`` (higher is better), ``insertion``
        (lower is better), ``deletion_by_gap`` and ``insertion_by_gap``: means of the scores
        divided by each clip's gap, 1 for what the whole baseline does. These two are NaN for all
        clips, where gaps may be 0 or negative, and unsteady for a bound near 0. Each of the four
        has an interval from resampled sequences beside it, such as ``deletion_low`` and
        ``deletion_high``; NaN with fewer than two sequences.

    Raises
    ------
    ValueError
        If a column is missing, a bound is negative, or a parameter is out of range.
    """
    needed = {"clip_id", "sequence", "method", "deletion", "insertion", "p_clip", "p_baseline"}
    missing = sorted(needed - set(scores.columns))
    if missing:
        raise ValueError(f"scores lacks the columns {missing}; expected one row a clip and method")
    if any(not gap >= 0 for gap in gaps):
        raise ValueError(f"gaps are {tuple(gaps)}; expected numbers of at least 0")
    scores = scores.assign(gap=scores["p_clip"] - scores["p_baseline"])
    options = {"n_resamples": n_resamples, "level": level, "seed": seed}
    rows = [
        {"method": method, "min_gap": bound, **_gap_means(part, bound, options)}
        for method, part in scores.groupby("method", sort=False)
        for bound in (-np.inf, *gaps)
    ]
    return pd.DataFrame(rows)


def _gap_means(scores: pd.DataFrame, bound: float, options: dict[str, float]) -> dict[str, float]:
    scores = scores[scores["gap"] > bound]
    gap = scores["gap"] if np.isfinite(bound) else np.nan
    values = {
        "deletion": scores["deletion"],
        "insertion": scores["insertion"],
        "deletion_by_gap": scores["deletion"] / gap,
        "insertion_by_gap": scores["insertion"] / gap,
    }
    means = {n: bootstrap_mean(v, scores["sequence"], **options) for n, v in values.items()}
    return {
        "n_clips": scores["clip_id"].nunique(),
        "n_sequences": scores["sequence"].nunique(),
        **{name: found["mean"] for name, found in means.items()},
        **{f"{n}_{end}": found[end] for n, found in means.items() for end in ("low", "high")},
    }
