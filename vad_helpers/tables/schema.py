"""What the tables of a run folder hold, and reading them, checked.

A run folder holds the tables of `SCHEMAS` as CSV, and `manifest.json`. `load` reads one run, or
the runs of a study side by side, and gives a `Study`: DataFrames that every other module of this
room starts from. Nothing here knows a network, a video or a cache.

Every table is checked on reading: columns, types, ranges, allowed values, duplicates, a whole last
line, the lines that the manifest counted, and that clips and rows are those that the run knows. A
changed byte must not pass for a result.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.metrics.catalog import METRICS

MANIFEST = "manifest.json"
STUDY = "study.json"
AGAIN = "get the file again, or delete it and measure again"
CALLED_FROM = 0.5
"""Probability from which on a clip is called anomalous."""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    type : str
        "text", "int", "float" (finite), "bool" (True or False), "json" (an object) or "numbers"
        (numbers separated by spaces).
    nullable : bool
        Whether a cell may be empty: not known, or not defined for a clip.
    allowed : tuple of str
        The only values; empty: any.
    low, high : float
        Smallest and largest number.
    """

    type: str = "text"
    nullable: bool = False
    allowed: tuple[str, ...] = ()
    low: float = -np.inf
    high: float = np.inf


@dataclasses.dataclass(frozen=True)
class Schema:
    """One table: its columns by name, and those that no two lines may share."""

    columns: Mapping[str, Column]
    unique: tuple[str, ...]


LEVELS = (
    *("clip", "frame", "moving", "clip_abs", "frame_abs", "clip_signed", "frame_signed"),
    *("frame_any", "frame_first"),
)
"""What localisation is scored on: the clip, its frame of highest attribution, its moving voxels;
with |E| for E+ (_abs), with signs (_signed), and with other rules for the frame."""
COUNTS = {
    "human_centric": (
        *("n_moving", "n_anomalous", "n_anomalous_moving", "all_zero", "frame", "n_tied"),
    ),
    "model_centric": ("model_calls",),
    "robustness": (),
}
"""What stands beside the metrics of the catalogue in each table of scores."""
SCORED = tuple(COUNTS)
CURVES = (
    *("threshold_deletion_curve", "threshold_insertion_curve", "threshold_areas"),
    *("area_deletion_curve", "area_insertion_curve", "area_area_axis"),
    *("area_matched_deletion_curve", "area_matched_insertion_curve", "area_matched_areas"),
)
TYPES = {
    "text": Column(),
    "number": Column("float"),
    "positive": Column("float", low=0),
    "share": Column("float", low=0, high=1),
    "signed": Column("float", low=-1, high=1),
    "count": Column("int", low=0),
    "label": Column("int", low=0, high=1),
    "flag": Column("bool"),
    "json": Column("json"),
    "numbers": Column("numbers"),
    "split": Column(allowed=("train", "val", "test")),
    "kind": Column(allowed=("method", "variant", "reference")),
    "family": Column(allowed=("gradient", "perturbation", "reference")),
    "precision": Column(allowed=("fp32", "bf16")),
    "curve": Column(allowed=CURVES),
    "level": Column(allowed=("clip",)),
    "anywhere": Column(allowed=LEVELS),
    **{name: Column(allowed=(*METRICS, *counts)) for name, counts in COUNTS.items()},
}


def _schema(columns: str, *, unique: str) -> Schema:
    """Make a schema of "name:type", apart by spaces; text alone needs no type, "?" is nullable."""
    named = (column.partition(":") for column in columns.split())
    made = {
        name: dataclasses.replace(TYPES[kind.rstrip("?") or "text"], nullable=kind.endswith("?"))
        for name, _, kind in named
    }
    return Schema(made, tuple(unique.split()))


def _scores(table: str, level: str) -> Schema:
    columns = f"clip_id sequence row level:{level} metric:{table} value:number? key:?"
    return _schema(columns, unique="clip_id row level metric")


