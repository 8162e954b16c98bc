"""What the tables of a run folder hold, and reading them, checked.

Every table is checked on reading: columns, types, ranges, allowed values, duplicates, a whole last
line, lines and digest that the manifest has, and that clips and rows are those that the run knows.
A changed byte must not pass for a result.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
from collections.abc import Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.metrics.catalog import METRICS, Metric

MANIFEST = "manifest.json"
STUDY = "study.json"
AGAIN = "get the file again, or delete it and measure again"
CALLED_FROM = 0.5
"""Probability from which on a clip is called anomalous."""
NUMBER = r"-?\d+(\.\d+)?(e[+-]?\d+)?"
PATTERNS = {
    "text": ".+",
    "int": r"-?\d+(\.0)?",
    "float": NUMBER,
    "bool": "True|False",
    "numbers": f"{NUMBER}( {NUMBER})*",
    "json": ".+",
}
"""What cells of a type are; of "json", also an object."""


@dataclasses.dataclass(frozen=True)
class Schema:
    """One table: its columns by name, and those that no two lines may share.

    A column is a line of `columns.csv`: its type, numbers from `low` to `high`; cells may be empty
    (not known, or not defined for a clip) if it is `nullable`; values are those `allowed`, if any
    are listed.
    """

    columns: Mapping[str, Any]
    unique: tuple[str, ...]


def packaged(name: str) -> pd.DataFrame:
    """Read a CSV that comes with this room: `columns`, or one in `paper/`."""
    file = resources.files("vad_helpers.tables") / f"{name}.csv"
    return pd.read_csv(io.StringIO(file.read_text(encoding="utf-8")))


def _schemas() -> dict[str, Schema]:
    given = packaged("columns").fillna({"low": -np.inf, "high": np.inf, "allowed": ""})
    given.loc[given["column"] == "metric", "allowed"] += " " + " ".join(METRICS)
    given["allowed"] = given["allowed"].str.split().map(tuple)
    found = {}
    for name, part in given.groupby("table", sort=False):
        columns = {line.column: line for line in part.itertuples()}
        found[name] = Schema(columns, tuple(part.loc[part["unique"], "column"]))
    return found


SCHEMAS = _schemas()
"""Tables of a run folder, as `columns.csv` lists them: a line a column, values `allowed` apart by
spaces (metrics: beside those of the catalogue). Levels of localisation: the clip, its frame of
highest attribution, its moving voxels; with |E| for E+ (_abs), with signs (_signed), and with other
rules for the frame."""
STUDY_SCHEMAS = {name: SCHEMAS.pop(name) for name in ("ablation", "metrics_on_trial")}
"""Tables of a study as a whole, beside its run folders."""
SCORED = ("human_centric", "model_centric", "robustness")


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Study:
    """Tables of one run, or of the runs of a study.

    Tables are as in `SCHEMAS`, empty where there is no such file; all but `rows` have a leading
    column `fold`: the run that a line is from.

    Attributes
    ----------
    path : Path
    folds : tuple of int
    manifests : dict of int to dict
        By fold.
    params : dict
        Parameters that all folds share.
    clips : DataFrame
        All clips of the data; column `assigned`: the fold that tests the clip (`fold` in the file).
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
    # What pivots and comparisons came to, which many ask for, by their name and arguments.
    memo: dict[tuple, pd.DataFrame] = dataclasses.field(init=False, default_factory=dict)

    def __repr__(self) -> str:
        folds, chosen = " ".join(map(str, self.folds)), self.evaluation
        parts = f"{len(chosen)} clips of {chosen['sequence'].nunique()} sequences"
        return f"Study: {self.path.name}, folds {folds}; {len(self.rows)} rows on {parts}"

    @property
    def evaluation(self) -> pd.DataFrame:
        """Lines of `clips` that are explained, in the order of the manifests."""
        by_clip = self.clips.set_index(["fold", "clip_id"], drop=False)
        pairs = [(k, clip_id) for k in self.folds for clip_id in self.manifests[k]["evaluation"]]
        return by_clip.loc[pairs].reset_index(drop=True)

    def keep(self, *, clips: str | Collection[str] = "all", rows: Collection[str] = ()) -> Study:
        """Leave out measurements of other clips and rows (empty: all); predictions stay.

        `clips` is "all", "hits" (clips that the network calls anomalous), "misses" (the others of
        the evaluation set), or the clip_id of those that stay.
        """
        if isinstance(clips, str):
            if clips == "all" and not rows:
                return self
            p = self.probabilities()
            groups = {"all": p, "hits": p[p >= CALLED_FROM], "misses": p[p < CALLED_FROM]}
            if clips not in groups:
                raise ValueError(f"clips is {clips!r}; expected all, hits or misses")
            clips = groups[clips].index
        clips, rows = set(clips), set(rows) or set(self.rows["row"])
        changed = {"rows": self.rows[self.rows["row"].isin(rows)]}
        for name in (*SCORED, "explanations", "curves", "frame_auc", "convergence"):
            table = getattr(self, name)
            changed[name] = table[table["clip_id"].isin(clips) & table["row"].isin(rows)]
        manifests = {
            k: m | {"evaluation": [clip for clip in m["evaluation"] if clip in clips]}
            for k, m in self.manifests.items()
        }
        return dataclasses.replace(self, manifests=manifests, **changed)

    def probabilities(self) -> pd.Series:
        """What the network says of each clip of the evaluation set, p(x) in [0, 1] by clip_id.

        As it was asked beside the scores; else as it was predicted with all test clips, in batches
        and a precision of their own: the two differ by rounding.
        """
        asked = self.model_centric[self.model_centric["metric"] == "p_clip"]
        asked = asked.drop_duplicates("clip_id").set_index("clip_id")["value"]
        test = self.predictions[self.predictions["split"] == "test"].set_index("clip_id")["p"]
        test = test[test.index.isin(self.evaluation["clip_id"])]
        return asked.combine_first(test).rename("p")


