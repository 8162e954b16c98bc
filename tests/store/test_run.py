"""A whole run on the tiny project, through the functions that notebooks call."""

import dataclasses
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file

from vad_helpers import attribution, store
from vad_helpers.attribution import METHODS, MethodSpec
from vad_helpers.errors import InputError
from vad_helpers.model import prediction
from vad_helpers.store import detector, experiment, maps, scores, tables
from vad_helpers.store.row import REFERENCES

pytestmark = pytest.mark.filterwarnings("ignore:.*all zero.*")


@pytest.fixture
def run(in_project):
    return store.open_run("tiny")


@pytest.fixture
def table(run):
    return store.human_centric(run)


def test_clips_and_evaluation_set_come_from_unseen_anomalous_sequences(run):
    clips, chosen = store.clips(run), store.evaluation(run)
    assert len(chosen) == 3
    assert set(chosen["split"]) == {"test"} and set(chosen["label"]) == {1}
    trained = set(clips.loc[clips["split"] != "test", "sequence"])
    assert trained.isdisjoint(chosen["sequence"])


def test_a_clip_its_frames_and_its_mask_have_one_shape(run):
    clip_id = store.evaluation(run)["clip_id"][0]
    clip, grey, mask = (get(run, clip_id) for get in (store.clip, store.frames, store.mask))
    assert clip.shape == (3, 8, 40, 60) and grey.shape == mask.shape == (8, 40, 60)
    assert mask.dtype == bool
    assert any(store.mask(run, c).any() for c in store.evaluation(run)["clip_id"])
    assert 0 <= grey.min() < grey.max() <= 1
    np.testing.assert_allclose((clip[0].numpy() + 1) / 2, grey, atol=1e-6)


def test_every_row_gives_one_finite_map_a_clip(run):
    clip_id = store.evaluation(run)["clip_id"][0]
    for key in [*store.rows(run), "ig_time_average"]:
        found = store.attribution(run, clip_id, key)
        assert found.shape == (8, 40, 60) and found.dtype == np.float32, key
        assert np.isfinite(found).all(), key


def test_a_map_equals_what_explain_gives_and_carries_its_record(run):
    clip_id = store.evaluation(run)["clip_id"][0]
    direct = attribution.explain(
        store.model(run), store.clip(run, clip_id), "ig", seed=0, n_steps=4, batch_size=8
    )
    np.testing.assert_array_equal(store.attribution(run, clip_id, "ig"), direct)
    record = maps.metadata(run, clip_id, "ig")
    assert record["model_calls"] == 4 and record["row"]["settings"] == {"n_steps": 4}
    path = maps.map_path(run, clip_id, store.rows(run)["ig"])
    assert load_file(path)["attribution"].shape == (8, 40, 60)


def test_a_finished_map_is_not_explained_again_and_a_damaged_one_is(run, monkeypatch):
    clip_id = store.evaluation(run)["clip_id"][0]
    before = store.attribution(run, clip_id, "guided_backprop")
    monkeypatch.setattr(maps, "_explain", lambda *a, **k: pytest.fail("explained again"))
    store.attribution(run, clip_id, "guided_backprop")
    monkeypatch.undo()
    monkeypatch.chdir(run.root)
    path = maps.map_path(run, clip_id, store.rows(run)["guided_backprop"])
    path.write_bytes(path.read_bytes()[:50])
    with pytest.warns(UserWarning, match="damaged"):
        after = store.attribution(run, clip_id, "guided_backprop")
    np.testing.assert_array_equal(before, after)


CLIP_CHANGES = [
    {"seed": 1},
    {"frame_size": [44, 60]},
    {"std": 0.4},
    {"mean": 0.4},
    {"n_frames": 4},
    {"stride": 4},
    {"walkway": {"n_train": 6, "n_test": 10, "n_frames": 32}},
]


def test_the_precision_of_scoring_is_in_the_key_of_its_scores(run, monkeypatch):
    monkeypatch.setattr(prediction, "computes_bf16", lambda device: True)
    before = {table: scores._unit_key(run, table, "random") for table in scores.MEASURES}
    assert detector.scoring_precision(run) == "fp32"
    assert detector.scoring_precision(store.open_run("tiny", precision="auto")) == "bf16"
    monkeypatch.setattr(detector, "scoring_precision", lambda run: "bf16")
    after = {table: scores._unit_key(run, table, "random") for table in scores.MEASURES}
    assert [t for t in before if before[t] != after[t]] == ["model_centric"]


