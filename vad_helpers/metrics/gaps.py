"""Deletion and insertion where there is something to measure: by the gap p(x) - p(x_b).

The gap bounds every score of `vad_helpers.metrics.model_centric`. A baseline that keeps the
probability leaves nothing to delete, and a mean over such clips says little of a method.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

GAPS = (0.0, 0.05, 0.1, 0.2)


def by_gap(scores: pd.DataFrame, *, gaps: Sequence[float] = GAPS) -> pd.DataFrame:
    """Average deletion and insertion over the clips whose baseline moves the model enough.

    Parameters
    ----------
    scores : DataFrame
        One row a clip and method: ``clip_id``, ``sequence``, ``method``, ``deletion``,
        ``insertion``, ``p_clip``, ``p_baseline``.
    gaps : sequence of float
        Lower bounds of the gap p(x) - p(x_b), exclusive.

    Returns
    -------
    DataFrame
        One row a method and bound, that of all clips (``min_gap`` of -inf) first: ``method``,
        ``min_gap``, ``n_clips``, ``n_sequences``, ``deletion`` (higher is better), ``insertion``
        (lower is better), ``deletion_by_gap`` and ``insertion_by_gap``: means of the scores
        divided by each clip's gap, 1 for what the whole baseline does. These two are NaN for all
        clips, where gaps may be 0 or negative, and unsteady for a bound near 0.

    Raises
    ------
    ValueError
        If a column is missing or a bound is negative.
    """
    needed = {"clip_id", "sequence", "method", "deletion", "insertion", "p_clip", "p_baseline"}
    missing = sorted(needed - set(scores.columns))
    if missing:
        raise ValueError(f"scores lacks the columns {missing}; expected one row a clip and method")
    if any(not gap >= 0 for gap in gaps):
        raise ValueError(f"gaps are {tuple(gaps)}; expected numbers of at least 0")
    scores = scores.assign(gap=scores["p_clip"] - scores["p_baseline"])
    rows = [
        {"method": method, "min_gap": bound, **_gap_means(part[part["gap"] > bound], bound)}
        for method, part in scores.groupby("method", sort=False)
        for bound in (-np.inf, *gaps)
    ]
    return pd.DataFrame(rows)


def _gap_means(scores: pd.DataFrame, bound: float) -> dict[str, float]:
    gap = scores["gap"] if np.isfinite(bound) else np.nan
    return {
        "n_clips": scores["clip_id"].nunique(),
        "n_sequences": scores["sequence"].nunique(),
        "deletion": scores["deletion"].mean(),
        "insertion": scores["insertion"].mean(),
        "deletion_by_gap": (scores["deletion"] / gap).mean(),
        "insertion_by_gap": (scores["insertion"] / gap).mean(),
    }
