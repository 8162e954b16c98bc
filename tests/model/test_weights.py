"""Weights: a model saved and loaded, checkpoints of every kind, good and bad, and inflation."""

import collections
import os
import pickle
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from vad_helpers.errors import InputError
from vad_helpers.model.i3d import LAYERS, InceptionI3d, same_padding
from vad_helpers.model.weights import (
    describe,
    fingerprint,
    inflate,
    initialise,
    load,
    round_to_half,
    save,
)

REAL_WEIGHTS = os.environ.get("VAD_I3D_WEIGHTS")
PUBLISHED = Path(__file__).parents[2] / "results" / "ucsd" / "model-fold0.safetensors"


def write(state, path):
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


def refused(call, *fragments):
    """The call is refused in one line that holds the fragments."""
    with pytest.raises(InputError) as error:
        call()
    message = str(error.value)
    assert "\n" not in message and all(str(fragment) in message for fragment in fragments)


def test_saved_model_comes_back_equal(tmp_path, make_model):
    model = make_model(num_classes=3, width=0.25).to(memory_format=torch.channels_last_3d)
    model(torch.rand(2, 3, 8, 32, 32))  # moves the batch norms' statistics
    path, classes = tmp_path / "new" / "m.safetensors", ["walk", "bike", "cart"]
    save(model, path, mean=0.4, std=0.2, classes=classes, origin="fresh", auc=0.75)
    generator = torch.get_rng_state()
    loaded, metadata = load(path)
    assert torch.equal(generator, torch.get_rng_state())
    torch.testing.assert_close(loaded.state_dict(), model.state_dict(), rtol=0, atol=0)
    assert fingerprint(loaded) == fingerprint(model)
    assert not loaded.training and all(p.requires_grad for p in loaded.parameters())
    known = {"mean": 0.4, "std": 0.2, "classes": classes, "width": 0.25, "num_classes": 3}
    assert metadata == {**known, "origin": "fresh", "auc": "0.75"}
    with torch.no_grad():
        model.logits.conv3d.bias[0] += 1e-6
    assert fingerprint(model) != fingerprint(loaded)


def test_a_model_rounded_to_half_is_its_own_published_file(tmp_path, make_model):
    model, path = make_model(), tmp_path / "m.safetensors"
    before = fingerprint(model)
    round_to_half(model)
    save(model, path, half=True)
    loaded, _ = load(path)
    assert before != fingerprint(model) == fingerprint(loaded)
    assert {p.dtype for p in (*model.parameters(), *loaded.parameters())} == {torch.float32}
    stored = load_file(path)
    assert stored["Conv3d_1a_7x7.conv3d.weight"].dtype == torch.float16
    assert stored["Conv3d_1a_7x7.bn.running_var"].dtype == torch.float32
    model.load_state_dict({k: v.float() for k, v in stored.items()}, strict=True)
    with torch.no_grad():
        model.Conv3d_1a_7x7.conv3d.weight[0, 0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match="Conv3d_1a_7x7.conv3d.weight"):
        round_to_half(model)


def test_the_published_network_loads():
    model, metadata = load(PUBLISHED)
    assert (model.num_classes, model.width) == (2, 1.0)
    assert sum(p.numel() for p in model.parameters()) == 12_289_314  # as published
    assert metadata["classes"] == ["normal", "anomalous"]
    assert {"mean", "std", "initial_weights"} <= metadata.keys()


def test_contradicting_metadata_are_refused(tmp_path, make_model):
    for options in ({"width": 0.1}, {"classes": ["one"]}, {"num_classes": 5}, {"format": "x"}):
        with pytest.raises(ValueError, match=next(iter(options))):
            save(make_model(), tmp_path / "m.safetensors", **options)
    assert list(tmp_path.iterdir()) == []


