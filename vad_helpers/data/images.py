"""Read one picture of the dataset with Pillow; tell a damaged picture from a failing disk."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

Result = TypeVar("Result")

_PACKBITS = 32773
_WIDTH, _HEIGHT, _BITS, _COMPRESSION = 256, 257, 258, 259
_OFFSETS, _SAMPLES, _STRIP_ROWS, _BYTE_COUNTS = 273, 277, 278, 279
# What Pillow raises on damaged files, beside an OSError without a number.
_DAMAGE = (
    SyntaxError,
    ValueError,
    TypeError,
    EOFError,
    LookupError,
    OverflowError,
    struct.error,
    Image.DecompressionBombError,
)


def decode(path: str | Path) -> Image.Image | None:
    """Decode a picture of any mode to 8-bit grey.

    Parameters
    ----------
    path : str or Path
        TIFF, BMP or PNG.

    Returns
    -------
    PIL.Image.Image or None
        Mode "L", or None if the file cannot be decoded.

    Raises
    ------
    OSError
        The file cannot be read at all (missing, no permission, disk error).
    """
    return _with_image(
        path, lambda image: None if _lacks_packbits(image, path) else image.convert("L")
    )


def native_size(path: str | Path) -> tuple[int, int] | None:
    """Read a picture's (height, width) in pixels from its header; None if that is unreadable."""
    return _with_image(path, lambda image: (image.height, image.width))


def to_array(
    image: Image.Image, size: tuple[int, int] | None, *, nearest: bool = False
) -> np.ndarray:
    """Turn a grey picture into a uint8 array (H, W), resized to `size` = (height, width) if given.

    Bilinear with Pillow's antialiasing, or the nearest pixel.
    """
    if size is not None and (image.height, image.width) != tuple(size):
        method = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        image = image.resize((size[1], size[0]), method)
    return np.asarray(image, dtype=np.uint8)


def _with_image(path: str | Path, use: Callable[[Image.Image], Result]) -> Result | None:
    """Apply `use` to an opened picture; None if the picture is damaged."""
    try:
        with Image.open(path) as image:
            return use(image)
    except OSError as error:
        if error.errno is not None:  # said by the operating system, not by Pillow
            raise
        return None
    except _DAMAGE:
        return None


def _lacks_packbits(image: Image.Image, path: str | Path) -> bool:
    """Say whether a PackBits-compressed TIFF holds fewer pixels than it declares.

    libtiff would refuse such a file as well (the official Ped1 Test017/142.tif is one), but it
    prints its complaint straight to the process's standard error, past Python.
    """
    tags = getattr(image, "tag_v2", {})
    if tags.get(_COMPRESSION) != _PACKBITS or tags.get(_SAMPLES, 1) != 1:
        return False
    if _OFFSETS not in tags or _BYTE_COUNTS not in tags:
        return False
    row_bytes = -(-tags[_WIDTH] * tags.get(_BITS, (1,))[0] // 8)
    height, left = tags[_HEIGHT], tags[_HEIGHT]
    data = Path(path).read_bytes()
    for offset, count in zip(tags[_OFFSETS], tags[_BYTE_COUNTS], strict=False):
        rows = min(tags.get(_STRIP_ROWS, height), left)
        left -= rows
        if _packbits_length(data[offset : offset + count]) < rows * row_bytes:
            return True
    return False


def _packbits_length(data: bytes) -> int:
    """Count the bytes that PackBits data expands to."""
    position = length = 0
    while position < len(data):
        head = data[position]
        if head < 128:  # the next head + 1 bytes, as they are
            length += min(head + 1, len(data) - position - 1)
            position += head + 2
        else:  # the next byte, repeated; 128 says nothing
            length += 257 - head if head > 128 and position + 1 < len(data) else 0
            position += 2 if head > 128 else 1
    return length
