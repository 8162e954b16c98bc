"""Intervals and tests for one row of scores; the unit of chance is the sequence.

Conventions: see `vad_helpers.tables.statistics`, which has all of this for whole tables.

References
----------
C. A. Field, A. H. Welsh, "Bootstrapping clustered data", J. R. Stat. Soc. B 69, 2007.
A. M. Winkler et al., "Permutation inference for the general linear model", NeuroImage 92, 2014.
S. Holm, "A simple sequentially rejective multiple test procedure", Scand. J. Stat. 6, 1979.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vad_helpers.metrics.arrays import check_count, to_numpy
from vad_helpers.metrics.catalog import HIGHER, LOWER

UNDECIDED = "undecided"
LEVEL = 0.95
"""Coverage that intervals aim at unless another is asked for."""
MAX_EXACT_GROUPS = 30
"""Sequences of which all flips are counted: with drawn ones, a small p and what a correction makes
of it would depend on the seed."""
FEWEST_GROUPS = 4
"""Sequences that a judged interval takes: of fewer, its ends are the smallest and largest draws."""


def bootstrap_mean(
    values: Any, groups: Any, *, n_resamples: int = 2000, level: float = LEVEL, seed: int = 0
) -> dict[str, float]:
    """Mean over clips with an interval from resampled sequences.

    Parameters
    ----------
    values : array, (n,)
        One score a clip; NaN where undefined.
    groups : array, (n,)
        The sequence of each clip.
    n_resamples : int
        Draws of as many sequences as there are, with replacement.
    level : float
        Coverage aimed at, in (0, 1).
    seed : int
        The same seed draws the same sequences for every score over the same sequences.

    Returns
    -------
    dict
        ``mean``; ``low``, ``high``: percentile interval, NaN with fewer than two sequences;
        ``n``: defined clips; ``n_groups``: sequences they are from; ``n_undefined``: NaNs.

    Raises
    ------
    ValueError
        If lengths differ, a value is infinite, or a parameter is out of range.
    """
    sums, counts, n_undefined = _by_group(values, groups)
    check_resampling(n_resamples, level)
    low = high = np.nan
    if len(sums) > 1:
        drawn = resample(len(sums), n_resamples, seed)
        low, high = percentiles((drawn @ sums) / (drawn @ counts), level)
    return {
        "mean": float(sums.sum() / counts.sum()) if len(sums) else np.nan,
        "low": float(low),
        "high": float(high),
        "n": int(counts.sum()),
        "n_groups": len(sums),
        "n_undefined": n_undefined,
    }


def paired_difference(
    a: Any, b: Any, groups: Any, *, n_resamples: int = 2000, level: float = LEVEL, seed: int = 0
) -> dict[str, float]:
    """Mean of a - b over clips with an interval from resampled sequences.

    Parameters
    ----------
    a, b : array, (n,)
        Scores of two methods on the same clips, in the same order; a clip where either is NaN is
        left out.
    groups, n_resamples, level, seed
        As `bootstrap_mean`.

    Returns
    -------
    dict
        ``difference``, then ``low``, ``high``, ``n``, ``n_groups``, ``n_undefined`` as
        `bootstrap_mean`.

    Raises
    ------
    ValueError
        As `bootstrap_mean`.
    """
    a, b = _vector(a, name="a"), _vector(b, name="b")
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} values and b {len(b)}; expected the same clips")
    found = bootstrap_mean(a - b, groups, n_resamples=n_resamples, level=level, seed=seed)
    return {"difference": found.pop("mean"), **found}


def independent_difference(
    a: Any,
    a_groups: Any,
    b: Any,
    b_groups: Any,
    *,
    n_resamples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, float]:
    """Difference of the means of a and b, scored on different clips, with an interval.

    Parameters
    ----------
    a, b : array, (n_a,) and (n_b,)
        Scores; NaN is left out.
    a_groups, b_groups : array, (n_a,) and (n_b,)
        The sequence of each clip; the two sides are resampled apart from each other.
    n_resamples, level, seed
        As `bootstrap_mean`.

    Returns
    -------
    dict
        ``difference`` (mean of a minus mean of b); ``low``, ``high``: percentile interval, NaN
        if either side has fewer than two sequences.

    Raises
    ------
    ValueError
        As `bootstrap_mean`.
    """
    check_resampling(n_resamples, level)
    # Each side has draws of its own: equal ones would pair sequences that have no pair.
    first, first_draws = drawn_means(a, a_groups, n_resamples=n_resamples, seed=[seed, 0])
    second, second_draws = drawn_means(b, b_groups, n_resamples=n_resamples, seed=[seed, 1])
    low, high = percentiles(first_draws - second_draws, level)
    return {"difference": first - second, "low": float(low), "high": float(high)}


def drawn_means(
    values: Any, groups: Any, *, n_resamples: int, seed: int | list[int]
) -> tuple[float, np.ndarray]:
    """Mean over clips, and the means over resampled sequences that its interval is made of.

    Parameters
    ----------
    values, groups
        As `bootstrap_mean`.
    n_resamples, seed
        Scores that are drawn independently of one another need seeds of their own.

    Returns
    -------
    mean : float
    means : ndarray of float, (n_resamples,)
        All NaN with fewer than two sequences.
    """
    sums, counts, _ = _by_group(values, groups)
    mean = float(sums.sum() / counts.sum()) if len(sums) else np.nan
    if len(sums) < 2:
        return mean, np.full(n_resamples, np.nan)
    drawn = resample(len(sums), n_resamples, seed)
    return mean, (drawn @ sums) / (drawn @ counts)


def bootstrap_auc(
    p: Any,
    labels: Any,
    groups: Any,
    *,
    n_resamples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, float]:
    """ROC AUC of clips with an interval from resampled sequences.

    Parameters
    ----------
    p : array, (n,)
        One score a clip, without NaN; larger speaks for class 1.
    labels : array, (n,)
        0 or 1.
    groups : array, (n,)
        The sequence of each clip.
    n_resamples, level, seed
        As `bootstrap_mean`.

    Returns
    -------
    dict
        ``auc``: in [0, 1], ties count one half; NaN if there is one class only. ``low``,
        ``high``: percentile interval over the draws that have an AUC; NaN without any, or with
        fewer than two sequences. ``n``, ``n_groups``: clips and sequences. ``n_one_class``:
        draws left out because all their clips are of one class.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, a label is not 0 or 1, or a parameter is out of
        range.
    """
    check_resampling(n_resamples, level)
    auc, aucs = drawn_aucs(p, labels, groups, n_resamples=n_resamples, seed=seed)
    return {"auc": auc, **_of_draws(aucs, labels, groups, level)}


def paired_auc_difference(
    a: Any,
    b: Any,
    labels: Any,
    groups: Any,
    *,
    n_resamples: int = 2000,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, float]:
    """How far the ROC AUCs of two scores of the same clips are apart, with an interval.

    Both are of the same drawn sequences each time, so that what makes a sequence easy or hard for
    either drops out.

    Parameters
    ----------
    a, b : array, (n,)
        Two scores of the same clips, in the same order, without NaN; larger speaks for class 1.
    labels, groups, n_resamples, level, seed
        As `bootstrap_auc`.

    Returns
    -------
    dict
        ``difference``: AUC of a minus AUC of b, in [-1, 1]. ``low``, ``high``, ``n``,
        ``n_groups``, ``n_one_class``: as `bootstrap_auc`.

    Raises
    ------
    ValueError
        As `bootstrap_auc`.
    """
    check_resampling(n_resamples, level)
    options = {"n_resamples": n_resamples, "seed": seed}
    (first, of_a), (second, of_b) = (drawn_aucs(p, labels, groups, **options) for p in (a, b))
    return {"difference": first - second, **_of_draws(of_a - of_b, labels, groups, level)}


def drawn_aucs(
    p: Any, labels: Any, groups: Any, *, n_resamples: int, seed: int | list[int]
) -> tuple[float, np.ndarray]:
    """ROC AUC of clips, and those of resampled sequences that its interval is made of.

    Parameters
    ----------
    p, labels, groups
        As `bootstrap_auc`.
    n_resamples, seed
        As `drawn_means`.

    Returns
    -------
    auc : float
        NaN if there is one class only.
    aucs : ndarray of float, (n_resamples,)
        NaN for a draw whose clips are all of one class. A single sequence is drawn as it is.
    """
    wins, n_pairs = _pairs_by_group(p, labels, groups)
    # A drawn pair of sequences brings all its pairs of clips: no sorting for each draw.
    drawn = resample(len(wins), n_resamples, seed)
    won, totals = (((drawn @ pairs) * drawn).sum(axis=1) for pairs in (wins, n_pairs))
    aucs = np.divide(won, totals, out=np.full(n_resamples, np.nan), where=totals > 0)
    return float(wins.sum() / n_pairs.sum()) if n_pairs.sum() else np.nan, aucs


def _of_draws(draws: np.ndarray, labels: Any, groups: Any, level: float) -> dict[str, float]:
    """The interval of draws, some of which may be undefined (NaN), and what it is of."""
    n_groups = len(np.unique(np.asarray(groups)))
    defined = ~np.isnan(draws)
    low = high = np.nan
    if n_groups > 1 and defined.any():
        low, high = percentiles(draws[defined], level)
    return {
        "low": float(low),
        "high": float(high),
        "n": len(np.asarray(labels)),
        "n_groups": n_groups,
        "n_one_class": int((~defined).sum()),
    }


def _pairs_by_group(p: Any, labels: Any, groups: Any) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (anomalous clip of sequence i, normal one of j): how many the former wins, and all."""
    p, labels, groups = _vector(p, name="p"), _vector(labels, name="labels"), np.asarray(groups)
    if not len(p) == len(labels) == len(groups):
        raise ValueError(
            f"p, labels and groups have {len(p)}, {len(labels)} and {len(groups)} values; "
            "expected one of each a clip"
        )
    if np.isnan(p).any() or not np.isin(labels, (0, 1)).all():
        raise ValueError("p holds NaN or labels hold something else than 0 and 1")
    member = np.asarray(groups)[:, None] == np.unique(groups)
    positive, negative = member[labels == 1].astype(float), member[labels == 0].astype(float)
    difference = p[labels == 1][:, None] - p[labels == 0]
    won = (difference > 0) + 0.5 * (difference == 0)
    return positive.T @ won @ negative, np.outer(positive.sum(axis=0), negative.sum(axis=0))


