"""Comparisons that were fixed before any score was seen, and how firm a ranking is.

Methods are compared with every reference row, and with one another where the paper claims a
difference. Variants are compared with the references too, but stay out of Holm's correction: who
adds a row must not change what the other rows have shown.
"""

from __future__ import annotations

import pandas as pd

from vad_helpers.store import scores, tables
from vad_helpers.store.cache import Run
from vad_helpers.store.row import REFERENCES, rows
from vad_helpers.tables import statistics

GRADIENT, PERTURBATION = "gradient methods", "perturbation methods"
BUT_LIME, REST = "perturbation methods but LIME", "the other methods"

Side = tuple[str, ...]

# For the chapters: one line a claim and metric, several methods as their mean. The results page
# judges the claims more strictly (`claims.CLAIMS`): there the best must beat every other method.
# Table -> (level, metric, what, against what). A side is a method, several, or a family; "REST"
# is every method that is not on the first side. Each comes from a claim of the paper.
PLANNED: dict[str, list[tuple[str, str, Side, Side]]] = {
    "human_centric": [
        ("clip", "auc", (GRADIENT,), (BUT_LIME,)),
        ("clip", "auc", ("lime",), (REST,)),
        ("clip", "auc", ("lime",), ("kernel_shap",)),
        ("clip", "auc", ("occlusion_lp",), ("occlusion_sp",)),
        ("frame", "auc", (GRADIENT,), (PERTURBATION,)),
        ("frame", "auc", ("ig", "ig_smoothgrad"), (REST,)),
    ],
    "model_centric": [
        ("clip", "deletion", (GRADIENT,), (PERTURBATION,)),
        ("clip", "deletion", ("lime", "occlusion_lp"), (REST,)),
        ("clip", "deletion", ("guided_backprop",), (REST,)),
        ("clip", "insertion", (GRADIENT,), (PERTURBATION,)),
        ("clip", "insertion", ("guided_backprop",), (REST,)),
    ],
    "robustness": [
        ("clip", "cv", (GRADIENT,), (PERTURBATION,)),
        ("clip", "cv", ("kernel_shap",), (REST,)),
    ],
}


def planned_contrasts(run: Run, table: str) -> pd.DataFrame:
    """Judge the comparisons between methods that the paper's claims call for.

    Parameters
    ----------
    run : Run
    table : {"human_centric", "model_centric", "robustness"}

    Returns
    -------
    DataFrame
        contrast ("LIME - KernelSHAP"), level, metric, difference, low, high, n (clips that both
        sides have), n_groups, p, p_holm (corrected for all comparisons of this table), verdict
        ("higher", "lower", "undecided": read from the interval), better. A comparison with a
        method that this run does not have is left out.
    """
    scored, about = getattr(scores, table)(run), tables.describe(rows(run))
    found = []
    for level, metric, first, second in PLANNED[table]:
        a, b = members(about, first), members(about, second, first)
        if not a or not b:
            continue
        part = scored[(scored["level"] == level) & (scored["metric"] == metric)]
        name = f"{side_name(about, first)} - {side_name(about, second)}"
        found.append(_compare(run, part, {name: (a, b)}))
    if not found:
        return pd.DataFrame(columns=["contrast", "level", "metric", "n_groups", "p_holm"])
    joined = pd.concat(found, ignore_index=True)
    return joined.assign(p_holm=statistics.holm(joined["p"]))


def against_references(
    run: Run, table: str = "human_centric", *, level: str = "clip", metric: str = "auc"
) -> pd.DataFrame:
    """Compare every method and variant with every reference row, paired by clip.

    Returns
    -------
    DataFrame
        method, label, reference, difference (method - reference), low, high, n (clips that both
        have), n_groups, p, p_holm (over the methods' comparisons; NaN for variants), verdict
        ("higher", "lower", "undecided": read from the interval), rank and reference_rank (1 is
        best, among all rows; NaN for a row that has fewer clips than others).
    """
    scored = getattr(scores, table)(run)
    scored = scored[(scored["level"] == level) & (scored["metric"] == metric)]
    methods = [m for m in scored["method"].unique() if m not in REFERENCES]
    pairs = {f"{m}|{reference}": (m, reference) for m in methods for reference in REFERENCES}
    found = _compare(run, scored, pairs)
    found[["method", "reference"]] = found["contrast"].str.split("|", expand=True)
    planned = found["method"].map({key: row.kind for key, row in rows(run).items()}) == "method"
    found["p_holm"] = statistics.holm(found["p"].where(planned))
    summary = tables.ranked(tables.summary(run, table))
    summary = summary[(summary["level"] == level) & (summary["metric"] == metric)]
    ranks = summary.set_index("method")["rank"]
    found["label"] = found["method"].map(tables.labels(run))
    found["rank"] = found["method"].map(ranks)
    found["reference_rank"] = found["reference"].map(ranks)
    columns = ["method", "label", "reference", "difference", "low", "high", "n", "n_groups"]
    return found[[*columns, "p", "p_holm", "verdict", "rank", "reference_rank"]]


