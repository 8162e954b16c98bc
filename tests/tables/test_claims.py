"""Claims on planted scores: hold, fail, stay open; and what a change of settings does to them."""

import dataclasses
import json

import pandas as pd
import pytest

from vad_helpers import tables


def planted(study, row, shift, *, metrics=("iou", "auc"), level="clip"):
    """The study with scores of one row moved by a constant from those of the best method."""
    human = study.human_centric
    at = (human["level"] == level) & human["metric"].isin(metrics)
    keys = ["clip_id", "metric"]
    methods = human[at & human["row"].isin(tables.methods(study))]
    best = methods.groupby(keys)["value"].agg("max" if shift > 0 else "min")
    own = at & (human["row"] == row)
    values = best.loc[list(human.loc[own, keys].itertuples(index=False, name=None))].to_numpy()
    human = human.copy()
    human.loc[own, "value"] = values + shift
    return dataclasses.replace(study, human_centric=human)


@pytest.mark.parametrize(("shift", "verdict"), [(0.1, "holds"), (-0.1, "does not hold")])
def test_a_planted_winner_and_loser_are_found(study, shift, verdict):
    line = tables.claims(planted(study, "lime", shift), numbers=[2]).iloc[0]
    assert (line["verdict"], line["stands"]) == (verdict, True)
    assert line["n_comparisons"] == 14 == line["n_as_claimed"] + line["n_against"]


def test_too_few_sequences_decide_nothing(study):
    assert tables.comparisons(study, clips="misses", numbers=[2])["n"].max() == 15
    few = study.evaluation.drop_duplicates("sequence")["clip_id"].tolist()[:3]
    line = tables.claims(planted(study, "lime", 0.1), numbers=[2], clips=few).iloc[0]
    assert (line["verdict"], line["stands"], line["n_undecided"]) == ("undecided", None, 14)
    found = tables.comparisons(study, numbers=[2], clips=few)
    assert found["low"].isna().all() and found["difference"].notna().all()


def test_what_is_not_measured_is_undecided(study):
    without = study.keep(rows=[row for row in study.rows["row"] if row != "occlusion_sp"])
    line = tables.claims(without, numbers=[10, 2])
    assert line["verdict"].tolist()[1] == "undecided" and line["n_not_measured"].tolist()[1] == 2
    assert line["n_comparisons"].tolist()[0] == 12, "the other methods are those that are there"


def test_a_study_without_variants_has_nothing_to_compare_them_with(study):
    bare = study.keep(rows=tables.methods(study))
    assert tables.against_variants(bare, {"baseline": "black"}).empty
    rankings = tables.sensitivity(dataclasses.replace(bare, alternatives={}))
    assert set(rankings["how"]) == {"level"}
    only = study.keep(rows=["ig", "random"])
    assert tables.contrasts(only, "human_centric").empty
    assert tables.claims(only)["verdict"].eq("undecided").all()


def test_another_row_may_stand_in_a_methods_place(study):
    again = tables.comparisons(study, numbers=[11], rows={"lime": "kernel_shap"})
    assert (again["first"] == "lime").all() and (again["difference"] == 0).all()
    given = study.keep(clips=study.evaluation["clip_id"].tolist()[:8])
    few = tables.comparisons(study, numbers=[2], rows={"lime": "lime_black"})
    black = set(study.human_centric.query("row == 'lime_black'")["clip_id"])
    assert set(few["n"]) == {len(black)}, "only clips that have the row"
    assert tables.claims(given, numbers=[2], rows={"lime": "none"})["n_not_measured"].item() == 14


def test_a_ranking_that_is_turned_round_has_a_tau_of_minus_one(study):
    human, levels = study.human_centric, {"clip": "clip_abs", "frame": "frame_abs"}
    plain = human[human["level"].isin(levels)]
    others = plain.assign(value=1 - plain["value"]).replace({"level": levels})
    turned = dataclasses.replace(study, human_centric=pd.concat([plain, others]), alternatives={})
    found = tables.sensitivity(turned)
    found = found[found["alternative"] == "clip_abs frame_abs"]
    assert len(found) == 4 and found["tau"].to_numpy() == pytest.approx(-1)
    assert (found["flips"].str.count(";") == 27).all()
    assert (found["best"] != found["best_after"]).all()


