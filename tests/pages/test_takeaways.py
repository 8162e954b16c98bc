"""Sentences are chosen by the data: each can come out in its other way."""

import dataclasses
import types

import numpy as np
import pandas as pd
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.pages import takeaways
from vad_helpers.store import networks, published, study


@pytest.fixture
def write(tmp_path):
    return lambda means=None, **options: synthetic.write(tmp_path / "ucsd", means, **options)


def test_flat_maps_are_warned_of_where_equal_area_takes_their_lead_away(write):
    found = write()
    wins = {"deletion": 1.0, "insertion": 0.0}
    loses = {"area_matched_deletion": 0.0, "area_matched_insertion": 1.0}
    for metric, value in (wins | loses).items():
        found = synthetic.moved(found, "model_centric", ["constant"], metric, value)
    text = takeaways.flatness(found)
    assert text.startswith("**Do not rank") and "beats 8 of 8 methods on deletion and 8" in text
    assert "at equal area 0 and 0" in text
    fair = synthetic.moved(found, "model_centric", ["constant"], "deletion", 0.0)
    assert not takeaways.flatness(fair).startswith("**Do not rank")
    # Ten sequences cannot give a p that is small enough for so many comparisons.
    assert "(0 of these 16 after Holm's correction)" in text
    assert "those shown to beat a map of noise on deletion number" in text


def test_methods_that_beat_noise_on_deletion_are_counted_and_few_are_named(write):
    found = synthetic.moved(write(), "model_centric", ["random"], "deletion", 0.6)
    found = synthetic.moved(found, "model_centric", ["random"], "area_matched_deletion", 0.0)
    assert takeaways._beats_noise(found) == (
        " Of 8 methods, those shown to beat a map of noise on deletion number 2 (LIME, "
        "OCCLUSION_LP) on the threshold axis and 8 at equal area."
    )
    assert takeaways._beats_noise(write(drop=("random",))) == ""


def test_the_best_is_called_firm_only_where_it_is(write):
    found = write()
    firm = takeaways.firmest(found, "human_centric", "auc", "localisation")
    assert firm == (
        "**Best in localisation, of the methods at the paper's samples:** LIME, first in 100% of "
        "resamples."
    )
    bare = write(drop=("lime_converged", "kernel_shap_converged"))
    assert takeaways.firmest(bare, "human_centric", "auc", "it").startswith("**Best in it:** LIME")
    close = synthetic.CLIP | dict.fromkeys(("ig", "lime"), 0.8)
    means = synthetic.HOLD | {("human_centric", "clip", "auc"): close}
    open_one = takeaways.firmest(write(means), "human_centric", "auc", "localisation")
    assert open_one.startswith(
        "**No method at the paper's samples is firmly the best in localisation:**"
    )
    assert open_one.endswith(("IG could as well.", "LIME could as well."))
    alone = write(n_sequences=1, n_folds=1)
    assert "one sequence tells no more" in takeaways.firmest(alone, "human_centric", "auc", "it")


def test_the_networks_are_placed_beside_the_papers(write):
    found = write()
    assert "above the paper's 0.9331" in takeaways.detector(found)
    coin = found.predictions.assign(p=0.4)
    tables = {name: getattr(found, name) for name in published.TABLES} | {"predictions": coin}
    weak = published.Published(folder=found.folder, manifest=found.manifest, **tables)
    assert "below the paper's 0.9331" in takeaways.detector(weak)
    assert "(below the paper's 0.8886)" in takeaways.detector(weak)


def test_open_choices_name_what_turns_most(write):
    text = takeaways.sensitive(study.sensitivities(write()))
    assert "choices were varied" in text and "Kendall's tau" in text
    assert "is best in 8 of 32 rankings, and in 5 of these the order turns more than in 19" in text
    assert "redraws of the sequences: 0.83 on average" in text
    assert takeaways.sensitive(pd.DataFrame({"tau": [float("nan")], "choice": ["x"]})) == ""
    table = study.sensitivities(write())
    few = table.assign(n_groups=table["n_groups"].mask(table["best"] != table["best_after"], 3))
    text = takeaways.sensitive(few)
    assert "is best in 0 of 24 rankings" in text
    assert text.endswith(" 8 rankings of fewer than 4 sequences are left out.")
    draws = pd.DataFrame({"tau": [0.1, 0.2], "choice": list(takeaways.DRAWS)})
    assert takeaways.sensitive(draws) == ""  # what is drawn is no way to measure


