"""Left of the joint: parameters, the run folder, and the steps that fill its tables."""
