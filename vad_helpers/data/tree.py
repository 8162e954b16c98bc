"""From an unpacked UCSD tree to sequences, and from sequences to frames and masks."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vad_helpers.data import images
from vad_helpers.data.layout import (
    FRAME,
    KINDS,
    MASK,
    SCENES,
    find_root,
    numbered,
    official_masks,
    sequence_folders,
    truth_path,
)
from vad_helpers.errors import InputError

Ranges = list[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Sequence:
    """One video of the dataset.

    Attributes
    ----------
    id : str
        Scene and folder, such as ``"ped1/Test001"``.
    scene : str
        ``"ped1"`` or ``"ped2"``.
    kind : str
        The official side, ``"train"`` (normal frames only) or ``"test"``.
    number : int
        Number in the folder's name, from 1.
    frames : tuple of Path or None
        One file a frame, in order; None where a number is missing between two others.
    masks : tuple of Path or None
        One pixel mask a frame, in order; None for a sequence without masks, which may be
        anomalous all the same.
    anomalous : numpy.ndarray
        bool (n_frames,), True where the ``.m`` list calls the frame anomalous; read-only.
    official_mask : bool
        The masks came with the dataset: ten test sequences of Ped1, all twelve of Ped2.
    """

    id: str
    scene: str
    kind: str
    number: int
    frames: tuple[Path | None, ...]
    masks: tuple[Path, ...] | None
    anomalous: np.ndarray
    official_mask: bool

    @property
    def n_frames(self) -> int:
        """Number of frames, undecodable and missing ones included."""
        return len(self.frames)


def index(root: str | Path) -> list[Sequence]:
    """List the sequences of a tree, complete or partial.

    Parameters
    ----------
    root : str or Path
        Root of the tree, or the folder it lies in.

    Returns
    -------
    list of Sequence
        Ped1 train, Ped1 test, Ped2 train, Ped2 test, each by number. No picture is decoded.

    Raises
    ------
    InputError
        The tree holds no sequence; a ``.m`` list is missing, malformed, too short, or names
        frames that its sequence does not have; the masks of a sequence do not match its frames.
    """
    root = find_root(root)
    sequences, errors = scan(root)
    if errors:
        more = f" (and {len(errors) - 1} more problems in this tree)" if len(errors) > 1 else ""
        raise InputError(errors[0] + more)
    if not sequences:
        raise InputError(
            f"{root} holds no sequence: expected frames such as UCSDped2/Test/Test001/001.tif"
        )
    return sequences


def scan(root: Path) -> tuple[list[Sequence], list[str]]:
    """List the sequences at `root` that can be used, and say what is wrong with the others."""
    sequences: list[Sequence] = []
    errors: list[str] = []
    for scene in SCENES:
        for kind in KINDS:
            folders = sequence_folders(root, scene, kind)
            try:
                entries = _entries(truth_path(root, scene)) if kind == "test" and folders else None
            except InputError as error:
                errors.append(str(error))
            else:
                _scan_side(folders, scene, kind, entries, sequences, errors)
    return sequences, errors


def _scan_side(
    folders: dict[int, Path],
    scene: str,
    kind: str,
    entries: list[Ranges] | None,
    sequences: list[Sequence],
    errors: list[str],
) -> None:
    """Append what one side of a scene holds to `sequences` and `errors`."""
    for number, folder in folders.items():
        try:
            sequence = _sequence(folder, scene, kind, number, entries)
        except InputError as error:
            errors.append(str(error))
        else:
            if sequence is not None:
                sequences.append(sequence)


def _entries(path: Path) -> list[Ranges]:
    if not path.is_file():
        raise InputError(f"{path} is missing: it lists the anomalous frames of the test sequences")
    try:
        return parse_ground_truth(path.read_text(encoding="latin-1"))
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def parse_ground_truth(text: str) -> list[Ranges]:
    """Read a ``.m`` list of anomalous frames.

    Parameters
    ----------
    text : str
        MATLAB lines such as ``TestVideoFile{end+1}.gt_frame = [5:90, 140:200];``. Single frames,
        several ranges an entry, empty brackets and comments are understood.

    Returns
    -------
    list of list of (int, int)
        One list an entry, in order (entry k, from 1, belongs to sequence TestNNN with NNN = k):
        its ranges, 1-based, both ends included.

    Raises
    ------
    InputError
        An entry is malformed.
    """
    text = re.sub(r"%.*", "", text)
    # A value without brackets is legal MATLAB; its end is the semicolon or the line's.
    values = re.findall(r"gt_frame\s*=[^\S\n]*(\[[^\]]*\]|[^;\n]*)", text)
    return [_ranges(value, entry) for entry, value in enumerate(values, start=1)]


def _ranges(value: str, entry: int) -> Ranges:
    inside = value[1:-1] if value.startswith("[") and value.endswith("]") else value
    tokens = re.sub(r"\s*:\s*", ":", inside).replace(",", " ").replace(";", " ").split()
    ranges = []
    for token in tokens:
        match = re.fullmatch(r"(\d+)(?::(\d+))?", token)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise InputError(
                f"entry {entry} holds {token!r}: expected ranges first:last of frames counted "
                f"from 1"
            )
        ranges.append((first, last))
    if not ranges and not value.startswith("["):
        raise InputError(f"entry {entry} is empty: expected ranges such as [60:152]")
    return ranges


def _sequence(
    folder: Path, scene: str, kind: str, number: int, entries: list[Ranges] | None
) -> Sequence | None:
    """Describe the sequence in `folder`; None if it holds no frames."""
    found = numbered(folder, FRAME)
    if not found:
        return None
    frames = tuple(found.get(i) for i in range(1, max(found) + 1))
    masks = _mask_files(folder, len(frames)) if kind == "test" else None
    return Sequence(
        id=f"{scene}/{folder.name}",
        scene=scene,
        kind=kind,
        number=number,
        frames=frames,
        masks=masks,
        anomalous=_labels(folder, number, len(frames), entries),
        official_mask=masks is not None and official_masks(scene, number),
    )


def _mask_files(folder: Path, n_frames: int) -> tuple[Path, ...] | None:
    masks_folder = folder.with_name(f"{folder.name}_gt")
    if not masks_folder.is_dir():
        return None
    found = numbered(masks_folder, MASK)
    if list(found) != list(range(1, n_frames + 1)):
        raise InputError(
            f"{masks_folder} holds {len(found)} masks, expected one for each of the {n_frames} "
            f"frames of {folder.name}, with the same numbers"
        )
    return tuple(found.values())


def _labels(folder: Path, number: int, n_frames: int, entries: list[Ranges] | None) -> np.ndarray:
    labels = np.zeros(n_frames, dtype=bool)
    if entries is not None:
        path = folder.parent / f"{folder.parent.parent.name}.m"
        if number > len(entries):
            raise InputError(
                f"{path} has {len(entries)} entries, none for {folder.name}: expected entry "
                f"{number} for it"
            )
        for first, last in entries[number - 1]:
            if last > n_frames:
                raise InputError(
                    f"{path}: entry {number} names frames {first}:{last}, but {folder.name} has "
                    f"{n_frames} frames"
                )
            labels[first - 1 : last] = True
    labels.flags.writeable = False
    return labels


def read_frames(
    sequence: Sequence,
    *,
    start: int = 0,
    n_frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Decode frames of a sequence.

    A frame that is missing or cannot be decoded is replaced by its nearest decodable neighbour
    (the earlier of two), never dropped: labels and masks would shift.

    Parameters
    ----------
    sequence : Sequence
        As from `index`.
    start : int
        First frame, from 0.
    n_frames : int, optional
        Number of frames; default: to the end.
    size : tuple of int, optional
        (height, width) in pixels to resize to, bilinear; default: as they are.

    Returns
    -------
    numpy.ndarray
        uint8 (T, H, W), grey levels 0 to 255.

    Raises
    ------
    InputError
        The sequence does not have these frames, none of its frames can be decoded, or they are
        of several sizes.
    """
    window = _window(sequence, start, n_frames)
    _check_size(size)

    @functools.cache
    def decoded(i: int) -> Image.Image | None:
        path = sequence.frames[i]
        return None if path is None else images.decode(path)

    pictures = [_nearest(sequence, i, decoded) for i in window]
    for i, picture in zip(window, pictures, strict=True):
        if picture.size != pictures[0].size:
            raise InputError(
                f"{sequence.frames[i]}: {_text(picture)} pixels, but frame {start + 1} of "
                f"{sequence.id} has {_text(pictures[0])}"
            )
    return np.stack([images.to_array(picture, size) for picture in pictures])


