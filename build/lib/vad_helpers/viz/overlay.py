"""Pictures of an explained video: map over frame, what is said of its clip, contact sheet.

Conventions
-----------
Frames are uint8 (H, W, 3) in the source's colours and stay where they are: what is said of them
stands below, never on them. A map is signed, float (h, w), of any size, and stretched over the
frame. It is divided by a limit that the legend states; beyond it the colour stays the same. Red
speaks for "anomalous", blue against it; opacity grows with |E|, and zero leaves the frame as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from skimage.util import montage

from vad_helpers.viz.style import CLASS_COLOURS, SIGNED_MAP

OPACITY = 0.75
"""Opacity at the limit: what lies below can still be seen."""
MIN_WIDTH = 360
"""Narrower frames get a margin at their right, so that the words below can be read."""
TILE_WIDTH, N_COLUMNS, GAP = 480, 4, 8
_INK, _PAPER = (235, 235, 235), (24, 24, 24)


def blend(picture: np.ndarray, attribution: np.ndarray, *, limit: float) -> np.ndarray:
    """Lay a map over a frame: uint8 (H, W, 3)."""
    height, width = picture.shape[:2]
    values = Image.fromarray(np.asarray(attribution, dtype=np.float32) / np.float32(limit))
    values = np.asarray(values.resize((width, height), Image.Resampling.BILINEAR))
    levels = Image.fromarray(np.rint(127 + 127 * np.clip(values, -1, 1)).astype(np.uint8))
    scale = np.linspace(-1, 1, 255)
    # The colours near zero are nearly white, and would only bleach the frame.
    strong = 0.5 + 0.5 * np.sign(scale) * (0.3 + 0.6 * np.abs(scale))
    opacity = levels.point([*np.rint(255 * OPACITY * np.abs(scale)).astype(int).tolist(), 0])
    levels.putpalette(matplotlib.colormaps[SIGNED_MAP](strong, bytes=True)[:, :3].tobytes())
    found = Image.composite(levels.convert("RGB"), Image.fromarray(picture), opacity)
    return np.asarray(found)


def strongest(attribution: np.ndarray, size: tuple[int, int]) -> dict[str, int] | None:
    """Find where a clip's map, float (T, h, w), speaks most for "anomalous"; None if nowhere.

    `frame` is that of the largest value, from 0 (of several, the middle one); `x`, `y`, `width` and
    `height` are the box of the connected pixels around that value which are at least half as large,
    in pixels of frames of a size (height, width).
    """
    if attribution.max() <= 0:
        return None
    frames = np.flatnonzero(attribution.max(axis=(1, 2)) == attribution.max())
    shown = attribution[frames[len(frames) // 2]]
    regions, _ = ndimage.label(2 * shown >= shown.max())
    rows, columns = ndimage.find_objects(regions)[regions.flat[shown.argmax()] - 1]
    (top, bottom), (left, right) = (
        (cut.start * whole // n, -(-cut.stop * whole // n))
        for cut, whole, n in zip((rows, columns), size, shown.shape, strict=True)
    )
    box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    return {"frame": int(frames[len(frames) // 2]), **box}


def legend(width: int, lines: Sequence[str], *, called: str, limit: float, over: str) -> np.ndarray:
    """Draw what stands below frames of a width: uint8 (h, at least width, 3), both even.

    `lines` come first, with a mark in the colour of the class that the clip is `called`; then the
    colour bar, from -limit to limit, and `over` what that holds.
    """
    width = max(width + width % 2, MIN_WIDTH)
    size = max(width // 45, 12)
    font, step = ImageFont.load_default(size), size * 3 // 2
    picture = Image.new("RGB", (width, (step * (len(lines) + 2) + size // 2) // 2 * 2), _PAPER)
    draw, mark = ImageDraw.Draw(picture), size // 2
    draw.rectangle((0, 0, mark - 1, step * len(lines) - 1), CLASS_COLOURS[called])
    for i, line in enumerate(lines):
        draw.text((2 * mark, i * step + size // 5), line, _INK, font)
    top, ends = step * len(lines) + size // 5, (f"E  {-limit:.2g}", f"+{limit:.2g}")
    left = round(2 * mark + draw.textlength(ends[0], font) + mark)
    grey = np.full((size, width // 4, 3), 128, np.uint8)
    ramp = np.linspace(-1, 1, width // 4)[None].repeat(size, axis=0)
    picture.paste(Image.fromarray(blend(grey, ramp, limit=1.0)), (left, top))
    draw.text((2 * mark, top), ends[0], _INK, font)
    draw.text((left + width // 4 + mark, top), ends[1], _INK, font)
    words = f"red: for “anomalous”, blue: against; {over}"
    draw.text((2 * mark, top + step), words, _INK, ImageFont.load_default(size - 1))
    return np.asarray(picture)


def annotated(picture: np.ndarray, below: np.ndarray) -> np.ndarray:
    """Put a legend below a frame; an odd row or column is repeated, what is narrower filled up."""
    height, width = picture.shape[:2]
    even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
    margin = np.full((len(even), below.shape[1] - even.shape[1], 3), _PAPER, np.uint8)
    return np.concatenate([np.concatenate([even, margin], axis=1), below])


def shrunk(picture: np.ndarray) -> np.ndarray:
    """Make a picture at most `TILE_WIDTH` wide, for a contact sheet."""
    image = Image.fromarray(picture)
    height = round(image.height * min(1, TILE_WIDTH / image.width))
    image.thumbnail((TILE_WIDTH, max(height, 1)), Image.Resampling.LANCZOS)
    return np.asarray(image)


def contact_sheet(pictures: Sequence[np.ndarray]) -> Image.Image:
    """Lay pictures of one size out in rows."""
    columns = min(N_COLUMNS, len(pictures))
    grid, gap = (-(-len(pictures) // columns), columns), {"fill": _PAPER, "padding_width": GAP}
    sheet = montage(pictures, grid_shape=grid, channel_axis=-1, **gap)
    return Image.fromarray(sheet[GAP:, GAP:])  # gaps at the right and below alone
