"""Which sequences train, validate and test a model, and which clips are explained.

Clips of one sequence share people, light and background, so that sequences, never clips, are
dealt to the folds: run f tests fold f, validates on fold f + 1 and trains on the rest. Over all
runs every sequence is tested once, by a model that never saw it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vad_helpers.data.layout import KINDS, N_OFFICIAL, is_official
from vad_helpers.errors import InputError

if TYPE_CHECKING:
    from vad_helpers.data.tree import Sequence

# A test fold, a validation fold, and at least one to train on.
_FEWEST_FOLDS = 3


def assign_folds(
    sequences: Iterable[Sequence], *, n_folds: int = 5, seed: int = 0
) -> dict[str, int]:
    """Deal sequences to folds, at random within each scene and official side.

    Of the official UCSD videos all are dealt, whether they are there or not: a part of the archive
    has the folds of the whole, and a network trained on it is a fair one for who has the rest.

    Parameters
    ----------
    sequences : iterable of Sequence
        In any order: the result does not depend on it.
    n_folds : int
        Number of folds, at least 3.
    seed : int
        Seed, at least 0.

    Returns
    -------
    dict of str to int
        Sequence id to fold, 0 to n_folds - 1. Within a scene and side, and overall, the folds'
        sizes differ by 1 at most (those of an incomplete UCSD archive by what it lacks).

    Raises
    ------
    InputError
        Fewer than 3 folds, fewer sequences than folds, or an id that occurs twice.
    """
    sequences = list(sequences)
    _check_folds(sequences, n_folds)
    strata = _official_strata() if is_official(sequences) else _strata(sequences)
    folds: dict[str, int] = {}
    rng = np.random.default_rng(seed)
    for stratum in sorted(strata):
        for i in rng.permutation(len(strata[stratum])):
            # Each stratum goes on where the last one stopped, so that the folds' totals are even.
            folds[sorted(strata[stratum])[i]] = len(folds) % n_folds
    present = {sequence.id for sequence in sequences}
    return {name: folds[name] for name in sorted(present)}


Strata = dict[tuple[str, str], list[str]]


def _strata(sequences: Iterable[Sequence]) -> Strata:
    """Ids by (side, scene). Test sides sort first: dealt on end, they leave no fold without a test
    sequence."""
    strata: Strata = {}
    for sequence in sequences:
        strata.setdefault((sequence.kind, sequence.scene), []).append(sequence.id)
    return strata


def _official_strata() -> Strata:
    return {
        (kind, scene): [f"{scene}/{KINDS[kind]}{number:03d}" for number in range(1, n + 1)]
        for (scene, kind), n in N_OFFICIAL.items()
    }


def _check_folds(sequences: list[Sequence], n_folds: int) -> None:
    _check_numbers(len(sequences), n_folds, "sequences")
    if len({sequence.id for sequence in sequences}) < len(sequences):
        raise InputError("a sequence id occurs twice: give each sequence once")


def _check_numbers(n: int, n_folds: int, what: str) -> None:
    if n_folds < _FEWEST_FOLDS:
        raise InputError(f"n_folds is {n_folds}: give at least {_FEWEST_FOLDS} (test, val, train)")
    if n < n_folds:
        raise InputError(f"{n} {what} cannot fill {n_folds} folds: add {what} or lower n_folds")


def deal_slots(
    counts: Mapping[str, int], *, n_folds: int = 5, seed: int = 0
) -> dict[str, list[int]]:
    """Deal parts of sequences to folds, whatever sequence they are of.

    The split that this project argues against, to measure what it is worth: parts of one sequence
    show the same people before the same background.

    Parameters
    ----------
    counts : mapping of str to int
        Sequence id to its number of parts.
    n_folds : int
        Number of folds, at least 3.
    seed : int
        Seed, at least 0.

    Returns
    -------
    dict of str to list of int
        Sequence id to the fold of each of its parts; the folds' sizes differ by 1 at most.

    Raises
    ------
    InputError
        Fewer than 3 folds, or fewer parts than folds.
    """
    total = sum(counts.values())
    _check_numbers(total, n_folds, "clips")
    dealt = np.random.default_rng(seed).permutation(np.arange(total) % n_folds)
    names = sorted(counts)
    ends = np.cumsum([counts[name] for name in names])
    return {
        name: part.tolist() for name, part in zip(names, np.split(dealt, ends[:-1]), strict=True)
    }


def split_of(fold_of_sequence: int, *, fold: int, n_folds: int = 5) -> str:
    """Say what a sequence is for in one run.

    Parameters
    ----------
    fold_of_sequence : int
        Fold that `assign_folds` gave the sequence.
    fold : int
        The run, 0 to n_folds - 1.
    n_folds : int
        Number of folds.

    Returns
    -------
    str
        ``"test"`` if the sequence's fold is `fold`, ``"val"`` if it is the next one, otherwise
        ``"train"``.

    Raises
    ------
    InputError
        `fold` or `fold_of_sequence` is outside 0 to n_folds - 1.
    """
    for name, value in (("fold", fold), ("fold_of_sequence", fold_of_sequence)):
        if not 0 <= value < n_folds:
            raise InputError(f"{name} is {value}: expected 0 to {n_folds - 1} for {n_folds} folds")
    return {fold: "test", (fold + 1) % n_folds: "val"}.get(fold_of_sequence, "train")


def evaluation_clips(
    table: pd.DataFrame, *, n_clips: int = 40, seed: int = 0, max_per_sequence: int = 2
) -> pd.DataFrame:
    """Choose the clips whose explanations are measured.

    Candidates are the anomalous, eligible clips of the test split. Scenes take turns, and
    within a scene every sequence gives one clip before any gives a second; a scene that runs out
    leaves its turns to the others. A smaller `n_clips` gives a part of the same choice.

    Parameters
    ----------
    table : pandas.DataFrame
        As from `clips.clip_table`, in any order. The test rows of several runs may be
        concatenated, to choose among all of them at once.
    n_clips : int
        Number of clips wanted, at least 1.
    seed : int
        Seed, at least 0.
    max_per_sequence : int
        Most clips of one sequence, at least 1.

    Returns
    -------
    pandas.DataFrame
        The chosen rows, by sequence and start, index from 0. ``attrs["shortfall"]`` says how many
        clips are missing to `n_clips`, 0 if none.

    Raises
    ------
    InputError
        `n_clips` or `max_per_sequence` is below 1.
    """
    for name, value in (("n_clips", n_clips), ("max_per_sequence", max_per_sequence)):
        if value < 1:
            raise InputError(f"{name} is {value}: give at least 1")
    wanted = (table["label"] == 1) & table["eligible"] & (table["split"] == "test")
    candidates = table[wanted].sort_values(["scene", "sequence", "start"], ignore_index=True)
    rng = np.random.default_rng(seed)
    queues = [
        _queue(rows, rng, max_per_sequence) for _, rows in candidates.groupby("scene", sort=True)
    ]
    chosen = _take_turns(queues)[:n_clips]
    result = candidates.loc[sorted(chosen)].reset_index(drop=True)
    result.attrs["shortfall"] = n_clips - len(result)
    return result


def study_clips(
    table: pd.DataFrame, *, n_clips: int = 40, seed: int = 0, max_per_sequence: int = 2
) -> pd.DataFrame:
    """Choose the clips of a study over all folds.

    As `evaluation_clips`, from the sequences of every split: each is tested in one of the runs. The
    choice is the same in all of them.

    Parameters
    ----------
    table : pandas.DataFrame
        As from `clips.clip_table`, of any fold.
    n_clips, seed, max_per_sequence
        As for `evaluation_clips`.

    Returns
    -------
    pandas.DataFrame
        Rows of `table`, as they are there, by sequence and start.

    Raises
    ------
    InputError
        `n_clips` or `max_per_sequence` is below 1.
    """
    chosen = evaluation_clips(
        table.assign(split="test"), n_clips=n_clips, seed=seed, max_per_sequence=max_per_sequence
    )
    return table[table["clip_id"].isin(chosen["clip_id"])]


def _queue(rows: pd.DataFrame, rng: np.random.Generator, max_per_sequence: int) -> list[int]:
    """Put row labels of one scene in order: each sequence's first clip, then the second ones."""
    labels = rows.groupby("sequence", sort=True).indices.values()
    drawn = [rows.index[rng.permutation(indices)[:max_per_sequence]] for indices in labels]
    drawn = [drawn[i] for i in rng.permutation(len(drawn))]
    return _take_turns(drawn)


def _take_turns(queues: Iterable[Iterable[int]]) -> list[int]:
    """Take the first of every queue, then the second of those that have one, and so on."""
    queues = [[int(item) for item in queue] for queue in queues]
    longest = max(map(len, queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]
