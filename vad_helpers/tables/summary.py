"""What a study's tables come to: means with intervals, ranks, and the paper's values beside them.

All functions take a `Study` (see `schema.load`) and give DataFrames. Intervals resample sequences
over all folds together, with the number of resamples and the seed of the study's parameters. A
table whose means stand side by side is over the same clips: those on which every row in it is
measured. `clips` is "all", "hits" (the network calls them anomalous), "misses", or clip ids.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.metrics.catalog import METRICS, direction
from vad_helpers.tables import statistics
from vad_helpers.tables.schema import CALLED_FROM, SCORED, Study, load

Clips = str | Collection[str]

CHANCE = 0.5
"""AUC of a map that knows nothing."""
SHARED = 0.9
"""A row with fewer than this share of the clips is not ranked: the others keep their clips."""
GAPS = (0.0, 0.05, 0.1, 0.2)
"""Lower bounds of the gap p(x) - p(x_b)."""
TABLE_ONE = tuple((level, metric) for level in ("clip", "frame") for metric in ("iou", "f1", "auc"))
TABLE_TWO = (
    ("model_centric", ("deletion", "insertion")),
    ("robustness", ("mauc", "stdauc", "cv")),
    ("runtime", ("seconds",)),
)
FLATNESS = (
    *("deletion", "insertion", "mean_area", "area_matched_deletion", "area_matched_insertion"),
    *("area_deletion", "area_insertion"),
)
"""Faithfulness on the threshold axis, and what controls it: equal area, and RISE's area axis."""
PAPER_PERFORMANCE = {"accuracy": 0.8886, "auc": 0.9331}
"""The paper's detector, on a split that it does not state."""
NOT_A_CHANGE = ("n_clips", "precision", "paired")
"""Settings of a variant that do not say what it varies."""


def options(study: Study) -> dict[str, int]:
    """Resamples and seed of the study's intervals."""
    return {name: int(study.params[name]) for name in ("n_resamples", "seed")}


def labels(study: Study) -> dict[str, str]:
    """Names of the rows for people, by key; names that two rows share get their key behind."""
    known = dict(zip(study.rows["row"], study.rows["label"], strict=True))
    times = Counter(known.values())
    return {key: f"{name} [{key}]" if times[name] > 1 else name for key, name in known.items()}


def methods(study: Study) -> list[str]:
    """Keys of the methods."""
    return study.rows.loc[study.rows["kind"] == "method", "row"].tolist()


def variants(study: Study) -> pd.DataFrame:
    """What each variant changes: row, of (the method's row), changes (dict), n_clips (None: all).

    `changes` are the settings that differ from those of its method's own row.
    """
    given = study.rows.set_index("row")["settings"].map(json.loads)
    plain = study.rows[study.rows["kind"] == "method"].set_index("of")["row"]
    varied = study.rows[(study.rows["kind"] == "variant") & study.rows["of"].isin(plain.index)]
    lines = []
    for row, of in zip(varied["row"], varied["of"].map(plain), strict=True):
        changes = {k: v for k, v in given[row].items() if given[of].get(k) != v}
        n_clips = given[row].get("n_clips")
        changes = {k: v for k, v in changes.items() if k not in NOT_A_CHANGE}
        lines.append({"row": row, "of": of, "changes": changes, "n_clips": n_clips})
    return pd.DataFrame(lines, columns=["row", "of", "changes", "n_clips"])


def many_samples(study: Study) -> dict[str, str]:
    """Variants on all clips that draw more samples: row -> the method's row; the largest of each."""
    varied = variants(study)
    varied = varied[
        varied["n_clips"].isna() & varied["changes"].map(lambda c: set(c) == {"n_samples"})
    ]
    varied = varied.assign(n=varied["changes"].map(lambda changes: changes["n_samples"]))
    return dict(
        varied.sort_values("n").drop_duplicates("of", keep="last")[["row", "of"]].to_numpy()
    )


def main_rows(study: Study) -> list[str]:
    """Rows of the two tables: all but variants on a few clips."""
    few = variants(study).dropna(subset="n_clips")["row"]
    return study.rows.loc[~study.rows["row"].isin(few), "row"].tolist()


