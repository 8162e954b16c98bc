"""The front page's answer: one table that fits a screen, and what it comes to in three sentences.

Every sentence is written from the run's numbers, and so is its tone: what a run does not show, it
does not say.
"""

from __future__ import annotations

import dataclasses

import pandas as pd

from vad_helpers import store, viz
from vad_helpers.metrics.catalog import METRICS, direction
from vad_helpers.store import tables
from vad_helpers.store.cache import Run
from vad_helpers.store.row import methods
from vad_helpers.tables import statistics

SHOWN_REFERENCES = ("motion", "constant", "random")
# Table of scores, level, metric, heading.
COLUMNS = (
    ("human_centric", "clip", "auc", "AUC"),
    ("human_centric", "clip", "motion_auc", "AUC, moving"),
    ("model_centric", "clip", "deletion", "deletion"),
    ("model_centric", "clip", "area_matched_deletion", "deletion, equal area"),
    ("robustness", "clip", "cv", "C_v"),
    ("runtime", "clip", "seconds", "seconds"),
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that a run shows.

    Attributes
    ----------
    title : str
        A sentence.
    evidence : str
        The numbers behind it.
    """

    title: str
    evidence: str


def headline(run: Run) -> pd.DataFrame:
    """Means of one metric a question, methods first and then what they have to beat.

    Returns
    -------
    DataFrame of str
        Index the rows' labels; a column a metric, its better direction as an arrow. The best
        method of a column is marked with a star; "–" where a row has no such score.
    """
    found = {heading: _means(run, table, level, metric)
             for table, level, metric, heading in COLUMNS}  # fmt: skip
    table = store.rows(run)
    keys = list(methods(run))
    references = [key for key in SHOWN_REFERENCES if key in table]
    cells = {
        f"{heading} {tables.ARROWS[direction(metric)]}": _column(found[heading], keys, references)
        for _, _, metric, heading in COLUMNS
    }
    names = tables.labels(run)
    return pd.DataFrame(cells, index=[names[key] for key in [*keys, *references]])


def _means(run: Run, table: str, level: str, metric: str) -> pd.DataFrame:
    """Means by method, best first; "complete" tells whether a row has all clips."""
    found = store.summary(run, table)
    found = found[(found["level"] == level) & (found["metric"] == metric)]
    found = found.assign(complete=tables.complete(found)).set_index("method")
    return found.sort_values("mean", ascending=direction(metric) == "lower", kind="stable")


def _column(found: pd.DataFrame, keys: list[str], references: list[str]) -> list[str]:
    rivals = found[found.index.isin(keys) & found["complete"]].dropna(subset="mean")
    best = rivals.index[0] if len(rivals) else None
    return [_cell(found, key, best) for key in [*keys, *references]]


def _cell(found: pd.DataFrame, key: str, best: str | None) -> str:
    if key not in found.index or pd.isna(found.loc[key, "mean"]):
        return "–"
    star = " ★" if key == best else ""
    apart = "" if found.loc[key, "complete"] else " (fewer clips)"
    return f"{found.loc[key, 'mean']:.3f}{star}{apart}"


def findings(run: Run) -> list[Finding]:
    """Say what this run shows of the three questions.

    Returns
    -------
    list of Finding
        Up to three: of localisation against frame difference, of deletion against a map that
        says nothing, of what a dearer method gains. One that cannot be said is left out.
    """
    written = (against_motion(run), against_flatness(run), for_the_price(run))
    return [finding for finding in written if finding is not None]


def against_motion(run: Run) -> Finding:
    """Say whether any method localises better than the plain difference of two frames."""
    found = store.against_references(run)
    found = found[(found["reference"] == "motion") & found["method"].isin(list(methods(run)))]
    counts = found["verdict"].value_counts().reindex(["higher", "lower", "undecided"], fill_value=0)
    means = _means(run, "human_centric", "clip", "auc")
    best = means[means.index.isin(found["method"]) & means["complete"]].iloc[0]
    n_higher, n = counts["higher"], len(found)
    title = (
        f"{n_higher} of {n} methods find the anomaly better than motion alone does."
        if n_higher
        else "No method is shown to find the anomaly better than motion alone does."
    )
    return Finding(
        title,
        f"The difference of two frames, which asks no network, has a clip AUC of "
        f"{means.loc['motion', 'mean']:.3f}; the best method, {best['label']}, "
        f"{best['mean']:.3f}. The interval of the difference lies below zero for "
        f"{counts['lower']} methods, above it for {n_higher}, and includes it for "
        f"{counts['undecided']}.",
    )


def against_flatness(run: Run) -> Finding:
    """Say how a map that is the same everywhere scores on deletion, and at equal area."""
    means, n_beaten, n_methods = _against_constant(run, "deletion")
    equal, n_beaten_equal, _ = _against_constant(run, "area_matched_deletion")
    counted = f"A map that says nothing beats {n_beaten} of {n_methods} methods at deletion."
    title = {
        0: "No method is shown to lose to a map that says nothing at deletion.",
        n_methods: "A map that says nothing wins at deletion.",
    }.get(n_beaten, counted)
    keys = list(methods(run))
    best, best_equal = (
        part[part.index.isin(keys) & part["complete"]].iloc[0] for part in (means, equal)
    )
    return Finding(
        title,
        f"Every voxel equally important: {means.loc['constant', 'mean']:.3f}; the best method, "
        f"{best['label']}: {best['mean']:.3f}. Where every map removes the same area, the flat "
        f"one has {equal.loc['constant', 'mean']:.3f}, beats {n_beaten_equal}, and the best "
        f"method, {best_equal['label']}, has {best_equal['mean']:.3f}. It beats a method where "
        "the interval of the difference says so.",
    )


def _against_constant(run: Run, metric: str) -> tuple[pd.DataFrame, int, int]:
    """Means by method, best first; how many methods the flat map beats, and of how many."""
    found = store.against_references(run, "model_centric", metric=metric)
    found = found[(found["reference"] == "constant") & found["method"].isin(list(methods(run)))]
    beaten = int((found["verdict"] == "lower").sum())
    return _means(run, "model_centric", "clip", metric), beaten, len(found)


def for_the_price(run: Run) -> Finding | None:
    """Say whether the method of most model calls localises better than that of fewest."""
    times = store.summary(run, "runtime").pivot(index="method", columns="metric", values="mean")
    times = times[times.index.isin(list(methods(run)))]
    if len(times) < 2:
        return None
    dear, cheap = times["model_calls"].idxmax(), times["model_calls"].idxmin()
    scores = store.human_centric(run)
    scores = scores[(scores["level"] == "clip") & (scores["metric"] == "auc")]
    options = {"n_resamples": run.params.n_resamples, "seed": run.params.seed}
    line = statistics.compare(scores, [(dear, cheap)], **options).iloc[0]
    names = tables.labels(run)
    title = {
        "higher": "The dearest method finds the anomaly better than the cheapest.",
        "lower": "The dearest method finds the anomaly worse than the cheapest.",
        statistics.UNDECIDED: "The dearest method is not shown to find the anomaly better than the "
        "cheapest.",
    }[line["verdict"]]
    ratio = times.loc[dear, "seconds"] / times.loc[cheap, "seconds"]
    return Finding(
        title,
        f"{names[dear]} asks the network {times.loc[dear, 'model_calls']:.0f} times a "
        f"clip, {names[cheap]} {times.loc[cheap, 'model_calls']:.0f}, and takes {ratio:.0f} times "
        f"as long. In {METRICS['auc'].name} over the clip that makes "
        f"{viz.spell_difference(line)}, {line['verdict']}.",
    )