def test_load_refuses_metadata_and_tensors_that_do_not_fit(tmp_path, make_model):
    model, path, name = make_model(), tmp_path / "m.safetensors", "logits.conv3d.bias"
    known, state = describe(model), model.state_dict()
    bias = state[name]
    for tensors, metadata, problem in (
        (state, {**known, "width": "0.5"}, "does not hold the model"),
        (state, {**known, "num_classes": "3"}, "does not hold the model"),
        (state, {**known, "width": "wide"}, "lacks"),
        (state, {**known, "mean": "[1]"}, "lacks"),
        (state, {**known, "classes": "2"}, "lacks"),
        (state, None, "lacks the metadata"),
        ({k: v for k, v in state.items() if k != name}, known, "does not hold the model"),
        ({**state, name: bias * torch.nan}, known, name),
        ({**state, name: bias.int()}, known, name),
    ):
        save_file(tensors, path, metadata=metadata)
        refused(lambda: load(path), path, problem)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize(
    "content", [b"", b"hello, world", b"\x80\x02garbage\x94\x00", pickle.dumps({"x": 1}), None, 500]
)
def test_files_that_are_missing_damaged_or_no_checkpoints_are_refused(
    tmp_path, make_model, content, suffix
):
    path = tmp_path / f"a{suffix}"
    if isinstance(content, int):  # cut off
        content = write({"a": torch.ones(1000)}, path).read_bytes()[:-content]
    if content is not None:
        path.write_bytes(content)
    fragment = "no weights file" if content is None else "cannot be read"
    for call in (load, lambda path: initialise(make_model(), path)):
        refused(lambda call=call: call(path), path, fragment)


@pytest.mark.parametrize("zipped", [True, False])
def test_files_that_would_run_code_are_refused_and_run_nothing(tmp_path, make_model, zipped):
    class Shell:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'ran'}",)

    path = tmp_path / "a.pt"
    for content in (Shell(), Path):
        torch.save({"x": content}, path, _use_new_zipfile_serialization=zipped)
        refused(lambda: initialise(make_model(), path), path, "besides tensors")
    assert not (tmp_path / "ran").exists()


def test_checkpoints_without_named_tensors_are_refused(tmp_path, make_model):
    endless = {"epoch": 1}
    endless["self"] = endless
    for content in ([torch.ones(1)], torch.ones(1), {}, {"state_dict": {"a": 1}}, endless):
        torch.save(content, tmp_path / "a.pt")
        refused(lambda: initialise(make_model(), tmp_path / "a.pt"), "no named tensors")


@pytest.mark.parametrize("value", [float("nan"), 1e300])  # in float32, 1e300 is infinite
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_that_are_not_finite_are_named_and_change_nothing(
    tmp_path, make_model, value, suffix
):
    model = make_model()
    before = fingerprint(model)
    state = {name: tensor.double() for name, tensor in make_model(seed=1).state_dict().items()}
    state["Mixed_3b.b0.bn.weight"][0] = value
    path = write(state, tmp_path / f"a{suffix}")
    refused(lambda: initialise(model, path), path, "Mixed_3b.b0.bn.weight")
    assert fingerprint(model) == before


@pytest.mark.parametrize("keys", [(), ("state_dict",), ("model_state_dict",), ("net", "model")])
@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod.", "model.i3d."])
def test_states_under_any_wrapper_load(tmp_path, make_model, keys, prefix):
    other, model = make_model(num_classes=400, seed=1), make_model(seed=0)
    content = collections.OrderedDict(
        {f"{prefix}{name}": tensor for name, tensor in other.state_dict().items()}
    )
    for key in reversed(keys):
        content = {"epoch": 3, "loss": torch.tensor(float("inf")), key: content}
    head = model.logits.conv3d.weight.detach().clone()
    report = initialise(model, write(content, tmp_path / "a.ckpt"))
    assert (len(report.convolutions_matched), report.convolutions_missing) == (58, ())
    assert report.n_convolutions_loaded == 57  # all but the classifier
    assert report.classifier == (400, 2)
    assert report.mismatched == {} and report.missing == ()
    assert {"logits.conv3d.weight", "logits.conv3d.bias"} <= set(report.ignored)
    assert torch.equal(model.logits.conv3d.weight, head)
    for name, tensor in other.state_dict().items():
        if not name.startswith("logits"):
            assert torch.equal(model.state_dict()[name], tensor)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_other_types_become_float32_and_what_is_missing_stays(tmp_path, make_model, dtype, suffix):
    model, other = make_model(seed=0), make_model(seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in other.state_dict().items()
        if not name.startswith("Mixed_4e.b1b.") and "num_batches" not in name
    }
    state |= {"extra": torch.ones(1), "Mixed_3b.b0.conv3d.weight": torch.ones(3, 3, 1, 1, 1)}
    report = initialise(model, write(state, tmp_path / f"a{suffix}"))
    assert report.convolutions_missing == ("Mixed_4e.b1b",)
    assert len(report.convolutions_matched) == 56 and report.ignored == ("extra",)
    missing = [n for n in before if n.startswith("Mixed_4e.b1b") and "num" not in n]
    assert report.missing == tuple(missing)
    ours = tuple(before["Mixed_3b.b0.conv3d.weight"].shape)
    assert report.mismatched == {"Mixed_3b.b0.conv3d.weight": ((3, 3, 1, 1, 1), ours)}
    for name, tensor in model.state_dict().items():
        expected = state[name].float() if name in report.matched else before[name]
        assert torch.equal(tensor, expected) and tensor.dtype == before[name].dtype


