"""Localisation by the size of attributions, beside that of their positive parts."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.store import signs, study, verdicts
from vad_helpers.tables import statistics


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("study"))


def with_absolute(found, change, clip_ids=None):
    """The study, with scores of |E| made from its own by a function of the value."""
    located = found.human_centric
    located = located[located["metric"].isin(["iou", "auc"])]
    if clip_ids is not None:
        located = located[located["clip_id"].isin(clip_ids)]
    other = located.assign(level=located["level"] + "_abs", value=change(located["value"]))
    return dataclasses.replace(found, human_centric=pd.concat([found.human_centric, other]))


def test_without_scores_of_absolute_values_there_is_nothing_to_say(found):
    assert signs.absolute(found).empty and signs.judged_absolute(found).empty


def test_a_row_is_compared_with_itself_on_the_clips_that_have_both(found):
    few = found.clips["clip_id"][:6]
    both = with_absolute(found, lambda value: value + 0.1, few)
    table = signs.absolute(both).set_index(["method", "level", "metric"])
    line = table.loc["lime", "clip", "auc"]
    part = found.human_centric
    part = part[(part["method"] == "lime") & (part["metric"] == "auc") & (part["level"] == "clip")]
    part = part[part["clip_id"].isin(few)]
    assert line["mean"] == pytest.approx(part["value"].mean())
    assert line["mean_after"] == pytest.approx(part["value"].mean() + 0.1)
    paired = statistics.paired_difference(
        part["value"] + 0.1, part["value"], part["sequence"], **study.options(found)
    )
    assert line[["difference", "low", "high"]].tolist() == pytest.approx(
        [paired["difference"], paired["low"], paired["high"]]
    )
    assert (line["n"], line["n_groups"]) == (6, part["sequence"].nunique())
    assert "lime_black" not in table.index and "motion" in table.index


def test_an_undefined_score_on_either_side_leaves_the_clip_out(found):
    first = found.clips["clip_id"][0]
    both = with_absolute(found, lambda value: value)
    gone = both.human_centric["clip_id"].eq(first) & both.human_centric["level"].eq("clip_abs")
    scored = both.human_centric.assign(value=both.human_centric["value"].mask(gone, np.nan))
    table = signs.absolute(dataclasses.replace(both, human_centric=scored))
    counts = table.groupby("level")["n"].unique()
    assert counts["clip"].tolist() == [19] and counts["frame"].tolist() == [20]


def test_claims_that_localisation_decides_are_judged_on_the_same_clips(found):
    few = found.clips["clip_id"][:12]
    both = with_absolute(found, lambda value: 1 - value, few)
    table = signs.judged_absolute(both).set_index("claim")
    assert table.index.tolist() == [1, 2, 3, 4, 10, 11, 14]
    assert set(table["before"]) == {verdicts.HOLDS} and set(table["after"]) == {verdicts.DOES_NOT}
    assert (table["n_turned"] == table["n_contrasts"]).all()
    assert set(table["n_clips"]) == {12}


def test_verdicts_stay_where_scores_do(found):
    table = signs.judged_absolute(with_absolute(found, lambda value: value))
    assert (table["before"] == table["after"]).all() and not table["n_changed"].any()
