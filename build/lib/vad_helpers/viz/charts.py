"""Charts of scores, of what they cost, and of data and training: DataFrames in, axes out.

Every function draws into the axes it is given, returns them, and changes nothing else. Tables are
those of `vad_helpers.tables`: ``row`` names what was scored. Means come with intervals, and the
sequences behind a mean are shown as dots, for they are what an interval is made of.

Rows stand in the order of their table, each variant after its method where ``of`` names it,
references last. Tables of measurements have no names for people: `rows`, a table with ``row``,
``label``, ``family`` and ``of`` such as ``Study.rows``, brings them, and its order; without it,
rows are labelled by their keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from pandas import DataFrame, Series
from sklearn.metrics import auc, roc_curve

from vad_helpers.metrics.catalog import METRICS
from vad_helpers.viz.style import CLASS_COLOURS, FAMILY_COLOURS, GREY, look, styled

_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7")
_DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def axis_name(metric: str, *, separator: str = "\n") -> str:
    """Write a metric's name and which way is better, for an axis."""
    known = METRICS.get(metric)
    if known is None or known.direction is None:
        return known.name if known else metric
    return f"{known.name}{separator}({known.direction} is better)"


def _arranged(table: DataFrame, rows: DataFrame | None = None) -> DataFrame:
    """Give label, family and method behind (`of`) of every row of `table`, in drawing order."""
    present = table["row"].drop_duplicates()
    about = (table if rows is None else rows).drop_duplicates("row").set_index("row")
    about = about.reindex(columns=["label", "family", "of"])
    order = [*about.index[about.index.isin(present)], *present[~present.isin(about.index)]]
    about = about.reindex(order).astype(object)
    about["label"] = about["label"].fillna(about.index.to_series())
    about = about.fillna("")
    method = about["of"].where(about["of"].isin(order), about.index.to_series())
    place = about.index.get_indexer(method)
    return about.iloc[np.lexsort([place, about["family"] == "reference"])]


def _looks(about: DataFrame) -> dict[str, dict]:
    return {one.Index: look(one.Index, family=one.family, of=one.of) for one in about.itertuples()}


def _finish(ax: Axes, x: str, y: str = "", *, grid: str = "both", legend: bool = True) -> None:
    ax.set(xlabel=x, ylabel=y)
    ax.grid(axis=grid)
    if legend:
        ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))


def _stack(ax: Axes, labels: Sequence[str]) -> None:
    """Name lines below each other, the first on top."""
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.5, -0.5)


def _part(table: DataFrame, level: str, metric: str) -> DataFrame:
    part = table[(table["level"] == level) & (table["metric"] == metric)]
    if part.empty:
        there = sorted(set(table["level"] + "/" + table["metric"]))
        raise ValueError(f"no {level}/{metric} in the table; it has {', '.join(there)}")
    return part


def interval_dots(
    ax: Axes,
    summary: DataFrame,
    scores: DataFrame | None = None,
    *,
    level: str,
    metric: str,
    labels: bool = True,
    paper: Mapping[str, float] | None = None,
) -> Axes:
    """Draw mean and interval of every row, with its sequences as dots; references below a rule.

    Drawn is `metric` at `level`, ValueError if there is none; `labels` writes the rows' names.

    Parameters
    ----------
    ax : Axes
    summary : DataFrame
        ``row``, ``label``, ``family``, ``level``, ``metric``, ``mean``, ``low``, ``high``, and
        ``of`` where variants are to stand after their methods.
    scores : DataFrame, optional
        Scores behind it: ``sequence``, ``row``, ``level``, ``metric``, ``value``.
    paper : mapping of str to float, optional
        Published means by row, drawn as crosses.
    """
    summary = _part(summary, level, metric)
    about = _arranged(summary)
    summary = summary.set_index("row")
    behind = {}
    if scores is not None:
        means = _part(scores, level, metric).groupby(["row", "sequence"])["value"].mean()
        behind = {row: part.to_numpy() for row, part in means.groupby("row")}
    with styled():
        for y, row in enumerate(about.index):
            line, colour = summary.loc[row], FAMILY_COLOURS.get(about.at[row, "family"], GREY)
            dots = behind.get(row, np.array([]))
            # A little lower than the interval, which would hide them.
            ax.plot(dots, np.full(len(dots), y + 0.25), ".", color=colour, alpha=0.5, markersize=4)
            ax.plot([line["low"], line["high"]], [y, y], "-", color=colour, linewidth=2)
            ax.plot(line["mean"], y, "o", color=colour, markeredgecolor="white", markersize=6)
            if paper is not None and row in paper:
                ax.plot(paper[row], y, "x", color="black", markersize=5)
        n_others = int((about["family"] != "reference").sum())
        if n_others < len(about):
            ax.axhline(n_others - 0.5, color="#BBBBBB", linewidth=0.8)
        _stack(ax, about["label"] if labels else [""] * len(about))
        _finish(ax, axis_name(metric), grid="x", legend=False)
    return ax


