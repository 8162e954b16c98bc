"""Tables of scores: summaries, ranks against references, contrasts fixed beforehand."""

import time

import numpy as np
import pandas as pd
import pytest

from vad_helpers.tables import statistics

METHODS = {"ig": 0.70, "lime": 0.72, "motion": 0.92, "random": 0.50}


def tidy(means, *, metric="auc", level="clip", n_clips=20, spread=0.02, seed=0):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        [
            (f"c{i}", f"s{i // 2}", method, level, metric, rng.normal(mean, spread))
            for i in range(n_clips)
            for method, mean in means.items()
        ],
        columns=list(statistics.COLUMNS),
    )


@pytest.fixture
def scores():
    insertion = {method: 1 - mean for method, mean in METHODS.items()}
    return pd.concat([tidy(METHODS), tidy(insertion, metric="insertion", seed=1)])


def test_a_summary_has_a_row_for_each_method_level_and_metric(scores):
    scores.iloc[0, -1] = np.nan
    table = statistics.summarise(scores)
    assert list(table.columns) == [
        "method", "level", "metric", "mean", "low", "high", "n", "n_groups", "n_undefined"
    ]  # fmt: skip
    assert table["method"].tolist() == list(METHODS) * 2
    first = table.iloc[0]
    part = scores[(scores["method"] == "ig") & (scores["metric"] == "auc")]
    expected = statistics.bootstrap_mean(part["value"], part["sequence"])
    assert first[list(expected)].to_dict() == pytest.approx(expected)
    assert (first["n"], first["n_undefined"]) == (19, 1)


def test_options_of_the_bootstrap_reach_every_cell(scores):
    wide = statistics.summarise(scores, level=0.99, seed=1, n_resamples=500)
    narrow = statistics.summarise(scores, level=0.5, seed=1, n_resamples=500)
    assert (wide["low"] < narrow["low"]).all()


def test_ranks_follow_the_direction_of_each_metric(scores):
    table = statistics.rank_table(statistics.summarise(scores))
    for metric in ("auc", "insertion"):  # higher and lower is better
        ranks = table[table["metric"] == metric].set_index("method")["rank"]
        assert ranks.to_dict() == {"motion": 1, "lime": 2, "ig": 3, "random": 4}


def test_references_are_marked_and_counted_when_ahead(scores):
    table = statistics.rank_table(statistics.summarise(scores)).set_index(["metric", "method"])
    assert table.loc["auc", "is_reference"].to_dict() == {
        "ig": False, "lime": False, "motion": True, "random": True
    }  # fmt: skip
    assert table.loc["auc", "references_ahead"].to_dict() == {
        "ig": 1, "lime": 1, "motion": 0, "random": 1
    }  # fmt: skip
    assert (table["n_ranked"] == 4).all()
    own = statistics.rank_table(statistics.summarise(scores), references=["lime"])
    assert own["references_ahead"].tolist() == [1, 0, 0, 1] * 2


def test_equal_means_share_the_better_rank_and_undefined_ones_have_none():
    summary = pd.DataFrame(
        {"method": list("abcd"), "level": "clip", "metric": "iou", "mean": [0.2, 0.5, 0.5, np.nan]}
    )
    table = statistics.rank_table(summary)
    assert table["rank"].tolist()[:3] == [3, 1, 1]
    assert np.isnan(table["rank"].iloc[3])
    assert table["n_ranked"].tolist() == [3] * 4


def test_metrics_without_a_better_side_are_not_ranked(scores):
    summary = statistics.summarise(pd.concat([scores, tidy(METHODS, metric="mean_area")]))
    assert set(statistics.rank_table(summary)["metric"]) == {"auc", "insertion"}
    only = statistics.rank_table(summary[summary["metric"] == "mean_area"])
    assert only.empty
    assert "rank" in only.columns