SCHEMAS: dict[str, Schema] = {
    "clips": _schema(
        "clip_id scene sequence start:count n_frames:count label:label has_mask:flag? "
        "eligible:flag? fold:count split:split",
        unique="clip_id",
    ),
    "predictions": _schema(
        "clip_id scene sequence split:split label:label p:share", unique="clip_id"
    ),
    "history": _schema(
        "epoch:count lr:positive train_loss:number? train_accuracy:share val_loss:number? "
        "val_accuracy:share val_auc:share? seconds:positive chosen:flag",
        unique="epoch",
    ),
    "rows": _schema("row kind:kind of:? family:family label settings:json", unique="row"),
    "human_centric": _scores("human_centric", "anywhere"),
    "model_centric": _scores("model_centric", "level"),
    "robustness": _scores("robustness", "level"),
    "explanations": _schema(
        "clip_id row seconds:positive baseline_seconds:positive superpixel_seconds:positive "
        "model_calls:count n_segments:count? n_nonzero:count? all_zero:flag precision:precision? "
        "engine:? processor:? batch_size:count? key:?",
        unique="clip_id row",
    ),
    "curves": _schema("clip_id row curve:curve values:numbers key:?", unique="clip_id row curve"),
    "frame_auc": _schema("clip_id row frame:count auc:share key:?", unique="clip_id row frame"),
    "convergence": _schema(
        "clip_id row n_samples:count correlation:signed? converged:flag key:?",
        unique="clip_id row n_samples",
    ),
}
"""Tables of a run folder."""
STUDY_SCHEMAS: dict[str, Schema] = {
    "ablation": _schema(
        "recipe fold:count epochs:count best_epoch:count accuracy:share accuracy_low:share? "
        "accuracy_high:share? auc:share auc_low:share? auc_high:share? auc_difference:signed "
        "auc_difference_low:signed? auc_difference_high:signed? auc_ped1:share? auc_ped2:share? "
        "accuracy_last_epoch:share auc_last_epoch:share",
        unique="recipe fold",
    ),
}
"""Tables of a study as a whole, beside its run folders."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study:
    """Tables of one run, or of the runs of a study.

    All but `rows` have a leading column `fold`: the run that a line is from.

    Attributes
    ----------
    path : Path
    folds : tuple of int
        Numbers of the folds that are there.
    manifests : dict of int to dict
        By fold.
    params : dict
        Parameters that all folds share.
    clips : DataFrame
        All clips of the data; column `assigned`: the fold that tests the clip (of `SCHEMAS`, where
        it is called `fold`).
    predictions, history, rows, human_centric, model_centric, robustness, explanations, curves, \
