"""The comparison of networks: its table, and what the page draws from the committed one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import other_networks
from vad_helpers import tables
from vad_helpers.run import steps

COMMITTED = Path(__file__).parents[1] / "results" / "other_networks.csv"


@pytest.fixture
def study(measured):
    return tables.load(measured.dir)


def test_orders_agree_with_themselves_and_not_with_their_opposite(study, measured):
    opposite = tables.load(measured.dir)
    for name in ("human_centric", "model_centric"):
        getattr(opposite, name)["value"] *= -1
    found = other_networks.agreements({"a": study, "b": study, "c": opposite})
    assert list(found.columns) == other_networks.COLUMNS
    assert found["network"].unique().tolist() == ["a and b", "a and c", "b and c"]
    tau = found.groupby("network")["mean"].agg(list)
    n = len(other_networks.METRICS)
    assert np.allclose(tau["a and b"], 1) and len(tau["a and b"]) == n
    assert np.allclose(tau["a and c"], -1) and np.allclose(tau["b and c"], -1)
    assert found["low"].dropna().between(-1, 1).all() and (found["n_clips"] == 2).all()


def test_the_table_is_written_with_the_means_that_summaries_have(
    study, in_project, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(other_networks, "NETWORKS", {"one": {}, "two": {"seed": 1}})
    monkeypatch.setattr(other_networks, "SMALLER", {})
    monkeypatch.setattr(steps, "measure", lambda run, progress: study)
    monkeypatch.setattr(steps, "left_out", lambda run: {"lime": "too slow"})
    out = tmp_path / "found.csv"
    other_networks.main("tiny", ["n_clips=2"], folder=tmp_path / "runs", out=out)
    assert "two leaves out lime: too slow" in capsys.readouterr().out
    found = pd.read_csv(out)
    assert list(found.columns) == other_networks.COLUMNS
    assert not found.duplicated(["network", "row", "metric"]).any()
    own = found.query("network == 'two' and row == 'ig' and metric == 'auc'").iloc[0]
    whole = tables.summary(study, "human_centric", metrics=["auc"])
    (expected,) = whole.query("row == 'ig' and level == 'clip'").itertuples()
    assert own["mean"] == pytest.approx(expected.mean, rel=1e-3)
    assert (own["n_clips"], own["n_sequences"]) == (expected.n, expected.n_groups)
    detector = found.query("network == 'one' and row == 'detector'").set_index("metric")
    assert 0 <= detector.loc["detection_auc", "mean"] <= 1
    assert detector.loc["detection_auc", "n_clips"] > own["n_clips"]
    gaps = [
        tables.pivot(study, "model_centric", "clip", name)["ig"]
        for name in ("p_clip", "p_baseline")
    ]
    assert detector.loc["gap", "mean"] == pytest.approx((gaps[0] - gaps[1]).mean(), rel=1e-3)


def test_the_committed_table_holds_all_networks_that_the_script_measures():
    found = pd.read_csv(COMMITTED)
    assert list(found.columns) == other_networks.COLUMNS
    single = found[found["row"] != "tau"]
    assert list(single["network"].unique()) == list(other_networks.NETWORKS)
    assert set(single["metric"]) == {
        "detection_auc",
        "gap",
        *(m for _, m in other_networks.METRICS),
    }
    # No ReLU: its Guided Backpropagation is left out, not scored as zeros.
    without = single.query("network == 'video_transformer'")["row"]
    assert "guided_backprop" not in set(without) and "occlusion_lp" in set(without)