EXPLANATION_CHANGES = [{"baseline": "black"}, {"precision": "bf16"}, {"model_width": 0.2}]
TRAINING_CHANGES = [{"epochs": 2}, {"fold": 1}, {"lr": 0.5}]
NETWORK_ROWS = [*METHODS, "lime_converged", "random_weights"]
MAP_ROWS = [row for row in REFERENCES if row not in NETWORK_ROWS] + NETWORK_ROWS


def key_after(run, row, **change):
    changed = store.open_run("tiny", run_dir=str(run.dir), **change)
    return maps.row_key(changed, store.rows(changed)[row])


@pytest.mark.parametrize("row", MAP_ROWS)
def test_a_changed_setting_never_reads_a_stale_map(run, row):
    changes = list(CLIP_CHANGES)
    changes += EXPLANATION_CHANGES if row in NETWORK_ROWS else []
    changes += TRAINING_CHANGES if row in {*NETWORK_ROWS} - {"random_weights"} else []
    mine = maps.row_key(run, store.rows(run)[row])
    for change in changes:
        assert key_after(run, row, **change) != mine, change


def test_a_methods_settings_enter_its_own_key_and_no_others(run):
    change = {"settings": {"ig": {"n_steps": 5}}}
    for row, differs in {
        "ig": True,
        "random_weights": True,
        "lime": False,
        "centre": False,
    }.items():
        mine = maps.row_key(run, store.rows(run)[row])
        assert (key_after(run, row, **change) != mine) is differs, row


def test_a_methods_version_enters_its_key(run, monkeypatch):
    mine = maps.row_key(run, store.rows(run)["ig"])
    monkeypatch.setitem(METHODS, "ig", dataclasses.replace(METHODS["ig"], version=2))
    assert key_after(run, "ig") != mine


@pytest.mark.parametrize("change", [{"n_clips": 2}, {"eval_batch_size": 1}, {"n_thresholds": 5}])
def test_settings_that_do_not_touch_a_map_keep_it(run, change):
    assert key_after(run, "ig", **change) == maps.row_key(run, store.rows(run)["ig"])


def test_the_scores_of_a_map_are_those_of_the_metric(run, table):
    from vad_helpers.metrics.human_centric import localization

    clip_id = store.evaluation(run)["clip_id"][1]
    mine = table[(table.clip_id == clip_id) & (table.method == "motion") & (table.level == "clip")]
    mine = mine.set_index("metric")["value"]
    expected = localization(
        store.attribution(run, clip_id, "motion"), store.mask(run, clip_id), n_thresholds=10
    )
    for name, value in expected.items():
        assert mine[name] == pytest.approx(value, abs=1e-12)


def test_every_table_has_every_row_and_clip_and_the_tidy_columns(run):
    for name in ("human_centric", "model_centric", "robustness"):
        found = getattr(store, name)(run)
        assert list(found.columns) == scores.COLUMNS
        expected = set(store.rows(run)) | ({"ig_time_average"} if name == "robustness" else set())
        assert set(found["method"]) == expected
        assert set(found["clip_id"]) == set(store.evaluation(run)["clip_id"])
        assert run.path(f"{name}.csv").is_file()


def test_a_second_call_reads_the_table_and_a_lost_table_is_made_from_the_scores(run, monkeypatch):
    first = store.robustness(run)
    monkeypatch.setattr(scores.stability, "temporal", lambda *a: pytest.fail("measured again"))
    pd.testing.assert_frame_equal(store.robustness(run), first)
    run.path("robustness.csv").unlink()
    pd.testing.assert_frame_equal(store.robustness(run), first)


def test_a_damaged_score_is_measured_again(run):
    first = store.robustness(run)
    clip_id = store.evaluation(run)["clip_id"][0]
    scores._unit_path(run, "robustness", clip_id, "centre").write_text("{")
    run.path("robustness.csv").unlink()
    with pytest.warns(UserWarning, match="damaged.*scoring again"):
        again = store.robustness(run)
    pd.testing.assert_frame_equal(again, first)


def test_a_constant_map_deletes_best_as_its_flatness_is_rewarded(run):
    found = store.model_centric(run).pivot_table(index="method", columns="metric", values="value")
    gap = found.loc["constant", "p_clip"] - found.loc["constant", "p_baseline"]
    assert found.loc["constant", "deletion"] == pytest.approx(gap, abs=1e-6)
    assert found.loc["constant", "insertion"] == pytest.approx(0, abs=1e-6)


