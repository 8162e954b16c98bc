"""The long computation of a run, in an order that an interruption hurts least.

Every (clip, row) is explained and scored at once, clip by clip, and each of its results is a file:
a process that is killed at any point loses the one map it was working on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from tqdm.auto import tqdm

from vad_helpers.errors import InputError
from vad_helpers.store import detector, scores
from vad_helpers.store.cache import Run


def measure(
    run: Run,
    *,
    only: Collection[str] | None = None,
    part: tuple[int, int] = (1, 1),
    progress: bool = False,
    after_clip: Callable[[str], None] | None = None,
) -> None:
    """Train, then explain and score every clip of the evaluation set by every row.

    What is there already is kept, so that a call after an interruption does the rest.

    Parameters
    ----------
    run : Run
    only : collection of str, optional
        Keys of the rows to measure; all by default.
    part : (int, int)
        (k, n): the k-th of n parts of the clips. Processes that take a part each may share the
        run's folder: they wait for one network, and then explain different clips.
    progress : bool
        Show bars of the training and of the maps.
    after_clip : callable, optional
        Called with the clip_id when all rows of a clip are scored that were not before: to publish
        what there is, say.

    Raises
    ------
    InputError
        If there is no such part.
    """
    _check_part(part)  # before anything is trained
    detector.predictions(run, progress=progress)
    todo = pending(run, only=only, part=part)
    total = sum(map(len, todo.values()))
    with tqdm(total=total, desc="measure", unit="map", disable=not progress) as bar:
        for clip_id, row_keys in todo.items():
            for row, tables in row_keys.items():
                bar.set_postfix_str(f"{clip_id} {row}")
                for table in tables:
                    scores.score(run, table, clip_id, row)
                bar.update()
            if after_clip is not None:
                after_clip(clip_id)


def pending(
    run: Run, *, only: Collection[str] | None = None, part: tuple[int, int] = (1, 1)
) -> dict[str, dict[str, list[str]]]:
    """What is not scored yet: clip -> row -> tables; of one part of the clips, see `measure`.

    Clips with the most rows come first, which are those that variants on few clips are measured
    on: a table that grows has then all of its rows from its first clips on. Parts take turns in
    this order, so that each has its share of them; which clips a part has does not depend on what
    is scored.

    Raises
    ------
    InputError
        If there is no such part.
    """
    _check_part(part)
    number, n_parts = part
    pairs = {table: scores.units(run, table) for table in scores.MEASURES}
    n_rows = Counter(clip_id for listed in pairs.values() for clip_id, _ in listed)
    clips = [clip_id for clip_id, _ in n_rows.most_common()][number - 1 :: n_parts]
    found: dict[str, dict[str, list[str]]] = {clip_id: {} for clip_id in clips}
    for table, listed in pairs.items():
        for clip_id, row in listed:
            wanted = clip_id in found and (only is None or row in only)
            if wanted and not scores.is_scored(run, table, clip_id, row):
                found[clip_id].setdefault(row, []).append(table)
    return {clip_id: rows for clip_id, rows in found.items() if rows}


def _check_part(part: tuple[int, int]) -> None:
    number, n_parts = part
    if not 1 <= number <= n_parts:
        raise InputError(f"there is no part {number} of {n_parts}; give 1/{n_parts} or later ones")
