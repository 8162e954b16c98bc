"""Reference maps: shapes, ranges, and what each is supposed to know."""

import numpy as np
import pytest
import torch

from vad_helpers.metrics import references
from vad_helpers.metrics.human_centric import localization

SHAPE = (4, 10, 14)


def test_references_are_float32_maps_that_are_not_negative():
    made = references.random_map(SHAPE, seed=0), references.centre_prior(SHAPE)
    made += references.constant_map(SHAPE), references.frame_difference(torch.rand(3, *SHAPE))
    for one in made:
        assert one.dtype == np.float32 and one.shape == SHAPE
        assert one.min() >= 0 and one.flags.c_contiguous


def test_random_maps_are_uniform_and_follow_their_seed():
    made = references.random_map((10, 100, 100), seed=1)
    assert made.max() < 1
    assert made.mean() == pytest.approx(0.5, abs=0.01)
    assert made.std() == pytest.approx(12**-0.5, abs=0.01)
    np.testing.assert_array_equal(made, references.random_map((10, 100, 100), seed=1))
    assert (made != references.random_map((10, 100, 100), seed=2)).any()


def test_centre_prior_is_a_still_gaussian_of_a_quarter_of_each_side():
    made = references.centre_prior((2, 9, 21))
    np.testing.assert_array_equal(made[0], made[1])
    down, across = (np.arange(n) - n // 2 for n in (9, 21))
    expected = np.exp(-0.5 * ((down[:, None] / (9 / 4)) ** 2 + (across / (21 / 4)) ** 2))
    np.testing.assert_allclose(made[1], expected, rtol=1e-5)
    assert references.centre_prior((2, 9, 21), sigma=0.5)[0, 0, 0] > made[0, 0, 0]


def test_frame_difference_finds_what_moves():
    clip, mask = np.zeros((3, *SHAPE), dtype=np.float32), np.zeros(SHAPE, dtype=bool)
    for t in range(4):
        clip[:, t, 4, 2 * t + 2] = 1
        mask[t, 4, max(2 * t, 2) : 2 * t + 3] = True
    found = references.frame_difference(clip)
    np.testing.assert_array_equal(found[0], found[1])
    assert found[2, 4, 4] == found[2, 4, 6] == 1
    assert localization(found, mask)["auc"] > 0.8
