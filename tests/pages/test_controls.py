"""Controls of a study's tables, as the results page tells them."""

import dataclasses
from pathlib import Path

import pandas as pd
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.pages import controls

BOOK = Path(__file__).parents[2] / "book"


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("study"))


def test_whether_the_samples_are_enough_is_not_said_before_it_is_checked(found):
    shown = controls.agreement(found)
    assert shown.startswith("Rows that draw many more samples: LIME_CONVERGED, KERNEL")
    assert "was not checked" in shown
    rows = found.rows
    drawn = rows["settings"].mask(rows["method"].eq("lime_converged"), '{"n_samples": 800}')
    known = dataclasses.replace(found, rows=rows.assign(settings=drawn))
    assert "LIME_CONVERGED (800 samples), KERNEL" in controls.agreement(known)
    plain = rows[~rows["method"].str.endswith("_converged")]
    assert controls.agreement(dataclasses.replace(found, rows=plain)) == ""
    prose = (BOOK / "results.md").read_text()
    assert "two seeds agreed" not in prose


def test_what_moves_is_said_by_either_rule(found):
    part = found.human_centric[found.human_centric["metric"] == "motion_auc"]
    n_voxels = 20 * 158 * 237

    def counts(name, share):
        return part.assign(metric=name, value=share * n_voxels)

    located = pd.concat([found.human_centric, counts("n_moving", 0.4)])
    without = dataclasses.replace(found, human_centric=located)
    assert "40% of a clip's voxels move. How many do by more" in controls.motion(without)
    few = part["clip_id"].isin(found.clips["clip_id"][:3])
    movers = counts("n_movers", 0.1)
    movers["value"] = movers["value"].where(few, 0.4 * n_voxels)
    scored = pd.concat([movers, part.assign(metric="mover_auc")])
    text = controls.motion(dataclasses.replace(without, controls=scored))
    assert f"In 3 of {len(found.clips)} clips its deviation is below one grey step" in text
    assert text.count("AUC among movers") == 2


def test_scores_under_another_baseline_say_how_they_change(found):
    assert controls.other_baselines(found).count("are not measured yet") == 2
    lines = found.model_centric.assign(alternative="spacetime_blur", table="model_centric")
    text = controls.other_baselines(dataclasses.replace(found, extras={"alternatives": lines}))
    assert "Scores with a stronger blur are not measured yet" in text
    assert "The study's blur → a blur over time too" in text
    assert "0.000 [0.000, 0.000]" in text and "CONSTANT" in text
