import numpy as np
import pytest
import skimage.segmentation
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vad_helpers.attribution import superpixels
from vad_helpers.attribution.superpixels import slic
from vad_helpers.errors import InputError


@given(
    n_segments=st.integers(1, 40),
    compactness=st.floats(0.01, 100),
    seed=st.integers(0, 9),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 12), st.integers(1, 12)),
)
@settings(deadline=None, max_examples=30)
def test_labels_are_contiguous_from_zero(n_segments, compactness, seed, shape):
    values = np.random.default_rng(seed).uniform(-1, 1, (3, *shape)).astype(np.float32)
    labels = slic(torch.from_numpy(values), n_segments=n_segments, compactness=compactness)
    assert labels.shape == shape and labels.dtype == np.int64
    assert np.unique(labels).tolist() == list(range(labels.max() + 1))
    np.testing.assert_array_equal(superpixels.check(labels.astype(np.uint8), shape), labels)


def test_full_size_clip_gives_77_superpixels_through_all_frames(make_clip):
    labels = slic(make_clip((20, 158, 237)))
    assert all(len(np.unique(frame)) == labels.max() + 1 == 77 for frame in labels)


def test_equals_scikit_image_on_the_grey_clip_whatever_its_scale():
    # Multiples of 1/128 survive the change of scale without rounding.
    grey = torch.randint(0, 128, (6, 20, 24), generator=torch.Generator().manual_seed(0)) / 128
    clip, options = grey.expand(3, 6, 20, 24), {"n_segments": 30, "compactness": 0.1}
    expected = skimage.segmentation.slic(grey.numpy(), **options, start_label=0, channel_axis=None)
    np.testing.assert_array_equal(slic(clip, **options), expected)
    np.testing.assert_array_equal(slic(2 * clip - 1, **options), expected)
    assert slic(torch.zeros(3, 2, 20, 20), n_segments=4).max() + 1 == 4  # a grid


def test_labels_that_do_not_fit_the_clip_are_refused(quarters):
    wrong = quarters[:, :, 1:], quarters.astype(float), quarters > 0
    for labels in (*wrong, quarters + 1, quarters - 1, 3 * quarters):
        with pytest.raises(InputError, match="segments has"):
            superpixels.check(labels, quarters.shape)
