"""The one exception that means "what you gave cannot be used"."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Bad input from the user: a file, a tree, a parameter or a value.

    The message is one line: what was given, what was expected, what to do. The command line
    prints it without a traceback and exits with status 2.
    """


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Import optional packages within: InputError names the extra to install if one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        told = f"{error.name} is not installed; pip install 'vad-helpers[{extra}]'"
        raise InputError(told) from None
