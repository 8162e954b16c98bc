"""What a study's tables come to: means with intervals, ranks, and the paper's values beside them.

Intervals resample sequences over all folds together, with the study's number of resamples and seed.
`clips` is "all", "hits" (the network calls them anomalous), "misses", or clip ids.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from vad_helpers.errors import InputError
from vad_helpers.metrics.catalog import HIGHER, METRICS, direction
from vad_helpers.tables import statistics
from vad_helpers.tables.schema import CALLED_FROM, SCORED, Study, load, packaged

Clips = str | Collection[str]
CHANCE = 0.5
"""AUC of a map that knows nothing."""
SHARED = 0.9
"""A row with fewer than this share of the clips is not ranked: the others keep their clips."""
TABLE_ONE = {"human_centric": [(a, b) for a in ("clip", "frame") for b in ("iou", "f1", "auc")]}
TABLE_TWO = {
    "model_centric": [("clip", name) for name in ("deletion", "insertion", "srg", "srg_blocks")],
    "robustness": [("clip", "mauc"), ("clip", "stdauc"), ("clip", "cv")],
    "runtime": [("clip", "seconds")],
}
EQUAL_AREA = ("area_matched_deletion", "area_matched_insertion")
FLATNESS = ("deletion", "insertion", "mean_area", *EQUAL_AREA, "area_deletion", "area_insertion")
"""Faithfulness on the threshold axis, and what controls it: equal area, and RISE's area axis."""
GAPS = (0.0, 0.05, 0.1, 0.2)
"""Lower bounds of the gap p(x) - p(x_b)."""
NOT_A_CHANGE = {"n_clips", "precision", "paired", "agreement"}
"""Settings of a variant that do not say what it varies."""
DRAWS = {"seed", "target", "relative"}
"""What tells draws of one method on random weights apart, or fits LIME to their small range."""
IN_PAPER = frozenset(packaged("paper/printed")["row"])
"""Rows of the paper's own tables."""
BEYOND = " (beyond the paper)"
"""Behind the name of any other method."""


def options(study: Study) -> dict[str, int]:
    """Resamples and seed of the study's intervals."""
    return {name: int(study.params[name]) for name in ("n_resamples", "seed")}


def labels(study: Study) -> dict[str, str]:
    """Names of the rows for people, by key; names that two rows share get their key behind, and
    methods that the paper does not have are marked."""
    about = study.rows.set_index("row")
    beyond = (about["kind"] == "method") & ~about.index.isin(IN_PAPER)
    known = about["label"].mask(beyond, about["label"] + BEYOND)
    return known.mask(known.duplicated(keep=False), known + " [" + known.index + "]").to_dict()


def methods(study: Study) -> list[str]:
    """Keys of the methods."""
    return study.rows.loc[study.rows["kind"] == "method", "row"].tolist()


def variants(study: Study) -> pd.DataFrame:
    """What variants, and references that a method is behind, change.

    row, of (its method's row, "" without), changes (dict: settings that differ from those of that
    row), n_clips (None: all).
    """
    settings = study.rows.set_index("row")["settings"].map(json.loads)
    plain = study.rows[study.rows["kind"] == "method"].set_index("of")["row"]
    lines = []
    for line in study.rows.query("kind != 'method' and of != ''").itertuples():
        given, own = settings[line.row], settings.get(plain.get(line.of), {})
        plain_weights = given.get("weights", "trained") == "trained"
        named = given.keys() - (NOT_A_CHANGE if plain_weights else NOT_A_CHANGE | DRAWS)
        changes = {key: given[key] for key in sorted(named) if own.get(key) != given[key]}
        lines.append((line.row, plain.get(line.of, ""), changes, given.get("n_clips")))
    return pd.DataFrame(lines, columns=["row", "of", "changes", "n_clips"])


def many_samples(study: Study) -> dict[str, str]:
    """Variants on all clips that draw more samples: row -> its method's; the largest of each."""
    found: dict[str, tuple[int, str]] = {}
    for line in variants(study).itertuples():
        if list(line.changes) == ["n_samples"] and pd.isna(line.n_clips):
            found[line.of] = max(found.get(line.of, (0, "")), (line.changes["n_samples"], line.row))
    return {row: of for of, (_, row) in found.items()}


