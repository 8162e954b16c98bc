"""Charts of tables and curves: data, training, scores, faithfulness, stability, cost.

Every function draws into the axes it is given, returns them, and changes nothing else. Means come
with intervals, and the sequences behind a mean are shown as dots, for they are what an interval
is made of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from vad_helpers.viz.style import CLASS_COLOURS, FAMILY_COLOURS, look, ordered, style

ARROWS = {"higher": "higher is better →", "lower": "← lower is better"}


def split_bars(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw how many clips of each class a split has, scene by scene.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        One row a clip: ``split``, ``scene``, ``label`` (1 is anomalous).

    Returns
    -------
    Axes
    """
    counts = table.groupby(["split", "scene", "label"]).size().unstack(fill_value=0)
    groups = [(s, c) for s in ("train", "val", "test") for c in sorted(table["scene"].unique())]
    counts = counts.reindex(groups, fill_value=0).reindex(columns=[0, 1], fill_value=0)
    with style():
        left = np.zeros(len(counts))
        for label, name in enumerate(("normal", "anomalous")):
            width = counts[label].to_numpy()
            bars = ax.barh(range(len(counts)), width, left=left, color=CLASS_COLOURS[name])
            bars.set_label(name)
            left = left + width
            ax.bar_label(bars, labels=[str(w) if w else "" for w in width], label_type="center")
        ax.set_yticks(range(len(counts)), [f"{split}, {scene}" for split, scene in counts.index])
        ax.invert_yaxis()
        ax.set_xlabel("clips")
        ax.legend(loc="upper right", bbox_to_anchor=(1, 1.15), ncols=2)
    return ax


def fold_strips(ax: Axes, table: pd.DataFrame) -> Axes:
    """Draw every clip as a mark: a line a sequence, coloured by class, shaded by split.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        One row a clip: ``sequence``, ``start``, ``n_frames``, ``label``, ``split``.

    Returns
    -------
    Axes
    """
    order = {split: i for i, split in enumerate(("train", "val", "test"))}
    splits = table.groupby("sequence")["split"].first().sort_values(key=lambda s: s.map(order))
    line = {sequence: i for i, sequence in enumerate(splits.index)}
    with style():
        for label, name in enumerate(("normal", "anomalous")):
            part = table[table["label"] == label]
            ax.barh(
                part["sequence"].map(line),
                part["n_frames"] * 0.9,
                left=part["start"],
                height=0.85,
                color=CLASS_COLOURS[name],
                label=f"{name} clip",
            )
        for split, members in splits.groupby(splits, sort=False):
            first, last = line[members.index[0]], line[members.index[-1]]
            ax.axhline(last + 0.5, color="black", linewidth=0.6)
            ax.annotate(
                split,
                (1.01, (first + last) / 2),
                xycoords=("axes fraction", "data"),
                va="center",
            )
        ax.set_yticks([])
        ax.set_ylim(len(line) - 0.5, -0.5)
        ax.set_xlabel("first frame of the clip within its sequence")
        ax.set_ylabel("sequences")
        ax.legend(loc="upper right", bbox_to_anchor=(1, 1.12), ncols=2)
    return ax


def training_curves(axes: Sequence[Axes], history: pd.DataFrame) -> Sequence[Axes]:
    """Draw loss, then accuracy and AUC, against the epoch.

    Parameters
    ----------
    axes : sequence of two Axes
    history : DataFrame
        One row an epoch, from 0: ``epoch``, ``train_loss``, ``val_loss`` (nats),
        ``train_accuracy``, ``val_accuracy``, ``val_auc`` (in [0, 1]), ``best`` (bool).

    Returns
    -------
    sequence of Axes
    """
    epoch = history["epoch"] + 1
    best = epoch[history["best"].astype(bool)]
    lines = {
        "train_loss": (0, "training", "#0072B2", "-"),
        "val_loss": (0, "validation", "#D55E00", "--"),
        "train_accuracy": (1, "accuracy, training", "#0072B2", "-"),
        "val_accuracy": (1, "accuracy, validation", "#D55E00", "--"),
        "val_auc": (1, "AUC, validation", "#009E73", "-."),
    }
    with style():
        for column, (i, label, colour, dashes) in lines.items():
            axes[i].plot(epoch, history[column], dashes, color=colour, label=label, marker=".")
        for ax, label in zip(axes, ("cross-entropy (nats)", "share, or area"), strict=True):
            for at in best:
                ax.axvline(at, color="#6E6E6E", linewidth=0.8, linestyle=":", label="weights kept")
            ax.set_xlabel("epoch")
            ax.set_ylabel(label)
            ax.grid(axis="y")
            ax.legend()
        axes[1].set_ylim(min(0.4, *axes[1].get_ylim()), 1.02)
    return axes