def sign_flip_test(
    differences: Any, groups: Any, *, n_flips: int = 9999, seed: int = 0
) -> dict[str, float]:
    """Two-sided test of "the mean difference is zero" by flipping the signs of sequences.

    Parameters
    ----------
    differences : array, (n,)
        a - b, one a clip; NaN is left out.
    groups : array, (n,)
        The sequence of each clip: its clips keep or change their sign together.
    n_flips : int
        Random flips where there are more than 30 sequences; up to 30, all flips are counted.
    seed : int
        Of the random flips.

    Returns
    -------
    dict
        ``p``: in (0, 1], never 0 (the flip that changes nothing counts); NaN without values. The
        smallest that G sequences can give is 2 / 2**G. ``n_groups``; ``exact``: whether all flips
        were counted.

    Raises
    ------
    ValueError
        If lengths differ, a value is infinite, or `n_flips` is not a positive integer.
    """
    check_count(n_flips, name="n_flips")
    sums, _, _ = _by_group(differences, groups)
    exact = len(sums) <= MAX_EXACT_GROUPS
    if not len(sums):
        return {"p": np.nan, "n_groups": 0, "exact": exact}
    # Sums of the same numbers in another order may differ in the last digits: ties must count.
    bound = abs(sums.sum()) - 1e-12 * np.abs(sums).sum()
    if exact:
        p = _share_as_far(sums, bound)
    else:
        flipped = _random_signs(len(sums), n_flips, seed) @ sums
        p = (int((np.abs(flipped) >= bound).sum()) + 1) / (n_flips + 1)
    return {"p": p, "n_groups": len(sums), "exact": exact}