def main_rows(study: Study) -> list[str]:
    """Rows of the two tables: all but variants on a few clips, or of a randomised network."""
    lines = variants(study).itertuples()
    other = {v.row for v in lines if pd.notna(v.n_clips) or "weights" in v.changes}
    kept = ~study.rows["row"].isin(other) | (study.rows["kind"] == "reference")
    return study.rows.loc[kept, "row"].tolist()


def timed(study: Study) -> pd.DataFrame:
    """Lines of `explanations` whose seconds compare: of one processor and batch size, the usual."""
    made = study.explanations[study.explanations["model_calls"] > 0]
    conditions = pd.Series(list(zip(made["processor"], made["batch_size"], strict=True)))
    return made[(conditions == conditions.mode()[0]).to_numpy()] if len(made) else made


def scores(study: Study, table: str) -> pd.DataFrame:
    """Tidy scores: clip_id, sequence, row, level, metric, value.

    `table` is one of `SCORED`, or "runtime": seconds, baseline_seconds, superpixel_seconds and
    model_calls of the maps that are `timed` alike, references apart, and auc_per_second: clip AUC
    above chance over the row's mean seconds.
    """
    keys = ["clip_id", "sequence", "row"]
    if table in SCORED:
        return getattr(study, table)[list(statistics.SCORE_COLUMNS)]
    homes = study.clips.drop_duplicates("clip_id").set_index("clip_id")["sequence"]
    made = timed(study).assign(sequence=lambda lines: lines["clip_id"].map(homes))
    references = study.rows.loc[study.rows["kind"] == "reference", "row"]
    made = made[~made["row"].isin(references)]
    derived = made[[*keys, "seconds", "baseline_seconds", "superpixel_seconds", "model_calls"]]
    above = pivot(study, "human_centric", "clip", "auc") - CHANCE
    worth = above / derived.groupby("row")["seconds"].mean().reindex(above.columns)
    worth = worth.stack().rename("auc_per_second").reset_index()
    derived = derived.merge(worth, how="outer", on=keys).set_index(keys)
    return _tidy(derived)


def _tidy(wide: pd.DataFrame) -> pd.DataFrame:
    """Scores of the clip level, a column a metric, as lines."""
    long = wide.melt(ignore_index=False, var_name="metric").reset_index().dropna(subset="value")
    return long.assign(level="clip")[list(statistics.SCORE_COLUMNS)]


def pivot(
    study: Study, table: str, level: str, metric: str, rows: Sequence[str] | None = None
) -> pd.DataFrame:
    """Scores of rows that are there, a column each: index (clip_id, sequence), NaN for none."""
    key = table, level, metric
    if key not in study.memo:
        part = scores(study, table)
        part = part[(part["level"] == level) & (part["metric"] == metric)]
        index = ["clip_id", "sequence"]
        study.memo[key] = part.pivot(index=index, columns="row", values="value")
    found = study.memo[key]
    rows = study.rows["row"] if rows is None else rows
    return found[[row for row in rows if row in found.columns]]


def finished(study: Study, rows: Collection[str] | None = None) -> list[str]:
    """Clips on which all rows (by default the main ones) are in every table that has them."""
    rows = main_rows(study) if rows is None else rows
    clips = study.evaluation["clip_id"]
    for name in SCORED:
        part = getattr(study, name)[lambda lines: lines["row"].isin(list(rows))]
        counts = part.groupby("clip_id")["row"].nunique()
        clips = clips[clips.isin(counts.index[counts == part["row"].nunique()])]
    return clips.tolist()


def all_zero(study: Study) -> pd.MultiIndex:
    """Pairs (clip_id, row) whose map has no positive voxel."""
    part = study.human_centric.query("metric == 'all_zero' and value > 0")[["clip_id", "row"]]
    # A map that is averaged over time is scored by its frames alone.
    steady = study.robustness[~study.robustness["row"].isin(study.human_centric["row"])]
    steady = steady.pivot(index=["clip_id", "row"], columns="metric", values="value")
    steady = steady.reindex(columns=["mauc", "stdauc"])
    undefined = steady[steady["mauc"].notna() & steady["stdauc"].isna()].index
    return pd.MultiIndex.from_frame(part).union(undefined)


