"""Lessons on samples and seconds: how many are enough, and what the cheapest good map costs.

Sentences as in `vad_helpers.pages.takeaways`: chosen by the data, "" where they cannot be said.
"""

from __future__ import annotations

import pandas as pd

from vad_helpers.attribution.convergence import AGREEING
from vad_helpers.metrics.runtime import alike_timed
from vad_helpers.pages.spelling import with_interval
from vad_helpers.store import rejudged, study
from vad_helpers.store.published import Published
from vad_helpers.tables import statistics


def converged(found: Published) -> str:
    """Do LIME and KernelSHAP change when they draw many more samples, and are these enough?"""
    table = rejudged.convergence(found)
    table = table[table["metric"] == "auc"]
    if table.empty:
        return ""
    parts, moved = [], False
    for line in table.itertuples():
        changed = statistics.verdict(line.low, line.high) != statistics.UNDECIDED
        moved |= changed
        parts.append(
            f"{line.label} {line.mean:.3f} → {line.mean_after:.3f}, rank {line.rank:.0f} → "
            f"{line.rank_after:.0f}" + ("" if changed else " (undecided)")
        )
    advice = (
        "Sample until two seeds agree before you read such a map."
        if moved
        else "On these clips the intervals show no change."
    )
    return (
        "**Samples.** Clip AUC from the paper's number of samples to many more: "
        f"{'; '.join(parts)}. {enough(found)} {advice}"
    )


def enough(found: Published) -> str:
    """Whether two seeds agree at the larger number, where that was measured."""
    checked = found.extras.get("convergence")
    if checked is None or checked.empty:
        return "Whether two seeds agree there was not checked."
    first, last = _ends(checked)
    agreeing = int(last["converged"].astype(bool).sum())
    seen = _correlations(found, last)
    words = (
        f"Two seeds agree by then (their maps correlate by {AGREEING} or more) in {agreeing} of "
        f"{len(last)} checks ({seen})"
    )
    enough = "it is enough where it was checked"
    if agreeing < len(last):
        enough = "in the others it is not enough"
    return f"{words}: {enough}. With few samples: {_correlations(found, first)}."


def seeds(found: Published, row: str) -> str:
    """Write in how many checks two seeds of a row of many more samples agree; "" if unchecked."""
    checked = found.extras.get("convergence")
    if checked is None or checked.empty or not row.endswith(study.CONVERGED):
        return ""
    last = _ends(checked)[1]
    agree = last.loc[last["method"] == row.removesuffix(study.CONVERGED), "converged"].astype(bool)
    return f"two seeds agree in {agree.sum()} of {len(agree)} checks" if len(agree) else ""


def _ends(checked: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Lines of every doubling's fewest and most samples."""
    drawn = checked.groupby(["fold", "clip_id", "method"])["n_samples"]
    return checked.loc[drawn.idxmin()], checked.loc[drawn.idxmax()]


def _correlations(found: Published, checked: pd.DataFrame) -> str:
    """Write how two seeds' maps correlate, and at which number of samples, method by method."""
    return "; ".join(
        f"{study.labels(found).get(method, method)} "
        + ", ".join(f"{line.correlation:.3f} at {line.n_samples}" for line in part.itertuples())
        for method, part in checked.groupby("method")
    )


def cheapest(found: Published) -> str:
    """Which method is cheapest among those not told apart from the best by clip AUC?"""
    seconds = study.mean_seconds(found)
    # On the clips that they share: a method with few clips may have the easy ones.
    wide = study.ranked_scores(found, "human_centric", "clip", "auc")
    keys = [m for m in wide.columns if m in seconds.index]
    if wide.empty or not keys:
        return ""
    wide = wide[keys]
    best = wide.mean().idxmax()
    equal = [m for m in keys if m == best or not _behind(wide, m, best, found)["low"] > 0]
    cheap = seconds[equal].idxmin()
    names, among = study.labels(found), study.at_samples(found)
    if cheap == best:
        return (
            f"**Cost.** Of the methods{among}, {names[best]} has the highest clip AUC, and "
            f"none that took less ({spent(found, best)} a clip) comes as close as the intervals "
            "can tell."
            f"{_references(found, seconds)}"
        )
    behind = _behind(wide, cheap, best, found)
    ahead = with_interval(behind["difference"], behind["low"], behind["high"], digits=3)
    return (
        f"**Cost.** {names[cheap]} ({spent(found, cheap)} a clip) is not told apart by clip AUC "
        f"from {names[best]} ({spent(found, best)}), which is ahead by {ahead}."
        f"{_learnt_nothing(found, cheap, names)}{_references(found, seconds)}"
    )


def _learnt_nothing(found: Published, method: str, names: dict[str, str]) -> str:
    """Say so where a method is not shown to beat gradients of a network with random weights."""
    against = study.against_row(found, "random_weights", "human_centric", ("auc",), rivals=[method])
    if against.empty or against["better"].iloc[0] == "b":
        return ""
    return (
        f" But {names[method]} is not shown to localise better than Integrated Gradients on a "
        "network with random weights either: cheap is not enough."
    )


def _references(found: Published, seconds: pd.Series) -> str:
    """What more samples cost and reach, and the motion baseline, which costs next to nothing."""
    means = study.clip_auc(found)
    reached = [
        f"{means.loc[m, 'label']} reaches {means.loc[m, 'mean']:.3f} in {spent(found, m)}"
        for m in study.many_samples(found)
        if m in means.index and m in seconds.index
    ]
    if "motion" in means.index:
        motion = means.loc["motion"]
        reached.append(f"{motion['label']}, which asks no network, reaches {motion['mean']:.3f}")
    return f" {'; '.join(reached)}." if reached else ""


def _behind(wide: pd.DataFrame, method: str, best: str, found: Published) -> dict[str, float]:
    """By how much a method is behind the best one."""
    groups = wide.index.get_level_values("sequence")
    return statistics.paired_difference(wide[best], wide[method], groups, **study.options(found))


def spent(found: Published, method: str) -> str:
    """Write a row's mean seconds, with the precision of its maps where rows differ in it."""
    seconds, timed = study.mean_seconds(found)[method], alike_timed(found.explanations)
    timed = timed[timed["method"].isin(study.main_rows(found))]
    known = timed["precision"].dropna()
    if known.nunique() < 2 or not timed["method"].eq(method).any():
        return f"{seconds:.3g} s"
    return f"{seconds:.3g} s in {' and '.join(sorted(set(known[timed['method'] == method])))}"
