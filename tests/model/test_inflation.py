"""Inflation against a 2-D network written out here."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vad_helpers.errors import InputError
from vad_helpers.model.checkpoints import initialise, load_into
from vad_helpers.model.i3d import LAYERS, Conv, InceptionI3d, Mixed, scaled_channels
from vad_helpers.model.inflation import inflate, is_inception_2d

WIDTH = 0.25
NAMES_2D = dict(
    zip(
        [layer.name for layer in LAYERS if isinstance(layer, Conv | Mixed)],
        ["conv1", "conv2", "conv3"]
        + [f"inception{b}" for b in "3a 3b 4a 4b 4c 4d 4e 5a 5b".split()],
        strict=True,
    )
)


def pad_same(x, kernel, stride, value=0.0):
    pads = []
    for n in reversed(x.shape[2:]):
        total = max((-(-n // stride) - 1) * stride + kernel - n, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


def pool(x, kernel, stride):
    return F.max_pool2d(pad_same(x, kernel, stride, float("-inf")), kernel, stride)


class Unit(nn.Module):
    def __init__(self, inputs, outputs, kernel=1, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-3)
        nn.init.kaiming_normal_(self.conv.weight)
        for tensor, low, high in (
            (self.bn.weight, 0.8, 1.2),
            (self.bn.bias, -0.3, 0.3),
            (self.bn.running_mean, -0.3, 0.3),
            (self.bn.running_var, 0.8, 1.2),
        ):
            nn.init.uniform_(tensor, low, high)

    def forward(self, x):
        x = pad_same(x, self.conv.kernel_size[0], self.conv.stride[0])
        return torch.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    def __init__(self, inputs, channels):
        super().__init__()
        c0, c1a, c1b, c2a, c2b, c3b = channels
        self.branch1 = Unit(inputs, c0)
        self.branch2 = nn.Sequential(Unit(inputs, c1a), Unit(c1a, c1b, 3))
        self.branch3 = nn.Sequential(Unit(inputs, c2a), Unit(c2a, c2b, 3))
        self.branch4 = nn.Sequential(nn.Identity(), Unit(inputs, c3b))
        self.out = c0 + c1b + c2b + c3b

    def forward(self, x):
        pooled = pool(x, 3, 1)
        branches = [self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(pooled)]
        return torch.cat(branches, dim=1)


class InceptionV1(nn.Module):
    """GoogLeNet's key layout with TensorFlow's padding."""

    def __init__(self, width):
        super().__init__()
        channels = 3
        for layer in LAYERS:
            if isinstance(layer, Conv):
                outputs = scaled_channels(layer.channels, width)
                unit = Unit(channels, outputs, layer.kernel[1], layer.stride[1])
                self.add_module(NAMES_2D[layer.name], unit)
                channels = outputs
            elif isinstance(layer, Mixed):
                block = Block(channels, [scaled_channels(c, width) for c in layer.channels])
                self.add_module(NAMES_2D[layer.name], block)
                channels = block.out
        self.fc = nn.Linear(channels, 1000)

    def stages(self, x):
        for layer in LAYERS:
            if layer.name in NAMES_2D:
                x = self.get_submodule(NAMES_2D[layer.name])(x)
            else:
                x = pool(x, layer.kernel[1], layer.stride[1])
            yield layer.name, x


@pytest.fixture(scope="module")
def network_2d():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return InceptionV1(WIDTH).double().eval()


def test_repeated_image_gives_the_2d_features_at_every_stage(network_2d):
    model = InceptionI3d(width=WIDTH).double().eval()
    load_into(model, inflate(network_2d.state_dict()))
    image = torch.rand(1, 3, 47, 62, dtype=torch.float64) * 2 - 1
    # The last stage sees 99 frames: with 128, its central step meets no padding in time.
    x = image.unsqueeze(2).repeat(1, 1, 128, 1, 1)
    with torch.no_grad():
        stages_3d = model.stages()
        for name, features_2d in network_2d.stages(image):
            name_3d, stage = next(stages_3d)
            x = stage(x)
            assert name_3d == name
            assert features_2d.std() > 0.05  # a dead network would agree with anything
            torch.testing.assert_close(x[:, :, x.shape[2] // 2], features_2d, rtol=1e-8, atol=1e-8)
    assert (x[:, :, 0] - features_2d).abs().max() > 1e-3  # padding in time does matter at the end
    assert next(stages_3d, None) is None


def test_inflated_weights_fill_all_but_the_classifier(network_2d):
    model = InceptionI3d(width=WIDTH)
    report = load_into(model, inflate(network_2d.state_dict()))
    assert report.n_convolutions_matched == report.n_convolutions_loaded == 57
    assert report.convolutions_missing == ("logits",)
    assert report.missing == ("logits.conv3d.weight", "logits.conv3d.bias")
    assert report.ignored == ("fc.weight", "fc.bias")
    assert "fc.weight" in str(report)


def test_a_file_of_2d_weights_is_recognised_and_inflated(network_2d, tmp_path):
    torch.save({"state_dict": network_2d.state_dict()}, tmp_path / "googlenet.pth")
    model = InceptionI3d(width=WIDTH)
    assert initialise(model, tmp_path / "googlenet.pth").n_convolutions_matched == 57
    expected = inflate(network_2d.state_dict())["Mixed_5c.b2b.conv3d.weight"].float()
    torch.testing.assert_close(model.state_dict()["Mixed_5c.b2b.conv3d.weight"], expected)


def test_filters_are_repeated_in_time_and_keep_their_sum():
    weight = torch.randn(8, 3, 7, 7)
    inflated = inflate({"conv1.conv.weight": weight})["Conv3d_1a_7x7.conv3d.weight"]
    assert inflated.shape == (8, 3, 7, 7, 7)
    torch.testing.assert_close(inflated.sum(dim=2), weight)
    assert (inflated == inflated[:, :, :1]).all()


def test_auxiliary_classifiers_keep_their_names():
    state = {
        "conv1.conv.weight": torch.ones(8, 3, 7, 7),
        "aux1.conv.conv.weight": torch.ones(4, 4, 1, 1),
        "inception9a.branch1.conv.weight": torch.ones(4, 4, 1, 1),
        "inception3a.branch7.conv.weight": torch.ones(4, 4, 1, 1),
    }
    assert set(inflate(state)) == {"Conv3d_1a_7x7.conv3d.weight", *list(state)[1:]}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["conv1.conv.weight"], True),
        (["fc.weight", "inception4a.branch3.1.conv.weight"], True),
        (["conv1.weight", "layer1.0.conv1.weight"], False),
        (["Mixed_3b.b1a.conv3d.weight"], False),
        (["conv1.bn.weight"], False),
        ([], False),
    ],
)
def test_a_2d_inception_is_recognised_by_its_names(names, expected):
    assert is_inception_2d(names) is expected


def test_other_networks_are_not_inflated():
    with pytest.raises(InputError, match="GoogLeNet"):
        inflate({"layer1.0.conv1.weight": torch.ones(4, 4, 3, 3)})


@pytest.mark.parametrize("shape", [(8, 3, 7), (8, 3, 7, 5), (8, 3, 7, 7, 7)])
def test_filters_that_are_not_square_are_refused(shape):
    with pytest.raises(InputError, match="conv1.conv.weight"):
        inflate({"conv1.conv.weight": torch.ones(shape)})
