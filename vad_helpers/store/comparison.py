"""Several finished runs in one table: means, and differences from the first run.

Two runs share clips if they were made from the same data with clips of the same length; the
difference is then taken clip by clip, so that easy and hard clips cancel. Runs that share none
(other folds, other data) are compared as independent samples, which is less sharp.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.store.cache import manifest_in
from vad_helpers.tables.resampling import (
    bootstrap_mean,
    independent_difference,
    paired_difference,
    verdict,
)

TABLES = ("human_centric", "model_centric", "robustness", "controls", "runtime")
KEYS = ["table", "level", "metric", "method"]
FOUND = [
    *(*KEYS, "run", "mean", "low", "high", "n"),
    *("difference", "difference_low", "difference_high", "n_shared", "verdict"),
]
COLUMNS = ("clip_id", "sequence", "method", "level", "metric", "value")


def compare_runs(
    folders: Sequence[Path],
    *,
    metrics: Collection[str] = (),
    methods: Collection[str] = (),
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Mean score of every method in every run, and its difference from the first run.

    Parameters
    ----------
    folders : sequence of Path
        Run folders; the first one is what the others are compared with.
    metrics, methods : collection of str
        Keys to keep; empty: every metric that has a better side, and every row.
    n_resamples, seed : int
        Of the bootstrap over sequences.

    Returns
    -------
    DataFrame
        One line a table, level, metric, method and run: mean, low, high, n (clips); from the
        second run on also difference (this run minus the first one), difference_low,
        difference_high, n_shared (clips that both have; 0: compared as independent samples) and
        verdict ("higher", "lower", "undecided"). Intervals are 95 %, resample sequences, and are
        NaN with fewer than two of them.

    Raises
    ------
    InputError
        If a folder holds no scores or a damaged table, or nothing is left of what was asked for.
    """
    runs = dict(zip(_names(folders), [_read(folder) for folder in folders], strict=True))
    runs = {name: _kept(scores, metrics, methods) for name, scores in runs.items()}
    if all(scores.empty for scores in runs.values()):
        wanted = ", ".join([*metrics, *methods])
        raise InputError(f"no run has scores of {wanted}; see the columns metric and method")
    same = dict(zip(runs, _same_clips(folders), strict=True))
    options = {"n_resamples": n_resamples, "seed": seed}
    first = dict(list(next(iter(runs.values())).groupby(KEYS, sort=False)))
    lines = []
    for number, (name, scores) in enumerate(runs.items()):
        for key, part in scores.groupby(KEYS, sort=False):
            line = dict(zip(KEYS, key, strict=True)) | {"run": name}
            line |= _mean(part, options)
            if number and key in first:
                line |= _difference(part, first[key], paired=same[name], options=options)
            lines.append(line)
    return pd.DataFrame(lines, columns=FOUND)


def spelled(found: pd.DataFrame, *, digits: int = 3) -> pd.DataFrame:
    """Write a comparison for reading: a line a method and metric, a column a run.

    Parameters
    ----------
    found : DataFrame
        From `compare_runs`.
    digits : int
        Digits after the decimal point.

    Returns
    -------
    DataFrame of str
        Index table, level, metric, method. The first run's cells read "mean [low, high]", the
        others' "mean: difference [low, high] verdict"; empty where a run lacks the row.
    """
    cells = found.assign(cell=found.apply(_spell, axis=1, digits=digits))
    cells = cells.sort_values("metric", key=_metric_order, kind="stable")
    order = pd.MultiIndex.from_frame(cells.sort_values(["table", "level"], kind="stable")[KEYS])
    order = order.drop_duplicates()
    wide = cells.pivot(index=KEYS, columns="run", values="cell")
    return wide.reindex(index=order, columns=found["run"].drop_duplicates()).fillna("")


def _metric_order(metrics: pd.Series) -> pd.Series:
    """Places in the catalogue; a metric that is not in it comes last."""
    places = {key: i for i, key in enumerate(METRICS)}
    return metrics.map(lambda key: places.get(key, len(places)))


def _names(folders: Sequence[Path]) -> list[str]:
    """Name runs by their folders; one that is given twice is numbered."""
    names = [str(folder) for folder in folders]
    return [
        name if names.index(name) == i else f"{name} ({names[: i + 1].count(name)})"
        for i, name in enumerate(names)
    ]


def _read(folder: Path) -> pd.DataFrame:
    paths = {name: folder / f"{name}.csv" for name in TABLES}
    tables = [_table(path).assign(table=name) for name, path in paths.items() if path.is_file()]
    if not tables:
        raise InputError(f"{folder} holds no scores; give the folder of a finished run")
    return pd.concat(tables, ignore_index=True)


def _table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is no table of scores ({reason}); give a run's folder") from None
    missing = [name for name in COLUMNS if name not in table]
    if missing or not pd.api.types.is_numeric_dtype(table["value"]):
        raise InputError(
            f"{path} is no table of scores: it lacks {', '.join(missing) or 'numbers as values'}; "
            "give a run's folder"
        )
    return table


def _kept(scores: pd.DataFrame, metrics: Collection[str], methods: Collection[str]) -> pd.DataFrame:
    scored = [key for key, metric in METRICS.items() if metric.direction is not None]
    kept = scores["metric"].isin(list(metrics) or scored)
    if methods:
        kept &= scores["method"].isin(list(methods))
    return scores[kept]


def _same_clips(folders: Sequence[Path]) -> list[bool]:
    """Tell for every run whether a clip's name means the same frames as in the first run."""
    made_of = [_clips_entry(folder) for folder in folders]
    return [entry is not None and entry == made_of[0] for entry in made_of]


def _clips_entry(folder: Path) -> tuple[Any, Any] | None:
    """Data and length of a run's clips as its manifest has them; None if it does not say."""
    entry = manifest_in(folder).get("clips.csv")
    try:
        return entry["data"], entry["n_frames"]
    except (KeyError, TypeError):
        return None


def _mean(part: pd.DataFrame, options: dict[str, int]) -> dict[str, float]:
    found = bootstrap_mean(part["value"], part["sequence"], **options)
    return {name: found[name] for name in ("mean", "low", "high", "n")}


def _difference(
    part: pd.DataFrame, first: pd.DataFrame, *, paired: bool, options: dict[str, int]
) -> dict[str, Any]:
    """Difference of one row from the first run's, clip by clip where they share clips."""
    columns = ["clip_id", "sequence", "value"]
    both = part[columns].merge(first[columns], on=columns[:2], suffixes=("", "_first"))
    paired = paired and len(both) > 0
    if paired:
        found = paired_difference(both["value"], both["value_first"], both["sequence"], **options)
    else:
        sides = part["value"], part["sequence"], first["value"], first["sequence"]
        found = independent_difference(*sides, **options)
    return {
        "difference": found["difference"],
        "difference_low": found["low"],
        "difference_high": found["high"],
        "n_shared": found["n"] if paired else 0,
        "verdict": verdict(found["low"], found["high"]),
    }


def _spell(line: pd.Series, *, digits: int) -> str:
    if pd.isna(line["mean"]):
        return "undefined"
    mean = f"{line['mean']:.{digits}f}"
    if pd.isna(line["difference"]):
        return mean + _interval(line["low"], line["high"], f".{digits}f")
    interval = _interval(line["difference_low"], line["difference_high"], f"+.{digits}f")
    return f"{mean}: {line['difference']:+.{digits}f}{interval} {line['verdict']}"


def _interval(low: float, high: float, form: str) -> str:
    return "" if pd.isna(low) else f" [{low:{form}}, {high:{form}}]"
