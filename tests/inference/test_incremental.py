"""Occlusion by recomputing boxes, against full evaluations of every filled clip."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from vad_helpers.inference import incremental
from vad_helpers.inference.chain import Branches, Chain, Stage, flat_pads, layer_stage, run
from vad_helpers.inference.incremental import Activations, Boxes, fill, reached
from vad_helpers.model.i3d import InceptionI3d, SameMaxPool3d, Unit3d

AGREEMENT = 1e-10
"""Largest difference from the full evaluation, as a share of the largest change of a logit."""
CHANNELS = 2


def with_head(stages, size):
    """A chain whose head weighs every last value differently, so that a shift cannot hide."""
    features = run(stages, torch.zeros(1, CHANNELS, *size, dtype=torch.float64))
    weights = torch.randn(features.numel(), 2, dtype=torch.float64) / features.numel() ** 0.5
    return Chain(tuple(stages), lambda x: x.flatten(1) @ weights)


def windows(size, window, stride):
    """First and one-past-last index of every window, (K, 3) each; the last ones are cut."""
    axes = [range(0, n - w + s, s) for n, w, s in zip(size, window, stride, strict=True)]
    starts = np.array(list(itertools.product(*axes)))
    return starts, np.minimum(starts + window, size)


@torch.no_grad()
def full_evaluation(chain, clip, baseline, window, stride, *, at_once=8, whole=None):
    """How every window's fill changes the logits, (K, classes): following it gives the same."""
    starts, ends = windows(clip.shape[1:], window, stride)
    activations, found = Activations(chain, clip), []
    for part in np.split(np.arange(len(starts)), range(at_once, len(starts), at_once)):
        found.append(activations.change(*fill(clip, baseline, starts[part], ends[part])))
    filled = clip.repeat(len(starts), 1, 1, 1, 1)
    for copy, start, end in zip(filled, starts.tolist(), ends.tolist(), strict=True):
        box = (slice(None), *map(slice, start, end))
        copy[box] = baseline[box]
    logits = (whole or chain)(clip[None])
    expected = torch.cat([(whole or chain)(part) for part in filled.split(64)]) - logits
    bound = AGREEMENT * float(expected.abs().max()) + 1e-14 * (1 + float(logits.abs().max()))
    assert float((torch.cat(found) - activations.logits - expected).abs().max()) <= bound
    return expected


small = st.integers(1, 3)
strides = st.integers(1, 4)


