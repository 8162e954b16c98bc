"""Maps of a run: one file a clip and row, written whole or not at all, read if still valid."""

from __future__ import annotations

import dataclasses
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save
from tqdm.auto import tqdm

from vad_helpers import attribution as methods
from vad_helpers.attribution import METHODS, baselines, superpixels
from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write
from vad_helpers.metrics import references, robustness
from vad_helpers.store import detector, experiment
from vad_helpers.store.cache import Run, artifact_lock, key_of, remember
from vad_helpers.store.row import SLOW_CALLS, TIME_AVERAGE, Row, rows

if TYPE_CHECKING:
    import torch

EXPLANATION_VERSION = 1
EXPLAINED = (
    *("clip_id", "sequence", "method", "seconds", "baseline_seconds", "superpixel_seconds"),
    *("model_calls", "n_segments", "n_nonzero", "all_zero", "precision", "machine", "batch_size"),
)
"""Columns of `explanations`."""


def baseline(run: Run, clip_id: str, name: str | None = None) -> torch.Tensor:
    """What replaces removed pixels of a clip: float32 (3, T, H, W)."""
    name = name or run.params.baseline
    return baselines.make(name, experiment.clip(run, clip_id), black=run.params.black)


def attribution(run: Run, clip_id: str, row: str, *, progress: bool = False) -> np.ndarray:
    """Map of one clip and row: signed float32 (T, H, W); explained now if need be.

    Parameters
    ----------
    run : Run
    clip_id : str
    row : str
        Key of a method, a variant or a reference row, or "ig_time_average".
    progress : bool
        Show a bar while the method runs.
    """
    if row == TIME_AVERAGE:
        return robustness.time_average(attribution(run, clip_id, "ig", progress=progress))
    row_spec = _row(run, row)
    if row_spec.method is None:
        return _reference_map(run, clip_id, row)
    return _load_or_explain(run, clip_id, row_spec, progress=progress)[0]


def metadata(run: Run, clip_id: str, row: str) -> dict[str, Any]:
    """Record of how a map came about: model_calls, seconds, settings, info."""
    return _load_or_explain(run, clip_id, _row(run, row), progress=False)[1]