def test_what_does_not_fit_is_refused_and_changes_nothing(tmp_path, make_model):
    model, path = make_model(), tmp_path / "a.pt"
    before = fingerprint(model)
    other, same = make_model(width=0.5).state_dict(), make_model(seed=1).state_dict()
    for state, *fragments in (
        ({"layer1.0.conv1.weight": torch.ones(4, 4, 3, 3)}, "fits 0", "prefix", "layer1.0.conv1"),
        ({f"net.{k}": v for k, v in other.items()}, "'net.'", "same width", "Conv3d_1a_7x7"),
        ({f"{who}.{k}": same[k] for k in same for who in ("us", "ema")}, "'us.'", "'ema.'"),
    ):
        write(state, path)
        refused(lambda: initialise(model, path), path, *fragments)
        assert fingerprint(model) == before


def test_under_half_of_the_convolutions_is_refused_and_half_is_not(tmp_path, make_model):
    state, path = make_model(seed=1).state_dict(), tmp_path / "a.pt"
    convolutions = [k for k in state if k.endswith(".conv3d.weight")]
    write({k: state[k] for k in convolutions[:29]}, path)
    assert len(initialise(make_model(), path).convolutions_matched) == 29
    write({k: state[k] for k in convolutions[:28]}, path)
    refused(lambda: initialise(make_model(), path), "28 of the model's 58")


@pytest.mark.skipif(not REAL_WEIGHTS, reason="VAD_I3D_WEIGHTS gives no I3D checkpoint")
def test_partial_kinetics_weights_load():
    model = InceptionI3d()
    report = initialise(model, REAL_WEIGHTS)
    assert len(report.convolutions_matched) == 54
    assert report.convolutions_missing == tuple(f"Mixed_{n}.b1b" for n in "4e 4f 5b 5c".split())
    assert report.classifier == (400, 2)
    with torch.no_grad():
        assert torch.isfinite(model.eval()(torch.rand(1, 3, 8, 64, 64) * 2 - 1)).all()


WIDTH = 0.25
UNITS_2D = {"Conv3d_1a_7x7": "conv1", "Conv3d_2b_1x1": "conv2", "Conv3d_2c_3x3": "conv3"}
for block in "3b 3c 4b 4c 4d 4e 4f 5b 5c".split():
    for pair in "b0:1 b1a:2.0 b1b:2.1 b2a:3.0 b2b:3.1 b3b:4.1".split():
        ours, theirs = pair.split(":")
        before = "abcde"["abcdef".index(block[1]) - 1]  # GoogLeNet counts its blocks from a
        UNITS_2D[f"Mixed_{block}.{ours}"] = f"inception{block[0]}{before}.branch{theirs}"


def stages_2d(x, state):
    """Every stage's features of an Inception-v1 with TensorFlow's padding."""

    def padded(x, kernel, stride, value=0.0):
        return F.pad(x, same_padding(x.shape[2:], (kernel,) * 2, (stride,) * 2), value=value)

    def unit(x, name, stride=1):
        name = UNITS_2D[name]
        weight = state[f"{name}.conv.weight"]
        x = F.conv2d(padded(x, weight.shape[-1], stride), weight, stride=stride)
        leaves = "running_mean", "running_var", "weight", "bias"
        return F.batch_norm(x, *(state[f"{name}.bn.{leaf}"] for leaf in leaves), eps=1e-3).relu()

    def pool(x, kernel, stride):
        return F.max_pool2d(padded(x, kernel, stride, float("-inf")), kernel, stride)

    for name, layer in LAYERS.items():
        if name.startswith("Conv3d"):
            x = unit(x, name, layer[2][1])
        elif name.startswith("MaxPool3d"):
            x = pool(x, layer[0][1], layer[1][1])
        else:
            lines = [unit(x, f"{name}.b0"), unit(pool(x, 3, 1), f"{name}.b3b")]
            lines[1:1] = [unit(unit(x, f"{name}.b{k}a"), f"{name}.b{k}b") for k in (1, 2)]
            x = torch.cat(lines, dim=1)
        yield name, x


