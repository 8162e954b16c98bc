"""Explaining a video classifier's decision: attribution methods behind one function."""

from vad_helpers.attribution.registry import (
    METHODS,
    Explanation,
    MethodSpec,
    attribute,
    explain,
    register,
)

__all__ = ["METHODS", "Explanation", "MethodSpec", "attribute", "explain", "register"]
