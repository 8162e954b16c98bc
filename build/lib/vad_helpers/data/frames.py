"""Frames and masks of one video sequence, as arrays: whatever the pictures' format, or refused.

Pictures become grey levels from 0 (black) to 255 (white). Formats whose range is known are
scaled: 1 to 8 bits, palettes, colour, CMYK, 16 bits (65535 is white), floats from 0 to 1. Where
the range is a guess, the picture is refused: saturated frames would train a network on nothing.

A file may be damaged and decode without an error. What its frame shows then is garbage in some
rows, and it is told from motion, noise and cuts by the frames before and after (see `stand_in`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from vad_helpers.errors import InputError

Size = tuple[int, int]
"""(height, width) in pixels."""
VERSION = 2
"""Raised whenever the same files are read as other frames: networks trained on them are others."""
# 16-bit files of cameras with 8 to 14 bits end below this; scaled as 16 bits they would be black.
_LEAST_WHITE_16_BIT = 1 << 14
# A row of a frame is garbage if half of it differs from both neighbours by more than twice what
# these differ, plus `_FAR` grey levels: someone who runs into the picture does not fill half a row.
# From `_ROWS` such rows on a frame is damaged: three of UCSD's have 9, 18 and 25, no other has any.
_FAR, _ROWS = 4, 4


@dataclass(frozen=True, eq=False)
class Sequence:
    """One video, as one picture file a frame.

    Attributes
    ----------
    id : str
        Unique name, such as ``"ped1/Test001"``.
    scene : str
        Whose camera, such as ``"ped1"``.
    kind : str
        The official side, ``"train"`` (normal frames only) or ``"test"``.
    number : int
        Place among the sequences of this scene and side, from 1.
    frames : tuple of Path or None
        One file a frame, in order; None where a number is missing between two others.
    masks : tuple of Path or None
        One pixel mask a frame, in order; None without masks: it may be anomalous all the same.
    anomalous : numpy.ndarray
        bool (n_frames,), True where the frame is labelled anomalous; read-only.
    official_mask : bool
        Localisation is measured against the masks: they came with the dataset.
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Report:
    """What a check of a dataset found: a row a sequence in `table`; in `errors` what makes a
    sequence unusable, in `warnings` what is odd but handled, a line each."""

    root: Path
    table: pd.DataFrame
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """True if no error was found; of a UCSD tree, a test sequence can be read then."""
        return not self.errors

    def summary(self, *, what: str = "videos in", totals: tuple[str, ...] = ()) -> str:
        """Write the report as text: totals, one row a sequence, what is wrong, what is odd."""
        lines = [f"{what} {self.root}: {'usable' if self.usable else 'not usable'}", *totals]
        if len(self.table):
            lines += ["", self.table.astype(object).fillna("-").to_string(index=False), ""]
        lines += [f"error: {line}" for line in self.errors]
        return "\n".join([*lines, *(f"warning: {line}" for line in self.warnings)])


def described(
    sequence: Sequence, labels: str, *, compare: bool = True
) -> tuple[dict[str, object], list[str], list[str]]:
    """Give a sequence's row of a report's table, errors, and warnings: where its masks contradict
    the `labels`, as these are named to people."""
    row = {"sequence": sequence.id, "scene": sequence.scene, "kind": sequence.kind}
    row |= {"frames": sequence.n_frames, "masks": len(sequence.masks or ())}
    row |= {"anomalous": int(sequence.anomalous.sum())}
    if sequence.masks is None or not compare:
        return row, [], []
    try:
        presence = mask_presence(sequence)
    except InputError as error:
        return row, [str(error)], []
    differing = int(np.sum(presence != sequence.anomalous))
    told = f"masks and {labels} disagree on {differing} of {sequence.n_frames} frames"
    row |= {"mask_anomalous": int(presence.sum()), "disagreements": differing}
    return row, [], [f"{sequence.id}: {told}"] if differing else []


def read_frames(
    sequence: Sequence,
    *,
    start: int = 0,
    n_frames: int | None = None,
    size: Size | None = None,
) -> np.ndarray:
    """Decode frames of a sequence.

    A damaged frame is replaced by its nearest intact neighbour, never dropped: labels and masks
    would shift (see `stand_in`).

    Parameters
    ----------
    sequence : Sequence
        As from `ucsd.index`.
    start, n_frames : int, optional
        First frame, from 0, and number of frames; default: all to the end.
    size : tuple of int, optional
        (height, width) in pixels to resize to, bilinear with antialiasing; default: as they are.

    Returns
    -------
    numpy.ndarray
        uint8 (T, H, W), grey levels 0 (black) to 255.

    Raises
    ------
    InputError
        The sequence does not have these frames, none of its frames can be decoded, they are of
        several sizes, or the range of their grey levels is not known (see `decode`).
    """
    window = _window(sequence, start, n_frames, size)
    decoded = decoder(sequence)
    pictures = [decoded(stand_in(sequence, i, decoded)) for i in window]
    for i, picture in zip(window, pictures, strict=True):
        if picture.size != pictures[0].size:
            first = f"{start + 1} of {sequence.id} has {pictures[0].height}x{pictures[0].width}"
            found = f"{picture.height}x{picture.width} pixels"
            raise InputError(f"{sequence.frames[i]}: {found}, but frame {first}")
    return np.stack([_resized(picture, size, Image.Resampling.BILINEAR) for picture in pictures])


