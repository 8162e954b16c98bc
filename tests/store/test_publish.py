"""From a run to a published folder and back: what is written, merged, refused."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open

from vad_helpers import store
from vad_helpers.errors import InputError
from vad_helpers.model.i3d import InceptionI3d
from vad_helpers.model.weights import fingerprint, load, save
from vad_helpers.store import gather, maps, publish, published, replaced, scores

pytestmark = pytest.mark.filterwarnings("ignore:.*all zero.*")

FEW = {"methods": ["ig", "lime"], "n_clips": 2}


@pytest.fixture
def run(in_project):
    """A finished run of a few rows."""
    run = store.open_run("tiny", **FEW)
    for table in ("human_centric", "model_centric", "robustness", "runtime", "predictions"):
        getattr(store, table)(run)
    return run


@pytest.fixture
def other(in_project, run, tmp_path):
    """The same study's fold 1: trained, nothing explained yet."""
    other = store.open_run("tiny", **FEW, fold=1, run_dir=str(tmp_path / "fold-1"))
    store.predictions(other)
    return other


def test_a_run_reads_back_as_it_was(run, tmp_path):
    found = publish.publish([run], tmp_path / "results")
    for name in ("human_centric", "model_centric", "robustness", "runtime"):
        ours, theirs = getattr(store, name)(run), getattr(found, name)
        keys = ["clip_id", "method", "level", "metric"]
        merged = ours.merge(theirs, on=keys, suffixes=("", "_read"))
        assert len(merged) == len(ours) == len(theirs)
        np.testing.assert_allclose(merged["value_read"], merged["value"], rtol=1e-5)
    assert found.folds == [0] and set(found.clips["clip_id"]) == set(
        store.evaluation(run)["clip_id"]
    )
    np.testing.assert_array_equal(
        found.predictions["p"].to_numpy(np.float32),
        store.predictions(run)["p"].to_numpy(np.float32),
    )
    assert set(found.rows["method"]) == {*store.rows(run), "ig_time_average"}
    assert json.loads(found.rows.set_index("method").loc["ig", "settings"]) == {"n_steps": 4}
    assert len(found.history) == 1 and found.history["best"].sum() == 1


def test_curves_are_there_for_every_map_and_frames_without_an_auc_are_left_out(run, tmp_path):
    found = publish.publish([run], tmp_path / "results")
    part = found.curves[found.curves["curve"] == "threshold_deletion_curve"]
    mine = [published.read_curve(text) for text in part.loc[part["method"] == "lime", "values"]]
    expected = store.curves(run, "lime")["threshold_deletion_curve"]
    np.testing.assert_allclose(mine, expected, rtol=1e-3, atol=1e-12)
    aucs = store.frame_aucs(run, "ig")["frame_auc"]
    frames = found.frame_auc[found.frame_auc["method"] == "ig"]
    assert len(frames) == np.isfinite(aucs).sum()
    assert frames["auc"].sum() == pytest.approx(np.nansum(aucs), rel=1e-5)


def test_explanations_are_those_of_the_run(run, tmp_path):
    found = publish.publish([run], tmp_path / "results").explanations.drop(columns="fold")
    expected = maps.explanations(run)
    pd.testing.assert_frame_equal(
        found.reset_index(drop=True), expected[found.columns], check_dtype=False, rtol=1e-5
    )


def test_the_manifest_tells_how_it_came_about_and_no_path(run, tmp_path):
    found = publish.publish([run], tmp_path / "results")
    text = (tmp_path / "results" / "manifest.json").read_text()
    assert str(run.root) not in text and str(tmp_path) not in text
    entry = found.manifest["folds"]["0"]
    assert entry["data"].startswith("walkway-") and len(entry["weights_sha256"]) == 64
    assert {"python", "torch", "captum"} <= entry["versions"].keys()
    assert entry["seconds"]["training"] > 0 and entry["n_clips"] == 2
    assert found.settings["n_thresholds"] == 10 and "fold" not in found.settings
    assert set(found.manifest["files"]) == {f"{name}.csv" for name in published.TABLES}


