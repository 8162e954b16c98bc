"""Checkpoints of every kind, good and bad, and how much of one a network takes."""

import collections
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file

from tests.model.states import assert_one_line, states_equal
from vad_helpers.errors import InputError
from vad_helpers.model.checkpoints import initialise, load_into, read_checkpoint
from vad_helpers.model.i3d import InceptionI3d

REAL_WEIGHTS = os.environ.get("VAD_I3D_WEIGHTS")


class Marker:
    """A class that only this file knows."""


class Shell:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


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
