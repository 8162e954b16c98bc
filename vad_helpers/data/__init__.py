"""Videos on disk to clips in memory: UCSD archives, the synthetic walkway, clips and splits."""

from vad_helpers.data import walkway

__all__ = ["walkway"]
