"""Bootstrap, sign flips, Holm and ranks against SciPy, scikit-learn, enumeration and by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from benchmarks.auc import bootstrap_auc
from vad_helpers.tables import statistics
from vad_helpers.tables.statistics import (
    bootstrap_mean,
    holm,
    independent_difference,
    interval_sign,
    paired_difference,
    sign_flip_test,
    smallest_p,
)

MEANS = {"ig": 0.70, "lime": 0.72, "motion": 0.92, "random": 0.50}


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(0.3, 1, size=40)


@pytest.fixture
def clips():
    """Probabilities with ties, labels and sequences; two sequences are all normal."""
    rng = np.random.default_rng(3)
    groups = np.repeat(list("abcdef"), 5)
    labels = np.where(groups < "c", 0, rng.integers(0, 2, 30))
    return np.round(rng.random(30) + 0.4 * labels, 1), labels, groups


def tidy(means, *, metric="auc", n_clips=20, spread=0.02, seed=0):
    rng = np.random.default_rng(seed)
    lines = [
        (f"c{i}", f"s{i // 2}", row, "clip", metric, rng.normal(mean, spread))
        for i in range(n_clips)
        for row, mean in means.items()
    ]
    return pd.DataFrame(lines, columns=list(statistics.SCORE_COLUMNS))


@pytest.fixture
def scores():
    insertion = {row: 1 - mean for row, mean in MEANS.items()}
    return pd.concat([tidy(MEANS), tidy(insertion, metric="insertion", seed=1)])


def scipys(statistic, *samples):
    """SciPy's percentile interval."""
    options = {"n_resamples": 20_000, "method": "percentile", "rng": np.random.default_rng(1)}
    return tuple(stats.bootstrap(samples, statistic, **options).confidence_interval)


def test_with_one_clip_a_sequence_the_interval_is_the_ordinary_bootstraps(values):
    found = bootstrap_mean(values, np.arange(40), n_resamples=20_000)
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-12)
    assert (found["low"], found["high"]) == pytest.approx(scipys(np.mean, values), abs=0.02)


def test_two_sequences_can_be_enumerated():
    # Draws: both first (mean 0, 1/4), both second (mean 3, 1/4), one each (mean 2, 1/2).
    found = bootstrap_mean([0.0, 3.0, 3.0], ["a", "b", "b"])
    assert (found["mean"], found["low"], found["high"]) == (2, 0, 3)


def test_undefined_values_are_dropped_and_counted():
    found = bootstrap_mean([1.0, np.nan, 3.0, np.nan], ["a", "a", "b", "c"])
    assert (found["mean"], found["n"], found["n_groups"], found["n_undefined"]) == (2.0, 2, 2, 2)
    kept = bootstrap_mean([1.0, 3.0], ["a", "b"])
    assert (found["low"], found["high"]) == (kept["low"], kept["high"])


@pytest.mark.parametrize("given", [[1.0, 2.0], [np.nan] * 2, []])
def test_one_sequence_has_a_mean_and_no_interval(given):
    found = bootstrap_mean(given, ["a"] * len(given))
    assert found["mean"] == pytest.approx(1.5 if 1.0 in given else np.nan, nan_ok=True)
    assert np.isnan([found["low"], found["high"]]).all()


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(12)))
def test_the_order_of_the_lines_decides_nothing(order):
    values, groups = np.arange(12) ** 2 / 8, np.array(list("aabbccddeeff"))
    assert bootstrap_mean(values[order], groups[order]) == bootstrap_mean(values, groups)
    assert sign_flip_test(values[order], groups[order]) == sign_flip_test(values, groups)


@pytest.mark.parametrize(
    ("values", "groups", "options", "message"),
    [
        ([1.0, 2.0], ["a"], {}, "groups has shape"),
        ([1.0, np.inf], ["a", "b"], {}, "one row of numbers"),
        ([[1.0]], [["a"]], {}, "one row of numbers"),
        ([1.0, 2.0], ["a", None], {}, "groups has shape"),
        ([1.0, 2.0], ["a", "b"], {"n_resamples": 0}, "n_resamples"),
    ],
)
def test_what_cannot_be_resampled_is_refused(values, groups, options, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_mean(values, groups, **options)


def test_resampling_draws_as_many_sequences_as_there_are_and_cannot_be_spoilt():
    drawn = statistics.resample(7, 5000, seed=0)
    assert (drawn.sum(axis=1) == 7).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.06)
    with pytest.raises(ValueError, match="read-only"):
        drawn[0, 0] = 5
    assert (statistics.resample(7, 5000, seed=(0, 1)) != drawn).any()


