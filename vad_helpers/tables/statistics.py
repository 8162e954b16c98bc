"""How sure are we? Intervals, paired tests, ranks; the unit of chance is the sequence.

Conventions
-----------
Clips of one sequence are correlated, so whole sequences are resampled (bootstrap) or flipped
(sign-flip test), and each stays in one piece. The statistic is always the mean over all clips.
NaN means "undefined for this clip": it is left out and counted. Intervals are percentile
intervals; with one sequence there is none (NaN). "undecided" is a verdict: the interval of the
difference includes zero. All of this is conditional on the trained models.

A table of scores is tidy: ``clip_id``, ``sequence``, ``method``, ``level``, ``metric``,
``value``. Which way is better comes from `vad_helpers.metrics.catalog`.

The functions on one row of scores live in `vad_helpers.tables.resampling` and are here too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from vad_helpers.metrics.catalog import HIGHER, direction
from vad_helpers.tables.resampling import (
    FEWEST_GROUPS,
    LEVEL,
    UNDECIDED,
    bootstrap_auc,
    bootstrap_mean,
    check_resampling,
    holm,
    paired_auc_difference,
    paired_difference,
    percentiles,
    resample,
    sign_flip_test,
    smallest_p,
    verdict,
)

__all__ = [
    "COLUMNS",
    "REFERENCES",
    "UNDECIDED",
    "against",
    "bootstrap_auc",
    "bootstrap_mean",
    "compare",
    "holm",
    "paired_auc_difference",
    "paired_difference",
    "rank_stability",
    "rank_table",
    "sign_flip_test",
    "smallest_p",
    "summarise",
    "verdict",
]

REFERENCES = ("random", "centre", "motion", "constant", "random_weights")
COLUMNS = ("clip_id", "sequence", "method", "level", "metric", "value")

Side = str | Sequence[str]


def summarise(
    scores: pd.DataFrame, *, n_resamples: int = 2000, level: float = LEVEL, seed: int = 0
) -> pd.DataFrame:
    """Mean and interval of every method, level and metric.

    Parameters
    ----------
    scores : DataFrame
        Tidy, one row a clip, method, level and metric.
    n_resamples, level, seed
        As `bootstrap_mean`.

    Returns
    -------
    DataFrame
        ``method``, ``level``, ``metric``, ``mean``, ``low``, ``high``, ``n``, ``n_groups``,
        ``n_undefined``, in order of first appearance.

    Raises
    ------
    ValueError
        If a column is missing, a score appears twice, or a parameter is out of range.
    """
    keys = ["method", "level", "metric"]
    options = {"n_resamples": n_resamples, "level": level, "seed": seed}
    rows = [
        {**dict(zip(keys, key, strict=True)), **_bootstrap_column(part, options)}
        for key, part in _check_scores(scores).groupby(keys, sort=False)
    ]
    return pd.DataFrame(rows)


def _bootstrap_column(scores: pd.DataFrame, options: Mapping[str, Any]) -> dict[str, float]:
    return bootstrap_mean(scores["value"], scores["sequence"], **options)


def rank_table(summary: pd.DataFrame, *, references: Collection[str] = REFERENCES) -> pd.DataFrame:
    """Rank every method among all rows, the references included.

    Parameters
    ----------
    summary : DataFrame
        As `summarise` gives it: ``method``, ``level``, ``metric``, ``mean``.
    references : collection of str
        Which methods are references.

    Returns
    -------
    DataFrame
        ``method``, ``level``, ``metric``, ``mean``, ``rank`` (1 is best; equal means share the
        better rank; NaN for an undefined mean), ``n_ranked``, ``is_reference``,
        ``references_ahead`` (how many references have a strictly better mean). Metrics that have
        no better side are left out.

    Raises
    ------
    ValueError
        If a metric is not in the catalog.
    """
    kept = summary.loc[[direction(m) is not None for m in summary["metric"]]]
    kept = kept[["method", "level", "metric", "mean"]]
    parts = [
        _rank_part(part, set(references))
        for _, part in kept.groupby(["level", "metric"], sort=False)
    ]
    return pd.concat(parts, ignore_index=True) if parts else _rank_part(kept, set(references))


def _rank_part(part: pd.DataFrame, references: set[str]) -> pd.DataFrame:
    # Costs: lower is better for all from here on.
    cost = part["mean"] * [-1 if direction(m) == HIGHER else 1 for m in part["metric"]]
    is_reference = part["method"].isin(references)
    bars = cost[is_reference].to_numpy()
    return part.assign(
        rank=cost.rank(method="min"),
        n_ranked=int(cost.notna().sum()),
        is_reference=is_reference,
        references_ahead=[int((bars < own).sum()) for own in cost],
    )


def rank_stability(
    scores: pd.DataFrame, *, n_resamples: int = 2000, level: float = LEVEL, seed: int = 0
) -> pd.DataFrame:
    """Say how firmly each method holds its rank when sequences are resampled.

    Parameters
    ----------
    scores : DataFrame
        Tidy, one row a clip, method, level and metric. Only the methods in it are ranked.
    n_resamples, level, seed
        As `bootstrap_mean`; every method is averaged over the same resampled sequences.

    Returns
    -------
    DataFrame
        ``method``, ``level``, ``metric``, ``p_best`` (share of resamples in which it is first),
        ``rank_median``, ``rank_low``, ``rank_high`` (percentile interval), and
        ``p_rank_1`` ... ``p_rank_<n methods>``: share of resamples at each rank. Equal means share
        the better rank, so a rank's shares may sum to more than 1 over methods; an undefined mean
        ranks last. With one sequence there is nothing to resample: all NaN.

    Raises
    ------
    ValueError
        As `summarise`; also if a metric is not in the catalog.
    """
    check_resampling(n_resamples, level)
    n_methods = scores["method"].nunique() if "method" in scores else 0
    rows: list[dict[str, Any]] = []
    for (at, metric), part in _check_scores(scores).groupby(["level", "metric"], sort=False):
        if (better := direction(metric)) is None:
            continue
        wide = _wide(part)
        ranks = _resampled_ranks(wide, better, n_resamples, seed)
        rows += [
            {"method": m, "level": at, "metric": metric, **_rank_shares(column, level, n_methods)}
            for m, column in zip(wide.columns, ranks.T, strict=True)
        ]
    return pd.DataFrame(rows)


def _resampled_ranks(wide: pd.DataFrame, better: str, n_resamples: int, seed: int) -> np.ndarray:
    """Ranks (n_resamples, n_methods); NaN throughout if there is one sequence."""
    grouped = wide.groupby(level="sequence", sort=True)
    sums, counts = grouped.sum().to_numpy(), grouped.count().to_numpy()
    if len(sums) < 2:
        return np.full((n_resamples, wide.shape[1]), np.nan)
    drawn = resample(len(sums), n_resamples, seed)
    with np.errstate(invalid="ignore"):
        means = (drawn @ sums) / (drawn @ counts)
    cost = -means if better == HIGHER else means
    return rankdata(np.where(np.isnan(cost), np.inf, cost), method="min", axis=1)


def _rank_shares(ranks: np.ndarray, level: float, n_methods: int) -> dict[str, float]:
    known = not np.isnan(ranks).any()
    low, high = percentiles(ranks, level)
    shares = {f"p_rank_{k}": np.mean(ranks == k) if known else np.nan for k in _up_to(n_methods)}
    return {
        "p_best": shares["p_rank_1"],
        "rank_median": np.median(ranks),
        "rank_low": low,
        "rank_high": high,
        **shares,
    }


def _up_to(n: int) -> range:
    return range(1, n + 1)


def against(reference: str, methods: Sequence[str]) -> list[tuple[str, str]]:
    """Give the contrasts of every other method against one, for `compare`."""
    return [(method, reference) for method in methods if method != reference]


def compare(
    scores: pd.DataFrame,
    contrasts: Sequence[tuple[Side, Side]] | Mapping[str, tuple[Side, Side]],
    *,
    within: Sequence[str] = (),
    n_resamples: int = 2000,
    level: float = LEVEL,
    n_flips: int = 9999,
    seed: int = 0,
) -> pd.DataFrame:
    """Judge contrasts that were fixed beforehand, on every level and metric in the table.

    Parameters
    ----------
    scores : DataFrame
        Tidy, one row a clip, method, level and metric.
    contrasts : sequence of (a, b), or mapping of name to (a, b)
        Each side a method, or several whose scores are averaged clip by clip (a family). A clip
        where any of them is undefined is left out.
    within : sequence of str
        Columns of the result that delimit the families of Holm's correction, such as
        ``("level", "metric")``; by default all rows are one family.
    n_resamples, level, seed
        As `bootstrap_mean`.
    n_flips : int
        As `sign_flip_test`.

    Returns
    -------
    DataFrame
        One row a contrast, level and metric: ``contrast``, ``level``, ``metric``, ``difference``
        (mean of a - b), ``low``, ``high``, ``n``, ``n_groups``, ``n_undefined``, ``p``,
        ``p_holm``, ``verdict`` (of a - b: "higher", "lower", "undecided"; the last also on fewer
        than four sequences), ``better`` ("a", "b", or "" if undecided or if the metric has no
        better side).

    Raises
    ------
    ValueError
        If a column or method is missing, a score appears twice, a metric is not in the catalog,
        or a parameter is out of range.
    """
    named = _named_contrasts(contrasts)
    rows = []
    for (at, metric), part in _check_scores(scores).groupby(["level", "metric"], sort=False):
        wide = _wide(part)
        for name, (a, b) in named.items():
            pair = _side(wide, a), _side(wide, b), wide.index.get_level_values("sequence")
            found = paired_difference(*pair, n_resamples=n_resamples, level=level, seed=seed)
            test = sign_flip_test(pair[0] - pair[1], pair[2], n_flips=n_flips, seed=seed)
            row = {"contrast": name, "level": at, "metric": metric, **found, "p": test["p"]}
            enough = found["n_groups"] >= FEWEST_GROUPS
            said = verdict(found["low"], found["high"]) if enough else UNDECIDED
            rows.append({**row, "verdict": said})
    return _judge(pd.DataFrame(rows), list(within))


def _judge(table: pd.DataFrame, within: list[str]) -> pd.DataFrame:
    if table.empty:
        return table
    families = table.groupby(within, sort=False)["p"] if within else None
    p_holm = families.transform(holm) if within else holm(table["p"])
    table.insert(table.columns.get_loc("p") + 1, "p_holm", p_holm)
    side = zip(table["verdict"], table["metric"], strict=True)
    return table.assign(better=[_better(found, direction(metric)) for found, metric in side])


def _better(found: str, wanted: str | None) -> str:
    if found == UNDECIDED or wanted is None:
        return ""
    return "a" if found == wanted else "b"


def _named_contrasts(
    contrasts: Sequence[tuple[Side, Side]] | Mapping[str, tuple[Side, Side]],
) -> dict[str, tuple[list[str], list[str]]]:
    if not isinstance(contrasts, Mapping):
        contrasts = {f"{_label(a)} - {_label(b)}": (a, b) for a, b in contrasts}
    return {name: (_members(a), _members(b)) for name, (a, b) in contrasts.items()}


def _members(side: Side) -> list[str]:
    return [side] if isinstance(side, str) else list(side)


def _label(side: Side) -> str:
    return side if isinstance(side, str) else f"({' + '.join(side)})"


def _side(wide: pd.DataFrame, methods: list[str]) -> np.ndarray:
    missing = [method for method in methods if method not in wide.columns]
    if missing or not methods:
        raise ValueError(f"no scores of {missing or 'no method'}; there are {list(wide.columns)}")
    return wide[methods].to_numpy(dtype=np.float64).mean(axis=1)


def _wide(part: pd.DataFrame) -> pd.DataFrame:
    """One row a clip, one column a method, in order of first appearance; absent scores NaN."""
    wide = part.pivot(index=["clip_id", "sequence"], columns="method", values="value")
    return wide[part["method"].unique()]


def _check_scores(scores: pd.DataFrame) -> pd.DataFrame:
    missing = [column for column in COLUMNS if column not in scores.columns]
    if missing:
        raise ValueError(f"scores lacks the columns {missing}; expected {', '.join(COLUMNS)}")
    twice = scores.duplicated(["clip_id", "method", "level", "metric"])
    if twice.any():
        row = scores.loc[twice, ["clip_id", "method", "level", "metric"]].iloc[0]
        raise ValueError(f"scores holds {tuple(row)} more than once; expected one row each")
    homes = scores.groupby("clip_id")["sequence"].nunique(dropna=False)
    if (homes > 1).any():
        raise ValueError(f"clip {homes.idxmax()} is in {homes.max()} sequences; expected one")
    return scores
