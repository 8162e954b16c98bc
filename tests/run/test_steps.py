"""Clips, network, maps and scores of a small run: right values, and what is refused."""

import contextlib
import dataclasses
import json
import shutil
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from vad_helpers.attribution import METHODS, explain
from vad_helpers.errors import InputError
from vad_helpers.metrics import evaluate, human_centric, robustness
from vad_helpers.model import weights as model_weights
from vad_helpers.run import cache, experiment, open_run, rows, steps
from vad_helpers.tables import schema

pytestmark = pytest.mark.filterwarnings("ignore:.*all-zero.*")


@pytest.fixture
def run(measured):
    return open_run(run_dir=str(measured.dir))


@pytest.fixture
def study(measured):
    return schema.load(measured.dir)


@pytest.fixture
def options(weights, tmp_path):
    """A run of its own with the measured run's network."""
    shared = {"trained_weights": weights, "run_dir": str(tmp_path / "run"), "variants": {}}
    return shared | {"methods": ["ig"], "n_clips": 1}


def test_explained_clips_are_anomalous_and_of_sequences_that_were_never_seen(run):
    clips, chosen = steps.clips(run), steps.evaluation(run)
    assert set(chosen["split"]) == {"test"} and set(chosen["label"]) == {1} and len(chosen) == 2
    assert set(clips.loc[clips["split"] != "test", "sequence"]).isdisjoint(chosen["sequence"])
    assert set(steps.evaluation(run, n_clips=1)["clip_id"]) < set(chosen["clip_id"])
    assert chosen.attrs["shortfall"] == 0


def test_a_clip_its_frames_and_its_mask_have_one_shape(run):
    clip_id = steps.evaluation(run)["clip_id"][0]
    clip, grey, mask = (get(run, clip_id) for get in (steps.clip, steps.frames, steps.mask))
    assert clip.shape == (3, 8, 40, 60) and grey.shape == mask.shape == (8, 40, 60)
    assert mask.dtype == bool and 0 <= grey.min() < grey.max() <= 1
    np.testing.assert_allclose((clip[0].numpy() + 1) / 2, grey, atol=1e-6)
    assert (steps.baseline(run, clip_id, "black") == -1).all()
    with pytest.raises(InputError, match="no clip 'x'"):
        steps.clip(run, "x")
    with pytest.raises(InputError, match="no row 'x'"):
        steps.attribution(run, clip_id, "x")


def test_seeds_are_a_clips_own(run):
    first, second = steps.evaluation(run)["clip_id"]
    seeds = {steps.clip_seed(run, first), steps.clip_seed(run, second)}
    assert len(seeds | {steps.clip_seed(open_run("tiny", seed=1), first)}) == 3
    maps = [steps.attribution(run, clip_id, "random") for clip_id in (first, second)]
    assert (maps[0] != maps[1]).any()


def test_a_study_of_all_folds_gives_each_run_its_own_clips(tmp_path):
    chosen = []
    for fold in range(5):
        own = {"fold": fold, "run_dir": tmp_path / f"{fold}"}
        with contextlib.suppress(InputError):  # none of the six clips is in this fold
            found = steps.evaluation(open_run("tiny", n_clips=40, study_clips=6, **own))
            assert set(found["fold"]) == {fold}
            chosen += found["clip_id"].tolist()
    assert len(set(chosen)) == len(chosen) == 6


def test_the_synthetic_tree_read_as_a_real_one_gives_the_same_clips(run, tmp_path):
    folder = str(steps.data_root(run))
    real = open_run("tiny", dataset="ucsd", data_dir=folder, run_dir=str(tmp_path / "real"))
    pd.testing.assert_frame_equal(steps.clips(real), steps.clips(run))
    official = open_run("tiny", masks="official", run_dir=str(tmp_path / "official"))
    assert steps.clips(official)["eligible"].sum() < steps.clips(run)["eligible"].sum()
    absent = open_run("tiny", dataset="ucsd", data_dir="data/none", run_dir=str(tmp_path / "no"))
    with pytest.raises(InputError, match="vad data fetch"):
        steps.check(absent)