def timed(study: Study) -> pd.DataFrame:
    """Lines of `explanations` whose seconds compare: of one processor and batch size, the usual."""
    made = study.explanations[study.explanations["model_calls"] > 0]
    conditions = list(zip(made["processor"], made["batch_size"], strict=True))
    if not conditions:
        return made
    return made[(pd.Series(conditions) == pd.Series(conditions).mode()[0]).to_numpy()]


def scores(study: Study, table: str) -> pd.DataFrame:
    """Tidy scores: clip_id, sequence, row, level, metric, value.

    Parameters
    ----------
    study : Study
    table : {"human_centric", "model_centric", "robustness", "runtime"}
        "runtime" is made of the explanations that are `timed` alike: seconds, baseline_seconds,
        superpixel_seconds, model_calls, and auc_per_second: the clip AUC above chance, over the
        row's mean seconds.
    """
    columns = list(statistics.SCORE_COLUMNS)
    if table != "runtime":
        return getattr(study, table)[columns]
    made = timed(study)
    sequence = study.clips.drop_duplicates("clip_id").set_index("clip_id")["sequence"]
    measures = ["seconds", "baseline_seconds", "superpixel_seconds", "model_calls"]
    long = made.melt(["clip_id", "row"], measures, var_name="metric")
    worth = pivot(study, "human_centric", "clip", "auc").sub(CHANCE)
    worth = worth / made.groupby("row")["seconds"].mean().reindex(worth.columns)
    worth = worth.reset_index().melt(["clip_id", "sequence"], var_name="row").dropna()
    long = pd.concat([long, worth.assign(metric="auc_per_second")], ignore_index=True)
    return long.assign(level="clip", sequence=long["clip_id"].map(sequence))[columns]


def pivot(
    study: Study, table: str, level: str, metric: str, rows: Sequence[str] | None = None
) -> pd.DataFrame:
    """Scores of rows that are there, a column each: index (clip_id, sequence), NaN for none."""
    part = scores(study, table) if table == "runtime" else getattr(study, table)
    part = part[(part["level"] == level) & (part["metric"] == metric)]
    rows = study.rows["row"] if rows is None else rows
    part = part[part["row"].isin(list(rows))]
    found = part.pivot(index=["clip_id", "sequence"], columns="row", values="value")
    return found[[row for row in rows if row in found.columns]]


def finished(study: Study, rows: Collection[str] | None = None) -> list[str]:
    """Clips on which all of these rows (default: the main ones) are in every table that has them."""
    rows = set(main_rows(study) if rows is None else rows)
    clips = study.evaluation["clip_id"]
    for name in SCORED:
        part = getattr(study, name)[["clip_id", "row"]].drop_duplicates()
        part = part[part["row"].isin(rows)]
        counts = part["clip_id"].value_counts()
        clips = clips[clips.isin(counts.index[counts == part["row"].nunique()])]
    return clips.tolist()


def summary(
    study: Study, table: str, *, clips: Clips = "all", rows: Collection[str] | None = None
) -> pd.DataFrame:
    """Mean and 95 % interval of every row, level and metric of a table.

    Parameters
    ----------
    study : Study
    table : {"human_centric", "model_centric", "robustness", "runtime"}
    clips : "all", "hits", "misses", or collection of clip ids
    rows : collection of str, optional
        By default the main ones, on the clips that are `finished`. Those asked for by name are
        each on the clips that they have.

    Returns
    -------
    DataFrame
        row, label, family, kind, level, metric, mean, low, high, n, n_groups, n_undefined,
        n_all_zero. Undefined values are left out of the mean and counted in n_undefined;
        n_all_zero counts the values in the mean that are mere conventions, because their map has
        no positive voxel.
    """
    study = study.keep(clips=clips)
    if rows is None:
        rows, done = main_rows(study), finished(study)
        study = study.keep(clips=done) if done else study
    scored = scores(study, table)
    scored = scored[scored["row"].isin(list(rows))]
    found = statistics.summarise(scored, **options(study))
    zero = all_zero(study)
    flagged = pd.MultiIndex.from_frame(scored[["clip_id", "row"]]).isin(zero)
    scored = scored.assign(n_all_zero=flagged & scored["value"].notna())
    keys = ["row", "level", "metric"]
    counts = scored.groupby(keys, sort=False)["n_all_zero"].sum().astype(int).reset_index()
    about = study.rows[["row", "family", "kind"]].assign(label=study.rows["row"].map(labels(study)))
    found = about[["row", "label", "family", "kind"]].merge(found.merge(counts, on=keys), on="row")
    order = {pair: i for i, pair in enumerate(zip(scored["level"], scored["metric"], strict=True))}
    place = [order[pair] for pair in zip(found["level"], found["metric"], strict=True)]
    return found.iloc[np.argsort(place, kind="stable")].reset_index(drop=True)


