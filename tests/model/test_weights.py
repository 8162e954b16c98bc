"""The round trip of a model: saved with what it is, loaded, refused where it is damaged."""

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.model.states import assert_one_line, states_equal
from vad_helpers.errors import InputError
from vad_helpers.model import weights
from vad_helpers.model.weights import describe, fingerprint, load, round_to_half, save


def test_saved_model_comes_back_equal(tmp_path, make_model):
    model = make_model(num_classes=3, width=0.25)
    model(torch.rand(2, 3, 8, 32, 32))  # moves the batch norms' statistics
    path = tmp_path / "new" / "m.safetensors"
    classes = ["walk", "bike", "cart"]
    save(model, path, mean=0.4, std=0.2, classes=classes, width=0.25, origin="fresh", auc=0.75)
    loaded, metadata = load(path)
    assert states_equal(loaded.state_dict(), model.state_dict())
    assert not loaded.training
    assert all(p.requires_grad for p in loaded.parameters())
    assert metadata == {
        "mean": 0.4,
        "std": 0.2,
        "classes": classes,
        "width": 0.25,
        "num_classes": 3,
        "origin": "fresh",
        "auc": "0.75",
    }


def test_metadata_in_the_file_are_strings(tmp_path, make_model):
    save(make_model(), tmp_path / "m.safetensors", licence="MIT")
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["licence"] == "MIT"
    assert json.loads(metadata["classes"]) == ["normal", "anomalous"]
    assert (float(metadata["mean"]), float(metadata["std"])) == (0.5, 0.5)


def test_half_precision_halves_convolutions_and_loads_strictly(tmp_path, make_model):
    model = make_model()
    save(model, tmp_path / "m.safetensors", half=True)
    stored = load_file(tmp_path / "m.safetensors")
    assert stored["Conv3d_1a_7x7.conv3d.weight"].dtype == torch.float16
    assert stored["Conv3d_1a_7x7.bn.running_var"].dtype == torch.float32
    model.load_state_dict({k: v.float() for k, v in stored.items()}, strict=True)
    loaded, _ = load(tmp_path / "m.safetensors")
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    assert states_equal(loaded.state_dict(), model.state_dict())


def test_a_model_rounded_to_half_is_its_own_published_file(tmp_path, make_model):
    model = make_model()
    save(model, tmp_path / "before.safetensors", half=True)
    assert fingerprint(load(tmp_path / "before.safetensors")[0]) != fingerprint(model)
    round_to_half(model)
    save(model, tmp_path / "m.safetensors", half=True)
    assert fingerprint(load(tmp_path / "m.safetensors")[0]) == fingerprint(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_weights_that_half_cannot_hold_are_not_rounded_away(make_model):
    model = make_model()
    with torch.no_grad():
        model.Conv3d_1a_7x7.conv3d.weight[0, 0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match="Conv3d_1a_7x7.conv3d.weight has weights beyond"):
        round_to_half(model)


def test_channels_last_models_are_saved(tmp_path, make_model):
    model = make_model().to(memory_format=torch.channels_last_3d)
    save(model, tmp_path / "m.safetensors")
    assert states_equal(load(tmp_path / "m.safetensors")[0].state_dict(), model.state_dict())


def test_loading_draws_no_random_numbers(tmp_path, make_model):
    save(make_model(), tmp_path / "m.safetensors")
    before = torch.get_rng_state()
    load(tmp_path / "m.safetensors")
    assert torch.equal(before, torch.get_rng_state())


def test_a_full_disk_is_an_os_error_and_leaves_the_older_file(tmp_path, make_model, full_disk):
    path = tmp_path / "m.safetensors"
    save(make_model(), path)
    before = path.read_bytes()
    with full_disk(100_000), pytest.raises(OSError, match="File too large"):
        save(make_model(seed=1), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"width": 0.3}, "width is 0.3"),
        ({"classes": ["one"]}, "1 classes"),
        ({"num_classes": 5}, "num_classes is reserved"),
        ({"format": "x"}, "format is reserved"),
    ],
)
def test_contradicting_metadata_are_refused(tmp_path, make_model, options, fragment):
    with pytest.raises(ValueError, match=fragment):
        save(make_model(), tmp_path / "m.safetensors", **options)
    assert list(tmp_path.iterdir()) == []


def test_load_refuses_a_checkpoint_without_metadata(tmp_path, make_model):
    save_file(make_model().state_dict(), tmp_path / "m.safetensors")
    with pytest.raises(InputError) as error:
        load(tmp_path / "m.safetensors")
    assert_one_line(error, "metadata", "initial weights")


@pytest.mark.parametrize(
    "change", [{"width": "0.5"}, {"num_classes": "3"}, {"width": "-1"}, {"num_classes": "0"}]
)
def test_load_refuses_tensors_that_contradict_the_metadata(tmp_path, make_model, change):
    model = make_model()
    path = tmp_path / "m.safetensors"
    save_file(model.state_dict(), path, metadata={**describe(model), **change})
    with pytest.raises(InputError) as error:
        load(path)
    assert_one_line(error, path, "its metadata describes")


@pytest.mark.parametrize("change", [{"width": "wide"}, {"mean": "[1]"}, {"classes": "2"}])
def test_load_refuses_metadata_of_another_kind(tmp_path, make_model, change):
    model = make_model()
    path = tmp_path / "m.safetensors"
    save_file(model.state_dict(), path, metadata={**describe(model), **change})
    with pytest.raises(InputError, match="lacks the metadata"):
        load(path)


def test_load_refuses_a_missing_tensor(tmp_path, make_model):
    model = make_model()
    state = {k: v for k, v in model.state_dict().items() if k != "logits.conv3d.bias"}
    save_file(state, tmp_path / "m.safetensors", metadata=describe(model))
    with pytest.raises(InputError, match="does not hold the model"):
        load(tmp_path / "m.safetensors")


def test_load_refuses_weights_that_are_not_finite(tmp_path, make_model):
    model = make_model()
    with torch.no_grad():
        model.logits.conv3d.bias[0] = float("nan")
    save(model, tmp_path / "m.safetensors")
    with pytest.raises(InputError, match=r"logits\.conv3d\.bias"):
        load(tmp_path / "m.safetensors")


@pytest.mark.parametrize("content", [None, b"", b"not tensors"])
def test_load_refuses_missing_and_damaged_files(tmp_path, content):
    path = tmp_path / "m.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        load(path)
    assert_one_line(error, path)


def test_the_fingerprint_is_that_of_the_weights_and_not_of_the_file(make_model, tmp_path):
    model = make_model()
    found = weights.fingerprint(model)
    for name in ("one", "two"):
        weights.save(model, tmp_path / f"{name}.safetensors", note=name)
        loaded, _ = weights.load(tmp_path / f"{name}.safetensors")
        assert weights.fingerprint(loaded) == found
    with torch.no_grad():
        model.logits.conv3d.bias[0] += 1e-6
    assert weights.fingerprint(model) != found
