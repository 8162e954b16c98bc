"""Weights that were given instead of training: taken only where a run's results would be right.

A network may come from a part of the archive that the run reads, or from more than it: what counts
is that it has never seen what is tested.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vad_helpers.errors import InputError
from vad_helpers.model import weights
from vad_helpers.model.i3d import InceptionI3d


def load_matching(path: Path, *, network: Mapping[str, Any]) -> tuple[InceptionI3d, dict[str, Any]]:
    """Load a trained network, if it is made for a run's clips.

    Parameters
    ----------
    path : Path
        What `weights.save` wrote.
    network : mapping
        `mean`, `std` and `width` that the run works with. The file always names its own.

    Returns
    -------
    InceptionI3d
    dict
        What the file says of it.

    Raises
    ------
    InputError
        If the file cannot be used, or its network is made for other clips or classes.
    """
    model, found = weights.load(path)
    for name, expected in {**network, "classes": list(weights.CLASSES)}.items():
        if found[name] != expected:
            raise InputError(
                f"{path} holds a network with {name} {found[name]}, but this run has {expected}; "
                "give the parameters that it was trained with, or other weights"
            )
    return model, found


def check_unseen(path: Path, found: Mapping[str, Any], tested: Collection[str]) -> None:
    """Refuse a network that has seen what a run tests.

    Parameters
    ----------
    path : Path
        Of its file.
    found : mapping
        From `load_matching`. A file that says which sequences its network has seen
        (``sequences_seen``) must not name any of `tested`; for one that does not, the reader
        vouches.
    tested : collection of str
        Sequences that the run tests.

    Raises
    ------
    InputError
        If it has.
    """
    known = sorted(_seen(path, found).intersection(tested))
    if known:
        raise InputError(
            f"{path} (fold {found.get('fold', 'unknown')}) has seen "
            f"{len(known)} of the sequences that this run tests ({known[0]}, ...); give weights of "
            "this run's fold, or change the run"
        )


def _seen(path: Path, found: Mapping[str, Any]) -> set[str]:
    try:
        return set(json.loads(found.get("sequences_seen", "[]")))
    except (TypeError, ValueError):
        raise InputError(f"{path} has damaged metadata, sequences_seen: save it again") from None