def explain_all(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Explain every clip of the evaluation set by every row; what is there is kept.

    Returns
    -------
    DataFrame
        As `explanations`.
    """
    for row in rows(run).values():
        todo = [c for c in clips_of(run, row) if row.method and not explained(run, c, row)]
        for clip_id in tqdm(todo, desc=row.label, unit="clip", disable=not (progress and todo)):
            attribution(run, clip_id, row.key)
    return explanations(run)


def explanations(run: Run, *, finished: bool = False) -> pd.DataFrame:
    """What the network-based maps cost and found, one line a clip and row.

    Parameters
    ----------
    run : Run
    finished : bool
        List the maps that are there; by default those that are not are made.

    Returns
    -------
    DataFrame
        clip_id, sequence, method, seconds, baseline_seconds, superpixel_seconds, model_calls,
        n_segments, n_nonzero (NaN where a method has none), all_zero; precision, machine and
        batch_size tell under which conditions the seconds were taken.
    """
    sequence_of = experiment.evaluation(run).set_index("clip_id")["sequence"]
    lines = []
    for row in rows(run).values():
        if row.method is None:
            continue
        for clip_id in clips_of(run, row):
            path = map_path(run, clip_id, row)
            found = (
                read_map(path) if finished else _load_or_explain(run, clip_id, row, progress=False)
            )
            if found is None:
                continue
            values, record = found
            info = record["info"]
            lines.append(
                {
                    "clip_id": clip_id,
                    "sequence": sequence_of[clip_id],
                    "method": row.key,
                    "seconds": record["seconds"],
                    "baseline_seconds": record["baseline_seconds"],
                    "superpixel_seconds": record["superpixel_seconds"],
                    "model_calls": record["model_calls"],
                    "n_segments": info.get("n_segments", np.nan),
                    "n_nonzero": info.get("n_nonzero", np.nan),
                    "all_zero": not values.any(),
                    "precision": precision_of(run, row),  # part of the key, so that of the map
                    "machine": record["machine"],
                    "batch_size": record["batch_size"],
                }
            )
    return pd.DataFrame(lines, columns=list(EXPLAINED))


def clips_of(run: Run, row: Row) -> list[str]:
    """Clips that a row is evaluated on: all, or fewer for a slow method or a variant that says so.

    The few are chosen as the evaluation set is, so that scenes take turns among them too.
    """
    n_clips = run.params.n_clips
    if is_slow(run, row) and run.params.n_clips_slow is not None:
        n_clips = min(n_clips, run.params.n_clips_slow)
    if row.n_clips is not None:
        n_clips = min(n_clips, row.n_clips)
    return experiment.evaluation(run, n_clips=n_clips)["clip_id"].tolist()


def is_slow(run: Run, row: Row) -> bool:
    """Tell whether a row needs more than `SLOW_CALLS` model calls a clip."""
    return expected_calls(run, row) > SLOW_CALLS


def is_timed(run: Run, row: Row) -> bool:
    """Tell whether the chapter on run time explains a clip again, and again, to time a row.

    It does for methods and variants that take few calls and are on every clip.
    """
    every_clip = row.n_clips is None
    return row.kind in ("method", "variant") and every_clip and not is_slow(run, row)


def expected_calls(run: Run, row: Row) -> int:
    """Model calls a clip that a row's map is expected to need."""
    if row.method is None:
        return 0
    spec = METHODS[row.method]
    shape = (3, run.params.n_frames, *run.params.frame_size)
    settings = {**spec.settings, **row.settings}
    return int(spec.model_calls(settings, shape, settings.get("n_segments")))


def map_path(run: Run, clip_id: str, row: Row) -> Path:
    """File of one map."""
    return (
        run.path("attributions") / f"{row.key}-{row_key(run, row)[:8]}" / f"{clip_id}.safetensors"
    )


def row_key(run: Run, row: Row) -> str:
    """Key of all that the maps of a row depend on, apart from the clip."""
    return remember(run, f"row_key {row.key}", lambda: _row_key(run, row))


def _row_key(run: Run, row: Row) -> str:
    p = run.params
    # The clip itself: a network with random weights brings no key of the data along.
    clip = {
        "data": experiment.data_key(run),
        "clip": [p.n_frames, p.stride],
        "size": p.frame_size,
        "normalisation": [p.mean, p.std],
    }
    if row.method is None:
        return key_of("reference", EXPLANATION_VERSION, row=row.key, seed=p.seed, **clip)
    return key_of(
        "explanation",
        EXPLANATION_VERSION,
        model=detector.model_key(run) if row.weights == "trained" else detector.fresh_key(run),
        method=row.method,
        method_version=METHODS[row.method].version,
        settings={**METHODS[row.method].settings, **row.settings},
        baseline=row.baseline,
        precision=precision_of(run, row),
        seed=_seed(run, row),
        **clip,
    )


def _seed(run: Run, row: Row) -> int:
    return run.params.seed if row.seed is None else row.seed


def precision_of(run: Run, row: Row) -> str:
    """Precision of a row's explanation.

    "auto" means the row's own or the method's default, and fp32 where bf16 would be emulated.
    """
    if run.params.precision != "auto":
        return run.params.precision
    return detector.automatic_precision(run, row.precision or METHODS[row.method].precision)


def explained(run: Run, clip_id: str, row: Row) -> bool:
    """Tell whether a map is there."""
    return map_path(run, clip_id, row).is_file()


def _row(run: Run, key: str) -> Row:
    table = rows(run)
    if key not in table:
        raise InputError(f"no row '{key}' in this run; there are {', '.join(table)}")
    return table[key]


def _reference_map(run: Run, clip_id: str, key: str) -> np.ndarray:
    shape = (run.params.n_frames, *run.params.frame_size)
    if key == "random":
        # Its own stream a clip: one map for all clips would make their scores dependent.
        return references.random_map(shape, seed=experiment.clip_seed(run, clip_id))
    if key == "motion":
        return references.frame_difference(experiment.clip(run, clip_id))
    return {"centre": references.centre_prior, "constant": references.constant_map}[key](shape)


def _load_or_explain(
    run: Run, clip_id: str, row: Row, *, progress: bool
) -> tuple[np.ndarray, dict[str, Any]]:
    path = map_path(run, clip_id, row)
    found = read_map(path)
    if found is not None:
        return found
    with artifact_lock(run.dir, f"{path.parent.name}-{clip_id}"):
        found = read_map(path)  # another process may have been faster
        if found is not None:
            return found
        explanation = _explain_sharing(run, clip_id, row, progress=progress)
        write_map(
            path,
            explanation,
            key=row_key(run, row),
            row=row,
            machine=detector.machine(run),
            batch_size=run.params.eval_batch_size,
        )
    return read_map(path)


def explain_now(
    run: Run,
    clip_id: str,
    row: str,
    *,
    baseline: str | None = None,
    progress: bool | Callable[[int, int], object] = False,
) -> np.ndarray:
    """Explain without looking at what is kept, and keep nothing: for timing, and for trying out.

    Parameters
    ----------
    run : Run
    clip_id : str
    row : str
        A row that needs a network.
    baseline : str, optional
        What replaces removed pixels, in the row's baseline's place.
    progress : bool or callable
        As `attribution.explain` takes it.

    Returns
    -------
    ndarray of float32, (T, H, W)
        Signed.
    """
    spec = _row(run, row)
    if baseline is not None:
        spec = dataclasses.replace(spec, baseline=baseline)
    return _explain(run, clip_id, spec, progress=progress).map


def _explain(
    run: Run,
    clip_id: str,
    row: Row,
    *,
    progress: bool | Callable[[int, int], object],
    segments: np.ndarray | None = None,
) -> methods.Explanation:
    precision = precision_of(run, row)
    return methods.attribute(
        detector.prepared(run, row.weights, precision),
        experiment.clip(run, clip_id),
        row.method,
        baseline=row.baseline,
        precision=precision,
        seed=_seed(run, row),
        black=run.params.black,
        progress=progress,
        batch_size=run.params.eval_batch_size,
        segments=segments,
        **row.settings,
    )


def _explain_sharing(run: Run, clip_id: str, row: Row, *, progress: bool) -> methods.Explanation:
    """Explain with the superpixels that another row may have found on this clip already.

    The seconds are those of an explanation that finds its own: what was saved is added again.
    """
    spec = METHODS[row.method]
    if not spec.superpixels:
        return _explain(run, clip_id, row, progress=progress)
    settings = {**spec.settings, **row.settings}
    options = {name: settings[name] for name in ("n_segments", "compactness")}
    last_key, segments, seconds = run.memo.get("superpixels", (None, None, 0.0))
    if last_key != (clip_id, options):
        started = time.perf_counter()
        segments = superpixels.slic(experiment.clip(run, clip_id), **options)
        seconds = time.perf_counter() - started
        run.memo["superpixels"] = ((clip_id, options), segments, seconds)
    found = _explain(run, clip_id, row, progress=progress, segments=segments)
    return dataclasses.replace(found, seconds=found.seconds + seconds, superpixel_seconds=seconds)


def write_map(
    path: Path, explanation: methods.Explanation, *, key: str, row: Row, **record: Any
) -> None:
    """Write one map with the record of how it came about; whole or not at all."""
    record = {
        **{k: v for k, v in dataclasses.asdict(explanation).items() if k != "map"},
        "key": key,
        "row": {**dataclasses.asdict(row), "settings": dict(row.settings)},
        **record,
    }
    content = save(
        {"attribution": np.ascontiguousarray(explanation.map, dtype=np.float32)},
        metadata={"record": json.dumps(record, default=list)},
    )
    # Written by Python, whose error on a full disk is an OSError; the library's own is not.
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def read_map(path: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    """Read one map and its record; None if it is absent or damaged (with a warning)."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as stream:
            return stream.get_tensor("attribution"), json.loads(stream.metadata()["record"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        warnings.warn(f"{path} is damaged ({error}); explaining again", stacklevel=2)
        return None
