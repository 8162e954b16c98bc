"""The front page's sentences say what the numbers say, and no more."""

import types

import numpy as np
import pandas as pd
import pytest

from vad_helpers.pages import findings
from vad_helpers.store import contrasts, tables
from vad_helpers.store.row import REFERENCES, Row
from vad_helpers.tables import statistics

N = 8
METRIC_TABLES = {
    "auc": "human_centric", "motion_auc": "human_centric", "deletion": "model_centric",
    "area_matched_deletion": "model_centric", "cv": "robustness",
}  # fmt: skip
FAMILIES = {"guided_backprop": "gradient", "occlusion_sp": "perturbation"}
CALLS = {"guided_backprop": 1, "occlusion_sp": 500}


def lines_of(metric, means, n=N):
    noise = np.random.default_rng(0).normal(0, 0.001, (len(means), n))
    noise -= noise.mean(axis=1, keepdims=True)
    return [
        (f"c{i}", f"s{i}", key, "clip", metric, mean + own[i])
        for (key, mean), own in zip(means.items(), noise, strict=True)
        for i in range(n)
    ]


@pytest.fixture
def run_with(monkeypatch):
    """Make a run of two methods and all references; `auc=`, `deletion=` ... replace means."""

    def make(*, timed=tuple(CALLS), **changes):
        keys = [*FAMILIES, *REFERENCES]
        rows = {k: Row(k, k, "method" if k in FAMILIES else "reference",
                       FAMILIES.get(k, "reference")) for k in keys}  # fmt: skip
        scored = {}
        for metric, table in METRIC_TABLES.items():
            means = dict.fromkeys(keys, 0.5) | changes.get(metric, {})
            scored.setdefault(table, []).extend(lines_of(metric, means))
        scored["runtime"] = [
            ("c0", "s0", key, "clip", name, value)
            for key, calls in CALLS.items()
            if key in timed
            for name, value in (("seconds", 0.01 * calls), ("model_calls", calls))
        ]
        frames = {
            table: pd.DataFrame(lines, columns=list(statistics.COLUMNS))
            for table, lines in scored.items()
        }
        for table, frame in frames.items():
            for module in (tables.scores, findings.store):
                monkeypatch.setattr(module, table, lambda run, frame=frame: frame)
        for module in (contrasts, tables, findings.store):
            monkeypatch.setattr(module, "rows", lambda run: rows)
        monkeypatch.setattr("vad_helpers.store.row.rows", lambda run: rows)
        params = types.SimpleNamespace(n_resamples=200, seed=0)
        return types.SimpleNamespace(memo={}, params=params)

    return make


def test_motion_ahead_of_every_method_is_said(run_with):
    run = run_with(auc={"motion": 0.9, "occlusion_sp": 0.8})
    found = findings.against_motion(run)
    assert found.title.startswith("No method is shown")
    for words in ("0.900", "occlusion_sp, 0.800", "zero for 2 methods", "it for 0,", "for 0."):
        assert words in found.evidence, found.evidence


def test_a_method_ahead_of_motion_is_counted(run_with):
    run = run_with(auc={"motion": 0.6, "occlusion_sp": 0.8})
    assert findings.against_motion(run).title.startswith("1 of 2 methods find")


def test_an_equal_score_is_undecided_and_not_a_loss(run_with):
    found = findings.against_motion(run_with(auc={"guided_backprop": 0.1}))
    assert "for 1 methods, above it for 0, and includes it for 1." in found.evidence


def test_a_flat_map_that_wins_is_said_to_win(run_with):
    run = run_with(deletion={"constant": 0.9}, area_matched_deletion={"constant": 0.0})
    found = findings.against_flatness(run)
    assert found.title == "A map that says nothing wins at deletion."
    assert "0.900" in found.evidence and "beats 0," in found.evidence


@pytest.mark.parametrize(
    ("value", "title"),
    [
        (0.6, "A map that says nothing beats 1 of 2 methods at deletion."),
        (0.1, "No method is shown to lose to a map that says nothing at deletion."),
        (0.5, "No method is shown to lose to a map that says nothing at deletion."),
    ],
)
def test_a_flat_map_that_does_not_win_is_counted(run_with, value, title):
    run = run_with(deletion={"constant": value, "occlusion_sp": 0.8})
    assert findings.against_flatness(run).title == title


@pytest.mark.parametrize(
    ("value", "words"), [(0.8, "better than"), (0.2, "worse than"), (0.5, "is not shown")]
)
def test_the_dearest_method_is_judged_against_the_cheapest(run_with, value, words):
    found = findings.for_the_price(run_with(auc={"occlusion_sp": value}))
    assert words in found.title
    assert "500 times a clip" in found.evidence and "500 times as long" in found.evidence


def test_with_one_method_timed_the_price_is_not_spoken_of(run_with):
    run = run_with(timed=("guided_backprop",))
    assert findings.for_the_price(run) is None
    assert len(findings.findings(run)) == 2


def test_the_headline_stars_the_best_method_and_never_a_reference(run_with):
    run = run_with(
        auc={"motion": 0.9, "occlusion_sp": 0.8}, cv={"constant": 0.0, "occlusion_sp": 0.1}
    )
    table = findings.headline(run)
    assert list(table.index) == [*FAMILIES, *findings.SHOWN_REFERENCES]
    assert table.loc["occlusion_sp", "AUC ↑"] == "0.800 ★"
    assert table.loc["motion", "AUC ↑"] == "0.900"
    assert table.loc["occlusion_sp", "C_v ↓"].endswith("★")
    assert table.loc["motion", "seconds ↓"] == "–"


def test_a_row_on_fewer_clips_has_no_star_and_says_so(run_with, monkeypatch):
    run = run_with(auc={"occlusion_sp": 0.8})
    scored = tables.scores.human_centric(run)
    fewer = scored.drop(scored.index[(scored["method"] == "occlusion_sp")
                                     & (scored["clip_id"] == "c0")])  # fmt: skip
    monkeypatch.setattr(tables.scores, "human_centric", lambda run: fewer)
    table = findings.headline(run)
    assert "the best method, guided_backprop, 0.500" in findings.against_motion(run).evidence
    assert table.loc["occlusion_sp", "AUC ↑"] == "0.800 (fewer clips)"
    assert table.loc["guided_backprop", "AUC ↑"].endswith("★")
