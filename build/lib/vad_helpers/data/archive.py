"""The UCSD archive: download it, check it, unpack it whole or not at all."""

from __future__ import annotations

import contextlib
import re
import shutil
import tarfile
import tempfile
import zlib
from lzma import LZMAError
from pathlib import Path

import pooch
from filelock import FileLock
from tqdm.auto import tqdm

from vad_helpers.data.ucsd import FRAME_PATH, ORIGIN_NAME, ROOT_NAME, find_root, index
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

    The tree appears whole or not at all; what a killed extraction left is removed by the next.
    Processes that fetch to one folder wait for each other.

    Parameters
    ----------
    dest : str or Path
        Folder to hold the tree ``UCSD_Anomaly_Dataset.v1p2``. A whole one that is there is
        returned; with `archive` or `sha256`, only if it was extracted from that archive. A
        download (740 MB) is kept beside the tree; it may be deleted afterwards.
    archive : str or Path, optional
        A local tar archive, compressed or not, to use instead of the download.
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
        The archive is missing, damaged, without sequences or of another checksum, or has a member
        that leads out of the folder, a link or a device; or `dest` holds something else under the
        tree's name: no whole tree, or one of another archive.
    ConnectionError
        The download failed.
    OSError
        Any other trouble of the disk (full, read-only), after cleaning up.
    """
    dest = Path(dest)
    root = dest / ROOT_NAME
    if sha256 is not None:
        sha256 = sha256.strip().lower()
        if not re.fullmatch("[0-9a-f]{64}", sha256):
            raise InputError(f"sha256 {sha256!r} is no SHA-256 checksum: give 64 hex digits")
    if archive is not None:
        # Before `dest` is made: a wrong archive leaves no trace.
        archive = Path(archive)
        if not archive.is_file():
            raise InputError(f"archive {archive} does not exist or is no file: give a tar archive")
        found = pooch.file_hash(archive)
        if sha256 not in (None, found):
            told = f"expected {sha256}: it is damaged or another one"
            raise InputError(f"archive {archive} has sha256 {found}, {told}")
        sha256 = found
    if _is_there(root, sha256):
        return root
    if dest.exists() and not dest.is_dir():
        raise InputError(f"{dest} is a file: give a folder to hold the tree")
    dest.mkdir(parents=True, exist_ok=True)
    lock = dest / f".{ROOT_NAME}.lock"
    with FileLock(lock):
        try:
            if not _is_there(root, sha256):  # another process made it, while this one waited
                sha256 = sha256 or SHA256
                archive = archive or _download(dest, sha256, progress)
                _unpack(archive, root, sha256, progress)
        finally:
            # While it is held: whoever waits on this file notices that it is gone and makes anew.
            with contextlib.suppress(OSError):
                lock.unlink()
    return root


def _is_there(root: Path, sha256: str | None) -> bool:
    """Say whether a whole tree is there; refuse what is none, or is not of the archive wanted."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    origin = root / ORIGIN_NAME
    # Written before the tree got its name. Without it the tree may have been unpacked by hand.
    made_from = origin.read_text(encoding="utf-8").strip() if origin.is_file() else None
    if made_from is None:
        try:
            index(root)
        except InputError as error:
            told = f"but is no whole tree ({error}): remove it or choose another folder"
            raise InputError(f"{root} exists already {told}") from error
    if sha256 is not None and made_from != sha256:
        known = f"the archive of sha256 {made_from}" if made_from else "an unknown archive"
        told = f"not from the one of sha256 {sha256}: remove it or choose another folder"
        raise InputError(f"{root} exists already, made from {known}, {told}")
    return True


def _download(dest: Path, sha256: str, progress: bool) -> Path:
    try:
        name = URL.rsplit("/", 1)[-1]
        path = pooch.retrieve(URL, f"sha256:{sha256}", name, dest, progressbar=progress)
    except OSError as error:
        if error.errno is not None:  # the disk's trouble; the network's has no number
            raise
        reason = " ".join(str(error).split())
        told = "try again, or download it yourself and give the file as archive"
        raise ConnectionError(f"cannot download {URL} ({reason}): {told}") from error
    except ValueError as error:  # pooch: the checksum differs; it has removed the file
        told = f"has not the sha256 {sha256}: try again, or give a file as archive"
        raise InputError(f"the download of {URL} {told}") from error
    return Path(path)


def _unpack(archive: Path, root: Path, sha256: str, progress: bool) -> None:
    for folder in root.parent.glob(f"{_PARTIAL}*"):
        shutil.rmtree(folder, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=root.parent))
    try:
        # A folder of its own: mkdtemp's is private, the tree is meant to be shared.
        inside = partial / "tree"
        inside.mkdir()
        with tarfile.open(archive) as tar:
            for member in tqdm(tar, desc="extracting", unit=" files", disable=not progress):
                if member.issym() or member.islnk():  # the filter lets links inside the tree pass
                    raise tarfile.FilterError(f"{member.name!r} is a link")
                tar.extract(member, inside, filter="data")
            # A damaged header passes for the end; a compressed archive has its checksum at its own.
            if tar.fileobj.tell() <= tar.offset:
                raise tarfile.ReadError("its end is missing")
            while block := tar.fileobj.read(1 << 20):
                if any(block):
                    raise tarfile.ReadError("a header is unreadable")
        try:
            tree = find_root(inside)
            names = (file.relative_to(tree).as_posix() for file in tree.rglob("*.*"))
            if not any(map(FRAME_PATH.fullmatch, names)):
                raise InputError("no frames")
        except InputError:
            told = "no frame such as UCSDped2/Test/Test001/001.tif: give the UCSD archive"
            raise InputError(f"archive {archive} holds {told}") from None
        (tree / ORIGIN_NAME).write_text(f"{sha256}\n", encoding="utf-8")
        tree.rename(root)
    except tarfile.FilterError as error:
        raise InputError(f"archive {archive} is refused, a member is unsafe: {error}") from error
    except (tarfile.TarError, EOFError, zlib.error, LZMAError, OSError) as error:
        # gzip and bz2 report damaged data as an OSError without a number.
        if getattr(error, "errno", None) is not None:
            raise
        reason = " ".join(str(error).split()) or "unexpected data"
        told = f"({reason}): it is damaged or no tar archive"
        raise InputError(f"archive {archive} cannot be read {told}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