def rank_stability(
    run: Run, table: str = "human_centric", *, level: str = "clip", metric: str = "auc"
) -> pd.DataFrame:
    """Say how firmly every row holds its rank when sequences are drawn anew.

    Returns
    -------
    DataFrame
        method, label, rank, rank_median, rank_low, rank_high (95 %), p_best (share of draws in
        which it is first), best rank first. Rows that have fewer clips than others are left out.
    """
    options = {"n_resamples": run.params.n_resamples, "seed": run.params.seed}
    scored, summary = getattr(scores, table)(run), tables.summary(run, table)
    return firm_ranks(scored, summary, level=level, metric=metric, **options)


def firm_ranks(
    scored: pd.DataFrame,
    summary: pd.DataFrame,
    *,
    level: str,
    metric: str,
    n_resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Make `rank_stability` of any table of scores and its summary."""
    summary = tables.ranked(summary)
    summary = summary[(summary["level"] == level) & (summary["metric"] == metric)]
    summary = summary.dropna(subset="rank")
    scored = scored[(scored["level"] == level) & (scored["metric"] == metric)]
    found = statistics.rank_stability(
        scored[scored["method"].isin(summary["method"])], n_resamples=n_resamples, seed=seed
    )
    found = summary[["method", "label", "rank"]].merge(found, on="method").sort_values("rank")
    columns = ["method", "label", "rank", "rank_median", "rank_low", "rank_high", "p_best"]
    return found[columns].reset_index(drop=True)


def floor_note(found: pd.DataFrame) -> str:
    """Say what the sign-flip test could show at best, with these sequences and comparisons.

    Parameters
    ----------
    found : DataFrame
        From `planned_contrasts` or `against_references`.

    Returns
    -------
    str
        A sentence or two; empty without a corrected comparison.
    """
    tested = found[found["p_holm"].notna()]
    if tested.empty:
        return ""
    n_groups = int(tested["n_groups"].max())
    floor = statistics.smallest_p(n_groups)
    corrected = min(1.0, floor * len(tested))
    words = (
        f"With {n_groups} sequences the sign-flip test gives no p below "
        f"{floor:.2g}; corrected for the number of comparisons ({len(tested)}), none below "
        f"{corrected:.2g}."
    )
    if corrected > 0.05:
        words += " So it cannot establish any of them here: the interval is all there is to read."
    return words


def _compare(run: Run, scored: pd.DataFrame, pairs: dict) -> pd.DataFrame:
    return statistics.compare(
        scored, pairs, n_resamples=run.params.n_resamples, seed=run.params.seed
    )


def members(about: pd.DataFrame, side: Side, other: Side = ()) -> list[str]:
    """Methods of a side; none if one that is named is not there.

    Parameters
    ----------
    about : DataFrame
        What the rows are, as from `tables.describe`; of them, methods alone are on a side.
    side : tuple of str
        Methods, or one of the groups.
    other : tuple of str
        The other side, which "the other methods" leave out.
    """
    methods = about[about["kind"] == "method"].set_index("method")["family"]
    families = {GRADIENT: "gradient", PERTURBATION: "perturbation", BUT_LIME: "perturbation"}
    if side == (REST,):
        taken = members(about, other)
        return [key for key in methods.index if key not in taken]
    if side and side[0] in families:
        kept = methods.index[methods == families[side[0]]]
        return [key for key in kept if side[0] != BUT_LIME or key != "lime"]
    return list(side) if set(side) <= set(methods.index) else []


def side_name(about: pd.DataFrame, side: Side) -> str:
    """Name a side for people."""
    names = tables.labels_of(about)  # a group is its own name
    return " and ".join(names.get(key, key) for key in side)
