"""Run a network fast: prepared for a device and precision, cut into a chain, occluded incrementally."""
