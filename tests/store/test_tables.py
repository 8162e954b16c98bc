"""Summaries on scores made by hand: what is counted, who is ranked, how a cell is spelled."""

import types

import numpy as np
import pandas as pd
import pytest

from vad_helpers.errors import InputError
from vad_helpers.store import tables
from vad_helpers.store.row import Row

CLIPS = ["a1", "a2", "b1", "b2"]
HUMAN = ("auc", "all_zero")


def scores_of(values, *, level="clip"):
    """Tidy scores from {(method, metric): one value a clip}."""
    lines = [
        (clip_id, clip_id[0], method, level, metric, value)
        for (method, metric), column in values.items()
        for clip_id, value in zip(CLIPS, column, strict=False)
    ]
    columns = ["clip_id", "sequence", "method", "level", "metric", "value"]
    return pd.DataFrame(lines, columns=columns)


@pytest.fixture
def run_with(monkeypatch):
    """Make a run whose table of scores and rows are given."""

    def make(table, values, *, label=str.upper):
        scored = scores_of(values)
        rows = {m: Row(m, label(m), "method", "gradient") for m, _ in values}
        monkeypatch.setattr(tables.scores, table, lambda run: scored)
        monkeypatch.setattr(tables, "rows", lambda run: rows)
        return types.SimpleNamespace(memo={}, params=types.SimpleNamespace(n_resamples=100, seed=0))

    return make


def cell(found, method, metric):
    part = found[(found["method"] == method) & (found["metric"] == metric)]
    return part.iloc[0]


def test_scores_of_all_zero_maps_are_counted_where_they_are_in_the_mean(run_with):
    values = {
        ("lime", "auc"): [0.5, 0.9, 0.5, 0.7],
        ("lime", "all_zero"): [1, 0, 1, 0],
        ("ig", "auc"): [0.6] * 4,
        ("ig", "all_zero"): [0] * 4,
    }
    found = tables.summary(run_with("human_centric", values), "human_centric")
    assert cell(found, "lime", "auc")["n_all_zero"] == 2
    assert cell(found, "ig", "auc")["n_all_zero"] == 0


def test_a_table_without_a_flag_knows_all_zero_maps_by_their_scores(run_with):
    removed = {("lime", "deletion"): [0, 0.2, 0, 0.1], ("lime", "mean_area"): [0, 0.1, 0, 0.1]}
    found = tables.summary(run_with("model_centric", removed), "model_centric")
    assert cell(found, "lime", "deletion")["n_all_zero"] == 2
    nan = np.nan
    spread = {
        ("lime", "mauc"): [0.5, 0.8, nan, 0.5],
        ("lime", "stdauc"): [nan, 0.1, nan, 0.2],
        ("lime", "cv"): [nan, 0.125, nan, 0.4],
    }
    found = tables.summary(run_with("robustness", spread), "robustness")
    assert cell(found, "lime", "mauc")["n_all_zero"] == 1, "the third clip has no frames"
    assert cell(found, "lime", "cv")["n_all_zero"] == 0
    assert cell(found, "lime", "cv")["n_undefined"] == 2


def test_an_all_zero_map_does_not_win_stability(run_with):
    values = {
        ("lime", "mauc"): [0.5, 0.8, 0.8, 0.8],
        ("lime", "stdauc"): [np.nan, 0.001, 0.001, 0.001],
        ("lime", "cv"): [np.nan, 0.001, 0.001, 0.001],
        ("ig", "mauc"): [0.7] * 4,
        ("ig", "stdauc"): [0.07] * 4,
        ("ig", "cv"): [0.1] * 4,
    }
    found = tables.ranked(tables.summary(run_with("robustness", values), "robustness"))
    assert cell(found, "ig", "cv")["rank"] == 1
    assert np.isnan(cell(found, "lime", "cv")["rank"])
    assert cell(found, "lime", "mauc")["rank"] == 1
    text = tables.wide(tables.summary_with_paper(found)).loc["LIME"]
    assert "(1 undefined)" in text["C_v ↓", "this run"]
    assert "(1 all-zero)" in text["mAUC ↑", "this run"]


def test_a_row_with_fewer_clips_says_so_and_has_no_rank(run_with):
    values = {("slow", "auc"): [0.9, 0.9], ("ig", "auc"): [0.6] * 4}
    found = tables.ranked(tables.summary(run_with("human_centric", values), "human_centric"))
    assert np.isnan(cell(found, "slow", "auc")["rank"]) and cell(found, "ig", "auc")["rank"] == 1
    text = tables.wide(tables.summary_with_paper(found))["AUC ↑", "this run"]
    assert text["SLOW"].endswith("(2 of 4 clips)") and "clips" not in text["IG"]


def test_two_rows_with_one_label_are_told_apart_by_their_keys(run_with):
    values = {("a", "auc"): [0.1] * 4, ("b", "auc"): [0.9] * 4}
    run = run_with("human_centric", values, label=lambda key: "LIME (400)")
    found = tables.ranked(tables.summary(run, "human_centric"))
    text = tables.wide(tables.summary_with_paper(found))["AUC ↑", "this run"]
    assert text["LIME (400) [a]"].startswith("0.100")
    assert text["LIME (400) [b]"].startswith("0.900")


def test_a_table_by_hand_with_one_label_twice_is_refused(run_with):
    values = {("a", "auc"): [0.1] * 4, ("b", "auc"): [0.9] * 4}
    found = tables.ranked(tables.summary(run_with("human_centric", values), "human_centric"))
    with pytest.raises(InputError, match="rows a, b are all called 'x'.*`label:`"):
        tables.wide(tables.summary_with_paper(found.assign(label="x")))
