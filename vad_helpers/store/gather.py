"""What a run has finished so far, as the tables of a published folder; nothing is computed.

A run may be half done: a (clip, row) pair is in a table if its score is on disk. Only the network
and its predictions must be there.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.metrics.runtime import alike_timed
from vad_helpers.store import detector, experiment, maps, scores
from vad_helpers.store.cache import Run, cached, read_manifest
from vad_helpers.store.published import TABLES, spell_curve
from vad_helpers.store.row import rows
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
    scored = {name: scores.finished(run, name) for name in scores.MEASURES}
    found = {
        "clips": experiment.evaluation(run),
        "predictions": detector.predictions(run),
        "history": detector.history(run),
        **{name: scores.tidy(run, part) for name, part in scored.items()},
        "runtime": _runtime(run),
        "explanations": maps.explanations(run, finished=True),
        "curves": _curves(scored["model_centric"]),
        "frame_auc": _frame_aucs(scored["robustness"]),
    }
    found = {name: table.assign(fold=fold) for name, table in found.items()}
    found["rows"] = describe(rows(run))
    return {
        name: found[name].reindex(columns=list(columns)).reset_index(drop=True)
        for name, columns in TABLES.items()
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


def _curves(scored: list[scores.Scored]) -> pd.DataFrame:
    """Every map's curves, a line each: clip_id, method, curve, values."""
    lines = [
        (clip_id, row, name, spell_curve(line))
        for clip_id, row, unit in scored
        for name, line in unit["curves"].items()
    ]
    return pd.DataFrame(lines, columns=["clip_id", "method", "curve", "values"])


def _frame_aucs(scored: list[scores.Scored]) -> pd.DataFrame:
    lines = [
        (clip_id, row, frame, value)
        for clip_id, row, unit in scored
        for frame, value in enumerate(unit["curves"]["frame_auc"])
        if not np.isnan(value)
    ]
    return pd.DataFrame(lines, columns=["clip_id", "method", "frame", "auc"])


def _runtime(run: Run) -> pd.DataFrame:
    """The run's timings, if they were taken; else no line."""
    if cached(run, "runtime.csv", scores.table_key(run, "runtime")):
        return pd.read_csv(run.path("runtime.csv"))
    return pd.DataFrame(columns=[*scores.COLUMNS, "source"])


def recorded_runtime(explained: pd.DataFrame, about: pd.DataFrame) -> pd.DataFrame:
    """Take the seconds recorded with every map for timings; of the maps that are
    `runtime.alike_timed`.

    Parameters
    ----------
    explained : DataFrame
        As `maps.explanations`.
    about : DataFrame
        Rows, as `tables.describe`; references are not timed.

    Returns
    -------
    DataFrame
        The columns of `explained` that name a map, level, metric, value, source.
    """
    timed = about.loc[about["kind"] != "reference", "method"]
    part = alike_timed(explained[explained["method"].isin(timed)])
    long = part.melt(["clip_id", "sequence", "method"], list(TIMES), var_name="metric")
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
