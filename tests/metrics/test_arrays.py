"""Checked arrays, thresholds and the exact AUC, against scikit-learn and plain counting."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import roc_auc_score

from vad_helpers.metrics import arrays


@pytest.mark.parametrize(
    ("given_dtype", "expected"),
    [
        (np.float16, np.float32),
        (np.float32, np.float32),
        (np.float64, np.float64),
        (np.int32, np.float64),
        (bool, np.float64),
    ],
)
def test_maps_keep_single_precision_and_widen_the_rest(given_dtype, expected):
    assert arrays.as_map(np.ones((1, 2, 2), dtype=given_dtype)).dtype == expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_tensors_come_in_with_gradient_and_in_bfloat16(dtype):
    tensor = torch.tensor([[[0.5, -1.0]]], dtype=dtype, requires_grad=True)
    np.testing.assert_array_equal(arrays.as_map(tensor), np.float32([[[0.5, -1.0]]]))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_map_that_is_not_finite_is_refused_with_the_number_of_bad_values(bad):
    values = np.ones((1, 2, 2))
    values[0, 0, :] = bad
    with pytest.raises(ValueError, match="holds 2 NaN or infinite"):
        arrays.as_map(values)


@pytest.mark.parametrize(
    ("values", "ndim", "message"),
    [
        (np.ones((2, 2)), 3, "3 axes"),
        (np.ones((0, 2, 2)), None, "non-empty"),
        (np.array(["a"]), None, "real numbers"),
        (np.ones(2, dtype=complex), None, "real numbers"),
    ],
)
def test_misshapen_or_odd_maps_are_refused(values, ndim, message):
    with pytest.raises(ValueError, match=message):
        arrays.as_map(values, ndim=ndim)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_binary_masks_of_any_type_become_bool(dtype):
    mask = arrays.as_mask(np.array([0, 1, 1], dtype=dtype), shape=(3,))
    assert mask.dtype == bool
    assert mask.tolist() == [False, True, True]


@pytest.mark.parametrize("values", [[0, 255], [0.0, 0.5], [0.0, np.nan], ["0", "1"]])
def test_masks_with_other_values_are_refused(values):
    with pytest.raises(ValueError, match="only 0 and 1"):
        arrays.as_mask(np.array(values), shape=(2,))


def test_a_mask_of_another_shape_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"motion has shape \(2,\)"):
        arrays.as_mask(np.zeros(2, dtype=bool), shape=(3,), name="motion")


def naive_auc(scores, labels):
    wins = [
        (p > n) + 0.5 * (p == n) for p in scores[labels].tolist() for n in scores[~labels].tolist()
    ]
    return sum(wins) / len(wins)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.float32, 24, elements=st.floats(0, 4, width=32)),
    hnp.arrays(np.bool_, 24),
    st.booleans(),
)
def test_auc_counts_pairs_with_ties_as_half(scores, labels, coarse):
    labels[:2] = True, False
    scores = np.round(scores) if coarse else scores
    assert arrays.exact_auc(scores, labels) == pytest.approx(naive_auc(scores, labels), abs=1e-14)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("shape_of_values", ["continuous", "heavy", "levels", "subnormal"])
def test_auc_is_that_of_scikit_learn(share, shape_of_values):
    rng = np.random.default_rng(3)
    scores = np.abs(rng.standard_normal(20_000)).astype(np.float32)
    if shape_of_values == "heavy":
        scores = scores**12
    elif shape_of_values == "levels":
        scores = np.round(scores)
    elif shape_of_values == "subnormal":
        scores = np.round(scores * 5).astype(np.float32) * np.float32(1e-45)
    labels = rng.random(scores.size) < share
    expected = roc_auc_score(labels, scores.astype(np.float64))
    assert arrays.exact_auc(scores, labels) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("labels", [[True, True], [False, False]])
def test_auc_of_one_class_is_undefined(labels):
    assert np.isnan(arrays.exact_auc(np.array([1.0, 2.0]), np.array(labels)))


def test_levels_say_the_highest_threshold_reached():
    positive = np.array([0.0, 1e-9, 0.019, 0.02, 0.5, 0.99, 1.0])
    assert arrays.threshold_levels(positive, 50).tolist() == [-1, 0, 0, 1, 25, 49, 50]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("peak", [1.0, 50.0, 2.0**-140])
def test_a_voxel_that_equals_a_threshold_reaches_it_in_either_precision(dtype, peak):
    steps = np.arange(51)
    values = (steps / 50 if peak == 1 else steps * (peak / 50)).astype(dtype)
    if peak < 1e-30:  # subnormal float32: only multiples of 2**-149 exist
        values = (steps * 2.0**-149).astype(dtype)
    expected = [-1, *range(1, 51)]
    assert arrays.threshold_levels(values, 50).tolist() == expected


def test_a_map_of_zeros_is_in_no_set():
    assert arrays.threshold_levels(np.zeros(3, dtype=np.float32), 50).tolist() == [-1, -1, -1]


def test_values_too_small_for_the_quotient_are_still_in_the_lowest_set():
    positive = np.array([1e-30, 1e30], dtype=np.float32)
    assert arrays.threshold_levels(positive, 50).tolist() == [0, 50]


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "50"])
def test_a_count_must_be_a_positive_integer(value):
    with pytest.raises(ValueError, match="n_thresholds is .*at least 1"):
        arrays.threshold_levels(np.ones(2), value)


def test_grey_averages_channels_and_takes_frames_as_they_are():
    clip = torch.arange(24.0).reshape(3, 2, 2, 2)
    np.testing.assert_array_equal(arrays.grey_clip(clip), clip.mean(dim=0).numpy())
    np.testing.assert_array_equal(arrays.grey_clip(clip[0]), clip[0].numpy())


def test_grey_refuses_other_numbers_of_axes():
    with pytest.raises(ValueError, match=r"\(C, T, H, W\)"):
        arrays.grey_clip(np.ones((2, 2)))


def test_time_difference_takes_the_forward_difference_first():
    frames = np.array([1.0, 4.0, 2.0]).reshape(3, 1, 1)
    assert arrays.time_difference(frames).ravel().tolist() == [3.0, 3.0, -2.0]


def test_time_difference_of_one_frame_is_zero():
    assert not arrays.time_difference(np.ones((1, 2, 2))).any()
