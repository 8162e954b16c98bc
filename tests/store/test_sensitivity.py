"""Sensitivity of rankings, on scores whose order is known."""

import numpy as np
import pandas as pd
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.store import sensitivity
from vad_helpers.store.alternatives import ALTERNATIVES
from vad_helpers.store.sensitivity import CHOICES, NOT_MEASURED, ranking_change

OPTIONS = {"n_resamples": 200}


def wide(values, sequences=("a", "a", "b")):
    index = pd.MultiIndex.from_arrays(
        [[f"c{i}" for i in range(len(sequences))], sequences], names=["clip_id", "sequence"]
    )
    return pd.DataFrame({m: np.full(len(sequences), v) for m, v in values.items()}, index=index)


def test_a_ranking_that_stays_has_tau_one():
    before = wide({"x": 0.9, "y": 0.5, "z": 0.1})
    found = ranking_change(before, before, "auc")
    assert found["tau"] == 1 and found["flips"] == [] and found["tau_by_chance"] == 1
    assert found["best"] == found["best_after"] == "x"
    assert (found["n"], found["n_groups"], found["n_pairs"]) == (3, 2, 3)


def test_one_of_three_pairs_that_turns_gives_tau_one_third():
    before, after = wide({"x": 3, "y": 2, "z": 1}), wide({"x": 2, "y": 3, "z": 1})
    found = ranking_change(before, after, "auc")
    assert found["tau"] == pytest.approx(1 / 3) and found["flips"] == [("x", "y")]
    assert (found["best"], found["best_after"]) == ("x", "y")
    assert ranking_change(before, after, "insertion")["best_after"] == "z", "lower is better"


def test_chance_turns_a_ranking_that_sequences_disagree_on():
    before = wide({"x": 0.0, "y": 0.0}, sequences=("a", "b", "c"))
    before["x"], before["y"] = [1.0, 0.0, 0.0], [0.0, 0.45, 0.45]
    drawn = ranking_change(before, before, "auc")
    # Draws of sequence a alone, or without it, decide: tau is 1 or -1 (a tie in no draw).
    assert drawn["tau_by_chance"] < 1 and drawn["tau_low"] == -1
    firm = wide({"x": 1.0, "y": 0.0}, sequences=("a", "b", "c"))
    assert ranking_change(firm, firm, "auc")["tau_low"] == 1
    alone = wide({"x": 1.0, "y": 0.0}, sequences=("a", "a"))
    assert np.isnan(ranking_change(alone, alone, "auc")["tau_by_chance"])


@pytest.fixture
def study():
    """Scores and rows in which LIME without its penalty turns from the best to the worst."""
    means = synthetic.complete(synthetic.HOLD)
    for values in means.values():
        values["lime_alpha_1e-2"] = 0.05
    clips = synthetic.clip_table()
    return synthetic.score_tables(means, clips), synthetic.about_rows()


def test_every_open_choice_has_a_line_and_unmeasured_ones_say_so(study):
    found = sensitivity.sensitivity(*study, **OPTIONS)
    assert found["choice"].unique().tolist() == [choice.name for choice in CHOICES]
    assert len(CHOICES) == 12
    unmeasured = found[found["note"] == NOT_MEASURED]
    assert set(unmeasured["choice"]) == {
        "Which clips", "How to split", "Which clips are explained", "SmoothGrad's noise",
        "Negative attributions", "Which frame is scored", "What sampling methods draw",
        "What fills removed pixels",  # in scores; in explanations it is
    }  # fmt: skip
    assert unmeasured["tau"].isna().all()


def test_a_variant_that_turns_the_ranking_is_found_on_its_own_clips(study):
    scored, about = study
    few = scored["human_centric"]
    clips = few["clip_id"].unique()[:6]
    few = few[(few["method"] != "lime_alpha_1e-2") | few["clip_id"].isin(clips)]
    found = sensitivity.sensitivity({**scored, "human_centric": few}, about, **OPTIONS)
    line = found[(found["choice"] == "LIME's penalty") & (found["metric"] == "auc")].iloc[0]
    assert line["alternative"] == "alpha 1e-2" and line["n"] == 6
    assert (line["best"], line["best_after"]) == ("LIME", "IG_SMOOTHGRAD")
    assert (
        line["n_flips"] == 7 and "IG, LIME" in line["flips"] and line["tau"] == pytest.approx(0.5)
    )
    stays = found[(found["alternative"] == "a stronger blur") & (found["metric"] == "deletion")]
    assert stays["best_after"].isin(["LIME", "OCCLUSION_LP"]).all()


