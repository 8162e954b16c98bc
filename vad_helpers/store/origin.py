"""Where a run's videos come from, told by the tree and not by the parameter `dataset`.

The synthetic videos, and anybody's own ones, lie in UCSD's layout and can be read as such; a page
that calls them the paper's videos would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterable

from vad_helpers.data.layout import N_OFFICIAL
from vad_helpers.data.ucsd import Sequence
from vad_helpers.data.walkway import MANIFEST
from vad_helpers.store import experiment
from vad_helpers.store.cache import Run

PED1_FRAMES = 200
PED2_FRAMES = {"train": 2550, "test": 2010}


def data_origin(run: Run) -> str:
    """Tell what videos a run reads.

    Parameters
    ----------
    run : Run

    Returns
    -------
    str
        "walkway": written by this project. "ucsd": the official videos, or some of them. "own":
        others in UCSD's layout.
    """
    if run.params.dataset == "walkway" or (experiment.data_root(run) / MANIFEST).is_file():
        return "walkway"
    return "ucsd" if is_official(experiment.sequences(run).values()) else "own"


def is_official(sequences: Iterable[Sequence]) -> bool:
    """Tell whether sequences have the numbers and lengths of the official ones.

    Parameters
    ----------
    sequences : iterable of Sequence
        Those present; some of Ped1's may be missing, and either scene as a whole.

    Returns
    -------
    bool
        All of Ped1's have 200 frames; Ped2's are complete, with 2550 frames for training and
        2010 for testing. False without any.
    """
    sequences = list(sequences)
    numbered = all(s.number <= N_OFFICIAL[s.scene, s.kind] for s in sequences)
    ped1 = [s.n_frames for s in sequences if s.scene == "ped1"]
    ped2 = {kind: [s.n_frames for s in sequences if (s.scene, s.kind) == ("ped2", kind)]
            for kind in PED2_FRAMES}  # fmt: skip
    complete = {kind: sum(lengths) for kind, lengths in ped2.items()} == PED2_FRAMES
    absent = not any(ped2.values())
    return bool(sequences) and numbered and set(ped1) <= {PED1_FRAMES} and (complete or absent)