def _nearest(
    sequence: Sequence, i: int, decoded: Callable[[int], Image.Image | None]
) -> Image.Image:
    for distance in range(sequence.n_frames):
        for j in (i - distance, i + distance):
            picture = decoded(j) if 0 <= j < sequence.n_frames else None
            if picture is not None:
                return picture
    raise InputError(f"{sequence.id}: none of its {sequence.n_frames} frames can be decoded")


def read_masks(
    sequence: Sequence,
    *,
    start: int = 0,
    n_frames: int | None = None,
    size: tuple[int, int] | None = None,
) -> np.ndarray:
    """Read the pixel masks of a sequence.

    Parameters
    ----------
    sequence : Sequence
        As from `index`, with masks.
    start, n_frames, size
        As for `read_frames`; resizing takes the nearest pixel.

    Returns
    -------
    numpy.ndarray
        bool (T, H, W), True on the anomaly.

    Raises
    ------
    InputError
        The sequence has no masks or not these frames; a mask cannot be decoded or has another
        size than the frames.
    """
    window = _window(sequence, start, n_frames)
    _check_size(size)
    masks = [images.to_array(mask, size, nearest=True) for mask in _masks(sequence, window)]
    return np.stack(masks) > 0


@functools.lru_cache(maxsize=128)
def mask_presence(sequence: Sequence) -> np.ndarray:
    """Say which frames of a sequence have a mask that is not empty.

    Remembered for each `Sequence` object, because the tables of all folds ask for it.

    Parameters
    ----------
    sequence : Sequence
        As from `index`, with masks.

    Returns
    -------
    numpy.ndarray
        bool (n_frames,), read-only.

    Raises
    ------
    InputError
        As `read_masks` does.
    """
    masks = _masks(sequence, range(sequence.n_frames))
    # The bounding box is that of the pixels other than zero.
    presence = np.array([mask.getbbox() is not None for mask in masks])
    presence.flags.writeable = False
    return presence


