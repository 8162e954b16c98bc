"""Reference maps: shapes, ranges, and what each is supposed to know."""

import numpy as np
import pytest
import torch

from vad_helpers.metrics import references
from vad_helpers.metrics.human_centric import localization

SHAPE = (4, 10, 14)


@pytest.mark.parametrize(
    "make",
    [
        lambda: references.random_map(SHAPE, seed=0),
        lambda: references.centre_prior(SHAPE),
        lambda: references.constant_map(SHAPE),
        lambda: references.frame_difference(torch.rand(3, *SHAPE)),
    ],
)
def test_references_are_float32_maps_that_are_not_negative(make):
    made = make()
    assert made.dtype == np.float32
    assert made.shape == SHAPE
    assert made.min() >= 0
    assert made.flags.c_contiguous


def test_random_maps_are_uniform_and_follow_their_seed():
    made = references.random_map((10, 100, 100), seed=1)
    assert made.max() < 1
    assert made.mean() == pytest.approx(0.5, abs=0.01)
    assert made.std() == pytest.approx(12**-0.5, abs=0.01)
    np.testing.assert_array_equal(made, references.random_map((10, 100, 100), seed=1))
    assert (made != references.random_map((10, 100, 100), seed=2)).any()


def test_centre_prior_is_a_gaussian_of_a_quarter_of_each_side():
    frame = references.centre_prior((2, 9, 21))[1]
    assert frame[4, 10] == 1
    # One standard deviation from the middle, down and across.
    assert np.interp(4 + 9 / 4, np.arange(9), np.log(frame[:, 10])) == pytest.approx(-0.5, abs=0.02)
    assert np.log(frame[4, 10 + 21 // 4]) == pytest.approx(-0.5 * (5 / 5.25) ** 2, abs=1e-5)
    np.testing.assert_allclose(frame, frame[::-1, ::-1], rtol=1e-6)


def test_centre_prior_stands_still_and_widens_with_sigma():
    narrow, wide = references.centre_prior(SHAPE), references.centre_prior(SHAPE, sigma=0.5)
    np.testing.assert_array_equal(narrow, np.broadcast_to(narrow[:1], SHAPE))
    assert wide[0, 0, 0] > narrow[0, 0, 0]


def test_frame_difference_finds_what_moves():
    clip, mask = np.zeros((3, *SHAPE), dtype=np.float32), np.zeros(SHAPE, dtype=bool)
    for t in range(4):
        clip[:, t, 4, 2 * t + 2] = 1
        mask[t, 4, max(2 * t, 2) : 2 * t + 3] = True
    found = references.frame_difference(clip)
    np.testing.assert_array_equal(found[0], found[1])
    assert found[2, 4, 4] == found[2, 4, 6] == 1
    assert localization(found, mask)["auc"] > 0.8


def test_frame_difference_does_not_wrap_around_in_uint8():
    grey = np.zeros((2, 1, 2), dtype=np.uint8)
    grey[0, 0, 0], grey[1, 0, 1] = 200, 100
    assert references.frame_difference(grey)[1, 0].tolist() == [200, 100]


def test_frame_difference_of_one_frame_is_zero():
    assert not references.frame_difference(torch.rand(3, 1, 4, 4)).any()


@pytest.mark.parametrize("shape", [(10, 14), (4, 0, 14), (4, 10.0, 14)])
@pytest.mark.parametrize(
    "make",
    [lambda s: references.random_map(s, seed=0), references.centre_prior, references.constant_map],
)
def test_shapes_that_are_no_clip_are_refused(make, shape):
    with pytest.raises(ValueError, match="expected"):
        make(shape)


def test_a_bump_without_width_is_refused():
    with pytest.raises(ValueError, match="sigma"):
        references.centre_prior(SHAPE, sigma=0)
