"""BVLC GoogLeNet: what it computes, and what an I3D keeps of it."""

import os

import pytest
import skimage.data
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from skimage.transform import resize
from torch.optim.swa_utils import update_bn

from vad_helpers.data import ucsd
from vad_helpers.data.clips import normalise
from vad_helpers.errors import InputError
from vad_helpers.model import googlenet
from vad_helpers.model.i3d import BN_EPS, STAGES, InceptionI3d
from vad_helpers.model.weights import fits, inflate, initialise

REAL = os.environ.get("VAD_GOOGLENET_WEIGHTS")
needs_weights = pytest.mark.skipif(
    not REAL, reason="VAD_GOOGLENET_WEIGHTS names no BVLC GoogLeNet in Caffe's layout"
)


@pytest.fixture
def path(caffe_state, tmp_path):
    save_file(caffe_state, tmp_path / "caffe.safetensors")
    return tmp_path / "caffe.safetensors"


@pytest.fixture
def clips():
    generator = torch.Generator().manual_seed(0)
    return [torch.rand(3, 8, 40, 60, generator=generator) * 2 - 1 for _ in range(4)]


def run(model, x):
    """The last stage's features (N, 1024, T', H', W') of clips."""
    with torch.no_grad():
        for stage in STAGES:
            x = model.get_submodule(stage)(x)
    return x


def test_the_outer_ring_is_folded_into_the_nearest_tap(caffe_state):
    name = "inception_3a_5x5.weight"
    kernel = torch.zeros_like(caffe_state[name])
    kernel[1, 2] = torch.arange(25.0).view(5, 5)
    found = googlenet.as_torchvision(caffe_state | {name: kernel})
    found = found["inception3a.branch3.1.conv.weight"]
    # 0 + 1 + 5 + 6, 2 + 7, 3 + 4 + 8 + 9; 10 + 11, 12, 13 + 14; 15 + 16 + 20 + 21, ...
    expected = torch.tensor([[12.0, 9, 24], [21, 12, 27], [72, 39, 84]])
    assert found.shape == (*kernel.shape[:2], 3, 3)
    assert torch.equal(found[1, 2], expected) and found.sum() == expected.sum() == 300


def test_conv1_takes_red_first_in_minus_one_to_one(caffe_state):
    pixels = torch.randint(0, 256, (1, 3, 20, 30)).double()  # red, green, blue
    kernel = caffe_state["conv1_7x7_s2.weight"].double()
    blue_first = torch.stack([pixels[:, 2] - 104, pixels[:, 1] - 117, pixels[:, 0] - 123], dim=1)
    expected = F.conv2d(blue_first, kernel, stride=2)
    own = inflate(googlenet.as_torchvision(caffe_state))["Conv3d_1a_7x7.conv3d.weight"].double()
    video = (pixels / 127.5 - 1).unsqueeze(2).repeat(1, 1, 7, 1, 1)
    found = F.conv3d(video, own, stride=2)[:, :, 0]
    # The shift is a constant of each channel, which the batch norm subtracts.
    shift = torch.tensor([127.5 - 104, 127.5 - 117, 127.5 - 123], dtype=torch.float64)
    constant = (kernel.sum(dim=(2, 3)) @ shift).view(-1, 1, 1)
    assert expected.std() > 1
    torch.testing.assert_close(found + constant, expected, rtol=1e-5, atol=1e-3)


def test_scale_and_shift_are_the_moments_of_the_2d_network(caffe_state, path, clips):
    model = InceptionI3d(width=0.1)
    initialise(model, path, clips=iter(clips))
    frames = torch.stack([clip[:, t] for clip in clips for t in (0, 3, 7)])
    images = 127.5 * (frames.flip(1) + 1) - torch.tensor([104.0, 117, 123]).view(3, 1, 1)
    bias = caffe_state["conv1_7x7_s2.bias"]
    out = F.conv2d(images, caffe_state["conv1_7x7_s2.weight"], stride=2, padding=3)
    close = {"rtol": 1e-4, "atol": 1e-4}
    norm = model.Conv3d_1a_7x7.bn
    torch.testing.assert_close(norm.bias, out.mean((0, 2, 3)) + bias, **close)
    torch.testing.assert_close(norm.weight, out.std((0, 2, 3), correction=0), **close)
    last = googlenet.features(caffe_state, frames)[1]["inception_5b_pool_proj"]
    deviation = last.std((0, 2, 3), correction=0)
    torch.testing.assert_close(model.Mixed_5c.b3b.bn.weight, deviation, **close)


def test_running_statistics_are_those_of_the_clips_under_the_new_scales(path, clips):
    model = InceptionI3d(width=0.1)
    generator, before = torch.get_rng_state(), model.logits.conv3d.weight.clone()
    initialise(model, path, clips=clips)
    assert torch.equal(generator, torch.get_rng_state()) and model.training
    assert torch.equal(before, model.logits.conv3d.weight)
    for name in ("Conv3d_2b_1x1", "Mixed_3b.b2b"):
        norm, seen = model.get_submodule(f"{name}.bn"), []
        assert norm.momentum == 0.1
        hook = norm.register_forward_hook(lambda _, x, y, seen=seen: seen.append((x[0], y)))
        run(model.eval(), torch.stack(clips))
        hook.remove()
        (x, y), axes = seen[0], (0, 2, 3, 4)
        # One batch: training mode and evaluation mode differ by the variance's correction alone.
        close = {"rtol": 0.01, "atol": 0.01}
        torch.testing.assert_close(norm.running_mean, x.mean(axes), **close)
        torch.testing.assert_close(norm.running_var, x.var(axes), **close)
        # What leaves the batch norm has the moments that it had in the 2-D network.
        torch.testing.assert_close(y.mean(axes), norm.bias, **close)
        shrunk = norm.weight * (norm.running_var / (norm.running_var + BN_EPS)).sqrt()
        torch.testing.assert_close(y.std(axes), shrunk, **close)