frame_auc, convergence : DataFrame
        As in `SCHEMAS`; empty where there is no such file.
    extras : dict of str to DataFrame
        Tables of `STUDY_SCHEMAS` that are there.
    alternatives : dict of str to Study
        By name: runs beside the folds that settle a choice differently.
    committed : bool
        Whether `path` holds a `study.json`, which names it as the study that the book shows.
    """

    path: Path
    folds: tuple[int, ...]
    manifests: dict[int, dict[str, Any]]
    params: dict[str, Any]
    clips: pd.DataFrame
    predictions: pd.DataFrame
    history: pd.DataFrame
    rows: pd.DataFrame
    human_centric: pd.DataFrame
    model_centric: pd.DataFrame
    robustness: pd.DataFrame
    explanations: pd.DataFrame
    curves: pd.DataFrame
    frame_auc: pd.DataFrame
    convergence: pd.DataFrame
    extras: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    alternatives: dict[str, Study] = dataclasses.field(default_factory=dict)
    committed: bool = False

    @property
    def evaluation(self) -> pd.DataFrame:
        """Lines of `clips` that are explained, in the order of the manifests."""
        by_clip = self.clips.set_index(["fold", "clip_id"], drop=False)
        pairs = [(k, clip_id) for k in self.folds for clip_id in self.manifests[k]["evaluation"]]
        there = [pair for pair in pairs if pair in by_clip.index]
        return by_clip.loc[there].reset_index(drop=True)

    def keep(self, clips: Any = None, rows: Any = None) -> Study:
        """Leave out what is measured of other clips and rows.

        Parameters
        ----------
        clips : "all", "hits", "misses", collection of str, or None
            Clips that stay, by clip_id. Hits are those that the network calls anomalous, misses
            the other ones. None: all.
        rows : collection of str, or None
            Rows that stay. None: all.

        Returns
        -------
        Study
            Clips, predictions and history are whole; the evaluation set is what stays of it.

        Raises
        ------
        ValueError
            For another word.
        """
        if isinstance(clips, str):
            if clips not in ("all", "hits", "misses"):
                raise ValueError(f"clips is {clips!r}; expected all, hits or misses")
            p = self.probabilities()
            hit = p.index[p >= CALLED_FROM], p.index[p < CALLED_FROM]
            clips = {"all": None, "hits": hit[0], "misses": hit[1]}[clips]
        changed: dict[str, Any] = {}
        for name in (*SCORED, "explanations", "curves", "frame_auc", "convergence"):
            table = getattr(self, name)
            kept = np.ones(len(table), dtype=bool)
            for column, wanted in (("clip_id", clips), ("row", rows)):
                if wanted is not None:
                    kept &= table[column].isin(list(wanted)).to_numpy()
            changed[name] = table[kept]
        if rows is not None:
            changed["rows"] = self.rows[self.rows["row"].isin(list(rows))]
        if clips is not None:
            known = set(clips)
            changed["manifests"] = {
                k: m | {"evaluation": [clip for clip in m["evaluation"] if clip in known]}
                for k, m in self.manifests.items()
            }
        return dataclasses.replace(self, **changed)

    def probabilities(self) -> pd.Series:
        """What the network says of each clip of the evaluation set, p(x) in [0, 1] by clip_id.

        As it was asked beside the scores; where a clip has none, as it was predicted with all test
        clips, in batches and a precision of their own: the two differ by rounding.
        """
        asked = self.model_centric[self.model_centric["metric"] == "p_clip"]
        asked = asked.drop_duplicates("clip_id").set_index("clip_id")["value"]
        test = self.predictions[self.predictions["split"] == "test"].set_index("clip_id")["p"]
        test = test[test.index.isin(self.evaluation["clip_id"])]
        return asked.combine_first(test).rename("p")


def load(path: str | Path) -> Study:
    """Read a run folder, or a folder of run folders such as `results/ucsd`.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    Study

    Raises
    ------
    InputError
        If there is no run, two runs are of the same fold, define a row differently or score the
        same clip, or a table is damaged: its file and line are named.
    """
    path = Path(path)
    if (path / MANIFEST).is_file():
        return _join(path, [path])
    folders = sorted(file.parent for file in path.glob(f"*/{MANIFEST}"))
    if not folders:
        raise InputError(f"{path} holds no run (no {MANIFEST}); give a folder that `vad run` wrote")
    beside: dict[str, list[Path]] = {"": []}
    for folder in folders:
        alternative = read_manifest(folder)["alternative"]
        beside.setdefault(alternative["name"] if alternative else "", []).append(folder)
    there = [name for name in STUDY_SCHEMAS if (path / f"{name}.csv").is_file()]
    return dataclasses.replace(
        _join(path, beside.pop("")),
        alternatives={name: _join(path, runs) for name, runs in beside.items()},
        extras={name: read(path, name) for name in there},
        committed=(path / STUDY).is_file(),
    )


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """Read a run's manifest.

    Returns
    -------
    dict
        At least parameters, evaluation (clip ids), counts (lines by table) and alternative (dict
        or None).

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(manifest["parameters"]["fold"], int):
            raise TypeError
        manifest = {"evaluation": [], "counts": {}, "alternative": None} | manifest
        if not isinstance(manifest["evaluation"], list) or not isinstance(manifest["counts"], dict):
            raise TypeError
        if manifest["alternative"] is not None:
            manifest["alternative"]["name"].strip()
    except FileNotFoundError:
        raise InputError(f"{path} is missing; give a folder that `vad run` wrote") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is no manifest of a run, or damaged; get it again") from None
    return manifest


