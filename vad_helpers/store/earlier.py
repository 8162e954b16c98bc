"""What was published of a fold before, where the run that publishes it again does not hold it.

A study is measured in pieces, and on more than one machine. A run that goes on with a fold on the
same data and network, with the same settings, adds to what is published; any other one replaces it,
but for the record of the training of a network that is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vad_helpers.store import gather, scores
from vad_helpers.store.cache import Run
from vad_helpers.store.published import TABLES

SOURCES = {name: name for name in scores.MEASURES} | {
    "curves": "model_centric",
    "frame_auc": "robustness",
}
"""Table that is scored map by map -> the table of scores whose code makes it."""
TRAINING = (
    *("train_precision", "initial_weights", "initial_weights_sha256", "left_fresh"),
    "trained_weights",
    "device",
)
"""Fields of a fold's entry that say how, and where, its network came about."""
PAIR = ("clip_id", "method")


def agrees(entry: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Tell whether what is published says the same of everything that is wanted."""
    return all(entry.get(name) == value for name, value in wanted.items())


def beside(before: pd.DataFrame, new: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Put lines in the place of those with the same values in some columns; others stay."""
    parts = [part for part in (before[~_among(before, new, by)], new) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else new


def _among(lines: pd.DataFrame, others: pd.DataFrame, by: Sequence[str]) -> np.ndarray:
    """Tell which lines have the same values in some columns as one of the others."""
    return lines.set_index([*by]).index.isin(others.set_index([*by]).index)


def complete(
    run: Run, new: Mapping[str, pd.DataFrame], folder: Path, before: Mapping[str, Any]
) -> dict[str, pd.DataFrame]:
    """Add what is published of the same fold, and not in its new tables.

    Parameters
    ----------
    run : Run
    new : mapping of str to DataFrame
        From `gather.tables`.
    folder : Path
        Published, the run's fold with the same data, network, precision and settings.
    before : mapping
        The fold's entry in the manifest.

    Returns
    -------
    dict of str to DataFrame
        The new tables: scores and costs of maps that code of the same versions made, completed.
    """
    versions = before.get("code", {})
    done = dict(new)
    for name, source in SOURCES.items():
        earlier = _lines(folder, name, run)
        kept = _current(earlier, lambda row, t=source: scores.is_current(run, versions, t, row))
        done[name] = beside(kept, new[name], PAIR)
    # A map has no table of scores of its own: any of them knows the versions behind it.
    kept = _current(_lines(folder, "explanations", run),
                    lambda row: scores.is_current(run, versions, "human_centric", row))  # fmt: skip
    # What a map cost stays: explained again for one more score, beside whatever else was computed,
    # it would be another cost for the same map.
    explained = new["explanations"]
    first = explained[~_among(explained, kept, PAIR)]
    done["explanations"] = beside(kept, first, PAIR)
    measured = _lines(folder, "runtime", run)
    measured = measured[measured["source"] == "measured"]
    if new["runtime"].empty and len(measured):
        recorded = _recorded(run, done)
        still = measured[_among(measured, recorded, PAIR)]
        done["runtime"] = beside(recorded, still, PAIR)
    return done


def with_history(
    run: Run, tables: Mapping[str, pd.DataFrame], folder: Path
) -> dict[str, pd.DataFrame]:
    """Keep the published history of a network's training, where the run was given the network."""
    if len(tables["history"]):
        return dict(tables)
    return {**tables, "history": _lines(folder, "history", run)}


def with_costs(run: Run, tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Let the seconds recorded with all maps stand for timings that were not taken."""
    if len(tables["runtime"]):
        return dict(tables)
    return {**tables, "runtime": _recorded(run, tables)}


def _recorded(run: Run, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Seconds that were recorded with the maps, as a table of timings."""
    found = gather.recorded_runtime(tables["explanations"], tables["rows"])
    return found.assign(fold=run.params.fold).reindex(columns=list(TABLES["runtime"]))


def with_training(entry: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Keep what is known of a network's training, where the run was given the trained network."""
    if entry["trained_weights"] is None or before.get("trained_weights"):
        return entry
    known = {name: before[name] for name in TRAINING if name in before}
    spent = {name: before["seconds"][name] for name in ("training", "model.safetensors")
             if name in before.get("seconds", {})}  # fmt: skip
    return {**entry, **known, "seconds": {**entry["seconds"], **spent}}


def _lines(folder: Path, name: str, run: Run) -> pd.DataFrame:
    """Lines of the run's fold in a published table."""
    path = folder / f"{name}.csv"
    if not path.is_file():
        return pd.DataFrame(columns=list(TABLES[name]))
    table = pd.read_csv(path)
    return table[table["fold"] == run.params.fold].reindex(columns=list(TABLES[name]))


def _current(lines: pd.DataFrame, keep: Callable[[str], bool]) -> pd.DataFrame:
    kept = [row for row in lines["method"].unique() if keep(row)]
    return lines[lines["method"].isin(kept)]
