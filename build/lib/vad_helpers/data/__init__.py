"""Videos on disk to clips in memory: UCSD archives, the synthetic walkway, clips and splits."""
