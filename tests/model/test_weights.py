"""Checkpoints of every kind, good and bad, and the round trip of a trained model."""

import collections
import json
import os
import pickle

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vad_helpers.errors import InputError
from vad_helpers.model import weights
from vad_helpers.model.i3d import InceptionI3d
from vad_helpers.model.weights import (
    describe,
    fingerprint,
    initialise,
    load,
    load_into,
    read_checkpoint,
    round_to_half,
    save,
)

REAL_WEIGHTS = os.environ.get("VAD_I3D_WEIGHTS")


class Marker:
    """A class that only this file knows."""


class Shell:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def states_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def assert_one_line(error, *fragments):
    message = str(error.value)
    assert "\n" not in message
    for fragment in fragments:
        assert str(fragment) in message


# -- read_checkpoint ------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrappers_and_prefixes_are_removed(tmp_path, wrapper, prefix):
    state = collections.OrderedDict({f"{prefix}a.weight": torch.arange(3.0)})
    content = state if wrapper is None else {"epoch": 3, wrapper: state}
    torch.save(content, tmp_path / "a.pt")
    read = read_checkpoint(tmp_path / "a.pt")
    assert list(read) == ["a.weight"]
    assert torch.equal(read["a.weight"], torch.arange(3.0))


def test_wrappers_inside_wrappers_are_removed(tmp_path):
    torch.save({"state_dict": {"model": {"a": torch.ones(1)}}}, tmp_path / "a.pth")
    assert list(read_checkpoint(tmp_path / "a.pth")) == ["a"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_floats_become_float32_and_counters_stay(tmp_path, dtype, suffix):
    path = tmp_path / f"a{suffix}"
    state = {"w": torch.tensor([0.5, 2.0], dtype=dtype), "n": torch.tensor(7)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    read = read_checkpoint(path)
    assert read["w"].dtype == torch.float32
    assert read["w"].tolist() == [0.5, 2.0]
    assert read["n"].dtype == torch.int64


def test_old_pickle_format_is_read(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False)
    assert read_checkpoint(tmp_path / "a.pt")["a"].tolist() == [1, 1]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_that_are_not_finite_are_named(tmp_path, value, suffix):
    path = tmp_path / f"a{suffix}"
    state = {"good": torch.ones(2), "some.bad.weight": torch.tensor([1.0, value])}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    with pytest.raises(InputError) as error:
        read_checkpoint(path)
    assert_one_line(error, "some.bad.weight", path)


def test_float64_beyond_float32_is_not_finite(tmp_path):
    torch.save({"huge": torch.tensor([1e300], dtype=torch.float64)}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="huge"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("name", ["none.pt", "none.safetensors", "."])
def test_missing_file_is_named(tmp_path, name):
    with pytest.raises(InputError) as error:
        read_checkpoint(tmp_path / name)
    assert_one_line(error, "no weights file", tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"hello, world", b"\x80\x02garbage\x94\x00", pickle.dumps({"x": 1})]
)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_files_that_are_no_checkpoints_are_refused(tmp_path, content, suffix):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    with pytest.raises(InputError) as error:
        read_checkpoint(path)
    assert_one_line(error, path, "cannot be read")


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_truncated_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    state = {"a": torch.ones(1000)}
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(InputError) as error:
        read_checkpoint(path)
    assert_one_line(error, path, "cannot be read")


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_would_run_code_are_refused_and_run_nothing(tmp_path, zipped):
    path = tmp_path / "a.pt"
    torch.save({"x": Shell(tmp_path / "ran")}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(InputError) as error:
        read_checkpoint(path)
    assert_one_line(error, path, "could run code")
    assert not (tmp_path / "ran").exists()


def test_pickled_objects_are_refused(tmp_path):
    torch.save({"x": Marker}, tmp_path / "a.pt")
    with pytest.raises(InputError, match="besides tensors"):
        read_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [[torch.ones(1)], torch.ones(1), {}, {"state_dict": {"a": 1}}])
def test_checkpoints_without_named_tensors_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError) as error:
        read_checkpoint(tmp_path / "a.pt")
    assert_one_line(error, "no named tensors", "state_dict")


# -- load_into ------------------------------------------------------------------------------------


def test_state_of_the_same_network_matches_whole(make_model):
    model, other = make_model(seed=0), make_model(seed=1)
    report = load_into(model, other.state_dict())
    assert states_equal(model.state_dict(), other.state_dict())
    assert (report.n_convolutions_matched, report.n_convolutions_missing) == (58, 0)
    assert report.n_convolutions_loaded == 58
    assert report.missing == report.ignored == ()
    assert report.mismatched == {}
    assert report.classifier is None
    assert str(report).startswith("58 convolutions matched, 0 missing\n")


def test_missing_convolutions_are_reported_and_left_as_they_were(make_model):
    model, other = make_model(seed=0), make_model(seed=1)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = {k: v for k, v in other.state_dict().items() if not k.startswith("Mixed_4e.b1b.")}
    report = load_into(model, state)
    assert report.convolutions_missing == ("Mixed_4e.b1b",)
    assert report.n_convolutions_matched == 57
    assert "Mixed_4e.b1b.bn.running_var" in report.missing
    assert not any("num_batches_tracked" in name for name in report.missing)
    after = model.state_dict()
    for name in after:
        source = before if name.startswith("Mixed_4e.b1b.") else other.state_dict()
        assert torch.equal(after[name], source[name])
    assert "57 convolutions matched, 1 missing: Mixed_4e.b1b" in str(report)


def test_counters_of_batches_may_be_absent(make_model):
    state = {
        k: v for k, v in make_model().state_dict().items() if not k.endswith("num_batches_tracked")
    }
    report = load_into(make_model(seed=1), state)
    assert report.missing == ()
    assert len(report.matched) == len(state)


def test_classifier_of_other_classes_is_ignored_with_a_word(make_model):
    model = make_model(seed=0)
    head = model.logits.conv3d.weight.detach().clone()
    report = load_into(model, make_model(num_classes=400, seed=1).state_dict())
    assert report.classifier == (400, 2)
    assert report.n_convolutions_matched == 58
    assert report.n_convolutions_loaded == 57
    assert report.ignored == ("logits.conv3d.weight", "logits.conv3d.bias")
    assert report.mismatched == {}
    assert torch.equal(model.logits.conv3d.weight, head)
    assert "classifier of 400 classes ignored" in str(report)


def test_single_tensors_of_another_shape_are_reported(make_model):
    state = make_model(seed=1).state_dict()
    state["Mixed_3b.b0.conv3d.weight"] = torch.ones(3, 3, 1, 1, 1)
    report = load_into(make_model(), state)
    ours = tuple(make_model().state_dict()["Mixed_3b.b0.conv3d.weight"].shape)
    assert report.mismatched == {"Mixed_3b.b0.conv3d.weight": ((3, 3, 1, 1, 1), ours)}
    assert (report.n_convolutions_matched, report.n_convolutions_missing) == (57, 0)
    assert "1 tensors of another shape: Mixed_3b.b0.conv3d.weight" in str(report)


def test_unknown_tensors_are_reported_briefly(make_model):
    extra = {f"extra{i}": torch.ones(1) for i in range(9)}
    report = load_into(make_model(), {**make_model().state_dict(), **extra})
    assert report.ignored == tuple(extra)
    assert "9 ignored: extra0" in str(report)
    assert "and 3 more" in str(report)


@pytest.mark.parametrize(
    ("state", "fragments"),
    [
        ({"layer1.0.conv1.weight": torch.ones(4, 4, 3, 3)}, ["fits 0 of", "layer1.0.conv1"]),
        (InceptionI3d(width=0.5).state_dict(), ["same width", "another shape"]),
    ],
)
def test_other_architectures_are_refused_and_change_nothing(make_model, state, fragments):
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with pytest.raises(InputError) as error:
        load_into(model, state, source="some/file.pt")
    assert_one_line(error, "some/file.pt", "58", *fragments)
    assert states_equal(model.state_dict(), before)


def test_under_half_of_the_convolutions_is_refused_and_half_is_not(make_model):
    state = make_model(seed=1).state_dict()
    convolutions = [k for k in state if k.endswith(".conv3d.weight")]
    half = {k: state[k] for k in convolutions[:29]}
    assert load_into(make_model(), half).n_convolutions_matched == 29
    with pytest.raises(InputError, match="28 of the model's 58"):
        load_into(make_model(), {k: state[k] for k in convolutions[:28]})


# -- initialise -----------------------------------------------------------------------------------


def test_initialise_takes_an_i3d_checkpoint(tmp_path, make_model):
    other = make_model(num_classes=7, seed=1)
    torch.save({"state_dict": other.state_dict()}, tmp_path / "a.pt")
    model = make_model()
    assert initialise(model, tmp_path / "a.pt").n_convolutions_matched == 58
    name = "Mixed_5c.b1b.conv3d.weight"
    assert torch.equal(model.state_dict()[name], other.state_dict()[name])


def test_initialise_inflates_a_2d_checkpoint(tmp_path):
    weight = torch.randn(64, 3, 7, 7)
    torch.save({"conv1.conv.weight": weight}, tmp_path / "a.pth")
    # One convolution of 58 is too little, and the message shows that it was inflated and counted.
    with pytest.raises(InputError, match=r"a\.pth fits 1 of the model's 58"):
        initialise(InceptionI3d(), tmp_path / "a.pth")


@pytest.mark.skipif(not REAL_WEIGHTS, reason="VAD_I3D_WEIGHTS gives no I3D checkpoint")
def test_partial_kinetics_weights_load():
    model = InceptionI3d()
    report = initialise(model, REAL_WEIGHTS)
    assert (report.n_convolutions_matched, report.n_convolutions_missing) == (54, 4)
    assert report.n_convolutions_loaded == 53
    assert report.convolutions_missing == tuple(
        f"Mixed_{block}.b1b" for block in ("4e", "4f", "5b", "5c")
    )
    assert report.classifier == (400, 2)
    assert "54 convolutions matched, 4 missing" in str(report)
    with torch.no_grad():
        assert torch.isfinite(model.eval()(torch.rand(1, 3, 8, 64, 64) * 2 - 1)).all()


# -- save and load --------------------------------------------------------------------------------


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