def all_zero(study: Study) -> pd.MultiIndex:
    """Pairs (clip_id, row) whose map has no positive voxel."""
    part = study.human_centric
    part = part[(part["metric"] == "all_zero") & (part["value"] > 0)]
    # A map averaged over time is located nowhere else than frame by frame.
    steady = study.robustness.pivot(index=["clip_id", "row"], columns="metric", values="value")
    steady = steady.reindex(columns=["mauc", "stdauc"])
    steady = steady[steady["mauc"].notna() & steady["stdauc"].isna()]
    return pd.MultiIndex.from_frame(part[["clip_id", "row"]]).union(steady.index)


def ranked(found: pd.DataFrame) -> pd.DataFrame:
    """Add direction, rank and the paper's value to a summary.

    Returns
    -------
    DataFrame
        direction: "higher" or "lower" is better, None where neither is; rank: 1 is best, among all
        rows, equal means share the better one; NaN without a direction, and for a row that is
        not `complete`; paper: NaN where the paper prints none.
    """
    known = {m: direction(m) for m in found["metric"].unique() if m in METRICS}
    found = found.assign(direction=found["metric"].map(known).astype(object))
    sign = found["direction"].map({"higher": -1.0, "lower": 1.0}).astype(float)
    cost = (sign * found["mean"]).where(complete(found))
    found["rank"] = cost.groupby([found["level"], found["metric"]]).rank(method="min")
    return found.merge(paper(), how="left", on=["row", "level", "metric"])


def complete(found: pd.DataFrame) -> pd.Series:
    """Tell which lines of a summary average over as many clips as any other row does.

    False where clips are missing (a slow method on fewer clips) or undefined (a map without a
    positive voxel has no C_v): such a mean is over other clips, and has no rank.
    """
    return found["n"] == found.groupby(["level", "metric"])["n"].transform("max")


def table_one(study: Study, *, clips: Clips = "all") -> pd.DataFrame:
    """The paper's Table I: localisation at clip and frame level, as `summary` and `ranked`."""
    found = summary(study, "human_centric", clips=clips)
    wanted = pd.MultiIndex.from_tuples(TABLE_ONE)
    return ranked(found[pd.MultiIndex.from_frame(found[["level", "metric"]]).isin(wanted)])


def table_two(study: Study, *, clips: Clips = "all") -> pd.DataFrame:
    """The paper's Table II: faithfulness, stability over time, run time, as `table_one`."""
    parts = []
    for table, metrics in TABLE_TWO:
        found = summary(study, table, clips=clips)
        parts.append(found[found["metric"].isin(metrics)])
    return ranked(pd.concat(parts, ignore_index=True))


def flatness(study: Study, *, clips: Clips = "all") -> pd.DataFrame:
    """Faithfulness on the threshold axis beside what controls it (`FLATNESS`), as `table_one`."""
    found = summary(study, "model_centric", clips=clips)
    parts = [found[found["metric"] == metric] for metric in FLATNESS]
    return ranked(pd.concat(parts, ignore_index=True))


def paper() -> pd.DataFrame:
    """The paper's Tables I and II: row, level, metric, paper."""
    parts = []
    for name in ("table1_human_centric.csv", "table2_model_robustness_runtime.csv"):
        with (resources.files("vad_helpers.tables") / "paper" / name).open() as file:
            long = pd.read_csv(file).melt("method", var_name="column", value_name="paper")
        named = long["column"].str.extract(r"(?:(?P<level>clip|frame)_)?(?P<metric>.*)")
        parts.append(long.assign(**named.fillna({"level": "clip"})))
    both = pd.concat(parts, ignore_index=True).replace({"metric": {"runtime_s": "seconds"}})
    return both.rename(columns={"method": "row"})[["row", "level", "metric", "paper"]]


