"""Summaries of the scores: means with intervals, ranks, and the paper's values beside them."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from importlib import resources

import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.metrics.catalog import METRICS, direction
from vad_helpers.store import scores
from vad_helpers.store.cache import Run, remember
from vad_helpers.store.row import TIME_AVERAGE, Row, rows
from vad_helpers.tables import statistics

TABLE_ONE = [(level, metric) for level in ("clip", "frame") for metric in ("iou", "f1", "auc")]
TABLE_TWO = [
    ("model_centric", "deletion"),
    ("model_centric", "insertion"),
    ("robustness", "mauc"),
    ("robustness", "stdauc"),
    ("robustness", "cv"),
    ("runtime", "seconds"),
]
ARROWS = {"higher": "↑", "lower": "↓", None: ""}


def summary(run: Run, table: str) -> pd.DataFrame:
    """Mean and 95 % interval of every row, level and metric; intervals resample sequences.

    Parameters
    ----------
    run : Run
    table : {"human_centric", "model_centric", "robustness", "runtime"}

    Returns
    -------
    DataFrame
        method, label, family, kind, level, metric, mean, low, high, n, n_groups, n_undefined,
        n_all_zero. Undefined values are left out of the mean and counted in n_undefined;
        n_all_zero counts the values in the mean that are mere conventions, because their map has
        no positive voxel.
    """

    def look_up() -> pd.DataFrame:
        options = {"n_resamples": run.params.n_resamples, "seed": run.params.seed}
        return summarise(getattr(scores, table)(run), describe(rows(run)), **options)

    return remember(run, f"summary {table}", look_up).copy()


def summarise(
    scored: pd.DataFrame, about: pd.DataFrame, *, n_resamples: int, seed: int
) -> pd.DataFrame:
    """Summarise any table of scores; see `summary`.

    Parameters
    ----------
    scored : DataFrame
        Tidy scores.
    about : DataFrame
        What the rows are, as from `describe`; a row that it does not know counts as a reference.
    n_resamples, seed : int
        Of the intervals.
    """
    found = statistics.summarise(scored, n_resamples=n_resamples, seed=seed)
    return _described(found.merge(_all_zero_counts(scored), how="left"), about)


def table_one(run: Run) -> pd.DataFrame:
    """The paper's Table I for this run: localisation at clip and frame level.

    Returns
    -------
    DataFrame
        As `summary`, with direction ("higher" or "lower" is better), rank (1 is best, among all
        rows, references included; NaN for a row that is not scored on all clips that others are,
        since its mean is over other clips) and the paper's value (NaN where it has none).
    """
    return first_table(summary(run, "human_centric"))


def first_table(found: pd.DataFrame) -> pd.DataFrame:
    """Make `table_one` of the summary of localisation scores."""
    wanted = pd.MultiIndex.from_tuples(TABLE_ONE)
    found = found[pd.MultiIndex.from_frame(found[["level", "metric"]]).isin(wanted)]
    return summary_with_paper(ranked(found))


def table_two(run: Run) -> pd.DataFrame:
    """The paper's Table II for this run: faithfulness, stability over time, run time.

    Returns
    -------
    DataFrame
        As `table_one`.
    """
    return second_table({table: summary(run, table) for table, _ in TABLE_TWO})


def second_table(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Make `table_two` of the summaries of "model_centric", "robustness" and "runtime"."""
    parts = [
        found[table][found[table]["metric"].isin([m for name, m in TABLE_TWO if name == table])]
        for table in dict.fromkeys(table for table, _ in TABLE_TWO)
    ]
    return summary_with_paper(ranked(pd.concat(parts, ignore_index=True)))


def summary_with_paper(found: pd.DataFrame) -> pd.DataFrame:
    """Put the paper's values beside any part of a summary: column paper, NaN where it has none."""
    paper = pd.concat([_paper_one(), _paper_two()], ignore_index=True)
    return found.merge(paper, how="left", on=["method", "level", "metric"])


def paper_table(number: int) -> pd.DataFrame:
    """The paper's Table I or II: method, level, metric, paper.

    Raises
    ------
    ValueError
        For another number.
    """
    if number not in (1, 2):
        raise ValueError(f"the paper has no table {number}; it has 1 and 2")
    return _paper_one() if number == 1 else _paper_two()


