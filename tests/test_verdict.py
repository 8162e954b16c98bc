"""The verdict on metrics: tau against SciPy, and rules that each can fail."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from benchmarks import verdict
from vad_helpers import tables

METRICS = ("auc", "deletion", "srg", "cv", "gini", "iou")


def test_tau_is_kendalls_and_leaves_out_pairs_of_equal_recall():
    rng = np.random.default_rng(0)
    scores, recall = rng.standard_normal((5, 4)), np.array([1.0, 0.8, 0.6, 0.3, 0.1])
    scores[:, 3] = 7  # a metric that is constant
    expected = [kendalltau(recall, column).statistic for column in scores.T[:3]]
    assert verdict.kendall(scores, recall) == pytest.approx([*expected, 0])
    assert verdict.kendall(recall[:, None], recall) == [1]
    close = np.array([1.0, 0.96, 0.3])
    assert verdict.kendall(np.array([[1.0], [9], [0]]), close) == [1]  # the first two are one
    assert np.isnan(verdict.kendall(np.ones((2, 1)), np.array([1.0, 0.99]))).all()
    assert verdict.kendall(np.array([[1.0], [np.nan]]), np.array([1.0, 0])) == [0]
    assert verdict.kendall(np.array([[1.0], [1 - 5e-7]]), np.array([1.0, 0])) == [0]


@pytest.fixture
def scores():
    """Three clips, two detectors: a metric that is the recall itself, and others made from it."""
    lines, rng = [], np.random.default_rng(0)
    ladders = [(name, level) for name in verdict.LADDERS for level in (1, 2, 3, 4)]
    others = {("constant", 1): 0.1, ("random", 1): 0.05, ("motion", 1): 0.5, ("annotation", 1): 0.9}
    for clip, detector in itertools.product("abc", ("appearance", "hans", "diffuse")):
        recall = {("truth", 0): 1.0, ("inversion", 1): 0.0}
        recall |= {step: 1 - 0.2 * step[1] for step in ladders} | others
        recall |= {("power", i): 1.0 for i in (1, 2, 3, 4)}
        recall |= {("grid", 10 * i + j): 1 - i / 5 for i in range(5) for j in range(5)}
        for (ladder, level), value in recall.items():
            wrong = rng.random() if ladder in verdict.LADDERS else value  # of one ladder too many
            given = dict.fromkeys(METRICS, value) | {"recall": value, "cv": -value}
            given["gini"] = 0.5
            given["deletion"] = wrong
            given["srg"] = 1 - value if ladder == "blur" else value
            given["auc"] = value + 1 if ladder == "constant" else value
            given["iou"] = value + level / 5 if ladder == "power" else value
            if ladder == "grid":
                given["iou"] = level % 10
            line = (clip, detector, ladder, level)
            lines += [(*line, metric, found) for metric, found in given.items()]
    return pd.DataFrame(lines, columns="clip_id detector ladder level metric value".split())


def test_each_rule_can_fail_and_a_perfect_metric_passes(scores, tmp_path):
    table = verdict.judge(scores)
    whole = table.query("detector == 'all' and ladder == 'all'").set_index("metric")
    assert whole["passed"].to_dict() == {
        "cv": True,  # lower is better, and it is minus the recall
        "deletion": False,  # no order at all
        "gini": False,  # a constant
        "srg": False,  # one ladder the wrong way round
        "auc": False,  # the constant map wins
        "iou": False,  # values of equal ranks move it
    }
    assert whole.loc["cv", ["tau", "low", "high", "truth_wins"]].tolist() == [1, 1, 1, 1]
    assert whole.loc["gini", ["tau", "truth_wins"]].tolist() == [0, 0]
    assert whole.loc["auc", "constant_wins"] == 1 and whole.loc["cv", "constant_wins"] == 0
    assert np.isnan(whole.loc["gini", "value_effect"])
    assert whole.loc["iou", "value_effect"] == pytest.approx(0.5 / 0.8)
    assert whole.loc["iou", ["quality", "flatness"]].tolist() == pytest.approx([0, 1])
    assert whole.loc["cv", ["quality", "flatness"]].tolist() == pytest.approx([1, 0])
    blur = table.query("detector == 'all' and metric == 'srg'").set_index("ladder")["tau"]
    # Of ten pairs the truth is in four, and wins them.
    assert blur.loc[["blur", "all but blur", "all"]].tolist() == pytest.approx([-0.2, 1, 0.8])
    assert (table["n"] == 3).all()


def test_stress_has_no_part_in_the_verdict_and_the_table_is_one_of_a_study(scores, tmp_path):
    worse = scores.assign(value=scores["value"].where(scores["detector"] != "diffuse", 0.0))
    worse.loc[scores["metric"] == "recall", "value"] = scores["value"]
    before, after = verdict.judge(scores), verdict.judge(worse)
    own = before["detector"] != "diffuse"
    pd.testing.assert_frame_equal(before[own], after[own])
    assert (after[~own]["tau"].fillna(0) == 0).all()
    before.to_csv(tmp_path / "metrics_on_trial.csv", index=False, float_format="%.6g")
    read = tables.read(tmp_path, "metrics_on_trial")
    assert read["tau"].to_numpy() == pytest.approx(before["tau"].to_numpy(), abs=1e-5)
    assert set(read.loc[read["passed"].notna(), "metric"]) == set(METRICS)


def test_agreement_is_one_for_equal_ranks_and_falls_with_disagreement():
    same = pd.DataFrame([[0.1, 0.2, 0.9], [5, 6, 7], [1, np.nan, 2]])
    assert verdict.agreement(same) == 1
    # By hand: ranks 1 2 3 and 3 2 1; within methods variances 2, 0, 2, of all ranks 4 / 5.
    assert verdict.agreement(pd.DataFrame([[1, 2, 3], [3, 2, 1]])) == pytest.approx(1 - 4 / 3 / 0.8)
    drawn = pd.DataFrame(np.random.default_rng(0).random((500, 8)))
    assert verdict.agreement(drawn) == pytest.approx(0, abs=0.01)