def wide(table: pd.DataFrame, *, digits: int = 3) -> pd.DataFrame:
    """Spell a summary for display: one line a row, a column a metric.

    Parameters
    ----------
    table : DataFrame
        From `summary`, `table_one`, `table_two` or `flatness`.
    digits : int
        Digits after the decimal point.

    Returns
    -------
    DataFrame of str
        Index labels; columns a pair (metric, "here" or "paper"; "paper" where it prints any). Cells
        read "mean [low, high]", with "(n undefined)" where clips were left out, "(n all-zero)"
        where maps of zeros are in the mean, and "(n of N clips)" where a row has fewer clips.

    Raises
    ------
    InputError
        If two rows have one label.
    """
    pairs = table[["row", "label"]].drop_duplicates()
    if (twice := pairs["label"].duplicated()).any():
        label = pairs.loc[twice, "label"].iloc[0]
        raise InputError(f"two rows are called '{label}'; give the variants labels of their own")
    columns = {}
    for (level, metric), part in table.groupby(["level", "metric"], sort=False):
        name = METRICS[metric].name if metric in METRICS else metric
        arrow = {"higher": " ↑", "lower": " ↓"}.get(METRICS[metric].direction, "")
        several = table.loc[table["metric"] == metric, "level"].nunique() > 1
        heading = name + (f", {level}" if several else "") + arrow
        n_clips = (part["n"] + part["n_undefined"]).max()
        cells = {}
        for line in part.itertuples():
            cell = "undefined" if np.isnan(line.mean) else f"{line.mean:.{digits}f}"
            if not np.isnan(line.low):
                cell += f" [{line.low:.{digits}f}, {line.high:.{digits}f}]"
            n = line.n + line.n_undefined
            cell += f" ({line.n_undefined} undefined)" if line.n_undefined else ""
            cell += f" ({line.n_all_zero} all-zero)" if line.n_all_zero else ""
            cells[line.label] = cell + (f" ({n} of {n_clips} clips)" if n < n_clips else "")
        columns[heading, "here"] = pd.Series(cells)
        if "paper" in part and part["paper"].notna().any():
            printed = part.set_index("label")["paper"].dropna()
            columns[heading, "paper"] = printed.map("{:.4g}".format)
    return pd.DataFrame(columns).reindex(pairs["label"]).fillna("")


def rank_stability(
    study: Study,
    table: str,
    *,
    level: str = "clip",
    metric: str = "auc",
    rows: Sequence[str] | None = None,
    clips: Clips = "all",
) -> pd.DataFrame:
    """How firm ranks are when sequences are drawn anew.

    Parameters
    ----------
    study, table, level, metric, clips
        Of the scores.
    rows : sequence of str, optional
        By default the methods.

    Returns
    -------
    DataFrame
        row, label, rank, rank_median, rank_low, rank_high, p_best (see
        `statistics.rank_stability`), n: the clips on which all rows in it are defined, which alone
        count. Rows with too few clips (see `SHARED`) are left out. Best rank first.
    """
    found = ranked_scores(study.keep(clips=clips), table, level, metric, rows)
    firm = statistics.rank_stability(found, metric, **options(study))
    firm.insert(1, "label", firm["row"].map(labels(study)))
    return firm.assign(n=len(found)).sort_values("rank", kind="stable", ignore_index=True)


def ranked_scores(
    study: Study, table: str, level: str, metric: str, rows: Sequence[str] | None = None
) -> pd.DataFrame:
    """Scores (clip_id, sequence) x row of the rows with enough clips, on those they share."""
    found = pivot(study, table, level, metric, methods(study) if rows is None else rows)
    counts = found.notna().sum()
    return found[counts.index[counts >= max(1, SHARED * counts.max())]].dropna()


def breakdown(
    study: Study, by: str, *, table: str = "human_centric", metric: str = "auc"
) -> pd.DataFrame:
    """Mean clip-level score of the main rows in every part of the clips.

    Parameters
    ----------
    study : Study
    by : {"scene", "sequence", "called"}
        "called": "anomalous" or "normal", by the network.
    table, metric : str
        Of the scores.

    Returns
    -------
    DataFrame
        part, row, label, mean, low, high (NaN for one sequence), n, n_groups. Only clips on which
        all of these rows are defined.
    """
    found = pivot(study, table, "clip", metric, main_rows(study)).dropna()
    part_of = by_clip(study).set_index("clip_id")[by]
    lines = [
        {"part": part, "row": row, "label": labels(study)[row]}
        | statistics.bootstrap_mean(
            column, column.index.get_level_values("sequence"), **options(study)
        )
        for part, block in found.groupby(found.index.get_level_values("clip_id").map(part_of))
        for row, column in block.items()
    ]
    return pd.DataFrame(
        lines, columns=["part", "row", "label", "mean", "low", "high", "n", "n_groups"]
    )


