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


def test_scores_with_a_stronger_blur_stand_beside_the_study_s_on_the_same_clips(found):
    assert faithfulness.stronger_baseline(found).empty
    few = found.clips["clip_id"][:3].tolist()
    part = found.model_centric[found.model_centric["clip_id"].isin(few)]
    moved = part.assign(value=part["value"].mask(part["metric"] == "p_baseline", 0.05))
    moved = moved.assign(value=moved["value"].mask(moved["metric"] == "deletion", 0.9))
    lines = moved.assign(alternative="strong_blur", table="model_centric")
    table = faithfulness.stronger_baseline(
        dataclasses.replace(found, extras={"alternatives": lines})
    )
    assert set(table["n_clips"]) == {3} and table.index[0] == "ig"
    assert table["gap"].tolist() == pytest.approx([0.4] * len(table))
    assert table["gap_strong"].tolist() == pytest.approx([0.9] * len(table))
    mine = part[(part["method"] == "ig") & (part["metric"] == "deletion")]["value"].mean()
    assert table.loc["ig", ["deletion", "deletion_strong"]].tolist() == pytest.approx([mine, 0.9])