def roc_curves(ax: Axes, predictions: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Axes:
    """Draw ROC curves of probabilities against labels.

    Parameters
    ----------
    ax : Axes
    predictions : mapping of str to (labels, p)
        Name of a curve -> labels (n,), 1 is anomalous; probabilities (n,). A set with one class
        has no curve and is named as such in the legend.

    Returns
    -------
    Axes
    """
    from sklearn.metrics import auc, roc_curve

    colours = ("#000000", "#0072B2", "#D55E00", "#009E73")
    with style():
        ax.plot([0, 1], [0, 1], color="#B0B0B0", linewidth=0.8, linestyle=":", label="chance")
        for i, (name, (labels, p)) in enumerate(predictions.items()):
            if len(np.unique(labels)) < 2:
                ax.plot([], [], " ", label=f"{name}: one class alone")
                continue
            fpr, tpr, _ = roc_curve(labels, p)
            dashes = ("-", "--", "-.", ":")[i % 4]
            words = f"{name}: AUC {auc(fpr, tpr):.3f}"
            ax.plot(fpr, tpr, dashes, color=colours[i % 4], label=words)
        ax.set_xlabel("false alarms among normal clips")
        ax.set_ylabel("detected anomalous clips")
        ax.set_aspect("equal")
        ax.legend(loc="lower right")
    return ax


def probability_histogram(ax: Axes, labels: np.ndarray, p: np.ndarray) -> Axes:
    """Draw the network's probabilities, one outline a class.

    Parameters
    ----------
    ax : Axes
    labels : ndarray of int, (n,)
        1 is anomalous.
    p : ndarray of float, (n,)
        Probability of "anomalous", in [0, 1].

    Returns
    -------
    Axes
    """
    bins = np.linspace(0, 1, 21)
    with style():
        for label, (name, colour) in enumerate(CLASS_COLOURS.items()):
            options = {"bins": bins, "color": colour}
            ax.hist(p[labels == label], alpha=0.35, **options)
            hatch = ("-", "--")[label]
            ax.hist(
                p[labels == label], histtype="step", linestyle=hatch, label=f"{name} clips",
                linewidth=1.4, **options,
            )  # fmt: skip
        ax.axvline(0.5, color="black", linewidth=0.8, linestyle=":", label="decision at .5")
        ax.set_xlabel("p(anomalous)")
        ax.set_ylabel("clips")
        ax.legend()
    return ax


def interval_dots(
    ax: Axes,
    summary: pd.DataFrame,
    scores: pd.DataFrame,
    *,
    level: str,
    metric: str,
    name: str = "",
    direction: str | None = None,
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
    name : str
        For the axis; `metric` by default.
    direction : str, optional
        "higher" or "lower" is better.
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
    with style():
        for y, key in enumerate(keys):
            row = summary.loc[key]
            colour = FAMILY_COLOURS.get(row["family"], "#6E6E6E")
            dots = behind[key] if key in behind.index.get_level_values(0) else []
            ax.plot(dots, np.full(len(dots), y), ".", color=colour, alpha=0.3, markersize=4)
            ax.plot([row["low"], row["high"]], [y, y], "-", color=colour, linewidth=2)
            ax.plot(row["mean"], y, "o", color=colour, markeredgecolor="white", markersize=6)
            if paper and key in paper:
                ax.plot(paper[key], y, "x", color="black", markersize=5)
        first = next((y for y, k in enumerate(keys) if summary.loc[k, "family"] == "reference"), 0)
        ax.axhline(first - 0.5, color="#BBBBBB", linewidth=0.8)
        ax.set_yticks(range(len(keys)), summary.loc[keys, "label"] if labels else [])
        ax.set_ylim(len(keys) - 0.5, -0.5)
        ax.set_xlabel("\n".join(filter(None, (name or metric, ARROWS.get(direction or "")))))
        ax.grid(axis="x")
    return ax


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
    with style():
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

    Returns
    -------
    Axes
    """
    with style():
        ax.axhline(0.5, color="black", linewidth=0.7, linestyle=":", label="chance")
        for key in ordered(aucs):
            drawn = look(key)
            ax.plot(
                1 + np.arange(len(aucs[key])), aucs[key], color=drawn.colour,
                linestyle=drawn.line, marker=drawn.marker, markersize=3.5,
                label=(labels or {}).get(key, key),
            )  # fmt: skip
        ax.set_xlabel("frame of the clip")
        ax.set_ylabel("AUC in the frame (higher is better)")
        ax.set_ylim(-0.02, 1.02)
        ax.grid(axis="y")
        if legend:
            ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


def quality_cost(
    ax: Axes,
    summary: pd.DataFrame,
    seconds: Mapping[str, float],
    *,
    level: str,
    metric: str,
    name: str = "",
) -> Axes:
    """Draw quality against seconds a clip, on a logarithmic scale of time.

    Parameters
    ----------
    ax : Axes
    summary : DataFrame
        ``method``, ``label``, ``family``, ``level``, ``metric``, ``mean``, ``low``, ``high``.
    seconds : mapping of str to float
        By key of the row; rows without are left out.
    level, metric : str
        Which quality.
    name : str
        For the axis; `metric` by default.

    Returns
    -------
    Axes

    Raises
    ------
    ValueError
        If there is nothing to draw.
    """
    summary = _part(summary, level, metric).set_index("method")
    with style():
        for key in ordered(k for k in summary.index if k in seconds):
            row, drawn = summary.loc[key], look(key, summary.loc[key, "family"])
            ax.plot([seconds[key]] * 2, [row["low"], row["high"]], "-", color=drawn.colour)
            ax.plot(
                seconds[key], row["mean"], color=drawn.colour, marker=drawn.marker, linestyle="",
                markersize=7, label=row["label"],
            )  # fmt: skip
        ax.set_xscale("log")
        ax.set_xlabel("seconds a clip (logarithmic) ← lower is better")
        ax.set_ylabel(f"{name or metric}")
        ax.grid()
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax


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
    with style():
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


def time_bars(ax: Axes, table: pd.DataFrame, *, labels: Mapping[str, str] | None = None) -> Axes:
    """Draw seconds a clip, one bar a row, baseline and superpixels marked apart.

    Parameters
    ----------
    ax : Axes
    table : DataFrame
        Index of row keys: ``seconds``, of which ``baseline_seconds`` and ``superpixel_seconds``.
    labels : mapping of str to str, optional
        Names of the rows.

    Returns
    -------
    Axes
    """
    keys = ordered(table.index)
    y = np.arange(len(keys))
    with style():
        left = np.zeros(len(keys))
        shares = table.loc[keys].fillna(0)
        parts = {
            "baseline": (shares["baseline_seconds"], "#56B4E9"),
            "superpixels": (shares["superpixel_seconds"], "#E69F00"),
        }
        rest = shares["seconds"] - shares["baseline_seconds"] - shares["superpixel_seconds"]
        parts["model and method"] = (rest.clip(lower=0), "#0072B2")
        for name, (width, colour) in parts.items():
            ax.barh(y, width / shares["seconds"], left=left, color=colour, label=name)
            left = left + (width / shares["seconds"]).to_numpy()
        for at, key in zip(y, keys, strict=True):
            ax.text(1.01, at, f"{table.loc[key, 'seconds']:.3g} s", va="center", fontsize=8)
        ax.set_yticks(y, [(labels or {}).get(key, key) for key in keys])
        ax.invert_yaxis()
        ax.set_xlim(0, 1)
        ax.set_xlabel("share of the method's seconds")
        ax.legend(loc="upper left", bbox_to_anchor=(1.14, 1))
    return ax


def _part(table: pd.DataFrame, level: str, metric: str) -> pd.DataFrame:
    part = table[(table["level"] == level) & (table["metric"] == metric)]
    if part.empty:
        there = sorted({f"{a}/{b}" for a, b in zip(table["level"], table["metric"], strict=True)})
        raise ValueError(f"no {level}/{metric} in the table; it has {', '.join(there)}")
    return part


def _grouped(summary: pd.DataFrame) -> list[str]:
    """Rows in the fixed order, each variant after its method, references last."""
    family = summary["family"]
    keys = list(summary.index)
    methods = [key for key in ordered(keys) if family[key] != "reference"]
    plain = [key for key in methods if not _parent(key, methods)]
    out = []
    for key in plain:
        out += [key, *(k for k in methods if _parent(k, methods) == key)]
    return out + [key for key in ordered(keys) if family[key] == "reference"]


def _parent(key: str, keys: Sequence[str]) -> str | None:
    parents = [k for k in keys if key.startswith(f"{k}_") and key not in ("ig_smoothgrad",)]
    return max(parents, key=len, default=None)
