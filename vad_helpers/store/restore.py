"""Take published scores back into a run's folder, so that an interrupted study goes on anywhere.

A study takes longer than a machine may be there. Its scores are published as they grow; on another
machine, the network of a fold is trained again, and if it is the same to the last bit, what it was
asked before need not be asked again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.store import convergence, publish, published, scores
from vad_helpers.store.cache import Run
from vad_helpers.store.published import Published


def restore(run: Run, folder: str | Path) -> int:
    """Write the published scores of a run's fold where the run looks for its own.

    The network of a published fold is trained first if it is not there. Scores that the run has
    are kept. Published values have six digits, curves four.

    Parameters
    ----------
    run : Run
    folder : str or Path
        Such as `results/ucsd`.

    Returns
    -------
    int
        How many (clip, row) scores were restored; 0 if nothing of this fold is published. Scores
        that code of other versions made are not.

    Raises
    ------
    InputError
        If this fold was published from other data, other settings or another network.
    """
    found = _same_study(run, folder)
    if found is None:
        return 0
    return sum(_restore_table(run, found, table) for table in scores.MEASURES)


def _same_study(run: Run, folder: str | Path) -> Published | None:
    """Read what is published with a run's fold, if anything is; refuse another study's."""
    if not published.exists(Path(folder)):
        return None
    found = published.read(folder)
    if run.params.fold not in found.folds:
        return None
    _check_same_study(run, found)
    return found


def _check_same_study(run: Run, found: Published) -> None:
    entry = found.manifest["folds"][str(run.params.fold)]
    own = publish.identity(run)
    differing = [name for name, value in own.items() if entry.get(name) != value]
    settings = publish.shared_settings(run)
    differing += [name for name, value in settings.items() if found.settings.get(name) != value]
    if differing:
        names = ", ".join(dict.fromkeys(differing))
        raise InputError(
            f"fold {run.params.fold} in {found.folder} was published with other {names}: "
            "publish into another folder; or measure it anew without --publish-to, and then let "
            "`vad publish` replace this fold"
        )


def restore_convergence(run: Run, folder: str | Path) -> int:
    """Write the published checks of convergence of a run's fold where the run looks for its own.

    Parameters
    ----------
    run : Run
    folder : str or Path
        Such as `results/ucsd`.

    Returns
    -------
    int
        How many (clip, row) checks were restored; those that the run has are kept. A check that
        code of other versions made is not, nor is one that ended before its last doubling.

    Raises
    ------
    InputError
        If this fold was published from other data, other settings or another network.
    """
    found = _same_study(run, folder)
    if found is None or "convergence" not in found.extras:
        return 0
    versions = found.manifest["folds"][str(run.params.fold)].get("code", {})
    if convergence.version_of(versions) != convergence.CONVERGENCE_VERSION:
        return 0
    table = found.extras["convergence"]
    table = table[table["fold"] == run.params.fold]
    return sum(
        convergence.write_missing(run, row, clip_id, part)
        for row, _, clip_id in convergence.units(run)
        if scores.is_current(run, versions, "human_centric", row.key)
        and len(part := table[(table["method"] == row.method) & (table["clip_id"] == clip_id)])
    )


def restore_lines(run: Run, lines: pd.DataFrame) -> int:
    """Write published scores of an alternative's run where that run looks for its own.

    Parameters
    ----------
    run : Run
        Of the alternative.
    lines : DataFrame
        Of the published table `alternatives`, this run's alone: whether they are, only the caller
        knows. They have no curves, nor are those published.

    Returns
    -------
    int
        How many (clip, row) scores were restored; those that the run has are kept.
    """
    by_table = dict(tuple(lines.groupby("table")))
    return sum(_write_missing(run, table, part, {}) for table, part in by_table.items())


def _restore_table(run: Run, found: Published, table: str) -> int:
    lines = getattr(found, table)
    part = lines[lines["fold"] == run.params.fold]
    versions = found.manifest["folds"][str(run.params.fold)].get("code", {})
    current = [row for row in part["method"].unique()
               if scores.is_current(run, versions, table, row)]  # fmt: skip
    part = part[part["method"].isin(current)]
    return _write_missing(run, table, part, _curves_of(found, table, run))


def _write_missing(
    run: Run, table: str, lines: pd.DataFrame, curves: dict[tuple[str, str], dict[str, Any]]
) -> int:
    values = dict(tuple(lines.groupby(["clip_id", "method"])))
    wanted = [pair for pair in scores.units(run, table) if pair in values]
    missing = [pair for pair in wanted if not scores.is_scored(run, table, *pair)]
    for clip_id, row in missing:
        part = values[clip_id, row]
        unit = {
            "values": part[["level", "metric", "value"]].values.tolist(),
            "curves": curves.get((clip_id, row), {}),
        }
        scores.write_unit(run, table, clip_id, row, unit)
    return len(missing)


def _curves_of(found: Published, table: str, run: Run) -> dict[tuple[str, str], dict[str, Any]]:
    if table == "model_centric":
        part = found.curves[found.curves["fold"] == run.params.fold]
        by_pair: dict[tuple[str, str], dict[str, Any]] = {}
        for clip_id, row, name, text in part[["clip_id", "method", "curve", "values"]].to_numpy():
            by_pair.setdefault((clip_id, row), {})[name] = published.read_curve(text).tolist()
        return by_pair
    if table == "robustness":
        part = found.frame_auc[found.frame_auc["fold"] == run.params.fold]
        return {
            pair: {"frame_auc": _by_frame(lines, run.params.n_frames)}
            for pair, lines in part.groupby(["clip_id", "method"])
        }
    return {}


def _by_frame(lines: pd.DataFrame, n_frames: int) -> list[float]:
    values = np.full(n_frames, np.nan)
    values[lines["frame"]] = lines["auc"]
    return values.tolist()