def read(path: str | Path, name: str, *, n_lines: int | None = None) -> pd.DataFrame:
    """Read one table of a run folder, checked.

    Parameters
    ----------
    path : str or Path
        The folder.
    name : str
        Of `SCHEMAS` or `STUDY_SCHEMAS`.
    n_lines : int, optional
        Lines that it must have, without the heading.

    Returns
    -------
    DataFrame
        The columns of its schema, in that order. Integers are int64, or float64 where cells may
        be empty; flags bool, or object (True, False, None); texts str, "" for empty. Empty if
        there is no such file.

    Raises
    ------
    InputError
        If it is damaged, naming file and line.
    """
    schema, file = (SCHEMAS | STUDY_SCHEMAS)[name], Path(path) / f"{name}.csv"
    texts: list[list[str]] = []
    if file.is_file():
        texts = _lines(file, list(schema.columns))
    if n_lines is not None and len(texts) != n_lines:
        raise InputError(f"{file} has {len(texts)} lines, its manifest counted {n_lines}; {AGAIN}")
    cells = pd.DataFrame(texts, columns=list(schema.columns), dtype=object)
    table = pd.DataFrame(
        {key: _convert(file, key, about, cells[key]) for key, about in schema.columns.items()}
    )
    twice = table.duplicated(list(schema.unique))
    if twice.any():
        line = int(np.argmax(twice)) + 2
        found = ", ".join(str(value) for value in table.loc[line - 2, list(schema.unique)])
        raise InputError(f"{file}, line {line}: {found} was there already; {AGAIN}")
    return table


def _lines(file: Path, columns: list[str]) -> list[list[str]]:
    """Cells of every line but the heading, as they are written."""
    try:
        text = file.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{file} is no text; {AGAIN}") from None
    if not text.endswith("\n"):
        raise InputError(f"{file}, line {text.count(chr(10)) + 1}: the file ends in it; {AGAIN}")
    try:
        heading, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    except csv.Error as error:
        raise InputError(f"{file} is no table ({error}); {AGAIN}") from None
    if heading != columns:
        raise InputError(
            f"{file} has the columns {', '.join(heading)}; expected {', '.join(columns)}; {AGAIN}"
        )
    for number, line in enumerate(lines, start=2):
        if len(line) != len(columns):
            raise InputError(
                f"{file}, line {number} has {len(line)} cells; expected {len(columns)}; {AGAIN}"
            )
    return lines


def _convert(file: Path, name: str, about: Column, cells: pd.Series) -> pd.Series:
    """Give one column its type; refuse the first cell that is not of it."""
    empty = (cells == "").to_numpy(dtype=bool)
    _refuse(file, name, cells, empty & (not about.nullable), "something")
    if about.allowed:
        expected = f"one of {', '.join(about.allowed)}"
        _refuse(file, name, cells, ~(cells.isin(about.allowed).to_numpy() | empty), expected)
    if about.type in ("int", "float"):
        numbers = pd.Series([_number(cell) for cell in cells], index=cells.index, dtype=float)
        whole = about.type == "float" | (numbers % 1 == 0)
        fits = np.isfinite(numbers) & whole & numbers.between(about.low, about.high)
        kind = "a whole number" if about.type == "int" else "a number"
        expected = f"{kind} from {about.low:g} to {about.high:g}"
        _refuse(file, name, cells, ~(fits.to_numpy() | empty), expected)
        return numbers.astype("int64") if about.type == "int" and not about.nullable else numbers
    if about.type == "bool":
        known = {"True": True, "False": False, "": None}
        _refuse(file, name, cells, ~cells.isin(known).to_numpy(), "True or False")
        return cells.map(known).astype(object if about.nullable else bool)
    if about.type in _PARSERS:
        parse, expected = _PARSERS[about.type]
        _refuse(file, name, cells, np.array([not parse(cell) for cell in cells], bool), expected)
    return cells.astype(str)


