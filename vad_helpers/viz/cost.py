"""Charts of what explanations cost: beside the paper's cost, and how it grows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vad_helpers.viz.style import look, ordered, styled

AXES = {"frames": "frames", "pixels": "pixels a frame", "clips": "clips"}


def quality_and_cost(ax: Axes, points: pd.DataFrame) -> Axes:
    """Draw quality against cost, one point a method: the paper's joined to this run's.

    Parameters
    ----------
    ax : Axes
    points : DataFrame
        Index of method keys: ``label``, ``family``, ``seconds``, ``quality``, ``paper_seconds``,
        ``paper_quality``. Points that lack a number are left out, the paper's of a row that it
        does not have too.

    Returns
    -------
    Axes
    """
    with styled():
        for key in ordered(points.index):
            row = points.loc[key]
            drawn = look(key, row["family"])
            x, y = row[["paper_seconds", "seconds"]], row[["paper_quality", "quality"]]
            ax.plot(x, y, "-", color=drawn.colour, linewidth=1, alpha=0.5)
            ax.plot(x.iloc[0], y.iloc[0], drawn.marker, color=drawn.colour, markerfacecolor="white")
            ax.plot(x.iloc[1], y.iloc[1], drawn.marker, color=drawn.colour, label=row["label"])
        ax.set_xscale("log")
        ax.set_xlabel("seconds a clip (logarithmic, lower is better)")
        ax.set_ylabel("clip AUC (higher is better)")
        ax.grid()
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1), title="open: the paper\nfilled: here")
    return ax


def growth_lines(
    axes: Sequence[Axes], growth: pd.DataFrame, *, labels: Mapping[str, str] | None = None
) -> Sequence[Axes]:
    """Draw seconds against size on logarithmic scales, with the fitted power laws.

    Parameters
    ----------
    axes : sequence of Axes
        One for frames, one for pixels, one for clips.
    growth : DataFrame
        ``axis`` ("frames", "pixels", "clips"), ``method``, ``size``, ``seconds``, ``exponent``.
    labels : mapping of str to str, optional
        Names of the methods.

    Returns
    -------
    sequence of Axes
    """
    with styled():
        for ax, (axis, words) in zip(axes, AXES.items(), strict=True):
            part = growth[growth["axis"] == axis]
            for key in ordered(part["method"].unique()):
                line = part[part["method"] == key]
                drawn = look(key, "")
                x, y = line["size"].to_numpy(), line["seconds"].to_numpy()
                exponent = line["exponent"].iloc[0]
                name = f"{(labels or {}).get(key, key)}: {exponent:.2f}"
                ax.plot(x, y, drawn.marker, color=drawn.colour, label=name)
                fitted = np.exp(np.polyval(np.polyfit(np.log(x), np.log(y), 1), np.log(x)))
                ax.plot(x, fitted, "-", color=drawn.colour, linewidth=1)
            ax.set_xscale("log")
            ax.set_yscale("log")
            ax.minorticks_off()  # their labels run into one another on a narrow axis
            ax.set_xlabel(words)
            ax.set_ylabel("seconds")
            ax.grid()
            below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.25)}
            ax.legend(title="exponent", fontsize="small", **below)
    return axes