def test_training_leaves_a_network_that_half_precision_holds_and_its_history(run, measured):
    history, network = steps.history(run), steps.network(run)
    assert len(history) == 1 and history["chosen"].all()
    assert all((p == p.half().float()).all() for p in network.parameters() if p.ndim == 5)
    _, about = model_weights.load(measured.path("model.safetensors"))
    seen = steps.clips(run).query("split != 'test'")["sequence"]
    assert json.loads(about["sequences_seen"]) == sorted(seen.unique())


def test_a_frozen_recipe_trains_on_the_fold_that_validated_and_on_another_seed(run, tmp_path):
    options = {"with_validation": False, "keep": "last", "epochs": 2, "n_clips": 2}
    frozen = open_run("tiny", run_dir=str(tmp_path / "a"), **options)
    own, given = steps.predictions(frozen), steps.predictions(run)
    assert set(own["split"]) == {"test"}
    assert set(own["clip_id"]) == set(given.loc[given["split"] == "test", "clip_id"])
    history = steps.history(frozen)
    assert history["chosen"].tolist() == [False, True] and history["val_auc"].isna().all()
    validated = set(given.loc[given["split"] == "val", "sequence"])
    about = model_weights.load(frozen.path("model.safetensors"))[1]
    assert validated < set(json.loads(about["sequences_seen"]))
    again = open_run("tiny", run_dir=str(tmp_path / "b"), train_seed=1, **options)
    assert steps.clips(again).equals(steps.clips(frozen))
    assert not np.allclose(steps.predictions(again)["p"], own["p"])
    random = [steps.map_key(one, steps.rows(one)["random_weights"]) for one in (frozen, again)]
    assert random[0] != random[1]
    with pytest.raises(InputError, match="keep=last"):
        open_run("tiny", run_dir=str(tmp_path / "c"), with_validation=False)


def test_predictions_are_those_of_the_network(run):
    found = steps.predictions(run)
    assert set(found["split"]) == {"val", "test"} and found["p"].between(0, 1).all()
    clip_id = steps.evaluation(run)["clip_id"][0]
    own = steps.predictor(run)(steps.clip(run, clip_id)[None])
    assert found.set_index("clip_id")["p"][clip_id] == pytest.approx(own[0], abs=1e-5)


def test_weights_that_saw_what_is_tested_or_fit_no_clip_are_refused(weights, options, tmp_path):
    steps.check(open_run("tiny", **options))
    other = options | {"run_dir": str(tmp_path / "other")}
    for change, words in (
        ({"fold": 1}, "has seen .* of the sequences that this run tests"),
        ({"mean": 0.4}, "a network with mean 0.5, but this run has 0.4"),
        ({"model_width": 0.2}, "a network with width 0.1"),
        ({"trained_weights": "none.safetensors"}, "no weights at .*'trained_weights'"),
    ):
        with pytest.raises(InputError, match=words):
            steps.check(open_run("tiny", **other | change))
    assert steps.history(open_run("tiny", **options)).empty


def test_stages_that_initial_weights_lack_are_not_frozen(run, tmp_path):
    path = tmp_path / "initial.safetensors"
    state = steps.fresh_network(run).state_dict()
    kept = {name: t for name, t in state.items() if not name.startswith("Conv3d_2b")}
    model_weights.save_state(kept, path, {})
    options = {"init_weights": str(path), "run_dir": str(tmp_path / "run")}
    with pytest.raises(InputError, match="early_lr is 0.0, but .* lacks Conv3d_2b"):
        steps.check(open_run("tiny", early_lr=0.0, **options))
    for change in ({"early_lr": 1.0}, {"early_lr": 0.0, "early_end": "Conv3d_2b_1x1"}):
        steps.check(open_run("tiny", **change, **options))
    # Without initial weights nothing is worth keeping: every stage learns at the full rate.
    assert experiment.training_spec(open_run("tiny", early_lr=0.0)).early_lr == 1.0


