"""Checking what the user hands over, before any time is spent on it."""

from __future__ import annotations

import difflib
import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from vad_helpers.errors import InputError

# NumPy's legacy generator takes no larger seed.
MAX_SEED = 2**32 - 1


def suggest(name: object, options: Iterable[str]) -> str:
    """End a message about an unknown name: the closest known one, or all of them."""
    options = list(options)
    close = difflib.get_close_matches(str(name), options, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return "choose from " + (", ".join(options) or "none: there are none")


def one_of(what: str, value: object, options: Iterable[str]) -> str:
    """Return `value` if it is one of `options`, else raise InputError."""
    options = list(options)
    if not isinstance(value, str) or value not in options:
        raise InputError(f"unknown {what}: {value!r}; {suggest(value, options)}")
    return value


def whole(what: str, value: object, *, minimum: int = 0, maximum: int | None = None) -> int:
    """Return `value` as an int if it is a whole number within the bounds, else raise InputError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise InputError(f"{what} is {value!r}; give a whole number")
    if value < minimum or (maximum is not None and value > maximum):
        upper = "" if maximum is None else f" and at most {maximum}"
        raise InputError(f"{what} is {value}; it must be at least {minimum}{upper}")
    return int(value)


def real(what: str, value: object) -> float:
    """Return `value` as a float if it is a finite number, else raise InputError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise InputError(f"{what} is {value!r}; give a finite number")
    return float(value)


def flag(what: str, value: object) -> bool:
    """Return `value` if it is True or False, else raise InputError."""
    if not isinstance(value, bool):
        raise InputError(f"{what} is {value!r}; give True or False")
    return value


def video(what: str, value: object) -> torch.Tensor:
    """Return `value` if it is a finite floating tensor (3, T, H, W), else raise InputError."""
    if not isinstance(value, torch.Tensor):
        raise InputError(
            f"{what} is of type {type(value).__name__}; give a torch tensor (3, T, H, W)"
        )
    if not value.is_floating_point():
        raise InputError(f"{what} is of type {value.dtype}; normalise it to a float32 tensor")
    if value.ndim != 4 or value.shape[0] != 3 or 0 in value.shape:
        raise InputError(
            f"{what} has shape {tuple(value.shape)}; give one clip (3, T, H, W), without a batch "
            "axis"
        )
    if not torch.isfinite(value).all():
        raise InputError(f"{what} holds NaN or infinite values; give finite ones")
    return value


def like(what: str, value: object, clip: torch.Tensor) -> torch.Tensor:
    """Return `value` if it is a video of the clip's shape, else raise InputError."""
    value = video(what, value)
    if value.shape != clip.shape:
        raise InputError(
            f"{what} has shape {tuple(value.shape)}, the clip {tuple(clip.shape)}; give them the "
            "same shape"
        )
    return value


def labels(what: str, value: object, shape: tuple[int, ...]) -> np.ndarray:
    """Return `value` as int64 if it labels every voxel by 0 .. n - 1, else raise InputError."""
    array = np.asarray(value)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise InputError(f"{what} has shape {array.shape}, {array.dtype}; give integers {shape}")
    found = np.unique(array)
    if found[0] != 0 or found[-1] != len(found) - 1:
        raise InputError(f"{what} has labels {found[0]} to {found[-1]}; number them without gaps")
    return array.astype(np.int64)


def setting(what: str, value: object, default: object) -> Any:
    """Return `value` in the type of `default`, or raise InputError if it does not fit.

    An int passes for a float and a list for a tuple (files and command lines know no tuples).
    """
    if isinstance(default, bool):
        return flag(what, value)
    if isinstance(default, int):
        return whole(what, value, minimum=-(2**63))
    if isinstance(default, float):
        return real(what, value)
    if isinstance(default, str):
        return _string(what, value)
    if isinstance(default, tuple):
        return _sequence(what, value, default)
    return value


def settings(key: str, given: Mapping[str, object], defaults: Mapping[str, object]) -> dict:
    """Return the defaults of method `key` overridden by `given`, checked name by name."""
    for name in given:
        if name not in defaults:
            raise InputError(f"method {key!r} has no setting {name!r}; {suggest(name, defaults)}")
    checked = {
        name: setting(f"{key}: {name}", value, defaults[name]) for name, value in given.items()
    }
    return {**defaults, **checked}


def at_least(key: str, values: Mapping[str, Any], **minima: float) -> None:
    """Raise InputError if a setting of method `key` is below its minimum."""
    for name, minimum in minima.items():
        if values[name] < minimum:
            raise InputError(f"{key}: {name} is {values[name]}; it must be at least {minimum}")


def above_zero(key: str, values: Mapping[str, Any], *names: str) -> None:
    """Raise InputError if a setting of method `key` is not above zero."""
    for name in names:
        if values[name] <= 0:
            raise InputError(f"{key}: {name} is {values[name]}; it must be above 0")


def _string(what: str, value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"{what} is {value!r}; give a string")
    return value


def _sequence(what: str, value: object, default: tuple) -> tuple:
    if not isinstance(value, (list, tuple)) or len(value) != len(default):
        raise InputError(f"{what} is {value!r}; give {len(default)} values, such as {default}")
    return tuple(setting(what, one, like_) for one, like_ in zip(value, default, strict=True))