def rank_spans(ax: Axes, ranks: DataFrame, *, title: str = "") -> Axes:
    """Draw the ranks that rows hold when sequences are drawn anew: which orders are firm.

    `ranks`, best rank first: ``row``, ``label``, ``rank``, ``rank_median``, ``rank_low``,
    ``rank_high``; NaN (one sequence) draws the rank alone. Colours are those of ``family`` where it
    is there, else each row has its own. Rank 1 is at the left and on top.
    """
    with styled():
        for y, line in enumerate(ranks.itertuples()):
            family = getattr(line, "family", None)
            colour = FAMILY_COLOURS.get(family, GREY) if family else look(line.row)["color"]
            ax.plot([line.rank_low, line.rank_high], [y, y], "-", color=colour, linewidth=2)
            ax.plot(line.rank_median, y, "|", color=colour, markersize=8, markeredgewidth=2)
            ax.plot(line.rank, y, "o", color=colour, markeredgecolor="white", markersize=6)
        _stack(ax, ranks["label"])
        ax.set(xlim=(0.5, len(ranks) + 0.5), title=title)
        _finish(ax, "rank (1 is best)", grid="x", legend=False)
    return ax


def fidelity_curves(
    ax: Axes,
    curves: DataFrame,
    *,
    curve: str,
    x: np.ndarray | None = None,
    rows: DataFrame | None = None,
    x_label: str = "threshold on E+ / max E+",
    y_label: str = "",
    legend: bool = True,
) -> Axes:
    """Draw deletion or insertion curves, averaged over the clips that all rows have.

    ValueError if there is no such curve, or no clip that all rows have.

    Parameters
    ----------
    ax : Axes
    curves : DataFrame
        ``clip_id``, ``row``, ``curve``, ``values``: (n_points,) numbers, as an array or as text.
    curve : str
        Which: "threshold_deletion_curve", ...; its name is written where `y_label` is empty.
    x : ndarray, (n_points,), optional
        Positions; None is the falling threshold, from 1 to 0, as curves over thresholds are kept.
    rows : DataFrame, optional
    """
    part = curves[curves["curve"] == curve]
    wide = part.pivot(index="clip_id", columns="row", values="values").dropna()
    if wide.empty:
        raise ValueError(f"no clip has the curve {curve!r} for all rows; draw fewer rows")
    about = _arranged(part, rows)
    with styled():
        for row, drawn in _looks(about).items():
            found = [np.array(v.split() if isinstance(v, str) else v, float) for v in wide[row]]
            mean = np.mean(found, axis=0)
            at = np.linspace(1, 0, len(mean)) if x is None else x
            marks = {"markevery": max(1, len(mean) // 6), "markersize": 4, **drawn}
            ax.plot(at, mean, label=about.at[row, "label"], **marks)
        if x is None:
            ax.set_xlim(1.04, -0.04)
        _finish(ax, x_label, y_label or curve.replace("_", " "), legend=legend)
    return ax


def frame_auc_lines(
    ax: Axes, frame_auc: DataFrame, *, rows: DataFrame | None = None, legend: bool = True
) -> Axes:
    """Draw the AUC of every frame, averaged over the clips that all rows have: one line a row.

    `frame_auc`, of all clips or of one alone: ``clip_id``, ``row``, ``frame`` (from 0), ``auc`` in
    [0, 1]. Frames in which no clip has an AUC leave a gap. ValueError if no clip has all rows.
    """
    n_rows = frame_auc.groupby("clip_id")["row"].transform("nunique")
    part = frame_auc[n_rows == frame_auc["row"].nunique()]
    if part.empty:
        raise ValueError("no clip has an AUC of its frames for all rows; draw fewer rows")
    about = _arranged(part, rows)
    wide = part.pivot_table(index="frame", columns="row", values="auc", dropna=False)
    wide = wide.reindex(range(int(frame_auc["frame"].max()) + 1))
    with styled():
        ax.axhline(0.5, color="black", linewidth=0.7, linestyle=":", label="chance")
        for row, drawn in _looks(about).items():
            label = about.at[row, "label"]
            ax.plot(1 + wide.index, wide[row], markersize=3.5, label=label, **drawn)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylim(-0.02, 1.02)
        words = "AUC in the frame (higher is better)"
        _finish(ax, "frame of the clip", words, grid="y", legend=legend)
    return ax


def quality_against(
    ax: Axes,
    summary: DataFrame,
    x: Mapping[str, float],
    *,
    level: str,
    metric: str,
    x_label: str,
    log: bool = False,
    paper: DataFrame | None = None,
    legend: bool = True,
) -> Axes:
    """Draw `metric` at `level`, with its interval, against what it costs or comes from.

    ValueError if there is nothing to draw.

    Parameters
    ----------
    ax : Axes
    summary : DataFrame
        As `interval_dots` takes it.
    x : mapping of str to float
        By row; rows without are left out.
    x_label : str
        Quantity and unit of `x`.
    paper : DataFrame, optional
        Index of rows, ``x`` and ``quality``: published points, open marks that are joined to ours.
    """
    summary = _part(summary, level, metric)
    about = _arranged(summary)
    summary = summary.set_index("row")
    with styled():
        for row, drawn in _looks(about).items():
            if row not in x:
                continue
            line, drawn = summary.loc[row], {**drawn, "linestyle": ""}
            ax.plot([x[row]] * 2, [line["low"], line["high"]], "-", color=drawn["color"])
            if paper is not None and row in paper.index:
                theirs = paper.loc[row]
                joined = [theirs["x"], x[row]], [theirs["quality"], line["mean"]]
                ax.plot(*joined, "-", color=drawn["color"], linewidth=1, alpha=0.5)
                ax.plot(theirs["x"], theirs["quality"], markerfacecolor="white", **drawn)
            ax.plot(x[row], line["mean"], markersize=7, label=line["label"], **drawn)
        if log:
            ax.set_xscale("log")
        _finish(ax, x_label, axis_name(metric, separator=" "), legend=legend)
        if legend and paper is not None:
            ax.get_legend().set_title("open: the paper\nfilled: here")
    return ax


def gap_dumbbells(ax: Axes, p_clip: Series, p_baseline: Series) -> Axes:
    """Draw p(x) and p(x_b) of every clip, joined by a line: the room deletion has.

    Both are probabilities of "anomalous" in [0, 1], by clip; the largest gap is on top.
    """
    order = (p_clip - p_baseline).sort_values(ascending=False).index
    y = np.arange(len(order))
    with styled():
        ax.hlines(y, p_baseline[order], p_clip[order], color="#B0B0B0", linewidth=2)
        marks = {"zorder": 3, "markersize": 5, "clip_on": False}
        ax.plot(p_baseline[order], y, "s", color="#56B4E9", label="p(x_b), baseline", **marks)
        ax.plot(p_clip[order], y, "o", color="#D55E00", label="p(x), clip", **marks)
        _stack(ax, order)
        ax.set_xlim(0, 1)
        _finish(ax, "p(anomalous)", grid="x")
    return ax


def tau_grid(ax: Axes, taus: DataFrame) -> Axes:
    """Draw Kendall's tau of rankings, a line an alternative, a column a ranking.

    `taus`: ``choice``, ``alternative``, ``level``, ``metric``, ``tau`` in [-1, 1], ``n`` (clips).
    Blue is the same order, white none, red the reverse; a cell that was not measured is grey.
    """
    taus = taus.assign(ranking=taus["metric"] + "\n" + taus["level"])
    taus["ranking"] = taus["ranking"].str.replace("area_matched_", "equal area\n")
    keys = ["choice", "alternative"]
    wide = taus.pivot_table(index=keys, columns="ranking", values="tau", sort=False)
    n = taus.groupby(keys, sort=False)["n"].max().reindex(wide.index)
    with styled():
        ax.set_facecolor("#DDDDDD")
        ax.imshow(wide, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
        for y, x in np.argwhere(wide.notna().to_numpy()):
            tau = wide.iat[y, x]
            colour = "white" if abs(tau) > 0.7 else "black"
            ax.text(x, y, f"{tau:.2f}", ha="center", va="center", fontsize=7, color=colour)
        _stack(ax, [f"{c}: {a} ({k})" for (c, a), k in n.items()])
        ax.set_xticks(range(wide.shape[1]), wide.columns, fontsize=7)
        ax.xaxis.tick_top()
    return ax


def time_dots(ax: Axes, costs: DataFrame, *, paper: Mapping[str, float] | None = None) -> Axes:
    """Draw seconds a clip on a logarithmic scale, the part before any model call apart.

    `costs`: ``row``, ``label``, ``family``, ``seconds``, ``seconds_min``, ``seconds_max``, and, as
    parts of the first, ``baseline_seconds`` and ``superpixel_seconds``. `paper`: published seconds
    by row, drawn as crosses.
    """
    about = _arranged(costs)
    costs, y = costs.set_index("row").loc[about.index], np.arange(len(about))
    with styled():
        ax.hlines(y, costs["seconds_min"], costs["seconds_max"], color="#0072B2", linewidth=2)
        for column, marker, colour, name in (
            ("seconds", "o", "#0072B2", "whole method"),
            ("superpixel_seconds", "s", "#E69F00", "of which superpixels"),
            ("baseline_seconds", "|", "#009E73", "of which baseline"),
        ):
            spent = costs[column].where(costs[column] > 0)
            ax.plot(spent, y, marker, color=colour, label=name, markersize=6)
        if paper is not None:
            theirs = [paper.get(row, np.nan) for row in about.index]
            ax.plot(theirs, y, "x", color="black", label="the paper")
        ax.set_xscale("log")
        _stack(ax, about["label"])
        _finish(ax, "seconds a clip (logarithmic)\n(lower is better)", grid="x")
    return ax


def split_bars(ax: Axes, clips: DataFrame) -> Axes:
    """Draw how many clips of each class a split has, scene by scene.

    `clips`, one line a clip: ``split``, ``scene``, ``label`` (1 is anomalous).
    """
    counts = clips.groupby(["split", "scene", "label"]).size().unstack(fill_value=0)
    groups = [(s, c) for s in ("train", "val", "test") for c in sorted(clips["scene"].unique())]
    counts = counts.reindex(index=groups, columns=[0, 1], fill_value=0)
    with styled():
        for label, (name, colour) in enumerate(CLASS_COLOURS.items()):
            width, left = counts[label], counts[0] * label
            bars = ax.barh(range(len(counts)), width, left=left, color=colour, label=name)
            ax.bar_label(bars, labels=[str(w) if w else "" for w in width], label_type="center")
        ax.set_yticks(range(len(counts)), [f"{split}, {scene}" for split, scene in groups])
        ax.invert_yaxis()
        ax.set_xlabel("clips")
        ax.legend(loc="upper right", bbox_to_anchor=(1, 1.15), ncols=2)
    return ax


def fold_strips(ax: Axes, clips: DataFrame) -> Axes:
    """Draw every clip as a mark: a line a sequence, coloured by class, grouped by split.

    `clips`, one line a clip: ``sequence``, ``start``, ``n_frames``, ``label``, ``split``.
    """
    order = {split: i for i, split in enumerate(("train", "val", "test"))}
    splits = clips.groupby("sequence")["split"].first().sort_values(key=lambda s: s.map(order))
    line = {sequence: i for i, sequence in enumerate(splits.index)}
    with styled():
        for label, (name, colour) in enumerate(CLASS_COLOURS.items()):
            part = clips[clips["label"] == label]
            marks = {"height": 0.85, "color": colour, "label": f"{name} clip"}
            y, width = part["sequence"].map(line), part["n_frames"] * 0.9
            ax.barh(y, width, left=part["start"], **marks)
        for split, members in splits.groupby(splits, sort=False):
            first, last = line[members.index[0]], line[members.index[-1]]
            ax.axhline(last + 0.5, color="black", linewidth=0.6)
            place = {"xycoords": ("axes fraction", "data"), "va": "center"}
            ax.annotate(split, (1.01, (first + last) / 2), **place)
        ax.set(yticks=[], ylim=(len(line) - 0.5, -0.5))
        ax.set(xlabel="frame of the sequence", ylabel="sequences")
        ax.legend(loc="upper right", bbox_to_anchor=(1, 1.12), ncols=2)
    return ax


def training_curves(axes: Sequence[Axes], history: DataFrame) -> Sequence[Axes]:
    """Draw losses, then accuracies and AUC, against the epoch; of several folds, validation alone,
    or training where nothing validated.

    `axes` are two. `history`, one line an epoch, from 0: ``epoch``, ``train_loss``, ``val_loss``
    (nats), ``train_accuracy``, ``val_accuracy``, ``val_auc`` (in [0, 1]), ``chosen`` (the epoch
    whose weights were kept), and ``fold`` where there are several.
    """
    folds = list(history.groupby("fold")) if "fold" in history else [(0, history)]
    several = len(folds) > 1
    validated = bool(history["val_auc"].notna().any())
    lines = [(0, "val_loss", "validation"), (1, "val_auc", "AUC, validation")] * validated
    if not several or not validated:
        lines += [(0, "train_loss", "training"), (1, "train_accuracy", "accuracy, training")]
    if not several:
        lines += [(1, "val_accuracy", "accuracy, validation")] * validated
    with styled():
        for n, (fold, part) in enumerate(folds):
            kept = part[part["chosen"].astype(bool)]
            for m, (i, column, name) in enumerate(lines):
                k = (n if several else m) % len(_COLOURS)
                marks = {"color": _COLOURS[k], "linestyle": _DASHES[k]}
                label = f"fold {fold}" if several else name
                axes[i].plot(part["epoch"] + 1, part[column], label=label, **marks)
                axes[i].plot(kept["epoch"] + 1, kept[column], marker="o", **marks)
        whose = ("validation " if validated else "training ") if several else ""
        scores = ("AUC" if several else "accuracy, AUC") if validated else "accuracy"
        names = f"{whose}cross-entropy (nats)", f"{whose}{scores} (higher is better)"
        for ax, name in zip(axes, names, strict=True):
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            _finish(ax, "epoch (dot: weights kept)", name, grid="y", legend=False)
            ax.legend()
        axes[1].set_ylim(min(0.4, axes[1].get_ylim()[0]), 1.02)
    return axes


def roc_curves(ax: Axes, predictions: DataFrame, *, by: str = "scene") -> Axes:
    """Draw the ROC curve of all clips, and one for each value of the column `by`.

    `predictions`, one line a clip: ``label`` (1 is anomalous), ``p`` in [0, 1]. A part with one
    class has no curve and is named as such in the legend.
    """
    parts = [("all", predictions), *predictions.groupby(by)]
    with styled():
        ax.plot([0, 1], [0, 1], color="#B0B0B0", linewidth=0.8, linestyle=":", label="chance")
        for i, (name, part) in enumerate(parts):
            if part["label"].nunique() < 2:
                ax.plot([], [], " ", label=f"{name}: one class alone")
                continue
            false_alarms, found, _ = roc_curve(part["label"], part["p"])
            k, words = i % len(_COLOURS), f"{name}: AUC {auc(false_alarms, found):.3f}"
            ax.plot(false_alarms, found, color=_COLOURS[k], linestyle=_DASHES[k], label=words)
        ax.set(xlabel="false alarms among normal clips", ylabel="detected anomalous clips")
        ax.set_aspect("equal")
        ax.legend(loc="lower right")
    return ax


def probability_histogram(ax: Axes, predictions: DataFrame) -> Axes:
    """Draw the network's probabilities, one outline a class.

    `predictions`, one line a clip: ``label`` (1 is anomalous), ``p`` in [0, 1].
    """
    with styled():
        for label, (name, colour) in enumerate(CLASS_COLOURS.items()):
            p = predictions.loc[predictions["label"] == label, "p"]
            options = {"bins": np.linspace(0, 1, 21), "color": colour}
            line = {"histtype": "step", "linestyle": ("-", "--")[label], "linewidth": 1.4}
            ax.hist(p, alpha=0.35, **options)
            ax.hist(p, label=f"{name} clips", **options, **line)
        ax.axvline(0.5, color="black", linewidth=0.8, linestyle=":", label="decision at .5")
        ax.set(xlabel="p(anomalous)", ylabel="clips")
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return ax