def test_a_paired_difference_uses_clips_that_both_define(values):
    groups, b = np.arange(40) // 2, values - 0.5
    b[3] = np.nan
    found = paired_difference(values, b, groups)
    assert [found[k] for k in ("difference", "low", "high")] == pytest.approx([0.5] * 3)
    assert (found["n"], found["n_groups"], found["n_undefined"]) == (39, 20, 1)
    with pytest.raises(ValueError, match="a has 2 values and b 3"):
        paired_difference([1, 2], [1, 2, 3], ["a", "b"])


def test_an_independent_difference_agrees_with_the_bootstrap_of_scipy():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.6, 0.1, 30), rng.normal(0.5, 0.1, 25)
    found = independent_difference(a, np.arange(30), b, np.arange(25), n_resamples=20_000)
    oracle = scipys(lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis), a, b)
    assert found["difference"] == pytest.approx(a.mean() - b.mean())
    assert (found["low"], found["high"]) == pytest.approx(oracle, abs=0.003)
    apart = independent_difference(a, np.arange(30), a, np.arange(30))
    assert apart["difference"] == 0 and apart["low"] < -0.03 and apart["high"] > 0.03
    assert np.isnan(independent_difference(a, np.zeros(30), b, np.arange(25))["low"])


def test_the_auc_of_clips_is_scikit_learns(clips):
    p, labels, groups = clips
    found = bootstrap_auc(*clips, n_resamples=200, seed=4)
    assert found["auc"] == pytest.approx(roc_auc_score(labels, p), abs=1e-12)
    members = [np.flatnonzero(groups == name) for name in "abcdef"]
    aucs = []
    for counts in statistics.resample(6, 200, seed=4).astype(int):
        rows = np.concatenate([np.tile(m, n) for m, n in zip(members, counts, strict=True)])
        if np.ptp(labels[rows]):
            aucs.append(roc_auc_score(labels[rows], p[rows]))
    assert (found["low"], found["high"]) == pytest.approx(np.quantile(aucs, [0.025, 0.975]))


def test_two_aucs_are_compared_on_the_same_draws(clips):
    p, labels, groups = clips
    same = bootstrap_auc(p, labels, groups, minus=p)
    assert (same["auc"], same["low"], same["high"]) == (0, 0, 0)
    better = bootstrap_auc(p + labels, labels, groups, minus=p)
    assert better["auc"] == pytest.approx(1 - roc_auc_score(labels, p)) and better["low"] >= 0


def test_what_has_no_auc(clips):
    p, labels, groups = clips
    one_class = bootstrap_auc(p, np.zeros(30), groups)
    assert np.isnan([one_class["auc"], one_class["low"]]).all()
    assert np.isnan(bootstrap_auc(p, labels, ["a"] * 30)["low"])
    for wrong in ((p[1:], labels, groups), (p, labels * 2, groups), (p * np.nan, labels, groups)):
        with pytest.raises(ValueError, match="labels"):
            bootstrap_auc(*wrong)


def test_few_sequences_are_enumerated():
    differences, groups = np.array([0.5, 0.7, -0.1, 0.9, 0.3]), np.array(list("aabcd"))
    sums = [1.2, -0.1, 0.9, 0.3]
    flips = [abs(np.dot(s, sums)) for s in itertools.product((1, -1), repeat=4)]
    expected = np.mean([flip >= abs(sum(sums)) - 1e-9 for flip in flips])
    assert sign_flip_test(differences, groups) == {"p": expected, "n_groups": 4, "exact": True}


