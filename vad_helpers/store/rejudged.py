"""A published study judged again: with enough samples, or under another setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from vad_helpers.metrics.catalog import direction
from vad_helpers.store import study, verdicts
from vad_helpers.store.claims import CLAIMS, Claim
from vad_helpers.store.published import Published, once
from vad_helpers.tables import statistics

TWICE = ("claim", "statement", "before", "after", "reason", "n_contrasts", "n_changed", "n_turned",
         "n_clips", "n_groups")  # fmt: skip
CONVERGENCE = (
    ("human_centric", "clip", "auc"),
    ("human_centric", "clip", "iou"),
    ("model_centric", "clip", "deletion"),
    ("robustness", "clip", "cv"),
)


@once
def judged_converged(found: Published) -> pd.DataFrame:
    """Do the verdicts survive enough samples? The converged rows in place of their methods.

    Only claims count that need a method with a converged row, and none that need a row without
    one, as variants are. Both verdicts are on the clips that all converged rows have.

    Returns
    -------
    DataFrame
        As `judged_twice`. Empty where no row is converged.
    """
    swaps = {f"{m}{study.CONVERGED}": m for m in study.methods(found)}
    swaps = {row: m for row, m in swaps.items() if row in set(found.rows["method"])}
    clips = study.clips_with(found, [*swaps, *swaps.values()])
    if not swaps or clips.empty:
        return pd.DataFrame(columns=list(TWICE))
    of_methods = set(study.methods(found))
    asked = [
        claim
        for claim in CLAIMS
        for needed in [verdicts.rows_of(claim, found.rows)]
        if needed & set(swaps.values()) and needed <= of_methods
    ]
    before = {name: table[table["clip_id"].isin(clips["clip_id"])]
              for name, table in study.scores(found).items()}  # fmt: skip
    after = {name: _swapped(table, swaps) for name, table in before.items()}
    size = (len(clips), clips["sequence"].nunique())
    return judged_twice(found, before, after, asked, size)


@once
def judged_called(found: Published) -> pd.DataFrame:
    """Are the verdicts others on the clips that the networks call anomalous?

    A map of a missed clip has no right decision to explain. Before: on all clips; after: on those
    whose p(x) is one half or more.

    Returns
    -------
    DataFrame
        As `judged_twice`; n_clips and n_groups are of the clips that are called anomalous. Empty
        where the networks miss none of the clips, or all.
    """
    p = study.probabilities(found)
    called = found.clips[found.clips["clip_id"].map(p) >= study.CALLED_FROM]
    if len(called) in (0, len(found.clips)):
        return pd.DataFrame(columns=list(TWICE))
    before = study.scores(found)
    after = {name: table[table["clip_id"].isin(called["clip_id"])]
             for name, table in before.items()}  # fmt: skip
    size = (len(called), called["sequence"].nunique())
    return judged_twice(found, before, after, CLAIMS, size)


def judged_twice(
    found: Published,
    before: Mapping[str, pd.DataFrame],
    after: Mapping[str, pd.DataFrame],
    claims: Sequence[Claim],
    size: tuple[int, int],
) -> pd.DataFrame:
    """Judge claims on two sets of scores by the same rule.

    Parameters
    ----------
    found : Published
    before, after : mapping of str to DataFrame
        Tidy scores by name of the table.
    claims : sequence of Claim
    size : tuple of int
        Clips and sequences, for the table.

    Returns
    -------
    DataFrame
        `TWICE`: claim, statement, before and after (verdicts), reason (of the verdict after),
        n_contrasts (that decide), n_changed (of them: with another result), n_turned (of these:
        from one side to the other), n_clips, n_groups.
    """
    two = [verdicts.judge(scored, found.rows, claims=claims, **study.options(found))
           for scored in (before, after)]  # fmt: skip
    lines = [
        (old.claim.number, old.claim.statement, old.verdict, new.verdict, new.reason,
         len(old.deciding), *_n_moved(old, new), *size)
        for old, new in zip(*two, strict=True)
    ]  # fmt: skip
    return pd.DataFrame(lines, columns=list(TWICE))


def n_kept(table: pd.DataFrame) -> int:
    """Count the claims of `judged_twice` that keep their verdict."""
    return int((table["before"] == table["after"]).sum())


def _n_moved(old: verdicts.Judged, new: verdicts.Judged) -> tuple[int, int]:
    """Count the deciding comparisons with another result, and those that change sides."""
    before, after = (judged.deciding["side"].to_numpy() for judged in (old, new))
    sides = {verdicts.AS_CLAIMED, verdicts.AGAINST}
    turned = [{a, b} == sides for a, b in zip(before, after, strict=True)]
    return int((before != after).sum()), sum(turned)


def _swapped(scored: pd.DataFrame, swaps: dict[str, str]) -> pd.DataFrame:
    """Scores in which rows stand in the place of others."""
    kept = scored[~scored["method"].isin(swaps.values())]
    return kept.assign(method=kept["method"].replace(swaps))


@once
def convergence(found: Published) -> pd.DataFrame:
    """Does the place of LIME and KernelSHAP change when their samples are enough?

    Returns
    -------
    DataFrame
        method, label, level, metric, mean and rank at the paper's number of samples, mean_after
        and rank_after with many more (rank among the methods over the clips that all have, the
        other converged variants in their methods' places too),
        difference (after - before), low, high, n, n_groups. Empty where no row is converged.
    """
    keys = [m for m in study.methods(found) if f"{m}{study.CONVERGED}" in set(found.rows["method"])]
    lines = [
        line
        for method in keys
        for key in CONVERGENCE
        if (line := _convergence(found, method, *key)) is not None
    ]
    columns = ["method", "label", "level", "metric", "mean", "rank", "mean_after", "rank_after",
               "difference", "low", "high", "n", "n_groups"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def _convergence(found: Published, method: str, table: str, level: str, metric: str):
    rivals, variant = study.methods(found), f"{method}{study.CONVERGED}"
    swaps = {f"{m}{study.CONVERGED}": m for m in rivals}
    wide = study.wide_scores(found, table, level, metric, [*rivals, *swaps])
    if not {method, variant} <= set(wide.columns):
        return None
    wide = wide.dropna(axis=1, how="all").dropna()
    if wide.empty:
        return None
    means = wide[[m for m in rivals if m in wide]].mean()
    after = means.copy()
    for converged, plain in swaps.items():
        if converged in wide:
            after[plain] = wide[converged].mean()
    ascending = direction(metric) == "lower"
    groups = wide.index.get_level_values("sequence")
    paired = statistics.paired_difference(
        wide[variant], wide[method], groups, **study.options(found)
    )
    paired.pop("n_undefined")
    return {
        **{
            "method": method,
            "label": study.labels(found)[method],
            "level": level,
            "metric": metric,
        },
        "mean": means[method],
        "rank": means.rank(ascending=ascending, method="min")[method],
        "mean_after": after[method],
        "rank_after": after.rank(ascending=ascending, method="min")[method],
        **paired,
    }
