import types

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from vad_helpers.viz import figures, style

FAMILIES = {
    "random": "reference",
    "lime": "perturbation",
    "ig": "gradient",
    "motion": "reference",
    "lime_converged": "perturbation",
}


@pytest.fixture
def scores():
    rows = [
        (f"ped1/Test00{s}", key, "clip", "auc", 0.5 + 0.1 * s)
        for key in FAMILIES
        for s in range(3)
        for _ in range(2)
    ]
    return pd.DataFrame(rows, columns=["sequence", "method", "level", "metric", "value"])


@pytest.fixture
def summary():
    rows = [
        (key, key.upper(), family, "clip", "auc", 0.6 + 0.01 * i, 0.5, 0.7)
        for i, (key, family) in enumerate(FAMILIES.items())
    ]
    columns = ["method", "label", "family", "level", "metric", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def ticks(ax):
    return [label.get_text() for label in ax.get_yticklabels()]


def draw_dots(summary, scores, **options):
    _, ax = style.subplots()
    found = figures.interval_dots(ax, summary, scores, level="clip", metric="auc", **options)
    assert found is ax
    return ax


def test_rows_stand_in_fixed_order_with_references_last(summary, scores):
    ax = draw_dots(summary, scores)
    assert ticks(ax) == ["IG", "LIME", "LIME_CONVERGED", "RANDOM", "MOTION"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the first row is on top"


def test_every_mean_has_its_sequences_and_interval(summary, scores):
    ax = draw_dots(summary, scores)
    dots, interval, mean = ax.lines[:3]
    assert np.allclose(sorted(dots.get_xdata()), [0.5, 0.6, 0.7])
    assert list(interval.get_xdata()) == [0.5, 0.7]
    assert mean.get_xdata()[0] == pytest.approx(0.62)


def test_colour_tells_the_family(summary, scores):
    ax = draw_dots(summary, scores)
    means = [line for line in ax.lines if line.get_marker() == "o"]
    colours = [to_hex(line.get_color()).upper() for line in means]
    wanted = ["gradient", "perturbation", "perturbation", "reference", "reference"]
    assert colours == [style.FAMILY_COLOURS[family] for family in wanted]


def test_axis_says_which_way_is_better(summary, scores):
    assert "higher is better" in draw_dots(summary, scores).get_xlabel()
    assert "lower is better" in figures.axis_name("insertion")
    assert figures.axis_name("mine") == "mine"
    assert "better" not in figures.axis_name("mean_area")


def test_names_can_be_left_to_the_axes_beside(summary, scores):
    assert set(ticks(draw_dots(summary, scores, labels=False))) <= {""}


def test_published_values_are_crosses(summary, scores):
    ax = draw_dots(summary, scores, paper={"ig": 0.9})
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [0.9]


def test_a_row_without_scores_behind_it_still_has_its_mean(summary, scores):
    ax = draw_dots(summary, scores[scores["method"] != "ig"])
    assert len(ax.lines[0].get_xdata()) == 0


def test_an_absent_metric_is_named_with_those_there(summary, scores):
    _, ax = style.subplots()
    with pytest.raises(ValueError, match="no clip/iou in the table; it has clip/auc"):
        figures.interval_dots(ax, summary, scores, level="clip", metric="iou")


def test_fidelity_curves_are_means_over_clips():
    _, ax = style.subplots()
    curves = {"lime": np.array([[0, 1.0], [0, 3.0]]), "ig": np.zeros((2, 2))}
    found = figures.fidelity_curves(
        ax, curves, np.array([0, 1]), labels={"ig": "IG"}, x_label="x", y_label="y"
    )
    assert found is ax
    assert legend(ax) == ["IG", "lime"]
    assert ax.lines[1].get_ydata().tolist() == [0, 2]


def test_fidelity_curves_may_have_positions_of_their_own():
    _, ax = style.subplots()
    curves = {"ig": np.zeros((1, 2))}
    figures.fidelity_curves(
        ax, curves, {"ig": np.array([3, 4])}, x_label="x", y_label="y", legend=False
    )
    assert ax.lines[0].get_xdata().tolist() == [3, 4]
    assert ax.get_legend() is None


def test_frame_aucs_leave_gaps_and_start_at_frame_one():
    _, ax = style.subplots()
    found = figures.frame_auc_lines(ax, {"ig": np.array([0.5, np.nan, 1.0])}, labels={"ig": "IG"})
    assert found is ax
    line = ax.lines[1]
    assert line.get_xdata().tolist() == [1, 2, 3]
    assert np.isnan(line.get_ydata()[1])
    assert legend(ax) == ["chance", "IG"]


def test_frame_aucs_without_legend():
    _, ax = style.subplots()
    figures.frame_auc_lines(ax, {"ig": np.array([0.5])}, legend=False, title="ped1")
    assert ax.get_legend() is None
    assert ax.get_title() == "ped1"


def test_quality_is_drawn_for_rows_with_a_cost_alone(summary):
    _, ax = style.subplots()
    found = figures.quality_against(
        ax, summary, {"ig": 2.0, "stranger": 3.0}, level="clip", metric="auc", x_label="s", log=True
    )
    assert found is ax
    assert ax.get_xscale() == "log"
    assert legend(ax) == ["IG"]
    assert list(ax.lines[0].get_xdata()) == [2.0, 2.0]


def test_quality_on_a_linear_axis_without_legend(summary):
    _, ax = style.subplots()
    figures.quality_against(
        ax, summary, {"ig": 2.0}, level="clip", metric="auc", x_label="s", legend=False
    )
    assert ax.get_xscale() == "linear"
    assert ax.get_legend() is None


def test_gaps_are_sorted_from_the_largest():
    _, ax = style.subplots()
    p = pd.Series({"a": 0.9, "b": 0.8, "c": 0.5})
    baseline = pd.Series({"c": 0.6, "b": 0.1, "a": 0.7})
    assert figures.gap_dumbbells(ax, p, baseline) is ax
    assert ticks(ax) == ["b", "a", "c"]
    assert ax.lines[0].get_xdata().tolist() == [0.1, 0.7, 0.6]
    assert ax.lines[1].get_xdata().tolist() == [0.8, 0.9, 0.5]


def test_time_dots_show_parts_only_where_there_are_any():
    table = pd.DataFrame(
        {
            "seconds": [2.0, 4.0],
            "seconds_min": [1.0, 3.0],
            "seconds_max": [3.0, 5.0],
            "baseline_seconds": [0.1, 0.1],
            "superpixel_seconds": [0.2, 0.0],
        },
        index=["lime", "ig"],
    )
    _, ax = style.subplots()
    assert figures.time_dots(ax, table, labels={"ig": "IG"}, paper={"ig": 10.7}) is ax
    assert ticks(ax) == ["IG", "lime"]
    lines = {line.get_label(): line.get_xdata() for line in ax.lines}
    assert lines["whole method"].tolist() == [4.0, 2.0]
    assert np.isnan(lines["of which superpixels"][0])
    assert lines["the paper"][0] == 10.7
    assert ax.get_xscale() == "log"


def test_time_dots_without_published_values():
    columns = ["seconds", "seconds_min", "seconds_max", "baseline_seconds", "superpixel_seconds"]
    _, ax = style.subplots()
    figures.time_dots(ax, pd.DataFrame(1.0, index=["ig"], columns=columns))
    assert "the paper" not in legend(ax)


@pytest.fixture
def firm():
    lines = [("ig", "IG", 1, 1.0, 1.0, 2.0), ("random", "Random", 2, 2.0, 1.0, 3.0)]
    columns = ["method", "label", "rank", "rank_median", "rank_low", "rank_high"]
    return pd.DataFrame(lines, columns=columns)


def test_a_rank_has_its_dot_inside_the_ranks_it_takes(firm):
    _, ax = style.subplots()
    assert figures.rank_spans(ax, firm, families=FAMILIES, title="AUC") is ax
    assert ticks(ax) == ["IG", "Random"] and ax.get_title() == "AUC"
    spans, dots = ax.lines[0::3], ax.lines[2::3]
    assert [line.get_xdata().tolist() for line in spans] == [[1, 2], [1, 3]]
    assert [line.get_xdata()[0] for line in dots] == [1, 2]
    colours = [to_hex(line.get_color()).upper() for line in dots]
    assert colours == [style.FAMILY_COLOURS["gradient"], style.FAMILY_COLOURS["reference"]]
    assert ax.get_ylim()[0] > ax.get_ylim()[1], "the best rank is on top"


def test_ranks_without_families_have_the_colours_of_their_rows(firm):
    _, ax = style.subplots()
    figures.rank_spans(ax, firm)
    assert to_hex(ax.lines[2].get_color()).upper() == style.look("ig").colour


def test_a_rank_that_was_not_resampled_is_drawn_alone(firm):
    _, ax = style.subplots()
    figures.rank_spans(ax, firm.assign(rank_median=np.nan, rank_low=np.nan, rank_high=np.nan))
    assert np.isfinite(ax.lines[2].get_xdata()).all()


def test_ranks_by_two_metrics_stand_beside_each_other_in_the_colours_of_families(firm, monkeypatch):
    rows = {key: types.SimpleNamespace(family=family) for key, family in FAMILIES.items()}
    monkeypatch.setattr(figures.store, "rows", lambda run: rows)
    _, axes = style.subplots(1, 2)
    shown = {"AUC": firm, "C_v": firm.iloc[:1]}
    assert figures.rank_charts(axes, object(), shown) is axes
    assert [ax.get_title() for ax in axes] == ["AUC", "C_v"]
    assert ticks(axes[0]) == ["IG", "Random"] and ticks(axes[1]) == ["IG"]
    dots = [to_hex(ax.lines[2].get_color()).upper() for ax in axes]
    assert dots == [style.FAMILY_COLOURS["gradient"]] * 2


def test_ranks_need_an_axes_each(firm, monkeypatch):
    monkeypatch.setattr(figures.store, "rows", lambda run: {})
    _, axes = style.subplots(1, 2)
    with pytest.raises(ValueError, match="shorter"):
        figures.rank_charts(axes, object(), {})
