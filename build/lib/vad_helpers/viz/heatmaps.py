"""Pictures of clips and maps: frames, masks, heatmaps, cuts through time.

Conventions
-----------
Frames are grey, in [0, 1]. A mask is drawn as its outline, yellow with a black rim, visible on
grey and on the colours of a map alike. Maps are signed: red speaks for "anomalous", blue against
it, white is zero. A map is divided by its own limit, see `symmetric_limit`, so one colour bar from
-1 to 1 serves all maps of a figure: compare *where* the maps are red, not how red one is beside
another. Where the limit is the maximum, "(max)" stands behind the title.

Arrays: grey frames are float (T, H, W), or (H, W) where one is drawn; a mask is bool of the same
shape, True on the anomaly; a map is float of the same shape, signed; `maps` are maps of a clip by
their title. Every function draws into the axes it is given and returns them.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import CenteredNorm, to_rgb

from vad_helpers.viz.style import CONTOUR, POSITIVE_MAP, SIGNED_MAP, styled

QUANTILE = 0.995
Maps = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShownClip:
    """A clip with its maps, for the explorers.

    `label` and the keys of `maps` are names for people; `p_clip` and `p_baseline`, in [0, 1], are
    what the network says of clip and baseline: nearly equal, they leave little to explain.
    """

    label: str
    frames: np.ndarray
    mask: np.ndarray
    maps: Maps
    p_clip: float
    p_baseline: float


def best_frame(mask: np.ndarray) -> int:
    """Pick the frame to show: the one where the anomaly of a (T, H, W) mask is largest, else 0."""
    return int(mask.sum(axis=(1, 2)).argmax())


def spread(n_frames: int, n_shown: int) -> list[int]:
    """Pick `n_shown` frames from the first to the last, evenly spaced."""
    return np.linspace(0, n_frames - 1, n_shown).round().astype(int).tolist()


def symmetric_limit(attribution: np.ndarray) -> tuple[float, bool]:
    """Give the value at both ends of a zero-centred colour scale, and whether it is the maximum.

    It is the `QUANTILE` of |E| over a whole clip's map, so that its frames share one scale; the
    maximum where that is 0, as in a map with few values that are not zero; 1 for a map of zeros.
    """
    magnitude = np.abs(attribution)
    limit, largest = float(np.quantile(magnitude, QUANTILE)), float(magnitude.max())
    return limit or largest or 1.0, limit == 0 < largest


def _bare(ax: Axes, title: str) -> Axes:
    ax.set(xticks=[], yticks=[], title=title)
    ax.spines[:].set(visible=True, color="#BBBBBB", linewidth=0.5)
    return ax


def outline(ax: Axes, mask: np.ndarray | None) -> Axes:
    """Draw the outline of a (H, W) mask; an empty or a full one, or None, draws nothing."""
    if mask is not None and mask.any() and not mask.all():
        for width, colour in ((1.9, "black"), (0.9, CONTOUR)):
            ax.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=[width])
    return ax


def frame(
    ax: Axes, grey: np.ndarray, mask: np.ndarray | None = None, *, title: str = "", **options: Any
) -> Axes:
    """Draw one frame, with the outline of its mask.

    The grey scale from 0 to 1 is fixed, so that frames compare; a picture in colours, (H, W, 3), is
    shown as it is. `options` go to `imshow`, as ``aspect="auto"``.
    """
    with styled():
        ax.imshow(grey, cmap="gray", vmin=0, vmax=1, **options)
        outline(ax, mask)
        return _bare(ax, title)


def frame_strip(
    axes: Sequence[Axes], grey: np.ndarray, mask: np.ndarray | None = None, *, title: str = ""
) -> Sequence[Axes]:
    """Draw as many frames of a clip as there are axes, evenly spaced in time.

    `title` is written before the frame's number on the first.
    """
    for i, (ax, t) in enumerate(zip(axes, spread(len(grey), len(axes)), strict=True)):
        words = f"{title}, frame {t + 1}" if title and i == 0 else f"frame {t + 1}"
        frame(ax, grey[t], None if mask is None else mask[t], title=words)
    return axes


def heatmap(
    ax: Axes,
    attribution: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    limit: float,
    title: str = "",
    **options: Any,
) -> Axes:
    """Draw one (H, W) slice of a signed map, zero in the middle of the colours.

    `limit` is the positive value at the ends of the scale, see `symmetric_limit`; beyond it the
    colour stays the same. `options` go to `imshow`, as ``aspect="auto"``.
    """
    with styled():
        norm = CenteredNorm(vcenter=0, halfrange=1)
        ax.imshow(attribution / limit, cmap=SIGNED_MAP, norm=norm, **options)
        outline(ax, mask)
        return _bare(ax, title)


def signed_colour_bar(
    axes: Any, *, quantity: str = "attribution E", over: str = "clip"
) -> Colorbar:
    """Put the colour bar of signed maps, from -1 to 1, beside axes; it states the normalisation.

    `quantity` is what is divided, and the `QUANTILE` of |E| is taken `over` what. Arrows at both
    ends say that values beyond share the last colour.
    """
    flat = list(np.ravel(axes))
    scale = ScalarMappable(norm=CenteredNorm(vcenter=0, halfrange=1), cmap=SIGNED_MAP)
    label = f"{quantity} / the {over}'s {QUANTILE:.1%} quantile of |E|\n(red: for “anomalous”)"
    with styled():
        options = {"shrink": 0.6, "aspect": 30, "pad": 0.01, "extend": "both"}
        bar = flat[0].figure.colorbar(scale, ax=flat, label=label, **options)
        bar.ax.tick_params(length=2)
    return bar


def _draw_maps(
    axes: Sequence[Axes], maps: Maps, mask: np.ndarray, cut: Any, **options: Any
) -> None:
    """Draw the slice `cut` of every map, scaled by the whole of it; leave further axes blank."""
    if len(axes) < len(maps):
        raise ValueError(f"{len(axes) + 1} axes for a frame and {len(maps)} maps; give one each")
    for ax, (title, attribution) in zip(axes, maps.items(), strict=False):
        limit, is_maximum = symmetric_limit(attribution)
        words = f"{title} (max)" if is_maximum else title
        heatmap(ax, attribution[cut], mask, limit=limit, title=words, **options)
        if not attribution.any():
            with styled():
                ax.text(0.5, 0.5, "all zero", transform=ax.transAxes, ha="center", va="center")
    for ax in axes[len(maps) :]:
        ax.set_axis_off()


def heatmap_grid(axes: Any, grey: np.ndarray, mask: np.ndarray, maps: Maps, *, t: int) -> Any:
    """Draw frame `t` with its mask, then the same frame of every map.

    `axes` are at least one more than maps, else ValueError; the rest is left blank. Each map's
    limit is the `QUANTILE` of its |E| over all frames.
    """
    flat = list(np.ravel(axes))
    frame(flat[0], grey[t], mask[t], title=f"frame {t + 1} and its mask")
    _draw_maps(flat[1:], maps, mask[t], t)
    signed_colour_bar(flat)
    return axes


def time_grid(axes: np.ndarray, mask: np.ndarray, maps: Maps) -> np.ndarray:
    """Draw several frames of several maps: a row of axes a map, a column a time.

    Each map's limit is the `QUANTILE` of its |E| over all frames.
    """
    for row, (title, attribution) in zip(axes, maps.items(), strict=True):
        limit, is_maximum = symmetric_limit(attribution)
        for ax, t in zip(row, spread(len(mask), len(row)), strict=True):
            heading = f"frame {t + 1}" if ax in axes[0] else ""
            heatmap(ax, attribution[t], mask[t], limit=limit, title=heading)
        words = f"{title} (max)" if is_maximum else title
        row[0].set_ylabel(textwrap.fill(words, width=15), fontsize=7.5)
    signed_colour_bar(axes)
    return axes


def time_slices(axes: Any, grey: np.ndarray, mask: np.ndarray, maps: Maps) -> Any:
    """Cut every map along time: x to the right, time downwards, mean over the anomaly's rows.

    A moving anomaly is a slanted outline here; a map that stands still is made of vertical bands.
    `axes` are at least one more than maps, and the mask is not empty, else ValueError; the first
    shows the frames, cut in the same way. Limits are the `QUANTILE` of |E| in the slice.
    """
    rows = mask.any(axis=(0, 2))
    if not rows.any():
        raise ValueError("the mask is empty; expected a clip with a marked anomaly")
    flat = list(np.ravel(axes))
    path = mask.any(axis=1)
    frame(flat[0], grey[:, rows].mean(axis=1), path, title="frames and mask", aspect="auto")
    flat[0].set(xlabel="x →", ylabel="time ↓")
    slices = {title: values[:, rows].mean(axis=1) for title, values in maps.items()}
    _draw_maps(flat[1:], slices, path, ..., aspect="auto")
    signed_colour_bar(flat, quantity="mean E", over="slice")
    return axes


def positive_map(
    ax: Axes, values: np.ndarray, mask: np.ndarray | None = None, *, label: str, title: str = ""
) -> Axes:
    """Draw one (H, W) slice of a map without negative values, with its colour bar from 0.

    `label` gives the quantity and its unit, for the colour bar.
    """
    with styled():
        image = ax.imshow(values, cmap=POSITIVE_MAP, vmin=0)
        outline(ax, mask)
        bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02, label=label)
        bar.ax.tick_params(length=2)
        return _bare(ax, title)


def superpixels(ax: Axes, grey: np.ndarray, labels: np.ndarray, *, title: str = "") -> Axes:
    """Draw one frame and the borders of its superpixels: `labels`, (H, W), a number for each."""
    border = np.diff(labels, axis=0, prepend=labels[:1]) != 0
    border |= np.diff(labels, axis=1, prepend=labels[:, :1]) != 0
    colours = np.repeat(np.clip(grey, 0, 1)[..., None], 3, axis=2)
    colours[border] = to_rgb(CONTOUR)
    return frame(ax, colours, title=title)
