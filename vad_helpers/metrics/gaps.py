"""Deletion and insertion where there is something to measure: by the gap p(x) - p(x_b).

The gap is what the whole baseline does. One that keeps the probability leaves little to delete, and
a mean over such clips says little of a method. It is no bound: a clip of which a part is replaced
can have a lower probability than either.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vad_helpers.tables.resampling import LEVEL, bootstrap_mean

GAPS = (0.0, 0.05, 0.1, 0.2)
SCORES = ("deletion", "insertion")
EQUAL_AREA = ("area_matched_deletion", "area_matched_insertion")
"""Scores that are averaged too where they are given."""


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
        ``insertion``, ``p_clip``, ``p_baseline``; the columns of `EQUAL_AREA` may be there too.
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
        clips, where gaps may be 0 or negative, and unsteady for a bound near 0. The same of the
        scores of `EQUAL_AREA` that are given. Each mean has an interval from resampled sequences
        beside it, such as ``deletion_low`` and ``deletion_high``; NaN with fewer than two
        sequences.

    Raises
    ------
    ValueError
        If a column is missing, a bound is negative, or a parameter is out of range.
    """
    needed = {"clip_id", "sequence", "method", *SCORES, "p_clip", "p_baseline"}
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
    given = [name for name in (*SCORES, *EQUAL_AREA) if name in scores]
    values = {name: scores[name] for name in given}
    values |= {f"{name}_by_gap": scores[name] / gap for name in given}
    means = {n: bootstrap_mean(v, scores["sequence"], **options) for n, v in values.items()}
    return {
        "n_clips": scores["clip_id"].nunique(),
        "n_sequences": scores["sequence"].nunique(),
        **{name: found["mean"] for name, found in means.items()},
        **{f"{n}_{end}": found[end] for n, found in means.items() for end in ("low", "high")},
    }