def by_clip(study: Study) -> pd.DataFrame:
    """What is known of each clip of the evaluation set.

    Returns
    -------
    DataFrame
        fold, clip_id, scene, sequence; p_clip and p_baseline (of the first row; machines differ in
        the last digits), gap; p (see `Study.probabilities`), p_predicted; called ("anomalous",
        "normal"); share_changing and share_moving: voxels that change at all by the protocol's
        rule, and those that move by more than rounding hides; auc: the methods' mean clip AUC, on
        clips that all have, and place (1 is localised best).
    """
    table = study.evaluation[["fold", "clip_id", "scene", "sequence"]].set_index("clip_id")
    for name, metric in (("p_clip", "p_clip"), ("p_baseline", "p_baseline")):
        part = study.model_centric[study.model_centric["metric"] == metric]
        table[name] = part.drop_duplicates("clip_id").set_index("clip_id")["value"]
    table["gap"] = table["p_clip"] - table["p_baseline"]
    table["p"] = study.probabilities()
    test = study.predictions[study.predictions["split"] == "test"]
    table["p_predicted"] = test.set_index("clip_id")["p"]
    called = np.where(table["p"] >= CALLED_FROM, "anomalous", "normal")
    table["called"] = pd.Series(called, table.index).where(table["p"].notna())
    size = np.prod([study.params["n_frames"], *study.params["frame_size"]])
    for name, level in (("share_changing", "clip"), ("share_moving", "moving")):
        part = study.human_centric
        part = part[(part["level"] == level) & (part["metric"] == "n_moving")]
        table[name] = part.drop_duplicates("clip_id").set_index("clip_id")["value"] / size
    found = pivot(study, "human_centric", "clip", "auc", methods(study)).dropna()
    table["auc"] = found.mean(axis=1).droplevel("sequence")
    table["place"] = table["auc"].rank(ascending=False, method="min")
    columns = ["fold", "clip_id", *table.columns.drop("fold")]
    return table.reset_index()[columns]


def gaps(study: Study, *, bounds: Sequence[float] = GAPS, clips: Clips = "all") -> pd.DataFrame:
    """Deletion and insertion where there is something to measure: by the gap p(x) - p(x_b).

    The gap is what the whole baseline does. One that keeps the probability leaves little to delete,
    and a mean over such clips says little of a method. It is no bound: a clip of which a part is
    replaced can have a lower probability than either.

    Parameters
    ----------
    study : Study
    bounds : sequence of float
        Lower bounds of the gap, exclusive.
    clips
        As `summary`.

    Returns
    -------
    DataFrame
        Of the main rows: row, label, min_gap (-inf: all clips), metric (deletion, insertion and
        both at equal area, and each as "_by_gap": divided by each clip's gap, 1 for what the whole
        baseline does; NaN for all clips), mean, low, high, n, n_groups.
    """
    study = study.keep(clips=clips)
    study = study.keep(clips=finished(study))
    names = FLATNESS[:2] + FLATNESS[3:5]
    part = study.model_centric[study.model_centric["metric"].isin([*names, "p_clip", "p_baseline"])]
    table = part.pivot(index=["clip_id", "sequence", "row"], columns="metric", values="value")
    table = table.reset_index()
    gap = table["p_clip"] - table["p_baseline"]
    lines = []
    for row in main_rows(study):
        for bound in (-np.inf, *bounds):
            chosen = table[(table["row"] == row) & (gap > bound)]
            divisor = gap[chosen.index] if np.isfinite(bound) else np.nan
            about = {"row": row, "label": labels(study)[row], "min_gap": bound}
            values = {name: chosen[name] for name in names}
            values |= {f"{name}_by_gap": chosen[name] / divisor for name in names}
            for metric, value in values.items():
                mean = statistics.bootstrap_mean(value, chosen["sequence"], **options(study))
                size = {"n": len(chosen), "n_groups": chosen["sequence"].nunique()}
                lines.append(about | {"metric": metric} | mean | size)
    return pd.DataFrame(lines).drop(columns="n_undefined")


