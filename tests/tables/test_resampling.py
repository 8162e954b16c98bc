"""Bootstrap, sign flips and Holm against SciPy, enumeration and numbers by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from vad_helpers.tables import resampling
from vad_helpers.tables.resampling import (
    bootstrap_auc,
    bootstrap_mean,
    holm,
    independent_difference,
    paired_auc_difference,
    paired_difference,
    sign_flip_test,
    smallest_p,
    verdict,
)


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(0.3, 1, size=40)


def test_with_one_clip_a_sequence_the_interval_is_the_ordinary_bootstraps(values):
    found = bootstrap_mean(values, np.arange(40), n_resamples=20_000)
    usual = stats.bootstrap(
        (values,), np.mean, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-12)
    assert (found["low"], found["high"]) == pytest.approx((usual.low, usual.high), abs=0.02)


def test_two_sequences_can_be_enumerated():
    # Draws: both first (mean 0, 1/4), both second (mean 3, 1/4), one each (mean 2, 1/2).
    found = bootstrap_mean([0.0, 3.0, 3.0], ["a", "b", "b"], level=0.4)
    assert found["mean"] == 2
    assert (found["low"], found["high"]) == (2, 2)
    wide = bootstrap_mean([0.0, 3.0, 3.0], ["a", "b", "b"], level=0.9)
    assert (wide["low"], wide["high"]) == (0, 3)


def test_correlated_clips_widen_the_interval(values):
    twins = np.repeat(values, 5)
    lone = bootstrap_mean(twins, np.arange(200))
    together = bootstrap_mean(twins, np.repeat(np.arange(40), 5))
    assert together["high"] - together["low"] > 2 * (lone["high"] - lone["low"])


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    groups = np.repeat(np.arange(30), 2)
    covered = 0
    for trial in range(300):
        sample = np.repeat(rng.normal(size=30), 2) + rng.normal(size=60)
        found = bootstrap_mean(sample, groups, n_resamples=500, seed=trial)
        covered += found["low"] <= 0 <= found["high"]
    assert 0.89 <= covered / 300 <= 0.98


def test_undefined_values_are_dropped_and_counted():
    found = bootstrap_mean([1.0, np.nan, 3.0, np.nan], ["a", "a", "b", "c"])
    expected = {"mean": 2.0, "n": 2, "n_groups": 2, "n_undefined": 2}
    assert {key: found[key] for key in expected} == expected
    kept = bootstrap_mean([1.0, 3.0], ["a", "b"])
    assert (found["low"], found["high"]) == (kept["low"], kept["high"])


def test_one_sequence_has_a_mean_and_no_interval():
    found = bootstrap_mean([1.0, 2.0], ["a", "a"])
    assert found["mean"] == 1.5
    assert np.isnan([found["low"], found["high"]]).all()


@pytest.mark.parametrize("nothing", [[], [np.nan, np.nan]])
def test_nothing_defined_means_nothing_known(nothing):
    found = bootstrap_mean(nothing, ["a"] * len(nothing))
    assert np.isnan([found["mean"], found["low"], found["high"]]).all()
    assert (found["n"], found["n_groups"], found["n_undefined"]) == (0, 0, len(nothing))


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_the_rows_decides_nothing(order):
    values, groups = np.arange(12) ** 2 / 8, np.array(list("aabbccddeeff"))
    assert bootstrap_mean(values[order], groups[order]) == bootstrap_mean(values, groups)
    assert sign_flip_test(values[order], groups[order]) == sign_flip_test(values, groups)


def test_the_seed_and_the_level_are_respected(values):
    groups = np.arange(40)
    one, same = (bootstrap_mean(values, groups, seed=1) for _ in range(2))
    other = bootstrap_mean(values, groups, seed=2)
    narrow = bootstrap_mean(values, groups, seed=1, level=0.5)
    assert one == same
    assert one["low"] != other["low"]
    assert one["low"] < narrow["low"] < narrow["high"] < one["high"]


@pytest.mark.parametrize(
    ("values", "groups", "options", "message"),
    [
        ([1.0, 2.0], ["a"], {}, "groups has shape"),
        ([1.0, np.inf], ["a", "b"], {}, "one row of numbers"),
        ([[1.0]], [["a"]], {}, "one row of numbers"),
        ([1.0, 2.0], ["a", None], {}, "groups holds missing"),
        ([1.0, 2.0], ["a", "b"], {"level": 95}, "level is 95"),
        ([1.0, 2.0], ["a", "b"], {"n_resamples": 0}, "n_resamples"),
    ],
)
def test_what_cannot_be_resampled_is_refused(values, groups, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(values, groups, **options)


def test_resampling_draws_as_many_sequences_as_there_are_uniformly():
    drawn = resampling.resample(7, 5000, seed=0)
    assert (drawn.sum(axis=1) == 7).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.06)


def test_a_paired_difference_uses_clips_that_both_define(values):
    groups, b = np.arange(40) // 2, values - 0.5
    b[3] = np.nan
    found = paired_difference(values, b, groups)
    assert found["difference"] == pytest.approx(0.5)
    assert (found["low"], found["high"]) == pytest.approx((0.5, 0.5))
    assert (found["n"], found["n_groups"], found["n_undefined"]) == (39, 20, 1)


def test_a_paired_difference_is_tighter_than_two_intervals(values):
    other = values + np.random.default_rng(1).normal(0.1, 0.05, size=40)
    found = paired_difference(other, values, np.arange(40))
    assert found["low"] > 0
    assert (
        bootstrap_mean(other, np.arange(40))["low"] < bootstrap_mean(values, np.arange(40))["high"]
    )


def test_paired_scores_must_be_of_the_same_clips():
    with pytest.raises(ValueError, match="a has 2 values and b 3"):
        paired_difference([1, 2], [1, 2, 3], ["a", "b"])


def test_few_sequences_are_enumerated():
    differences, groups = np.array([0.5, 0.7, -0.1, 0.9, 0.3]), np.array(list("aabcd"))
    sums = [1.2, -0.1, 0.9, 0.3]
    flips = [abs(np.dot(s, sums)) for s in itertools.product((1, -1), repeat=4)]
    expected = np.mean([flip >= abs(sum(sums)) - 1e-9 for flip in flips])
    found = sign_flip_test(differences, groups)
    assert found == {"p": expected, "n_groups": 4, "exact": True}


def test_one_clip_a_sequence_is_scipys_sign_permutation_test():
    differences = np.random.default_rng(2).normal(0.5, 1, size=10)
    usual = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    )
    found = sign_flip_test(differences, np.arange(10))
    assert found["p"] == pytest.approx(usual.pvalue, abs=1e-12)


def test_many_sequences_are_sampled_and_agree_with_enumeration(monkeypatch):
    differences = np.random.default_rng(3).normal(0.4, 1, size=12)
    exact = sign_flip_test(differences, np.arange(12))
    monkeypatch.setattr(resampling, "MAX_EXACT_GROUPS", 11)
    sampled = sign_flip_test(differences, np.arange(12), n_flips=20_000)
    assert (exact["exact"], sampled["exact"]) == (True, False)
    assert sampled["p"] == pytest.approx(exact["p"], abs=0.01)


def test_the_strongest_evidence_has_a_p_that_is_small_and_not_zero():
    assert sign_flip_test(np.ones(12), np.arange(12))["p"] == 2 / 2**12
    assert sign_flip_test(np.ones(60), np.arange(60), n_flips=999)["p"] == 1 / 1000


@pytest.mark.parametrize("differences", [[0.0, 0.0, 0.0], [1.0, np.nan, np.nan]])
def test_no_evidence_has_a_p_of_one(differences):
    assert sign_flip_test(differences, ["a", "b", "c"])["p"] == 1


def test_no_values_have_no_p():
    found = sign_flip_test([np.nan], ["a"])
    assert np.isnan(found["p"])
    assert found["n_groups"] == 0


def test_flips_are_two_sided_and_ties_survive_rounding():
    differences, groups = np.array([0.1, 0.2, -0.3, 0.7]), list("abcd")
    found = sign_flip_test(differences, groups)
    assert found == sign_flip_test(-differences, groups)
    # |sum| >= .7 in 10 of 16 flips; three of them are ties that floats miss by a digit.
    assert found["p"] == 10 / 16


def test_the_test_rejects_true_nulls_as_often_as_it_may():
    rng = np.random.default_rng(9)
    groups = np.repeat(np.arange(8), 3)
    p = [
        sign_flip_test(np.repeat(rng.normal(size=8), 3) + rng.normal(size=24), groups)["p"]
        for _ in range(400)
    ]
    assert np.mean(np.array(p) <= 0.05) < 0.09
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.1)


def test_a_test_needs_flips():
    with pytest.raises(ValueError, match="n_flips"):
        sign_flip_test([1.0], ["a"], n_flips=0)


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, then never decreasing.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1, 1]
    assert holm([]).tolist() == []


def test_holm_leaves_out_what_is_undefined():
    found = holm([0.02, np.nan, 0.5])
    assert found[[0, 2]] == pytest.approx([0.04, 0.5])
    assert np.isnan(found[1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_the_raw_values_and_bonferroni(p_values):
    p, adjusted = np.array(p_values), holm(p_values)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, len(p) * p)).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


@pytest.mark.parametrize("wrong", [-0.1, 1.1])
def test_holm_refuses_what_is_no_probability(wrong):
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
        holm([0.5, wrong])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.1, 0.2, "higher"),
        (-0.2, -0.1, "lower"),
        (-0.1, 0.1, "undecided"),
        (0.0, 0.1, "undecided"),
        (-0.1, 0.0, "undecided"),
        (np.nan, np.nan, "undecided"),
    ],
)
def test_an_interval_that_includes_zero_is_undecided(low, high, expected):
    assert verdict(low, high) == expected


@pytest.fixture
def clips():
    """Probabilities with ties, labels and sequences; two sequences are all normal."""
    rng = np.random.default_rng(3)
    groups = np.repeat(list("abcdef"), 5)
    labels = np.where(groups < "c", 0, rng.integers(0, 2, 30))
    return np.round(rng.random(30) + 0.4 * labels, 1), labels, groups


def test_the_auc_of_clips_is_scikit_learns(clips):
    found = bootstrap_auc(*clips)
    assert found["auc"] == pytest.approx(roc_auc_score(clips[1], clips[0]), abs=1e-12)
    assert (found["n"], found["n_groups"]) == (30, 6)


def test_the_interval_of_the_auc_is_that_of_drawn_sequences(clips):
    p, labels, groups = clips
    drawn = resampling.resample(6, 200, seed=4)
    members = [np.flatnonzero(groups == name) for name in "abcdef"]
    aucs = []
    for counts in drawn.astype(int):
        rows = np.concatenate([np.tile(m, n) for m, n in zip(members, counts, strict=True)])
        if np.ptp(labels[rows]):
            aucs.append(roc_auc_score(labels[rows], p[rows]))
    found = bootstrap_auc(*clips, n_resamples=200, seed=4)
    assert (found["low"], found["high"]) == pytest.approx(np.quantile(aucs, [0.025, 0.975]))
    assert found["n_one_class"] == 200 - len(aucs)


def test_two_aucs_are_compared_on_the_same_drawn_sequences(clips):
    p, labels, groups = clips
    other = np.random.default_rng(8).random(30)
    members = [np.flatnonzero(groups == name) for name in "abcdef"]
    apart = []
    for counts in resampling.resample(6, 200, seed=4).astype(int):
        rows = np.concatenate([np.tile(m, n) for m, n in zip(members, counts, strict=True)])
        if np.ptp(labels[rows]):
            first, second = (roc_auc_score(labels[rows], score[rows]) for score in (p, other))
            apart.append(first - second)
    found = paired_auc_difference(p, other, labels, groups, n_resamples=200, seed=4)
    expected = roc_auc_score(labels, p) - roc_auc_score(labels, other)
    assert found["difference"] == pytest.approx(expected, abs=1e-12)
    assert (found["low"], found["high"]) == pytest.approx(np.quantile(apart, [0.025, 0.975]))
    assert found["n_one_class"] == 200 - len(apart) and found["n_groups"] == 6


def test_a_score_is_nowhere_apart_from_itself(clips):
    p, labels, groups = clips
    found = paired_auc_difference(p, p**3, labels, groups)
    assert (found["difference"], found["low"], found["high"]) == (0, 0, 0)
    one_class = paired_auc_difference(p, p, np.ones(30), groups, n_resamples=10)
    assert np.isnan([one_class["difference"], one_class["low"]]).all()


def test_draws_of_one_class_are_left_out_and_counted():
    p, labels, groups = [0.1, 0.2, 0.9, 0.8], [0, 0, 1, 1], list("nnaa")
    found = bootstrap_auc(p, labels, groups, n_resamples=400)
    assert 0.4 < found["n_one_class"] / 400 < 0.6  # the same sequence twice: half of the draws
    assert (found["auc"], found["low"], found["high"]) == (1, 1, 1)


def test_one_class_has_no_auc_and_one_sequence_no_interval(clips):
    found = bootstrap_auc([0.1, 0.9], [1, 1], ["a", "b"], n_resamples=10)
    assert np.isnan([found["auc"], found["low"]]).all() and found["n_one_class"] == 10
    lone = bootstrap_auc([0.1, 0.9], [0, 1], ["a", "a"])
    assert lone["auc"] == 1 and np.isnan([lone["low"], lone["high"]]).all()


def test_clips_that_do_not_fit_together_are_refused():
    with pytest.raises(ValueError, match="expected one of each a clip"):
        bootstrap_auc([0.1], [0, 1], ["a", "b"])
    with pytest.raises(ValueError, match="labels hold something else"):
        bootstrap_auc([0.1, 0.2], [0, 2], ["a", "b"])


@pytest.mark.parametrize("n_groups", [1, 3, 8, 12])
def test_the_smallest_p_is_that_of_sequences_which_all_agree(n_groups):
    agreeing = sign_flip_test(np.arange(1.0, n_groups + 1), np.arange(n_groups))
    assert smallest_p(n_groups) == pytest.approx(agreeing["p"])


@pytest.mark.parametrize("n_groups", [1, 2, 5, 16])
def test_all_flips_are_those_that_can_be_listed_one_by_one(n_groups):
    sums = np.random.default_rng(n_groups).normal(0.5, 1, n_groups)
    signs = np.array(list(itertools.product((1, -1), repeat=n_groups)))
    expected = (np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12).mean()
    found = sign_flip_test(sums, np.arange(n_groups), seed=n_groups)
    assert found["exact"] and found["p"] == pytest.approx(expected, abs=0)


def test_up_to_thirty_sequences_the_seed_decides_nothing():
    differences = np.random.default_rng(1).normal(0.6, 1, 30)
    ps = {sign_flip_test(differences, np.arange(30), seed=s)["p"] for s in range(3)}
    assert len(ps) == 1
    agreeing = sign_flip_test(np.ones(30), np.arange(30))
    assert agreeing == {"p": 2 / 2**30, "n_groups": 30, "exact": True}
    assert sign_flip_test(np.zeros(30), np.arange(30))["p"] == 1


def test_the_smallest_p_of_many_sequences_is_set_by_the_number_of_flips():
    agreeing = sign_flip_test(np.ones(40), np.arange(40), n_flips=99)
    assert smallest_p(40, n_flips=99) == agreeing["p"] == 0.01
    assert np.isnan(smallest_p(0))


def test_an_independent_difference_agrees_with_the_bootstrap_of_scipy():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.6, 0.1, 30), rng.normal(0.5, 0.1, 25)
    found = independent_difference(a, np.arange(30), b, np.arange(25), n_resamples=20_000)
    oracle = stats.bootstrap(
        (a, b), lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        vectorized=True, n_resamples=20_000, method="percentile", rng=np.random.default_rng(1),
    ).confidence_interval  # fmt: skip
    assert found["difference"] == pytest.approx(a.mean() - b.mean())
    assert (found["low"], found["high"]) == pytest.approx(tuple(oracle), abs=0.003)


def test_an_independent_difference_of_a_sample_from_itself_has_a_width():
    values = np.linspace(0, 1, 12)
    found = independent_difference(values, np.arange(12), values, np.arange(12))
    assert found["difference"] == 0 and found["low"] < -0.1 and found["high"] > 0.1


@pytest.mark.parametrize("values", [[0.5, 0.7], [np.nan, np.nan]])
def test_an_independent_difference_needs_two_sequences_on_both_sides(values):
    found = independent_difference(values, ["s", "s"], [0.1, 0.2], ["u", "v"])
    assert np.isnan(found["low"]) and np.isnan(found["high"])
    assert np.isnan(found["difference"]) == bool(np.isnan(values).all())
