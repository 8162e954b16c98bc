"""Networks, methods and metrics of one's own, by import path or from a file.

An address is `package.module:NAME` or `path/file.py:NAME`; the path is relative to the project's
folder. Loading one runs its code, so that it is only loaded where its user names it, never because
a folder from elsewhere does (see `params.open_run`).
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from vad_helpers.errors import InputError
from vad_helpers.model.adapter import two_logits

_PREFIX = "vad_own_"


def is_address(text: str) -> bool:
    """Tell an address from a plain key such as "ig"."""
    return ":" in text


def is_own(spec: Any) -> bool:
    """Tell whether a method comes from a file that was loaded here."""
    return str(getattr(getattr(spec, "attribute", None), "__module__", "")).startswith(_PREFIX)


def load_object(address: str, *, root: Path) -> Any:
    """Give what an address names.

    Parameters
    ----------
    address : str
        ``"package.module:NAME"`` or ``"path/file.py:NAME"``.
    root : Path
        Folder that relative paths start in.

    Raises
    ------
    InputError
        If it is no address, there is no such file, module or name, or its code fails.
    """
    where, _, name = address.rpartition(":")
    if not where or not name.isidentifier():
        raise InputError(f"'{address}' is no address; give package.module:NAME or file.py:NAME")
    try:
        if where.endswith(".py"):
            # An edited file is another module, an unchanged one the same: classes stay themselves.
            module = _of_file((root / where).resolve(), digest(address, root=root))
        else:
            module = importlib.import_module(where)
    except InputError:
        raise
    except Exception as error:  # whatever the user's code raises
        told = (str(error).splitlines() or [""])[0]
        raise InputError(f"{where} cannot be loaded: {type(error).__name__}: {told}") from error
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")][:8]
        raise InputError(f"{where} has no {name}; it has {', '.join(public)}")
    return getattr(module, name)


def digest(address: str, *, root: Path) -> str:
    """SHA-256 of the source that an address names, so that edited code is told from kept results.

    Of the file alone, not of what it imports. InputError if it is not there.
    """
    where = address.rpartition(":")[0]
    path = (root / where).resolve()
    if not where.endswith(".py"):
        try:
            found = importlib.util.find_spec(where)
        except (ImportError, ValueError):
            found = None
        if found is None or not found.origin:
            raise InputError(f"there is no module {where}; give one that Python can import")
        path = Path(found.origin)
    if not path.is_file():
        raise InputError(f"no file {path}; give it relative to the project's folder")
    return hashlib.sha256(path.read_bytes()).hexdigest()


@functools.lru_cache(maxsize=32)
def _of_file(path: Path, content: str) -> Any:
    name = f"{_PREFIX}{path.stem}_{content[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def network(
    address: str, args: Mapping[str, Any], *, target: int, root: Path
) -> tuple[nn.Module, dict[str, Any]]:
    """Make a network of one's own, of two logits, and say what its outputs depend on.

    `address` names a function, `args` are its keyword arguments, `target` is the class "anomalous",
    see `model.adapter.two_logits`. InputError if the function fails.
    """
    make = load_object(address, root=root)
    try:
        made = make(**args)
    except Exception as error:  # whatever the user's code raises
        told = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise InputError(f"{address} with {dict(args)} fails: {told}") from error
    facts = {"model": address, "code": digest(address, root=root), "args": dict(args)}
    return two_logits(made, target=target), facts | {"target": target}
