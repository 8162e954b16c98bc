"""Measurements of the maps: tidy tables, scored clip by clip, resumable.

Every (clip, row) is scored into a file of its own under `scores/`; the tables are assembled from
them and written as CSV: clip_id, sequence, method, level, metric, value. A value that is not
defined for a clip stays NaN in the table and is counted by the summaries.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from vad_helpers.attribution import METHODS
from vad_helpers.files import atomic_write
from vad_helpers.metrics import human_centric as human
from vad_helpers.metrics import model_centric as faithful
from vad_helpers.metrics import robustness as stability
from vad_helpers.metrics import runtime as timing
from vad_helpers.store import detector, experiment, maps
from vad_helpers.store.cache import Run, key_of, load_or_build
from vad_helpers.store.row import TIME_AVERAGE, Row, rows

COLUMNS = ["clip_id", "sequence", "method", "level", "metric", "value"]
VERSIONS = {
    "human_centric": 3,
    "model_centric": 3,
    "robustness": 2,
    "controls": 1,
    "runtime": 3,
}


def human_centric(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Localisation scores of every map, at the levels "clip" and "frame".

    Returns
    -------
    DataFrame
        `COLUMNS`; metrics iou, f1, auc and motion_auc (all higher is better), and counts of
        tied frames, moving voxels and all-zero maps. The levels clip_abs, frame_abs, frame_any and
        frame_first settle differently what the paper leaves open.
    """
    return _score(run, "human_centric", progress=progress)


