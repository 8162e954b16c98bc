"""One visual language for all figures: sizes, colours, the order of methods, how to show.

Colours are those of Okabe and Ito, which people with colour vision deficiencies can tell apart:
cool ones for gradient methods, warm ones for perturbation methods, greys for the reference rows.
Line style and marker repeat the distinction. Signed maps use a diverging scale centred at zero.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import matplotlib
import numpy as np
from IPython.display import Image, display
from matplotlib.figure import Figure

DPI = 110
WIDTH = 7.8
"""Width of a figure in inches: with `DPI`, the width of the book's text."""
MIN_ALT_WORDS = 6

SIGNED_MAP = "RdBu_r"
POSITIVE_MAP = "viridis"
CONTOUR = "#F0E442"
FAMILY_COLOURS = {"gradient": "#0072B2", "perturbation": "#D55E00", "reference": "#6E6E6E"}
CLASS_COLOURS = {"normal": "#56B4E9", "anomalous": "#D55E00"}


@dataclasses.dataclass(frozen=True)
class Look:
    """How a row of the tables is drawn."""

    colour: str
    line: Any
    marker: str


_LOOKS = {
    "ig": Look("#0072B2", "-", "o"),
    "ig_smoothgrad": Look("#56B4E9", "-", "s"),
    "guided_backprop": Look("#009E73", "-", "^"),
    "gradient_shap": Look("#000000", "-", "D"),
    "kernel_shap": Look("#CC79A7", "--", "v"),
    "lime": Look("#E69F00", "--", "P"),
    "occlusion_lp": Look("#D55E00", "--", "X"),
    "occlusion_sp": Look("#8C510A", "--", "*"),
    "random": Look("#B0B0B0", ":", "1"),
    "centre": Look("#8F8F8F", ":", "2"),
    "motion": Look("#4D4D4D", ":", "+"),
    "constant": Look("#6E6E6E", ":", "x"),
    "random_weights": Look("#A08060", ":", "3"),
    "ig_time_average": Look("#7A9EB5", "-.", "o"),
}
METHOD_ORDER = tuple(_LOOKS)
"""Rows in the order of every figure; others (registered methods) follow."""

_RC = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "white",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "lines.linewidth": 1.5,
    "image.interpolation": "nearest",
}


def styled() -> AbstractContextManager[None]:
    """Context in which artists are made in the style of the figures; nothing stays changed."""
    return matplotlib.rc_context(_RC)


def subplots(
    n_rows: int = 1,
    n_columns: int = 1,
    *,
    width: float = WIDTH,
    height: float = 3.2,
    **options: Any,
) -> tuple[Figure, Any]:
    """Make a white figure and its axes, apart from pyplot's list of open figures.

    Parameters
    ----------
    n_rows, n_columns : int
    width, height : float
        In inches.
    **options
        For `matplotlib.figure.Figure.subplots`, as `sharex=True`.

    Returns
    -------
    figure : matplotlib.figure.Figure
    axes : Axes, or array of Axes
    """
    with styled():
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
        return figure, figure.subplots(n_rows, n_columns, **options)


def show(figure: Figure, *, alt: str) -> None:
    """Show a figure in a notebook, with a text for those who do not see it.

    The picture is a PNG on white whatever the backend, and carries its text in a live notebook
    and in nbconvert's pages. The book takes it from the cell's metadata (`mystnb`, `image`,
    `alt`); a test keeps the two equal.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    alt : str
        What is drawn (axes, marks, colours), not what comes out: that differs from run to run.

    Raises
    ------
    ValueError
        If `alt` is too short to describe a figure.
    """
    if len(alt.split()) < MIN_ALT_WORDS:
        raise ValueError(
            f"alt is {alt!r}; describe what is drawn in at least {MIN_ALT_WORDS} words"
        )
    display(Image(data=png_bytes(figure), format="png", alt=alt))


def png_bytes(figure: Figure, *, dpi: int = DPI, bbox_inches: str | None = None) -> bytes:
    """Render a figure as a PNG on white, whatever the backend.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    dpi : int
        Pixels an inch.
    bbox_inches : str, optional
        "tight" cuts the margins off.

    Returns
    -------
    bytes
    """
    options = {"facecolor": "white", "edgecolor": "none", "bbox_inches": bbox_inches}
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, **options)
    return stream.getvalue()


def look(key: str, family: str | None = None) -> Look:
    """Give colour, line style and marker of a row.

    Parameters
    ----------
    key : str
        Key of a method, variant or reference row.
    family : str, optional
        "gradient", "perturbation" or "reference": the colour of a row not known here. A variant
        `<method>_...` has its method's colour and a dotted line.
    """
    if key in _LOOKS:
        return _LOOKS[key]
    if (parent := parent_of(key)) is not None:
        return Look(_LOOKS[parent].colour, (0, (1, 1)), ".")
    return Look(FAMILY_COLOURS.get(family or "", "#6E6E6E"), "-.", "p")


def parent_of(key: str) -> str | None:
    """Name the method that a variant `<method>_...` belongs to; None for any other row."""
    parents = [name for name in METHOD_ORDER if key.startswith(f"{name}_")]
    return max(parents, key=len) if parents and key not in METHOD_ORDER else None


def ordered(keys: Iterable[str]) -> list[str]:
    """Sort keys of rows: the fixed order, each variant after its method, all others last."""
    keys = list(dict.fromkeys(keys))

    def place(key: str) -> tuple[int, int]:
        anchor = parent_of(key) or key
        known = anchor in METHOD_ORDER
        return METHOD_ORDER.index(anchor) if known else len(METHOD_ORDER), int(anchor != key)

    return sorted(keys, key=place)


def symmetric_limit(attribution: np.ndarray, *, quantile: float = 1.0) -> tuple[float, float]:
    """Give the value at both ends of a zero-centred colour scale.

    Parameters
    ----------
    attribution : ndarray
        Signed map of a whole clip, so that its frames share one scale.
    quantile : float
        Quantile of |E|, in (0, 1]; 1 is the maximum.

    Returns
    -------
    limit : float
        Positive; the maximum if the quantile is 0, as in a map with few values that are not
        zero, and 1 for a map of zeros.
    used : float
        The quantile that `limit` is: the one asked for, or 1 for the maximum.

    Raises
    ------
    ValueError
        If `quantile` is not in (0, 1].
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile is {quantile}; expected a value in (0, 1]")
    magnitude = np.abs(attribution)
    limit, largest = float(np.quantile(magnitude, quantile)), float(magnitude.max())
    if limit > 0 or largest == 0:
        return limit or 1.0, quantile
    return largest, 1.0