def decoder(sequence: Sequence) -> Callable[[int], Image.Image | None]:
    """Give a function that decodes frame i (from 0), each once; None if missing or damaged."""
    paths = sequence.frames
    return functools.cache(lambda i: None if paths[i] is None else decode(paths[i]))


def stand_in(sequence: Sequence, i: int, decoded: Callable[[int], Image.Image | None]) -> int:
    """Say which frame is shown as frame i: itself, or the nearest intact one if it is damaged.

    Frames count from 0; of two at the same distance it is the earlier one. `decoded` is from
    `decoder`. InputError if no frame is intact. Both `read_frames` and `ucsd.check` ask here which
    are damaged, of all files, not of the window that is read: a clip shows what its sequence shows.
    """
    for distance in range(sequence.n_frames):
        for j in (i - distance, i + distance):
            there = 0 <= j < sequence.n_frames and decoded(j) is not None
            if there and not _is_garbage(sequence, j, decoded):
                return j
    raise InputError(f"{sequence.id}: none of its {sequence.n_frames} frames can be decoded")


def _is_garbage(sequence: Sequence, i: int, decoded: Callable[[int], Image.Image | None]) -> bool:
    """Say whether rows of frame i are far from both neighbours, while these agree.

    Motion and noise part the neighbours as much, a cut leaves one of them near, and a flash changes
    all rows by one level. Two frames damaged in a row, or one at an end, are not found.
    """
    if not 0 < i < sequence.n_frames - 1:
        return False
    before, own, after = (_levels(decoded, j) for j in (i - 1, i, i + 1))
    if before is None or after is None or not before.shape == own.shape == after.shape:
        return False
    changes = (own - before, own - after, before - after)
    near, far, apart = (np.median(np.abs(c - np.median(c)), axis=1) for c in changes)
    return np.count_nonzero(np.minimum(near, far) > 2 * apart + _FAR) >= _ROWS