def test_files_have_unix_line_endings(run, tmp_path):
    publish.publish([run], tmp_path / "results")
    for path in (tmp_path / "results").iterdir():
        assert b"\r" not in path.read_bytes()


def test_a_later_fold_joins_and_a_fold_published_again_is_replaced(run, other, tmp_path):
    dest = tmp_path / "results"
    first = publish.publish([run], dest)
    both = publish.publish([other], dest)
    assert both.folds == [0, 1]
    assert set(both.human_centric["fold"]) == {0}, "nothing of fold 1 is scored yet"
    assert set(both.predictions["fold"]) == {0, 1}
    again = publish.publish([run], dest)
    pd.testing.assert_frame_equal(again.predictions, both.predictions)
    pd.testing.assert_frame_equal(again.human_centric, first.human_centric)


def test_a_half_done_run_publishes_what_is_scored(run, other, tmp_path):
    clip_id = store.evaluation(other)["clip_id"][0]
    scores.score(other, "human_centric", clip_id, "lime")
    found = publish.publish([run, other], tmp_path / "results")
    part = found.human_centric[found.human_centric["fold"] == 1]
    assert set(part["clip_id"]) == {clip_id} and set(part["method"]) == {"lime"}
    timed = found.runtime[found.runtime["fold"] == 1]
    assert set(timed["method"]) == {"lime"} and set(timed["source"]) == {"recorded"}
    assert set(timed["metric"]) == set(gather.TIMES)
    assert not found.curves["fold"].eq(1).any()


def test_folds_of_different_settings_are_not_mixed(run, other, in_project, tmp_path):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    before = (dest / "manifest.json").read_bytes()
    params = dataclasses.replace(other.params, n_thresholds=7)
    changed = dataclasses.replace(other, params=params, memo={})
    with pytest.raises(InputError, match="n_thresholds 10.*has 7"):
        publish.publish([changed], dest)
    with pytest.raises(InputError, match="n_thresholds"):
        publish.publish([run, changed], tmp_path / "new")
    with pytest.raises(InputError, match="one run a fold"):
        publish.publish([run, run], dest)
    assert (dest / "manifest.json").read_bytes() == before
    assert [p.name for p in tmp_path.glob(".partial-*")] == []
    publish.publish([dataclasses.replace(changed, memo={})], tmp_path / "alone")


def test_a_run_of_other_parameters_or_without_a_network_is_refused(run, tmp_path):
    same_folder = {"run_dir": str(run.dir)}
    with pytest.raises(InputError, match="no clips of these parameters"):
        publish.publish([store.open_run("tiny", **FEW, stride=4, **same_folder)], tmp_path / "r")
    with pytest.raises(InputError, match="no network trained with these parameters"):
        publish.publish([store.open_run("tiny", **FEW, lr=0.5, **same_folder)], tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_run_with_given_weights_publishes_without_a_history(run, tmp_path):
    given = store.open_run(
        "tiny",
        **FEW,
        run_dir=str(tmp_path / "given"),
        trained_weights=str(run.path("model.safetensors")),
    )
    store.clips(given)
    found = publish.publish([given], tmp_path / "results")
    assert found.history.empty
    assert found.manifest["folds"]["0"]["trained_weights"] == "model.safetensors"


def test_a_run_is_opened_by_its_folder(run):
    found = publish.run_of(run.dir, overrides=FEW)
    assert found.params == dataclasses.replace(run.params, run_dir=str(run.dir))
    with pytest.raises(InputError, match="no run with a table of clips"):
        publish.run_of(run.root)


def test_published_weights_are_half_precision_and_load_strictly(run, tmp_path):
    dest = tmp_path / "results"
    publish.publish([run], dest, weights=True)
    path = dest / "model-fold0.safetensors"
    with safe_open(path, framework="pt") as stream:
        about = stream.metadata()
        state = {name: stream.get_tensor(name) for name in stream.keys()}
    assert state["logits.conv3d.weight"].dtype == torch.float16
    network = InceptionI3d(width=0.1)
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=True)
    assert fingerprint(network) == fingerprint(store.model(run)), "the network that was explained"
    assert {"mean", "std", "classes", "initial_weights_origin"} <= about.keys()
    assert "model-fold0.safetensors" in published.read(dest).manifest["files"]