@st.composite
def layers(draw, channels, size, randomise):
    """A layer as stages; it fits the size."""
    kind = draw(st.sampled_from("convolution pooling same same_pool value inception".split()))
    if kind == "value":
        layer = draw(st.sampled_from([nn.ReLU(), nn.BatchNorm3d(channels), nn.Dropout(0.5)]))
        return [layer_stage(randomise(layer))]
    if kind == "inception":
        return draw(branches(channels, randomise))
    kernel = tuple(draw(st.integers(1, 4)) for _ in range(3))
    stride = tuple(draw(strides) for _ in range(3))
    if kind == "same":
        return list(randomise(Unit3d(channels, draw(small), kernel, stride)).stages())
    if kind == "same_pool":
        return list(SameMaxPool3d(kernel, stride).stages())
    padding = tuple(draw(st.integers(0, k // 2)) for k in kernel)
    kernel = tuple(
        k if n + 2 * p >= k else 1 for k, n, p in zip(kernel, size, padding, strict=True)
    )
    padding = tuple(p if k > 1 else 0 for k, p in zip(kernel, padding, strict=True))
    if kind == "convolution":
        return [layer_stage(randomise(nn.Conv3d(channels, draw(small), kernel, stride, padding)))]
    if any(padding) or draw(st.booleans()):
        return [layer_stage(nn.MaxPool3d(kernel, stride, padding))]
    return [layer_stage(nn.AvgPool3d(kernel, stride))]


@st.composite
def branches(draw, channels, randomise):
    """Lines of different reach, all of which give ceil(size / stride)."""
    stride = draw(st.integers(1, 2))

    def strided(reach):
        layer = nn.Conv3d(channels, draw(small), reach, stride, padding=reach // 2)
        return layer_stage(randomise(layer)), layer.out_channels

    first, width = strided(draw(st.sampled_from([1, 3])))
    last = layer_stage(randomise(nn.Conv3d(width, 2, 3, padding=1)))
    lines = [(first, layer_stage(nn.ReLU()), last), (strided(1)[0],), (strided(5)[0],)]
    if stride == 1:
        lines.append((*SameMaxPool3d((3, 3, 3), (1, 1, 1)).stages(),))
    return [Branches(tuple(draw(st.permutations(lines))))]


@st.composite
def networks(draw, size, randomise):
    """Stages of one to four layers."""
    stages, x = [], torch.zeros(1, CHANNELS, *size, dtype=torch.float64)
    torch.manual_seed(draw(st.integers(0, 2**16)))
    for _ in range(draw(st.integers(1, 4))):
        more = draw(layers(x.shape[1], tuple(x.shape[2:]), randomise))
        x = run(more, x)
        stages += more
    return stages


@settings(deadline=None, max_examples=80)
@given(data=st.data(), at_once=st.integers(1, 20), whole_from=st.sampled_from([0.0, 0.7, 2.0]))
def test_random_networks_give_the_full_evaluation(randomise, data, at_once, whole_from):
    size = tuple(data.draw(st.integers(1, most)) for most in (6, 10, 11))
    window = tuple(data.draw(st.integers(1, n)) for n in size)
    stride = tuple(data.draw(st.integers(1, wide)) for wide in window)
    assume(len(windows(size, window, stride)[0]) <= 150)
    chain = with_head(data.draw(networks(size, randomise)), size)
    clip, baseline = torch.randn(2, CHANNELS, *size, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(incremental, "WHOLE_FROM", whole_from)
        full_evaluation(chain, clip, baseline, window, stride, at_once=at_once)


@pytest.mark.parametrize(
    ("size", "window", "stride"),
    [
        ((8, 24, 32), (3, 7, 9), (3, 6, 8)),
        ((7, 33, 21), (2, 8, 8), (2, 8, 8)),
        ((5, 13, 14), (5, 13, 14), (5, 13, 14)),  # all of the clip
        ((5, 13, 14), (5, 1, 14), (1, 1, 1)),  # a row
    ],
)
@pytest.mark.parametrize("whole_from", [incremental.WHOLE_FROM, 2.0])
def test_i3d_gives_the_full_evaluation(size, window, stride, whole_from, monkeypatch, randomise):
    monkeypatch.setattr(incremental, "WHOLE_FROM", whole_from)
    network = randomise(InceptionI3d(width=0.1))
    network.logits.conv3d.weight.data.mul_(100)  # fresh logits are nearly zero
    clip, baseline = (torch.rand(2, 3, *size, dtype=torch.float64) - 0.5) * 2
    chain = network.for_inference().chain()
    expected = full_evaluation(chain, clip, baseline, window, stride, whole=network)
    assert expected.abs().max() > 1e-3


def test_boxes_grow_as_worked_out_by_hand():
    layers = nn.Conv3d(CHANNELS, 2, 3, padding=1), nn.MaxPool3d(3), nn.Conv3d(2, 2, 3, padding=1)
    chain = with_head([layer_stage(layer.double()) for layer in layers], (3, 9, 9))
    activations = Activations(chain, torch.zeros(CHANNELS, 3, 9, 9, dtype=torch.float64))
    boxes = Boxes(np.array([[0, 3, 3]]), (3, 3, 3))
    # 5 of 9 rows and columns after the first stage; all three of them after the second.
    assert activations.sizes(boxes) == [(3, 5, 5), (1, 3, 3), (1, 3, 3)]


@settings(deadline=None, max_examples=80)
@given(data=st.data())
def test_reached_boxes_are_those_that_a_change_reaches(data):
    axes = [
        (data.draw(st.integers(1, 9)), data.draw(st.integers(1, 4)), data.draw(strides))
        for _ in range(3)
    ]
    size, kernel, stride = zip(*axes, strict=True)
    pads = [(data.draw(st.integers(0, k)), data.draw(st.integers(0, k))) for k in kernel]
    pads = tuple(
        (a, max(b, k - n - a)) if k > 1 or s > 1 else (0, 0)
        for (n, k, s), (a, b) in zip(axes, pads, strict=True)
    )
    box = tuple(data.draw(st.integers(1, n)) for n in size)
    at = [data.draw(st.integers(0, n - b)) for n, b in zip(size, box, strict=True)]
    if kernel == stride == (1, 1, 1):
        pads = ((0, 0),) * 3
    layer = nn.Conv3d(1, 1, kernel, stride)
    stage = Stage(layer, layer, kernel, stride, lambda size: pads)
    found = reached(stage, size, Boxes(np.array([at]), box))
    (first,), last = found.starts, found.starts[0] + np.array(found.size) - 1
    assert (first >= 0).all() and (last < stage.output_size(size)).all()
    x = torch.zeros(1, 1, *size)
    x[(0, 0, *(slice(a, a + n) for a, n in zip(at, box, strict=True)))] = torch.nan
    hit = layer(nn.functional.pad(x, flat_pads(pads)))[0, 0].isnan().nonzero().numpy()
    if len(hit):  # strides may step over a box
        np.testing.assert_array_equal([hit.min(axis=0), hit.max(axis=0)], [first, last])


def test_windows_of_different_sizes_share_boxes_that_hold_the_clip_around_them():
    clip, baseline = torch.rand(2, 1, 2, 4, 5)
    first, end = np.array([[0, 0, 0], [1, 2, 4]]), np.array([[1, 2, 2], [2, 4, 5]])
    boxes, values = fill(clip, baseline, first, end)
    assert boxes.size == (1, 2, 2)
    np.testing.assert_array_equal(boxes.starts, [[0, 0, 0], [1, 2, 3]])
    torch.testing.assert_close(values[0], baseline[:, :1, :2, :2])
    torch.testing.assert_close(values[1, ..., 1], baseline[:, 1:, 2:, 4])
    torch.testing.assert_close(values[1, ..., 0], clip[:, 1:, 2:, 3])


def test_a_head_alone_and_a_padded_pointwise_convolution_give_the_full_evaluation():
    layers = nn.Conv3d(CHANNELS, 3, 1, padding=1), nn.Conv3d(3, 2, 3)
    clip, baseline = torch.randn(2, CHANNELS, 4, 6, 7, dtype=torch.float64)
    for stages in ([], [layer_stage(layer.double()) for layer in layers]):
        chain = with_head(stages, (4, 6, 7))
        full_evaluation(chain, clip, baseline, (2, 2, 2), (1, 2, 2))
