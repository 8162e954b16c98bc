"""What a published study says, against values worked by hand or by another way."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.store import published, study
from vad_helpers.tables import statistics


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("study"))


def changed(found, **tables):
    kept = {name: getattr(found, name) for name in published.TABLES}
    return published.Published(folder=found.folder, manifest=found.manifest, **(kept | tables))


def with_all_zero(found, method, clips):
    """Say of maps of a method on some clips that they have no positive voxel."""
    scored = found.human_centric
    part = scored[(scored["level"] == "clip") & (scored["metric"] == "auc")]
    zero = part["method"].eq(method) & part["clip_id"].isin(clips)
    counted = part.assign(metric="all_zero", value=zero.astype(float))
    return changed(found, human_centric=pd.concat([scored, counted], ignore_index=True))


def test_frame_difference_is_compared_clip_by_clip(found):
    table = study.against_row(found, "motion", "human_centric", ("auc",)).set_index("method")
    scored = found.human_centric
    part = scored[(scored["level"] == "clip") & (scored["metric"] == "auc")]
    wide = part.pivot(index="clip_id", columns="method", values="value")
    for method in synthetic.FAMILIES:
        expected = (wide["motion"] - wide[method]).mean()
        assert table.loc[method, "difference"] == pytest.approx(expected)
    assert set(table["better"]) == {"a"}
    assert study.against_row(found, "nobody", "human_centric", ("auc",)).empty


def test_means_are_over_the_clips_that_all_rows_have_and_comparisons_over_all_pairs(found):
    clip = found.clips["clip_id"].iloc[0]
    begun = {}
    for name in study.MEASURED:
        table = getattr(found, name)
        begun[name] = table[(table["clip_id"] != clip) | table["method"].isin(["ig", "lime"])]
    part = changed(found, **begun)
    assert set(study.summary(part, "human_centric")["n"]) == {len(found.clips) - 1}
    assert study.evened(found) is found
    scored = part.human_centric
    three = study.against_row(part, "ig", "human_centric", ("auc",)).set_index("method")["n"]
    assert three["lime"] == len(found.clips) and three["occlusion_lp"] == len(found.clips) - 1
    nothing = changed(found, human_centric=scored[scored["method"] == "ig"])
    assert study.evened(nothing) is nothing, "nothing is finished: what there is, is shown"


def test_shares_of_moving_voxels_are_those_of_one_row_a_clip(found):
    def counted(metric, clips):
        lines = clips.assign(method="ig", level="clip", metric=metric, value=20 * 158 * 237 / 4)
        both = pd.concat([lines, lines.assign(method="lime")])
        return both[list(published.TABLES["controls"])]

    clips = found.clips[["fold", "clip_id", "sequence"]]
    extended = changed(
        found, human_centric=counted("n_moving", clips), controls=counted("n_movers", clips[:3])
    )
    shares = study.moving_shares(extended)
    assert shares["moving"].tolist() == pytest.approx([0.25] * len(clips))
    assert shares["movers"].count() == 3 and study.moving_shares(found).empty


def test_all_zero_maps_are_counted_of_every_method(found):
    table = study.sampled_maps(with_all_zero(found, "ig", found.clips["clip_id"][:1]))
    assert table.index.tolist() == ["ig", "kernel_shap", "lime"]
    assert table.loc["ig", "n_all_zero"] == 1 and table.loc["lime", "n_all_zero"] == 0
    assert table.loc["lime", "n_nonzero"] == 15


def test_a_variant_says_on_how_many_clips_a_map_is_all_zero(found):
    clips = found.clips["clip_id"][:3]
    table = study.against_variants(with_all_zero(found, "lime_black", clips), "black")
    assert set(table.loc[table["method"] == "lime", "n_all_zero"]) == {3}
    assert set(table.loc[table["method"] == "ig", "n_all_zero"]) == {0}
    assert study.n_all_zero(found, ("lime", "nobody")) == 0


def test_a_clip_is_finished_when_every_main_row_has_all_its_scores(found):
    assert study.finished_clips(found) == found.clips["clip_id"].tolist()
    lacking = found.clips["clip_id"][1]
    scored = found.model_centric
    gone = scored["method"].eq("constant") & scored["clip_id"].eq(lacking)
    part = changed(found, model_centric=scored[~gone])
    assert set(found.clips["clip_id"]) - set(study.finished_clips(part)) == {lacking}
    # A row that was limited on purpose leaves nothing unfinished.
    settings = {**found.settings, "n_clips_slow": 3}
    manifest = {**found.manifest, "settings": settings}
    few = found.clips["clip_id"][:3]
    tables = {
        name: table[table["method"].ne("occlusion_sp") | table["clip_id"].isin(few)]
        for name in (*study.MEASURED, "explanations")
        for table in [getattr(found, name)]
    }
    limited = dataclasses.replace(found, manifest=manifest, **tables)
    assert study.finished_clips(limited) == found.clips["clip_id"].tolist()


def test_a_method_that_lacks_a_clip_keeps_its_rank_on_the_clips_that_all_share(found):
    scored = found.robustness
    of_clip = scored["clip_id"].eq(found.clips["clip_id"][0]) & scored["metric"].eq("cv")
    whole = study.firm_ranks(found, "robustness", "clip", "cv")
    best = whole["method"].iloc[0]
    undefined = scored["value"].mask(of_clip & scored["method"].eq(best))
    part = study.firm_ranks(
        changed(found, robustness=scored.assign(value=undefined)), "robustness", "clip", "cv"
    )
    assert part["method"].iloc[0] == best and len(part) == len(whole)
    assert set(part["n"]) == {len(found.clips) - 1}


def test_a_method_with_few_clips_is_named_and_does_not_take_the_others_clips(found):
    scored = found.robustness
    few = ~scored["clip_id"].isin(found.clips["clip_id"][:5]) & scored["method"].eq("lime")
    part = changed(found, robustness=scored.assign(value=scored["value"].mask(few)))
    firm = study.firm_ranks(part, "robustness", "clip", "cv")
    assert "lime" not in set(firm["method"]) and set(firm["n"]) == {len(found.clips)}
    assert study.unranked(part, "robustness", "clip", "cv") == ["LIME"]
    assert study.unranked(found, "robustness", "clip", "cv") == []


def test_parts_are_compared_on_clips_that_all_rows_have(found):
    scored = found.human_centric
    lacking = found.clips["clip_id"][0]
    gone = scored["method"].eq("constant") & scored["clip_id"].eq(lacking)
    part = changed(found, human_centric=scored[~gone])
    scenes = study.breakdown(part, "scene").drop_duplicates("part")
    assert scenes["clips"].sum() == len(found.clips) - 1


def test_parts_are_averaged_apart(found):
    scenes = study.breakdown(found, "scene").set_index(["part", "label"])
    assert set(scenes["clips"]) == {10} and set(scenes["n_groups"]) == {5}
    part = found.human_centric.merge(found.clips[["clip_id", "scene"]], on="clip_id")
    part = part[(part["level"] == "clip") & (part["metric"] == "auc")]
    mine = part[(part["method"] == "lime") & (part["scene"] == "ped1")]
    line = scenes.loc["ped1", "LIME"]
    assert line["mean"] == pytest.approx(mine["value"].mean())
    drawn = statistics.bootstrap_mean(mine["value"], mine["sequence"], **study.options(found))
    assert (line["low"], line["high"]) == (drawn["low"], drawn["high"])
    sequences = study.breakdown(found, "sequence")
    assert sequences["part"].nunique() == 10 and sequences["low"].isna().all()
    deleted = study.breakdown(found, "scene", table="model_centric", metric="deletion")
    part = found.model_centric.merge(found.clips[["clip_id", "scene"]], on="clip_id")
    part = part[(part["metric"] == "deletion") & (part["method"] == "lime")]
    of_ped2 = deleted.set_index(["part", "label"]).loc[("ped2", "LIME"), "mean"]
    assert of_ped2 == pytest.approx(part.loc[part["scene"] == "ped2", "value"].mean())


def test_clips_that_the_network_missed_stand_apart(found):
    p = pd.DataFrame({"clip_id": found.clips["clip_id"], "split": "test", "p": 0.5})
    p.loc[:3, "p"] = 0.49
    asked = found.model_centric[found.model_centric["metric"] != "p_clip"]
    given = changed(found, predictions=p, model_centric=asked)
    calls = study.breakdown(given, "call").set_index(["part", "label"])
    sizes = calls.xs("LIME", level="label")["clips"].to_dict()
    assert sizes == {"called anomalous": 16, "missed": 4}
    part = found.human_centric
    part = part[(part["level"] == "clip") & (part["metric"] == "auc") & (part["method"] == "lime")]
    missed = part[part["clip_id"].isin(p["clip_id"][:4])]["value"].mean()
    assert calls.loc[("missed", "LIME"), "mean"] == pytest.approx(missed)


def test_what_was_asked_beside_the_scores_says_what_is_missed(found):
    low = found.predictions.assign(p=0.1)
    parts = study.breakdown(changed(found, predictions=low), "call")["part"]
    assert set(parts) == {"called anomalous"}
    assert (study.probabilities(changed(found, predictions=low)) == 0.95).all()


def test_curves_are_averaged_over_the_clips_of_all_folds(found):
    lines = [(0, clip, "ig", "c", "1 2") for clip in "abc"] + [(1, "d", "ig", "c", "0 2")]
    curves = pd.DataFrame(lines, columns=list(published.TABLES["curves"]))
    found = changed(found, curves=curves)
    np.testing.assert_allclose(study.mean_curves(found, "c")["ig"], [0.75, 2.0])


def test_frames_without_an_auc_leave_a_gap(found):
    means = study.frame_means(found)["lime"]
    assert len(means) == 20 and means[0] == 0.6 and np.isnan(means[4:]).all()


def test_frames_are_averaged_over_the_clips_that_all_rows_have(found):
    first = found.clips["clip_id"][0]
    better = found.frame_auc["clip_id"].eq(first) & found.frame_auc["method"].ne("constant")
    aucs = found.frame_auc.assign(auc=found.frame_auc["auc"].mask(better, 1.0))
    assert study.frame_means(changed(found, frame_auc=aucs))["lime"][0] > 0.6
    lacking = aucs["clip_id"].eq(first) & aucs["method"].eq("constant")
    assert study.frame_means(changed(found, frame_auc=aucs[~lacking]))["lime"][0] == 0.6


def test_other_levels_stay_out_of_the_tables(found):
    scored = found.human_centric
    more = pd.concat([scored, scored[scored["level"] == "clip"].assign(level="clip_abs")])
    assert set(study.summary(changed(found, human_centric=more), "human_centric")["level"]) == {
        "clip", "frame"}  # fmt: skip


def test_seconds_of_another_machine_do_not_enter(found):
    other = found.explanations.iloc[:3].assign(machine="other", seconds=1e6)
    more = changed(found, explanations=pd.concat([found.explanations, other]))
    cost = study.scores(more)["cost"]
    assert cost.loc[cost["metric"] == "seconds", "value"].max() < 1e5


def test_timings_of_a_fold_on_another_machine_are_left_out_of_the_table(found):
    elsewhere = found.explanations["fold"] == 1
    explained = found.explanations.assign(
        machine=np.where(elsewhere, "slow CPU, 1 cores", found.explanations["machine"])
    )
    slow = found.runtime.assign(
        value=found.runtime["value"] * np.where(found.runtime["fold"] == 1, 50, 1)
    )
    mixed = changed(found, explanations=explained, runtime=slow)
    before = found.runtime[found.runtime["fold"] != 1]
    alone = changed(found, runtime=before)
    seconds = [
        study.summary(part, "runtime").query("metric == 'seconds'").set_index("method")
        for part in (mixed, alone)
    ]
    pd.testing.assert_frame_equal(*seconds)
    assert study.timed_alike(found).shape[0] == len(found.runtime)


def test_a_method_is_compared_with_its_variants_and_ig_with_random_weights(found):
    black = study.against_variants(found, "black").set_index(["method", "metric"])
    assert set(black.index.get_level_values("method")) == {"ig", "lime"}
    assert black.loc[("ig", "auc"), "difference"] == pytest.approx(0.1, abs=0.02)
    assert black.loc[("ig", "auc"), "verdict"] == "higher"
    random = study.against_variants(found, "random")
    assert random["method"].tolist() == ["ig"] * 3
    assert random["difference"].iloc[0] == pytest.approx(0.2, abs=0.02)
    assert study.against_variants(found, "nothing").empty


def test_a_study_is_summarised_once_and_a_changed_one_anew(found, monkeypatch):
    first = study.summary(found, "human_centric")
    with monkeypatch.context() as patched:
        patched.setattr(study.tables, "summarise", lambda *_, **__: pytest.fail("again"))
        again = study.summary(found, "human_centric")
        again["mean"] = 0.0  # a copy: nobody's edit reaches the next
        pd.testing.assert_frame_equal(study.summary(found, "human_centric"), first)
    fewer = changed(found, human_centric=found.human_centric.iloc[::2])
    assert not study.summary(fewer, "human_centric").equals(first)