def test_initial_weights_are_told_in_the_manifest(run, weights, tmp_path):
    trained = open_run("tiny", init_weights=weights, run_dir=str(tmp_path / "run"))
    steps.network(trained)
    known = cache.manifest_in(trained.dir)
    assert known["initial_weights"] == "model.safetensors" and known["left_fresh"] == []
    assert known["initial_weights_sha256"] == cache.file_digest(tmp_path.parent / weights)
    assert known["weights_sha256"] != cache.manifest_in(run.dir)["weights_sha256"]


def test_a_2d_start_is_measured_on_training_clips_when_the_network_is_trained(
    caffe_state, tmp_path, monkeypatch
):
    path = tmp_path / "caffe.safetensors"
    model_weights.save_state(caffe_state, path, {})
    options = {"init_weights": str(path), "run_dir": str(tmp_path / "run"), "early_lr": 0.0}
    started = open_run("tiny", early_end="Mixed_3b", **options)
    with monkeypatch.context() as patched:  # a look beforehand must be cheap
        patched.setattr(experiment, "dataset", None)
        steps.check(started)
    model = steps.network(started)
    known = cache.manifest_in(started.dir)
    assert known["left_fresh"] == ["logits"] and known["initial_weights"] == path.name
    # Its first stages are frozen: they are as they were initialised.
    expected = experiment.fresh_network(started)
    experiment._initialise(started, expected, experiment.dataset(started, "train", augmented=True))
    for name in ("running_mean", "weight"):
        found = getattr(model.Conv3d_1a_7x7.bn, name)
        assert torch.equal(found, getattr(expected.Conv3d_1a_7x7.bn, name)) and found.std() > 0.1


def clock(monkeypatch, fp32, **others):
    """Processor on which a unit of any work takes these seconds."""
    seconds = {"fp32": fp32, **{name.replace("_", " "): s for name, s in others.items()}}

    def timed(ways, *, device):
        for work in ways.values():
            work()
        return {name: seconds.get(name, 9.0) for name in ways}

    monkeypatch.setattr(experiment, "side_by_side", timed)


def test_automatic_precision_is_measured_once_and_then_obeyed(tmp_path, monkeypatch):
    monkeypatch.setattr(experiment, "computes_bf16", lambda device: True)
    monkeypatch.setattr(experiment, "has_openvino", lambda: False)
    clock(monkeypatch, 2.0, bf16=1.0)
    auto = {"precision": "auto", "run_dir": tmp_path / "run", "methods": ["kernel_shap", "ig"]}
    run = open_run("tiny", variants={"fast": {"method": "ig", "precision": "bf16"}}, **auto)
    assert {experiment.precision_of(run, what) for what in ("scores", "training")} == {"bf16"}
    clip_id = steps.evaluation(run)["clip_id"][0]
    assert steps._explained(run, clip_id, steps.rows(run)["fast"])[1]["precision"] == "bf16"
    own = steps._explained(run, clip_id, steps.rows(run)["kernel_shap"])[1]["precision"]
    assert own == METHODS["kernel_shap"].precision
    known = cache.manifest_in(run.dir)["measured"]
    assert known["forward"] == known["training"] == {"fp32": 2.0, "bf16": 1.0}
    assert "forward bf16" in run.facts().loc["precision", "this run"]

    clock(monkeypatch, 1.0, bf16=2.0)  # elsewhere
    assert experiment.precision_of(open_run(run_dir=tmp_path / "run")) == "bf16"
    other = open_run("tiny", precision="auto", run_dir=tmp_path / "other")
    works = ("forward", "gradient", "occlusion")
    assert {experiment.precision_of(other, "map", work=work) for work in works} == {"fp32"}
    monkeypatch.setattr(experiment, "computes_bf16", lambda device: False)
    third = open_run("tiny", precision="auto", run_dir=tmp_path / "third")
    assert experiment.measured(third, "forward") == {"fp32": 1.0}  # bf16 is not even tried
    named = open_run("tiny", precision="auto", train_precision="bf16", run_dir=tmp_path / "named")
    assert experiment.precision_of(named, "training") == "bf16"
    with pytest.warns(UserWarning, match="train_precision is bf16, which this cpu only emulates"):
        steps.check(named)
    older = open_run("tiny", precision="auto", run_dir=tmp_path / "older")
    cache.update(older, measured={"precision": "bf16", "engine": "torch"})  # as it once was kept
    assert experiment.precision_of(older) == experiment.precision_of(older, "training") == "bf16"
    assert experiment.engine_of(older, "bf16") == "torch"