def test_curves_and_frame_aucs_stack_the_clips(run):
    found = store.curves(run, "ig")
    assert found["threshold_deletion_curve"].shape == (3, 11)
    assert found["area_insertion_curve"].shape == (3, 6)
    for row in ("ig", "ig_time_average"):
        assert store.frame_aucs(run, row)["frame_auc"].shape == (3, 8)


def test_run_time_has_every_method_and_variant_with_its_calls(run):
    found = store.runtime(run)
    wide = found.pivot(index="method", columns="metric", values="value")
    assert set(wide.index) == {*METHODS, "lime_converged"}
    assert wide.loc["guided_backprop", "model_calls"] == 1
    assert wide.loc["lime_converged", "model_calls"] == 60
    assert (wide["seconds"] > 0).all() and set(found["source"]) == {"measured"}


def test_slow_methods_are_explained_on_fewer_clips_and_timed_as_recorded(
    run, tmp_path, monkeypatch
):
    monkeypatch.setattr(maps, "SLOW_CALLS", 59)
    few = store.open_run("tiny", n_clips_slow=1, methods=["ig"], run_dir=str(tmp_path / "slow"))
    assert len(maps.clips_of(few, store.rows(few)["lime_converged"])) == 1
    assert len(maps.clips_of(few, store.rows(few)["ig"])) == 3
    found = store.runtime(few).set_index("method")
    assert set(found.loc["lime_converged", "source"]) == {"recorded"}
    assert set(found.loc["ig", "source"]) == {"measured"}
    found = store.summary(few, "robustness").set_index(["method", "metric"])
    counted = found["n"] + found["n_undefined"]
    assert counted["lime_converged", "mauc"] == 1 and counted["ig", "mauc"] == 3


def test_variants_on_a_few_clips_are_timed_as_recorded(in_project, tmp_path):
    variants = {"few": {"method": "ig", "baseline": "black", "n_clips": 1},
                "every": {"method": "ig", "baseline": "black"}}  # fmt: skip
    options = {"methods": ["ig"], "variants": variants, "run_dir": str(tmp_path / "run")}
    run = store.open_run("tiny", **options)
    source = store.runtime(run).drop_duplicates("method").set_index("method")["source"]
    assert source.pop("few") == "recorded" and set(source) == {"measured"}
    assert {"ig", "every"} <= set(source.index)


def test_variants_on_a_few_clips_are_not_explained_again_to_be_timed(
    in_project, tmp_path, monkeypatch
):
    variants = {"few": {"method": "ig", "baseline": "black", "n_clips": 1}}
    options = {"methods": ["ig"], "variants": variants, "run_dir": str(tmp_path / "run")}
    run = store.open_run("tiny", n_clips=1, **options)
    store.attribution(run, maps.clips_of(run, store.rows(run)["few"])[0], "few")
    monkeypatch.setattr(scores.detector, "machine", lambda run: "another")
    found = store.runtime(run)
    assert "few" not in set(found["method"]) and "ig" in set(found["method"])


def test_main_rows_are_those_on_every_clip(in_project, tmp_path):
    variants = {"few": {"method": "ig", "baseline": "black", "n_clips": 1},
                "every": {"method": "ig", "baseline": "black"}}  # fmt: skip
    run = store.open_run("tiny", methods=["ig"], variants=variants, n_clips_slow=1,
                         run_dir=str(tmp_path / "run"))  # fmt: skip
    found = pd.DataFrame({"method": ["ig", "few", "every", "motion", "ig_time_average"]})
    kept = store.tables.main_rows(run, found)
    assert list(kept["method"]) == ["ig", "every", "motion", "ig_time_average"]
    assert list(kept.index) == [0, 2, 3, 4]


def test_the_clips_of_a_slow_method_are_of_both_scenes_and_of_the_evaluation_set(run, monkeypatch):
    monkeypatch.setattr(maps, "SLOW_CALLS", 59)
    for n in (2, 3, 9):
        few = store.open_run("tiny", n_clips=8, n_clips_slow=n)
        chosen = store.evaluation(few).set_index("clip_id")
        slow = maps.clips_of(few, store.rows(few)["lime_converged"])
        assert len(slow) == min(n, len(chosen))
        counts = chosen.loc[slow, "scene"].value_counts()
        assert set(counts.index) == {"ped1", "ped2"} and counts.max() - counts.min() <= 1


