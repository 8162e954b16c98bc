"""Where a run's videos come from, told by the tree and not by the parameter `dataset`.

The synthetic videos, and anybody's own ones, lie in UCSD's layout and can be read as such; a page
that calls them the paper's videos would be wrong.
"""

from __future__ import annotations

from vad_helpers.data.layout import is_official
from vad_helpers.data.walkway import MANIFEST
from vad_helpers.store import experiment
from vad_helpers.store.cache import Run


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