def test_unknown_metrics_are_refused(scores):
    unknown = statistics.summarise(scores.replace({"metric": {"auc": "beauty"}}))
    with pytest.raises(ValueError, match="no metric 'beauty'"):
        statistics.rank_table(unknown)


def test_a_clear_winner_is_best_in_every_resample(scores):
    table = statistics.rank_stability(scores).set_index(["metric", "method"])
    for metric in ("auc", "insertion"):
        assert table.loc[(metric, "motion"), "p_best"] == 1
        assert table.loc[(metric, "random"), ["rank_low", "rank_high"]].tolist() == [4, 4]
        assert table.loc[(metric, "random"), "p_rank_4"] == 1


def test_near_equals_swap_ranks_and_shares_sum_to_one():
    table = statistics.rank_stability(tidy({"ig": 0.7, "lime": 0.7}, spread=0.1))
    shares = table[["p_rank_1", "p_rank_2"]].to_numpy()
    np.testing.assert_allclose(shares.sum(axis=0), 1)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert ((shares > 0.01) & (shares < 0.99)).all()
    assert table["p_best"].tolist() == table["p_rank_1"].tolist()


def test_rank_stability_resamples_all_methods_together():
    # A constant lead on clips that differ wildly: paired, it never gets lost.
    scores = tidy({"ig": 0.5}, spread=0.3)
    ahead = scores.assign(method="lime", value=scores["value"] + 0.001)
    table = statistics.rank_stability(pd.concat([scores, ahead])).set_index("method")
    assert table["p_best"].to_dict() == {"ig": 0, "lime": 1}


def test_a_method_without_defined_scores_ranks_last(scores):
    scores.loc[scores["method"] == "motion", "value"] = np.nan
    table = statistics.rank_stability(scores).set_index(["metric", "method"])
    assert table.loc[("auc", "motion"), "rank_median"] == 4


def test_ranks_of_one_sequence_are_not_stable_or_unstable_but_unknown(scores):
    table = statistics.rank_stability(scores.assign(sequence="s0"))
    assert table[["p_best", "rank_low", "rank_median", "p_rank_1"]].isna().all(axis=None)


def test_rank_stability_skips_metrics_without_a_better_side():
    assert statistics.rank_stability(tidy(METHODS, metric="p_clip")).empty


def test_a_contrast_reports_difference_interval_test_and_side(scores):
    table = statistics.compare(scores, [("motion", "lime"), ("ig", "motion")])
    row = table[(table["metric"] == "auc") & (table["contrast"] == "motion - lime")].iloc[0]
    wide = scores[scores["metric"] == "auc"].pivot(
        index=["clip_id", "sequence"], columns="method", values="value"
    )
    pair = wide["motion"], wide["lime"], wide.index.get_level_values("sequence")
    expected = statistics.paired_difference(*pair)
    assert row[list(expected)].to_dict() == pytest.approx(expected)
    assert row["p"] == statistics.sign_flip_test(pair[0] - pair[1], pair[2])["p"]
    assert (row["verdict"], row["better"]) == ("higher", "a")


def test_the_better_side_follows_the_direction(scores):
    table = statistics.compare(scores, [("motion", "lime")]).set_index("metric")
    assert table["verdict"].to_dict() == {"auc": "higher", "insertion": "lower"}
    assert table["better"].to_dict() == {"auc": "a", "insertion": "a"}
    other_way = statistics.compare(scores, [("lime", "motion")])
    assert other_way["better"].tolist() == ["b", "b"]


def test_undecided_names_no_better_side():
    same = tidy({"ig": 0.7, "lime": 0.7}, spread=0.1, seed=4)
    row = statistics.compare(same, [("ig", "lime")]).iloc[0]
    assert (row["verdict"], row["better"]) == ("undecided", "")
    described = statistics.compare(tidy(METHODS, metric="mean_area"), [("motion", "ig")]).iloc[0]
    assert (described["verdict"], described["better"]) == ("higher", "")


