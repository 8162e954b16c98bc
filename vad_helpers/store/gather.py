"""What a run has finished so far, as the tables of a published folder; nothing is computed.

A run may be half done: a (clip, row) pair is in a table if its score is on disk. Only the network
and its predictions must be there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.store import detector, experiment, maps, scores
from vad_helpers.store.cache import Run, cached, read_manifest
from vad_helpers.store.published import TABLES, spell_curve
from vad_helpers.store.row import Row, rows
from vad_helpers.store.tables import describe

TIMES = ("seconds", "baseline_seconds", "superpixel_seconds", "model_calls")


def tables(run: Run) -> dict[str, pd.DataFrame]:
    """Gather the tables of one run, those of `published.TABLES`.

    Raises
    ------
    InputError
        If the run has no trained network, or was made with other parameters.
    """
    _check_made_with(run)
    fold = run.params.fold
    explained = explanations(run)
    units = {name: _units(run, name) for name in scores.MEASURES}
    found = {
        "clips": experiment.evaluation(run),
        "predictions": detector.predictions(run),
        "history": detector.history(run),
        **{name: _values(parts) for name, parts in units.items()},
        "runtime": _runtime(run, explained),
        "explanations": explained,
        "curves": _curves(units["model_centric"]),
        "frame_auc": _frame_aucs(units["robustness"]),
    }
    found = {name: table.assign(fold=fold) for name, table in found.items()}
    found["rows"] = describe(rows(run))
    return {
        name: found[name].reindex(columns=list(columns)).reset_index(drop=True)
        for name, columns in TABLES.items()
    }


def explanations(run: Run) -> pd.DataFrame:
    """What the maps that are there cost and found; columns as `maps.explanations`."""
    sequence_of = experiment.evaluation(run).set_index("clip_id")["sequence"]
    lines = []
    for row in rows(run).values():
        for clip_id in maps.clips_of(run, row) if row.method else ():
            found = maps.read_map(maps.map_path(run, clip_id, row))
            if found is not None:
                line = _explanation_line(row, *found)
                lines.append({"clip_id": clip_id, "sequence": sequence_of[clip_id], **line})
    return pd.DataFrame(lines, columns=[c for c in TABLES["explanations"] if c != "fold"])


def _explanation_line(row: Row, values: np.ndarray, record: dict[str, Any]) -> dict[str, Any]:
    names = (*TIMES, "machine", "batch_size")
    info = {name: record["info"].get(name, np.nan) for name in ("n_segments", "n_nonzero")}
    return {"method": row.key, **{name: record[name] for name in names}, **info} | {
        "all_zero": not values.any()
    }


def _check_made_with(run: Run) -> None:
    """Refuse a folder whose clips or network are not those of these parameters."""
    if not cached(run, "clips.csv", experiment.clips_key(run)):
        raise InputError(
            f"{run.dir} holds no clips of these parameters; give the profile and overrides that "
            "the run was made with (--profile, -p)"
        )
    if run.params.trained_weights:
        return
    if not cached(run, "model.safetensors", detector.model_key(run)):
        raise InputError(
            f"{run.dir} holds no network trained with these parameters; give the profile and "
            "overrides that the run was made with (--profile, -p), or finish the training"
        )


Unit = tuple[str, str, str, dict[str, Any]]


def _units(run: Run, table: str) -> list[Unit]:
    """Scores on disk: (clip, sequence, row, unit), clip by clip."""
    sequence_of = experiment.evaluation(run).set_index("clip_id")["sequence"]
    return [
        (clip_id, sequence_of[clip_id], row, scores.score(run, table, clip_id, row))
        for clip_id, row in scores.units(run, table)
        if scores.is_scored(run, table, clip_id, row)
    ]


def _values(units: list[Unit]) -> pd.DataFrame:
    lines = [
        (clip_id, sequence, row, *score)
        for clip_id, sequence, row, unit in units
        for score in unit["values"]
    ]
    return pd.DataFrame(lines, columns=scores.COLUMNS)


def _curves(units: list[Unit]) -> pd.DataFrame:
    """Every map's curves, a line each: clip_id, method, curve, values."""
    lines = [
        (clip_id, row, name, spell_curve(line))
        for clip_id, _, row, unit in units
        for name, line in unit["curves"].items()
    ]
    return pd.DataFrame(lines, columns=["clip_id", "method", "curve", "values"])


def _frame_aucs(units: list[Unit]) -> pd.DataFrame:
    lines = [
        (clip_id, row, frame, value)
        for clip_id, _, row, unit in units
        for frame, value in enumerate(unit["curves"]["frame_auc"])
        if not np.isnan(value)
    ]
    return pd.DataFrame(lines, columns=["clip_id", "method", "frame", "auc"])


def _runtime(run: Run, explained: pd.DataFrame) -> pd.DataFrame:
    """The run's timings where they were taken, else the seconds recorded with every map."""
    if cached(run, "runtime.csv", scores._table_key(run, "runtime")):
        return pd.read_csv(run.path("runtime.csv"))
    timed = [row.key for row in rows(run).values() if row.kind != "reference"]
    long = explained[explained["method"].isin(timed)].melt(
        ["clip_id", "sequence", "method"], list(TIMES), var_name="metric"
    )
    return long.assign(level="clip", source="recorded").astype({"value": float})


def seconds(run: Run, explained: pd.DataFrame) -> dict[str, float]:
    """Wall time of the steps of a run, as far as its manifest knows them."""
    entries = read_manifest(run)
    spent = {n: e["seconds"] for n, e in entries.items() if isinstance(e, dict) and "seconds" in e}
    history = detector.history(run)
    if "seconds" in history:  # the manifest's entry is that of the last start alone
        spent["training"] = float(history["seconds"].sum())
    spent["explanations"] = float(explained["seconds"].sum())
    return {name: round(float(value), 1) for name, value in spent.items()}
