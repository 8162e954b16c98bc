"""The UCSD archive: download it, check it, unpack it whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from lzma import LZMAError
from pathlib import Path, PureWindowsPath

import pooch
from filelock import FileLock
from tqdm.auto import tqdm

from vad_helpers.data.layout import (
    FRAME_PATH,
    ORIGIN_NAME,
    ROOT_NAME,
    find_root,
)
from vad_helpers.data.tree import index
from vad_helpers.errors import InputError

URL = "http://www.svcl.ucsd.edu/projects/anomaly/UCSD_Anomaly_Dataset.tar.gz"
SHA256 = "2329af326951f5097fdd114c50e853957d3e569493a49d22fc082a9fd791915b"
_PARTIAL = f".{ROOT_NAME}.partial-"


def fetch(
    dest: str | Path,
    *,
    archive: str | Path | None = None,
    sha256: str | None = None,
    progress: bool = True,
) -> Path:
    """Put the UCSD tree under `dest`, from the official server or from a local archive.

    Parameters
    ----------
    dest : str or Path
        Folder to hold the tree ``UCSD_Anomaly_Dataset.v1p2``. If a whole tree is there already,
        it is returned; with `archive` or `sha256`, only if it was extracted from that archive. A
        download (740 MB) is kept beside the tree; it may be deleted afterwards.
    archive : str or Path, optional
        A local tar archive to use instead of the download.
    sha256 : str, optional
        Checksum that the archive must have, 64 hexadecimal digits. Default: the official one for
        the download, none for a local archive.
    progress : bool
        Show progress bars.

    Returns
    -------
    Path
        Root of the tree.

    Raises
    ------
    InputError
        The archive is missing, damaged, unsafe, without sequences or of another checksum; or
        `dest` holds something else under the tree's name: no whole tree, or one of another
        archive.
    ConnectionError
        The download failed.
    OSError
        Any other trouble of the disk (full, read-only), after cleaning up.
    """
    wanted = _checked_digest(sha256)
    dest = Path(dest)
    if archive is not None:
        # Before `dest` is made: a wrong archive leaves no trace.
        wanted = _check_file(Path(archive), wanted)
    if _is_there(dest / ROOT_NAME, wanted):
        return dest / ROOT_NAME
    with _alone_in(dest):
        if _is_there(dest / ROOT_NAME, wanted):  # by another process, while this one waited
            return dest / ROOT_NAME
        if archive is None:
            wanted = wanted or SHA256
            archive = _download(dest, wanted, progress)
        return _unpack(Path(archive), dest, wanted, progress)


def extract(archive: str | Path, dest: str | Path, *, progress: bool = True) -> Path:
    """Unpack a UCSD archive into `dest`, whole or not at all.

    All members are looked at before anything is written. The files go to a temporary folder
    beside the final one, which is renamed when complete, so that an interrupted extraction is
    never mistaken for a tree; what an interrupted one left is removed by the next.

    Parameters
    ----------
    archive : str or Path
        A tar archive, compressed or not.
    dest : str or Path
        Folder to hold the tree ``UCSD_Anomaly_Dataset.v1p2``.
    progress : bool
        Show progress bars.

    Returns
    -------
    Path
        Root of the tree.

    Raises
    ------
    InputError
        The archive is missing or damaged, holds no sequence, or has a member with an absolute
        path, a ``..``, a link or a device; or the tree exists already.
    OSError
        Trouble of the disk (full, read-only), after cleaning up.
    """
    digest = _check_file(Path(archive), None)
    with _alone_in(Path(dest)):
        return _unpack(Path(archive), Path(dest), digest, progress)


def _is_there(root: Path, wanted: str | None) -> bool:
    """Say whether a whole tree is there; refuse what is none, or is not of the archive wanted."""
    if not _is_taken(root):
        return False
    origin = root / ORIGIN_NAME
    # Written before the tree got its name. Without it the tree may have been unpacked by hand.
    made_from = origin.read_text(encoding="utf-8").strip() if origin.is_file() else None
    if made_from is None:
        _check_index(root)
    if wanted is not None and made_from != wanted:
        known = f"the archive of sha256 {made_from}" if made_from else "an unknown archive"
        raise InputError(
            f"{root} exists already, made from {known}, not from the one of sha256 {wanted}: "
            f"remove it or choose another folder"
        )
    return True


def _is_taken(root: Path) -> bool:
    return root.exists() and (not root.is_dir() or any(root.iterdir()))


def _check_index(root: Path) -> None:
    try:
        index(root)
    except InputError as error:
        raise InputError(
            f"{root} exists already but is no whole tree ({error}): remove it or choose another "
            f"folder"
        ) from error


def _checked_digest(sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    digest = sha256.strip().lower()
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise InputError(f"sha256 {sha256!r} is no SHA-256 checksum: give 64 hexadecimal digits")
    return digest


def _check_file(archive: Path, sha256: str | None) -> str:
    """Checksum of an archive, which must be `sha256` if that is given."""
    if not archive.is_file():
        raise InputError(f"archive {archive} does not exist or is no file: give a tar archive")
    with archive.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if sha256 not in (None, found):
        raise InputError(
            f"archive {archive} has sha256 {found}, expected {sha256}: it is damaged or another one"
        )
    return found


@contextlib.contextmanager
def _alone_in(dest: Path) -> Iterator[None]:
    """Keep other processes out of `dest` meanwhile, and leave no lock file there."""
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest} is a file: give a folder to hold the tree")
    dest.mkdir(parents=True, exist_ok=True)
    path = dest / f".{ROOT_NAME}.lock"
    with FileLock(path):
        try:
            yield
        finally:
            # While it is held: whoever waits on this file notices that it is gone and makes anew.
            with contextlib.suppress(OSError):
                path.unlink()


def _download(dest: Path, sha256: str, progress: bool) -> str:
    name = URL.rsplit("/", 1)[-1]
    try:
        return pooch.retrieve(
            URL, known_hash=f"sha256:{sha256}", fname=name, path=dest, progressbar=progress
        )
    except OSError as error:
        if error.errno is not None:  # the disk's trouble; the network's has no number
            raise
        reason = " ".join(str(error).split())
        raise ConnectionError(
            f"cannot download {URL} ({reason}): try again, or download it yourself and give the "
            f"file as archive"
        ) from error
    except ValueError as error:  # pooch: the checksum differs; it has removed the file
        raise InputError(
            f"the download of {URL} has not the sha256 {sha256}: try again, or give a file as "
            f"archive"
        ) from error


def _unpack(archive: Path, dest: Path, digest: str, progress: bool) -> Path:
    target = dest / ROOT_NAME
    _remove_leftovers(dest)
    if _is_taken(target):
        raise InputError(f"{target} exists already: remove it or choose another folder")
    try:
        with tarfile.open(archive) as tar:
            members = _members(tar, archive, progress)
            return _write(tar, members, target, digest, progress)
    except (tarfile.TarError, EOFError, zlib.error, LZMAError) as error:
        raise InputError(_damaged(archive, error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        # gzip and bz2 report damaged data as an OSError without a number.
        raise InputError(_damaged(archive, error)) from error


def _damaged(archive: Path, reason: object) -> str:
    reason = str(reason).splitlines()[0] if str(reason) else "unexpected data"
    return f"archive {archive} cannot be read ({reason}): it is damaged or no tar archive"


def _remove_leftovers(dest: Path) -> None:
    for folder in dest.glob(f"{_PARTIAL}*"):
        shutil.rmtree(folder, ignore_errors=True)


def _members(tar: tarfile.TarFile, archive: Path, progress: bool) -> list[tarfile.TarInfo]:
    """Read the list of members to the end of the archive and refuse what is unsafe."""
    members = []
    for member in tqdm(tar, desc="checking archive", unit=" files", disable=not progress):
        _refuse_unsafe(member, archive)
        members.append(member)
    _check_end(tar, archive)
    if not any(FRAME_PATH.fullmatch(member.name) for member in members if member.isfile()):
        raise InputError(
            f"archive {archive} holds no frame such as UCSDped2/Test/Test001/001.tif: "
            f"give the UCSD archive"
        )
    return members


def _refuse_unsafe(member: tarfile.TarInfo, archive: Path) -> None:
    name = member.name.replace("\\", "/")
    if name.startswith("/") or PureWindowsPath(name).drive:
        reason = "has an absolute path"
    elif ".." in name.split("/"):
        reason = "leads out of the folder"
    elif member.issym() or member.islnk():
        reason = "is a link"
    elif not (member.isfile() or member.isdir()):
        reason = "is neither a file nor a folder"
    else:
        return
    raise InputError(
        f"archive {archive} is refused: its member {member.name!r} {reason}; nothing was written"
    )


def _check_end(tar: tarfile.TarFile, archive: Path) -> None:
    """Make sure that the list of members ended where the archive does.

    `tarfile` takes a damaged header for the end, and never reads as far as the checksum of a
    compressed archive.
    """
    if tar.fileobj.tell() <= tar.offset:
        raise InputError(_damaged(archive, "its end is missing"))
    while block := tar.fileobj.read(1 << 20):
        if block.count(0) != len(block):
            raise InputError(_damaged(archive, "a header is unreadable"))


def _write(
    tar: tarfile.TarFile,
    members: list[tarfile.TarInfo],
    target: Path,
    digest: str,
    progress: bool,
) -> Path:
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=target.parent))
    try:
        # A folder of its own: mkdtemp's is private, the tree is meant to be shared.
        inside = partial / "tree"
        inside.mkdir()
        bar = tqdm(members, desc="extracting", unit=" files", disable=not progress)
        tar.extractall(inside, members=bar, filter="data")
        root = find_root(inside)
        (root / ORIGIN_NAME).write_text(f"{digest}\n", encoding="utf-8")
        root.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return target
