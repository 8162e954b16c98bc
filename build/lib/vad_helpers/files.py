"""Writing files and folders so that a reader never meets half of one."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path`; rename it into place when the block succeeds.

    It keeps the suffix of `path`, by which some writers choose their format, and lies in the same
    folder, made if need be: a rename across file systems is not atomic. If the block or the rename
    fails (OSError: a full disk, say), it is removed and an older file at `path` is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".partial-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp and some writers make private files; results are shared like any other file.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_whole(path: str | Path, content: str | bytes | memoryview) -> None:
    """Write a file, text as UTF-8, as `atomic_write` does.

    What libraries could write themselves comes here too: on a full disk, Python raises an OSError,
    and they something else.
    """
    with atomic_write(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give a folder beside `path` to fill; rename it into place when the block succeeds.

    An empty folder at `path` is replaced. OSError if there is another one by then, which stays; if
    the block or the rename fails, what was filled is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"prefix": ".partial-", "dir": path.parent, "ignore_cleanup_errors": True}
    with tempfile.TemporaryDirectory(**options) as work:
        made = Path(work) / "tree"  # of its own: a temporary folder is private
        made.mkdir()
        yield made
        with contextlib.suppress(OSError):
            path.rmdir()  # an empty folder stands in the way of a rename on some systems
        made.rename(path)
