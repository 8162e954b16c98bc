"""Checked arrays, thresholds, and change from frame to frame."""

import numpy as np
import pytest
import torch

from vad_helpers.errors import InputError
from vad_helpers.metrics import arrays


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.float16([0.5, -1]), np.float32),
        (np.float32([0.5, -1]), np.float32),
        ([0.5, -1.0], np.float64),
        (np.int32([1, 0]), np.float64),
        (np.array([True, False]), np.float64),
        (torch.tensor([0.5, -1], requires_grad=True), np.float32),
        (torch.tensor([0.5, -1]).bfloat16(), np.float32),
    ],
)
def test_maps_of_any_kind_keep_single_precision_or_become_double(given, kept):
    found = arrays.as_map(given)
    assert found.dtype == kept
    assert found.tolist() in ([0.5, -1], [1, 0])


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.0, 1e-9, 0.019, 0.02, 0.5, 0.99, 1.0], [-1, 0, 0, 1, 25, 49, 50]),
        ([0.0, 0.0], [-1, -1]),
        (np.float32([1e-30, 1e30]), [0, 50]),  # too small for the quotient
    ],
)
def test_levels_say_the_highest_threshold_reached(values, expected):
    assert arrays.threshold_levels(np.asarray(values), 50).tolist() == expected


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("step", [1 / 50, 1.0, 2.0**-149])  # the last: smallest subnormal float32
def test_a_voxel_that_equals_a_threshold_reaches_it_in_either_precision(dtype, step):
    steps = np.arange(51)
    values = (steps / 50 if step == 1 / 50 else steps * step).astype(dtype)
    assert arrays.threshold_levels(values, 50).tolist() == [-1, *range(1, 51)]


def test_change_is_forward_in_the_first_frame_averages_channels_and_does_not_wrap_around():
    frames = torch.tensor([1, 4, 2], dtype=torch.uint8).reshape(3, 1, 1)
    assert arrays.grey_change(frames).ravel().tolist() == [3.0, 3.0, -2.0]
    channels = torch.stack([frames, 5 - frames])
    assert arrays.grey_change(channels).ravel().tolist() == [0, 0, 0]
    assert not arrays.grey_change(np.ones((1, 2, 2))).any()
    with pytest.raises(InputError, match=r"\(C, T, H, W\)"):
        arrays.grey_change(np.ones((2, 2)))