def summary(
    study: Study,
    table: str,
    *,
    clips: Clips = "all",
    rows: Collection[str] | None = None,
    metrics: Collection[str] = (),
) -> pd.DataFrame:
    """Mean and 95 % interval of every row, level and metric of a table (see `scores`).

    By default of the main rows, over the clips that are `finished`, so that their means stand side
    by side; `rows` that are named are each over the clips that they have. Empty `metrics`: all.

    row, label, family, kind, level, metric, mean, low, high, n, n_groups, n_undefined (left out of
    the mean), n_all_zero (values in the mean that are conventions: the map has no positive voxel).
    """
    study = study.keep(clips=clips)
    if rows is None:
        study = study.keep(clips=finished(study) or "all", rows=main_rows(study))
    keys, scored = ["row", "level", "metric"], scores(study, table)
    scored = scored if rows is None else scored[scored["row"].isin(list(rows))]
    scored = scored[scored["metric"].isin(list(metrics))] if len(metrics) else scored
    zero = pd.MultiIndex.from_frame(scored[["clip_id", "row"]]).isin(all_zero(study))
    zero &= table != "runtime"  # seconds are no convention
    zero = scored.assign(n_all_zero=(zero & scored["value"].notna()).astype(int))
    found = statistics.summarise(scored, **options(study))
    found = found.merge(zero.groupby(keys, sort=False)["n_all_zero"].sum().reset_index(), on=keys)
    about = study.rows[["row", "family", "kind"]].copy()
    about.insert(1, "label", about["row"].map(labels(study)))
    return about.merge(found, on="row")


def complete(found: pd.DataFrame) -> pd.Series:
    """Tell which lines of a summary average over as many clips as any other row does.

    Where clips are missing or undefined, the mean is over other clips, and has no rank.
    """
    return found["n"] == found.groupby(["level", "metric"])["n"].transform("max")


def ranked(found: pd.DataFrame) -> pd.DataFrame:
    """Add to a summary: direction, rank and the paper's value.

    direction: "higher" or "lower" is better, None where neither is. rank: 1 is best, equal means
    share the better one; NaN without a direction, and for a row that is not `complete`. paper: NaN
    where the paper prints none.
    """
    known = {metric: direction(metric) for metric in found["metric"].unique() if metric in METRICS}
    found = found.assign(direction=found["metric"].map(known).astype(object))
    cost = found["direction"].map({"higher": -1.0, "lower": 1.0}).astype(float) * found["mean"]
    keys = [found["level"], found["metric"]]
    found["rank"] = cost.where(complete(found)).groupby(keys).rank(method="min")
    return found.merge(paper(), how="left", on=["row", "level", "metric"])


def table_one(study: Study, *, clips: Clips = "all") -> pd.DataFrame:
    """The paper's Table I, localisation at clip and frame level: a `summary`, `ranked`."""
    return _paper_table(study, TABLE_ONE, clips)


def table_two(study: Study, *, clips: Clips = "all") -> pd.DataFrame:
    """The paper's Table II, faithfulness, stability over time, run time: as `table_one`.

    Beside the paper's pair stands SRG, where the study has it.
    """
    return _paper_table(study, TABLE_TWO, clips)


def flatness(study: Study, *, clips: Clips = "all") -> pd.DataFrame:
    """Faithfulness on the threshold axis beside what controls it (`FLATNESS`): as `table_one`."""
    return _paper_table(study, {"model_centric": [("clip", name) for name in FLATNESS]}, clips)


def _paper_table(study: Study, columns: dict[str, list], clips: Clips) -> pd.DataFrame:
    parts = []
    for table, wanted in columns.items():
        found = summary(study, table, clips=clips, metrics={metric for _, metric in wanted})
        at = [found[(found["level"] == a) & (found["metric"] == b)] for a, b in wanted]
        parts += [part for part in at if len(part)] or [found.iloc[:0]]
    return ranked(pd.concat(parts, ignore_index=True))