def test_times_recorded_under_other_conditions_are_not_taken(run, monkeypatch):
    monkeypatch.setattr(maps, "SLOW_CALLS", 59)
    options = {"methods": ["ig"], "run_dir": str(run.dir), "n_clips": 2}
    slow = store.rows(store.open_run("tiny", **options))["lime_converged"]

    def source(**change):
        other = store.open_run("tiny", **options, **change)
        lines = scores._time_row(other, slow, maps.explanations(other))
        return {line[-1] for line in lines}

    assert source() == {"recorded"}
    assert source(eval_batch_size=1) == {"measured"}
    monkeypatch.setattr(detector, "machine", lambda run: "another")
    assert source() == {"measured"}


@pytest.mark.parametrize("change", ["batch", "machine"])
def test_run_times_are_taken_anew_under_other_conditions(run, monkeypatch, change):
    mine = scores.table_key(run, "runtime")
    if change == "machine":
        monkeypatch.setattr(detector, "machine", lambda run: "another")
    other = store.open_run("tiny", eval_batch_size=1 if change == "batch" else None)
    assert scores.table_key(other, "runtime") != mine
    assert scores.table_key(other, "robustness") == scores.table_key(run, "robustness")


def test_ties_are_broken_by_a_draw_of_each_clips_own(run):
    first, second = store.evaluation(run)["clip_id"][:2]
    seeds = [experiment.clip_seed(run, clip_id) for clip_id in (first, second, first)]
    assert seeds[0] == seeds[2] != seeds[1]
    assert experiment.clip_seed(store.open_run("tiny", seed=1), first) != seeds[0]


def test_tables_are_built_under_the_lock_of_every_artifact(run, monkeypatch):
    seen = []
    monkeypatch.setattr(scores, "load_or_build", lambda run, name, *a, **k: seen.append(name))
    store.robustness(run)
    store.runtime(run)
    assert seen == ["robustness.csv", "runtime.csv"]


def test_tables_stand_beside_the_papers_values(run):
    one = store.table_one(run)
    value = one.query("method == 'lime' and level == 'clip' and metric == 'iou'")["paper"].item()
    assert value == 0.1515
    assert one.loc[one["method"] == "random", "paper"].isna().all()
    two = store.table_two(run)
    value = two.query("method == 'occlusion_sp' and metric == 'seconds'")["paper"].item()
    assert value == 623.2
    assert list(two["metric"].unique()) == [m for _, m in tables.TABLE_TWO]
    wide = tables.wide(one)
    assert ("IoU, clip ↑", "paper") in wide.columns and "Random map" in wide.index
    with pytest.raises(ValueError, match="no table 3"):
        store.paper_table(3)


def test_a_rank_of_one_is_the_best_by_the_metrics_direction(run):
    two = store.table_two(run)
    for metric, best in (("deletion", "idxmax"), ("insertion", "idxmin"), ("seconds", "idxmin")):
        part = two[two["metric"] == metric].set_index("method")
        assert part.loc[getattr(part["mean"], best)(), "rank"] == 1


def test_undefined_values_are_counted_in_the_cell_and_left_out_of_the_mean():
    line = pd.Series({"mean": 0.5, "low": 0.4, "high": 0.6, "n_undefined": 2})
    assert tables._spell(line, digits=2) == "0.50 [0.40, 0.60] (2 undefined)"
    empty = pd.Series({"mean": np.nan, "low": np.nan, "high": np.nan, "n_undefined": 3})
    assert tables._spell(empty, digits=2) == "undefined"
    single = pd.Series({"mean": 0.5, "low": np.nan, "high": np.nan, "n_undefined": 0})
    assert tables._spell(single, digits=1) == "0.5"


def test_every_method_is_compared_with_every_reference(run):
    found = store.against_references(run)
    assert len(found) == (len(METHODS) + 1) * len(REFERENCES)
    assert set(found["verdict"]) <= {"higher", "lower", "undecided"}
    assert (found["rank"] >= 1).all() and (found["reference_rank"] >= 1).all()