@pytest.mark.parametrize(("n_clips", "better"), [(6, ""), (8, "a")])
def test_three_sequences_name_no_better_side_however_clear_and_four_may(n_clips, better):
    table = statistics.compare(tidy({"x": 0.9, "y": 0.1}, n_clips=n_clips), [("x", "y")])
    assert table["n_groups"].item() == n_clips // 2 and table["better"].item() == better
    assert table["low"].item() > 0, "the interval is shown all the same"


def test_families_are_averaged_clip_by_clip(scores):
    named = {"references over methods": (["motion", "random"], ["ig", "lime"])}
    table = statistics.compare(scores, named).set_index("metric")
    means = statistics.summarise(scores).set_index(["metric", "method"])["mean"]["auc"]
    expected = (means["motion"] + means["random"] - means["ig"] - means["lime"]) / 2
    assert table.loc["auc", "contrast"] == "references over methods"
    assert table.loc["auc", "difference"] == pytest.approx(expected)
    unnamed = statistics.compare(scores, [(("motion", "random"), "ig")])
    assert unnamed["contrast"].iloc[0] == "(motion + random) - ig"


def test_a_clip_undefined_on_either_side_is_left_out(scores):
    scores = scores[scores["metric"] == "auc"].reset_index(drop=True)
    scores.loc[scores["method"].eq("ig") & scores["clip_id"].eq("c0"), "value"] = np.nan
    absent = scores["method"].eq("lime") & scores["clip_id"].eq("c1")
    row = statistics.compare(scores[~absent], [("ig", "lime")]).iloc[0]
    assert (row["n"], row["n_undefined"], row["n_groups"]) == (18, 2, 9)


def test_holm_corrects_over_all_rows_or_within_families(scores):
    pairs = statistics.against("random", list(METHODS))
    assert pairs == [("ig", "random"), ("lime", "random"), ("motion", "random")]
    together = statistics.compare(scores, pairs)
    apart = statistics.compare(scores, pairs, within=("level", "metric"))
    np.testing.assert_allclose(together["p_holm"], statistics.holm(together["p"]))
    for _, part in apart.groupby("metric"):
        np.testing.assert_allclose(part["p_holm"], statistics.holm(part["p"]))
    assert (apart["p_holm"] < together["p_holm"]).all()


def test_no_contrasts_make_an_empty_table(scores):
    assert statistics.compare(scores, []).empty


@pytest.mark.parametrize("pair", [("ig", "gradcam"), ("ig", [])])
def test_contrasts_with_methods_that_are_not_there_are_refused(scores, pair):
    with pytest.raises(ValueError, match="no scores of .*there are"):
        statistics.compare(scores, [pair])


@pytest.mark.parametrize("function", [statistics.summarise, statistics.rank_stability])
def test_tables_that_are_not_tidy_are_refused(scores, function):
    with pytest.raises(ValueError, match=r"lacks the columns \['sequence'\]"):
        function(scores.drop(columns="sequence"))
    with pytest.raises(ValueError, match="more than once"):
        function(pd.concat([scores, scores.iloc[:1]]))
    scores["sequence"] = [f"s{i}" for i in range(len(scores))]
    with pytest.raises(ValueError, match="clip c0 is in 8 sequences"):
        function(scores)


def test_rank_stability_checks_its_options(scores):
    with pytest.raises(ValueError, match="level is 0"):
        statistics.rank_stability(scores, level=0)


def test_the_published_tables_take_about_a_second():
    means = {f"m{k}": 0.5 for k in range(13)}
    scores = pd.concat(
        tidy(means, metric=metric, level=level, n_clips=40)
        for level in ("clip", "frame")
        for metric in ("iou", "f1", "auc", "deletion", "insertion", "cv")
    )
    start = time.process_time()
    statistics.rank_table(statistics.summarise(scores))
    statistics.rank_stability(scores)
    assert time.process_time() - start < 2