@functools.lru_cache(maxsize=64)
def _levels(decoded: Callable[[int], Image.Image | None], i: int) -> np.ndarray | None:
    """Give every fourth column of a frame: int16 (H, W / 4); None if there is no picture."""
    try:
        picture = decoded(i)
    except InputError:  # it is refused where it is shown
        return None
    return None if picture is None else np.asarray(picture)[:, ::4].astype(np.int16)


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
        As from `ucsd.index`, with masks.
    start, n_frames, size
        As for `read_frames`; resizing takes the nearest pixel.

    Returns
    -------
    numpy.ndarray
        bool (T, H, W), True on the anomaly.

    Raises
    ------
    InputError
        The sequence has no masks or not these frames; a mask is damaged or not of their size.
    """
    window = _window(sequence, start, n_frames, size)
    masks = [_resized(m, size, Image.Resampling.NEAREST) for m in _masks(sequence, window)]
    return np.stack(masks) > 0


@functools.lru_cache(maxsize=128)
def mask_presence(sequence: Sequence) -> np.ndarray:
    """Say which frames have a mask that is not empty: bool (n_frames,), read-only.

    Remembered for each `Sequence` object, for the tables of all folds. Raises as `read_masks` does.
    """
    masks = _masks(sequence, range(sequence.n_frames))
    presence = np.array([mask.getbbox() is not None for mask in masks])  # of what is not zero
    presence.flags.writeable = False
    return presence


def _masks(sequence: Sequence, window: range) -> list[Image.Image]:
    if sequence.masks is None:
        raise InputError(f"{sequence.id} has no masks: choose a sequence with masks")
    decoded = decoder(sequence)
    frame = decoded(stand_in(sequence, window.start, decoded))
    masks = [decode(path, mask=True) for path in sequence.masks[window.start : window.stop]]
    for path, mask in zip(sequence.masks[window.start :], masks, strict=False):
        if mask is None:
            raise InputError(f"{path} cannot be decoded: restore this mask from the archive")
        if mask.size != frame.size:
            told = f"but its frames have {frame.height}x{frame.width} (height x width)"
            raise InputError(f"{path}: mask of {mask.height}x{mask.width} pixels, {told}")
    return masks


def _window(sequence: Sequence, start: int, n_frames: int | None, size: Size | None) -> range:
    stop = sequence.n_frames if n_frames is None else start + n_frames
    if not 0 <= start < stop <= sequence.n_frames:
        told = f"start {start} with n_frames {n_frames} is not inside"
        raise InputError(f"{sequence.id} has {sequence.n_frames} frames: {told}")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise InputError(f"size {size!r}: expected (height, width), both at least 1 pixel")
    return range(start, stop)


def _resized(picture: Image.Image, size: Size | None, method: Image.Resampling) -> np.ndarray:
    """Turn a picture into uint8 (H, W), resized to (height, width) if given."""
    if size is not None and picture.size != (size[1], size[0]):
        picture = picture.resize((size[1], size[0]), method)
    return np.asarray(picture, dtype=np.uint8)


def decode(path: str | Path, *, mask: bool = False) -> Image.Image | None:
    """Decode a picture to 8-bit grey.

    Parameters
    ----------
    path : str or Path
        TIFF, BMP, PNG or JPEG.
    mask : bool
        The picture is a mask: every level but black becomes white, whatever the range.

    Returns
    -------
    PIL.Image.Image or None
        Mode "L", or None if the file is damaged.

    Raises
    ------
    InputError
        The picture is whole, but its range is not known: 32-bit integers, 16 bits of which the
        upper two are not used, floats outside 0 to 1, white as zero in more than 8 bits, more than
        8 bits a colour; or it is in part transparent.
    OSError
        The file cannot be read at all (missing, no permission, disk error).
    """
    try:
        with Image.open(path) as image:
            if _lacks_packbits(image, path):
                return None
            # Pillow keeps the upper half of 16-bit colours, which is 0 in 8-bit ones stored so.
            deep_colour = ";16" in str(image.tile)
            image.load()
    except Exception as error:  # Pillow raises all sorts on damaged files
        if isinstance(error, MemoryError) or getattr(error, "errno", None) is not None:
            raise  # said by the operating system
        return None
    transparent = image.has_transparency_data
    if image.mode in ("1", "L") and not transparent:
        return image.convert("L")
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_grey_of_deep(image, path, mask))
    if deep_colour:
        raise _refused(path, "more than 8 bits a colour")
    if transparent:
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise _refused(path, "transparent pixels, whose grey is not known")
    image = image.convert("RGB")
    return (Image.fromarray(np.asarray(image).any(axis=2)) if mask else image).convert("L")


def _grey_of_deep(image: Image.Image, path: str | Path, mask: bool) -> np.ndarray:
    """Scale a picture with one float or integer of 16 or 32 bits a pixel to uint8 (H, W)."""
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise _refused(path, "levels that are not finite")
    if getattr(image, "tag_v2", {}).get(262) == 0:  # the photometric interpretation
        raise _refused(path, "white as zero in more than 8 bits")
    if mask:
        return np.where(values != 0, 255, 0).astype(np.uint8)
    low, high = values.min(), values.max()
    if image.mode == "F":
        if low < 0 or high > 1:
            raise _refused(path, f"floats from {low:.6g} to {high:.6g}, not within 0 to 1")
        return np.rint(values * 255).astype(np.uint8)
    if image.mode == "I":
        raise _refused(path, f"32-bit or signed integers up to {high}")
    if 0 < high < _LEAST_WHITE_16_BIT:
        raise _refused(path, f"16-bit levels up to {high} only, so perhaps of fewer bits")
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _refused(path: str | Path, what: str) -> InputError:
    told = "save it as 8-bit grey, 16-bit grey (white is 65535) or floats from 0 to 1"
    return InputError(f"{path} is refused, it has {what}: {told}")


def _lacks_packbits(image: Image.Image, path: str | Path) -> bool:
    """Say whether a PackBits-compressed TIFF (UCSD has one) holds fewer pixels than it declares:
    libtiff would refuse it as well, but prints that straight to standard error, past Python."""
    tags = getattr(image, "tag_v2", {})
    compression, samples, offsets, counts = (tags.get(tag) for tag in (259, 277, 273, 279))
    if compression != 32773 or (samples or 1) != 1 or not offsets or not counts:
        return False
    width, height, bits = tags[256], tags[257], tags.get(258, (1,))[0]
    row_bytes, strip_rows = -(-width * bits // 8), tags.get(278, height)
    data = Path(path).read_bytes()
    for row, offset, count in zip(range(0, height, strip_rows), offsets, counts, strict=False):
        length = min(strip_rows, height - row) * row_bytes
        try:  # as one row of bytes, for packets may cross the rows of a strip
            Image.frombytes("L", (length, 1), data[offset : offset + count], "packbits", "L")
        except ValueError:
            return True
    return False
