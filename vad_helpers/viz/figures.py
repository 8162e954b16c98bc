"""Charts of scores: means with intervals, faithfulness, stability, cost.

Every function draws into the axes it is given, returns them, and changes nothing else. Means come
with intervals, and the sequences behind a mean are shown as dots, for they are what an interval
is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vad_helpers import store
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.store import Run
from vad_helpers.viz.style import FAMILY_COLOURS, look, ordered, styled

ARROWS = {"higher": "higher is better", "lower": "lower is better"}


def interval_dots(
    ax: Axes,
    summary: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    level: str,
    metric: str,
    labels: bool = True,
    paper: Mapping[str, float] | None = None,
) -> Axes:
    """Draw mean and interval of every row, with its sequences as dots; references in grey.

    Parameters
    ----------
    ax : Axes
    summary : DataFrame
        ``method``, ``label``, ``family``, ``level``, ``metric``, ``mean``, ``low``, ``high``.
    scores : DataFrame
        Tidy scores behind it: ``sequence``, ``method``, ``level``, ``metric``, ``value``.
    level, metric : str
        Which part of both.
    labels : bool
        Write the rows' names.
    paper : mapping of str to float, optional
        Published means by method, drawn as crosses.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    summary = _part(summary, level, metric).set_index("method")
    behind = _part(scores, level, metric).groupby(["method", "sequence"])["value"].mean()
    keys = _grouped(summary)
    with styled():
        for y, key in enumerate(keys):
            row = summary.loc[key]
            colour = FAMILY_COLOURS.get(row["family"], "#6E6E6E")
            dots = behind[key] if key in behind.index.get_level_values(0) else []
            # A little lower than the interval, which would hide them.
            ax.plot(dots, np.full(len(dots), y + 0.25), ".", color=colour, alpha=0.5, markersize=4)
            ax.plot([row["low"], row["high"]], [y, y], "-", color=colour, linewidth=2)
            ax.plot(row["mean"], y, "o", color=colour, markeredgecolor="white", markersize=6)
            if paper and key in paper:
                ax.plot(paper[key], y, "x", color="black", markersize=5)
        first = next((y for y, k in enumerate(keys) if summary.loc[k, "family"] == "reference"), 0)
        ax.axhline(first - 0.5, color="#BBBBBB", linewidth=0.8)
        ax.set_yticks(range(len(keys)), summary.loc[keys, "label"] if labels else [])
        ax.set_ylim(len(keys) - 0.5, -0.5)
        ax.set_xlabel(axis_name(metric))
        ax.grid(axis="x")
    return ax


def rank_spans(
    ax: Axes,
    firm: pd.DataFrame,
    *,
    families: Mapping[str, str] | None = None,
    title: str = "",
) -> Axes:
    """Draw the ranks that rows hold when sequences are drawn anew: which orders are firm.

    Parameters
    ----------
    ax : Axes
    firm : DataFrame
        From `store.rank_stability`: ``method``, ``label``, ``rank``, ``rank_median``,
        ``rank_low``, ``rank_high``, best rank first. NaN (one sequence) draws the rank alone.
    families : mapping of str to str, optional
        Family of a row by its key: colours by family; else each row has its own.
    title : str

    Returns
    -------
    Axes
        Rank 1 at the left and on top.
    """
    with styled():
        for y, row in enumerate(firm.itertuples()):
            family = (families or {}).get(row.method)
            colour = FAMILY_COLOURS[family] if family else look(row.method).colour
            ax.plot([row.rank_low, row.rank_high], [y, y], "-", color=colour, linewidth=2)
            ax.plot(row.rank_median, y, "|", color=colour, markersize=8, markeredgewidth=2)
            ax.plot(row.rank, y, "o", color=colour, markeredgecolor="white", markersize=6)
        ax.set_yticks(range(len(firm)), firm["label"])
        ax.set_ylim(len(firm) - 0.5, -0.5)
        ax.set_xlim(0.5, len(firm) + 0.5)
        ax.set_xlabel("rank (1 is best)")
        ax.set_title(title)
        ax.grid(axis="x")
    return ax