def test_the_engine_is_chosen_for_the_faster_precision_and_from_what_was_timed():
    both = {"fp32": 2.0, "bf16": 1.0, "fp32 openvino": 0.5, "bf16 openvino": 3.0}
    assert experiment.quickest(both) == ("bf16", "torch")
    assert experiment.quickest(both, ["fp32"]) == ("fp32", "openvino")
    assert experiment.quickest({"fp32": 2.0}) == ("fp32", "torch")
    assert experiment.quickest({"fp32": 2.0}, ["bf16"]) == ("bf16", "torch")


def test_the_engine_is_the_faster_of_those_that_are_here(tmp_path, monkeypatch):
    pytest.importorskip("openvino", reason="the extra `fast` is not installed")
    monkeypatch.setattr(experiment, "computes_bf16", lambda device: False)
    clock(monkeypatch, 2.0, fp32_openvino=1.0)
    run = open_run("tiny", precision="auto", run_dir=tmp_path / "run", methods=["lime"])
    assert experiment.engine_of(run, "fp32") == "openvino"
    clip_id = steps.evaluation(run)["clip_id"][0]
    fast, about = steps._explained(run, clip_id, steps.rows(run)["lime"])
    assert about["engine"] == "openvino"
    monkeypatch.setattr(experiment, "has_openvino", lambda: False)
    shutil.rmtree(run.path("attributions"))
    plain, about = steps._explained(open_run(run_dir=run.dir), clip_id, steps.rows(run)["lime"])
    assert about["engine"] == "torch" and np.allclose(fast, plain, atol=1e-4 * np.abs(plain).max())


def test_rows_are_methods_variants_and_references_in_order(measured):
    listed = rows.rows_of(measured.params)
    assert list(listed) == ["ig", "lime", "ig_black", *rows.REFERENCES]
    lines = {line[0]: line for line in rows.describe(listed)}
    assert lines["ig_black"][1:4] == ("variant", "ig", "gradient")
    settings = {row: json.loads(line[5]) for row, line in lines.items()}
    black = {"n_steps": 4, "baseline": "black", "weights": "trained", "n_clips": 1}
    assert settings["ig_black"] == black and settings["motion"] == {} and lines["motion"][2] == ""
    assert settings["random_weights"]["weights"] == "random"
    without = measured.params.model_copy(update={"methods": ["lime"]})
    assert "ig_time_average" not in rows.rows_of(without)


def test_slow_rows_and_variants_are_on_fewer_clips_of_both_scenes(run):
    params = run.params.model_copy(
        update={"n_clips": 8, "n_clips_slow": 3, "settings": {"lime": {"n_samples": 600}}}
    )
    wide = cache.Run(params=params, root=run.root, dir=run.dir)
    listed, everything = steps.rows(wide), steps.evaluation(wide).set_index("clip_id")
    slow = steps.clips_of(wide, listed["lime"])
    assert len(slow) == 3 and set(slow) <= set(everything.index)
    assert set(everything.loc[slow, "scene"]) == {"ped1", "ped2"}
    assert len(steps.clips_of(wide, listed["ig_black"])) == 1
    assert len(steps.clips_of(wide, listed["ig"])) == len(everything)


