"""The network: its size and names, its padding, and what it accepts."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from vad_helpers.model.i3d import (
    STAGES,
    HeadPool,
    InceptionI3d,
    SameConv3d,
    SameMaxPool3d,
    same_padding,
    same_pads,
    scaled_channels,
)


def test_each_relu_is_a_module_used_once_and_not_in_place(make_model):
    model = make_model().eval()
    calls = []
    relus = [m for m in model.modules() if isinstance(m, nn.ReLU)]
    for relu in relus:
        relu.register_forward_hook(lambda module, *_: calls.append(id(module)))
    model(torch.zeros(1, 3, 2, 16, 16))
    assert len(relus) == 57
    assert sorted(calls) == sorted(id(relu) for relu in relus)
    assert not any(relu.inplace for relu in relus)


@settings(deadline=None, max_examples=15)
@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 40), st.integers(1, 40)),
    classes=st.integers(1, 3),
)
def test_any_clip_size_gives_finite_logits(size, classes):
    with torch.no_grad():
        logits = InceptionI3d(classes, 0.1).eval()(torch.rand(2, 3, *size))
    assert logits.shape == (2, classes)
    assert torch.isfinite(logits).all()


def test_stages_shrink_a_224_pixel_clip_as_published(make_model):
    model = make_model().eval()
    expected = {
        "Conv3d_1a_7x7": (8, 112, 112),
        "MaxPool3d_2a_3x3": (8, 56, 56),
        "MaxPool3d_3a_3x3": (8, 28, 28),
        "MaxPool3d_4a_3x3": (4, 14, 14),
        "MaxPool3d_5a_2x2": (2, 7, 7),
        "Mixed_5c": (2, 7, 7),
    }
    x = clips = torch.zeros(1, 3, 16, 224, 224)
    with torch.no_grad():
        for name in STAGES:
            x = model.get_submodule(name)(x)
            assert tuple(x.shape[2:]) == expected.get(name, tuple(x.shape[2:]))
        assert torch.equal(model.head(x), model(clips))


@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 20])
@pytest.mark.parametrize(("k", "s"), [(7, 2), (3, 2), (3, 1), (2, 2)])
def test_convolution_matches_the_definition_and_the_odd_padding_comes_last(n, k, s):
    conv = SameConv3d(1, 1, (k, 1, 1), (s, 1, 1)).double()
    x, weight = torch.randn(n, dtype=torch.float64), conv.weight.detach().flatten()
    outputs = -(-n // s)
    start = max((outputs - 1) * s + k - n, 0) // 2
    expected = [
        sum(weight[j] * x[i * s + j - start] for j in range(k) if 0 <= i * s + j - start < n)
        for i in range(outputs)
    ]
    got = conv(x.view(1, 1, n, 1, 1)).detach().flatten()
    torch.testing.assert_close(got, torch.stack(expected))
    assert same_padding([9, n], [7, k], [2, s])[:2] == list(same_pads([n], [k], [s])[0])


@pytest.mark.parametrize("size", [(1, 1, 1), (2, 5, 8), (5, 10, 15)])
@pytest.mark.parametrize("axes", ["133 122", "333 222", "222 222", "333 111"])
def test_padding_of_max_pooling_never_wins(axes, size):
    kernel, stride = (tuple(map(int, text)) for text in axes.split())
    pool, x = SameMaxPool3d(kernel, stride), -1 - torch.rand(1, 2, *size)
    pooled = pool(x)
    assert torch.equal(pool(x.clone().requires_grad_()), pooled)  # computed another way
    assert tuple(pooled.shape[2:]) == tuple(-(-n // s) for n, s in zip(size, stride, strict=True))
    assert (pooled < 0).all() and set(pooled.flatten().tolist()) <= set(x.flatten().tolist())


@pytest.mark.parametrize("n_frames", [1, 2, 3, 4])
def test_bf16_weight_gradients_agree_with_fp32(n_frames):
    # Some CPUs read the weight gradient for two steps in time from uninitialised memory.
    conv = SameConv3d(16, 32, (3, 3, 3), (1, 1, 1))
    x, upstream = torch.randn(2, 16, n_frames, 3, 4), torch.randn(2, 32, n_frames, 3, 4)
    torch.testing.assert_close(conv(x), nn.functional.conv3d(x, conv.weight, padding=1))
    conv(x).backward(upstream)
    exact = conv.weight.grad
    for _ in range(5):
        poison = torch.full((300_000,), 1e30)  # freed memory that the next buffer may reuse
        del poison
        conv.weight.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            conv(x).backward(upstream.bfloat16())
        assert (conv.weight.grad - exact).norm() < 0.02 * exact.norm()


def test_head_pools_like_the_original_at_seven_by_seven():
    x = torch.randn(2, 3, 4, 7, 7)
    original = nn.functional.avg_pool3d(x, (2, 7, 7), stride=1)
    torch.testing.assert_close(HeadPool()(x), original)
    still = x[:, :, :1, :2, :5]  # a single step in time
    torch.testing.assert_close(HeadPool()(still), still.mean(dim=(2, 3, 4), keepdim=True))


def test_fresh_network_is_undecided_and_its_signal_neither_fades_nor_explodes(make_model):
    model = make_model(width=0.25).train()
    x = torch.rand(2, 3, 8, 64, 64) * 2 - 1
    with torch.no_grad():
        for name in STAGES:
            x = model.get_submodule(name)(x)
        p = model.eval().head(x).softmax(dim=1)
    assert 0.1 < x.std() < 10
    assert ((p > 0.3) & (p < 0.7)).all()


def test_width_scales_channels_to_multiples_of_four_and_at_least_eight():
    cases = (64, 1.0, 64), (64, 0.25, 16), (16, 0.25, 8), (192, 0.1, 20), (24, 2.0, 48)
    assert all(scaled_channels(n, width) == expected for n, width, expected in cases)


def test_other_clips_and_options_out_of_range_are_refused(make_model):
    for shape in ((3, 8, 32, 32), (1, 1, 8, 32, 32), (1, 3, 0, 32, 32), (1, 8, 3, 9, 9)):
        with pytest.raises(ValueError, match=r"expected \(N, 3, T, H, W\)"):
            make_model()(torch.zeros(shape))
    with pytest.raises(ValueError, match="uint8"):
        make_model()(torch.zeros(1, 3, 8, 32, 32, dtype=torch.uint8))
    for options in ({"num_classes": 0}, {"width": 0}, {"width": float("nan")}, {"dropout": 1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            InceptionI3d(**options)


@pytest.fixture
def trained(make_model, randomise):
    """A network whose batch norms have seen something, and whose logits differ."""
    model = randomise(make_model(seed=3)).float()
    nn.init.normal_(model.logits.conv3d.weight)
    return model


def test_inference_copy_leaves_the_network_as_it_was(trained):
    trained.train()
    trained.Mixed_3b.eval()
    trained.logits.conv3d.weight.requires_grad_(False)

    def state():
        modes = [module.training for module in trained.modules()]
        wanting = [parameter.requires_grad for parameter in trained.parameters()]
        return modes, wanting, {k: v.tolist() for k, v in trained.state_dict().items()}

    before = state()
    for parameter in trained.for_inference(torch.bfloat16).parameters():
        parameter.zero_()
    assert state() == before


def test_half_precision_stops_before_the_classifier(trained):
    copy = trained.for_inference(torch.bfloat16)
    types = {name: parameter.dtype for name, parameter in copy.named_parameters()}
    assert {types.pop(f"logits.conv3d.{n}") for n in ("weight", "bias")} == {torch.float32}
    assert set(types.values()) == {torch.bfloat16}
    assert copy(torch.rand(1, 3, 4, 33, 40).bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("size", [(8, 33, 40), (3, 17, 16), (1, 1, 1)])
def test_the_inference_copy_and_the_chain_are_the_network(folded, size, trained):
    network = trained.double().eval()
    network = network.for_inference() if folded else network
    chain, clips = network.chain(), torch.rand(2, 3, *size).double() * 2 - 1
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm3d)]
    assert bool(norms) != folded and chain.has_affine_stem and network.keeps_clips_apart
    with torch.no_grad():
        for found in (network(clips), chain(clips), chain.after_stem(chain.stem(clips))):
            torch.testing.assert_close(found, trained(clips), rtol=1e-10, atol=1e-10)
