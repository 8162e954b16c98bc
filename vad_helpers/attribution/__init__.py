"""Explaining a video classifier's decision: eight attribution methods behind one function."""

from vad_helpers.attribution.registry import METHODS, attribute, explain, register
from vad_helpers.attribution.spec import Explanation, MethodSpec

__all__ = ["METHODS", "Explanation", "MethodSpec", "attribute", "explain", "register"]
