"""Summaries of a study: which rows and clips count, how they are ranked and spelled."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from vad_helpers import tables
from vad_helpers.errors import InputError
from vad_helpers.tables.claims import sides


@pytest.fixture
def small(run_folder):
    return tables.load(run_folder)


def test_no_meaning_is_read_out_of_a_rows_name(study):
    names = {"lime_converged": "a", "kernel_shap_converged": "b", "ig_black": "c"}
    changed = {
        field.name: table.assign(row=table["row"].replace(names))
        for field in dataclasses.fields(study)
        if isinstance(table := getattr(study, field.name), pd.DataFrame) and "row" in table
    }
    other = dataclasses.replace(study, **changed)
    assert tables.many_samples(other) == {"b": "kernel_shap", "a": "lime"}
    assert tables.main_rows(other) == [names.get(row, row) for row in tables.main_rows(study)]
    found = tables.against_variants(other, {"baseline": "black"})
    assert found["second"].tolist()[0] == "c" and len(found) == 21
    again = tables.sensitivity(other)
    pd.testing.assert_frame_equal(again, tables.sensitivity(study))


def test_a_variant_changes_what_differs_from_its_methods_own_row(small):
    settings = {"ig": {"n_steps": 9}, "lime": {}, "lime_converged": {"n_samples": 5}, "motion": {}}
    rows = small.rows.assign(settings=small.rows["row"].map(settings).map(json.dumps))
    more = rows.iloc[[2]].assign(row="lime_more", settings='{"n_samples": 50, "paired": true}')
    few = rows.iloc[[2]].assign(row="lime_few", settings='{"n_samples": 99, "n_clips": 2}')
    same = rows.iloc[[0]].assign(row="ig2", kind="variant", settings='{"n_steps": 9, "seed": 1}')
    study = dataclasses.replace(small, rows=pd.concat([rows, more, few, same]))
    found = tables.variants(study).set_index("row")
    assert found.loc["ig2", "changes"] == {"seed": 1}
    assert tables.many_samples(study) == {"lime_more": "lime"}, "the most samples on all clips"
    assert "lime_few" not in tables.main_rows(study)


def test_methods_that_the_paper_lacks_are_marked_and_take_no_side_in_its_claims(small):
    one = small.rows[small.rows["row"] == "ig"]
    more = one.assign(row="grad_cam", of="grad_cam", label="Grad-CAM")
    copied = one.assign(row="ig2", kind="variant", label="IG (n_steps=9)")
    study = dataclasses.replace(small, rows=pd.concat([small.rows, more, copied]))
    before, after = tables.labels(small), tables.labels(study)
    assert after == before | {"grad_cam": "Grad-CAM (beyond the paper)", "ig2": "IG (n_steps=9)"}
    assert tables.methods(study) == ["ig", "lime", "grad_cam"]
    for first, second in (("gradient", "perturbation"), ("lime", "others")):
        assert sides(study, first, second) == sides(small, first, second)


def test_hits_and_misses_are_parts_of_all(study):
    given = {"table": "human_centric", "metrics": ["auc"]}
    parts = ("all", "hits", "misses")
    whole, hits, misses = (tables.summary(study, clips=part, **given) for part in parts)
    assert (hits["n"] + misses["n"]).tolist() == whole["n"].tolist()
    mean = (hits["mean"] * hits["n"] + misses["mean"] * misses["n"]) / whole["n"]
    np.testing.assert_allclose(mean, whole["mean"], rtol=1e-12)
    assert set(tables.table_one(study, clips="misses")["n"].dropna()) <= {13, 14, 15}


def test_means_side_by_side_are_over_the_same_clips(small):
    human = small.human_centric
    lacking = human["row"].eq("lime") & human["clip_id"].eq(human["clip_id"].iloc[0])
    study = dataclasses.replace(small, human_centric=human[~lacking])
    assert len(tables.finished(study)) == 2
    assert set(tables.summary(study, "human_centric", metrics=["auc"])["n"]) == {2}
    named = tables.summary(study, "human_centric", rows=["ig", "lime"], metrics=["iou"])
    assert named[named["level"] == "clip"]["n"].tolist() == [3, 2]
    assert tables.complete(named[named["level"] == "clip"]).tolist() == [True, False]
    ranks = tables.ranked(named[named["level"] == "clip"])["rank"]
    assert ranks.iloc[0] == 1 and np.isnan(ranks.iloc[1])


def test_ranks_share_the_better_place_and_follow_the_direction():
    means = {"auc": [0.2, 0.5, 0.5, np.nan], "insertion": [0.2, 0.5, 0.5, 0.1], "p_clip": [1.0]}
    lines = [(f"r{i}", m, v) for m, values in means.items() for i, v in enumerate(values)]
    found = pd.DataFrame(lines, columns=["row", "metric", "mean"]).assign(level="clip", n=4)
    expected = [3, 1, 1, np.nan, 2, 3, 3, 1, np.nan]
    np.testing.assert_array_equal(tables.ranked(found)["rank"], expected)


def ranks(study, values, metric):
    """Ranks of planted scores: a column a method, a line a clip, two clips a sequence."""
    lines = [
        (4, f"c{i}", f"s{i // 2}", row, "clip", metric, value, "")
        for row in values
        for i, value in enumerate(values[row])
    ]
    planted = pd.DataFrame(lines, columns=study.human_centric.columns)
    manifests = {4: study.manifests[4] | {"evaluation": []}}
    study = dataclasses.replace(study, human_centric=planted, manifests=manifests)
    rows = list(values)
    return tables.rank_stability(study, "human_centric", metric=metric, rows=rows).set_index("row")


def test_ranks_are_drawn_for_all_rows_together(small):
    # A constant lead on clips that differ wildly: paired, it never gets lost.
    noise = np.random.default_rng(0).normal(0.5, 0.3, 20)
    lead = {"ig": noise, "lime": noise + 0.001, "motion": noise - 1}
    for metric, order in (("auc", [1, 2, 3]), ("insertion", [3, 2, 1])):  # lower is better
        found = ranks(small, lead, metric).loc[["lime", "ig", "motion"]]
        for column in ("rank", "rank_low", "rank_median", "rank_high"):
            assert found[column].tolist() == order, column
        assert found["p_best"].tolist() == [float(rank == 1) for rank in order]
    apart = np.random.default_rng(1).normal(0.5, 0.3, (2, 20))
    equal = ranks(
        small, {"ig": apart[0] - apart[0].mean(), "lime": apart[1] - apart[1].mean()}, "auc"
    )
    assert equal["p_best"].sum() == pytest.approx(1) and equal["p_best"].between(0.01, 0.99).all()
    lone = ranks(small, {row: values[:2] for row, values in lead.items()}, "auc")
    assert lone[["p_best", "rank_low", "rank_median"]].isna().all(axis=None)
    few = ranks(small, lead | {"lime": np.where(np.arange(20) < 5, np.nan, 1.0)}, "auc")
    assert set(few.index) == {"ig", "motion"} and set(few["n"]) == {20}
    with pytest.raises(ValueError, match="neither side of mean_area"):
        ranks(small, lead, "mean_area")


def test_a_table_is_spelled_with_what_a_reader_must_know():
    nan, columns = np.nan, "row label mean low high n n_undefined n_all_zero paper".split()
    lines = [
        ("a", "A", 0.5, 0.4, 0.6, 4, 0, 1, 0.67744),
        ("b", "B", 0.25, nan, nan, 2, 1, 0, nan),
        ("c", "C", nan, nan, nan, 0, 4, 0, nan),
    ]
    found = tables.wide(pd.DataFrame(lines, columns=columns).assign(level="clip", metric="auc"))
    assert found.columns.tolist() == [("AUC ↑", "here"), ("AUC ↑", "paper")]
    assert found["AUC ↑", "here"].tolist() == [
        "0.500 [0.400, 0.600] (1 all-zero)",
        "0.250 (1 undefined) (3 of 4 clips)",
        "undefined (4 undefined)",
    ]
    assert found["AUC ↑", "paper"].tolist() == ["0.6774", "", ""]


def test_the_papers_tables_are_whole():
    printed = tables.paper()
    assert len(printed) == 8 * 12 and printed["paper"].notna().all()
    assert not printed.duplicated(["row", "level", "metric"]).any()


def test_one_run_has_no_mean_over_folds(small):
    found = tables.performance(small)
    assert set(found["pooling"]) == {"fold"} and set(found["folds"]) == {"4"}
    for cut, expected in ((0.0, "n_anomalous"), (1.1, "n_normal")):  # all called one way
        line = tables.performance(small, called_from=cut).query("scene == 'both'").iloc[0]
        n = {"n_anomalous": line["n_anomalous"], "n_normal": line["n"] - line["n_anomalous"]}
        assert line["metric"] == "accuracy" and line["mean"] == pytest.approx(
            n[expected] / line["n"]
        )
    assert tables.leakage(small).empty and tables.costs(small)["n"].tolist() == [3, 3, 3]
    empty = dataclasses.replace(small, explanations=small.explanations.iloc[:0])
    assert tables.summary(empty, "runtime").empty and tables.costs(empty).empty


def test_runs_that_share_no_clips_are_compared_as_samples(study_folder, run_folder):
    paths = [study_folder / "fold-4", run_folder]
    given = {"rows": ["ig"], "metrics": ["iou"], "n_resamples": 100}
    path = run_folder / "manifest.json"
    for change, n_shared in (({}, 3), ({"data": "other"}, 0)):
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
        found = tables.compare(paths, **given)["n_shared"]
        assert found.dropna().unique().tolist() == [n_shared]
    with pytest.raises(InputError, match="no run has scores of beauty, ig"):
        tables.compare(paths, rows=["ig"], metrics=["beauty"])


@pytest.mark.parametrize("same", [True, False])
def test_a_row_of_ones_own_is_paired_with_every_other(study_folder, run_folder, same):
    for path in run_folder.glob("*.csv"):
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if "row" in table:  # the run's lime as a method that the study does not have
            table["row"] = table["row"].replace("lime", "mine")
            table[table["row"] != "lime_converged"].to_csv(path, index=False)
    path, study = run_folder / "manifest.json", study_folder / "fold-4"
    about = json.loads(path.read_text()) | {"counts": {}}
    theirs = json.loads((study / "manifest.json").read_text())["weights_sha256"]
    path.write_text(json.dumps(about | {"weights_sha256": theirs if same else "another"}))
    given = {"metrics": ["auc"], "n_resamples": 100}
    found = tables.compare([run_folder, study], **given).query("level == 'clip'")
    beside = found[found["against"] == "mine"].set_index("row")
    assert set(found["against"].dropna()) == {"ig", "motion", *({"mine"} if same else set())}
    if same:
        # The study's own lime is the very same map; the row "motion" is compared with both.
        assert beside.loc["lime", "difference"] == 0 and beside.loc["lime", "n_shared"] == 3
        scored = tables.load(study).human_centric.query("level == 'clip' and metric == 'auc'")
        mean = scored[scored["clip_id"].isin(about["evaluation"])].groupby("row")["value"].mean()
        expected = mean["occlusion_lp"] - mean["lime"]
        assert beside.loc["occlusion_lp", "difference"] == pytest.approx(expected)


def test_leakage_is_paired_on_the_clips_that_the_alternative_tests(study):
    found = tables.leakage(study).set_index(["metric", "row"])
    seen = study.alternatives["split_by_clip"].predictions.query("split == 'test'")
    own = study.predictions.query("split == 'test'").set_index("clip_id").loc[seen["clip_id"]]
    auc = [roc_auc_score(p["label"], p["p"]) for p in (seen, own)]
    accuracy = [((p["p"] >= 0.5) == (p["label"] == 1)).mean() for p in (seen, own)]
    for metric, (first, second) in {"auc": auc, "accuracy": accuracy}.items():
        at = found.loc[metric]["mean"]
        expected = [first, second, first - second]
        np.testing.assert_allclose(at[["seen", "unseen", "difference"]], expected, atol=1e-12)
    assert set(found["n"]) == {len(seen)} and (found["low"] < found["mean"]).all()
    width = (found["high"] - found["low"])["auc"]  # clip by clip is sharper than two apart
    assert width["difference"] < width["seen"] + width["unseen"]
