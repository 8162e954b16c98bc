import math

import numpy as np
import pytest
import torch
from captum.attr import Occlusion

from benchmarks import plain_captum
from vad_helpers.attribution import attribute, explain
from vad_helpers.attribution.occlusion import IncrementalOcclusion
from vad_helpers.errors import InputError
from vad_helpers.inference.chain import sequential

FLOAT32 = 1e-6  # of the maximum: Captum adds up its map in float32 whatever the inputs are


@pytest.mark.parametrize(
    ("window", "stride"),
    [
        ((2, 4, 4), (1, 3, 4)),  # windows overlap and the last ones are cut
        ((2, 5, 4), (2, 5, 4)),  # windows tile the clip
        ((3, 7, 7), (2, 6, 5)),
        ((4, 10, 12), (9, 99, 1)),  # one window for everything
        ((1, 1, 12), (1, 1, 1)),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 4])
def test_explain_equals_captum_and_counts_windows(window, stride, batch_size, tiny_net, make_clip):
    clip, baseline = (make_clip(seed=s, grey=False, dtype=torch.float64) for s in (0, 1))
    wrapped = plain_captum.AnomalyProbability(tiny_net.double()).eval()
    options = {"window": window, "stride": stride}
    expected = plain_captum.METHODS["occlusion_sp"](wrapped, clip, baseline, **options).numpy()
    done = attribute(
        tiny_net, clip, "occlusion_sp", baseline=baseline, batch_size=batch_size, **options
    )
    np.testing.assert_allclose(done.map, expected, atol=FLOAT32 * np.abs(expected).max())
    # Along each axis, the windows up to the first that reaches the end.
    axes = zip(clip.shape[1:], window, stride, strict=True)
    assert done.model_calls == 1 + math.prod(1 + math.ceil((n - w) / s) for n, w, s in axes)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": (5, 4, 4)}, "5 frames, the clip 4; .* window=\\(4, 4, 4\\)"),
        ({"window": (2, 11, 13)}, "11 rows, the clip 10; .* window=\\(2, 10, 12\\)"),
        ({"stride": (1, 5, 1)}, "stride is 5 rows, its window only 4"),
        ({"stride": (0, 4, 4)}, "stride is 0"),
        *(({"window": bad}, "window is") for bad in ((4, 4), 4, (2, 4, 4.0))),
    ],
)
def test_impossible_windows_are_refused(settings, message, tiny_net, make_clip):
    settings = {"window": (2, 4, 4), "stride": (1, 1, 1), **settings}
    with pytest.raises(InputError, match=message):
        explain(tiny_net, make_clip(), "occlusion_sp", **settings)


def squares(clips):
    """(N, C, T, H, W) -> (N,): every value counts, and no two alike."""
    weights = torch.linspace(0.5, 2, clips[0].numel(), dtype=clips.dtype).view(clips.shape[1:])
    return (weights * clips**2).mean(dim=(1, 2, 3, 4))


def pairs(clips):
    """The same with a second output."""
    return torch.stack([squares(clips), squares(clips.flip(-1)) ** 2], dim=1)


def small_chain():
    with torch.random.fork_rng():
        torch.manual_seed(2)
        layers = torch.nn.Conv3d(3, 4, 3, padding=1), torch.nn.ReLU(), torch.nn.MaxPool3d((1, 2, 2))
    return sequential([layer.double() for layer in layers], lambda x: x.mean(dim=(2, 3, 4))[:, :2])


MODELS = {"one output": squares, "function": pairs, "chain": small_chain()}


@pytest.fixture
def clips(make_clip):
    return torch.stack([make_clip(seed=s, grey=False, dtype=torch.float64) for s in (0, 1)])


WINDOW = (3, 2, 4, 5)
FILLS = {
    "nothing": lambda clips: None,
    "a number": lambda clips: 0.3,
    "one for all": lambda clips: clips[:1].flip(3),
    "one each": lambda clips: clips.flip(2),
}


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize(
    ("name", "target", "window", "strides"),
    [
        *((name, target, WINDOW, WINDOW) for name in ("function", "chain") for target in (0, -1)),
        *((name, 1, (3, 3, 8, 10), None) for name in ("function", "chain")),
        ("one output", None, WINDOW, (3, 1, 3, 4)),
        ("one output", None, (3, 3, 7, 7), (3, 2, 6, 5)),
        ("one output", None, (3, 4, 10, 12), (1, 4, 9, 9)),
    ],
)
def test_batches_equal_captums_in_every_channel(name, target, window, strides, fill, clips):
    before, options = clips.clone(), {"baselines": FILLS[fill](clips), "target": target}
    expected = Occlusion(MODELS[name]).attribute(clips, window, strides, **options)
    found = IncrementalOcclusion(MODELS[name]).attribute(clips, window, strides, **options)
    assert found.shape == clips.shape and found.dtype == clips.dtype
    largest = float(expected.abs().max())
    assert largest > 0 and float((found - expected).abs().max()) <= FLOAT32 * largest
    found[:, 0] = 7  # channels do not share memory
    assert not (found[:, 1] == 7).any() and torch.equal(clips, before)


def test_windows_and_inputs_that_do_not_fit_are_refused(clips):
    wrong = [((1, 2, 4, 4),), ((2, 4, 4),)]  # not all channels
    wrong += [(WINDOW, (1, 1, 1)), (WINDOW, (3, 0, 1, 1)), ((3, 0, 4, 4),)]
    wrong += [((3, 5, 4, 4),), (WINDOW, (3, 2, 5, 4))]  # above the clip; voxels between windows
    for arguments in wrong:
        with pytest.raises(InputError, match="window|stride"):
            IncrementalOcclusion(pairs).attribute(clips, *arguments, target=0)
    for inputs in (clips[0], (9 * clips).long()):
        with pytest.raises(InputError):
            IncrementalOcclusion(squares).attribute(inputs, WINDOW)


def test_a_target_must_be_a_column_of_the_output(clips):
    wrong = (pairs, None), (pairs, 2), (pairs, -3), (squares, 0), (torch.mean, None)
    for model, target in wrong:
        with pytest.raises(InputError, match=f"and target is {target}"):
            IncrementalOcclusion(model).attribute(clips, WINDOW, WINDOW, target=target)