def test_statistics_are_the_mean_over_batches_of_which_none_is_a_single_clip(path):
    model = InceptionI3d(width=0.1)
    clips = list(torch.rand(6, 3, 2, 32, 32))  # one step of one pixel at the end
    initialise(model, path, clips=clips)
    norm, conv = model.Conv3d_1a_7x7.bn, model.Conv3d_1a_7x7.conv3d
    with torch.no_grad():
        found = [conv(torch.stack(clips[k::2])).mean((0, 2, 3, 4)) for k in (0, 1)]
    torch.testing.assert_close(norm.running_mean, (found[0] + found[1]) / 2, rtol=1e-4, atol=1e-4)


def test_a_file_in_caffes_layout_fits_but_for_its_classifier(caffe_state, path, clips, tmp_path):
    model = InceptionI3d(width=0.1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = fits(model, path)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert len(report.convolutions_matched) == 57 and report.mismatched == {}
    assert report.missing == ("logits.conv3d.weight", "logits.conv3d.bias")
    assert report.ignored == ("loss3_classifier.weight",)
    torch.save({"state_dict": {f"net.{k}": v for k, v in caffe_state.items()}}, tmp_path / "a.pt")
    assert initialise(model, tmp_path / "a.pt", clips=clips) == report
    other = InceptionI3d(width=0.1)
    initialise(other, path, clips=clips)
    for name in report.matched:  # to rounding: tensors of two formats lie differently in memory
        found, expected = model.state_dict()[name], other.state_dict()[name]
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_what_cannot_be_measured_is_refused_and_changes_nothing(caffe_state, path, clips, tmp_path):
    model, wide = InceptionI3d(width=0.1), InceptionI3d(width=0.25)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    partial = tmp_path / "partial.safetensors"
    save_file({k: v for k, v in caffe_state.items() if k != "inception_4b_3x3.bias"}, partial)
    for network, file, some, words in (
        (model, path, None, "has no batch norms, .* and there are none"),
        (model, path, [], "there are none: give clips"),
        (model, path, [3 * clip for clip in clips], "reaches 3, but .* mean=0.5 and std=0.5"),
        (model, partial, clips, "fits 0 of .* expected an I3D, or a whole 2-D Inception-v1"),
        (wide, path, clips, "of the same width"),
    ):
        with pytest.raises(InputError, match=words) as error:
            initialise(network, file, clips=some)
        assert "\n" not in str(error.value)
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())


@needs_weights
def test_the_2d_network_names_what_pictures_show():
    state = {name: tensor.float() for name, tensor in load_file(REAL).items()}
    cats, coffee = range(281, 286), {504, 967}  # of ImageNet's 1000 classes: mug, espresso
    for picture, classes in ((skimage.data.chelsea(), cats), (skimage.data.coffee(), coffee)):
        side = min(picture.shape[:2])
        left = (picture.shape[1] - side) // 2
        pixels = resize(picture[:side, left : left + side], (224, 224), anti_aliasing=True)
        image = torch.from_numpy(pixels).float().permute(2, 0, 1)[None] * 2 - 1
        with torch.no_grad():
            pooled = googlenet.features(state, image)[0].mean((2, 3))
            weight, bias = (state[f"loss3_classifier.{leaf}"] for leaf in ("weight", "bias"))
            p = F.linear(pooled, weight, bias).softmax(dim=1)[0]
        assert p.argmax().item() in classes and p.max() > 0.3


@needs_weights
@pytest.mark.slow
def test_features_of_a_repeated_frame_correlate_only_where_moments_are_matched(ucsd_root):
    normal = [one for one in ucsd.index(ucsd_root) if one.kind == "train"]
    assert len(normal) == 50
    grey = [ucsd.read_frames(one, start=40, n_frames=8, size=(158, 237)) for one in normal[::3]]
    clips = [normalise(frames) for frames in grey]
    # Both scenes in both: measured on Ped1 alone, features of Ped2 correlate .48 to .61.
    measured, others = [clip for i, clip in enumerate(clips) if i % 4], clips[::4]
    state, model = {k: t.float() for k, t in load_file(REAL).items()}, InceptionI3d()

    def correlations():
        found = []
        for clip in others:
            frame = clip[:, :1]
            with torch.no_grad():
                flat = googlenet.features(state, frame.transpose(0, 1))[0].mean((0, 2, 3))
            deep = run(model.eval(), frame.repeat(1, 8, 1, 1)[None]).mean((0, 2, 3, 4))
            found.append(float(torch.corrcoef(torch.stack([flat, deep]))[0, 1]))
        return found

    initialise(model, REAL, clips=measured)
    matched = correlations()
    model.load_state_dict(inflate(googlenet.as_torchvision(state)), strict=False)
    update_bn(torch.stack(measured).split(4), model)
    unmatched = correlations()
    assert min(matched) > 0.58 and max(unmatched) < 0.3
