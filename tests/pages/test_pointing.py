"""Lessons on where maps point come out either way, as the data say."""

import dataclasses

import pandas as pd
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.pages import pointing
from vad_helpers.store import published


@pytest.fixture
def write(tmp_path):
    return lambda means=None, **options: synthetic.write(tmp_path / "ucsd", means, **options)


def test_the_motion_baseline_warns_where_it_wins_and_not_where_it_loses(write):
    found = write()
    assert "better than 8 of 8 methods" in pointing.motion(found)
    assert "does not show that an explanation explains" in pointing.motion(found)
    weak = synthetic.moved(found, "human_centric", ["motion"], "auc", 0.6)
    text = pointing.motion(weak)
    assert "better than 3 of 8 methods" in text and "worse than IG" in text
    assert "does not show" not in text
    assert (
        pointing.motion(synthetic.moved(found, "human_centric", ["motion"], "auc", float("nan")))
        != ""
    )


def test_among_moving_voxels_the_stricter_rule_counts_once_the_methods_have_it(write):
    found = write()
    aucs = found.human_centric
    aucs = aucs[(aucs["level"] == "clip") & (aucs["metric"] == "motion_auc")]
    n_voxels = 20 * 158 * 237
    any_change = found.clips["clip_id"][:4]

    def controls(methods):
        kept = aucs[aucs["method"].isin(methods)].assign(metric="mover_auc")
        counts = aucs[aucs["method"] == "motion"].assign(metric="n_movers", value=0.1 * n_voxels)
        return pd.concat([kept, counts])

    moving = aucs[aucs["method"] == "motion"].assign(metric="n_moving", value=0.1 * n_voxels)
    moving["value"] = moving["value"].mask(moving["clip_id"].isin(any_change), 0.4 * n_voxels)
    tables = {name: getattr(found, name) for name in published.TABLES}
    tables["human_centric"] = pd.concat([found.human_centric, moving])

    def said(scored):
        given = tables | {"controls": scored}
        return pointing.moving(
            published.Published(folder=found.folder, manifest=found.manifest, **given)
        )

    everyone = said(controls(aucs["method"].unique()))
    assert everyone.startswith("**Among movers alone**") and "no verdict" not in everyone
    assert "20 clips of 10 sequences), frame difference" in everyone
    assert "By the protocol's rule it is ahead of " in everyone
    kept, sequences = controls(aucs["method"].unique()), found.clips["sequence"].unique()
    three = said(kept[kept["sequence"].isin(sequences[:3])])
    assert three.startswith("**Among moving voxels alone,**"), "of three there is no interval"
    assert "of 5 sequences), frame" in said(kept[kept["sequence"].isin(sequences[:5])])
    few = said(controls(["motion"]))
    assert few.startswith("**Among moving voxels alone,**")
    assert f"In 4 of {len(found.clips)} clips any change counts as motion" in few
    assert "any change" not in said(found.controls)


def test_signs_are_a_lesson_with_the_untrained_network_treated_alike(write):
    found = write()
    assert pointing.signed(found) == ""
    aucs = found.human_centric
    aucs = aucs[aucs["metric"].eq("auc") & aucs["level"].eq("clip")]
    up = aucs["method"].isin(["lime", "random_weights"])
    other = aucs.assign(level="clip_abs", value=aucs["value"].mask(up, aucs["value"] + 0.19))
    both = dataclasses.replace(found, human_centric=pd.concat([found.human_centric, other]))
    text = pointing.signed(both)
    assert "the clip AUC of 1 of 8 methods is shown to rise and that of 0 to fall" in text
    assert "most that of LIME (0.799 → 0.989)" in text
    assert "So treated, 3 of 8 are shown to localise better" in text, "0.69 is the bar"
    assert text.endswith("treated alike (IG, IG_SMOOTHGRAD, LIME).")
    scored = both.human_centric[both.human_centric["method"] != "random_weights"]
    assert "So treated" not in pointing.signed(dataclasses.replace(both, human_centric=scored))


def test_a_leak_is_read_beside_that_of_flat_maps(write):
    text = pointing.leakage(write())
    assert "GUIDED_BACKPROP 0.698" in text and "CONSTANT 0.508, RANDOM 0.497" in text
    assert pointing.leakage(write(drop=("random", "constant"))) == ""


def test_rows_with_many_more_samples_are_asked_too(write):
    found = write()
    assert "and the rows of many more samples too." in pointing.motion(found)
    ahead = synthetic.moved(found, "human_centric", ["lime_converged"], "auc", 0.99)
    assert "at the paper's samples, worse than LIME_CONVERGED." in pointing.motion(ahead)
    bare = write(drop=("lime_converged", "kernel_shap_converged"))
    assert "more samples" not in pointing.motion(bare)


def test_a_spot_in_the_middle_is_asked_for(write):
    found = synthetic.moved(write(), "human_centric", ["centre"], "auc", 0.99)
    text = pointing.centred(found)
    assert "A spot in the middle of every frame" in text and "better than 8 of 8" in text
    assert pointing.centred(write(drop=("centre",))) == ""


def test_methods_are_held_against_a_network_that_has_learnt_nothing(write):
    found = write()
    text = pointing.learnt(synthetic.moved(found, "human_centric", ["random_weights"], "auc", 0.65))
    assert text.startswith("**Ask what a network that has learnt nothing gives.** 4 of 8 methods")
    assert "better: IG, IG_SMOOTHGRAD, GRADIENT_SHAP, LIME; worse: GUIDED_BACKPROP" in text
    low = pointing.learnt(synthetic.moved(found, "human_centric", ["random_weights"], "auc", 0.1))
    assert low.startswith("**What was learnt.** 8 of 8 methods are shown to localise better")
    assert "worse" not in low
    assert pointing.learnt(write(drop=("random_weights",))) == ""
    assert "With many more samples, LIME_CONVERGED is too." in text
    none = pointing.learnt(synthetic.moved(found, "human_centric", ["random_weights"], "auc", 0.8))
    assert "0 of 8 methods are shown" in none and "too." not in none


def test_methods_are_held_against_themselves_on_a_network_that_has_learnt_nothing(write):
    found = write()
    aucs = found.human_centric[found.human_centric["method"] == "lime"]
    for shift, words in ((0.1, "worse: LIME"), (-0.1, "better: IG, LIME"),
                         (0, "not told apart: LIME")):  # fmt: skip
        other = aucs.assign(method="lime_random", value=aucs["value"] + shift)
        both = pd.concat([found.human_centric, other])
        text = pointing.learnt(dataclasses.replace(found, human_centric=both))
        own = text.split("Against itself on such a network")[1]
        assert words in own
