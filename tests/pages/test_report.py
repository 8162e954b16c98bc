"""Pages of a run, on scores made by hand; the whole of them is tested with the book."""

import types

import pandas as pd
import pytest

from vad_helpers.pages import report


def accuracy_of(value):
    lines = [("val", "all", 1.0), ("test", "ped1", 1.0), ("test", "all", value)]
    return pd.DataFrame(lines, columns=["split", "scene", "accuracy"])


def against_of(lows):
    lines = [
        (method, reference, low + 0.1, low if reference == "random" else 0.5, low + 0.2)
        for method, low in lows.items()
        for reference in ("motion", "random")
    ]
    return pd.DataFrame(lines, columns=["method", "reference", "difference", "low", "high"])


ABOVE = {"ig": 0.05, "lime": 0.01, "occlusion_lp": 0.3}


def holds(accuracy, lows):
    return report.judged(accuracy_of(accuracy), against_of(lows), {})["holds"].tolist()


def test_checks_hold_where_accuracy_and_every_interval_do():
    assert holds(0.95, ABOVE) == ["yes"] * 4


@pytest.mark.parametrize("failing", [0, 1, 2, 3])
def test_each_check_can_fail_alone(failing):
    keys = ["", *ABOVE]
    lows = {m: -0.01 if m == keys[failing] else low for m, low in ABOVE.items()}
    found = holds(0.949 if failing == 0 else 0.99, lows)
    assert found == ["no" if i == failing else "yes" for i in range(4)]


def test_an_interval_that_touches_zero_does_not_exclude_it():
    assert holds(1.0, ABOVE | {"lime": 0.0})[2] == "no"


def test_a_method_that_is_absent_is_said_to_be():
    found = report.judged(accuracy_of(1.0), against_of({"ig": 0.1}), {"ig": "IG"})
    assert found["holds"].tolist() == ["yes", "yes", "not in this run", "not in this run"]
    assert "clip AUC of IG" in found["check"][1]
    assert found["found"][1] == "+0.200 [+0.100, +0.300]"


def test_a_row_without_a_rank_is_marked():
    assert report._spell_rank(float("nan")) == "–" and report._spell_rank(3.0) == "3"


@pytest.mark.parametrize(
    ("origin", "words"), [("own", "not the videos of the paper"), ("ucsd", "Real data")]
)
def test_the_banner_follows_the_tree(monkeypatch, origin, words):
    monkeypatch.setattr(report.store, "data_origin", lambda run: origin)
    clips = pd.DataFrame({"sequence": ["a", "a"]})
    monkeypatch.setattr(report.store, "evaluation", lambda run: clips)
    names = {"profile": "x", "dataset": "ucsd", "fold": 0, "seed": 0, "n_frames": 20}
    run = types.SimpleNamespace(params=types.SimpleNamespace(**names, frame_size=[1, 2]))
    text = report.banner(run)
    assert words in text and "2 anomalous clips of 1 unseen" in text
