"""Pictures of clips and maps: frames, masks, heatmaps, cuts through time.

Conventions
-----------
Frames are grey, in [0, 1]. A mask is drawn as its outline, yellow with a black rim, visible on
grey and on the colours of a map alike. Maps are signed: red speaks for "anomalous", blue against
it, white is zero. A map is divided by its own limit (a stated quantile of |E| over the whole
clip), so one colour bar from -1 to 1 serves all maps of a figure: compare *where* the maps are
red, not how red one is beside another. Where that quantile is 0 (a map with few values other than
zero), the limit is the maximum, and "(max)" stands behind the title.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import CenteredNorm

from vad_helpers.viz.style import CONTOUR, POSITIVE_MAP, SIGNED_MAP, styled, symmetric_limit

QUANTILE = 0.995


def frame(ax: Axes, grey: np.ndarray, mask: np.ndarray | None = None, *, title: str = "") -> Axes:
    """Draw one grey frame, with the outline of its mask.

    Parameters
    ----------
    ax : Axes
    grey : ndarray of float, (H, W)
        In [0, 1]; the grey scale is fixed, so that frames compare.
    mask : ndarray of bool, (H, W), optional
    title : str

    Returns
    -------
    Axes
    """
    with styled():
        ax.imshow(grey, cmap="gray", vmin=0, vmax=1)
        outline(ax, mask)
        return _bare(ax, title)


def outline(ax: Axes, mask: np.ndarray | None) -> Axes:
    """Draw the outline of a mask; an empty one, or None, draws nothing.

    Parameters
    ----------
    ax : Axes
    mask : ndarray of bool, (H, W), or None

    Returns
    -------
    Axes
    """
    if mask is not None and mask.any() and not mask.all():
        for width, colour in ((1.9, "black"), (0.9, CONTOUR)):
            ax.contour(mask.astype(float), levels=[0.5], colors=[colour], linewidths=[width])
    return ax


def frame_strip(
    axes: Sequence[Axes], grey: np.ndarray, mask: np.ndarray | None = None, *, title: str = ""
) -> Sequence[Axes]:
    """Draw as many frames of a clip as there are axes, evenly spaced in time.

    Parameters
    ----------
    axes : sequence of Axes
    grey : ndarray of float, (T, H, W)
        In [0, 1].
    mask : ndarray of bool, (T, H, W), optional
    title : str
        Written before the frame's number on the first.

    Returns
    -------
    sequence of Axes
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
    aspect: str = "equal",
) -> Axes:
    """Draw one slice of a signed map, zero in the middle of the colours.

    Parameters
    ----------
    ax : Axes
    attribution : ndarray of float, (H, W)
        Signed; positive speaks for "anomalous".
    mask : ndarray of bool, (H, W), optional
    limit : float
        Positive value at the ends of the scale, see `style.symmetric_limit`; beyond it the
        colour stays the same.
    title : str
    aspect : str
        "equal" or "auto".

    Returns
    -------
    Axes
    """
    with styled():
        norm = CenteredNorm(vcenter=0, halfrange=1)
        ax.imshow(attribution / limit, cmap=SIGNED_MAP, norm=norm, aspect=aspect)
        outline(ax, mask)
        return _bare(ax, title)


def signed_colour_bar(
    axes: Any, *, quantile: float = QUANTILE, quantity: str = "attribution E", over: str = "clip"
) -> Colorbar:
    """Put the colour bar of signed maps beside axes; it states the normalisation.

    Parameters
    ----------
    axes : Axes or array of Axes
    quantile : float
        As used for the limits.
    quantity : str
        What is divided.
    over : str
        What the quantile is taken over.

    Returns
    -------
    Colorbar
        With arrows at both ends where values beyond the quantile share the last colour.
    """
    flat = list(np.ravel(axes))
    scale = ScalarMappable(norm=CenteredNorm(vcenter=0, halfrange=1), cmap=SIGNED_MAP)
    share = "max |E|" if quantile == 1 else f"{quantile:.1%} quantile of |E|"
    with styled():
        bar = flat[0].figure.colorbar(
            scale,
            ax=flat,
            shrink=0.6,
            aspect=30,
            pad=0.01,
            extend="neither" if quantile == 1 else "both",
        )
        bar.set_label(f"{quantity} / the {over}'s {share}\n(red: for “anomalous”)")
        bar.ax.tick_params(length=2)
    return bar