def beyond_gap(study: Study) -> pd.DataFrame:
    """Where do the voxels that a map chooses lower p by more than the whole baseline does?

    Deletion at equal area removes a fifth of the clip at most. Where it exceeds the gap, what is
    left of the clip is an input unlike any in training, and the score tells how well a map finds
    voxels that upset the network. Clips whose gap is not above zero are left out.

    Returns
    -------
    DataFrame
        Of the main rows: row, label, n (clips with a gap above zero), n_beyond (of them: with an
        area_matched_deletion above their gap), area_matched_deletion and gap (means over these).
    """
    study = study.keep(clips=finished(study), rows=main_rows(study))
    found = study.model_centric.pivot(index=["row", "clip_id"], columns="metric", values="value")
    found = found[["area_matched_deletion", "p_clip", "p_baseline"]].dropna()
    found["gap"] = found["p_clip"] - found["p_baseline"]
    found = found[found["gap"] > 0]
    found["n_beyond"] = found["area_matched_deletion"] > found["gap"]
    per_row = found.groupby(level="row")
    table = per_row[["area_matched_deletion", "gap"]].mean()
    table = table.assign(n=per_row.size(), n_beyond=per_row["n_beyond"].sum())
    table = table.reindex([row for row in study.rows["row"] if row in table.index]).reset_index()
    table.insert(1, "label", table["row"].map(labels(study)))
    return table


def costs(study: Study) -> pd.DataFrame:
    """What every row's maps cost, and what they are made of.

    Returns
    -------
    DataFrame
        row, label, n (maps), n_timed (of them `timed` alike), seconds (their mean), precision (of
        these), medians of model_calls, baseline_seconds, superpixel_seconds, n_segments (asked of
        superpixels) and n_nonzero (superpixels with a coefficient), n_all_zero (maps), auc (mean
        clip AUC) and auc_per_second (above chance). Rows that ask no network have no line.
    """
    made, alike = study.explanations[study.explanations["model_calls"] > 0], timed(study)
    of_row, timings = made.groupby("row", sort=False), alike.groupby("row")
    medians = ["model_calls", "baseline_seconds", "superpixel_seconds", "n_segments", "n_nonzero"]
    table = of_row[medians].median()
    precision = timings["precision"].agg(lambda used: " ".join(sorted(set(used) - {""})))
    table = table.assign(
        n=of_row.size(),
        n_timed=timings.size(),
        seconds=timings["seconds"].mean(),
        precision=precision,
        n_all_zero=all_zero(study).to_frame().groupby("row").size(),
        auc=pivot(study, "human_centric", "clip", "auc").mean(),
    )
    table["auc_per_second"] = (table["auc"] - CHANCE) / table["seconds"]
    table = table.fillna({"n_timed": 0, "n_all_zero": 0}).reset_index()
    table.insert(1, "label", table["row"].map(labels(study)))
    return table.astype({"n_timed": int, "n_all_zero": int})


def convergence(study: Study) -> pd.DataFrame:
    """How maps of two seeds correlate as samples double, at both ends of each doubling.

    Returns
    -------
    DataFrame
        Lines of `Study.convergence` with end: "fewest" or "most" samples; of: the method's row.
    """
    drawn = study.convergence.groupby(["fold", "clip_id", "row"])["n_samples"]
    ends = {"fewest": drawn.idxmin(), "most": drawn.idxmax()}
    parts = [study.convergence.loc[at].assign(end=end) for end, at in ends.items()]
    of = study.rows.set_index("row")["of"]
    return pd.concat(parts, ignore_index=True).assign(of=lambda table: table["row"].map(of))


def mean_curves(study: Study, *, clips: Clips = "all") -> pd.DataFrame:
    """Curves of the main rows, averaged over the clips that all have: curve, row, step, mean."""
    study = study.keep(clips=clips, rows=main_rows(study))
    lines = []
    for curve, part in study.curves.groupby("curve"):
        texts = part.pivot(index="clip_id", columns="row", values="values").dropna()
        for row in texts:
            mean = np.mean([np.array(text.split(), float) for text in texts[row]], axis=0)
            lines += [(curve, row, step, value) for step, value in enumerate(mean)]
    return pd.DataFrame(lines, columns=["curve", "row", "step", "mean"])


