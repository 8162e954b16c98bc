"""Left of the joint: parameters, the run folder, and the steps that fill its tables."""

from vad_helpers.run.cache import Run
from vad_helpers.run.params import open_run

__all__ = ["Run", "open_run"]