def heatmap_grid(
    axes: Any,
    grey: np.ndarray,
    mask: np.ndarray,
    maps: Mapping[str, np.ndarray],
    *,
    t: int,
    quantile: float = QUANTILE,
) -> Any:
    """Draw one frame with its mask, then the same frame of every map.

    Parameters
    ----------
    axes : array of Axes
        At least one more than maps; the rest is left blank.
    grey : ndarray of float, (T, H, W)
        In [0, 1].
    mask : ndarray of bool, (T, H, W)
    maps : mapping of str to ndarray, (T, H, W)
        Title -> signed map.
    t : int
        Which frame.
    quantile : float
        Each map's limit is this quantile of its |E| over all frames.

    Returns
    -------
    array of Axes

    Raises
    ------
    ValueError
        If there are too few axes.
    """
    flat = list(np.ravel(axes))
    if len(flat) < len(maps) + 1:
        raise ValueError(f"{len(flat)} axes for a frame and {len(maps)} maps; give one each")
    frame(flat[0], grey[t], mask[t], title=f"frame {t + 1} and its mask")
    for ax, (title, attribution) in zip(flat[1:], maps.items(), strict=False):
        limit, used = symmetric_limit(attribution, quantile=quantile)
        heatmap(ax, attribution[t], mask[t], limit=limit, title=_marked(title, used, quantile))
        if not attribution.any():
            ax.text(0.5, 0.5, "all zero", transform=ax.transAxes, ha="center", va="center")
    for ax in flat[len(maps) + 1 :]:
        ax.set_axis_off()
    signed_colour_bar(flat, quantile=quantile)
    return axes


def time_grid(
    axes: np.ndarray,
    mask: np.ndarray,
    maps: Mapping[str, np.ndarray],
    *,
    quantile: float = QUANTILE,
) -> np.ndarray:
    """Draw several frames of several maps: a row a map, a column a time.

    Parameters
    ----------
    axes : ndarray of Axes, (number of maps, number of times)
    mask : ndarray of bool, (T, H, W)
    maps : mapping of str to ndarray, (T, H, W)
    quantile : float
        As `heatmap_grid`.

    Returns
    -------
    ndarray of Axes
    """
    for row, (title, attribution) in zip(axes, maps.items(), strict=True):
        limit, used = symmetric_limit(attribution, quantile=quantile)
        for ax, t in zip(row, spread(len(mask), len(row)), strict=True):
            heading = f"frame {t + 1}" if ax in axes[0] else ""
            heatmap(ax, attribution[t], mask[t], limit=limit, title=heading)
        words = textwrap.fill(_marked(title, used, quantile), width=15)
        row[0].set_ylabel(words, fontsize=7.5)
    signed_colour_bar(axes, quantile=quantile)
    return axes