def paper() -> pd.DataFrame:
    """The paper's Tables I and II: row, level, metric, paper."""
    return packaged("paper/printed")


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Spell a summary for display: a line a label, a column (metric, "here" or "paper").

    Cells read "mean [low, high]", with "(n undefined)" where clips were left out, "(n all-zero)"
    where maps of zeros are in the mean, and "(n of N clips)" where a row has fewer clips.
    """
    columns = {}
    for (level, metric), part in table.groupby(["level", "metric"], sort=False):
        known = METRICS.get(metric)
        several = table.loc[table["metric"] == metric, "level"].nunique() > 1
        heading = (known.name if known else metric) + (f", {level}" if several else "")
        heading += {"higher": " ↑", "lower": " ↓"}.get(known and known.direction, "")
        n_clips, cells = (part["n"] + part["n_undefined"]).max(), {}
        for line in part.itertuples():
            cell = "undefined" if np.isnan(line.mean) else f"{line.mean:.3f}"
            cell += "" if np.isnan(line.low) else f" [{line.low:.3f}, {line.high:.3f}]"
            n = line.n + line.n_undefined
            cell += f" ({line.n_undefined} undefined)" if line.n_undefined else ""
            cell += f" ({line.n_all_zero} all-zero)" if line.n_all_zero else ""
            cells[line.label] = cell + (f" ({n} of {n_clips} clips)" if n < n_clips else "")
        columns[heading, "here"] = pd.Series(cells)
        if "paper" in part and part["paper"].notna().any():
            printed = part.set_index("label")["paper"].dropna()
            columns[heading, "paper"] = printed.map("{:.4g}".format)
    named = pd.Index(table["label"].unique(), name="label")
    return pd.DataFrame(columns).reindex(named).fillna("")


def rank_stability(
    study: Study,
    table: str,
    *,
    level: str = "clip",
    metric: str = "auc",
    rows: Sequence[str] | None = None,
    clips: Clips = "all",
) -> pd.DataFrame:
    """How firm the ranks of rows (by default the methods) are when sequences are drawn anew.

    Best first: row, label, rank (1 is best, equal means share the better one), rank_median,
    rank_low, rank_high (percentile interval), p_best (share of resamples in which it is first):
    NaN with one sequence; n: the clips on which all rows in it are defined, which alone count.
    Rows with too few clips (see `SHARED`) are left out.

    Raises
    ------
    ValueError
        If neither side of the metric is better.
    """
    if (better := direction(metric)) is None:
        raise ValueError(f"neither side of {metric} is better; give another metric")
    sign, rows = -1 if better == HIGHER else 1, methods(study) if rows is None else rows
    found = pivot(study.keep(clips=clips), table, level, metric, rows)
    counts = found.notna().sum()
    found = found[counts.index[counts >= max(1, SHARED * counts.max())]].dropna()
    grouped = found.groupby(level="sequence", sort=True)
    sums, sizes = grouped.sum().to_numpy(), grouped.size().to_numpy()
    drawn = statistics.resample(max(1, len(sums)), **options(study))
    ranks = np.full((len(drawn), found.shape[1]), np.nan)
    if len(sums) > 1:
        cost = sign * (drawn @ sums) / (drawn @ sizes)[:, None]
        ranks = rankdata(cost, method="min", axis=1)
    ends = np.array([statistics.percentiles(column) for column in ranks.T]).reshape(-1, 2)
    firm = pd.DataFrame({"row": found.columns, "label": found.columns.map(labels(study))})
    firm["rank"] = (sign * found.mean()).rank(method="min").to_numpy()
    firm["rank_median"], firm["rank_low"], firm["rank_high"] = np.median(ranks, axis=0), *ends.T
    firm["p_best"] = np.where(np.isnan(ranks).any(axis=0), np.nan, (ranks == 1).mean(axis=0))
    return firm.assign(n=len(found)).sort_values("rank", kind="stable", ignore_index=True)


def by_clip(study: Study) -> pd.DataFrame:
    """What the network says of each clip of the evaluation set.

    fold, clip_id, scene, sequence; p_clip and p_baseline (of the first row; processors differ in
    the last digits), gap: their difference; called ("anomalous", "normal").
    """
    table = study.evaluation[["fold", "clip_id", "scene", "sequence"]].set_index("clip_id")
    asked = study.model_centric.drop_duplicates(["clip_id", "metric"])
    asked = asked.pivot(index="clip_id", columns="metric", values="value")
    table[["p_clip", "p_baseline"]] = asked.reindex(table.index, columns=["p_clip", "p_baseline"])
    table["gap"] = table["p_clip"] - table["p_baseline"]
    p = study.probabilities().reindex(table.index)
    called = pd.Series(np.where(p >= CALLED_FROM, "anomalous", "normal"), table.index)
    return table.assign(called=called.where(p.notna())).reset_index()


def gaps(study: Study, *, clips: Clips = "all") -> pd.DataFrame:
    """Faithfulness where there is something to measure: by the gap p(x) - p(x_b).

    The gap is what the whole baseline does. One that keeps the probability leaves little to delete.
    It is no bound: what is left of a clip may be an input unlike any in training.

    As `statistics.summarise`, of the main rows, with min_gap (lower bound, exclusive; -inf first):
    deletion and insertion on both axes; with a bound also gap, and the same over each clip's gap
    (deletion_by_gap ...).
    """
    study = study.keep(clips=clips)
    study = study.keep(clips=finished(study), rows=main_rows(study))
    plain, names = scores(study, "model_centric"), [*FLATNESS[:2], *EQUAL_AREA]
    keys = ["clip_id", "sequence", "row"]
    asked = plain.pivot(index=keys, columns="metric", values="value")
    gap = asked["p_clip"] - asked["p_baseline"]
    derived = asked[names].div(gap, axis=0).add_suffix("_by_gap")
    derived.insert(0, "gap", gap)
    plain = plain[plain["metric"].isin(names)]
    parts = [statistics.summarise(plain, **options(study)).assign(min_gap=-np.inf)]
    both = pd.concat([plain, _tidy(derived)], ignore_index=True)
    own = gap.reindex(pd.MultiIndex.from_frame(both[keys])).to_numpy()
    for bound in GAPS:
        found = statistics.summarise(both[own > bound], **options(study))
        parts.append(found.assign(min_gap=bound))
    return pd.concat(parts, ignore_index=True)


def costs(study: Study) -> pd.DataFrame:
    """What every row's maps cost, and what they are made of; none of a row that asks no network.

    row, label, family, n (maps), n_timed (of them `timed` alike), seconds (their mean),
    seconds_min, seconds_max, precision (of these), medians of model_calls, baseline_seconds,
    superpixel_seconds, n_segments and n_nonzero (superpixels, and those with a coefficient),
    n_all_zero (maps), auc (mean clip AUC), auc_per_second (above chance).
    """
    made, alike = study.explanations[study.explanations["model_calls"] > 0], timed(study)
    of_row, timings = made.groupby("row", sort=False), alike.groupby("row")
    medians = ["model_calls", "baseline_seconds", "superpixel_seconds", "n_segments", "n_nonzero"]
    measured = {
        "n": of_row.size(),
        "n_timed": timings.size(),
        "n_all_zero": all_zero(study).to_frame(index=False).groupby("row").size(),
        "seconds": timings["seconds"].mean(),
        "seconds_min": timings["seconds"].min(),
        "seconds_max": timings["seconds"].max(),
        "precision": timings["precision"].agg(lambda used: " ".join(sorted({*used} - {""}))),
        "auc": pivot(study, "human_centric", "clip", "auc").mean(),
    }
    table = of_row[medians].median().join(pd.DataFrame(measured))
    table["auc_per_second"] = (table["auc"] - CHANCE) / table["seconds"]
    counts = ["n", "n_timed", "n_all_zero"]
    table[counts] = table[counts].fillna(0).astype(int)
    table.insert(0, "label", table.index.map(labels(study)))
    table.insert(1, "family", table.index.map(study.rows.set_index("row")["family"]))
    return table.reset_index()


def convergence(study: Study) -> pd.DataFrame:
    """How maps of two draws correlate as samples double: lines at both ends of each doubling.

    As `Study.convergence`, with end ("fewest" or "most" samples) and of (the method).
    """
    drawn = study.convergence.groupby(["fold", "clip_id", "row"])["n_samples"]
    ends = {"fewest": drawn.idxmin(), "most": drawn.idxmax()}
    found = pd.concat([study.convergence.loc[at].assign(end=end) for end, at in ends.items()])
    of = study.rows.set_index("row")["of"]
    return found.assign(of=found["row"].map(of)).reset_index(drop=True)


def performance(
    study: Study, *, split: str = "test", called_from: float = CALLED_FROM
) -> pd.DataFrame:
    """How well the networks tell clips of a split, "test" or "val", apart.

    pooling: "fold", "pooled" (clips of all folds together), "mean" (of the folds' values, each
    fold's sequences drawn among its own) or "untuned" (pooled, without the fold on whose sequences
    the recipe was tuned); folds ("0 1 2"), scene (or "both"), metric (auc, or accuracy at
    p >= `called_from`), mean, low, high, n, n_groups, n_anomalous.
    """
    tested = study.predictions[study.predictions["split"] == split]
    drawn, folds = options(study) | {"called_from": called_from}, sorted(tested["fold"].unique())
    seed = drawn.pop("seed")
    asked = [("fold", [fold]) for fold in folds]
    if len(folds) > 1:
        tuned = 1 % int(study.params["n_folds"])  # what fold 0 validates on
        asked += [("pooled", folds), ("mean", folds), ("untuned", [k for k in folds if k != tuned])]
    lines = []
    for pooling, chosen in asked:
        whole = tested[tested["fold"].isin(chosen)]
        for scene in ("both", *(sorted(whole["scene"].unique()) if pooling != "untuned" else ())):
            part = whole if scene == "both" else whole[whole["scene"] == scene]
            blocks = {seed: part}
            if pooling == "mean":
                # Draws of its own for every fold: equal ones would pair sequences with no pair.
                blocks = {(seed, i): b for i, (_, b) in enumerate(part.groupby("fold"))}
            line = {"pooling": pooling, "folds": " ".join(map(str, chosen)), "scene": scene}
            line |= {"n": len(part), "n_groups": part["sequence"].nunique()}
            line |= {"n_anomalous": int(part["label"].sum())}
            for metric in ("accuracy", "auc"):
                found = [_drawn(b, metric, seed=own, **drawn) for own, b in blocks.items()]
                found = [(value, draws) for value, draws in found if not np.isnan(value)]
                mean = np.mean([value for value, _ in found]) if found else np.nan
                draws = np.mean([d for _, d in found], axis=0) if found else np.array([])
                # A draw whose clips are all of one class has no AUC, and does not count.
                low, high = statistics.percentiles(draws[~np.isnan(draws)])
                lines.append(line | {"metric": metric, "mean": mean, "low": low, "high": high})
    columns = ["pooling", "folds", "scene", "metric", "mean", "low", "high", "n", "n_groups"]
    return pd.DataFrame(lines, columns=[*columns, "n_anomalous"])


def _drawn(
    part: pd.DataFrame, metric: str, called_from: float = CALLED_FROM, **drawn: Any
) -> tuple[float, np.ndarray]:
    """Accuracy or AUC of the clips of some `predictions`, and its draws."""
    if metric == "auc":
        return statistics.drawn_aucs(part["p"], part["label"], part["sequence"], **drawn)
    right = (part["p"] >= called_from) == (part["label"] == 1)
    return statistics.drawn_means(right, part["sequence"], **drawn)


def performance_table(found: pd.DataFrame) -> pd.DataFrame:
    """`performance` as a page shows it: a line a pooling, folds and scene, intervals as text."""
    ends = found[["mean", "low", "high"]].itertuples(index=False)
    found = found.assign(value=[f"{m:.3f} [{low:.3f}, {high:.3f}]" for m, low, high in ends])
    keys = ["pooling", "folds", "scene", "n", "n_groups"]
    wide = found.pivot(index=keys, columns="metric", values="value").reset_index()
    return wide.rename(columns={"n": "clips", "n_groups": "sequences"})


def leakage(study: Study, *, alternative: str = "split_by_clip") -> pd.DataFrame:
    """What having trained on other clips of the tested sequences, as in an alternative, is worth.

    Both networks are compared on the same clips: those that the alternative tests.

    Returns
    -------
    DataFrame
        metric ("accuracy" at p >= .5, "auc"); row: "seen" (the alternative's network), "unseen"
        (the study's of the clip's fold), "difference" (paired, first minus second); mean, low,
        high, n, n_groups. Empty if it was not measured.
    """
    columns = ["metric", "row", "mean", "low", "high", "n", "n_groups"]
    if alternative not in study.alternatives:
        return pd.DataFrame(columns=columns)
    parts = [study.alternatives[alternative].predictions, study.predictions]
    seen, unseen = (part[part["split"] == "test"].set_index("clip_id") for part in parts)
    shared = seen.index.intersection(unseen.index)
    seen, unseen = seen.loc[shared], unseen.loc[shared]
    lines, sizes = [], (len(seen), seen["sequence"].nunique())
    for metric in ("accuracy", "auc"):
        parts = [_drawn(part, metric, **options(study)) for part in (seen, unseen)]
        parts.append(tuple(one - other for one, other in zip(*parts, strict=True)))
        for row, (mean, draws) in zip(("seen", "unseen", "difference"), parts, strict=True):
            ends = statistics.percentiles(draws[~np.isnan(draws)])
            lines.append((metric, row, mean, *ends, *sizes))
    return pd.DataFrame(lines, columns=columns)


def compare(
    paths: Sequence[str | Path],
    *,
    rows: Collection[str] = (),
    metrics: Collection[str] = (),
    **drawn: int,
) -> pd.DataFrame:
    """Mean score of every row in every run, and its difference from the first run.

    Runs of the same data and cut share clips: the difference is then taken clip by clip, so that
    easy and hard clips cancel. Others are compared as independent samples, which is less sharp.

    `paths` are run folders, or folders of runs. Empty `rows` and `metrics` keep every row, and
    every metric that has a better side; n_resamples and seed are as in `statistics.bootstrap_mean`.

    One line a table, level, metric, row and run: mean, low, high, n (clips); from the second run on
    difference (this run minus the first), difference_low, difference_high, n_shared (clips that
    both have; 0: compared as independent samples), interval ("higher", "lower", "undecided").

    A row that the first run alone has, such as a method of one's own, is compared with every row of
    the others, on the clips that they share and explain with the same network: `against` names it.
    The difference is then the other row minus it.

    Raises
    ------
    InputError
        If a path holds no run, or nothing is left of what was asked for.
    """
    keys = ["table", "level", "metric", "row"]
    wanted = list(metrics) or [name for name, about in METRICS.items() if about.direction]
    lines, first, cuts, networks = [], {}, [], {}
    for i, path in enumerate(paths):
        study = load(path)
        scored = pd.concat([scores(study, t).assign(table=t) for t in (*SCORED, "runtime")])
        kept = scored["metric"].isin(wanted) & (scored["row"].isin(list(rows)) | (len(rows) == 0))
        # What a clip's name stands and falls with, where the manifests say it.
        data = {manifest.get("data") for manifest in study.manifests.values()}
        cuts.append((data, study.params.get("n_frames") if None not in data else path))
        used = {k: about.get("weights_sha256") for k, about in study.manifests.items()}
        networks = networks or used
        shared = [k for k in used if used[k] is not None and used[k] in networks.values()]
        fold_of = study.evaluation.set_index("clip_id")["fold"]
        for key, part in scored[kept].groupby(keys, sort=False):
            line = dict(zip(keys, key, strict=True)) | {"run": f"{i + 1} {path}"}
            line |= statistics.bootstrap_mean(part["value"], part["sequence"], **drawn)
            if i == 0:
                first[key] = part
                lines.append(line)
                continue
            # The same row of the first run, and those that it alone has.
            own = [k for k in first if k[:3] == key[:3] and k[3] not in set(study.rows["row"])]
            before = len(lines)
            for other in [key, *own] if key in first else own:
                mine = part if other == key else part[part["clip_id"].map(fold_of).isin(shared)]
                both = mine.merge(first[other], on=["clip_id", "sequence"], suffixes=("", "_first"))
                paired = cuts[i] == cuts[0] and len(both)
                if not paired and other != key:
                    continue
                if paired:
                    pair = both["value"], both["value_first"], both["sequence"]
                    apart = statistics.paired_difference(*pair, **drawn)
                else:
                    one, two = ((x["value"], x["sequence"]) for x in (part, first[key]))
                    apart = statistics.independent_difference(*one, *two, **drawn) | {"n": 0}
                found = {"interval": statistics.interval_sign(apart["low"], apart["high"])}
                found |= {"difference": apart["difference"], "n_shared": apart["n"]}
                found |= {f"difference_{end}": apart[end] for end in ("low", "high")}
                lines.append(line | found | {"against": other[3]})
            lines += [line] if len(lines) == before else []
    if not lines:
        asked = ", ".join([*metrics, *rows]) or "any metric"
        raise InputError(f"no run has scores of {asked}; see the columns metric and row")
    columns = [*keys, "run", "mean", "low", "high", "n", "difference", "difference_low"]
    columns += ["difference_high", "n_shared", "interval", "against"]
    return pd.DataFrame(lines, columns=columns)
