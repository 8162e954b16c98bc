import numpy as np
import pytest
import skimage.segmentation
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vad_helpers.attribution.superpixels import slic
from vad_helpers.errors import InputError


@given(
    n_segments=st.integers(1, 40),
    compactness=st.floats(0.01, 100),
    seed=st.integers(0, 9),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(1, 12)),
)
@settings(deadline=None, max_examples=40)
def test_labels_are_contiguous_from_zero(n_segments, compactness, seed, shape):
    values = np.random.default_rng(seed).uniform(-1, 1, (3, *shape)).astype(np.float32)
    labels = slic(torch.from_numpy(values), n_segments=n_segments, compactness=compactness)
    assert labels.shape == shape and labels.dtype == np.int64
    assert np.unique(labels).tolist() == list(range(labels.max() + 1))


def test_full_size_clip_gives_77_superpixels_through_all_frames(make_clip):
    labels = slic(make_clip((20, 158, 237)))
    assert labels.max() + 1 == 77
    assert all(len(np.unique(frame)) == 77 for frame in labels)


def test_equals_scikit_image_on_the_grey_clip(make_clip):
    grey = torch.randint(0, 256, (6, 20, 24), generator=torch.Generator().manual_seed(0)) / 255
    expected = skimage.segmentation.slic(
        grey.numpy(), n_segments=30, compactness=0.1, start_label=0, channel_axis=None
    )
    labels = slic(grey.expand(3, 6, 20, 24), n_segments=30, compactness=0.1)
    np.testing.assert_array_equal(labels, expected)


def test_the_scale_of_grey_does_not_matter():
    # Multiples of 1/128 survive the change of scale without rounding.
    grey = torch.randint(0, 128, (6, 20, 24), generator=torch.Generator().manual_seed(1)) / 128
    clip = grey.expand(3, 6, 20, 24)
    options = {"n_segments": 20, "compactness": 0.1}
    np.testing.assert_array_equal(slic(clip, **options), slic(2 * clip - 1, **options))


def test_low_compactness_follows_the_object_and_high_the_grid():
    clip = torch.zeros(3, 2, 20, 20)
    clip[:, :, 3:10, 5:16] = 1.0
    bright = clip[0].numpy() > 0
    follows = slic(clip, n_segments=8, compactness=0.01)
    assert not set(follows[bright]) & set(follows[~bright])
    grid = slic(clip, n_segments=8, compactness=100.0)
    assert set(grid[bright]) & set(grid[~bright])


def test_a_constant_clip_falls_into_a_grid():
    labels = slic(torch.zeros(3, 2, 20, 20), n_segments=4)
    assert labels.max() + 1 == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_segments": 0}, "n_segments is 0"),
        ({"n_segments": 2.5}, "whole number"),
        ({"compactness": 0.0}, "above 0"),
        ({"compactness": "60"}, "finite number"),
    ],
)
def test_bad_options_are_refused(options, message, make_clip):
    with pytest.raises(InputError, match=message):
        slic(make_clip(), **options)


def test_a_clip_of_the_wrong_shape_is_refused():
    with pytest.raises(InputError, match="give one clip"):
        slic(torch.zeros(4, 10, 12))
