"""Weights that are given instead of training: taken where a run's results would be right."""

import json

import numpy as np
import pytest
import torch

from vad_helpers import store
from vad_helpers.errors import InputError
from vad_helpers.model import weights
from vad_helpers.store import detector, experiment


@pytest.fixture
def run(in_project):
    return store.open_run("tiny")


def test_trained_weights_replace_training(run, tmp_path):
    store.model(run)
    path = run.path("model.safetensors")
    other = store.open_run(
        "tiny", trained_weights=str(path), run_dir=str(tmp_path / "other"), epochs=99
    )
    a, b = store.model(run).state_dict(), store.model(other).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert store.history(other).empty
    assert detector.model_key(other) != detector.model_key(run)
    with pytest.raises(InputError, match="trained_weights"):
        detector.model_key(store.open_run("tiny", trained_weights="none.safetensors"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mean": 0.4}, "mean 0.5, but this run has 0.4"),
        ({"std": 0.4}, "std 0.5, but this run has 0.4"),
        ({"model_width": 0.2}, "width 0.1, but this run has 0.2"),
        ({"fold": 1}, "has seen . of the sequences that this run tests"),
        ({"n_folds": 4}, "has seen . of the sequences that this run tests"),
        ({"seed": 1}, "has seen . of the sequences that this run tests"),
        ({"walkway": {"n_train": 6, "n_frames": 32}}, "has seen . of the sequences"),
    ],
)
def test_trained_weights_of_another_normalisation_network_or_split_are_refused(run, change, words):
    store.model(run)
    path = run.path("model.safetensors")
    with pytest.raises(InputError, match=words) as caught:
        store.model(store.open_run("tiny", trained_weights=str(path), **change))
    assert "\n" not in str(caught.value)


def test_trained_weights_of_other_classes_are_refused_and_silent_ones_accepted(run, tmp_path):
    path, network = tmp_path / "own.safetensors", store.model(run)
    weights.save(network, path, classes=["anomalous", "normal"])
    own = store.open_run("tiny", trained_weights=str(path), fold=1)
    with pytest.raises(InputError, match="classes"):
        store.model(own)
    weights.save(network, path)  # says nothing of what it has seen
    store.model(own)


def test_weights_trained_on_a_part_of_the_archive_serve_the_whole(run, tmp_path):
    path, clips = tmp_path / "part.safetensors", store.clips(run)
    seen = sorted(clips.loc[clips["split"] == "train", "sequence"].unique())[1:]
    weights.save(store.model(run), path, data="another tree", sequences_seen=seen)
    store.model(store.open_run("tiny", trained_weights=str(path)))
    tested = clips.loc[clips["split"] == "test", "sequence"].iloc[0]
    weights.save(store.model(run), path, sequences_seen=[*seen, tested])
    with pytest.raises(InputError, match=f"has seen 1 of the sequences .*{tested}"):
        store.model(store.open_run("tiny", trained_weights=str(path)))
    weights.save(store.model(run), path, sequences_seen="[broken")
    with pytest.raises(InputError, match="damaged metadata, sequences_seen"):
        store.model(store.open_run("tiny", trained_weights=str(path)))


def test_the_best_checkpoint_of_a_training_says_its_split_too(run):
    store.model(run)
    _, found = weights.load(run.path("training") / "best.safetensors")
    assert (found["fold"], found["n_folds"], found["seed"]) == ("0", "5", "0")
    assert found["data"] == experiment.data_key(run)
    table = store.clips(run)
    unseen = set(table.loc[table["split"] == "test", "sequence"])
    assert set(json.loads(found["sequences_seen"])) == set(table["sequence"]) - unseen


def test_trained_weights_answer_anew_when_they_see_other_frames(run, tmp_path):
    store.model(run)
    path = tmp_path / "silent.safetensors"
    weights.save(store.model(run), path)
    options = {"trained_weights": str(path), "run_dir": str(tmp_path / "run")}
    before = store.predictions(store.open_run("tiny", **options))
    after = store.predictions(store.open_run("tiny", **options, frame_size=[48, 64]))
    assert not np.allclose(before["p"], after["p"])
