"""Going on with a study on another machine, from what was published."""

import dataclasses
import json

import pandas as pd
import pytest

from vad_helpers import store
from vad_helpers.attribution import METHODS
from vad_helpers.errors import InputError
from vad_helpers.store import convergence, maps, measuring, publish, published, restore, scores

pytestmark = pytest.mark.filterwarnings("ignore:.*all zero.*")

FEW = {"methods": ["ig", "lime"], "variants": {}, "n_clips": 2}


@pytest.fixture
def run(in_project, tmp_path):
    return store.open_run("tiny", **FEW, run_dir=str(tmp_path / "run"))


@pytest.fixture
def elsewhere(run, tmp_path, take_network):
    """The same run on another machine: its network was trained again, to the same bits."""
    store.model(run)
    folder = take_network(run, tmp_path / "elsewhere")
    return store.open_run("tiny", **FEW, run_dir=str(folder))


def stop_after(n):
    """Interrupt a computation when it has finished `n` clips."""
    done = []

    def after_clip(clip_id):
        done.append(clip_id)
        if len(done) == n:
            raise KeyboardInterrupt

    return after_clip


def test_a_study_goes_on_elsewhere_and_repeats_nothing(run, elsewhere, tmp_path, monkeypatch):
    dest = tmp_path / "results"
    with pytest.raises(KeyboardInterrupt):
        measuring.measure(run, after_clip=stop_after(1))
    publish.publish([run], dest)
    (first,) = set(measuring.pending(elsewhere)) - set(measuring.pending(run))
    n_scores = sum(len(tables) for tables in measuring.pending(elsewhere)[first].values())
    assert restore.restore(elsewhere, dest) == n_scores > 20
    assert restore.restore(elsewhere, dest) == 0  # once is enough
    assert first not in measuring.pending(elsewhere)
    explained, plain = [], maps._explain
    monkeypatch.setattr(
        maps, "_explain", lambda r, c, *a, **k: explained.append(c) or plain(r, c, *a, **k)
    )
    measuring.measure(elsewhere)
    assert explained and first not in explained
    found = publish.publish([elsewhere], dest)
    # Also what the restored maps cost, though they are not there.
    assert set(found.explanations["clip_id"]) == set(store.evaluation(run)["clip_id"])
    assert not found.explanations.duplicated(["clip_id", "method"]).any()
    measuring.measure(run)
    for table in scores.MEASURES:
        keys = ["clip_id", "method", "level", "metric"]
        whole = scores.tidy(run, scores.finished(run, table)).set_index(keys)["value"]
        again = scores.tidy(elsewhere, scores.finished(elsewhere, table)).set_index(keys)["value"]
        assert again.index.equals(whole.index)
        assert again.to_numpy() == pytest.approx(whole.to_numpy(), rel=1e-4, abs=1e-9, nan_ok=True)
    curves = [scores.curves(r, "ig")["threshold_deletion_curve"] for r in (run, elsewhere)]
    assert curves[1] == pytest.approx(curves[0], rel=1e-2, abs=1e-9)
    aucs = [scores.frame_aucs(r, "ig")["frame_auc"] for r in (run, elsewhere)]
    assert aucs[1] == pytest.approx(aucs[0], rel=1e-4, nan_ok=True)


def test_timings_that_were_taken_replace_the_recorded_seconds(run, elsewhere, tmp_path):
    dest = tmp_path / "results"
    measuring.measure(run)
    recorded = publish.publish([run], dest).runtime
    assert set(recorded["source"]) == {"recorded"} and recorded["clip_id"].nunique() == 2
    seconds = published.read(dest).manifest["folds"]["0"]["seconds"]["explanations"]
    restore.restore(elsewhere, dest)
    store.predictions(elsewhere)
    again = publish.publish([elsewhere], dest)  # no map is there, and their seconds still are
    pd.testing.assert_frame_equal(again.runtime, recorded)
    assert again.manifest["folds"]["0"]["seconds"]["explanations"] == pytest.approx(seconds, 0.01)
    timed = store.runtime(run)
    assert len(publish.publish([run], dest).runtime) == len(timed)


def test_a_map_explained_again_keeps_the_cost_it_was_published_with(run, elsewhere, tmp_path):
    dest = tmp_path / "results"
    measuring.measure(run)
    before = publish.publish([run], dest)
    restore.restore(elsewhere, dest)
    store.predictions(elsewhere)
    clip_id = store.evaluation(elsewhere)["clip_id"].iloc[0]
    store.attribution(elsewhere, clip_id, "ig")
    mine = maps.explanations(elsewhere, finished=True).set_index(["clip_id", "method"])["seconds"]
    after = publish.publish([elsewhere], dest)
    keys = ["clip_id", "method"]
    seconds = [found.explanations.set_index(keys)["seconds"] for found in (before, after)]
    assert seconds[0][clip_id, "ig"] != pytest.approx(mine[clip_id, "ig"], rel=1e-5)
    pd.testing.assert_series_equal(seconds[1], seconds[0], check_like=True)
    pd.testing.assert_frame_equal(after.runtime, before.runtime)