def test_weights_that_are_too_large_are_not_published(run, tmp_path, monkeypatch):
    monkeypatch.setattr(publish, "MAX_WEIGHTS", 100)
    with pytest.raises(InputError, match="at most 100"):
        publish.publish([run], tmp_path / "results", weights=True)
    assert not (tmp_path / "results").exists()


def test_pictures_are_listed_with_their_words_and_replaced_together(run, tmp_path):
    dest = tmp_path / "results"
    first = {"old": publish.Picture(b"png", "what is drawn", "what to see", "clip-1")}
    publish.publish([run], dest, pictures=first)
    kept = publish.publish([run], dest)
    assert kept.figures == [
        {
            "file": "figures/old.png",
            "alt": "what is drawn",
            "caption": "what to see",
            "clip_id": "clip-1",
        }
    ]
    new = publish.publish([run], dest, pictures={"new": publish.Picture(b"png", "a", "b", "c")})
    assert [f["file"] for f in new.figures] == ["figures/new.png"]
    assert [p.name for p in (dest / "figures").iterdir()] == ["new.png"]


def test_optional_tables_are_added_and_read(run, tmp_path):
    dest = tmp_path / "results"
    table = pd.DataFrame({"setting": ["no flips"], "val_auc": [0.9]})
    with pytest.raises(InputError, match="no published results"):
        publish.add_tables(dest, {"ablation": table})
    publish.publish([run], dest)
    publish.add_tables(dest, {"ablation": table})
    pd.testing.assert_frame_equal(published.read(dest).extras["ablation"], table)
    with pytest.raises(InputError, match="no table 'other'.*ablation"):
        publish.add_tables(dest, {"other": table})


def test_lines_of_another_network_do_not_stay(run, tmp_path, monkeypatch):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    publish.add_tables(dest, {"convergence": pd.DataFrame({"fold": [0, 1], "n_samples": [25, 50]})})
    publish.publish([run], dest)
    assert len(published.read(dest).extras["convergence"]) == 2
    other = {"data": "d", "weights_sha256": "another"}
    monkeypatch.setattr(publish, "identity", lambda run: other)
    publish.publish([run], dest)
    assert published.read(dest).extras["convergence"]["fold"].tolist() == [1]


def test_what_a_replaced_network_predicted_stays_until_data_or_settings_are_others(
    run, tmp_path, monkeypatch
):
    dest = tmp_path / "results"
    first = publish.publish([run], dest)
    identity, settings = publish.identity(run), publish.shared_settings(run)
    monkeypatch.setattr(publish, "identity", lambda _: identity | {"weights_sha256": "another"})
    kept = publish.publish([run], dest).extras["replaced_predictions"]
    test = first.predictions[first.predictions["split"] == "test"]
    columns = list(replaced.PREDICTED)
    pd.testing.assert_frame_equal(kept[columns], test[columns].reset_index(drop=True))
    assert kept["weights_sha256"].unique().tolist() == [identity["weights_sha256"]]
    assert kept["date"].unique().tolist() == [first.manifest["folds"]["0"]["date"]]
    assert len(publish.publish([run], dest).extras["replaced_predictions"]) == len(kept)
    monkeypatch.setattr(publish, "shared_settings", lambda _: settings | {"epochs": 99})
    assert publish.publish([run], dest).extras["replaced_predictions"].empty


