"""How sure are we? Intervals, paired tests, ranks; the unit of chance is the sequence.

Clips of one sequence are correlated, so whole sequences are resampled (bootstrap) or flipped
(sign-flip test). The statistic is always the mean over all clips; NaN, "undefined for this clip",
is left out and counted. Intervals are 95 % percentile intervals; with one sequence there is none
(NaN). All of this is conditional on the trained models.

A table of scores is tidy: ``clip_id``, ``sequence``, ``row``, ``level``, ``metric``, ``value``.

References
----------
C. A. Field, A. H. Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69, 2007.
A. M. Winkler et al., "Permutation inference for the general linear model", NeuroImage 92, 2014.
S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 1979.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from vad_helpers.metrics.catalog import HIGHER, LOWER, METRICS, direction

UNDECIDED = "undecided"
LEVEL = 0.95
"""Coverage that intervals aim at."""
MAX_EXACT_GROUPS = 30
"""Sequences of which all flips are counted: with drawn ones, a small p would depend on the seed."""
N_FLIPS = 9999
"""Random flips where there are more sequences."""
FEWEST_GROUPS = 4
"""Sequences that a judged interval takes: of fewer, its ends are the smallest and largest draws."""
SCORE_COLUMNS = ("clip_id", "sequence", "row", "level", "metric", "value")


def bootstrap_mean(
    values: Any, groups: Any, *, n_resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Mean over clips with an interval from resampled sequences.

    Parameters
    ----------
    values, groups : array, (n,)
        One score a clip, NaN where undefined; the sequence of each clip.
    n_resamples : int
        Draws of as many sequences as there are, with replacement.
    seed : int
        The same seed draws the same sequences for every score over the same sequences.

    Returns
    -------
    dict
        ``mean``; ``low``, ``high``: NaN with fewer than two sequences; ``n``: defined clips;
        ``n_groups``: sequences they are from; ``n_undefined``: NaNs.

    Raises
    ------
    ValueError
        If lengths differ, a value is infinite, or `n_resamples` is not a positive integer.
    """
    sums, counts, n_undefined = _by_group(values, groups)
    mean, draws = drawn_means(values, groups, n_resamples=n_resamples, seed=seed)
    low, high = percentiles(draws)
    found = {"mean": mean, "low": low, "high": high, "n": int(counts.sum())}
    return found | {"n_groups": len(sums), "n_undefined": n_undefined}


def paired_difference(a: Any, b: Any, groups: Any, **options: Any) -> dict[str, float]:
    """Mean of a - b over clips, both (n,) on the same clips, with an interval.

    As `bootstrap_mean`, with ``difference`` for ``mean``; a clip where either is NaN is left out.
    """
    a, b = _vector(a, name="a"), _vector(b, name="b")
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values and b {len(b)}; expected the same clips")
    found = bootstrap_mean(a - b, groups, **options)
    return {"difference": found.pop("mean"), **found}


