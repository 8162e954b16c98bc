"""Weights that were given instead of training: taken only where a run's results would be right."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vad_helpers.errors import InputError
from vad_helpers.model import weights
from vad_helpers.model.i3d import InceptionI3d


def load_matching(
    path: Path, *, network: Mapping[str, Any], split: Mapping[str, Any]
) -> InceptionI3d:
    """Load a trained network, if it fits a run.

    Parameters
    ----------
    path : Path
        What `weights.save` wrote.
    network : mapping
        `mean`, `std` and `width` that the run works with. The file always names its own.
    split : mapping
        What decides which sequences are trained on, such as `data` and `fold`. What the file does
        not say is not checked.

    Returns
    -------
    InceptionI3d

    Raises
    ------
    InputError
        If the file cannot be used, its network is made for other clips or classes, or it was
        trained on another split, so that it may know the test clips.
    """
    model, found = weights.load(path)
    for name, expected in {**network, "classes": list(weights.CLASSES)}.items():
        if found[name] != expected:
            raise InputError(
                f"{path} holds a network with {name} {found[name]}, but this run has {expected}; "
                "give the parameters that it was trained with, or other weights"
            )
    for name, expected in split.items():
        if found.get(name, str(expected)) != str(expected):
            raise InputError(
                f"{path} was trained with {name} {found[name]}, but this run has {expected}: it "
                "may have seen the test clips; give weights of this run's split, or change the run"
            )
    return model