def test_settings_may_be_said_of_every_row_or_only_where_they_differ(study):
    full = [
        json.dumps({"baseline": "blur", "weights": "trained"} | json.loads(text)) if of else text
        for text, of in zip(study.rows["settings"], study.rows["of"], strict=True)
    ]
    other = dataclasses.replace(study, rows=study.rows.assign(settings=full))
    for changes in ({"baseline": "black"}, {"weights": "random"}):
        found = tables.against_variants(other, changes, metrics=[("human_centric", "auc")])
        same = tables.against_variants(study, changes, metrics=[("human_centric", "auc")])
        pd.testing.assert_frame_equal(found, same)
    assert "random_weights" in set(found["second"]) and len(found) == 8
    assert tables.main_rows(other) == tables.main_rows(study)
    assert tables.many_samples(other) == tables.many_samples(study)


def test_draws_of_randomised_networks_count_as_their_mean_and_are_no_main_rows(study):
    options = {"changes": {"weights": "random"}, "metrics": [("human_centric", "auc")]}
    before = tables.against_variants(study, **options)
    line = study.rows[study.rows["row"] == "lime_random"]
    again = study.human_centric.query("row == 'lime_random'").assign(row="again", value=1.0)
    line = line.assign(row="again", settings='{"weights": "random", "seed": 1, "target": 0}')
    own = {"rows": [study.rows, line], "human_centric": [study.human_centric, again]}
    more = dataclasses.replace(study, **{name: pd.concat(parts) for name, parts in own.items()})
    found = tables.against_variants(more, **options)
    apart = (before["difference"] - found["difference"]).set_axis(found["second"])
    assert apart["lime_random again"] > 0.1 and apart.abs().gt(1e-9).sum() == 1
    assert tables.main_rows(more) == tables.main_rows(study)


@pytest.fixture(scope="module")
def shown(study):
    return tables.claims_table(study).set_index("claim")


@pytest.mark.slow
def test_a_page_shows_the_comparison_that_decides_each_claim(study, shown):
    judged = tables.claims(study).set_index("claim")
    compared = tables.comparisons(study).query("decides")
    for claim, line in shown.iterrows():
        assert line["verdict"].startswith(judged.at[claim, "verdict"])
        assert ("not after correction" in line["verdict"]) == (judged.at[claim, "stands"] is False)
        assert ("detectable" in line["verdict"]) == (judged.at[claim, "verdict"] == "undecided")
        part = compared[compared["claim"] == claim]
        assert line["here"] in set(
            part.apply(lambda c: f"{c.difference:.3f} [{c.low:.3f}, {c.high:.3f}]", axis=1)
        )
    assert "10 clips" in shown.at[14, "verdict"] and "clips" not in shown.at[2, "verdict"]
    # LIME against large occlusion: half the interval times 2.80 / 1.96.
    low, high = (float(x) for x in shown.at[2, "here"].split("[")[1][:-1].split(","))
    least = float(shown.at[2, "verdict"].split(": ")[1][:-1])
    assert least == pytest.approx((high - low) / 2 * 2.8016 / 1.96, abs=2e-3)


@pytest.mark.slow
def test_claims_on_faithfulness_are_judged_by_srg_beside_the_papers_pair(study, shown):
    """A study of before has no SRG: nothing changes; one that has it is judged by both."""
    usual = tables.claims(study, numbers=[5, 6, 7])
    assert (usual["by_srg"] == "").all() and "by SRG" not in shown
    scored = study.model_centric
    lines = scored[scored["metric"] == "area_matched_deletion"]
    apart = {"perturbation": -1.0, "gradient": 0.0, "reference": 0.0}
    shift = lines["row"].map(study.rows.set_index("row")["family"]).map(apart)
    new = [lines.assign(metric=m, value=shift) for m in ("srg", "srg_blocks")]
    both = dataclasses.replace(study, model_centric=pd.concat([scored, *new]))
    found = tables.claims(both, numbers=[5, 6, 7])
    assert found["verdict"].tolist() == usual["verdict"].tolist()
    assert found["by_srg"].tolist()[0] == "does not hold"
    page = tables.claims_table(both).set_index("claim")["by SRG"]
    assert page[5] == "does not hold" and not page[1]
    assert {"srg", "srg_blocks"} <= {*tables.table_two(both)["metric"]}