def _masks(sequence: Sequence, window: range) -> list[Image.Image]:
    if sequence.masks is None:
        raise InputError(f"{sequence.id} has no masks: choose a sequence with a _gt folder")
    sizes = (images.native_size(path) for path in sequence.frames if path is not None)
    expected = next((size for size in sizes if size is not None), None)
    return [_mask(sequence.masks[i], expected) for i in window]


def _mask(path: Path, expected: tuple[int, int] | None) -> Image.Image:
    mask = images.decode(path)
    if mask is None:
        raise InputError(f"{path} cannot be decoded: restore this mask from the archive")
    if expected is not None and (mask.height, mask.width) != expected:
        raise InputError(
            f"{path}: mask of {_text(mask)} pixels, but its frames have "
            f"{expected[0]}x{expected[1]} (height x width)"
        )
    return mask


def _text(picture: Image.Image) -> str:
    return f"{picture.height}x{picture.width}"


def _window(sequence: Sequence, start: int, n_frames: int | None) -> range:
    stop = sequence.n_frames if n_frames is None else start + n_frames
    if not 0 <= start < stop <= sequence.n_frames:
        raise InputError(
            f"{sequence.id} has {sequence.n_frames} frames: start {start} with n_frames "
            f"{n_frames} is not inside"
        )
    return range(start, stop)


def _check_size(size: tuple[int, int] | None) -> None:
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise InputError(f"size {size!r}: expected (height, width), both at least 1 pixel")


def fingerprint(root: str | Path) -> str:
    """Name the content of a tree, so that what was computed from another is told apart.

    Covers the names and the whole content of frames, masks and ``.m`` lists, and nothing else
    that lies in the tree: no dates, so that it is the same wherever the tree is and whenever it
    was unpacked. It reads every file once, about a second for a gigabyte that is in memory.

    Parameters
    ----------
    root : str or Path
        Root of the tree, or the folder it lies in.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    InputError
        There is no tree, or two of its files share one number.
    """
    root = find_root(root)
    digest = hashlib.sha256()
    for scene in SCENES:
        for kind in KINDS:
            for folder in sequence_folders(root, scene, kind).values():
                for file in _pictures(folder):
                    name = file.relative_to(root).as_posix()
                    digest.update(f"{name} {_content(file)}\n".encode())
        path = truth_path(root, scene)
        if path.is_file():
            digest.update(f"{scene} {_content(path)}\n".encode())
    return digest.hexdigest()


def _content(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _pictures(folder: Path) -> list[Path]:
    masks_folder = folder.with_name(f"{folder.name}_gt")
    masks = numbered(masks_folder, MASK).values() if masks_folder.is_dir() else ()
    return [*numbered(folder, FRAME).values(), *masks]