def frame_means(study: Study, *, clips: Clips = "all") -> pd.DataFrame:
    """AUC of every frame, averaged over the clips that all main rows have: row, frame, mean, n."""
    part = study.keep(clips=clips, rows=main_rows(study)).frame_auc
    n_rows = part.groupby("clip_id")["row"].nunique()
    part = part[part["clip_id"].isin(n_rows.index[n_rows == part["row"].nunique()])]
    return part.groupby(["row", "frame"])["auc"].agg(mean="mean", n="size").reset_index()


def performance(study: Study, *, split: str = "test") -> pd.DataFrame:
    """How well the networks tell clips apart, on sequences that they never saw.

    Parameters
    ----------
    study : Study
    split : {"test", "val"}

    Returns
    -------
    DataFrame
        pooling: "fold", "pooled" (clips of all folds together) or "mean" (of the folds' values:
        the sequences of every fold are drawn anew, each fold among its own); folds ("0 1 2"),
        scene (or "both"), metric (accuracy at p >= .5, auc), mean, low, high, n, n_groups,
        n_anomalous. The last lines leave out the fold on whose sequences the recipe was tuned.
    """
    tested = study.predictions[study.predictions["split"] == split]
    folds = sorted(tested["fold"].unique())
    tuned = 1 % int(study.params["n_folds"])  # what fold 0 validates on
    asked = [("fold", [k]) for k in folds]
    if len(folds) > 1:
        asked += [("pooled", folds), ("mean", folds)]
        asked += [("pooled", [k for k in folds if k != tuned])] if tuned in folds else []
    lines = []
    for pooling, chosen in asked:
        part = tested[tested["fold"].isin(chosen)]
        scenes = (
            []
            if list(chosen) == [k for k in folds if k != tuned]
            else sorted(part["scene"].unique())
        )
        for scene in ("both", *scenes):
            block = part if scene == "both" else part[part["scene"] == scene]
            about = {"pooling": pooling, "folds": " ".join(map(str, chosen)), "scene": scene}
            size = {"n": len(block), "n_groups": block["sequence"].nunique()}
            size["n_anomalous"] = int(block["label"].sum())
            for metric in ("accuracy", "auc"):
                mean, low, high = _performance(block, metric, pooling == "mean", **options(study))
                lines.append(
                    about | {"metric": metric, "mean": mean, "low": low, "high": high} | size
                )
    columns = ["pooling", "folds", "scene", "metric", "mean", "low", "high", "n", "n_groups"]
    return pd.DataFrame(lines, columns=[*columns, "n_anomalous"])


def _performance(
    part: pd.DataFrame, metric: str, by_fold: bool, *, n_resamples: int, seed: int
) -> tuple[float, float, float]:
    """Accuracy or AUC with its interval, of all clips together or as the mean of the folds'."""
    found = []
    # Draws of its own for every fold: equal ones would pair sequences that have no pair.
    folds = [block for _, block in part.groupby("fold")] if by_fold else [part]
    for i, block in enumerate(folds):
        drawn = {"n_resamples": n_resamples, "seed": [seed, i] if by_fold else seed}
        if metric == "auc":
            value, draws = statistics.drawn_aucs(
                block["p"], block["label"], block["sequence"], **drawn
            )
            if block["sequence"].nunique() < 2:
                draws = np.full(n_resamples, np.nan)
        else:
            right = ((block["p"] >= CALLED_FROM) == (block["label"] == 1)).astype(float)
            value, draws = statistics.drawn_means(right, block["sequence"], **drawn)
        found += [(value, draws)] if not np.isnan(value) else []
    if not found:
        return np.nan, np.nan, np.nan
    draws = np.mean([drawn for _, drawn in found], axis=0)
    # A draw whose clips are all of one class has no AUC, and does not count.
    return float(np.mean([value for value, _ in found])), *statistics.percentiles(
        draws[~np.isnan(draws)]
    )