def time_slices(
    axes: Any,
    grey: np.ndarray,
    mask: np.ndarray,
    maps: Mapping[str, np.ndarray],
    *,
    quantile: float = QUANTILE,
) -> Any:
    """Cut every map along time: x to the right, time downwards, mean over the anomaly's rows.

    A moving anomaly is a slanted outline here; a map that stands still is made of vertical bands.

    Parameters
    ----------
    axes : array of Axes
        At least one more than maps; the first shows the frames cut in the same way.
    grey : ndarray of float, (T, H, W)
        In [0, 1].
    mask : ndarray of bool, (T, H, W)
        Must not be empty.
    maps : mapping of str to ndarray, (T, H, W)
    quantile : float
        Of |E| in the slice.

    Returns
    -------
    array of Axes

    Raises
    ------
    ValueError
        If the mask is empty.
    """
    rows = mask.any(axis=(0, 2))
    if not rows.any():
        raise ValueError("the mask is empty; expected a clip with a marked anomaly")
    flat = list(np.ravel(axes))
    outlined = mask.any(axis=1)
    with styled():
        flat[0].imshow(grey[:, rows].mean(axis=1), cmap="gray", vmin=0, vmax=1, aspect="auto")
        outline(flat[0], outlined)
        _bare(flat[0], "frames and mask")
    for ax, (title, attribution) in zip(flat[1:], maps.items(), strict=False):
        values = attribution[:, rows].mean(axis=1)
        limit, used = symmetric_limit(values, quantile=quantile)
        words = _marked(title, used, quantile)
        heatmap(ax, values, outlined, limit=limit, title=words, aspect="auto")
    for ax in flat[len(maps) + 1 :]:
        ax.set_axis_off()
    flat[0].set_ylabel("time ↓")
    flat[0].set_xlabel("x →")
    signed_colour_bar(flat, quantile=quantile, quantity="mean E", over="slice")
    return axes


def positive_map(
    ax: Axes, values: np.ndarray, mask: np.ndarray | None = None, *, label: str, title: str = ""
) -> Axes:
    """Draw one slice of a map that has no negative values, with its colour bar.

    Parameters
    ----------
    ax : Axes
    values : ndarray of float, (H, W)
        At least 0.
    mask : ndarray of bool, (H, W), optional
    label : str
        Quantity and unit, for the colour bar.
    title : str

    Returns
    -------
    Axes
    """
    with styled():
        image = ax.imshow(values, cmap=POSITIVE_MAP, vmin=0)
        outline(ax, mask)
        bar = ax.figure.colorbar(image, ax=ax, shrink=0.8, pad=0.02)
        bar.set_label(label)
        bar.ax.tick_params(length=2)
        return _bare(ax, title)


def superpixels(ax: Axes, grey: np.ndarray, labels: np.ndarray, *, title: str = "") -> Axes:
    """Draw one frame and the borders of its superpixels.

    Parameters
    ----------
    ax : Axes
    grey : ndarray of float, (H, W)
        In [0, 1].
    labels : ndarray of int, (H, W)
        One number a superpixel.
    title : str

    Returns
    -------
    Axes
    """
    with styled():
        border = np.zeros(labels.shape, dtype=bool)
        border[:, 1:] |= labels[:, 1:] != labels[:, :-1]
        border[1:] |= labels[1:] != labels[:-1]
        colours = np.repeat(np.clip(grey, 0, 1)[..., None], 3, axis=2)
        colours[border] = (0.94, 0.89, 0.26)
        ax.imshow(colours)
        return _bare(ax, title)


def best_frame(mask: np.ndarray) -> int:
    """Pick the frame to show: the one where the anomaly is largest.

    Parameters
    ----------
    mask : ndarray of bool, (T, H, W)

    Returns
    -------
    int
        0 if the mask is empty.
    """
    return int(mask.sum(axis=(1, 2)).argmax())


def spread(n_frames: int, n_shown: int) -> list[int]:
    """Pick `n_shown` frames from the first to the last, evenly spaced."""
    return np.linspace(0, n_frames - 1, n_shown).round().astype(int).tolist()


def _marked(title: str, used: float, quantile: float) -> str:
    """Mark a map whose limit is its maximum, because the quantile that the bar states is 0."""
    return title if used == quantile else f"{title} (max)"


def _bare(ax: Axes, title: str) -> Axes:
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(True)
        spine.set_color("#BBBBBB")
        spine.set_linewidth(0.5)
    ax.set_title(title)
    return ax
