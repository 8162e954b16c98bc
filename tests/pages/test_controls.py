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
    assert "+0.000 [+0.000, +0.000]" in text and "CONSTANT" in text
    assert "20 (10)" in text and "the change with its interval" in text


def test_of_three_sequences_there_is_no_interval_and_another_precision_is_named(found):
    lines = found.model_centric.assign(alternative="strong_blur", table="model_centric")
    few = lines[lines["sequence"].isin(sorted(found.clips["sequence"].unique())[:3])]
    runs = pd.DataFrame({"alternative": ["strong_blur"], "fold": [0], "precision": ["bf16"]})
    extras = {"alternatives": few, "alternative_runs": runs}
    text = controls.other_baselines(dataclasses.replace(found, extras=extras))
    assert "a stronger blur (in bf16, the study in fp32)" in text
    assert "(no interval: it takes 4 sequences)" in text and "6 (3)" in text
    assert "[" not in text.split("not measured yet")[0]
    same = extras | {"alternative_runs": runs.assign(precision="fp32")}
    assert "(in fp32" not in controls.other_baselines(dataclasses.replace(found, extras=same))


def test_scores_among_movers_are_shown_once_intervals_can_be_given(found):
    part = found.human_centric[found.human_centric["metric"] == "motion_auc"]
    few = part[part["clip_id"].isin(found.clips["clip_id"][:2])].assign(metric="mover_auc")
    sizes = [part.assign(metric=name, value=40.0) for name in ("n_moving", "n_movers")]
    located = pd.concat([found.human_centric, sizes[0]])
    scored = pd.concat([few, sizes[1]])
    text = controls.motion(dataclasses.replace(found, human_centric=located, controls=scored))
    assert "AUC among movers is not measured on enough clips." in text
    assert text.count("AUC among movers") == 1
    five = part["sequence"].isin(found.clips["sequence"].unique()[:5])
    scored = pd.concat([part[five].assign(metric="mover_auc"), sizes[1]])
    text = controls.motion(dataclasses.replace(found, human_centric=located, controls=scored))
    assert f"AUC among movers is measured on 10 of {len(found.clips)} clips;" in text
    assert text.count("AUC among movers") == 3


def test_scores_are_divided_by_no_gap_near_zero(found):
    p_baseline = found.model_centric["metric"].eq("p_baseline")
    near = found.model_centric.assign(
        value=found.model_centric["value"].mask(
            p_baseline & found.model_centric["clip_id"].eq(found.clips["clip_id"][0]), 0.945
        )
    )
    text = controls.by_gap(dataclasses.replace(found, model_centric=near))
    divided = text[text.index("Deletion / gap") :]
    assert "gap &gt; 0 (" not in divided and "gap &gt; 0.05 (19 clips)" in divided
    assert "gap &gt; 0 (20 clips)" in text.split("Deletion / gap")[0]