@pytest.mark.parametrize("other", ["given", "started from other weights"])
def test_a_network_of_another_origin_replaces_without_a_trace(run, tmp_path, monkeypatch, other):
    dest, identity = tmp_path / "results", publish.identity(run)
    publish.publish([run], dest)
    monkeypatch.setattr(publish, "identity", lambda _: identity | {"weights_sha256": "another"})
    publish.publish([run], dest)
    monkeypatch.setattr(publish, "identity", lambda _: identity | {"weights_sha256": "a third"})
    if other == "given":
        given = str(run.path("model.safetensors"))
        run = store.open_run("tiny", **FEW, run_dir=str(tmp_path / "given"), trained_weights=given)
        store.clips(run)
    else:
        monkeypatch.setattr(publish.detector, "initial_digest", lambda _: "of another file")
    assert publish.publish([run], dest).extras["replaced_predictions"].empty


def test_a_network_that_comes_back_is_replaced_no_longer(run, tmp_path, monkeypatch):
    dest, identity = tmp_path / "results", publish.identity(run)
    publish.publish([run], dest)
    monkeypatch.setattr(publish, "identity", lambda _: identity | {"weights_sha256": "another"})
    publish.publish([run], dest)
    monkeypatch.setattr(publish, "identity", lambda _: identity)
    kept = publish.publish([run], dest).extras["replaced_predictions"]
    assert set(kept["weights_sha256"]) == {"another"}


def test_a_network_and_pictures_of_a_fold_go_with_it(run, tmp_path, monkeypatch):
    dest = tmp_path / "results"
    clip_id = store.evaluation(run)["clip_id"][0]
    pictures = {"own": publish.Picture(b"png", "a", "b", clip_id),
                "other": publish.Picture(b"png", "a", "b", "of another fold")}  # fmt: skip
    publish.publish([run], dest, weights=True, pictures=pictures)
    publish.publish([run], dest)
    assert (dest / "model-fold0.safetensors").is_file() and len(published.read(dest).figures) == 2
    identity = publish.identity(run)
    monkeypatch.setattr(publish, "identity", lambda _: identity | {"weights_sha256": "another"})
    found = publish.publish([run], dest)
    assert not (dest / "model-fold0.safetensors").exists()
    assert [figure["file"] for figure in found.figures] == ["figures/other.png"]
    assert [path.name for path in (dest / "figures").iterdir()] == ["other.png"]


def test_a_check_of_convergence_goes_with_its_precision_and_other_tables_stay(
    run, tmp_path, monkeypatch
):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    lines = pd.DataFrame({"fold": [0], "value": [1.0]})
    publish.add_tables(dest, {"convergence": lines, "alternatives": lines})
    identity = publish.identity(run)
    monkeypatch.setattr(publish, "identity", lambda _: identity | {"precision": "another"})
    publish.publish([run], dest)
    extras = published.read(dest).extras
    assert extras["convergence"].empty and len(extras["alternatives"]) == 1


def test_a_check_of_convergence_goes_with_the_settings(run, tmp_path):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    publish.add_tables(dest, {"convergence": pd.DataFrame({"fold": [0], "value": [1.0]})})
    params = dataclasses.replace(run.params, n_thresholds=7)
    publish.publish([dataclasses.replace(run, params=params, memo={})], dest)
    assert published.read(dest).extras["convergence"].empty


def test_what_a_run_does_not_hold_of_its_fold_stays(run, tmp_path, take_network):
    dest = tmp_path / "results"
    before = publish.publish([run], dest)
    folder = take_network(run, tmp_path / "elsewhere")
    moved = store.open_run("tiny", **FEW, run_dir=str(folder))
    store.predictions(moved)
    clip_id = store.evaluation(moved)["clip_id"][0]
    scores.score(moved, "human_centric", clip_id, "lime")
    after = publish.publish([moved], dest)
    for name in ("human_centric", "model_centric", "robustness", "curves", "frame_auc",
                 "explanations"):  # fmt: skip
        keys = [c for c in ("clip_id", "method", "level", "metric", "curve", "frame")
                if c in getattr(before, name)]  # fmt: skip
        two = [getattr(found, name).set_index(keys).sort_index() for found in (before, after)]
        assert two[0].index.equals(two[1].index), name
    pd.testing.assert_frame_equal(after.history, before.history)


