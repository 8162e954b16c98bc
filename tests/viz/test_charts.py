import numpy as np
import pandas as pd
import pytest

from vad_helpers.viz import charts, style

ROWS = pd.DataFrame(
    {
        "row": ["ig", "lime", "occlusion_sp", "many", "motion", "random"],
        "label": ["IG", "LIME", "Small", "LIME, many", "Frame difference", "Random"],
        "family": ["gradient", *["perturbation"] * 3, *["reference"] * 2],
        "of": ["ig", "lime", "occlusion_sp", "lime", "", ""],
    }
)
AUC = {"level": "clip", "metric": "auc"}


@pytest.fixture
def ax():
    return style.subplots()[1]


@pytest.fixture
def axes():
    return style.subplots(1, 3)[1]


@pytest.fixture
def summary():
    mean = 0.6 + 0.01 * np.arange(len(ROWS))
    return ROWS.iloc[[4, 0, 1, 2, 3, 5]].assign(**AUC, mean=mean, low=0.5, high=0.7)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def ticks(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def marked(ax, marker):
    return [line for line in ax.lines if line.get_marker() == marker]


def test_dots_stand_in_order_with_sequences_intervals_and_colours_of_families(ax, summary):
    lines = [(f"s{i}", row, 0.5 + 0.1 * i) for row in ROWS["row"] for i in (0, 1, 2, 2)]
    scores = pd.DataFrame(lines, columns=["sequence", "row", "value"]).assign(**AUC)
    charts.interval_dots(ax, summary, scores, **AUC, paper={"ig": 0.9})
    # Variants follow their method, references come last, below a rule.
    assert ticks(ax) == ["IG", "LIME", "LIME, many", "Small", "Frame difference", "Random"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is on top"
    assert ax.lines[-1].get_ydata()[0] == 3.5
    dots, interval, mean, paper = ax.lines[:4]
    assert np.allclose(sorted(dots.get_xdata()), [0.5, 0.6, 0.7])
    assert list(interval.get_xdata()) == [0.5, 0.7]
    assert mean.get_xdata()[0] == pytest.approx(0.61) and paper.get_xdata()[0] == 0.9
    expected = [style.FAMILY_COLOURS[family] for family in ROWS["family"]]
    assert [line.get_color() for line in marked(ax, "o")] == expected
    with pytest.raises(ValueError, match="no clip/iou in the table; it has clip/auc"):
        charts.interval_dots(ax, summary, level="clip", metric="iou")
    assert "higher is better" in ax.get_xlabel()
    assert "lower is better" in charts.axis_name("insertion")
    assert charts.axis_name("mine") == "mine" and "better" not in charts.axis_name("mean_area")


def test_a_rank_has_its_dot_inside_the_ranks_it_takes_and_may_stand_alone(axes):
    ranks = ROWS.iloc[[0, 5]].assign(rank=[1, 2], rank_median=1.0, rank_low=1.0, rank_high=[2, 3])
    ax = charts.rank_spans(axes[0], ranks)
    assert ticks(ax) == ["IG", "Random"]
    assert [line.get_xdata().tolist() for line in ax.lines[0::3]] == [[1, 2], [1, 3]]
    alone = charts.rank_spans(axes[1], ranks.assign(rank_median=np.nan, rank_low=np.nan))
    for drawn in (ax, alone):
        assert [line.get_xdata()[0] for line in drawn.lines[2::3]] == [1, 2]


def test_curves_are_means_over_the_clips_that_all_rows_have(axes):
    lines = [("a", "lime", "0 1"), ("b", "lime", "0 3"), ("x", "lime", "0 99")]
    lines += [("a", "ig", np.zeros(2)), ("b", "ig", np.zeros(2))]
    curves = pd.DataFrame(lines, columns=["clip_id", "row", "values"]).assign(curve="c")
    ax = charts.fidelity_curves(axes[0], curves, curve="c", rows=ROWS)
    assert legend(ax) == ["IG", "LIME"]
    assert ax.lines[1].get_ydata().tolist() == [0, 2], "IG has no clip x"
    assert ax.lines[1].get_xdata().tolist() == [1, 0]
    assert ax.get_xlim()[0] > ax.get_xlim()[1], "the threshold falls"
    own = charts.fidelity_curves(axes[1], curves, curve="c", x=np.array([3, 4]))
    assert own.lines[1].get_xdata().tolist() == [3, 4]
    apart = curves.assign(clip_id=curves["row"] + curves["clip_id"])
    with pytest.raises(ValueError, match="no clip has the curve 'c' for all rows"):
        charts.fidelity_curves(axes[2], apart, curve="c")


def test_frame_aucs_leave_gaps_start_at_frame_one_and_compare_the_same_clips(ax):
    lines = [("a", "ig", 0, 0.5), ("a", "ig", 2, 1.0), ("a", "lime", 0, 0.25), ("b", "lime", 0, 1)]
    table = pd.DataFrame(lines, columns=["clip_id", "row", "frame", "auc"])
    charts.frame_auc_lines(ax, table, rows=ROWS)
    assert legend(ax) == ["chance", "IG", "LIME"]
    ig, lime = ax.lines[1:]
    assert ig.get_xdata().tolist() == [1, 2, 3]
    np.testing.assert_array_equal(ig.get_ydata(), [0.5, np.nan, 1.0])
    assert lime.get_ydata()[0] == 0.25, "clip b has no map of IG"
    with pytest.raises(ValueError, match="draw fewer rows"):
        charts.frame_auc_lines(ax, table.iloc[[0, 3]])


def test_quality_is_drawn_for_rows_with_a_cost_alone_and_joined_to_the_papers(ax, summary):
    x = {"ig": 4.0, "lime": 2.0, "stranger": 3.0}
    paper = pd.DataFrame({"x": [10.7], "quality": [0.68]}, index=["ig"])
    charts.quality_against(ax, summary, x, **AUC, x_label="s", log=True, paper=paper)
    assert ax.get_xscale() == "log" and legend(ax) == ["IG", "LIME"]
    joined = [line for line in ax.lines if line.get_alpha() == 0.5]
    assert [list(line.get_xdata()) for line in joined] == [[10.7, 4.0]]
    assert [list(line.get_ydata()) for line in joined] == [[0.68, 0.61]]


def test_gaps_are_sorted_from_the_largest(ax):
    p = pd.Series({"a": 0.9, "b": 0.8, "c": 0.5})
    charts.gap_dumbbells(ax, p, pd.Series({"c": 0.6, "b": 0.1, "a": 0.7}))
    assert ticks(ax) == ["b", "a", "c"]
    assert [list(line.get_xdata()) for line in ax.lines[:2]] == [[0.1, 0.7, 0.6], [0.8, 0.9, 0.5]]


def test_time_dots_show_parts_only_where_there_are_any(ax):
    seconds = {"seconds": [2.0, 4.0], "seconds_min": [1.0, 3.0], "seconds_max": [3.0, 5.0]}
    parts = {"baseline_seconds": [0.1, 0.1], "superpixel_seconds": [0.2, 0.0]}
    charts.time_dots(ax, ROWS.iloc[[1, 0]].assign(**seconds, **parts), paper={"ig": 10.7})
    assert ticks(ax) == ["LIME", "IG"], "in the order of the table"
    lines = {line.get_label(): line.get_xdata() for line in ax.lines}
    assert lines["whole method"].tolist() == [2.0, 4.0]
    np.testing.assert_array_equal(lines["of which superpixels"], [0.2, np.nan])
    np.testing.assert_array_equal(lines["the paper"], [np.nan, 10.7])


CLIPS = pd.DataFrame(
    {
        "sequence": [*["ped1/Train001"] * 2, "ped1/Test001", *["ped2/Test001"] * 2],
        "scene": [*["ped1"] * 3, *["ped2"] * 2],
        "start": [0, 16, 0, 0, 16],
        "n_frames": 16,
        "label": [0, 0, 1, 1, 0],
        "split": ["train", "train", "val", "test", "test"],
    }
)


def test_bars_count_clips_of_empty_groups_too_and_strips_show_each_on_its_sequences_line(axes):
    ax = charts.split_bars(axes[0], CLIPS)
    assert ticks(ax) == [f"{s}, {c}" for s in ("train", "val", "test") for c in ("ped1", "ped2")]
    counts = [[bar.get_width() for bar in bars] for bars in ax.containers]
    assert counts == [[2, 0, 0, 0, 0, 1], [0, 0, 1, 0, 0, 1]]
    normal, anomalous = charts.fold_strips(axes[1], CLIPS).containers
    assert len(normal) + len(anomalous) == len(CLIPS)
    # Both clips of the training sequence stand on the first line.
    assert {round(bar.get_y() + bar.get_height() / 2) for bar in normal[:2]} == {0}


def test_training_curves_mark_the_kept_epoch_and_of_several_folds_show_validation_alone(axes):
    history = pd.DataFrame({"epoch": [0, 1], "val_auc": [0.3, 0.9], "chosen": [False, True]})
    for column in ("train_loss", "val_loss", "train_accuracy", "val_accuracy"):
        history[column] = [0.7, 0.5]
    loss, quality = charts.training_curves(axes[:2], history)
    assert legend(loss) == ["validation", "training"]
    assert loss.lines[0].get_xdata().tolist() == [1, 2]
    assert [line.get_xdata().tolist() for line in marked(loss, "o")] == [[2], [2]]
    assert quality.get_ylim()[0] < 0.3, "what is worse than chance is seen too"
    folds = pd.concat([history.assign(fold=0), history.assign(fold=3)])
    loss, quality = charts.training_curves(style.subplots(1, 2)[1], folds)
    assert legend(loss) == legend(quality) == ["fold 0", "fold 3"]
    alone = folds.assign(val_auc=np.nan, val_loss=np.nan, train_loss=[0.6, 0.4, 0.8, 0.7])
    loss, quality = charts.training_curves(style.subplots(1, 2)[1], alone)
    assert quality.get_ylabel().startswith("training")
    assert loss.lines[2].get_ydata().tolist() == [0.8, 0.7]


def test_roc_curves_are_pooled_and_by_scene_and_a_histogram_counts_every_clip_once(axes):
    predictions = pd.DataFrame({"label": [0, 0, 1, 1, 1], "p": [0.0, 0.2, 0.8, 1.0, 0.15]})
    ax = charts.roc_curves(axes[0], predictions.assign(scene=["ped1"] * 4 + ["ped2"]))
    assert legend(ax) == ["chance", "all: AUC 0.833", "ped1: AUC 1.000", "ped2: one class alone"]
    assert len(ax.lines[-1].get_xdata()) == 0
    bars = charts.probability_histogram(axes[1], predictions).containers
    counts = [sum(p.get_height() for p in c.patches) for c in bars if len(c.patches) == 20]
    assert counts == [2, 3]


def test_tau_grid_has_a_line_an_alternative_and_leaves_out_what_was_not_measured(ax):
    lines = [("signs", "abs", "clip", "auc", -0.2, 10), ("signs", "abs", "clip", "iou", 1.0, 9),
             ("samples", "many", "clip", "auc", 0.5, 40)]  # fmt: skip
    columns = ["choice", "alternative", "level", "metric", "tau", "n"]
    charts.tau_grid(ax, pd.DataFrame(lines, columns=columns))
    assert ticks(ax) == ["signs: abs (10)", "samples: many (40)"]
    assert [text.get_text() for text in ax.texts] == ["-0.20", "1.00", "0.50"]
    assert ax.images[0].get_array().mask.tolist() == [[False, False], [False, True]]