def rank_charts(axes: Sequence[Axes], run: Run, firm: Mapping[str, pd.DataFrame]) -> Sequence[Axes]:
    """Draw the ranks by several metrics beside each other, coloured by family; see `rank_spans`.

    Parameters
    ----------
    axes : sequence of Axes
        One a metric.
    run : Run
        Whose rows are ranked.
    firm : mapping of str to DataFrame
        Title of a chart -> from `store.rank_stability`.

    Returns
    -------
    sequence of Axes
    """
    families = {key: row.family for key, row in store.rows(run).items()}
    for ax, (title, ranks) in zip(axes, firm.items(), strict=True):
        rank_spans(ax, ranks, families=families, title=title)
    return axes


def fidelity_curves(
    ax: Axes,
    curves: Mapping[str, np.ndarray],
    x: np.ndarray | Mapping[str, np.ndarray],
    *,
    labels: Mapping[str, str] | None = None,
    x_label: str,
    y_label: str,
    legend: bool = True,
) -> Axes:
    """Draw deletion or insertion curves, averaged over clips, one line a row.

    Parameters
    ----------
    ax : Axes
    curves : mapping of str to ndarray, (n_clips, n_points)
        By key of the row.
    x : ndarray, (n_points,), or mapping of str to ndarray, (n_points,)
        Positions, for all rows or row by row.
    labels : mapping of str to str, optional
        Names for the legend.
    x_label, y_label : str
    legend : bool
        Put a legend to the right.

    Returns
    -------
    Axes
    """
    with styled():
        for key in ordered(curves):
            drawn = look(key)
            at = x[key] if isinstance(x, Mapping) else x
            mean = np.mean(curves[key], axis=0)
            label = (labels or {}).get(key, key)
            ax.plot(
                at, mean, color=drawn.colour, linestyle=drawn.line, marker=drawn.marker,
                markevery=max(1, len(mean) // 6), markersize=4, label=label,
            )  # fmt: skip
        ax.set_xlabel(x_label)
        ax.set_ylabel(y_label)
        ax.grid()
        if legend:
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def frame_auc_lines(
    ax: Axes,
    aucs: Mapping[str, np.ndarray],
    *,
    labels: Mapping[str, str] | None = None,
    legend: bool = True,
    title: str = "",
) -> Axes:
    """Draw the localisation of every frame of one clip, one line a row.

    Parameters
    ----------
    ax : Axes
    aucs : mapping of str to ndarray, (T,)
        By key of the row, in [0, 1]; NaN (no AUC in that frame) leaves a gap.
    labels : mapping of str to str, optional
        Names for the legend.
    legend : bool
        Put a legend to the right.
    title : str

    Returns
    -------
    Axes
    """
    with styled():
        ax.axhline(0.5, color="black", linewidth=0.7, linestyle=":", label="chance")
        for key in ordered(aucs):
            drawn = look(key)
            ax.plot(
                1 + np.arange(len(aucs[key])), aucs[key], color=drawn.colour,
                linestyle=drawn.line, marker=drawn.marker, markersize=3.5,
                label=(labels or {}).get(key, key),
            )  # fmt: skip
        ax.set_title(title)
        ax.set_xlabel("frame of the clip")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylabel("AUC in the frame (higher is better)")
        ax.set_ylim(-0.02, 1.02)
        ax.grid(axis="y")
        if legend:
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def quality_against(
    ax: Axes,
    summary: pd.DataFrame,
    x: Mapping[str, float],
    *,
    level: str,
    metric: str,
    x_label: str,
    log: bool = False,
    legend: bool = True,
) -> Axes:
    """Draw quality, with its interval, against what it costs or comes from.

    Parameters
    ----------
    ax : Axes
    summary : DataFrame
        ``method``, ``label``, ``family``, ``level``, ``metric``, ``mean``, ``low``, ``high``.
    x : mapping of str to float
        By key of the row; rows without are left out.
    level, metric : str
        Which quality.
    x_label : str
        Quantity and unit of `x`.
    log : bool
        Logarithmic scale of `x`.
    legend : bool
        Put a legend to the right.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    summary = _part(summary, level, metric).set_index("method")
    with styled():
        for key in ordered(k for k in summary.index if k in x):
            row, drawn = summary.loc[key], look(key, summary.loc[key, "family"])
            ax.plot([x[key]] * 2, [row["low"], row["high"]], "-", color=drawn.colour)
            ax.plot(
                x[key], row["mean"], color=drawn.colour, marker=drawn.marker, linestyle="",
                markersize=7, label=row["label"],
            )  # fmt: skip
        if log:
            ax.set_xscale("log")
        ax.set_xlabel(x_label)
        ax.set_ylabel(axis_name(metric, separator=" "))
        ax.grid()
        if legend:
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def axis_name(metric: str, *, separator: str = "\n") -> str:
    """Write a metric's name and which way is better, for an axis."""
    known = METRICS.get(metric)
    if known is None:
        return metric
    words = ARROWS.get(known.direction or "", "")
    return f"{known.name}{separator}({words})" if words else known.name


def gap_dumbbells(ax: Axes, p_clip: pd.Series, p_baseline: pd.Series) -> Axes:
    """Draw p(x) and p(x_b) of every clip, joined by a line: the room deletion has.

    Parameters
    ----------
    ax : Axes
    p_clip, p_baseline : Series of float
        Probability of "anomalous" of the clip and of its baseline, by clip.

    Returns
    -------
    Axes
    """
    order = (p_clip - p_baseline).sort_values(ascending=False).index
    y = np.arange(len(order))
    with styled():
        ax.hlines(y, p_baseline[order], p_clip[order], color="#B0B0B0", linewidth=2)
        options = {"linestyle": "", "zorder": 3, "markersize": 5, "clip_on": False}
        ax.plot(
            p_baseline[order], y, marker="s", color="#56B4E9", label="p(x_b), baseline", **options
        )
        ax.plot(p_clip[order], y, marker="o", color="#D55E00", label="p(x), clip", **options)
        ax.set_yticks(y, order)
        ax.set_ylim(len(y) - 0.5, -0.5)
        ax.set_xlim(0, 1)
        ax.set_xlabel("p(anomalous)")
        ax.grid(axis="x")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def time_dots(
    ax: Axes,
    table: pd.DataFrame,
    *,
    labels: Mapping[str, str] | None = None,
    paper: Mapping[str, float] | None = None,
) -> Axes:
    """Draw seconds a clip on a logarithmic scale, the part before any model call apart.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        Index of row keys: ``seconds``, ``seconds_min``, ``seconds_max``, and, as parts of the
        first, ``baseline_seconds`` and ``superpixel_seconds``.
    labels : mapping of str to str, optional
        Names of the rows.
    paper : mapping of str to float, optional
        Published seconds by method, drawn as crosses.

    Returns
    -------
    Axes
    """
    keys = ordered(table.index)
    y = np.arange(len(keys))
    rows = table.loc[keys]
    paper = paper or {}
    with styled():
        ax.hlines(y, rows["seconds_min"], rows["seconds_max"], color="#0072B2", linewidth=2)
        for column, marker, colour, name in (
            ("seconds", "o", "#0072B2", "whole method"),
            ("superpixel_seconds", "s", "#E69F00", "of which superpixels"),
            ("baseline_seconds", "|", "#009E73", "of which baseline"),
        ):
            spent = rows[column].where(rows[column] > 0)
            ax.plot(spent, y, marker, color=colour, label=name, markersize=6)
        if paper:
            ax.plot([paper.get(k, np.nan) for k in keys], y, "x", color="black", label="the paper")
        ax.set_xscale("log")
        ax.set_yticks(y, [(labels or {}).get(key, key) for key in keys])
        ax.set_ylim(len(keys) - 0.5, -0.5)
        ax.set_xlabel("seconds a clip (logarithmic)\n(lower is better)")
        ax.grid(axis="x")
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def _part(table: pd.DataFrame, level: str, metric: str) -> pd.DataFrame:
    part = table[(table["level"] == level) & (table["metric"] == metric)]
    if part.empty:
        there = sorted({f"{a}/{b}" for a, b in zip(table["level"], table["metric"], strict=True)})
        raise ValueError(f"no {level}/{metric} in the table; it has {', '.join(there)}")
    return part


def _grouped(summary: pd.DataFrame) -> list[str]:
    """Rows in the fixed order, references last."""
    keys = ordered(summary.index)
    is_reference = summary["family"] == "reference"
    return [k for k in keys if not is_reference[k]] + [k for k in keys if is_reference[k]]
