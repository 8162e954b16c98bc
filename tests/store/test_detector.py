"""The network of a run: trained once, from which weights, in which precision."""

import warnings

import pytest
import torch

from vad_helpers import store
from vad_helpers.errors import InputError
from vad_helpers.model import prediction
from vad_helpers.store import detector, maps

pytestmark = pytest.mark.filterwarnings("ignore:.*all zero.*")


@pytest.fixture
def run(in_project):
    return store.open_run("tiny")


def test_the_model_is_trained_once_and_its_history_kept(run, monkeypatch):
    first = store.model(run)
    monkeypatch.setattr(detector, "_train", lambda *a, **k: pytest.fail("trained again"))
    again = store.model(store.open_run("tiny"))
    for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert len(store.history(run)) == 1


def test_maps_of_a_network_that_is_gone_are_not_taken_for_those_of_another(
    in_project, tmp_path, monkeypatch
):
    run = store.open_run("tiny", run_dir=str(tmp_path / "run"))
    network = store.model(run)
    run.path("model.safetensors").unlink()
    monkeypatch.setattr(detector, "_train", lambda run, progress: network)
    store.model(run)  # the same bits again, or nothing explained yet: no harm
    run.path("scores").mkdir()
    run.path("model.safetensors").unlink()
    store.model(run)
    other = detector.fresh_network(run)
    monkeypatch.setattr(detector, "_train", lambda run, progress: other)
    run.path("model.safetensors").unlink()
    with pytest.raises(InputError, match="holds scores of a network that is gone.*delete scores"):
        store.model(run)
    run.path("scores").rmdir()
    store.model(run)


def test_initial_weights_enter_the_models_key_and_must_be_there(run, tmp_path):
    store.model(run)
    started = store.open_run("tiny", init_weights=str(run.path("model.safetensors")))
    assert detector.model_key(started) != detector.model_key(run)
    with pytest.raises(InputError, match="init_weights"):
        detector.model_key(store.open_run("tiny", init_weights="none.pt"))


def test_performance_covers_both_splits_by_scene(run):
    found = store.performance(run)
    assert set(found["split"]) == {"val", "test"} and set(found["scene"]) == {"all", "ped1", "ped2"}
    pooled = found[found["scene"] == "all"].set_index("split")["n_clips"]
    counts = store.clips(run)["split"].value_counts()
    assert pooled["test"] == counts["test"] and pooled["val"] == counts["val"]


def test_stages_that_start_at_random_are_never_frozen(run, tmp_path):
    frozen = {"early_lr": 0.0, "early_end": "Mixed_4b", "run_dir": str(tmp_path / "frozen")}
    assert detector.training_spec(store.open_run("tiny", **frozen)).early_lr == 1
    store.model(run)
    started = store.open_run("tiny", **frozen, init_weights=str(run.path("model.safetensors")))
    assert detector.training_spec(started).early_lr == 0
    detector.check_weights(started)
    with pytest.raises(InputError, match="lacks Mixed_3b.b1b, which would stay near random"):
        detector._check_early_stages(started, ["Mixed_3b.b1b", "Mixed_5b.b1b"])
    detector._check_early_stages(started, ["Mixed_5b.b1b"])


@pytest.mark.parametrize(
    ("precision", "train_precision", "expected"),
    [
        ("fp32", "auto", "fp32"),
        ("bf16", "auto", "bf16"),
        ("auto", "auto", "bf16"),
        ("auto", "bf16", "bf16"),
        ("bf16", "fp32", "fp32"),
    ],
)
def test_training_has_a_precision_of_its_own(
    in_project, monkeypatch, precision, train_precision, expected
):
    monkeypatch.setattr(prediction, "computes_bf16", lambda device: True)
    run = store.open_run("tiny", precision=precision, train_precision=train_precision)
    assert detector.training_settings(run)["precision"] == expected


@pytest.mark.parametrize(("wanted", "found"), [("auto", "fp32"), ("bf16", "bf16")])
def test_where_bf16_is_emulated_auto_is_fp32_and_bf16_stays(in_project, monkeypatch, wanted, found):
    monkeypatch.setattr(prediction, "computes_bf16", lambda device: False)
    run = store.open_run("tiny", precision=wanted)
    assert detector.training_precision(run) == detector.scoring_precision(run) == found
    assert maps.precision_of(run, store.rows(run)["ig"]) == found
    assert detector.training_precision(store.open_run("tiny", train_precision="bf16")) == "bf16"


def test_bf16_by_name_where_it_is_emulated_is_warned_of(in_project, monkeypatch):
    run = store.open_run("tiny", train_precision="bf16")
    monkeypatch.setattr(prediction, "computes_bf16", lambda device: False)
    with pytest.warns(UserWarning, match="train_precision is bf16, which this cpu only emulates"):
        detector.warn_of_emulation(run)
    monkeypatch.setattr(prediction, "computes_bf16", lambda device: True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detector.warn_of_emulation(run)
