"""Charts of data and training: splits, classes, learning curves, ROC curves, probabilities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from vad_helpers.viz.style import CLASS_COLOURS, styled


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
    with styled():
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
    with styled():
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
        ax.set_xlabel("frame of the sequence")
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
    with styled():
        for column, (i, label, colour, dashes) in lines.items():
            axes[i].plot(epoch, history[column], dashes, color=colour, label=label, marker=".")
        for ax, label in zip(
            axes, ("cross-entropy (nats)", "accuracy, AUC (higher is better)"), strict=True
        ):
            for at in best:
                ax.axvline(at, color="#6E6E6E", linewidth=0.8, linestyle=":", label="weights kept")
            ax.set_xlabel("epoch")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
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
    with styled():
        ax.plot([0, 1], [0, 1], color="#B0B0B0", linewidth=0.8, linestyle=":", label="chance")
        for i, (name, (labels, p)) in enumerate(predictions.items()):
            if len(np.unique(labels)) < 2:
                ax.plot([], [], " ", label=f"{name}: one class alone")
                continue
            false_alarms, found, _ = roc_curve(labels, p)
            dashes = ("-", "--", "-.", ":")[i % 4]
            words = f"{name}: AUC {auc(false_alarms, found):.3f}"
            ax.plot(false_alarms, found, dashes, color=colours[i % 4], label=words)
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
    with styled():
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
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return ax