def test_a_users_own_method_goes_through_the_whole_pipeline(in_project, tmp_path):
    def brightness(probability, clip, baseline, *, power):
        return (clip - baseline).abs().mean(0) ** power

    attribution.register(
        MethodSpec(
            key="brightness",
            name="Distance to the blur",
            family="perturbation",
            attribute=brightness,
            model_calls=lambda settings, shape, n_segments: 0,
            settings={"power": 1.0},
        )
    )
    try:
        run = store.open_run(
            "tiny",
            methods=["brightness", "ig"],
            variants={"brightness_squared": {"method": "brightness", "power": 2.0}},
        )
        for name in ("human_centric", "model_centric", "robustness", "runtime"):
            found = getattr(store, name)(run)
            assert {"brightness", "brightness_squared"} <= set(found["method"])
        aucs = store.human_centric(run).query("level == 'clip' and metric == 'auc'")
        aucs = aucs.pivot(index="clip_id", columns="method", values="value")
        np.testing.assert_allclose(aucs["brightness"], aucs["brightness_squared"], atol=1e-9)
        assert "Distance to the blur" in tables.wide(store.table_one(run)).index
    finally:
        del METHODS["brightness"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"methods": ["ig", "gradcam"]}, "unknown method 'gradcam'"),
        ({"settings": {"gradcam": {}}}, "unknown method 'gradcam'"),
        ({"variants": {"x": {"n_samples": 3}}}, "variant 'x'"),
        ({"variants": {"lime": {"method": "lime"}}}, "variant 'lime'"),
        ({"variants": {"x": {"method": "gradcam"}}}, "unknown method 'gradcam'"),
    ],
)
def test_unknown_rows_are_refused(in_project, overrides, words):
    with pytest.raises(InputError, match=words):
        store.rows(store.open_run("tiny", **overrides))


def test_unknown_clips_and_rows_are_refused(run):
    with pytest.raises(InputError, match="no clip 'x'"):
        store.clip(run, "x")
    with pytest.raises(InputError, match="no row 'x'"):
        store.attribution(run, store.evaluation(run)["clip_id"][0], "x")


def test_bad_options_of_the_synthetic_data_are_refused(in_project):
    with pytest.raises(InputError, match="'walkway'"):
        store.clips(store.open_run("tiny", walkway={"crowd": 3}))


def test_real_data_that_are_not_there_are_asked_for(in_project):
    with pytest.raises(InputError, match="vad data fetch"):
        store.clips(store.open_run("tiny", dataset="ucsd", data_dir="data/none"))


def test_the_synthetic_tree_read_as_real_data_gives_the_same_clips(run, tmp_path):
    folder = experiment.walkway_folder(run)
    real = store.open_run(
        "tiny", dataset="ucsd", data_dir=str(folder), run_dir=str(tmp_path / "real")
    )
    pd.testing.assert_frame_equal(store.clips(real), store.clips(run))


def test_clips_without_masks_leave_nothing_to_evaluate_and_say_so(run, tmp_path):
    bare = store.open_run("tiny", masks="official", run_dir=str(tmp_path / "bare"))
    official = store.clips(bare)["eligible"].sum()
    assert official < store.clips(run)["eligible"].sum()


def test_a_lost_history_says_how_to_get_it_back(run, tmp_path):
    other = store.open_run("tiny", run_dir=str(tmp_path / "run"))
    store.model(other)
    other.path("history.csv").unlink()
    with pytest.raises(InputError, match="history.csv"):
        store.history(other)


def test_manifest_names_what_was_built(run, table):
    manifest = json.loads(run.path("manifest.json").read_text())
    assert {"clips.csv", "model.safetensors", "human_centric.csv"} <= set(manifest)
    assert manifest["model.safetensors"]["epochs"] == 1


def test_two_runs_with_one_seed_give_equal_tables(run, table, tmp_path):
    again = store.open_run("tiny", run_dir=str(tmp_path / "again"), methods=["ig", "lime"])
    keys = ["clip_id", "method", "level", "metric"]
    for name in scores.MEASURES:
        mine, found = (getattr(store, name)(r).sort_values(keys) for r in (run, again))
        mine = mine[mine["method"].isin(found["method"])]
        found = found[found["method"].isin(mine["method"])]
        assert {"ig", "lime", "random"} <= set(found["method"])
        pd.testing.assert_frame_equal(mine.reset_index(drop=True), found.reset_index(drop=True))


def test_nothing_warns_beyond_all_zero_maps(run):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        store.table_one(run)
