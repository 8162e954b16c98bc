"""Where videos and initial weights come from.

Videos are told by the tree and not by the parameter `dataset`: the synthetic ones, and anybody's
own, lie in UCSD's layout and can be read as such; a page that calls them the paper's would lie.
"""

from __future__ import annotations

from vad_helpers.data.layout import is_official
from vad_helpers.data.walkway import MANIFEST
from vad_helpers.store import experiment
from vad_helpers.store.cache import Run

WEIGHTS = {
    "i3d_rgb": "I3D RGB stream (ImageNet, then Kinetics-400), released by DeepMind under the "
    "Apache License 2.0",
}
"""Start of a file's name -> origin and licence of these initial weights."""


def weights_origin(name: str) -> str:
    """Say where initial weights of this file's name are from; "none" starts at random."""
    return next(
        (text for start, text in WEIGHTS.items() if name.startswith(start)),
        "random weights" if name == "none" else f"{name}; origin and licence not recorded",
    )


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
