"""Helpers of the book on explaining video anomaly detectors: one subpackage a concern."""

__version__ = "0.1.0"