def wide(table: pd.DataFrame, *, digits: int = 3) -> pd.DataFrame:
    """Spell a table for reading: one line a row, this run's and the paper's value side by side.

    Parameters
    ----------
    table : DataFrame
        From `table_one` or `table_two`.
    digits : int
        Digits after the decimal point.

    Returns
    -------
    DataFrame of str
        Index the rows' labels; columns a pair (metric, "this run" or "paper"). This run's cells
        read "mean [low, high]", with "(n undefined)" where clips were left out, "(n all-zero)"
        where maps of zeros are in the mean, and "(n of N clips)" where a row has fewer clips.

    Raises
    ------
    InputError
        If two rows have one label.
    """
    _check_labels(table)
    columns = {}
    for (level, metric), part in table.groupby(["level", "metric"], sort=False):
        several = table.loc[table["metric"] == metric, "level"].nunique() > 1
        name = METRICS[metric].name + (f", {level}" if several else "")
        heading = f"{name} {ARROWS[direction(metric)]}".strip()
        part = part.set_index("label")
        part["n_clips"] = (part["n"] + part["n_undefined"]).max()
        columns[heading, "this run"] = part.apply(_spell, axis=1, digits=digits)
        columns[heading, "paper"] = part["paper"].map(
            lambda value: "" if pd.isna(value) else f"{value:.4g}"
        )
    order = table["label"].drop_duplicates()
    return pd.DataFrame(columns).reindex(order).fillna("")


def labels(run: Run) -> dict[str, str]:
    """Names of the rows for people, by key; names that two rows share get their key behind."""
    return labels_of(describe(rows(run)))


def describe(listed: Mapping[str, Row]) -> pd.DataFrame:
    """Say what rows are, one a line.

    Parameters
    ----------
    listed : mapping of str to Row
        As from `row.rows`.

    Returns
    -------
    DataFrame
        method (the row's key), label, kind, family, attribution (method behind it; "" for none),
        settings (JSON), baseline, weights. The time-averaged maps of IG come last.
    """
    lines = [_line(row) for row in listed.values()]
    if "ig" in listed:
        names = {"key": TIME_AVERAGE, "label": "IG, averaged over time"}
        average = dataclasses.replace(listed["ig"], **names, kind="reference", family="reference")
        lines.append(_line(average))
    return pd.DataFrame(lines)


def _line(row: Row) -> dict[str, str]:
    return {
        "method": row.key,
        "label": row.label,
        "kind": row.kind,
        "family": row.family,
        "attribution": row.method or "",
        "settings": json.dumps(dict(row.settings), sort_keys=True, default=list),
        "baseline": row.baseline if row.method else "",
        "weights": row.weights if row.method else "",
    }


def labels_of(about: pd.DataFrame) -> dict[str, str]:
    """Names of the rows that `describe` describes; as `labels`."""
    known = dict(zip(about["method"], about["label"], strict=True))
    times = Counter(known.values())
    return {key: f"{name} [{key}]" if times[name] > 1 else name for key, name in known.items()}


def complete(found: pd.DataFrame) -> pd.Series:
    """Tell which lines of a summary average over as many clips as any other row does.

    Parameters
    ----------
    found : DataFrame
        level, metric, n.

    Returns
    -------
    Series of bool
        False where clips are missing (a slow method on fewer clips) or undefined (a map without
        a positive voxel has no C_v): such a mean is over other clips, and has no rank.
    """
    return found["n"] == found.groupby(["level", "metric"])["n"].transform("max")


def main_rows(run: Run, found: pd.DataFrame) -> pd.DataFrame:
    """Leave out the variants that a run measures on a few clips only.

    They vary a row to see what changes, and can be several times as many as the other rows: charts
    would be unreadable with them, and their means are over other clips.

    Parameters
    ----------
    run : Run
    found : DataFrame
        With a column method.

    Returns
    -------
    DataFrame
        The lines of methods, of variants on every clip, and of references.
    """
    few = [key for key, row in rows(run).items() if row.n_clips is not None]
    return found[~found["method"].isin(few)]


