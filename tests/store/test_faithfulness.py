"""Controls of deletion and insertion in a study, worked another way."""

import dataclasses

import numpy as np
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.store import faithfulness


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("study"))


def test_flatness_shows_means_in_the_order_of_the_rows(found):
    table = faithfulness.flatness(found)
    assert table["label"].iloc[0] == "IG" and "LIME_BLACK" not in set(table["label"])
    assert table["metric"].unique().tolist() == list(faithfulness.FLATNESS)
    scored = found.model_centric
    part = scored[(scored["method"] == "constant") & (scored["metric"] == "deletion")]
    mine = table[(table["method"] == "constant") & (table["metric"] == "deletion")]
    assert mine["mean"].item() == pytest.approx(part["value"].mean())


def test_every_clip_has_its_gap(found):
    table = faithfulness.gaps(found)
    assert len(table) == len(found.clips)
    np.testing.assert_allclose(table["gap"], 0.4)
    part = faithfulness.faithfulness_by_gap(found)
    assert part.loc[part["min_gap"] == 0.2, "n_clips"].eq(20).all()


def test_clips_whose_equal_area_score_exceeds_their_gap_are_counted(found):
    scored = found.model_centric
    mine = scored["metric"].eq("area_matched_deletion") & scored["method"].eq("ig")
    above = mine & scored["clip_id"].isin(found.clips["clip_id"][:5])
    value = scored["value"].mask(mine, 0.4 - 1e-9).mask(above, 0.5)
    moved = dataclasses.replace(found, model_centric=scored.assign(value=value))
    table = faithfulness.beyond_gap(moved).set_index("method")
    assert table.loc["ig", ["n_clips", "n_beyond"]].tolist() == [20, 5]
    assert table.loc["ig", "gap"] == pytest.approx(0.4)
    assert table.loc["ig", "deletion"] == pytest.approx(0.425)
    assert "ig_black" not in table.index
    few = scored[scored["metric"] != "p_baseline"]
    assert faithfulness.beyond_gap(dataclasses.replace(found, model_centric=few)).empty


def test_scores_with_another_baseline_stand_beside_the_study_s_on_the_same_clips(found):
    assert faithfulness.other_baseline(found, "strong_blur").empty
    few = found.clips["clip_id"][:3].tolist()
    part = found.model_centric[found.model_centric["clip_id"].isin(few)]
    moved = part.assign(value=part["value"].mask(part["metric"] == "p_baseline", 0.05))
    moved = moved.assign(value=moved["value"].mask(moved["metric"] == "deletion", 0.9))
    moved = moved[moved["method"].isin(["ig", "lime", "constant"])]
    lines = moved.assign(alternative="strong_blur", table="model_centric")
    extended = dataclasses.replace(found, extras={"alternatives": lines})
    table = faithfulness.other_baseline(extended, "strong_blur")
    assert set(table["n_clips"]) == {3} and table.index.tolist() == ["ig", "lime", "constant"]
    assert table["gap"].tolist() == pytest.approx([0.4] * 3)
    assert table["gap_other"].tolist() == pytest.approx([0.9] * 3)
    assert table["gap_change"].tolist() == pytest.approx([0.5] * 3)
    mine = part[(part["method"] == "ig") & (part["metric"] == "deletion")]["value"]
    assert table.loc["ig", ["deletion", "deletion_other"]].tolist() == pytest.approx(
        [mine.mean(), 0.9]
    )
    low, change, high = table.loc["ig", [f"deletion_{e}" for e in ("low", "change", "high")]]
    assert change == pytest.approx(0.9 - mine.mean()) and low <= change <= high
    assert (0.9 - mine).min() - 1e-9 <= low and high <= (0.9 - mine).max() + 1e-9
    assert faithfulness.other_baseline(extended, "spacetime_blur").empty
