"""Scores by gap: which clips count, and the scores as shares of what the baseline does."""

import numpy as np
import pandas as pd
import pytest

from vad_helpers.metrics import gaps
from vad_helpers.tables.resampling import bootstrap_mean


@pytest.fixture
def gap_scores():
    return pd.DataFrame(
        [
            ("c1", "s1", "ig", 0.4, 0.2, 0.9, 0.1),  # gap .8
            ("c2", "s1", "ig", 0.01, 0.02, 0.9, 0.84),  # gap .06
            ("c3", "s2", "ig", 0.3, 0.3, 0.8, 0.9),  # gap -.1
            ("c1", "s1", "lime", 0.8, 0.0, 0.9, 0.1),
        ],
        columns=["clip_id", "sequence", "method", "deletion", "insertion", "p_clip", "p_baseline"],
        index=[0, 0, 0, 0],  # what concatenating tables leaves behind
    )


def test_scores_by_gap_count_and_average_the_clips_above_each_bound(gap_scores):
    table = gaps.by_gap(gap_scores).set_index(["method", "min_gap"])
    assert table.loc["ig"].index.tolist() == [-np.inf, 0, 0.05, 0.1, 0.2]
    assert table.loc["ig", "n_clips"].tolist() == [3, 2, 2, 1, 1]
    assert table.loc["ig", "n_sequences"].tolist() == [2, 1, 1, 1, 1]
    assert table.loc[("ig", -np.inf), "deletion"] == pytest.approx(0.71 / 3)
    assert table.loc[("ig", 0.05), "insertion"] == pytest.approx(0.11)
    assert table.loc[("ig", 0.05), "deletion_by_gap"] == pytest.approx((0.5 + 1 / 6) / 2)
    assert table.loc[("ig", 0.2), "insertion_by_gap"] == pytest.approx(0.25)
    assert table.loc[("lime", 0.2), "deletion_by_gap"] == pytest.approx(1)
    assert np.isnan(table.loc[("ig", -np.inf), "deletion_by_gap"])


def test_intervals_resample_the_sequences_of_the_clips_above_the_bound(gap_scores):
    options = {"n_resamples": 500, "level": 0.9, "seed": 3}
    table = gaps.by_gap(gap_scores, **options).set_index(["method", "min_gap"])
    ig = gap_scores[gap_scores["method"] == "ig"]
    expected = bootstrap_mean(ig["insertion"], ig["sequence"], **options)
    row = table.loc[("ig", -np.inf)]
    assert [row["insertion_low"], row["insertion_high"]] == [expected["low"], expected["high"]]
    assert row["insertion_low"] < row["insertion"] < row["insertion_high"]
    # Above 0 there is one sequence left, which says nothing of others.
    assert np.isnan(table.loc[("ig", 0.0), "deletion_low"])


def test_scores_at_equal_area_are_averaged_where_they_are_given(gap_scores):
    assert "area_matched_deletion" not in gaps.by_gap(gap_scores)
    both = gap_scores.assign(area_matched_deletion=0.4, area_matched_insertion=-0.2)
    row = gaps.by_gap(both).set_index(["method", "min_gap"]).loc[("lime", 0.2)]
    assert row["area_matched_deletion_by_gap"] == pytest.approx(0.5)
    assert row["area_matched_insertion"] == pytest.approx(-0.2)


def test_a_gap_on_the_bound_does_not_pass_it(gap_scores):
    exact = gap_scores.assign(p_clip=0.5, p_baseline=0.25)
    assert gaps.by_gap(exact, gaps=(0.25,))["n_clips"].tolist() == [3, 0, 1, 0]


def test_a_bound_that_no_clip_passes_leaves_scores_undefined(gap_scores):
    row = gaps.by_gap(gap_scores, gaps=(0.95,)).iloc[1]
    assert (row["n_clips"], row["n_sequences"]) == (0, 0)
    assert row[["deletion", "insertion", "deletion_by_gap", "insertion_by_gap"]].isna().all()


def test_scores_by_gap_need_their_columns_and_bounds(gap_scores):
    with pytest.raises(ValueError, match=r"lacks the columns \['p_clip'\]"):
        gaps.by_gap(gap_scores.drop(columns="p_clip"))
    with pytest.raises(ValueError, match="gaps are"):
        gaps.by_gap(gap_scores, gaps=(-0.1,))
