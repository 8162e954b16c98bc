"""Claims and ranks judged again, where it is known what must turn."""

import dataclasses

import pytest

from tests import synthetic_study as synthetic
from vad_helpers.store import rejudged


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("study"))


def test_converged_rows_take_their_methods_place_among_the_others(found):
    scored = found.human_centric
    moved = scored["method"].eq("lime_converged") & scored["metric"].eq("auc")
    better = scored.assign(value=scored["value"].mask(moved, 0.1))
    table = rejudged.convergence(dataclasses.replace(found, human_centric=better))
    line = table[(table["method"] == "lime") & (table["metric"] == "auc")].iloc[0]
    assert (line["rank"], line["rank_after"]) == (1, 8)
    assert line["mean_after"] == pytest.approx(0.1)
    assert line["difference"] == pytest.approx(0.1 - line["mean"])
    without = scored[~scored["method"].str.endswith("_converged")]
    table = rejudged.convergence(dataclasses.replace(found, human_centric=without))
    assert set(table["metric"]) == {"deletion", "cv"}


def test_a_lower_metric_ranks_the_lowest_first(found):
    table = rejudged.convergence(found).set_index(["method", "metric"])
    assert table.loc[("kernel_shap", "cv"), "rank"] == 8


def with_converged(found, clips=None, **values):
    """Give converged rows one value in AUC and IoU, on some clips."""
    scored = found.human_centric
    for row, value in values.items():
        part = scored["method"].eq(row) & scored["metric"].isin(["auc", "iou"])
        scored = scored.assign(value=scored["value"].mask(part, value))
    if clips is not None:
        lacking = scored["method"].str.endswith("_converged") & ~scored["clip_id"].isin(clips)
        scored = scored[~lacking]
    return dataclasses.replace(found, human_centric=scored)


def test_claims_are_judged_again_with_the_converged_rows_in_their_methods_places(found):
    """LIME falls from the first place to the last, and KernelSHAP with it."""
    worse = with_converged(found, lime_converged=0.1, kernel_shap_converged=0.05)
    table = rejudged.judged_converged(worse).set_index("claim")
    assert table.index.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13]
    assert set(table["before"]) == {"holds"}
    turned = table.index[table["after"] != "holds"].tolist()
    assert turned == [2, 3, 13], "the costs have no converged row: not measured"
    assert table.loc[2, "after"] == "does not hold" and "against" in table.loc[2, "reason"]
    assert set(table["n_clips"]) == {20} and set(table["n_groups"]) == {10}


def test_claims_are_judged_again_on_the_clips_that_are_called_anomalous(found):
    assert rejudged.judged_called(found).empty, "no clip is missed"
    missed = found.clips["clip_id"][:6]
    scored = found.model_centric
    low = scored["metric"].eq("p_clip") & scored["clip_id"].isin(missed)
    given = dataclasses.replace(
        found, model_centric=scored.assign(value=scored["value"].mask(low, 0.2))
    )
    table = rejudged.judged_called(given).set_index("claim")
    assert len(table) == 14 and set(table["n_clips"]) == {14}
    assert set(table["after"]) == {"holds"}
    # LIME is the best on missed clips alone: on the others it is the worst.
    located = found.human_centric
    worse = (
        located["method"].eq("lime")
        & located["metric"].isin(["auc", "iou", "f1"])
        & ~located["clip_id"].isin(missed)
    )
    high = located["method"].eq("lime") & located["clip_id"].isin(missed)
    high &= located["metric"].isin(["auc", "iou", "f1"])
    values = located["value"].mask(worse, 0.01).mask(high, 1e3)
    turned = rejudged.judged_called(
        dataclasses.replace(given, human_centric=located.assign(value=values))
    ).set_index("claim")
    assert turned.loc[2, "before"] != "does not hold" and turned.loc[2, "after"] == "does not hold"
    everyone = scored["metric"].eq("p_clip")
    none = scored.assign(value=scored["value"].mask(everyone, 0.2))
    assert rejudged.judged_called(dataclasses.replace(found, model_centric=none)).empty


def test_claims_that_need_no_converged_row_or_one_that_lacks_are_left_out(found):
    asked = set(rejudged.judged_converged(found)["claim"])
    assert not asked & {10, 12}, "neither LIME nor KernelSHAP is in them"
    assert 14 not in asked, "the variants with a black baseline have no converged counterpart"
    plain = found.rows[~found.rows["method"].str.endswith("_converged")]
    assert rejudged.judged_converged(dataclasses.replace(found, rows=plain)).empty


def test_claims_are_judged_again_on_the_clips_that_the_converged_rows_have(found):
    few = with_converged(found, found.clips["clip_id"][:6])
    assert set(rejudged.judged_converged(few)["n_clips"]) == {6}
    assert set(rejudged.judged_converged(few)["n_groups"]) == {3}
    assert rejudged.judged_converged(with_converged(found, [])).empty
