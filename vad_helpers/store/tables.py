"""Summaries of the scores: means with intervals, ranks, and the paper's values beside them."""

from __future__ import annotations

from importlib import resources

import pandas as pd

from vad_helpers.metrics import statistics
from vad_helpers.metrics.catalog import METRICS, direction
from vad_helpers.store import scores
from vad_helpers.store.cache import Run, remember
from vad_helpers.store.row import REFERENCES, TIME_AVERAGE, rows

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
        method, label, family, kind, level, metric, mean, low, high, n, n_groups, n_undefined.
        Undefined values are left out of the mean and counted in n_undefined.
    """

    def look_up() -> pd.DataFrame:
        found = statistics.summarise(
            getattr(scores, table)(run), n_resamples=run.params.n_resamples, seed=run.params.seed
        )
        return _described(run, found)

    return remember(run, f"summary {table}", look_up).copy()


def table_one(run: Run) -> pd.DataFrame:
    """The paper's Table I for this run: localisation at clip and frame level.

    Returns
    -------
    DataFrame
        As `summary`, with direction ("higher" or "lower" is better), rank (1 is best, among all
        rows, references included) and the paper's value (NaN where it has none).
    """
    found = summary(run, "human_centric")
    wanted = pd.MultiIndex.from_tuples(TABLE_ONE)
    found = found[pd.MultiIndex.from_frame(found[["level", "metric"]]).isin(wanted)]
    return _ranked(found).merge(_paper_one(), how="left", on=["method", "level", "metric"])


def table_two(run: Run) -> pd.DataFrame:
    """The paper's Table II for this run: faithfulness, stability over time, run time.

    Returns
    -------
    DataFrame
        As `table_one`.
    """
    parts = []
    for table in ("model_centric", "robustness", "runtime"):
        metrics = [metric for name, metric in TABLE_TWO if name == table]
        found = summary(run, table)
        parts.append(found[found["metric"].isin(metrics)])
    ranked = _ranked(pd.concat(parts, ignore_index=True))
    return ranked.merge(_paper_two(), how="left", on=["method", "level", "metric"])


def against_references(
    run: Run, table: str = "human_centric", *, level: str = "clip", metric: str = "auc"
) -> pd.DataFrame:
    """Compare every method with every reference row, paired by clip.

    Returns
    -------
    DataFrame
        method, label, reference, difference (method - reference), low, high, p, p_holm, verdict
        ("higher", "lower", "undecided"), rank and reference_rank (1 is best, among all rows).
    """
    scored = getattr(scores, table)(run)
    scored = scored[(scored["level"] == level) & (scored["metric"] == metric)]
    # A slow method may have fewer clips; pairs are formed on the clips that both sides have.
    methods = [m for m in scored["method"].unique() if m not in REFERENCES]
    contrasts = {
        f"{method}|{reference}": (method, reference)
        for method in methods
        for reference in REFERENCES
    }
    found = statistics.compare(
        scored, contrasts, n_resamples=run.params.n_resamples, seed=run.params.seed
    )
    found[["method", "reference"]] = found["contrast"].str.split("|", expand=True)
    ranks = _ranked(summary(run, table))
    ranks = ranks[(ranks["level"] == level) & (ranks["metric"] == metric)].set_index("method")
    found["label"] = found["method"].map(labels(run))
    found["rank"] = found["method"].map(ranks["rank"])
    found["reference_rank"] = found["reference"].map(ranks["rank"])
    columns = ["method", "label", "reference", "difference", "low", "high", "p", "p_holm"]
    return found[[*columns, "verdict", "rank", "reference_rank"]]


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
        read "mean [low, high]", with "(n undefined)" where clips were left out.
    """
    columns = {}
    for (level, metric), part in table.groupby(["level", "metric"], sort=False):
        several = table.loc[table["metric"] == metric, "level"].nunique() > 1
        name = METRICS[metric].name + (f", {level}" if several else "")
        heading = f"{name} {ARROWS[direction(metric)]}".strip()
        part = part.set_index("label")
        columns[heading, "this run"] = part.apply(_spell, axis=1, digits=digits)
        columns[heading, "paper"] = part["paper"].map(
            lambda value: "" if pd.isna(value) else f"{value:.4g}"
        )
    order = table["label"].drop_duplicates()
    return pd.DataFrame(columns).reindex(order).fillna("")


def labels(run: Run) -> dict[str, str]:
    """Names of the rows for people, by key."""
    known = {row.key: row.label for row in rows(run).values()}
    return known | {TIME_AVERAGE: "IG, averaged over time"}


def _described(run: Run, found: pd.DataFrame) -> pd.DataFrame:
    table = rows(run)
    found.insert(1, "label", found["method"].map(labels(run)))
    found.insert(2, "family", [_of(table, key, "family") for key in found["method"]])
    found.insert(3, "kind", [_of(table, key, "kind") for key in found["method"]])
    return found


def _of(table: dict, key: str, name: str) -> str:
    return getattr(table[key], name) if key in table else "reference"


def _ranked(found: pd.DataFrame) -> pd.DataFrame:
    found = found[found["metric"].isin(METRICS)].copy()
    found["direction"] = found["metric"].map(direction)
    found = found[found["direction"].notna()]
    ranks = statistics.rank_table(found)[["method", "level", "metric", "rank"]]
    return found.merge(ranks, on=["method", "level", "metric"])


def _spell(line: pd.Series, *, digits: int) -> str:
    if pd.isna(line["mean"]):
        return "undefined"
    text = f"{line['mean']:.{digits}f}"
    if pd.notna(line["low"]):
        text += f" [{line['low']:.{digits}f}, {line['high']:.{digits}f}]"
    return text + (f" ({int(line['n_undefined'])} undefined)" if line["n_undefined"] else "")


def _paper_one() -> pd.DataFrame:
    long = _paper_csv("table1_human_centric.csv")
    long[["level", "metric"]] = long.pop("column").str.split("_", expand=True)
    return long[["method", "level", "metric", "paper"]]


def _paper_two() -> pd.DataFrame:
    long = _paper_csv("table2_model_robustness_runtime.csv")
    long["metric"] = long.pop("column").replace({"runtime_s": "seconds"})
    return long.assign(level="clip")[["method", "level", "metric", "paper"]]


def _paper_csv(name: str) -> pd.DataFrame:
    path = resources.files("vad_helpers.store") / "paper" / name
    with resources.as_file(path) as file:
        table = pd.read_csv(file)
    return table.melt("method", var_name="column", value_name="paper")