def leakage(study: Study, *, alternative: str = "split_by_clip") -> pd.DataFrame:
    """What having trained on other clips of the tested sequences is worth.

    Parameters
    ----------
    study : Study
    alternative : str
        Of `Study.alternatives`: a network that was tested on sequences it has seen.

    Returns
    -------
    DataFrame
        metric, seen, unseen, difference (seen - unseen) with low and high: both sides drawn apart.
        Of the alternative's folds; empty if it was not measured.
    """
    columns = ["folds", "metric", "seen", "unseen", "difference"]
    if alternative not in study.alternatives:
        return pd.DataFrame(columns=columns)
    other = study.alternatives[alternative]
    sides = [performance(other), performance(study)]
    sides = [part[part["scene"] == "both"].set_index(["folds", "metric"])["mean"] for part in sides]
    table = pd.DataFrame({"seen": sides[0], "unseen": sides[1]}).dropna().reset_index()
    return table.assign(difference=table["seen"] - table["unseen"])[columns]


def compare(
    paths: Sequence[str | Path],
    *,
    rows: Collection[str] = (),
    metrics: Collection[str] = (),
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean score of every row in every run, and its difference from the first run.

    Runs of the same data and cut share clips: the difference is then taken clip by clip, so that
    easy and hard clips cancel. Others are compared as independent samples, which is less sharp.

    Parameters
    ----------
    paths : sequence of str or Path
        Run folders, or folders of runs; the first is what the others are compared with.
    rows, metrics : collection of str
        Keys to keep; empty: every row, and every metric that has a better side.
    n_resamples, seed : int
        Of the bootstrap over sequences.

    Returns
    -------
    DataFrame
        One line a table, level, metric, row and run: mean, low, high, n (clips); from the second
        run on also difference (this run minus the first), difference_low, difference_high,
        n_shared (clips that both have; 0: compared as independent samples) and interval
        ("higher", "lower", "undecided").

    Raises
    ------
    InputError
        If a path holds no run, or nothing is left of what was asked for.
    """
    keys, drawn = ["table", "level", "metric", "row"], {"n_resamples": n_resamples, "seed": seed}
    better = [key for key, metric in METRICS.items() if metric.direction is not None]
    names = [str(path) for path in paths]
    studies = [load(path) for path in paths]
    lines, first = [], {}
    for i, study in enumerate(studies):
        scored = pd.concat([scores(study, t).assign(table=t) for t in (*SCORED, "runtime")])
        scored = scored[scored["metric"].isin(list(metrics) or better)]
        scored = scored[scored["row"].isin(list(rows))] if rows else scored
        shared = i and _cut(study) == _cut(studies[0]) != ""
        name = names[i] + (f" ({names[: i + 1].count(names[i])})" if names[i] in names[:i] else "")
        for key, part in scored.groupby(keys, sort=False):
            mean = statistics.bootstrap_mean(part["value"], part["sequence"], **drawn)
            line = dict(zip(keys, key, strict=True)) | {"run": name}
            line |= {n: mean[n] for n in ("mean", "low", "high", "n")}
            if i and key in first:
                line |= _difference(part, first[key], shared, drawn)
            elif not i:
                first[key] = part
            lines.append(line)
    if not lines:
        wanted = ", ".join([*metrics, *rows]) or "anything"
        raise InputError(f"no run has scores of {wanted}; see the columns metric and row")
    columns = [*keys, "run", "mean", "low", "high", "n", "difference", "difference_low"]
    return pd.DataFrame(lines, columns=[*columns, "difference_high", "n_shared", "interval"])


def _cut(study: Study) -> str:
    """What a clip's name stands and falls with: data and length; "" if a manifest does not say."""
    data = {str(manifest.get("data", "")) for manifest in study.manifests.values()}
    return f"{data.pop()} {study.params.get('n_frames')}" if len(data) == 1 and data != {""} else ""


def _difference(
    part: pd.DataFrame, first: pd.DataFrame, shared: bool, drawn: dict[str, int]
) -> dict[str, object]:
    """Difference of one row from the first run's, clip by clip where they share clips."""
    columns = ["clip_id", "sequence", "value"]
    both = part[columns].merge(first[columns], on=columns[:2], suffixes=("", "_first"))
    if shared and len(both):
        found = statistics.paired_difference(
            both["value"], both["value_first"], both["sequence"], **drawn
        )
    else:
        sides = part["value"], part["sequence"], first["value"], first["sequence"]
        found = statistics.independent_difference(*sides, **drawn) | {"n": 0}
    return {
        "difference": found["difference"],
        "difference_low": found["low"],
        "difference_high": found["high"],
        "n_shared": found["n"],
        "interval": statistics.interval_sign(found["low"], found["high"]),
    }
