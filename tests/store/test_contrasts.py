"""Planned comparisons on scores made by hand."""

import types

import numpy as np
import pandas as pd
import pytest

from vad_helpers.store import contrasts, tables
from vad_helpers.store.row import REFERENCES, Row

N_CLIPS = 8
FAMILIES = {
    "ig": "gradient",
    "ig_smoothgrad": "gradient",
    "kernel_shap": "perturbation",
    "lime": "perturbation",
    "occlusion_lp": "perturbation",
    "occlusion_sp": "perturbation",
}


@pytest.fixture
def run_with(monkeypatch):
    """Make a run of one clip a sequence; a method's score is its mean plus a little noise."""

    def make(means, *, metric="auc", level="clip", variants=()):
        rng = np.random.default_rng(0)
        lines = [
            (f"c{i}", f"s{i}", m, level, metric, mean + 0.01 * rng.standard_normal())
            for m, mean in means.items()
            for i in range(N_CLIPS)
        ]
        columns = ["clip_id", "sequence", "method", "level", "metric", "value"]
        scored = pd.DataFrame(lines, columns=columns)
        rows = {m: _row(m, variants) for m in means}
        for table in ("human_centric", "model_centric", "robustness"):
            monkeypatch.setattr(contrasts.scores, table, lambda run: scored)
        monkeypatch.setattr(contrasts, "rows", lambda run: rows)
        monkeypatch.setattr(tables, "rows", lambda run: rows)
        params = types.SimpleNamespace(n_resamples=200, seed=0)
        return types.SimpleNamespace(memo={}, params=params)

    return make


def _row(key, variants):
    kind = "reference" if key in REFERENCES else "variant" if key in variants else "method"
    return Row(key, key.upper(), kind, FAMILIES.get(key, "perturbation"))


def test_families_and_named_pairs_are_compared_as_planned(run_with):
    means = {"ig": 0.5, "ig_smoothgrad": 0.5, "kernel_shap": 0.6, "lime": 0.9, "occlusion_lp": 0.8}
    run = run_with(means | {"occlusion_sp": 0.7})
    found = contrasts.planned_contrasts(run, "human_centric").set_index("contrast")
    assert found.loc["LIME - KERNEL_SHAP", "difference"] == pytest.approx(0.3, abs=0.02)
    assert found.loc["OCCLUSION_LP - OCCLUSION_SP", "verdict"] == "higher"
    assert found.loc["LIME - the other methods", "difference"] == pytest.approx(0.28, abs=0.02)
    family = found.loc["gradient methods - perturbation methods but LIME"]
    assert family["difference"] == pytest.approx(-0.2, abs=0.02) and family["better"] == "b"
    assert len(found) == 4, "no score at frame level here"


def test_the_correction_counts_the_comparisons_of_one_table(run_with):
    means = dict.fromkeys(FAMILIES, 0.5) | {"lime": 0.9}
    found = contrasts.planned_contrasts(run_with(means), "human_centric")
    strongest = found.loc[found["p"].idxmin()]
    assert strongest["p"] == 2 / 2**N_CLIPS
    assert strongest["p_holm"] == pytest.approx(strongest["p"] * len(found))


def test_a_comparison_with_an_absent_method_is_left_out(run_with):
    found = contrasts.planned_contrasts(run_with({"ig": 0.5, "lime": 0.6}), "human_centric")
    assert found["contrast"].tolist() == ["LIME - the other methods"]
    alone = contrasts.planned_contrasts(run_with({"ig": 0.5}), "human_centric")
    assert alone.empty and contrasts.floor_note(alone) == ""


def test_variants_are_compared_but_do_not_enter_the_correction(run_with):
    means = {"ig": 0.8, "lime": 0.7} | dict.fromkeys(REFERENCES, 0.5)
    few = contrasts.against_references(run_with(means))
    more = contrasts.against_references(
        run_with(means | {"lime_800": 0.7, "lime_900": 0.7}, variants=("lime_800", "lime_900"))
    )
    kept = more[more["method"].isin(["ig", "lime"])]
    assert kept["p_holm"].tolist() == few["p_holm"].tolist()
    added = more[~more["method"].isin(["ig", "lime"])]
    assert added["p_holm"].isna().all() and set(added["verdict"]) == {"higher"}


def test_a_test_that_cannot_speak_says_so(run_with):
    means = dict.fromkeys(FAMILIES, 0.8) | dict.fromkeys(REFERENCES, 0.5)
    against = contrasts.against_references(run_with(means))
    assert against["p_holm"].min() > 0.05
    text = contrasts.floor_note(against)
    assert "8 sequences" in text and "comparisons (30)" in text and "cannot" in text
    few = contrasts.planned_contrasts(run_with(means), "human_centric")
    assert "cannot" not in contrasts.floor_note(few)


def test_ranks_are_firm_where_methods_are_far_apart(run_with):
    means = {"ig": 0.9, "lime": 0.7, "random": 0.5}
    found = contrasts.rank_stability(run_with(means))
    assert found["label"].tolist() == ["IG", "LIME", "RANDOM"]
    assert found["p_best"].tolist() == [1, 0, 0]
    assert (found["rank_low"] == found["rank"]).all() and (
        found["rank_high"] == found["rank"]
    ).all()
