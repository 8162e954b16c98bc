import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vad_helpers.attribution import attribute, explain
from vad_helpers.attribution.occlusion import count_windows
from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError


def starts(size, wide, step):
    """Starts of the windows along one axis: up to the first that reaches the end."""
    found = [0]
    while found[-1] + wide < size:
        found.append(found[-1] + step)
    return found


def brute_force(model, clip, baseline, window, stride):
    probability = Probability(model)
    total, cover = np.zeros(clip.shape[1:]), np.zeros(clip.shape[1:])
    whole = float(probability(clip[None]))
    axes = [starts(*axis) for axis in zip(clip.shape[1:], window, stride, strict=True)]
    for corner in itertools.product(*axes):
        # Slices end at the border by themselves: the last window is cut there.
        box = tuple(slice(at, at + wide) for at, wide in zip(corner, window, strict=True))
        filled = clip.clone()
        filled[(slice(None), *box)] = baseline[(slice(None), *box)]
        total[box] += whole - float(probability(filled[None]))
        cover[box] += 1
    assert cover.min() >= 1
    return total / cover, int(np.prod([len(axis) for axis in axes]))


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
@torch.no_grad()
def test_equals_brute_force(window, stride, batch_size, tiny_net, make_clip):
    tiny_net.double().eval()
    clip, baseline = (make_clip(seed=s, grey=False, dtype=torch.float64) for s in (0, 1))
    expected, n_windows = brute_force(tiny_net, clip, baseline, window, stride)
    for key in ("occlusion_lp", "occlusion_sp"):
        done = attribute(
            tiny_net,
            clip,
            key,
            baseline=baseline,
            window=window,
            stride=stride,
            batch_size=batch_size,
        )
        np.testing.assert_allclose(done.map, expected, rtol=1e-4, atol=1e-8)
        assert done.model_calls == n_windows + 1


def test_one_window_for_everything_has_the_whole_fall_everywhere(make_clip, as_logits):
    def model(clips):
        return as_logits(0.5 + clips.flatten(1).mean(dim=1) / 4)

    clip = make_clip(dtype=torch.float64)
    found = explain(
        model, clip, "occlusion_lp", baseline="black", window=(4, 10, 12), stride=(1, 1, 1)
    )
    np.testing.assert_allclose(found, (float(clip.mean()) + 1) / 4, rtol=1e-5)


def test_all_channels_are_removed_together(make_clip, as_logits):
    def product(clips):  # falls only if more than one channel is filled
        return as_logits(0.9 - 0.5 * (clips.mean(dim=(2, 3, 4)) < 0).all(dim=1).double())

    found = explain(
        product,
        make_clip(low=0.5, high=0.9),
        "occlusion_lp",
        baseline="black",
        window=(4, 10, 12),
        stride=(4, 10, 12),
    )
    np.testing.assert_allclose(found, 0.5, rtol=1e-5)


def test_a_list_from_a_file_passes_for_a_window(tiny_net, make_clip):
    found = [
        explain(tiny_net, make_clip(), "occlusion_sp", window=kind((2, 5, 6)), stride=(2, 5, 6))
        for kind in (tuple, list)
    ]
    np.testing.assert_array_equal(*found)


@given(
    axes=st.lists(
        st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(1, 30)),
        min_size=3,
        max_size=3,
    )
)
@settings(deadline=None, max_examples=60)
def test_count_is_that_of_the_listed_windows(axes):
    axes = [(max(size, wide), wide, min(wide, step)) for size, wide, step in axes]
    shape, window, stride = zip(*axes, strict=True)
    expected = np.prod([len(starts(*axis)) for axis in axes])
    assert count_windows((3, *shape), window, stride) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": (5, 4, 4)}, "5 frames, but the clip only 4; .* window=\\(4, 4, 4\\)"),
        ({"window": (2, 11, 4)}, "11 rows, but the clip only 10"),
        ({"window": (2, 4, 13)}, "13 columns, but the clip only 12"),
        ({"stride": (1, 5, 1)}, "stride is 5 rows, its window only 4"),
        ({"window": (0, 4, 4)}, "numbers above 0"),
        ({"stride": (1, 0, 1)}, "numbers above 0"),
        ({"window": (4, 4)}, "give 3 values"),
        ({"window": 4}, "give 3 values"),
        ({"window": (2, 4, 4.0)}, "whole number"),
    ],
)
def test_impossible_windows_are_refused(settings, message, tiny_net, make_clip):
    settings = {"window": (2, 4, 4), "stride": (1, 1, 1), **settings}
    with pytest.raises(InputError, match=message):
        explain(tiny_net, make_clip(), "occlusion_sp", **settings)


def test_the_papers_window_on_a_small_clip_says_which_would_fit(tiny_net, make_clip):
    with pytest.raises(InputError, match="window=\\(4, 10, 12\\)"):
        explain(tiny_net, make_clip(), "occlusion_lp")