def test_other_levels_are_alternatives(study):
    scored, about = study
    located = scored["human_centric"]
    frames = located[located["level"] == "frame"]
    turned = frames.assign(level="frame_any", value=1 - frames["value"])
    found = sensitivity.sensitivity(
        {**scored, "human_centric": pd.concat([located, turned])}, about, **OPTIONS
    )
    lines = found[found["alternative"].str.contains("all frames")]
    assert lines["metric"].tolist() == ["iou", "auc"]
    assert lines["tau"].tolist() == pytest.approx([-1, -1])
    lines = found[found["alternative"].str.contains("absolute values count")]
    assert lines["note"].tolist() == [NOT_MEASURED]
    apart = turned.assign(level="frame_abs", clip_id="other" + turned["clip_id"])
    found = sensitivity.sensitivity(
        {**scored, "human_centric": pd.concat([located, apart])}, about, **OPTIONS
    )
    assert found[found["alternative"].str.contains("absolute values count")]["note"].tolist() == [
        NOT_MEASURED
    ]


def test_a_choice_of_frames_counts_the_clips_that_have_one_only_by_it(study):
    scored, about = study
    located = scored["human_centric"]
    frames = located[located["level"] == "frame"]
    few = frames["clip_id"].isin(frames["clip_id"].unique()[:8])
    # Where both rules find a frame it is the same; where one alone does, the order is turned.
    other = frames.assign(level="frame_any", value=frames["value"].where(few, 1 - frames["value"]))
    kept = located[(located["level"] != "frame") | few.reindex(located.index, fill_value=True)]
    found = sensitivity.sensitivity(
        {**scored, "human_centric": pd.concat([kept, other])}, about, **OPTIONS
    )
    lines = found[found["alternative"].str.contains("all frames")]
    assert set(lines["n"]) == {20} and (lines["n_flips"] > 0).all()


def test_runs_of_their_own_are_compared_with_the_study_s_clips_whichever_fold_tested_them(study):
    scored, about = study
    later = scored["human_centric"]["sequence"].unique()[1:]
    scored = {name: table.assign(fold=table["sequence"].isin(later).astype(int))
              for name, table in scored.items()}  # fmt: skip
    located = scored["human_centric"]
    few = located[located["clip_id"].isin(located["clip_id"].unique()[:4])]
    assert few["fold"].nunique() == 2
    turned = few.assign(alternative="split_by_clip", table="human_centric", fold=0,
                        value=1 - few["value"])  # fmt: skip
    found = sensitivity.sensitivity(scored, about, elsewhere=turned, **OPTIONS)
    lines = found[found["choice"] == "How to split"]
    assert lines[["level", "metric"]].apply(tuple, axis=1).tolist() == [
        ("clip", "iou"), ("clip", "auc"), ("frame", "auc")]  # fmt: skip
    assert (lines["tau"] < -0.7).all() and set(lines["n"]) == {4}
    (note,) = found.loc[found["choice"] == "Which clips", "note"]
    assert note == NOT_MEASURED


def test_runs_of_their_own_are_compared_on_the_sequences_that_both_have(study):
    scored, about = study
    scored = {name: table.assign(fold=0) for name, table in scored.items()}
    located = scored["human_centric"]
    first = located["sequence"].unique()[:5]
    # On other sequences the study's order is another one: with them before, tau would fall.
    elsewhere = ~located["sequence"].isin(first)
    scored["human_centric"] = located.assign(
        value=located["value"].mask(elsewhere, 1 - located["value"])
    )
    same = located[~elsewhere]
    other = same.assign(alternative="half_overlap", table="human_centric",
                        clip_id="half " + same["clip_id"])  # fmt: skip
    found = sensitivity.sensitivity(scored, about, elsewhere=other, **OPTIONS)
    lines = found[found["choice"] == "Which clips"]
    assert lines["tau"].tolist() == pytest.approx([1, 1, 1]) and set(lines["n_groups"]) == {5}
    strangers = other.assign(sequence="x" + other["sequence"])
    found = sensitivity.sensitivity(scored, about, elsewhere=strangers, **OPTIONS)
    assert found.loc[found["choice"] == "Which clips", "note"].tolist() == [NOT_MEASURED]


def test_two_draws_agree_less_by_chance_than_one_with_the_ranking_itself():
    rng = np.random.default_rng(0)
    index = pd.MultiIndex.from_tuples([(f"c{i}", f"s{i}") for i in range(8)],
                                      names=["clip_id", "sequence"])  # fmt: skip
    before = pd.DataFrame(rng.normal(size=(8, 5)) + np.arange(5) / 4, index, list("vwxyz"))
    own = before.iloc[:5].rename(index=lambda name: f"other {name}")
    paired, apart = (ranking_change(before, after, "auc") for after in (before, own))
    assert apart["tau_by_chance"] < paired["tau_by_chance"] - 0.02
    assert (apart["n"], apart["n_groups"]) == (5, 5)


