"""Verdicts on planted effects: a claim holds where it was planted, fails where it was reversed."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.store import verdicts
from vad_helpers.store.claims import CLAIMS, HIGHER, Claim, Contrast
from vad_helpers.tables import resampling

OPTIONS = {"n_resamples": 300}


def judge(means, *, explanations=None, about=None, clips=None, **options):
    clips = synthetic.clip_table() if clips is None else clips
    scored = synthetic.score_tables(means, clips)
    explained = synthetic.explanation_table(clips) if explanations is None else explanations
    scored["cost"] = verdicts.cost_scores(explained, scored["human_centric"])
    about = synthetic.about_rows() if about is None else about
    return {j.claim.number: j for j in verdicts.judge(scored, about, **OPTIONS, **options)}


@pytest.fixture(scope="module")
def planted():
    return judge(synthetic.complete(synthetic.HOLD))


def test_there_are_fourteen_claims():
    assert [claim.number for claim in CLAIMS] == list(range(1, 15))


def test_planted_claims_hold(planted):
    assert {number: j.verdict for number, j in planted.items()} == dict.fromkeys(
        range(1, 15), verdicts.HOLDS
    )


def test_reversed_claims_do_not_hold():
    means = synthetic.complete(synthetic.reverse(synthetic.HOLD))
    means = {
        key: {m: v + (0.2 if m.endswith("_black") else 0) for m, v in values.items()}
        for key, values in means.items()
    }
    times = {m: 100 / s for m, s in synthetic.SECONDS.items()}
    explained = synthetic.explanation_table(synthetic.clip_table(), times)
    found = judge(means, explanations=explained)
    assert {j.verdict for j in found.values()} == {verdicts.DOES_NOT}


def test_where_nothing_differs_nothing_holds():
    means = synthetic.level_out(synthetic.HOLD)
    found = judge({k: dict(v) for k, v in means.items()}, clips=synthetic.clip_table(20))
    verdict = {number: j.verdict for number, j in found.items()}
    assert verdicts.HOLDS not in verdict.values()
    assert [verdict[n] for n in (5, 8, 10, 11)] == [verdicts.UNDECIDED] * 4
    assert found[14].reason == "Not measured."


def test_a_single_rival_refutes_the_best():
    means = synthetic.complete(synthetic.HOLD)
    for metric in ("iou", "auc"):
        means["human_centric", "clip", metric]["ig"] = 0.9
    found = judge(means)
    assert found[2].verdict == verdicts.DOES_NOT
    assert "2 against" in found[2].reason and "LIME − IG" in found[2].reason


def test_a_claim_is_open_while_a_comparison_is_missing(planted):
    about = synthetic.about_rows()
    about = about[about["method"] != "occlusion_sp"]
    means = synthetic.complete(synthetic.HOLD)
    found = judge(means, about=about)
    assert found[10].verdict == verdicts.UNDECIDED and found[10].reason == "Not measured."
    assert set(found[10].contrasts["side"]) == {verdicts.MISSING}
    for values in means.values():
        values.pop("occlusion_sp")
    partly = judge(means)
    assert partly[2].verdict == verdicts.UNDECIDED
    assert "2 not measured" in partly[2].reason


def test_one_sequence_decides_nothing():
    found = judge(synthetic.complete(synthetic.HOLD), clips=synthetic.clip_table(1))
    assert {j.verdict for j in found.values()} == {verdicts.UNDECIDED}
    assert "no interval" in found[2].reason


def test_leak_is_judged_by_moving_voxels_where_it_is_not_measured(planted):
    assert set(planted[12].deciding["metric"]) == {"leak"}
    means = synthetic.complete(synthetic.HOLD)
    means.pop(("human_centric", "clip", "leak"))
    found = judge(means)[12]
    assert set(found.deciding["metric"]) == {"motion_auc"} and found.verdict == verdicts.HOLDS


def test_the_papers_own_table_is_asked(planted):
    assert "agrees in 3 of 4" in planted[1].paper and "AUC, frame" in planted[1].paper
    # KernelSHAP's C_v is not the largest that the paper prints: Occlusion_sp's is.
    assert "OCCLUSION_SP, C_v: -0.086" in planted[9].paper
    assert "IoU, clip: -0.0014" in planted[10].paper
    assert planted[12].paper == "" and planted[14].paper == ""
    assert planted[8].paper == "The paper's own table agrees in 1 of 1 comparison."
    assert planted[8].reason == "Of 1 comparison: 1 as claimed."
    assert "agrees in 14 of 14" in planted[6].paper


def test_a_difference_and_its_p_are_those_worked_by_hand():
    (found,) = judged_by_hand(lambda i: f"s{i}")
    line = found.contrasts.iloc[0]
    assert line["difference"] == pytest.approx(0.25)
    # Of the 16 choices of signs, all plus and all minus are as far: p = 2 of 16.
    assert line["p"] == pytest.approx(2 / 16) and 0.1 < line["low"] < line["high"] < 0.4
    assert line["n"] == 4 and line["n_groups"] == 4 and found.verdict == verdicts.HOLDS


def test_of_too_few_sequences_there_is_no_interval_and_no_verdict():
    (found,) = judged_by_hand(lambda i: f"s{i // 2}")
    line = found.contrasts.iloc[0]
    assert line["difference"] == pytest.approx(0.25) and line["n_groups"] == 2
    assert np.isnan(line["low"]) and np.isnan(line["high"])
    assert line["side"] == verdicts.OPEN and found.verdict == verdicts.UNDECIDED


def judged_by_hand(sequence):
    values = {"a": [0.9, 0.7, 0.8, 0.6], "b": [0.5, 0.5, 0.5, 0.5]}
    lines = [(f"c{i}", sequence(i), m, "clip", "auc", v)
             for m, column in values.items() for i, v in enumerate(column)]  # fmt: skip
    columns = ["clip_id", "sequence", "method", "level", "metric", "value"]
    about = pd.DataFrame({"method": ["a", "b"], "label": ["A", "B"], "kind": "method",
                          "family": "gradient"})  # fmt: skip
    contrast = Contrast("human_centric", "clip", "auc", ("a",), ("b",), HIGHER)
    claim = Claim(1, "A is better.", (contrast,), "")
    scored = {"human_centric": pd.DataFrame(lines, columns=columns)}
    return verdicts.judge(scored, about.assign(baseline="blur"), claims=[claim], **OPTIONS)


def test_the_correction_counts_what_decides_alone(planted):
    table = pd.concat([j.contrasts for j in planted.values()])
    required = table["required"].astype(bool)
    assert (~required).sum() >= 1
    smallest = table.loc[required, "p"].min()
    sides = table["name"].str.split(" - ").map(frozenset)
    decisive = table[required]
    parts = (decisive["table"], decisive["level"], decisive["metric"], sides[required])
    of_required = set(zip(*parts, strict=True))
    assert len(of_required) < required.sum()  # claims share comparisons
    expected = min(1, smallest * len(of_required))
    assert table.loc[required, "p_holm"].min() == pytest.approx(expected)
    same = table[required].groupby([sides[required], "table", "level", "metric"])["p_holm"]
    assert (same.nunique() == 1).all()


def test_the_floor_of_a_comparison_is_what_its_sequences_allow_beside_the_others(planted):
    (lone,) = judged_by_hand(lambda i: f"s{i}")
    assert lone.contrasts["p_floor"].tolist() == [pytest.approx(2 / 16)]
    table = pd.concat([j.contrasts for j in planted.values()])
    required = table["required"].astype(bool)
    assert table.loc[~required, "p_floor"].isna().all()
    decisive = table[required].reset_index(drop=True)
    assert (decisive["p_floor"] <= decisive["p_holm"] + 1e-12).all()
    strongest = decisive.loc[decisive["p"].idxmin()]
    least = resampling.smallest_p(int(strongest["n_groups"]))
    n_asked = round(decisive["p_holm"].min() / decisive["p"].min())
    assert strongest["p_floor"] == pytest.approx(min(1, least * n_asked))


def test_secondary_comparisons_are_corrected_among_themselves(planted):
    """What decides has the same verdict and the same p, to the last bit, as without them."""
    only = [dataclasses.replace(c, contrasts=tuple(x for x in c.contrasts if x.required))
            for c in CLAIMS]  # fmt: skip
    alone = judge(synthetic.complete(synthetic.HOLD), claims=only)
    for number, j in planted.items():
        assert j.verdict == alone[number].verdict and j.reason == alone[number].reason
        assert j.deciding["p_holm"].tolist() == alone[number].contrasts["p_holm"].tolist()
    beside = pd.concat([j.contrasts for j in planted.values()])
    beside = beside[~beside["required"].astype(bool)].dropna(subset="p")
    assert set(beside["claim"]) == {1, 5, 6, 7, 8, 14}
    pair = beside["name"].str.split(" - ").map(frozenset)
    n_asked = len(set(zip(beside["metric"], pair, strict=True)))
    assert beside["p_holm"].min() == pytest.approx(min(1, beside["p"].min() * n_asked))


def test_equal_area_is_asked_of_the_claims_on_faithfulness_and_decides_nothing(planted):
    means = synthetic.complete(synthetic.HOLD)
    for metric in ("deletion", "insertion"):
        key = ("model_centric", "clip", f"area_matched_{metric}")
        means[key] = {m: 1 - v for m, v in means[key].items()}
    turned = judge(means)
    for number, words in ((5, "2 against"), (6, "14 against"), (7, "against")):
        assert planted[number].verdict == turned[number].verdict == verdicts.HOLDS
        assert planted[number].at_equal_area == verdicts.HOLDS
        assert planted[number].aside.startswith("At equal area: the same rule says “holds”.")
        assert turned[number].at_equal_area == verdicts.DOES_NOT
        assert turned[number].aside.startswith("At equal area: the same rule says “does not hold”.")
        assert words in turned[number].aside
    assert planted[1].at_equal_area == "" and planted[2].aside == ""


def test_whether_lime_is_the_exception_stands_beside_claim_one_and_decides_nothing(planted):
    assert planted[1].aside.startswith("Beside it, deciding nothing: LIME − gradient methods, IoU")
    means = synthetic.complete(synthetic.HOLD)
    for metric in ("iou", "auc"):
        means["human_centric", "clip", metric]["lime"] = 0.1
    assert judge(means)[1].verdict == verdicts.HOLDS, "an exception that is none"
    lacking = {key: v for key, v in means.items() if not key[2].startswith("area_matched")}
    without = judge(lacking)[5]
    assert without.aside == "At equal area: not measured." and without.at_equal_area == ""


@pytest.mark.parametrize(("better", "word"), [("perturbation", "lower"), ("gradient", "higher")])
def test_stability_is_shown_beside_the_mean_that_it_divides_by(better, word):
    means = synthetic.complete(synthetic.HOLD)
    mauc = means["robustness", "clip", "mauc"]
    mauc.update({m: 0.9 for m, family in synthetic.FAMILIES.items() if family == better})
    found = judge({k: v for k, v in means.items() if k[0] == "robustness"})[8]
    assert found.verdict == verdicts.HOLDS
    assert "mAUC" in found.aside and found.aside.endswith(f", {word}.")


def test_a_verdict_stands_after_the_correction_or_not():
    means, claims = synthetic.complete(synthetic.HOLD), CLAIMS[4:8]
    for n_sequences, stands in ((12, True), (4, False)):  # four give no p below 1/8
        found = judge(means, claims=claims, clips=synthetic.clip_table(n_sequences))
        assert {(j.verdict, j.stands) for j in found.values()} == {(verdicts.HOLDS, stands)}
    alone = judge(means, claims=claims, clips=synthetic.clip_table(1))
    assert {(j.verdict, j.stands) for j in alone.values()} == {(verdicts.UNDECIDED, None)}


@pytest.mark.parametrize(("n_sequences", "stands"), [(12, True), (4, False)])
def test_a_claim_that_fails_stands_by_one_comparison(n_sequences, stands):
    means = synthetic.complete(synthetic.HOLD)
    means["human_centric", "clip", "auc"]["ig"] = 0.9
    clips = synthetic.clip_table(n_sequences)
    (found,) = judge(means, claims=CLAIMS[1:2], clips=clips).values()
    assert found.verdict == verdicts.DOES_NOT and found.stands is stands


def test_what_a_second_buys_is_worked_by_hand():
    explained = pd.DataFrame({
        "clip_id": ["c", "d", "c"], "sequence": "s", "method": ["ig", "ig", "ig"],
        "seconds": [1.0, 3.0, 100.0], "machine": ["here", "here", "there"], "batch_size": 1,
    })  # fmt: skip
    located = pd.DataFrame({"clip_id": ["c", "c"], "sequence": "s", "method": ["ig", "lime"],
                            "level": "clip", "metric": "auc", "value": [0.7, 0.9]})  # fmt: skip
    found = verdicts.cost_scores(explained, located)
    worth = found[found["metric"] == "auc_per_second"]
    assert worth["value"].tolist() == pytest.approx([0.1]), "0.2 above chance in 2 s on average"
    assert found[found["metric"] == "seconds"]["value"].tolist() == [1.0, 3.0]
    assert verdicts.cost_scores(explained.iloc[:0], located).empty


def test_black_variants_pair_with_the_method_they_vary_alone():
    a, b = verdicts.black_pairs(synthetic.about_rows())
    assert (a, b) == (["ig", "lime"], ["ig_black", "lime_black"])
    about = synthetic.about_rows()
    about.loc[about["method"] == "ig_black", "settings"] = '{"n_steps": 5}'
    assert verdicts.black_pairs(about) == (["lime"], ["lime_black"])


def test_undefined_scores_are_left_out_pair_by_pair(planted):
    means = {("robustness", "clip", "cv"): synthetic.CV}
    clips = synthetic.clip_table()
    scored = synthetic.score_tables(means, clips)
    table = scored["robustness"]
    table.loc[(table["method"] == "lime") & (table["clip_id"] == clips["clip_id"][0]), "value"] = (
        np.nan
    )
    found = verdicts.judge(scored, synthetic.about_rows(), **OPTIONS)[7]
    assert found.deciding["n"].tolist() == [len(clips) - 1]


def test_a_comparison_counts_the_clips_on_which_a_map_is_all_zero():
    clips = synthetic.clip_table()
    scored = synthetic.score_tables(synthetic.complete(synthetic.HOLD), clips)
    located = scored["human_centric"]
    part = located[(located["level"] == "clip") & (located["metric"] == "auc")]
    zero = part["method"].eq("lime") & part["clip_id"].isin(clips["clip_id"][:2])
    counted = part.assign(metric="all_zero", value=zero.astype(float))
    scored["human_centric"] = pd.concat([located, counted], ignore_index=True)
    (judged,) = [
        j for j in verdicts.judge(scored, synthetic.about_rows(), n_resamples=50)
        if j.claim.number == 2
    ]  # fmt: skip
    assert set(judged.contrasts["n_all_zero"]) == {2}