def smallest_p(n_groups: int, *, n_flips: int = 9999) -> float:
    """Smallest p-value that `sign_flip_test` can give, before any correction.

    Parameters
    ----------
    n_groups : int
        Number of sequences.
    n_flips : int
        As `sign_flip_test`.

    Returns
    -------
    float
        In (0, 1]; NaN without a sequence. Drawn flips can give a little less or more than it. Times
        the number of comparisons, it is the smallest that `holm` can leave of the best of them:
        above .05, the test cannot speak.
    """
    if n_groups < 1:
        return np.nan
    agreeing = 2 / 2**n_groups
    return agreeing if n_groups <= MAX_EXACT_GROUPS else max(agreeing, 1 / (n_flips + 1))


def _share_as_far(sums: np.ndarray, bound: float) -> float:
    """Share of all choices of signs under which the total is as far from zero as the bound.

    Totals of two halves of the groups are listed, and of each in one, those in the other counted.
    """
    if bound <= 0:
        return 1.0
    half = len(sums) // 2
    one, other = _totals(sums[:half]), np.sort(_totals(sums[half:]))
    above = len(other) - np.searchsorted(other, bound - one, side="left")
    below = np.searchsorted(other, -bound - one, side="right")
    return int((above + below).sum()) / 2 ** len(sums)