def _number(cell: str) -> float:
    """NaN for what is no number; Python's float reads back exactly what was written."""
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _is_object(cell: str) -> bool:
    try:
        return isinstance(json.loads(cell), dict)
    except ValueError:
        return False


_PARSERS: dict[str, tuple[Callable[[str], bool], str]] = {
    "json": (_is_object, "a JSON object"),
    "numbers": (
        lambda cell: all(np.isfinite(_number(part)) for part in cell.split(" ")),
        "numbers separated by spaces",
    ),
}


def _refuse(file: Path, name: str, cells: pd.Series, bad: np.ndarray, expected: str) -> None:
    if bad.any():
        place = int(np.argmax(bad))
        raise InputError(
            f"{file}, line {place + 2}: {name} is {cells.iloc[place]!r}; expected {expected}; "
            f"{AGAIN}"
        )


def _read_run(folder: Path) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """Manifest and tables of one run, checked against each other."""
    manifest = read_manifest(folder)
    counts = manifest["counts"]
    tables = {name: read(folder, name, n_lines=counts.get(name)) for name in SCHEMAS}
    clips = tables["clips"].set_index("clip_id")
    rows = tables["rows"]["row"]
    for name, table in tables.items():
        file = folder / f"{name}.csv"
        if "clip_id" in table:
            bad = ~table["clip_id"].isin(clips.index).to_numpy()
            _refuse(file, "clip_id", table["clip_id"], bad, "a clip of clips.csv")
        if "row" in table:
            _refuse(
                file, "row", table["row"], ~table["row"].isin(rows).to_numpy(), "one of rows.csv"
            )
        for column in ("scene", "sequence", "label", "split"):
            # A clip that is filed elsewhere would be resampled with the wrong sequence.
            if column in table:
                known = table["clip_id"].map(clips[column])
                bad = (known != table[column]).to_numpy()
                _refuse(file, column, table[column], bad, "what clips.csv has")
    unknown = [clip for clip in manifest["evaluation"] if clip not in clips.index]
    if unknown:
        raise InputError(f"{folder / MANIFEST} lists {unknown[0]}, which clips.csv lacks; {AGAIN}")
    return manifest, tables


def _join(path: Path, folders: list[Path]) -> Study:
    """Put runs side by side."""
    if not folders:
        raise InputError(f"{path} holds alternatives, but no fold that they are alternatives to")
    runs: dict[int, tuple[dict[str, Any], dict[str, pd.DataFrame]]] = {}
    for folder in folders:
        manifest, tables = _read_run(folder)
        fold = manifest["parameters"]["fold"]
        if fold in runs:
            raise InputError(f"{path} holds two runs of fold {fold}; keep one, such as {folder}")
        tables["clips"] = tables["clips"].rename(columns={"fold": "assigned"})
        for name in SCHEMAS.keys() - {"rows"}:
            tables[name].insert(0, "fold", fold)
        runs[fold] = manifest, tables
    folds = tuple(sorted(runs))
    joined = {
        name: pd.concat([runs[k][1][name] for k in folds], ignore_index=True) for name in SCHEMAS
    }
    joined["rows"] = joined["rows"].drop_duplicates(ignore_index=True)
    for name in ("rows", *SCHEMAS.keys() - {"clips", "predictions", "history", "rows"}):
        unique = list(SCHEMAS[name].unique)
        if (twice := joined[name].duplicated(unique)).any():
            line = ", ".join(str(value) for value in joined[name].loc[twice, unique].iloc[0])
            raise InputError(f"{path}: two folds say something of {line} in {name}.csv; keep one")
    first, *others = (runs[k][0]["parameters"] for k in folds)
    return Study(
        path=path,
        folds=folds,
        manifests={k: runs[k][0] for k in folds},
        params={
            name: value
            for name, value in first.items()
            if all(name in other and other[name] == value for other in others)
        },
        **joined,
    )