def test_nothing_published_restores_nothing(run, tmp_path):
    assert restore.restore(run, tmp_path / "nowhere") == 0
    store.model(run)
    publish.publish([run], tmp_path / "results")
    other = store.open_run("tiny", **FEW, fold=1, run_dir=str(tmp_path / "other"))
    assert restore.restore(other, tmp_path / "results") == 0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"epochs": 2}, "weights_sha256, epochs"),
        ({"n_thresholds": 5}, "other n_thresholds"),
        ({"precision": "bf16", "train_precision": "fp32"}, "other precision"),
    ],
)
def test_scores_of_another_study_are_not_restored(run, tmp_path, change, words):
    measuring.measure(run)
    publish.publish([run], tmp_path / "results")
    other = store.open_run("tiny", **{**FEW, **change}, run_dir=str(tmp_path / "other"))
    with pytest.raises(InputError, match=words):
        restore.restore(other, tmp_path / "results")
    assert not other.path("scores").exists()


def test_scores_that_older_code_made_are_measured_again(run, elsewhere, tmp_path, monkeypatch):
    measuring.measure(run)
    publish.publish([run], tmp_path / "results")
    n_clips, rows = 2, store.rows(run)
    monkeypatch.setitem(scores.VERSIONS, "model_centric", 99)
    monkeypatch.setitem(METHODS, "lime", dataclasses.replace(METHODS["lime"], version=99))
    # Of three tables, all rows but LIME; robustness has the time-averaged row beside.
    others = n_clips * (len(rows) - 1)
    assert restore.restore(elsewhere, tmp_path / "results") == 3 * others + n_clips
    todo = measuring.pending(elsewhere)
    assert all(set(tables) >= {"model_centric"} for of_clip in todo.values()
               for tables in of_clip.values())  # fmt: skip
    assert all(len(of_clip["lime"]) == len(scores.MEASURES) for of_clip in todo.values())


def test_a_fold_published_before_versions_were_kept_is_not_restored(run, elsewhere, tmp_path):
    measuring.measure(run)
    publish.publish([run], tmp_path / "results")
    path = tmp_path / "results" / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["folds"]["0"]["code"]
    path.write_text(json.dumps(manifest))
    assert restore.restore(elsewhere, tmp_path / "results") == 0


def test_curves_are_spelled_and_read_alike():
    assert published.spell_curve([0.12344, 1, float("nan")]) == "0.1234 1 nan"
    assert published.read_curve("0.5 -1e-05").tolist() == [0.5, -1e-05]


@pytest.fixture
def checked(run, tmp_path):
    """A published folder with the checks of convergence of `run`."""
    table = store.convergence_table(run)
    publish.publish([run], tmp_path / "results")
    publish.add_tables(tmp_path / "results", {"convergence": table.assign(fold=0)})
    return tmp_path / "results", table


def test_checks_of_convergence_are_taken_back_and_not_made_again(checked, elsewhere, monkeypatch):
    dest, table = checked
    assert restore.restore_convergence(elsewhere, dest) == table["clip_id"].nunique() == 2
    assert restore.restore_convergence(elsewhere, dest) == 0  # once is enough
    monkeypatch.setattr(convergence, "converge", lambda *a, **k: pytest.fail("made again"))
    again = store.convergence_table(elsewhere)
    pd.testing.assert_frame_equal(again, table, rtol=1e-5, check_dtype=False)


def test_a_check_that_stopped_before_its_last_doubling_is_not_taken_back(
    checked, elsewhere, monkeypatch
):
    dest, table = checked
    first = table.groupby("clip_id").head(1).assign(fold=0, converged=False)
    publish.add_tables(dest, {"convergence": first})
    monkeypatch.setattr(convergence, "_n_samples", lambda row: 2 * convergence.START)
    assert restore.restore_convergence(elsewhere, dest) == 0


def test_a_check_by_code_of_another_version_is_not_taken_back_and_goes(
    checked, elsewhere, monkeypatch
):
    dest, _ = checked
    monkeypatch.setattr(convergence, "CONVERGENCE_VERSION", 2)
    assert restore.restore_convergence(elsewhere, dest) == 0
    publish.publish([elsewhere], dest)
    assert published.read(dest).extras["convergence"].empty


def test_checks_of_another_network_are_refused(checked, tmp_path):
    other = store.open_run("tiny", **FEW, epochs=2, run_dir=str(tmp_path / "other"))
    with pytest.raises(InputError, match="published with other weights_sha256"):
        restore.restore_convergence(other, checked[0])


def test_without_published_checks_none_is_taken_back(run, tmp_path):
    assert restore.restore_convergence(run, tmp_path / "nowhere") == 0
    store.model(run)
    publish.publish([run], tmp_path / "results")
    assert restore.restore_convergence(run, tmp_path / "results") == 0