def _check_labels(table: pd.DataFrame) -> None:
    pairs = table[["method", "label"]].drop_duplicates()
    twice = pairs.loc[pairs["label"].duplicated(keep=False)]
    if len(twice):
        raise InputError(
            f"rows {', '.join(twice['method'])} are all called '{twice['label'].iloc[0]}'; "
            "give the variants a `label:` of their own"
        )


def _all_zero_counts(scored: pd.DataFrame) -> pd.DataFrame:
    """Defined scores that come from maps without a positive voxel: method, level, metric, count."""
    zero = _is_all_zero(scored)
    counted = pd.MultiIndex.from_frame(scored[["method", "clip_id"]]).isin(zero)
    counted &= scored["value"].notna().to_numpy()
    keys = [scored[name] for name in ("method", "level", "metric")]
    counts = pd.Series(counted, index=scored.index).groupby(keys, sort=False).sum()
    return counts.astype(int).rename("n_all_zero").reset_index()


def _is_all_zero(scored: pd.DataFrame) -> pd.Index:
    """Pairs (method, clip) whose map has no positive voxel, as each table of scores tells it."""
    wide = scored[scored["level"] == "clip"].pivot(
        index=["method", "clip_id"], columns="metric", values="value"
    )
    if "all_zero" in wide:
        return wide.index[wide["all_zero"] == 1]
    if "mean_area" in wide:  # the maximum is in every set, so only nothing removes nothing
        return wide.index[wide["mean_area"] == 0]
    if "stdauc" in wide:
        return wide.index[wide["mauc"].notna() & wide["stdauc"].isna()]
    return wide.index[:0]


def _described(found: pd.DataFrame, about: pd.DataFrame) -> pd.DataFrame:
    names = labels_of(about)
    known = about.set_index("method")
    found.insert(1, "label", [names.get(key, key) for key in found["method"]])
    for place, column in ((2, "family"), (3, "kind")):
        found.insert(place, column, found["method"].map(known[column]).fillna("reference"))
    return found


def ranked(found: pd.DataFrame) -> pd.DataFrame:
    """Add direction and rank to a summary; metrics without a better side are left out."""
    found = found[found["metric"].isin(METRICS)].copy()
    found["direction"] = found["metric"].map(direction)
    found = found[found["direction"].notna()]
    comparable = found.assign(mean=found["mean"].where(complete(found)))
    ranks = statistics.rank_table(comparable)[["method", "level", "metric", "rank"]]
    return found.merge(ranks, on=["method", "level", "metric"])


def _spell(line: pd.Series, *, digits: int) -> str:
    if pd.isna(line["mean"]):
        return "undefined"
    text = f"{line['mean']:.{digits}f}"
    if pd.notna(line["low"]):
        text += f" [{line['low']:.{digits}f}, {line['high']:.{digits}f}]"
    return text + "".join(f" ({note})" for note in _notes(line))


def _notes(line: pd.Series) -> list[str]:
    """What a reader must know of a mean: what is left out, what is convention, what is missing."""
    notes = []
    if line["n_undefined"]:
        notes.append(f"{line['n_undefined']:.0f} undefined")
    if line.get("n_all_zero", 0) > 0:
        notes.append(f"{line['n_all_zero']:.0f} all-zero")
    if "n_clips" in line and (n := line["n"] + line["n_undefined"]) < line["n_clips"]:
        notes.append(f"{n:.0f} of {line['n_clips']:.0f} clips")
    return notes


def _paper_one() -> pd.DataFrame:
    long = _paper_csv("table1_human_centric.csv")
    long[["level", "metric"]] = long.pop("column").str.split("_", expand=True)
    return long[["method", "level", "metric", "paper"]]


def _paper_two() -> pd.DataFrame:
    long = _paper_csv("table2_model_robustness_runtime.csv")
    long["metric"] = long.pop("column").replace({"runtime_s": "seconds"})
    return long.assign(level="clip")[["method", "level", "metric", "paper"]]


def _paper_csv(name: str) -> pd.DataFrame:
    path = resources.files("vad_helpers.tables") / "paper" / name
    with resources.as_file(path) as file:
        table = pd.read_csv(file)
    return table.melt("method", var_name="column", value_name="paper")