def test_parts_of_the_recipe_that_matter_are_named(write):
    found = write()
    assert takeaways.recipe(found) == ""
    table = pd.DataFrame({
        "recipe": ["the recipe", "no flips", "slower", "no averaging"],
        "auc_difference": [0.0, -0.05, 0.01, 0.03],
        "auc_difference_low": [0.0, -0.08, -0.02, 0.01],
        "auc_difference_high": [0.0, -0.02, 0.03, 0.05],
    })  # fmt: skip
    text = takeaways.recipe(dataclasses.replace(found, extras={"ablation": table}))
    assert "Of 3 changes" in text and text.endswith("not told apart from it: 1.")
    assert "shown to cost AUC: no flips (-0.050 [-0.080, -0.020]);" in text
    assert "shown to gain it: no averaging (+0.030 [+0.010, +0.050]);" in text
    alike = table.assign(auc_difference_low=-1.0, auc_difference_high=1.0)
    text = takeaways.recipe(dataclasses.replace(found, extras={"ablation": alike}))
    assert "none is shown to matter; not told apart from it: 3." in text


def test_what_a_split_by_clip_is_worth_is_said_where_it_was_measured(write):
    found = write()
    assert takeaways.split(found) == ""
    guessed = np.random.default_rng(0).uniform(size=len(found.predictions))
    found = dataclasses.replace(found, predictions=found.predictions.assign(p=guessed))
    test = found.predictions.query("split == 'test' and fold == 0").drop(columns="split")

    def beside(p):
        lines = test.assign(alternative="split_by_clip", p=p)
        return dataclasses.replace(found, extras={"alternative_predictions": lines})

    leaky = takeaways.split(beside(test["label"] * 0.8 + 0.1))
    assert leaky.startswith("**The split** (fold 0).")
    assert "AUC 1.000 [1.000, 1.000], accuracy 1.000; on sequences that it has not" in leaky
    assert leaky.endswith("Ask of any figure how the clips were split.")
    same = takeaways.split(beside(test["p"]))
    assert same.endswith("this does not show what it is worth.")
    assert takeaways.split(beside(1 - test["label"])).endswith("Here it did not help.")


def test_networks_trained_again_are_held_against_the_study_s_own(write):
    found = write()
    assert takeaways.trained_again(found) == ""
    text = takeaways.trained_again(synthetic.with_replaced(found, fold=0))
    own = networks.performance(found).set_index(["part", "scene"]).loc["fold 0", "both"]
    assert "AUC 0.00" in text and text.count("fold ") == 1
    assert f", in the study {own['accuracy']:.3f} and {own['auc']:.3f})" in text


def test_verdicts_are_counted_with_those_that_stand_after_the_correction(write):
    few = takeaways.claims(study.judged(write(n_sequences=6)))
    assert few.startswith("**Claims.** Of the paper's 14 claims, on these data 14 hold, 0 do not")
    assert few.endswith("claims, 0 of the 14 that hold still stand.")
    open_ones = takeaways.claims(study.judged(write(n_sequences=1, n_folds=1)))
    assert open_ones.endswith("14 are undecided."), "nothing can stand"


def test_verdicts_of_both_kinds_are_corrected_apart():
    def one(verdict, stands):
        return types.SimpleNamespace(verdict=verdict, stands=stands)

    judged = [one("holds", True), one("holds", False), one("does not hold", True),
              one("undecided", None)]  # fmt: skip
    text = takeaways.claims(judged)
    assert text.endswith("1 of the 2 that hold and 1 of the 1 that do not hold still stand.")


def test_equal_area_is_a_lesson_where_it_contradicts_the_threshold_axis(write):
    def judged(number, verdict, equal):
        claim = types.SimpleNamespace(number=number)
        return types.SimpleNamespace(claim=claim, verdict=verdict, at_equal_area=equal)

    same = [judged(5, "holds", "holds"), judged(1, "holds", "")]
    assert takeaways.equal_area(same) == ""
    weaker = judged(6, "holds", "undecided")
    text = takeaways.equal_area([*same, weaker])
    assert text.startswith("**Equal area gives other verdicts** in 1 of 2 claims")
    against = judged(7, "holds", "does not hold")
    text = takeaways.equal_area([*same, weaker, against])
    assert text.startswith("**Equal area turns the answer** in 1 of 3 claims on faithfulness.")
    assert text.index("claim 7: “holds” on the threshold axis, “does not hold”") < text.index(
        "claim 6: “holds” on the threshold axis, “undecided” at equal area"
    )