def test_randomised_networks_have_their_seed_their_class_and_their_depth(run):
    clip_id, plain = steps.evaluation(run)["clip_id"][0], steps.rows(run)["random_weights"]
    deep, seeded = {"weights": "Mixed_5b"}, {"seed": 1}
    own = [{}, {"target": 0}, seeded, deep, deep | seeded]
    drawn = [dataclasses.replace(plain, key=f"r{i}", **new) for i, new in enumerate(own)]
    maps = [steps.attribution(run, clip_id, row) for row in [plain, *drawn]]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_allclose(maps[2], -maps[0], rtol=1e-3, atol=1e-4 * maps[0].max())
    assert len({one.tobytes() for one in maps}) == 5
    deep, own = (steps.network(run, name).state_dict() for name in ("Mixed_5b", "trained"))
    new = {n.split(".")[0] for n in own if "conv3d" in n and (own[n] != deep[n]).any()}
    assert new == {"Mixed_5b", "Mixed_5c", "logits"}


def test_every_row_gives_one_finite_map_and_that_of_explain(run):
    clip_id = steps.evaluation(run)["clip_id"][0]
    for key in steps.rows(run):
        found = steps.attribution(run, clip_id, key)
        assert found.shape == (8, 40, 60) and found.dtype == np.float32, key
        assert np.isfinite(found).all(), key
    direct = explain(steps.network(run), steps.clip(run, clip_id), "ig", n_steps=4, batch_size=8)
    np.testing.assert_array_equal(steps.attribution(run, clip_id, "ig"), direct)
    average = steps.attribution(run, clip_id, "ig_time_average")
    np.testing.assert_array_equal(average, robustness.time_average(direct))


def test_variants_draw_and_superpixels_are_shared(options):
    variants = {"again": {"method": "lime"}, "seed_1": {"method": "lime", "seed": 1}}
    run = open_run("tiny", **options | {"methods": ["lime"], "variants": variants})
    clip_id = steps.evaluation(run)["clip_id"][0]
    own, again, other = (steps.attribution(run, clip_id, r) for r in ("lime", "again", "seed_1"))
    assert (own == again).all() and (own != other).any()
    records = [steps._explained(run, clip_id, steps.rows(run)[r])[1] for r in ("lime", "again")]
    assert records[0]["superpixel_seconds"] == records[1]["superpixel_seconds"] > 0


def test_lines_of_a_map_are_those_of_evaluate(run, study):
    clip_id = steps.evaluation(run)["clip_id"][1]
    clip, values = steps.clip(run, clip_id), steps.attribution(run, clip_id, "lime")
    ends = steps.predictor(run)(torch.stack([clip, steps.baseline(run, clip_id)]))
    expected = evaluate.evaluate(
        values,
        ends=ends,
        mask=steps.mask(run, clip_id),
        changing=human_centric.moving_voxels(clip),
        moving=human_centric.moving_voxels(clip, step=1 / 255 / 0.5),
        clip=clip,
        baseline=steps.baseline(run, clip_id),
        predict=steps.predictor(run),
        n_thresholds=10,
        n_steps=5,
        seed=steps.clip_seed(run, clip_id),
    )
    for name, lines in expected.items():
        found = getattr(study, name)
        found = found[(found["clip_id"] == clip_id) & (found["row"] == "lime")]
        columns = found.columns[-len(lines[0]) - 1 : -1]
        wanted = pd.DataFrame(lines, columns=columns)
        pd.testing.assert_frame_equal(
            found[columns].reset_index(drop=True), wanted, atol=2e-6, check_dtype=False
        )