def load(path: str | Path) -> Study:
    """Read a run folder, or a folder of run folders such as `results/ucsd`.

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
        alternative = _read_manifest(folder)["alternative"]
        beside.setdefault(alternative["name"] if alternative else "", []).append(folder)
    there = [name for name in STUDY_SCHEMAS if (path / f"{name}.csv").is_file()]
    return dataclasses.replace(
        _join(path, beside.pop("")),
        alternatives={name: _join(path, runs) for name, runs in beside.items()},
        extras={name: read(path, name) for name in there},
        committed=(path / STUDY).is_file(),
    )


def _read_manifest(folder: Path) -> dict[str, Any]:
    """Manifest of a run: at least parameters, evaluation, counts and alternative (or None)."""
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        manifest = {"evaluation": [], "counts": {}, "files": {}, "alternative": None} | manifest
        whole = isinstance(manifest["evaluation"], list) and isinstance(manifest["counts"], dict)
        digests = {name: entry.get("sha256") for name, entry in manifest["files"].items()}
        whole &= isinstance(manifest["parameters"]["fold"], int)
        whole &= isinstance((manifest["alternative"] or {"name": ""})["name"], str)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(f"{path} is no manifest of a run, or damaged; get it again")
    return manifest | {"digests": digests}


def read(
    path: str | Path,
    name: str,
    *,
    n_lines: int | None = None,
    sha256: str | None = None,
    metrics: Collection[str] = (),
) -> pd.DataFrame:
    """Read one table of a run folder, of `SCHEMAS` or `STUDY_SCHEMAS`, checked; empty without file.
    `metrics` are those of one's own that the run has beside the package's.

    Integers are int64, or float64 where cells may be empty; flags bool, or object (True, False,
    None); texts str, "" for empty.

    Raises
    ------
    InputError
        If it is damaged, naming file and line; if it has not `n_lines` under its heading, or is not
        the file of which `sha256` is the digest.
    """
    schema, file = (SCHEMAS | STUDY_SCHEMAS)[name], Path(path) / f"{name}.csv"
    columns, lines, text = list(schema.columns), [], "\n"
    if file.is_file():
        try:
            text = file.read_bytes().decode("utf-8")
            heading, *lines = csv.reader(io.StringIO(text, newline=""), strict=True)
        except (ValueError, csv.Error):
            raise InputError(f"{file} is no table, or damaged; {AGAIN}") from None
        if heading != columns:
            given, expected = ", ".join(heading), ", ".join(columns)
            raise InputError(f"{file} has the columns {given}; expected {expected}; {AGAIN}")
    for number, line in enumerate(lines, start=2):
        if len(line) != len(columns):
            wrong = f"has {len(line)} cells; expected {len(columns)}"
            raise InputError(f"{file}, line {number} {wrong}; {AGAIN}")
    if not text.endswith("\n"):
        raise InputError(f"{file}, line {len(lines) + 1} is cut off; {AGAIN}")
    if n_lines is not None and len(lines) != n_lines:
        raise InputError(f"{file} has {len(lines)} lines, its manifest counted {n_lines}; {AGAIN}")
    table = pd.DataFrame(lines, columns=columns, dtype=object)
    for column, about in schema.columns.items():
        cells = values = table[column]
        kinds: tuple[Any, Any] = str, str  # without and with empty cells
        fits = cells.str.fullmatch(PATTERNS[about.type]).astype(bool)
        if about.allowed:
            own = metrics if column == "metric" else ()
            fits &= cells.isin([*about.allowed, *own])
        if about.type == "json":
            fits &= cells.map(_is_object).astype(bool)
        elif about.type == "bool":
            values, kinds = cells.map({"True": True, "False": False, "": None}), (bool, object)
        elif about.type in ("int", "float"):
            values = cells.where(fits).astype(float)
            kinds = "int64" if about.type == "int" else float, float
            fits &= np.isfinite(values) & values.between(about.low, about.high)
        fits |= (cells == "") & about.nullable
        span = f" from {about.low:g} to {about.high:g}" if values.dtype == float else ""
        _refuse(file, column, cells, ~fits, ", ".join(about.allowed) or about.type + span)
        table[column] = values.astype(kinds[about.nullable])
    twice = table.duplicated(list(schema.unique))
    if twice.any():
        line = int(np.argmax(twice))
        found = ", ".join(str(value) for value in table.loc[line, list(schema.unique)])
        raise InputError(f"{file}, line {line + 2}: {found} was there already; {AGAIN}")
    # Last: a damage that can be seen is told with its line.
    if sha256 and file.is_file() and hashlib.sha256(text.encode()).hexdigest() != sha256:
        raise InputError(f"{file} was changed since its run wrote it; {AGAIN}")
    return table


def _is_object(cell: str) -> bool:
    try:
        return isinstance(json.loads(cell), dict)
    except ValueError:
        return False


def _refuse(file: Path, name: str, cells: pd.Series, bad: pd.Series, expected: str) -> None:
    """Raise for the first bad cell of a column."""
    if bad.any():
        line = int(np.argmax(bad))
        given = f"{file}, line {line + 2}: {name} is {str(cells.iloc[line])!r}"
        raise InputError(f"{given}; expected {expected}; {AGAIN}")


def _own_metrics(folder: Path, manifest: Mapping[str, Any]) -> list[str]:
    """Metrics of its own that a run has scores of: the catalogue learns what its manifest says."""
    given = manifest.get("own_metrics", {})
    try:
        own = [Metric(key=k, **a | {"range": tuple(a["range"])}) for k, a in given.items()]
    except (TypeError, KeyError, AttributeError):
        raise InputError(f"{folder / MANIFEST} has damaged own_metrics; {AGAIN}") from None
    for key, metric in zip(given, own, strict=True):
        known = METRICS.setdefault(key, metric)
        if known.direction != metric.direction:
            told = f"{key} as better {metric.direction}, another run as {known.direction}"
            raise InputError(f"{folder / MANIFEST} has the metric {told}; rename one of them")
    return list(given)


def _join(path: Path, folders: list[Path]) -> Study:
    """Put runs side by side; their tables are checked against each other."""
    if not folders:
        raise InputError(f"{path} holds alternatives, but no fold that they are alternatives to")
    runs: dict[int, tuple[dict[str, Any], dict[str, pd.DataFrame]]] = {}
    for folder in folders:
        manifest = _read_manifest(folder)
        fold = manifest["parameters"]["fold"]
        counts, digests = manifest["counts"], manifest["digests"]
        if fold in runs:
            raise InputError(f"{path} holds two runs of fold {fold}; keep one, such as {folder}")
        own = _own_metrics(folder, manifest)
        tables = {
            n: read(folder, n, n_lines=counts.get(n), sha256=digests.get(n), metrics=own)
            for n in SCHEMAS
        }
        clips, rows = tables["clips"].set_index("clip_id"), tables["rows"]["row"]
        unknown = set(manifest["evaluation"]) - set(clips.index)
        if unknown:
            given = f"{folder / MANIFEST} lists {min(unknown)}"
            raise InputError(f"{given}, which clips.csv lacks; {AGAIN}")
        for name, table in tables.items():
            file = folder / f"{name}.csv"
            for column, known in (("clip_id", clips.index), ("row", rows)):
                if column in table:
                    stray = ~table[column].isin(known)
                    _refuse(file, column, table[column], stray, "one that the run lists")
            about = {"scene", "sequence", "label", "split"} if "clip_id" in table else set()
            for column in about & set(table.columns):
                # A clip that is filed elsewhere would be resampled with the wrong sequence.
                differs = table["clip_id"].map(clips[column]) != table[column]
                _refuse(file, column, table[column], differs, "what clips.csv says of the clip")
        tables["clips"] = tables["clips"].rename(columns={"fold": "assigned"})
        for name in SCHEMAS.keys() - {"rows"}:
            tables[name].insert(0, "fold", fold)
        runs[fold] = manifest, tables
    folds = tuple(sorted(runs))
    joined = {
        name: pd.concat([runs[k][1][name] for k in folds], ignore_index=True) for name in SCHEMAS
    }
    joined["rows"] = joined["rows"].drop_duplicates(ignore_index=True)
    for name in SCHEMAS.keys() - {"clips", "predictions", "history"}:
        unique = list(SCHEMAS[name].unique)
        if (twice := joined[name].duplicated(unique)).any():
            line = ", ".join(map(str, joined[name].loc[twice, unique].iloc[0]))
            raise InputError(f"{path}: two folds differ in {line} of {name}.csv; keep one of them")
    first, *others = (runs[k][0]["parameters"] for k in folds)
    shared = {n: v for n, v in first.items() if all(n in o and o[n] == v for o in others)}
    manifests = {k: runs[k][0] for k in folds}
    return Study(path=path, folds=folds, manifests=manifests, params=shared, **joined)
