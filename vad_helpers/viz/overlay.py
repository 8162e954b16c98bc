"""Maps laid over frames, pixel by pixel: what both explorers and the contact sheet show.

Conventions
-----------
Shown is E+ = max(E, 0), the part that the metrics count, divided by its maximum over the clip. It
is kept as *levels*, one byte a voxel: 0 where E+ is 0, else 1 + floor(steps * E+ / max). `steps`
is a multiple of the number n of thresholds, so that "E+ >= i/n max" is "level > i * steps/n",
without error: sets and IoU of the levels are those of the map itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy import ndimage

from vad_helpers.metrics.arrays import positive_part, threshold_levels
from vad_helpers.viz.heatmaps import frame, spread
from vad_helpers.viz.style import CONTOUR, POSITIVE_MAP, styled, subplots

MIN_STEPS = 50
MAX_STEPS = 254
FIRST_THRESHOLD = 0.1
"""Share of a map's maximum that is left uncoloured at first: all of E+ would cover the frames."""
UNIT = "E+ / its maximum over the clip"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownClip:
    """A clip with its maps, as an explorer shows it.

    Attributes
    ----------
    key : str
        Name in the tables.
    label : str
        Name for people.
    frames : ndarray of float, (T, H, W)
        Grey, in [0, 1].
    mask : ndarray of bool, (T, H, W)
    p_clip, p_baseline : float
        What the network says of the clip and of its baseline, in [0, 1].
    maps : mapping of str to ndarray, (T, H, W)
        Signed maps by the key of their row.
    """

    key: str
    label: str
    frames: np.ndarray
    mask: np.ndarray
    p_clip: float
    p_baseline: float
    maps: Mapping[str, np.ndarray]


def fit_thresholds(n_thresholds: int) -> tuple[int, int]:
    """Give the number of thresholds that can be shown, and the steps of the levels for it.

    Parameters
    ----------
    n_thresholds : int
        What the metrics use, at least 1.

    Returns
    -------
    n_shown, steps : int
        `steps` is a multiple of `n_shown` of at least `MIN_STEPS`, for smooth colours. More
        thresholds than a byte can tell apart become `MIN_STEPS`.
    """
    n_shown = n_thresholds if n_thresholds <= MAX_STEPS else MIN_STEPS
    return n_shown, n_shown * -(-MIN_STEPS // n_shown)


def to_levels(attribution: np.ndarray, *, steps: int) -> np.ndarray:
    """Turn a signed map into levels.

    Parameters
    ----------
    attribution : ndarray of float, any shape
        A whole clip's map, so that its frames share one maximum.
    steps : int
        1 .. `MAX_STEPS`.

    Returns
    -------
    ndarray of uint8, same shape
        0 .. `steps` + 1.
    """
    return (threshold_levels(positive_part(attribution), steps) + 1).astype(np.uint8)


def palette(steps: int) -> np.ndarray:
    """Colours of the levels 1 .. steps + 1: uint8 (steps + 1, 3)."""
    colours = matplotlib.colormaps[POSITIVE_MAP](np.linspace(0, 1, steps + 1))
    return (255 * colours[:, :3]).round().astype(np.uint8)


def blend(
    grey: np.ndarray, levels: np.ndarray, *, steps: int, above: float = 0, opacity: float = 0.7
) -> np.ndarray:
    """Lay the colours of levels over a grey frame.

    Parameters
    ----------
    grey : ndarray of float, (H, W)
        In [0, 1].
    levels : ndarray of uint8, (H, W)
    steps : int
        As for `to_levels`.
    above : float
        Only levels above this are coloured.
    opacity : float
        Of the colours, in [0, 1]; at 1 they are those of the colour bar.

    Returns
    -------
    ndarray of uint8, (H, W, 3)
    """
    pixels = np.repeat(255 * np.clip(grey, 0, 1)[..., None], 3, axis=2)
    shown = levels > above
    colours = palette(steps)[levels[shown].astype(int) - 1]
    pixels[shown] = (1 - opacity) * pixels[shown] + opacity * colours
    return pixels.round().astype(np.uint8)


def outlined(pixels: np.ndarray, mask: np.ndarray, *, scale: int) -> np.ndarray:
    """Enlarge a picture and draw the outline of a mask: yellow inside, black around.

    Parameters
    ----------
    pixels : ndarray of uint8, (H, W, 3)
    mask : ndarray of bool, (H, W)
    scale : int
        Pixels that one becomes, in both directions.

    Returns
    -------
    ndarray of uint8, (H * scale, W * scale, 3)
    """
    large = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    inside = mask.repeat(scale, axis=0).repeat(scale, axis=1)
    yellow = (255 * np.array(matplotlib.colors.to_rgb(CONTOUR))).round()
    large[inside & ~ndimage.binary_erosion(inside, border_value=1)] = yellow
    large[ndimage.binary_dilation(inside) & ~inside] = 0
    return large


def contact_sheet(
    clip: ShownClip, labels: Mapping[str, str], *, steps: int, n_moments: int = 4
) -> Figure:
    """Draw moments of a clip from left to right, a row for the frames and one for each map.

    Parameters
    ----------
    clip : ShownClip
    labels : mapping of str to str
        Names of the maps for people.
    steps : int
        As for `to_levels`.
    n_moments : int
        Columns.

    Returns
    -------
    Figure
        With one colour bar, which states the normalisation.
    """
    rows: dict[str, Any] = {"frames and mask": np.zeros(clip.mask.shape, dtype=np.uint8)}
    rows |= {labels[key]: to_levels(values, steps=steps) for key, values in clip.maps.items()}
    figure, axes = subplots(len(rows), n_moments, height=1.25 * len(rows), squeeze=False)
    for i, (line, (label, levels)) in enumerate(zip(axes, rows.items(), strict=True)):
        for ax, t in zip(line, spread(len(clip.mask), n_moments), strict=True):
            pixels = blend(clip.frames[t], levels[t], steps=steps, above=FIRST_THRESHOLD * steps)
            frame(ax, pixels, clip.mask[t], title="" if i else f"frame {t + 1}")
        line[0].set_ylabel(label.replace(" ", "\n", 1), fontsize=7)
    with styled():
        scale = ScalarMappable(Normalize(0, 1), POSITIVE_MAP)
        figure.colorbar(scale, ax=axes, shrink=0.5, aspect=30, pad=0.01, label=UNIT)
    return figure
