"""Checking what the user hands over, before any time is spent on it: one line for each fault."""

from __future__ import annotations

import difflib
import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from vad_helpers.errors import InputError

Limit = str | tuple[str, ...]
"""What a value may be: ">= 1" or "> 0" for numbers, the words to choose from for strings."""

_KINDS = {
    bool: (bool, "True or False"),
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a finite number"),
    str: (str, "a string"),
}
_ABOVE = {">=": operator.ge, ">": operator.gt}


def one_of(what: str, value: object, options: Iterable[str]) -> str:
    """Return `value` if it is one of `options`, else raise InputError with the closest or all."""
    options = list(options)
    if isinstance(value, str) and value in options:
        return value
    close = difflib.get_close_matches(str(value), options, n=1)
    advice = f"did you mean {close[0]!r}?" if close else f"choose from {', '.join(options)}"
    raise InputError(f"unknown {what}: {value!r}; {advice if options else 'there are none'}")


def value(what: str, given: object, default: object, limit: Limit | None = None) -> Any:
    """Return what was given in the type of a default.

    An int passes for a float, and a list for a tuple of as many: files and command lines know no
    tuples. A default of another type than bool, int, float, str and tuple takes any value. The
    limit holds for every entry of a tuple. Raises InputError for another type or value.
    """
    if isinstance(default, tuple):
        if not isinstance(given, (list, tuple)) or len(given) != len(default):
            raise InputError(f"{what} is {given!r}; give {len(default)} values, such as {default}")
        return tuple(value(what, a, b, limit) for a, b in zip(given, default, strict=True))
    if isinstance(limit, tuple):
        return one_of(what, given, limit)
    if type(default) not in _KINDS:
        return given
    kind, words = _KINDS[type(default)]
    fits = isinstance(given, kind) and isinstance(given, bool) == isinstance(default, bool)
    if not fits or (kind is numbers.Real and not math.isfinite(given)):
        raise InputError(f"{what} is {given!r}; give {words}")
    if limit is not None:
        sign, bound = limit.split()
        if not _ABOVE[sign](given, float(bound)):
            raise InputError(f"{what} is {given}; it must be {limit}")
    return type(default)(given)


def video(what: str, given: object, like: Tensor | None = None) -> Tensor:
    """Return a finite floating tensor (3, T, H, W), of the shape of `like`; else InputError."""
    kind = given.dtype if isinstance(given, Tensor) else type(given).__name__
    if not isinstance(given, Tensor) or not given.is_floating_point():
        raise InputError(f"{what} is of type {kind}; give a normalised float32 tensor (3, T, H, W)")
    shape = tuple(given.shape)
    if len(shape) != 4 or shape[0] != 3 or 0 in shape:
        raise InputError(f"{what} has shape {shape}; give one clip (3, T, H, W), no batch axis")
    if like is not None and shape != like.shape:
        raise InputError(f"{what} has shape {shape}, the clip {tuple(like.shape)}; give the same")
    if not torch.isfinite(given).all():
        raise InputError(f"{what} holds NaN or infinite values; give finite ones")
    return given