@pytest.fixture(scope="module")
def state_2d():
    """Random weights in GoogLeNet's layout, float64."""
    generator, state = torch.Generator().manual_seed(0), {}
    for name, tensor in InceptionI3d(width=WIDTH).state_dict().items():
        unit, kind, leaf = name.rsplit(".", 2)
        new = torch.rand(tensor.shape[:2] + tensor.shape[3:], generator=generator).double() - 0.5
        if kind == "conv3d" and unit != "logits":
            state[f"{UNITS_2D[unit]}.conv.weight"] = new * (24 / new[0].numel()) ** 0.5
        elif kind == "bn" and leaf != "num_batches_tracked":
            spread = 0.4 * new + 1 if leaf in ("weight", "running_var") else 0.6 * new
            state[f"{UNITS_2D[unit]}.bn.{leaf}"] = spread
    return {**state, "fc.weight": torch.ones(1000, 8), "fc.bias": torch.ones(1000)}


def test_repeated_image_gives_the_2d_features_at_every_stage(state_2d):
    model = InceptionI3d(width=WIDTH).double().eval()
    model.load_state_dict(inflate(state_2d), strict=False)
    image = torch.rand(1, 3, 47, 62, dtype=torch.float64) * 2 - 1
    # The last stage sees 99 frames: with 128, its central step meets no padding in time.
    x = image.unsqueeze(2).repeat(1, 1, 128, 1, 1)
    with torch.no_grad():
        for name, features_2d in stages_2d(image, state_2d):
            x = model.get_submodule(name)(x)
            assert features_2d.std() > 0.05  # a dead network would agree with anything
            torch.testing.assert_close(x[:, :, x.shape[2] // 2], features_2d, rtol=1e-8, atol=1e-8)
    assert (x[:, :, 0] - features_2d).abs().max() > 1e-3  # padding in time does matter at the end


def test_a_file_of_2d_weights_is_recognised_and_inflated(state_2d, tmp_path):
    state = {f"backbone.{name}": tensor for name, tensor in state_2d.items()}
    model = InceptionI3d(width=WIDTH)
    report = initialise(model, write({"state_dict": state}, tmp_path / "googlenet.pth"))
    assert len(report.convolutions_matched) == 57
    assert report.convolutions_missing == ("logits",) and report.classifier is None
    assert report.missing == ("logits.conv3d.weight", "logits.conv3d.bias")
    assert report.ignored == ("fc.weight", "fc.bias")
    expected = inflate(state_2d)["Mixed_5c.b2b.conv3d.weight"].float()
    torch.testing.assert_close(model.state_dict()["Mixed_5c.b2b.conv3d.weight"], expected)


def test_filters_are_repeated_in_time_keep_their_sum_and_must_be_square():
    weight = torch.randn(8, 3, 7, 7)
    others = "aux1.conv.conv.weight inception9a.branch1.conv.weight inception3a.branch7.conv.weight"
    found = inflate({"conv1.conv.weight": weight} | dict.fromkeys(others.split(), weight))
    assert list(found) == ["Conv3d_1a_7x7.conv3d.weight", *others.split()]
    inflated = found["Conv3d_1a_7x7.conv3d.weight"]
    assert inflated.shape == (8, 3, 7, 7, 7)
    torch.testing.assert_close(inflated.sum(dim=2), weight)
    assert (inflated == inflated[:, :, :1]).all()
    for wrong in (weight[..., 0], weight[..., :5]):
        refused(lambda wrong=wrong: inflate({"conv1.conv.weight": wrong}), "conv1.conv.weight")