def model_centric(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Faithfulness scores of every map: on the threshold axis (the paper's) and by area (RISE's).

    Returns
    -------
    DataFrame
        `COLUMNS`; see `vad_helpers.metrics.model_centric` for ranges and directions.
    """
    return _score(run, "model_centric", progress=progress)


def robustness(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Stability of localisation over a clip's frames, with a time-averaged IG row.

    Returns
    -------
    DataFrame
        `COLUMNS`; metrics mauc, worst (higher is better), stdauc, cv (lower), n_frames.
    """
    return _score(run, "robustness", progress=progress)


def controls(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Localisation under controls of its own, of rows that are on every clip.

    "Movers" move by more than what rounding to whole grey values hides: three times the clip's
    median absolute deviation, which is taken to be at least one grey step. In a clip that mostly
    stands still that deviation is 0, so that for `motion_auc` of the localisation table any change
    counts as motion.

    Returns
    -------
    DataFrame
        `COLUMNS`; metrics mover_auc (higher is better), mover_leak (lower), n_movers,
        n_anomalous_movers and all_zero. At the levels clip_signed and frame_signed: auc of the
        map with its signs.
    """
    return _score(run, "controls", progress=progress)


def curves(run: Run, row: str) -> dict[str, np.ndarray]:
    """Deletion and insertion curves of one row, one line a clip, by name of the curve."""
    return _stacked(run, "model_centric", row)


def frame_aucs(run: Run, row: str) -> dict[str, np.ndarray]:
    """AUC of every frame, `frame_auc` (n_clips, T), NaN where a frame has none."""
    return _stacked(run, "robustness", row)


def runtime(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Seconds a clip of every method, one clip at a time, warm.

    Fast methods are timed now, `runtime_repeats` times on the first clip after a warm-up. Slow
    ones (see `row.SLOW_CALLS`) and variants on a few clips give the median of the times recorded
    when they were explained on this machine with this `eval_batch_size`. Where there are none, a
    slow method is timed now on one clip, and a variant on a few clips is left out.

    Returns
    -------
    DataFrame
        `COLUMNS` and `source` ("measured" or "recorded"); metrics seconds, seconds_min,
        seconds_max, repeats, baseline_seconds, superpixel_seconds, model_calls.
    """

    def build() -> pd.DataFrame:
        listed = [row for row in rows(run).values() if row.kind in ("method", "variant")]
        lines = []
        recorded = maps.explanations(run)
        for row in tqdm(listed, desc="run time", unit="method", disable=not progress):
            lines += _time_row(run, row, recorded)
        return pd.DataFrame(lines, columns=[*COLUMNS, "source"])

    return _table(run, "runtime", build)


def predictor(run: Run, weights: str = "trained") -> Callable[[torch.Tensor], np.ndarray]:
    """Give the network as (N, 3, T, H, W) -> (N,) probability "anomalous"."""
    network = detector.prepared(run, weights, detector.scoring_precision(run))
    device = detector.torch_device(run)

    def predict(batch: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            logits = network(torch.as_tensor(batch, dtype=torch.float32).to(device))
            return torch.softmax(logits.float(), dim=1)[:, 1].cpu().numpy()

    return predict


Measure = Callable[[Run, str, np.ndarray], tuple[dict[tuple[str, str], float], dict[str, Any]]]


def _localise(run: Run, clip_id: str, attribution: np.ndarray):
    mask = experiment.mask(run, clip_id)
    n = run.params.n_thresholds
    moving = human.moving_voxels(experiment.clip(run, clip_id))
    motion = human.motion_localization(attribution, mask, moving)
    parts = {
        "clip": human.localization(attribution, mask, n_thresholds=n)
        | {"motion_auc": motion.pop("auc"), **motion}
        | {"share_in_mask": human.concentration(attribution, mask)["share_in_mask"]}
        | {"leak": human.leakage(attribution, mask, moving)}
        | {"all_zero": float(human.is_all_zero(attribution))},
        "frame": human.frame_localization(attribution, mask, n_thresholds=n),
        # What the paper leaves open, settled differently: for the sensitivity of the rankings.
        "clip_abs": human.localization(np.abs(attribution), mask, n_thresholds=n),
        "frame_abs": _peak(np.abs(attribution), mask, n),
        "frame_any": _peak(attribution, mask, n, frames="masked"),
        "frame_first": _peak(attribution, mask, n, ties="first"),
    }
    return {(level, name): v for level, part in parts.items() for name, v in part.items()}, {}


def _peak(attribution: np.ndarray, mask: np.ndarray, n: int, **options: str) -> dict[str, float]:
    found = human.frame_localization(attribution, mask, n_thresholds=n, **options)
    return {name: found[name] for name in human.KEYS}


def _perturb(run: Run, clip_id: str, attribution: np.ndarray):
    predict = predictor(run)
    clip = experiment.clip(run, clip_id)
    baseline = maps.baseline(run, clip_id)
    p = run.params
    found = faithful.both_axes(
        predict,
        clip,
        baseline,
        attribution,
        n_thresholds=p.n_thresholds,
        n_steps=p.area_steps,
        batch_size=p.eval_batch_size,
        # Its own draw a clip: ties broken alike in all clips would make their scores dependent.
        seed=experiment.clip_seed(run, clip_id),
    )
    by_threshold, by_area, shared = found["threshold"], found["area"], found["shared"]
    scores = _scalars(by_area) | _scalars(by_threshold) | shared
    lines = _lines(by_threshold, "threshold") | _lines(by_area, "area")
    return {("clip", name): float(value) for name, value in scores.items()}, lines


def _scalars(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if np.ndim(value) == 0}


def _lines(found: dict[str, Any], axis: str) -> dict[str, Any]:
    return {f"{axis}_{name}": value for name, value in found.items() if np.ndim(value)}


def _steady(run: Run, clip_id: str, attribution: np.ndarray):
    mask = experiment.mask(run, clip_id)
    values = stability.temporal(attribution, mask)
    frames = {"frame_auc": stability.frame_aucs(attribution, mask)}
    return {("clip", name): float(v) for name, v in values.items()}, frames


def _control(run: Run, clip_id: str, attribution: np.ndarray):
    mask = experiment.mask(run, clip_id)
    grey_step = 1 / 255 / run.params.std
    movers = human.moving_voxels(experiment.clip(run, clip_id), step=grey_step)
    among = human.motion_localization(attribution, mask, movers)
    signed = human.signed_aucs(attribution, mask)
    values = {
        ("clip", "mover_auc"): among["auc"],
        ("clip", "mover_leak"): human.leakage(attribution, mask, movers, of="moving"),
        ("clip", "n_movers"): float(among["n_moving"]),
        ("clip", "n_anomalous_movers"): float(among["n_anomalous_moving"]),
        ("clip", "all_zero"): float(human.is_all_zero(attribution)),
    }
    return values | {(f"{k}_signed", "auc"): value for k, value in signed.items()}, {}


MEASURES: dict[str, Measure] = {
    "human_centric": _localise,
    "model_centric": _perturb,
    "robustness": _steady,
    "controls": _control,
}


def _score(run: Run, table: str, *, progress: bool) -> pd.DataFrame:
    def build() -> pd.DataFrame:
        pairs = tqdm(units(run, table), desc=table, unit="map", disable=not progress)
        return tidy(run, [(*pair, score(run, table, *pair)) for pair in pairs])

    return _table(run, table, build)


def score(run: Run, table: str, clip_id: str, row: str) -> dict[str, Any]:
    """Scores of one map, from their file or measured now; the map is made if need be.

    Parameters
    ----------
    run : Run
    table : str
        One of `MEASURES`.
    clip_id, row : str
        One of `units`.

    Returns
    -------
    dict
        values (list of (level, metric, value)) and curves (name -> one-dimensional array).
    """
    return _unit(run, table, MEASURES[table], clip_id, row)


Scored = tuple[str, str, dict[str, Any]]
"""A clip, a row, and what `score` gives for them."""


def finished(run: Run, table: str) -> list[Scored]:
    """What is scored already, while a long computation goes on: nothing is measured.

    Parameters
    ----------
    run : Run
    table : str
        One of `MEASURES`.

    Returns
    -------
    list of (clip_id, row, scores)
        In the order of the table; scores as `score` gives them.
    """
    read = ((*pair, _read_unit(_unit_path(run, table, *pair))) for pair in units(run, table))
    return [(clip_id, row, unit) for clip_id, row, unit in read if unit is not None]


def tidy(run: Run, scored: list[Scored]) -> pd.DataFrame:
    """Lay out scores as a table of `COLUMNS`."""
    lines = [(clip_id, row, *line) for clip_id, row, unit in scored for line in unit["values"]]
    found = pd.DataFrame(lines, columns=["clip_id", "method", "level", "metric", "value"])
    # Without lines it would be a column of objects, and make one of what it is joined with.
    found = found.astype({"value": float})
    sequence_of = experiment.evaluation(run).set_index("clip_id")["sequence"]
    return found.assign(sequence=found["clip_id"].map(sequence_of))[COLUMNS]


def is_scored(run: Run, table: str, clip_id: str, row: str) -> bool:
    """Tell whether the scores of a map are there, undamaged."""
    return _read_unit(_unit_path(run, table, clip_id, row)) is not None


def code_versions(run: Run) -> dict[str, int]:
    """Versions of the code that published scores of this run stand and fall with.

    Returns
    -------
    dict
        By name of the table of scores, and of the method; "explanation" is what all maps share.
    """
    used = {row.method for row in rows(run).values() if row.method}
    methods = {name: METHODS[name].version for name in sorted(used)}
    tables = {table: VERSIONS[table] for table in MEASURES}
    return {"explanation": maps.EXPLANATION_VERSION, **tables, **methods}


def is_current(run: Run, versions: Mapping[str, int], table: str, row: str) -> bool:
    """Tell whether scores that code of these versions made are what this code would make.

    Parameters
    ----------
    run : Run
    versions : mapping of str to int
        As `code_versions` gave them then; without a name, its version is not known.
    table, row : str
    """
    own, listed = code_versions(run), rows(run)
    source = listed.get("ig" if row == TIME_AVERAGE else row)
    method = [source.method] if source is not None and source.method else []
    return all(versions.get(name) == own[name] for name in ("explanation", table, *method))


def _table(run: Run, name: str, build: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    return load_or_build(
        run,
        f"{name}.csv",
        table_key(run, name),
        build=build,
        save=lambda table, path: table.to_csv(path, index=False),
        load=pd.read_csv,
    )


def units(run: Run, table: str) -> list[tuple[str, str]]:
    """All (clip, row) pairs of a table; clip by clip, so that its rows fill evenly.

    Only the robustness table has the time-averaged maps of IG. The controls leave out variants
    that are on a few clips alone: they vary a map, and need not be seen under every score.
    """
    listed = rows(run)
    clips_of = {
        row.key: set(maps.clips_of(run, row))
        for row in listed.values()
        if table != "controls" or row.n_clips is None
    }
    if table == "robustness" and "ig" in listed:
        clips_of[TIME_AVERAGE] = clips_of["ig"]
    return [
        (clip_id, row)
        for clip_id in experiment.evaluation(run)["clip_id"]
        for row in clips_of
        if clip_id in clips_of[row]
    ]


def _unit(run: Run, table: str, measure: Measure, clip_id: str, row: str) -> dict[str, Any]:
    """Score of one (clip, row), from its file or measured now."""
    found = _read_unit(_unit_path(run, table, clip_id, row))
    if found is not None:
        return found
    values, lines = measure(run, clip_id, maps.attribution(run, clip_id, row))
    unit = {
        "values": [(level, name, float(value)) for (level, name), value in values.items()],
        "curves": {name: np.asarray(line, dtype=float).tolist() for name, line in lines.items()},
    }
    write_unit(run, table, clip_id, row, unit)
    return _decode(unit)


def _read_unit(path: Path) -> dict[str, Any] | None:
    """Scores of one file; None if it is absent or damaged (with a warning)."""
    if not path.is_file():
        return None
    try:
        return _decode(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError) as error:
        warnings.warn(f"{path} is damaged ({error}); scoring again", stacklevel=2)
        return None


def write_unit(run: Run, table: str, clip_id: str, row: str, unit: dict[str, Any]) -> None:
    """Write the scores of one map, whole or not at all: values and curves, as JSON takes them."""
    with atomic_write(_unit_path(run, table, clip_id, row)) as temporary:
        temporary.write_text(json.dumps(unit), encoding="utf-8")


def _decode(unit: dict[str, Any]) -> dict[str, Any]:
    return {
        "values": [tuple(line) for line in unit["values"]],
        "curves": {name: np.asarray(line, dtype=float) for name, line in unit["curves"].items()},
    }


def _unit_path(run: Run, table: str, clip_id: str, row: str) -> Path:
    key = _unit_key(run, table, row)
    return run.path("scores") / table / f"{row}-{key[:8]}" / f"{clip_id}.json"


def _unit_key(run: Run, table: str, row: str) -> str:
    p = run.params
    source = "ig" if row == TIME_AVERAGE else row
    settings: dict[str, Any] = {"thresholds": p.n_thresholds, "data": experiment.data_key(run)}
    settings |= {"size": p.frame_size, "normalisation": [p.mean, p.std], "row": row}
    settings |= {"clip": [p.n_frames, p.stride]}
    if table == "model_centric":
        settings |= {"model": detector.model_key(run), "baseline": p.baseline}
        settings |= {"steps": p.area_steps, "seed": p.seed}
        settings |= {"precision": detector.scoring_precision(run)}
    explained = maps.row_key(run, rows(run)[source])
    return key_of(table, VERSIONS[table], map=explained, **settings)


def table_key(run: Run, table: str) -> str:
    clip_ids = {row.key: maps.clips_of(run, row) for row in rows(run).values()}
    keys = {row.key: _unit_key(run, table, row.key) for row in rows(run).values()}
    conditions: dict[str, Any] = {}
    if table == "runtime":
        p = run.params
        conditions = {"repeats": p.runtime_repeats, "batch_size": p.eval_batch_size}
        conditions |= {"machine": detector.machine(run)}
    return key_of(table, VERSIONS[table], clips=clip_ids, units=keys, **conditions)


def _stacked(run: Run, table: str, row: str) -> dict[str, np.ndarray]:
    clip_ids = experiment.evaluation(run)["clip_id"]
    if row != TIME_AVERAGE:
        clip_ids = maps.clips_of(run, rows(run)[row])
    lines = [score(run, table, clip_id, row)["curves"] for clip_id in clip_ids]
    return {name: np.stack([line[name] for line in lines]) for name in lines[0]}


def _recorded_seconds(run: Run, row: Row, recorded: pd.DataFrame) -> pd.Series:
    """A row's recorded times that compare with what would be measured now: machine and batch."""
    same = (recorded["method"] == row.key) & (recorded["machine"] == detector.machine(run))
    return recorded.loc[same & (recorded["batch_size"] == run.params.eval_batch_size), "seconds"]


def times_to_explain(run: Run, row: Row, recorded: pd.DataFrame) -> int:
    """How often `runtime` would explain a clip to time a row, given the explanations there are.

    Parameters
    ----------
    run : Run
    row : Row
    recorded : DataFrame
        As `maps.explanations` gives them.

    Returns
    -------
    int
        0 where seconds recorded under the same conditions are taken, and for a variant on a few
        clips, which is left out without them.
    """
    if maps.is_timed(run, row):
        return 1 + run.params.runtime_repeats
    return int(row.n_clips is None and _recorded_seconds(run, row, recorded).empty)


def _time_row(run: Run, row: Row, recorded: pd.DataFrame) -> list[tuple[Any, ...]]:
    clip_id = maps.clips_of(run, row)[0]
    sequence = experiment.evaluation(run).set_index("clip_id")["sequence"][clip_id]
    seconds = _recorded_seconds(run, row, recorded)
    repeated = maps.is_timed(run, row)
    if times_to_explain(run, row, recorded):
        times = timing.measure(
            lambda: maps.explain_now(run, clip_id, row.key),
            repeats=run.params.runtime_repeats if repeated else 1,
            warmup=1 if repeated else 0,
            synchronize=torch.cuda.synchronize if torch.cuda.is_available() else None,
        )
        source = "measured"
    elif seconds.empty:
        return []  # explained elsewhere, and not worth explaining again
    else:
        times = {
            "seconds": seconds.median(),
            "seconds_min": seconds.min(),
            "seconds_max": seconds.max(),
            "repeats": len(seconds),
        }
        source = "recorded"
    shared = {
        name: recorded.loc[recorded["method"] == row.key, name].median()
        for name in ("baseline_seconds", "superpixel_seconds", "model_calls")
    }
    return [
        (clip_id, sequence, row.key, "clip", metric, float(value), source)
        for metric, value in (times | shared).items()
    ]
