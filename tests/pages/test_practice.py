"""What to do follows from the data: each part can come out in its other way."""

import dataclasses

import pandas as pd
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.pages import practice
from vad_helpers.store import study


@pytest.fixture
def found(tmp_path):
    return synthetic.write(tmp_path / "ucsd")


def test_maps_that_beat_a_network_that_has_learnt_nothing_are_named_with_their_seconds(found):
    high = synthetic.moved(found, "human_centric", ["random_weights"], "auc", 0.78)
    text = practice.in_practice(high)
    assert "LIME, clip AUC 0.799 in 3.21 s" in text, "the variant has no seconds here"
    assert text.index("LIME, clip") < text.index("LIME_CONVERGED, clip"), "the highest comes first"
    assert "paper's settings is" not in text
    swapped = synthetic.moved(high, "human_centric", ["lime"], "auc", 0.5)
    assert "; none of the methods at the paper's settings is." in practice.in_practice(swapped)
    none = practice.in_practice(
        synthetic.moved(found, "human_centric", ["random_weights"], "auc", 0.99)
    )
    assert "No map of this study is shown to localise better" in none


def test_an_advised_map_of_many_more_samples_says_whether_its_seeds_agree(found):
    found = synthetic.moved(found, "human_centric", ["random_weights"], "auc", 0.6)
    assert "two seeds" not in practice.in_practice(found)
    check = pd.DataFrame({"fold": 0, "clip_id": "c", "method": "lime", "n_samples": [25, 50],
                          "correlation": 0.9, "converged": [False, False]})  # fmt: skip
    checked = dataclasses.replace(found, extras={"convergence": check})
    said = [part for part in practice.in_practice(checked).split("; ") if "two seeds" in part]
    assert len(said) == 1 and said[0].startswith("LIME_CONVERGED, clip AUC")
    assert said[0].endswith(" (two seeds agree in 0 of 1 checks)")


def test_a_map_passes_every_control_or_is_not_advised(found):
    found = synthetic.moved(found, "human_centric", ["random_weights"], "auc", 0.6)
    assert "in the middle of every frame: LIME, clip AUC" in practice.in_practice(found)
    beaten = synthetic.moved(found, "human_centric", ["centre"], "auc", 0.9)
    assert "No map of this study is shown to localise better" in practice.in_practice(beaten)
    scored = found.human_centric
    untrained = scored[scored["method"] == "lime"].assign(method="lime_random", value=0.95)
    learnt_less = dataclasses.replace(found, human_centric=pd.concat([scored, untrained]))
    text = practice.in_practice(learnt_less)
    assert "LIME, clip AUC" not in text and "LIME_CONVERGED, clip AUC" in text
    asked = text[text.index("What ") :]
    assert "LIME_CONVERGED" in asked.split(" would give on a network with random weights")[0]


def test_frame_difference_is_advised_only_where_it_leads(found):
    assert "Show frame difference" in practice.in_practice(found)
    weak = synthetic.moved(found, "human_centric", ["motion"], "auc", 0.3)
    assert "frame difference" not in practice.in_practice(weak)


def test_missed_clips_are_a_caution_only_where_there_are_some(found):
    assert "calls the clip anomalous" not in practice.in_practice(found)
    everyone = found.model_centric["method"].unique()
    missed = synthetic.moved(found, "model_centric", everyone, "p_clip", 0.2)
    assert "Look first whether the network calls the clip anomalous" in practice.in_practice(missed)


def test_each_axis_is_warned_of_where_it_misleads(found):
    flat = synthetic.moved(found, "model_centric", ["constant"], "deletion", 1.0)
    methods = study.methods(found)
    calm = synthetic.moved(flat, "model_centric", methods, "area_matched_deletion", 0.1)
    assert "Compare deletion at equal area: by threshold" in practice.in_practice(calm)
    both = synthetic.moved(flat, "model_centric", methods[:1], "area_matched_deletion", 0.9)
    assert "Trust no single axis of deletion" in practice.in_practice(both)
    fair = synthetic.moved(found, "model_centric", ["constant"], "deletion", 0.0)
    assert "axis" not in practice.in_practice(fair)


def test_without_the_row_of_random_weights_nothing_is_advised(tmp_path):
    assert practice.in_practice(synthetic.write(tmp_path, drop=("random_weights",))) == ""


def test_scenes_that_differ_are_named(found):
    found = synthetic.moved(found, "human_centric", ["lime"], "auc", 0.8)
    found = synthetic.moved(found, "human_centric", ["ig_smoothgrad"], "auc", 0.75)
    rest = set(study.methods(found)) - {"lime", "ig_smoothgrad"}
    found = synthetic.moved(found, "human_centric", rest, "auc", 0.6)
    text = practice.scenes(found)
    assert text.startswith(
        "**Scenes.** Of the methods at the paper's samples, the highest clip AUC has LIME in both."
    )
    assert text.endswith("Between ped1 and ped2 every method's intervals overlap.")
    scored = found.human_centric
    there = scored["clip_id"].str.startswith("ped2") & scored["method"].eq("lime")
    low = dataclasses.replace(
        found, human_centric=scored.assign(value=scored["value"].mask(there, 0.2))
    )
    text = practice.scenes(low)
    assert "LIME in ped1 and IG_SMOOTHGRAD in ped2" in text
    assert "the intervals of LIME (0.800, 0.200) do not overlap: quote scenes apart" in text
    one = found.clips["scene"] == "ped1"
    clips = found.clips[one]
    assert practice.scenes(dataclasses.replace(found, clips=clips)) == ""