def test_p_is_never_zero_and_the_smallest_one_is_known():
    for n in (12, 30):
        assert sign_flip_test(np.ones(n), np.arange(n))["p"] == smallest_p(n) == 2 / 2**n
    drawn = sign_flip_test(np.ones(40), np.arange(40))
    assert (drawn["p"], drawn["exact"]) == (smallest_p(40), False) == (0.0001, False)
    assert np.isnan(smallest_p(0))
    differences = np.random.default_rng(1).normal(0.6, 1, 30)
    assert len({sign_flip_test(differences, np.arange(30), seed=s)["p"] for s in range(3)}) == 1


def test_flips_are_two_sided_and_ties_survive_rounding():
    differences, groups = np.array([0.1, 0.2, -0.3, 0.7]), list("abcd")
    found = sign_flip_test(differences, groups)
    # |sum| >= .7 in 10 of 16 flips; three of them are ties that floats miss by a digit.
    assert found == sign_flip_test(-differences, groups) and found["p"] == 10 / 16
    assert sign_flip_test([0.0, 0.0, 0.0], list("abc"))["p"] == 1
    assert np.isnan(sign_flip_test([np.nan], ["a"])["p"])


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, then never decreasing.
    assert holm([0.03, 0.01, 0.04, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1, 1] and holm([]).tolist() == []
    assert holm([0.02, np.nan, 0.5]) == pytest.approx([0.04, np.nan, 0.5], nan_ok=True)
    for wrong in (-0.1, 1.1):
        with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
            holm([0.5, wrong])


def test_an_interval_that_includes_zero_is_undecided():
    assert (interval_sign(0.1, 0.2), interval_sign(-0.2, -0.1)) == ("higher", "lower")
    undecided = (-0.1, 0.1), (0.0, 0.1), (-0.1, 0.0), (np.nan, np.nan)
    assert {interval_sign(*ends) for ends in undecided} == {"undecided"}


def test_the_better_side_follows_the_direction_of_the_metric(scores):
    assert statistics.summarise(scores)["row"].tolist() == list(MEANS) * 2, "in their order"
    sides = statistics.compare(scores, [(["motion"], ["lime"])]).set_index("metric")
    assert sides["interval"].to_dict() == {"auc": "higher", "insertion": "lower"}
    assert sides["better"].tolist() == ["first"] * 2
    described = statistics.compare(tidy(MEANS, metric="mean_area"), [(["motion"], ["ig"])])
    assert (described["interval"][0], described["better"][0]) == ("higher", "")


@pytest.mark.parametrize(("n_clips", "better"), [(6, ""), (8, "first")])
def test_three_sequences_name_no_better_side_however_clear_and_four_may(n_clips, better):
    table = statistics.compare(tidy({"x": 0.9, "y": 0.1}, n_clips=n_clips), [(["x"], ["y"])])
    assert (table["n_groups"][0], table["better"][0]) == (n_clips // 2, better)
    assert table["low"][0] > 0, "the interval is shown all the same"


def test_families_are_averaged_clip_by_clip(scores):
    scores = scores[scores["metric"] == "auc"].reset_index(drop=True)
    scores.loc[scores["row"].eq("ig") & scores["clip_id"].eq("c0"), "value"] = np.nan
    scores = scores[~(scores["row"].eq("lime") & scores["clip_id"].eq("c1"))]
    line = statistics.compare(scores, [(["motion", "random"], ["ig", "lime"])]).iloc[0]
    found = scores.pivot(index="clip_id", columns="row", values="value").dropna()
    expected = (found["motion"] + found["random"] - found["ig"] - found["lime"]).mean() / 2
    assert line["first"] == "motion random" and line["difference"] == pytest.approx(expected)
    assert (line["n"], line["n_undefined"], line["n_groups"]) == (18, 2, 9)


def test_tables_that_are_not_tidy_are_refused(scores):
    with pytest.raises(ValueError, match="more than once"):
        statistics.summarise(pd.concat([scores, scores.iloc[:1]]))
    with pytest.raises(ValueError, match="clip c0 is in 8 sequences"):
        statistics.summarise(scores.assign(sequence=[f"s{i}" for i in range(len(scores))]))
    for pair in ((["ig"], ["gradcam"]), (["ig"], [])):
        with pytest.raises(ValueError, match="no scores of .*there are"):
            statistics.compare(scores, [pair])
    assert statistics.compare(scores, []).empty
