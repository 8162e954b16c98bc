"""Ours beside plain Captum, in one run: `make bench`, or `python -m benchmarks --help`."""