def test_the_steadiest_is_read_beside_a_map_of_noise(write):
    found = synthetic.moved(write(), "robustness", ["random"], "cv", 0.3)
    text = takeaways.steadiest(found)
    assert (
        "4 of 8 methods are shown to be steadier (lower C_v) than a map of noise, 4 to be" in text
    )
    assert text.endswith("above chance in mAUC, as 8 of 8 methods are shown to be.")
    lost = synthetic.moved(found, "robustness", ["lime"], "mauc", 0.5)
    assert takeaways.steadiest(lost).endswith("as 7 of 8 methods are shown to be (not LIME).")
    assert takeaways.steadiness(write(drop=("random",))) == ""


def test_equal_area_is_warned_of_where_few_voxels_do_more_than_the_whole_baseline(write):
    found = write()
    gap = 0.4  # of every clip
    assert takeaways.beyond_gap(
        synthetic.moved(found, "model_centric", ["ig"], "deletion", 0.9)
    ) == (takeaways.beyond_gap(found))
    for method in study.methods(found):
        found = synthetic.moved(
            found, "model_centric", [method], "area_matched_deletion", gap - 0.1
        )
    assert takeaways.beyond_gap(found) == ""
    more = synthetic.moved(found, "model_centric", ["lime"], "area_matched_deletion", 0.9)
    text = takeaways.beyond_gap(more)
    assert "there LIME on 20 of 20 clips lower it by more" in text
    assert "(LIME: by 0.900, the baseline by 0.400; as many at random lower it by " in text
    everyone = more.model_centric["method"].unique()
    raised = synthetic.moved(more, "model_centric", everyone, "p_baseline", 0.99)
    assert takeaways.beyond_gap(raised) == "", "a gap below zero is no bar"


def test_maps_that_know_nothing_are_named_where_they_are_more_faithful_than_methods(write):
    found = write()
    for row in ("motion", "random_weights"):
        found = synthetic.moved(found, "model_centric", [row], "area_matched_deletion", 0.0)
    assert takeaways._knows_nothing(found) == ""
    found = synthetic.moved(found, "model_centric", ["motion"], "area_matched_deletion", 0.9)
    found = synthetic.moved(found, "model_centric", ["lime"], "area_matched_deletion", 0.95)
    text = takeaways._knows_nothing(found)
    assert "at equal area too: MOTION of 7 (IG, " in text and "LIME" not in text
    assert text in takeaways.flatness(found)


def test_clips_that_the_network_misses_are_counted_and_networks_at_chance_named(write):
    found = write()
    assert "misses" not in takeaways.explained(found)
    probabilities = found.model_centric
    few = probabilities["clip_id"].isin(found.clips["clip_id"][:3])
    low = probabilities["metric"].eq("p_clip") & few
    missed = probabilities.assign(value=probabilities["value"].mask(low, 0.2))
    text = takeaways.explained(dataclasses.replace(found, model_centric=missed))
    assert "the network misses 3 (p below one half), and on 3 its p rises" in text
    assert "chance" not in text
    random = found.predictions.assign(p=0.5)
    text = takeaways.explained(dataclasses.replace(found, model_centric=missed, predictions=random))
    assert "the network of fold 0 and fold 1 is not shown to beat chance" in text


def test_a_method_that_is_not_ranked_is_named(write):
    found = write()
    few = found.robustness["clip_id"].isin(found.clips["clip_id"][5:])
    undefined = few & found.robustness["method"].eq("lime") & found.robustness["metric"].eq("cv")
    scored = found.robustness.assign(value=found.robustness["value"].mask(undefined))
    part = dataclasses.replace(found, robustness=scored)
    text = takeaways.firmest(part, "robustness", "cv", "stability")
    assert "(not ranked, having too few clips: LIME)" in text
    assert "not ranked" not in takeaways.firmest(found, "robustness", "cv", "stability")
