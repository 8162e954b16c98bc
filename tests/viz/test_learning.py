import numpy as np
import pandas as pd
import pytest

from vad_helpers.viz import learning, style


@pytest.fixture
def clips():
    rows = [
        ("ped1/Train001", "ped1", 0, 0, "train"),
        ("ped1/Train001", "ped1", 16, 0, "train"),
        ("ped1/Test001", "ped1", 0, 1, "val"),
        ("ped2/Test001", "ped2", 0, 1, "test"),
        ("ped2/Test001", "ped2", 16, 0, "test"),
    ]
    table = pd.DataFrame(rows, columns=["sequence", "scene", "start", "label", "split"])
    return table.assign(n_frames=16)


@pytest.fixture
def history():
    return pd.DataFrame(
        {
            "epoch": [0, 1, 2],
            "train_loss": [0.7, 0.4, 0.1],
            "val_loss": [0.7, 0.5, 0.6],
            "train_accuracy": [0.5, 0.8, 1.0],
            "val_accuracy": [0.5, 0.7, 0.7],
            "val_auc": [0.5, 0.9, 0.8],
            "best": [False, True, False],
        }
    )


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_split_bars_count_clips_and_show_empty_groups(clips):
    _, ax = style.subplots()
    assert learning.split_bars(ax, clips) is ax
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert names == [f"{s}, {c}" for s in ("train", "val", "test") for c in ("ped1", "ped2")]
    normal, anomalous = ([bar.get_width() for bar in bars] for bars in ax.containers)
    assert normal == [2, 0, 0, 0, 0, 1]
    assert anomalous == [0, 0, 1, 0, 0, 1]
    assert legend(ax) == ["normal", "anomalous"]


def test_split_bars_of_one_class_do_not_fail(clips):
    _, ax = style.subplots()
    learning.split_bars(ax, clips[clips["label"] == 0])
    assert [bar.get_width() for bar in ax.containers[0]] == [2, 0, 0, 0, 0, 1]
    assert [bar.get_width() for bar in ax.containers[1]] == [0] * 6


def test_fold_strips_draw_every_clip_on_the_line_of_its_sequence(clips):
    _, ax = style.subplots()
    assert learning.fold_strips(ax, clips) is ax
    normal, anomalous = ax.containers
    assert len(normal) + len(anomalous) == len(clips)
    line = {round(bar.get_y() + bar.get_height() / 2) for bar in normal[:2]}
    assert line == {0}, "both clips of the training sequence stand on the first line"
    assert {text.get_text() for text in ax.texts} == {"train", "val", "test"}


def test_training_curves_count_epochs_from_one_and_mark_the_kept_one(history):
    _, axes = style.subplots(1, 2)
    assert learning.training_curves(axes, history) is axes
    assert axes[0].lines[0].get_xdata().tolist() == [1, 2, 3]
    assert "weights kept" in legend(axes[0])
    marks = [line for line in axes[0].lines if line.get_label() == "weights kept"]
    assert list(marks[0].get_xdata()) == [2, 2]
    assert legend(axes[1])[:3] == ["accuracy, training", "accuracy, validation", "AUC, validation"]


def test_roc_of_a_perfect_and_of_an_inverted_score():
    labels = np.array([0, 0, 1, 1])
    p = np.array([0.1, 0.2, 0.8, 0.9])
    _, ax = style.subplots()
    assert learning.roc_curves(ax, {"good": (labels, p), "bad": (labels, 1 - p)}) is ax
    assert legend(ax) == ["chance", "good: AUC 1.000", "bad: AUC 0.000"]


def test_roc_of_one_class_is_named_and_not_drawn():
    _, ax = style.subplots()
    learning.roc_curves(ax, {"ped2": (np.ones(3), np.array([0.1, 0.5, 0.7]))})
    assert legend(ax) == ["chance", "ped2: one class alone"]
    assert len(ax.lines[1].get_xdata()) == 0


def test_histogram_counts_every_clip_once_a_class():
    labels = np.array([0, 0, 1])
    _, ax = style.subplots()
    assert learning.probability_histogram(ax, labels, np.array([0.0, 0.2, 1.0])) is ax
    bars = [sum(p.get_height() for p in c.patches) for c in ax.containers if len(c.patches) == 20]
    assert bars == [2, 1]
    assert legend(ax) == ["normal clips", "anomalous clips", "decision at .5"]