def test_a_run_on_the_study_s_own_clips_is_compared_with_those_alone(study):
    scored, about = study
    scored = {name: table.assign(fold=0) for name, table in scored.items()}
    located = scored["human_centric"]
    few = located["clip_id"].isin(located["clip_id"].unique()[:3])
    # Elsewhere the order is another one: it must not count.
    scored["human_centric"] = located.assign(
        value=located["value"].where(few, 1 - located["value"])
    )
    same = located[few].assign(alternative="strong_blur", table="human_centric")
    found = sensitivity.sensitivity(scored, about, elsewhere=same, **OPTIONS)
    lines = found[found["alternative"] == "a stronger blur, in scores too"]
    assert lines["tau"].tolist() == pytest.approx([1, 1, 1]) and set(lines["n"]) == {3}


def test_added_clips_join_the_study_s(study):
    scored, about = study
    scored = {name: table.assign(fold=0) for name, table in scored.items()}
    located = scored["human_centric"]
    clips = located["clip_id"].unique()
    few = located[located["clip_id"].isin(clips[:3])]
    # As many clips as decide against all others that there are: the ranking is turned round.
    added = pd.concat([
        few.assign(clip_id=f"{k} " + few["clip_id"], sequence=f"{k} " + few["sequence"],
                   value=1 - few["value"])
        for k in range(10)
    ]).assign(alternative="added_masks", table="human_centric")  # fmt: skip
    found = sensitivity.sensitivity(scored, about, elsewhere=added, **OPTIONS)
    line = found[found["alternative"].str.startswith("also the sequences")].iloc[0]
    assert line["n"] == len(clips) + 30 and line["tau"] < 0
    found = sensitivity.sensitivity(scored, about, elsewhere=added.head(0), **OPTIONS)
    line = found[found["alternative"].str.startswith("also the sequences")].iloc[0]
    assert line["note"] == NOT_MEASURED


def test_the_ranking_with_signs_is_read_from_the_controls(study):
    scored, about = study
    located = scored["human_centric"]
    signed = located[(located["level"] == "clip") & (located["metric"] == "auc")]
    signed = signed.assign(level="clip_signed", value=1 - signed["value"])
    found = sensitivity.sensitivity({**scored, "controls": signed}, about, **OPTIONS)
    (line,) = found[found["alternative"] == "keep their sign"].to_dict("records")
    assert (line["level"], line["metric"], line["tau"]) == ("clip", "auc", pytest.approx(-1))


def test_every_run_of_its_own_is_an_alternative_of_a_choice():
    named = {a.run for choice in CHOICES for a in choice.alternatives if a.run}
    assert named == set(ALTERNATIVES)


def test_filing_a_method_elsewhere_changes_what_is_said_of_families():
    means = synthetic.complete(synthetic.HOLD)
    means["robustness", "clip", "cv"] |= {
        **dict.fromkeys(["ig", "ig_smoothgrad", "guided_backprop"], 0.3), "gradient_shap": 0.0,
        **dict.fromkeys(["kernel_shap", "lime", "occlusion_lp", "occlusion_sp"], 0.3),
    }  # fmt: skip
    scored = synthetic.score_tables(means, synthetic.clip_table())
    found = sensitivity.sensitivity(scored, synthetic.about_rows(), **OPTIONS)
    (note,) = found.loc[found["choice"] == "Family of GradientSHAP", "note"]
    assert note == "claim 8 turns from “holds” to “does not hold”"
    stays = sensitivity.sensitivity(
        synthetic.score_tables(synthetic.complete(synthetic.HOLD), synthetic.clip_table()),
        synthetic.about_rows(), **OPTIONS,
    )  # fmt: skip
    (note,) = stays.loc[stays["choice"] == "Family of GradientSHAP", "note"]
    assert note == "the verdicts on the claims about families (1, 5, 8) stay"


def test_without_scores_nothing_is_measured():
    found = sensitivity.sensitivity({}, synthetic.about_rows(), **OPTIONS)
    assert set(found["note"]) == {NOT_MEASURED}
    undefined = synthetic.score_tables({("robustness", "clip", "cv"): synthetic.CV},
                                       synthetic.clip_table())  # fmt: skip
    undefined["robustness"]["value"] = np.nan
    found = sensitivity.sensitivity(undefined, synthetic.about_rows(), **OPTIONS)
    assert found["tau"].isna().all()