def independent_difference(
    a: Any, a_groups: Any, b: Any, b_groups: Any, *, n_resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """Mean of a minus mean of b, (n_a,) and (n_b,) on different clips, with an interval.

    The two sides are resampled apart from each other. ``difference``, ``low`` and ``high``: NaN if
    either side has fewer than two sequences.
    """
    # Each side has draws of its own: equal ones would pair sequences that have no pair.
    first, first_draws = drawn_means(a, a_groups, n_resamples=n_resamples, seed=(seed, 0))
    second, second_draws = drawn_means(b, b_groups, n_resamples=n_resamples, seed=(seed, 1))
    low, high = percentiles(first_draws - second_draws)
    return {"difference": first - second, "low": low, "high": high}


def drawn_means(
    values: Any, groups: Any, *, n_resamples: int, seed: int | tuple[int, ...]
) -> tuple[float, np.ndarray]:
    """Mean over clips, and the means over resampled sequences, (n_resamples,), of its interval.

    All NaN with fewer than two sequences. What is drawn independently needs seeds of its own.
    """
    sums, counts, _ = _by_group(values, groups)
    mean = float(sums.sum() / counts.sum()) if len(sums) else np.nan
    drawn = resample(max(1, len(sums)), n_resamples, seed)
    if len(sums) < 2:
        return mean, np.full(n_resamples, np.nan)
    return mean, (drawn @ sums) / (drawn @ counts)


def drawn_aucs(
    p: Any, labels: Any, groups: Any, *, n_resamples: int, seed: int | tuple[int, ...]
) -> tuple[float, np.ndarray]:
    """ROC AUC of clips, and those of resampled sequences, (n_resamples,), of its interval.

    NaN where all clips are of one class; all NaN with fewer than two sequences.
    """
    p, labels, groups = _vector(p, name="p"), _vector(labels, name="labels"), np.asarray(groups)
    fits = len(p) == len(labels) == len(groups) and not np.isnan(p).any()
    if not fits or not np.isin(labels, (0, 1)).all():
        given = f"{len(p)}, {len(labels)} and {len(groups)} values"
        raise ValueError(f"p (no NaN), labels (0, 1) and groups have {given}; expected one a clip")
    # Pairs (anomalous clip of sequence i, normal one of j): how many the former wins, and all. A
    # drawn pair of sequences brings all its pairs of clips: no sorting for each draw.
    member = groups[:, None] == np.unique(groups)
    positive, negative = member[labels == 1].astype(float), member[labels == 0].astype(float)
    difference = p[labels == 1][:, None] - p[labels == 0]
    wins = positive.T @ ((difference > 0) + 0.5 * (difference == 0)) @ negative
    n_pairs = np.outer(positive.sum(axis=0), negative.sum(axis=0))
    drawn = resample(len(wins), n_resamples, seed)
    won, totals = (((drawn @ pairs) * drawn).sum(axis=1) for pairs in (wins, n_pairs))
    has_auc = (totals > 0) & (len(wins) > 1)
    aucs = np.divide(won, totals, out=np.full(n_resamples, np.nan), where=has_auc)
    return float(wins.sum() / n_pairs.sum()) if n_pairs.sum() else np.nan, aucs


def sign_flip_test(differences: Any, groups: Any, *, seed: int = 0) -> dict[str, float]:
    """Two-sided test of "the mean difference is zero" by flipping the signs of sequences.

    `differences`, (n,), are a - b, one a clip, NaN left out; clips of one of the `groups`, (n,),
    keep or change their sign together. Up to 30 sequences all flips are counted; of more, some are
    drawn by `seed`.

    ``p``: in (0, 1], never 0 (the flip that changes nothing counts); NaN without values.
    ``n_groups``; ``exact``: whether all flips were counted.
    """
    sums, _, _ = _by_group(differences, groups)
    exact = len(sums) <= MAX_EXACT_GROUPS
    # Sums of the same numbers in another order may differ in the last digits: ties must count.
    bound = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()
    p = 1.0 if len(sums) else np.nan
    if not exact:
        signs = 1.0 - 2.0 * np.random.default_rng(seed).integers(0, 2, size=(N_FLIPS, len(sums)))
        p = (int((np.abs(signs @ sums) >= bound).sum()) + 1) / (N_FLIPS + 1)
    elif bound > 0:
        # Totals of two halves are listed; of each in one, those in the other are counted that reach
        # the bound with it. As many reach minus the bound.
        totals = [np.zeros(1), np.zeros(1)]
        for i, value in enumerate(sums):
            half = int(i >= len(sums) // 2)
            totals[half] = np.concatenate([totals[half] + value, totals[half] - value])
        totals[1].sort()
        above = len(totals[1]) - np.searchsorted(totals[1], bound - totals[0], side="left")
        p = 2 * int(above.sum()) / 2 ** len(sums)
    return {"p": p, "n_groups": len(sums), "exact": exact}


def smallest_p(n_groups: int) -> float:
    """Smallest p that `sign_flip_test` can attain on a number of sequences; NaN for none.

    Times the number of comparisons, it is the smallest that `holm` can leave of the best of them:
    above .05, the test cannot speak. (Drawn flips can give a little less or more than it.)
    """
    if n_groups < 1:
        return np.nan
    agreeing = 2 / 2**n_groups
    return agreeing if n_groups <= MAX_EXACT_GROUPS else max(agreeing, 1 / (N_FLIPS + 1))


def holm(p_values: Any) -> np.ndarray:
    """Correct p-values, (n,) in [0, 1], for their number, after Holm; NaN stays and does not count.

    Raises
    ------
    ValueError
        If a value is outside [0, 1].
    """
    p = _vector(p_values, name="p_values")
    known = np.flatnonzero(~np.isnan(p))
    if ((p[known] < 0) | (p[known] > 1)).any():
        raise ValueError("p_values hold numbers outside [0, 1]; expected probabilities")
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(len(p), np.nan)
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(factors * p[order]))
    return adjusted


def interval_sign(low: float, high: float) -> str:
    """Read the interval of a difference: "higher" if all of it is above zero, "lower" if below.

    "undecided" if it includes or touches zero, or is NaN.
    """
    if low > 0:
        return HIGHER
    return LOWER if high < 0 else UNDECIDED


def summarise(scores: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Mean and interval of every row, level and metric of a tidy table, one line each.

    ``row``, ``level``, ``metric``, then as `bootstrap_mean`, in order of first appearance.

    Raises
    ------
    ValueError
        If a score appears twice, or a clip is in two sequences.
    """
    keys, lines = ["row", "level", "metric"], []
    for key, part in _check_scores(scores).groupby(keys, sort=False):
        found = bootstrap_mean(part["value"], part["sequence"], **options)
        lines.append(dict(zip(keys, key, strict=True)) | found)
    columns = [*keys, "mean", "low", "high", "n", "n_groups", "n_undefined"]
    return pd.DataFrame(lines, columns=columns)


def compare(
    scores: pd.DataFrame, pairs: Sequence[tuple[Sequence[str], Sequence[str]]], **options: Any
) -> pd.DataFrame:
    """Judge comparisons that were fixed beforehand, on every level and metric in the table.

    `scores` are tidy, `pairs` are of rows: several on a side (a family) are averaged clip by clip,
    without clips where any is undefined. Options are as in `bootstrap_mean`.

    One line a pair, level and metric: ``first``, ``second`` (rows, apart by spaces), ``level``,
    ``metric``; as `paired_difference`; ``p``; ``interval`` ("higher", "lower", "undecided"; the
    last also on fewer than four sequences); ``better`` ("first", "second", or "" if undecided or if
    no side is known to be better); ``p_holm`` (all lines are one family), ``smallest_p``
    (attainable after the correction, by the best of the family).

    Raises
    ------
    ValueError
        As `summarise`, or if a row is missing.
    """
    lines = []
    for (at, metric), part in _check_scores(scores).groupby(["level", "metric"], sort=False):
        wide = part.pivot(index=["clip_id", "sequence"], columns="row", values="value")
        groups = wide.index.get_level_values("sequence")
        for first, second in pairs:
            missing = {*first, *second} - set(wide.columns)
            if missing or not first or not second:
                raise ValueError(f"no scores of {missing or 'no row'}; there are {list(wide)}")
            a, b = (wide[list(side)].to_numpy(np.float64).mean(axis=1) for side in (first, second))
            found = paired_difference(a, b, groups, **options)
            enough = found["n_groups"] >= FEWEST_GROUPS
            interval = interval_sign(found["low"], found["high"]) if enough else UNDECIDED
            better = ""
            if interval != UNDECIDED and metric in METRICS and direction(metric) is not None:
                better = "first" if interval == direction(metric) else "second"
            line = {"first": " ".join(first), "second": " ".join(second), "level": at}
            line |= {"metric": metric} | found
            line["p"] = sign_flip_test(a - b, groups, seed=options.get("seed", 0))["p"]
            lines.append(line | {"interval": interval, "better": better})
    columns = ["first", "second", "level", "metric", "difference", "low", "high", "n", "n_groups"]
    columns += ["n_undefined", "p", "interval", "better"]
    return corrected(pd.DataFrame(lines, columns=columns))


def corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Correct comparisons as one family: columns p_holm and smallest_p, as `compare`."""
    least = table["n_groups"].map(smallest_p).astype(float) * table["p"].notna().sum()
    return table.assign(p_holm=holm(table["p"]), smallest_p=np.minimum(1, least))


def _check_scores(scores: pd.DataFrame) -> pd.DataFrame:
    keys = ["clip_id", "row", "level", "metric"]
    twice = scores.duplicated(keys)
    if twice.any():
        line = tuple(scores.loc[twice, keys].iloc[0])
        raise ValueError(f"scores holds {line} more than once; expected one line each")
    homes = scores.groupby("clip_id")["sequence"].nunique(dropna=False)
    if (homes > 1).any():
        raise ValueError(f"clip {homes.idxmax()} is in {homes.max()} sequences; expected one")
    return scores


def _vector(values: Any, *, name: str) -> np.ndarray:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or np.isinf(vector).any():
        raise ValueError(f"{name} must be one row of numbers or NaN; got shape {vector.shape}")
    return vector


def _by_group(values: Any, groups: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Sum and number of the defined values of each group that has any; number of NaNs."""
    vector, groups = _vector(values, name="values"), np.asarray(groups)
    if groups.shape != vector.shape or pd.isna(groups).any():
        given = f"groups has shape {groups.shape}, or holds missing values"
        raise ValueError(f"{given}; expected the sequence of each value, {vector.shape}")
    defined = ~np.isnan(vector)
    # Sorted, so that the order of the lines decides nothing.
    codes = pd.factorize(groups[defined], sort=True)[0]
    sums = np.bincount(codes, weights=vector[defined])
    return sums, np.bincount(codes), int((~defined).sum())


@functools.lru_cache(maxsize=32)  # hundreds of means are over the same sequences
def resample(n_groups: int, n_resamples: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """How often each of n groups is drawn when n are drawn with replacement: (resamples, n)."""
    if not isinstance(n_resamples, int | np.integer) or n_resamples < 1:
        raise ValueError(f"n_resamples is {n_resamples!r}; expected an integer of at least 1")
    drawn = np.random.default_rng(seed).integers(n_groups, size=(n_resamples, n_groups))
    cells = drawn + n_groups * np.arange(n_resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=n_resamples * n_groups).astype(np.float64)
    counts.flags.writeable = False
    return counts.reshape(n_resamples, n_groups)


def percentiles(draws: np.ndarray) -> tuple[float, float]:
    """Ends of the central 95 % of some draws; NaN if any is, or without any."""
    if not len(draws):
        return np.nan, np.nan
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, 1 - (1 - LEVEL) / 2])
    return float(low), float(high)
