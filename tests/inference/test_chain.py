"""A network as a chain: what it makes of PyTorch layers, and what it says about them."""

import pytest
import torch
from torch import nn

from vad_helpers.errors import InputError
from vad_helpers.inference.chain import (
    Branches,
    Chain,
    convolve_padded,
    flat_pads,
    layer_stage,
    sequential,
)

LAYERS = {
    "convolution": lambda: nn.Conv3d(3, 4, (2, 3, 5)),
    "strided convolution": lambda: nn.Conv3d(3, 4, 3, stride=(1, 2, 3), padding=(0, 1, 2)),
    "stride above kernel": lambda: nn.Conv3d(3, 4, (1, 2, 2), stride=(2, 3, 3)),
    "groups without bias": lambda: nn.Conv3d(3, 6, 3, padding=1, groups=3, bias=False),
    "max pooling": lambda: nn.MaxPool3d(2),
    "padded max pooling": lambda: nn.MaxPool3d((3, 3, 2), stride=(1, 2, 2), padding=(1, 1, 1)),
    "average pooling": lambda: nn.AvgPool3d((1, 2, 3), stride=1),
    "ReLU": lambda: nn.ReLU(),
    "batch norm": lambda: nn.BatchNorm3d(3),
    "dropout": lambda: nn.Dropout(0.5),
    "channel dropout": lambda: nn.Dropout3d(0.5),
    "identity": lambda: nn.Identity(),
}
VALUE_BY_VALUE = {"ReLU", "batch norm", "dropout", "channel dropout", "identity"}


@pytest.fixture
def clips():
    return torch.randn(2, 3, 5, 9, 10, dtype=torch.float64)


def mean_of_positions(x):
    return x.mean(dim=(2, 3, 4))


@pytest.mark.parametrize("name", LAYERS)
def test_a_stage_is_its_layer_and_affine_if_and_only_if_straight_lines_stay_straight(
    name, clips, randomise
):
    layer = randomise(LAYERS[name]())
    stage = layer_stage(layer)
    expected = layer(clips)
    torch.testing.assert_close(stage.whole(clips), expected, rtol=0, atol=0)
    pads = flat_pads(stage.pads(clips.shape[2:]))
    valid = stage.valid(nn.functional.pad(clips, pads, value=stage.fill))
    torch.testing.assert_close(valid, expected, rtol=1e-12, atol=1e-12)
    assert stage.output_size(tuple(clips.shape[2:])) == tuple(expected.shape[2:])
    assert stage.elementwise == (name in VALUE_BY_VALUE)
    (between,) = stage.whole((0.3 * clips[0] + 0.7 * clips[1])[None])
    straight = 0.3 * expected[0] + 0.7 * expected[1]
    assert stage.affine == torch.allclose(between, straight, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel", [(1, 3, 7), (3, 1, 4), (2, 2, 1)])
@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 1, 3)])
@pytest.mark.parametrize("width", [7, 10, 11, 12])
def test_a_bf16_convolution_that_takes_columns_as_channels_is_the_same(kernel, stride, width):
    layer = nn.Conv3d(3, 8, kernel, stride).bfloat16().requires_grad_(False)
    clips = torch.randn(2, 3, 4, 5, width).bfloat16()
    expected = nn.functional.conv3d(clips.float(), layer.weight.float(), layer.bias.float(), stride)
    for memory in torch.contiguous_format, torch.channels_last_3d:
        result = convolve_padded(layer)(clips.contiguous(memory_format=memory))
        assert result.dtype == torch.bfloat16
        torch.testing.assert_close(result.float(), expected, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv3d(3, 4, 3, dilation=(1, 1, 2)),
        nn.Conv3d(3, 4, 3, padding="same"),
        nn.Conv3d(3, 4, 3, padding=1, padding_mode="replicate"),
        nn.MaxPool3d(2, ceil_mode=True),
        nn.MaxPool3d(2, dilation=2),
        nn.AvgPool3d(2, ceil_mode=True),
        nn.AvgPool3d(3, padding=(0, 0, 1)),
        nn.AvgPool3d(2, divisor_override=1),
        nn.ConvTranspose3d(3, 4, 3),
        nn.AdaptiveAvgPool3d(1),
        nn.InstanceNorm3d(3),
        nn.Sequential(nn.ReLU()),
    ],
    ids=str,
)
def test_what_is_not_covered_is_refused_by_name(layer):
    with pytest.raises(InputError, match=type(layer).__name__):
        sequential([nn.ReLU(), layer], mean_of_positions)


def test_sequential_is_pytorchs_sequential_and_its_stem_and_the_rest_compose_to_it(
    clips, randomise
):
    layers = [
        nn.Conv3d(3, 4, 3, stride=(1, 2, 2), padding=1),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.MaxPool3d((1, 3, 3), stride=2, padding=(0, 1, 1)),
        nn.Conv3d(4, 5, (2, 1, 2)),
    ]
    layers = [randomise(layer) for layer in layers]
    expected = mean_of_positions(nn.Sequential(*layers)(clips))
    chain = sequential(layers, mean_of_positions)
    torch.testing.assert_close(chain(clips), expected)
    assert expected.abs().max() > 0.01
    assert sequential([], mean_of_positions)(clips).shape == (2, 3)
    torch.testing.assert_close(chain.stem(clips), layers[0](clips), rtol=0, atol=0)
    torch.testing.assert_close(chain.after_stem(chain.stem(clips)), chain(clips), rtol=0, atol=0)


def test_a_stem_is_affine_if_the_first_stage_is_one_affine_layer():
    convolution, relu = layer_stage(nn.Conv3d(3, 4, 3)), layer_stage(nn.ReLU())
    for stages, expected in (
        ((convolution, relu), True),
        ((relu, convolution), False),
        ((Branches(((convolution,),)),), False),
        ((), False),
    ):
        assert Chain(stages, mean_of_positions).has_affine_stem is expected