def _totals(sums: np.ndarray) -> np.ndarray:
    """Give the total under every choice of signs: (2**n,)."""
    totals = np.zeros(1)
    for value in sums:
        totals = np.concatenate([totals + value, totals - value])
    return totals


def _random_signs(n_groups: int, n_flips: int, seed: int) -> np.ndarray:
    return 1.0 - 2.0 * np.random.default_rng(seed).integers(0, 2, size=(n_flips, n_groups))


def holm(p_values: Any) -> np.ndarray:
    """Correct p-values for their number, after Holm.

    Parameters
    ----------
    p_values : array, (n,)
        In [0, 1]; NaN stays NaN and is not counted.

    Returns
    -------
    ndarray of float64, (n,)
        Adjusted p-values in [0, 1]; compare them with the level of the whole family.

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


def verdict(low: float, high: float) -> str:
    """Read the interval of a difference a - b.

    Returns
    -------
    str
        "higher" if all of it is above zero, "lower" if below, else "undecided" (also if it
        touches zero or is NaN).
    """
    if low > 0:
        return HIGHER
    return LOWER if high < 0 else UNDECIDED


def check_resampling(n_resamples: int, level: float) -> None:
    """Raise ValueError unless these can make an interval."""
    check_count(n_resamples, name="n_resamples")
    if not 0 < level < 1:
        raise ValueError(f"level is {level!r}; expected a number between 0 and 1, such as 0.95")


def _vector(values: Any, *, name: str) -> np.ndarray:
    vector = np.asarray(to_numpy(values), dtype=np.float64)
    if vector.ndim != 1 or np.isinf(vector).any():
        raise ValueError(f"{name} must be one row of numbers or NaN; got shape {vector.shape}")
    return vector


def _by_group(values: Any, groups: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Sum and number of the defined values of each group that has any; number of NaNs."""
    vector, groups = _vector(values, name="values"), np.asarray(groups)
    if groups.shape != vector.shape:
        raise ValueError(f"groups has shape {groups.shape}; expected one a value, {vector.shape}")
    if pd.isna(groups).any():
        raise ValueError("groups holds missing values; expected the sequence of every clip")
    defined = ~np.isnan(vector)
    # Sorted, so that the order of the rows decides nothing.
    codes = pd.factorize(groups[defined], sort=True)[0]
    sums = np.bincount(codes, weights=vector[defined])
    return sums, np.bincount(codes), int((~defined).sum())


def resample(n_groups: int, n_resamples: int, seed: int | list[int]) -> np.ndarray:
    """How often each of n groups is drawn when n are drawn with replacement: (resamples, n)."""
    drawn = np.random.default_rng(seed).integers(n_groups, size=(n_resamples, n_groups))
    cells = drawn + n_groups * np.arange(n_resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=n_resamples * n_groups)
    return counts.reshape(n_resamples, n_groups).astype(np.float64)


def percentiles(values: np.ndarray, level: float) -> np.ndarray:
    """Give the two ends of the central share `level` of the values."""
    tail = (1 - level) / 2
    return np.quantile(values, [tail, 1 - tail])