def test_timings_that_were_measured_stay_where_a_run_holds_none(run, tmp_path, take_network):
    dest = tmp_path / "results"
    before = publish.publish([run], dest)
    assert set(before.runtime["source"]) == {"measured"}
    folder = take_network(run, tmp_path / "elsewhere")
    moved = store.open_run("tiny", **FEW, run_dir=str(folder))
    store.predictions(moved)
    after = publish.publish([moved], dest).runtime
    keys = ["clip_id", "method", "metric"]
    kept = after[after["source"] == "measured"].set_index(keys).sort_index()
    expected = before.runtime.set_index(keys).sort_index()
    pd.testing.assert_series_equal(kept["value"], expected["value"])
    assert not after.duplicated(keys).any()


def test_other_settings_replace_a_fold_whole(run, tmp_path):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    params = dataclasses.replace(run.params, n_thresholds=7)
    changed = dataclasses.replace(run, params=params, memo={})
    found = publish.publish([changed], dest)
    assert found.human_centric.empty and found.curves.empty
    assert found.settings["n_thresholds"] == 7


def test_scores_of_older_code_do_not_stay(run, tmp_path, take_network, monkeypatch):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    monkeypatch.setitem(scores.VERSIONS, "human_centric", 99)
    moved = store.open_run("tiny", **FEW, run_dir=str(take_network(run, tmp_path / "elsewhere")))
    store.predictions(moved)
    after = publish.publish([moved], dest)
    assert after.human_centric.empty and not after.robustness.empty


@pytest.mark.parametrize("changed", ["nothing", "precision", "n_thresholds"])
def test_a_given_network_that_was_published_keeps_the_record_of_its_training(
    run, tmp_path, monkeypatch, changed
):
    dest = tmp_path / "results"
    before = publish.publish([run], dest, weights=True)
    given = {"trained_weights": str(dest / "model-fold0.safetensors")}
    if changed == "n_thresholds":
        given |= {"n_thresholds": 7}
    given = store.open_run("tiny", **FEW, **given, run_dir=str(tmp_path / "given"))
    store.predictions(given)
    if changed == "precision":
        identity = publish.identity(given)
        monkeypatch.setattr(publish, "identity", lambda _: identity | {"precision": "another"})
    monkeypatch.setattr(publish.detector, "machine", lambda _: "another")
    after = publish.publish([given], dest)
    first, second = (found.manifest["folds"]["0"] for found in (before, after))
    assert second["trained_weights"] is None and second["train_precision"] == "fp32"
    assert second["device"] == first["device"] != "another"
    assert second["seconds"]["training"] == first["seconds"]["training"]
    pd.testing.assert_frame_equal(after.history, before.history)


def test_a_network_finer_than_half_is_not_published_as_if_it_were_itself(run, tmp_path):
    network, about = load(run.path("model.safetensors"))
    with torch.no_grad():
        network.logits.conv3d.weight += 1e-7
    path = tmp_path / "fine.safetensors"
    seen = {k: about[k] for k in ("data", "fold", "n_folds", "seed", "sequences_seen")}
    save(network, path, **seen)
    folder = str(tmp_path / "own")
    given = store.open_run("tiny", **FEW, trained_weights=str(path), run_dir=folder)
    store.predictions(given)
    with pytest.raises(InputError, match="finer than float16 holds"):
        publish.publish([given], tmp_path / "results", weights=True)


def test_lines_that_agree_in_the_given_columns_are_replaced_and_others_stay(run, tmp_path):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    table = pd.DataFrame({"recipe": ["a", "a", "b"], "fold": [0, 0, 0], "auc": [0.1, 0.2, 0.3]})
    publish.add_tables(dest, {"ablation": table}, by=["recipe", "fold"])
    new = pd.DataFrame({"recipe": ["a", "b"], "fold": [0, 1], "auc": [0.5, 0.6]})
    publish.add_tables(dest, {"ablation": new}, by=["recipe", "fold"])
    found = published.read(dest).extras["ablation"]
    assert found.to_numpy().tolist() == [["b", 0, 0.3], ["a", 0, 0.5], ["b", 1, 0.6]]
