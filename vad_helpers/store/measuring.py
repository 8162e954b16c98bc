"""The long computation of a run, in an order that an interruption hurts least.

Every (clip, row) is explained and scored at once, clip by clip, and each of its results is a file:
a process that is killed at any point loses the one map it was working on.
"""

from __future__ import annotations

from collections.abc import Callable

from tqdm.auto import tqdm

from vad_helpers.store import detector, experiment, maps, scores
from vad_helpers.store.cache import Run
from vad_helpers.store.row import TIME_AVERAGE, rows


def measure(
    run: Run, *, progress: bool = False, after_clip: Callable[[str], None] | None = None
) -> None:
    """Train, then explain and score every clip of the evaluation set by every row.

    What is there already is kept, so that a call after an interruption does the rest.

    Parameters
    ----------
    run : Run
    progress : bool
        Show bars of the training and of the maps.
    after_clip : callable, optional
        Called with the clip_id when all rows of a clip are scored, also of clips that already
        were: to publish what there is, say.
    """
    detector.predictions(run, progress=progress)
    pending = {clip_id: pending_of(run, clip_id) for clip_id in clip_ids(run)}
    total = sum(map(len, pending.values()))
    with tqdm(total=total, desc="measure", unit="map", disable=not progress) as bar:
        for clip_id, row_keys in pending.items():
            for row in row_keys:
                bar.set_postfix_str(f"{clip_id} {row}")
                _score_everywhere(run, clip_id, row)
                bar.update()
            if after_clip is not None:
                after_clip(clip_id)


def clip_ids(run: Run) -> list[str]:
    """Clips of the evaluation set; first those that variants on few clips are measured on.

    A table that grows has then all of its rows from its first clips on.
    """
    listed = experiment.evaluation(run)["clip_id"].tolist()
    n_rows = {clip_id: len(_rows_of(run, clip_id)) for clip_id in listed}
    return sorted(listed, key=lambda clip_id: -n_rows[clip_id])


def pending_of(run: Run, clip_id: str) -> list[str]:
    """Rows of a clip whose scores are not all there, in the order of the tables."""
    return [row for row in _rows_of(run, clip_id) if not _is_complete(run, clip_id, row)]


def _rows_of(run: Run, clip_id: str) -> list[str]:
    listed = rows(run)
    found = [row.key for row in listed.values() if clip_id in maps.clips_of(run, row)]
    return found + ([TIME_AVERAGE] if "ig" in found else [])


def _tables_of(row: str) -> list[str]:
    return ["robustness"] if row == TIME_AVERAGE else list(scores.MEASURES)


def _is_complete(run: Run, clip_id: str, row: str) -> bool:
    return all(scores.is_scored(run, table, clip_id, row) for table in _tables_of(row))


def _score_everywhere(run: Run, clip_id: str, row: str) -> None:
    for table in _tables_of(row):
        scores.score(run, table, clip_id, row)