def test_the_network_sees_clip_and_baseline_once_for_all_maps_of_a_clip(options, monkeypatch):
    run, seen, predictor = open_run("tiny", **options), [], steps.predictor
    monkeypatch.setattr(
        steps, "predictor", lambda run: lambda batch: seen.extend(batch) or predictor(run)(batch)
    )
    found = steps.measure(run, rows=["ig", "random", "motion"]).model_centric
    clip_id = steps.evaluation(run)["clip_id"][0]
    for own in (steps.clip(run, clip_id), steps.baseline(run, clip_id)):
        assert sum(one.equal(own) for one in seen) == 1
    assert len(seen) == 2 + found.loc[found["metric"] == "model_calls", "value"].sum()


def test_every_table_has_every_row_and_clip(run, study):
    pairs = steps.units(run)
    for name in cache.APPENDED:
        found = getattr(study, name).groupby(["clip_id", "row"], sort=False).groups
        assert list(found) == [pair for pair, tables in pairs.items() if name in tables]
    assert set(study.robustness["row"]) - set(study.human_centric["row"]) == {"ig_time_average"}
    assert len(study.curves["values"][0].split()) == 11
    costs = study.explanations.set_index(["clip_id", "row"])
    clip_id = study.evaluation["clip_id"][0]
    assert costs.loc[(clip_id, "ig"), "model_calls"] == 4
    assert costs.loc[(clip_id, "motion"), ["seconds", "model_calls"]].tolist() == [0, 0]
    assert costs.loc[(clip_id, "lime"), "processor"] == steps.processor(run)


def test_an_alternative_is_a_run_beside_the_folds(options, measured, tmp_path):
    folder = tmp_path / "study" / "strong_blur-fold-0"
    change = {"alternative": "strong_blur", "baseline": "strong_blur", "run_dir": str(folder)}
    steps.measure(open_run("tiny", **options | change))
    found = cache.manifest_in(folder)["alternative"]
    assert found["name"] == "strong_blur" and found["of"] == "fold-0"
    assert found["changes"]["baseline"] == "strong_blur" and "n_clips" not in found["changes"]
    steps.measure(open_run(run_dir=str(folder)))  # goes on as what it is
    assert cache.manifest_in(folder)["alternative"] == found
    shutil.copytree(measured.dir, tmp_path / "study" / "fold-0")
    study = schema.load(tmp_path / "study")
    assert study.folds == (0,) and set(study.alternatives) == {"strong_blur"}


def test_samples_are_doubled_until_two_seeds_agree_and_the_end_is_kept(options):
    own = {"methods": ["lime", "ig"], "variants": {"more": {"method": "lime", "n_samples": 100}}}
    run = open_run("tiny", **options | own | {"n_clips": 2})
    first = steps.converge(run)
    assert set(first["row"]) == {"more"} and first.groupby("clip_id").ngroups == 2  # a scene each
    assert first.groupby("clip_id")["n_samples"].apply(list).map(lambda n: n[0]).eq(25).all()
    ends = first.groupby("clip_id").tail(1)
    assert (ends["converged"] | (2 * ends["n_samples"] > 100)).all()
    path = run.path("convergence.csv")
    text = path.read_text()
    path.write_text(text[: text.rfind("\n", 0, -1) + 1])  # without its last line
    steps.measure(run, rows=["motion"])
    pd.testing.assert_frame_equal(steps.converge(run, part=(2, 2)), first)
    assert steps.converge(open_run("tiny", **options | {"run_dir": str(run.dir) + "2"})).empty
    with pytest.raises(InputError, match="no part 3 of 2"):
        steps.converge(run, part=(3, 2))


