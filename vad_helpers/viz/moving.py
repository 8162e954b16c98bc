"""A clip that moves with its heatmaps: one small animated picture, and a still of it."""

from __future__ import annotations

import io
from collections.abc import Mapping

import numpy as np
from PIL import Image

from vad_helpers import store
from vad_helpers.store import Run
from vad_helpers.store.row import methods
from vad_helpers.viz.heatmaps import best_frame, heatmap_grid
from vad_helpers.viz.style import png_bytes, subplots

COLUMNS = 3
DPI = 100
MILLISECONDS = 160
MAX_BYTES = 1_000_000


def moving_clip(run: Run, clip_id: str) -> tuple[bytes, bytes]:
    """Draw every frame of a clip beside its heatmaps, one scale a map for the whole clip.

    Parameters
    ----------
    run : Run
        Maps that are missing are explained now.
    clip_id : str

    Returns
    -------
    animated : bytes
        An animated WebP that repeats for ever; lossless if that fits `MAX_BYTES`.
    still : bytes
        The frame where the anomaly is largest, a PNG of the same size, for readers who want
        nothing to move, and for print.
    """
    maps = {row.label: store.attribution(run, clip_id, key) for key, row in methods(run).items()}
    shown, mask = store.frames(run, clip_id), store.mask(run, clip_id)
    pictures = [_picture(shown, mask, maps, t) for t in range(len(mask))]
    return animated(pictures), _png(pictures[best_frame(mask)])


def animated(frames: list[Image.Image], *, max_bytes: int = MAX_BYTES) -> bytes:
    """Encode pictures as one animated WebP: lossless, or as good as `max_bytes` allows.

    Parameters
    ----------
    frames : list of PIL.Image.Image
        All of one size.
    max_bytes : int
        Where even the coarsest of the qualities tried is larger, it is taken nevertheless.

    Returns
    -------
    bytes
    """
    options = {"save_all": True, "append_images": frames[1:], "duration": MILLISECONDS, "loop": 0}
    for how in ({"lossless": True}, {"quality": 90}, {"quality": 75}, {"quality": 50}):
        stream = io.BytesIO()
        frames[0].save(stream, format="WEBP", **options, **how)
        if stream.tell() <= max_bytes:
            break
    return stream.getvalue()


def _picture(
    frames: np.ndarray, mask: np.ndarray, maps: Mapping[str, np.ndarray], t: int
) -> Image.Image:
    n_rows = -(-(len(maps) + 1) // COLUMNS)
    height, width = mask.shape[1:]
    tile = 1.95 * height / width + 0.2
    figure, axes = subplots(n_rows, COLUMNS, width=7.0, height=n_rows * tile)
    heatmap_grid(axes, frames, mask, maps, t=t)
    return Image.open(io.BytesIO(png_bytes(figure, dpi=DPI))).convert("RGB")


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