def test_a_plan_counts_what_is_left(run, options, tmp_path):
    lines = steps.plan(run).set_index("step")
    assert lines.loc["ig", "state"] == "2 of 2 done" and lines.loc["total", "minutes"] == 0
    fresh = open_run("tiny", run_dir=str(tmp_path / "fresh"), methods=["ig", "occlusion_lp"])
    lines = steps.plan(fresh).set_index("step")
    assert lines.loc["training", "state"] == "to do" and lines.loc["training", "model_calls"] > 0
    # Thresholds, steps of area, matched areas, areas of blocks.
    assert lines.loc["ig", "model_calls"] == 3 * (4 + 2 * (10 + 5 + 9 + 20))
    assert lines.loc["ig_time_average", "model_calls"] == 0
    assert lines.loc["total", "model_calls"] == lines["model_calls"][:-1].sum()
    assert not fresh.path("model.safetensors").exists()
    nowhere = open_run("tiny", seed=5, run_dir=str(tmp_path / "nowhere"))
    assert steps.plan(nowhere).set_index("step").loc["data", "state"] == "to do"


def test_the_example_is_the_first_clip_with_the_runs_network(run):
    found = steps.example(run)
    assert found.clip_id == steps.evaluation(run)["clip_id"][0] and found.clip_id in found.label
    assert found.predict(found.clip[None])[0] == pytest.approx(
        torch.softmax(found.model(found.clip[None]), 1)[0, 1].item(), abs=1e-5
    )


@pytest.mark.parametrize("lacking", ["network", "videos", "keys"])
def test_a_folder_from_elsewhere_is_shown_and_never_written(copied, measured, lacking):
    folder = copied(*(["model.safetensors"] if lacking == "network" else []), "attributions")
    manifest = cache.manifest_in(folder)
    if lacking == "videos":
        manifest["parameters"] |= {"dataset": "ucsd", "data_dir": "data/none"}
    if lacking == "keys":  # converted from an older format, in which places were not told
        manifest = {k: v for k, v in manifest.items() if k != "files"}
        for name in ("device", "run_dir", "eval_batch_size", "alternative"):
            del manifest["parameters"][name]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    run = open_run(run_dir=str(folder))
    assert run.readonly
    steps.check(run)
    study = steps.measure(run)
    pd.testing.assert_frame_equal(study.robustness, schema.load(measured.dir).robustness)
    assert steps.evaluation(run)["clip_id"].tolist() == manifest["evaluation"]
    for shown in (steps.clips, steps.history, steps.predictions, steps.converge):
        assert len(shown(run))
    found = steps.example(run)
    assert found.clip.shape == found.baseline.shape == (3, *found.mask.shape)
    assert found.mask.any() and found.predict(found.clip[None]).shape == (1,)
    assert "walkway" in found.clip_id and "random weights" in found.label
    assert steps.plan(run)["state"][0] == "read-only"
    clip_id = manifest["evaluation"][0]
    for refused in (steps.clip, partial(steps.attribution, row="ig")):
        with pytest.raises(InputError, match="can be shown but not computed with"):
            refused(run, clip_id)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_folders_from_before_a_parameter_open_as_they_were_made():
    run = open_run(run_dir="results/ucsd-earlier/fold-0")
    assert run.readonly and run.params.with_validation and run.params.keep == "best"
    assert len(steps.predictions(run)) > 0


def test_other_videos_and_weights_than_a_folder_was_made_with_are_refused(copied, tmp_path):
    folder = copied()
    manifest = cache.manifest_in(folder)
    manifest["data"] = "walkway-other"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="holds other videos"):
        steps.measure(open_run(run_dir=str(folder)))
    folder = tmp_path / "again"
    weights = [tmp_path / name for name in ("own.safetensors", "other.safetensors")]
    for path in weights:
        path.write_bytes((tmp_path / "copy" / "model.safetensors").read_bytes())
    steps.network(open_run("tiny", run_dir=str(folder), trained_weights=str(weights[0])))
    moved = open_run(run_dir=str(folder), trained_weights=str(weights[1]))
    assert steps.is_trained(moved)
    weights[1].write_bytes(weights[1].read_bytes() + b" ")
    with pytest.raises(InputError, match="holds other weights than"):
        steps.network(open_run(run_dir=str(folder), trained_weights=str(weights[1])))
    weights[0].unlink()  # the run has its own copy
    steps.network(open_run(run_dir=str(folder)))
