"""Localisation scores against the protocol spelled out, scikit-learn, and numbers by hand."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import f1_score, jaccard_score, roc_auc_score

from vad_helpers.metrics import human_centric as hc

SHAPE = (3, 4, 5)

signed_maps = hnp.arrays(np.float64, SHAPE, elements=st.floats(-3, 3))
masks = hnp.arrays(np.bool_, SHAPE).filter(lambda m: m.any() and not m.all())


def by_the_book(attribution, mask, n=50):
    """The protocol, threshold by threshold."""
    positive = np.maximum(attribution.astype(np.float64), 0)
    ious, f1s = [], []
    for i in range(n + 1):
        selected = (positive > 0) & (positive >= i / n * positive.max())
        hits = (selected & mask).sum()
        ious.append(hits / (selected | mask).sum())
        f1s.append(2 * hits / (2 * hits + (selected & ~mask).sum() + (~selected & mask).sum()))
    return max(ious), max(f1s), roc_auc_score(mask.ravel(), positive.ravel())


def blob(shape=(4, 8, 9)):
    mask = np.zeros(shape, dtype=bool)
    mask[:, 2:5, 3:6] = True
    return mask


@pytest.mark.parametrize("kind", ["gaussian", "heavy", "levels", "subnormal", "mostly_negative"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_scores_are_those_of_the_protocol(kind, dtype):
    rng = np.random.default_rng(7)
    mask = rng.random((5, 16, 17)) < 0.1
    values = rng.standard_normal(mask.shape) + mask
    values = {
        "gaussian": values,
        "heavy": values**11,
        "levels": np.round(2 * values),
        "subnormal": values * 1e-42,
        "mostly_negative": values - 2,
    }[kind].astype(dtype)
    iou, f1, auc = by_the_book(values, mask)
    expected = {"iou": iou, "f1": f1, "auc": auc}
    assert hc.localization(values, mask) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("n_thresholds", [1, 2, 7, 200])
def test_number_of_thresholds_is_respected(n_thresholds):
    rng = np.random.default_rng(1)
    values, mask = rng.standard_normal((2, 9, 9)), rng.random((2, 9, 9)) < 0.3
    iou, f1, _ = by_the_book(values, mask, n_thresholds)
    found = hc.localization(values, mask, n_thresholds=n_thresholds)
    assert (found["iou"], found["f1"]) == pytest.approx((iou, f1), abs=1e-12)


def test_the_iou_curve_is_the_protocol_threshold_by_threshold():
    rng = np.random.default_rng(3)
    values, mask = rng.standard_normal((2, 9, 9)), rng.random((2, 9, 9)) < 0.3
    expected = []
    for i in range(8):
        selected = (values > 0) & (values >= i / 7 * values.max())
        expected.append((selected & mask).sum() / (selected | mask).sum())
    curve = hc.iou_curve(values, mask, n_thresholds=7)
    np.testing.assert_allclose(curve, expected, atol=1e-15)
    assert curve.max() == hc.localization(values, mask, n_thresholds=7)["iou"]


def test_the_iou_curve_without_a_mask_is_undefined_and_without_a_map_zero():
    values = np.ones((2, 3, 4))
    assert np.isnan(hc.iou_curve(values, np.zeros(values.shape, bool), n_thresholds=4)).all()
    np.testing.assert_array_equal(hc.iou_curve(-values, values > 0, n_thresholds=4), np.zeros(5))


def test_one_threshold_set_agrees_with_scikit_learn():
    rng = np.random.default_rng(2)
    mask, selected = rng.random((2, 6, 6)) < 0.4, rng.random((2, 6, 6)) < 0.4
    found = hc.localization(selected, mask)
    assert found["iou"] == pytest.approx(jaccard_score(mask.ravel(), selected.ravel()), abs=1e-12)
    assert found["f1"] == pytest.approx(f1_score(mask.ravel(), selected.ravel()), abs=1e-12)


def test_scores_by_hand():
    # Sets: {4}, {4, 3}, {4, 3, 2}, then all four; the mask holds 4 and 2.
    values, mask = np.array([[[4.0, 3.0, 2.0, 1.0, -5.0]]]), np.array([[[1, 0, 1, 0, 0]]])
    found = hc.localization(values, mask)
    # {4, 3, 2}: 2 of 3. AUC: 4 beats 3, 1, 0; 2 beats 1, 0; five pairs of six.
    assert found == pytest.approx({"iou": 2 / 3, "f1": 4 / 5, "auc": 5 / 6}, abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(masks)
def test_the_mask_itself_scores_one(mask):
    assert hc.localization(mask.astype(np.float32), mask) == {"iou": 1.0, "f1": 1.0, "auc": 1.0}


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.float64, SHAPE, elements=st.floats(0.1, 3)), masks)
def test_turning_a_positive_map_upside_down_turns_the_auc(values, mask):
    ranks = np.searchsorted(np.unique(values), values) + 1.0
    upside_down = ranks.max() + 1 - ranks
    flipped = hc.localization(upside_down, mask)["auc"]
    assert flipped == pytest.approx(1 - hc.localization(ranks, mask)["auc"], abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(signed_maps, masks, st.integers(0, 99))
def test_moving_voxels_of_map_and_mask_together_changes_nothing(values, mask, seed):
    order = np.random.default_rng(seed).permutation(values.size)
    moved = hc.localization(
        values.ravel()[order].reshape(SHAPE), mask.ravel()[order].reshape(SHAPE)
    )
    assert moved == hc.localization(values, mask)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.int8, SHAPE, elements=st.integers(-9, 9)), masks, st.integers(-60, 60))
def test_positive_scale_changes_nothing(values, mask, exponent):
    scaled = values * np.float32(2.0) ** exponent
    assert hc.localization(scaled, mask) == hc.localization(values.astype(np.float32), mask)


@settings(max_examples=25, deadline=None)
@given(hnp.arrays(np.int8, SHAPE, elements=st.integers(-9, 9)), masks)
def test_a_monotone_transform_leaves_the_auc(values, mask):
    values = values.astype(np.float64)
    stretched = np.where(values > 0, np.expm1(values), values)
    assert hc.localization(stretched, mask)["auc"] == hc.localization(values, mask)["auc"]


@settings(max_examples=25, deadline=None)
@given(signed_maps, masks)
def test_f1_follows_from_iou_clip_by_clip(values, mask):
    found = hc.localization(values, mask)
    assert found["f1"] == pytest.approx(2 * found["iou"] / (1 + found["iou"]), abs=1e-12)


@pytest.mark.parametrize("values", [np.zeros(SHAPE), -np.ones(SHAPE), np.full(SHAPE, -0.0)])
def test_a_map_without_positive_voxels_scores_zero_zero_half(values):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[0, 1, 1] = True
    assert hc.localization(values, mask) == {"iou": 0.0, "f1": 0.0, "auc": 0.5}
    assert hc.is_all_zero(values)


def test_one_positive_voxel_makes_a_map_not_all_zero():
    values = -np.ones(SHAPE)
    values[0, 0, 0] = 1e-30
    assert not hc.is_all_zero(values)


def test_a_constant_map_selects_everything():
    mask = blob()
    found = hc.localization(np.full(mask.shape, 3.0, dtype=np.float32), mask)
    assert found["auc"] == 0.5
    assert found["iou"] == pytest.approx(mask.mean())


def test_an_empty_mask_leaves_every_score_undefined():
    found = hc.localization(np.ones(SHAPE), np.zeros(SHAPE, dtype=bool))
    assert set(found) == {"iou", "f1", "auc"}
    assert np.isnan(list(found.values())).all()


def test_a_full_mask_leaves_only_auc_undefined():
    values = np.zeros(SHAPE)
    values[0] = 1
    found = hc.localization(values, np.ones(SHAPE, dtype=bool))
    assert (found["iou"], found["f1"]) == pytest.approx((1 / 3, 1 / 2))
    assert np.isnan(found["auc"])


def test_tensors_and_arrays_score_alike():
    rng = np.random.default_rng(5)
    values, mask = rng.standard_normal(SHAPE).astype(np.float32), rng.random(SHAPE) < 0.4
    assert hc.localization(torch.tensor(values), torch.tensor(mask)) == hc.localization(
        values, mask
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("score", [hc.localization, hc.frame_localization])
def test_maps_that_are_not_finite_are_refused(score, bad):
    values = np.ones(SHAPE)
    values[1, 1, 1] = bad
    with pytest.raises(ValueError, match="NaN or infinite"):
        score(values, np.ones(SHAPE, dtype=bool))


@pytest.mark.parametrize("score", [hc.localization, hc.frame_localization])
def test_shapes_must_agree(score):
    with pytest.raises(ValueError, match="expected the map's"):
        score(np.ones(SHAPE), np.ones((3, 5, 4), dtype=bool))


def test_a_mask_of_255s_is_refused():
    with pytest.raises(ValueError, match="only 0 and 1"):
        hc.localization(np.ones(SHAPE), np.full(SHAPE, 255, dtype=np.uint8))


def test_full_size_clips_take_a_fraction_of_a_second():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((20, 158, 237)).astype(np.float32)
    mask = rng.random(values.shape) < 0.03
    times = []
    for _ in range(5):
        start = time.process_time()
        hc.localization(values, mask)
        times.append(time.process_time() - start)
    assert min(times) < 0.2


def test_frame_level_scores_the_frame_of_the_largest_value():
    mask = blob()
    rng = np.random.default_rng(4)
    values = rng.standard_normal(mask.shape)
    values[2, 0, 0] = 50
    found = hc.frame_localization(values, mask)
    iou, f1, auc = by_the_book(values[2], mask[2])
    expected = {"iou": iou, "f1": f1, "auc": auc, "frame": 2, "n_tied": 1}
    assert found == pytest.approx(expected, abs=1e-12)


def test_frame_level_passes_over_frames_without_or_with_a_cut_anomaly():
    mask = blob()
    mask[0] = False
    mask[1, 7, 3] = True  # touches the lower border
    values = np.zeros(mask.shape)
    values[0], values[1], values[3, 3, 4] = 9, 8, 1
    found = hc.frame_localization(values, mask)
    assert (found["frame"], found["n_tied"]) == (3, 1)
    assert found["iou"] == pytest.approx(1 / 9)


@pytest.mark.parametrize("row, column", [(0, 4), (7, 4), (3, 0), (3, 8)])
def test_an_anomaly_at_any_border_is_not_entirely_visible(row, column):
    mask = blob()
    mask[1, row, column] = True
    assert hc.entirely_visible(mask).tolist() == [True, False, True, True]


def test_frame_thresholds_come_from_that_frames_own_maximum():
    mask = blob()
    values = mask * 1.0
    values[0, 0, 0] = 1000  # outshines frame 0, whose anomaly is out of sight
    mask[0] = False
    found = hc.frame_localization(values, mask)
    assert (found["iou"], found["frame"], found["n_tied"]) == (1.0, 1, 3)


def test_tied_frames_are_averaged():
    mask = blob()
    values = np.zeros(mask.shape)
    values[1] = mask[1]
    values[3, 2, 3] = 1
    found = hc.frame_localization(values, mask)
    assert (found["frame"], found["n_tied"]) == (1, 2)
    assert found["iou"] == pytest.approx((1 + 1 / 9) / 2)
    assert found["f1"] == pytest.approx((1 + 2 / 10) / 2)
    one = roc_auc_score(mask[3].ravel(), values[3].ravel())
    assert found["auc"] == pytest.approx((1 + one) / 2)


def test_the_first_of_tied_frames_may_be_scored_alone():
    mask = blob()
    values = np.zeros(mask.shape)
    values[1] = mask[1]
    values[3, 2, 3] = 1
    found = hc.frame_localization(values, mask, ties="first")
    assert found == {"iou": 1.0, "f1": 1.0, "auc": 1.0, "frame": 1, "n_tied": 1}


def test_frames_with_a_cut_anomaly_may_be_considered_too():
    mask = blob()
    mask[0] = False
    mask[1, 7, 3] = True  # touches the lower border
    values = np.zeros(mask.shape)
    values[0], values[1, 7, 3], values[3, 3, 4] = 9, 8, 1
    found = hc.frame_localization(values, mask, frames="masked")
    assert (found["frame"], found["n_tied"]) == (1, 1)
    assert found["iou"] == pytest.approx(1 / 10)


@pytest.mark.parametrize(("option", "value"), [("frames", "all"), ("ties", "last")])
def test_unknown_rules_for_the_frame_are_refused(option, value):
    with pytest.raises(ValueError, match=f"{option} is '{value}'"):
        hc.frame_localization(blob() * 1.0, blob(), **{option: value})


@pytest.mark.parametrize("fill", [0.0, -2.0])
def test_an_all_zero_map_ties_over_all_frames(fill):
    found = hc.frame_localization(np.full((4, 8, 9), fill), blob())
    assert found == {"iou": 0.0, "f1": 0.0, "auc": 0.5, "frame": 0, "n_tied": 4}


@pytest.mark.parametrize("everywhere", [False, True])
def test_without_an_entirely_visible_anomaly_the_frame_level_is_undefined(everywhere):
    found = hc.frame_localization(np.ones(SHAPE), np.full(SHAPE, everywhere))
    assert found.pop("n_tied") == 0
    assert set(found) == {"iou", "f1", "auc", "frame"}
    assert np.isnan(list(found.values())).all()


def test_one_frame_clips_have_a_frame_level():
    found = hc.frame_localization(blob()[:1] * 1.0, blob()[:1])
    assert found == {"iou": 1.0, "f1": 1.0, "auc": 1.0, "frame": 0, "n_tied": 1}


def test_frame_level_needs_three_axes():
    with pytest.raises(ValueError, match="3 axes"):
        hc.frame_localization(np.ones((4, 4)), np.ones((4, 4), dtype=bool))


def test_motion_auc_looks_at_moving_voxels_alone():
    rng = np.random.default_rng(8)
    values = rng.standard_normal((4, 8, 9))
    mask, motion = blob(), rng.random((4, 8, 9)) < 0.5
    found = hc.motion_localization(values, mask, motion)
    expected = roc_auc_score(mask[motion], np.maximum(values, 0)[motion])
    assert found["auc"] == pytest.approx(expected, abs=1e-12)
    assert found["n_moving"] == motion.sum()
    assert found["n_anomalous_moving"] == (motion & mask).sum()


def test_finding_motion_earns_nothing_among_moving_voxels():
    mask, motion = blob(), np.zeros((4, 8, 9), dtype=bool)
    motion[:, 1:7] = True
    assert hc.localization(motion, mask)["auc"] > 0.6
    assert hc.motion_localization(motion, mask, motion)["auc"] == 0.5


@pytest.mark.parametrize("moving", ["nothing", "anomaly", "background"])
def test_motion_auc_is_undefined_unless_both_kinds_move(moving):
    mask = blob()
    motion = {"nothing": mask & ~mask, "anomaly": mask, "background": ~mask}[moving]
    found = hc.motion_localization(np.ones(mask.shape), mask, motion)
    assert np.isnan(found["auc"])
    assert found["n_moving"] == motion.sum()


def test_motion_of_another_shape_is_refused_by_name():
    with pytest.raises(ValueError, match="motion has shape"):
        hc.motion_localization(np.ones(SHAPE), np.ones(SHAPE, dtype=bool), np.ones(3, dtype=bool))


def test_moving_voxels_by_hand():
    # Changes 5 6 4 5 7 13 in every frame: median 5.5, deviations .5 .5 1.5 .5 1.5 7.5, MAD 1.
    speeds = np.array([5.0, 6.0, 4.0, 5.0, 7.0, 13.0]).reshape(1, 1, 6)
    frames = np.arange(3).reshape(3, 1, 1) * speeds
    assert hc.moving_voxels(frames, n_mads=6).tolist() == [[[False] * 4 + [True] * 2]] * 3


def test_the_factor_is_three_by_default():
    # Changes 0 1 -1 0 3 3.1: deviations from .5 are .5 .5 1.5 .5 2.5 2.6, MAD 1.
    speeds = np.array([0.0, 1.0, -1.0, 0.0, 3.0, 3.1]).reshape(1, 1, 6)
    assert hc.moving_voxels(np.arange(3).reshape(3, 1, 1) * speeds)[0, 0].tolist() == (
        [False] * 5 + [True]
    )


def test_any_change_counts_where_the_clip_stands_still():
    frames = np.zeros((3, 4, 4))
    frames[1, 2, 2] = 1e-3
    expected = np.zeros(frames.shape, dtype=bool)
    expected[:, 2, 2] = True  # up, up again in the first frame, and down
    np.testing.assert_array_equal(hc.moving_voxels(frames), expected)


def test_a_deviation_counts_for_at_least_one_grey_step():
    # Most voxels stand still, so the deviation is 0; by three steps of 2, a change must exceed 6.
    speeds = np.array([0.0, 0.0, 0.0, 0.0, 2.0, 6.0, 8.0]).reshape(1, 1, 7)
    frames = np.arange(3).reshape(3, 1, 1) * speeds
    assert hc.moving_voxels(frames)[0, 0].tolist() == [False] * 4 + [True] * 3
    assert hc.moving_voxels(frames, step=2)[0, 0].tolist() == [False] * 6 + [True]


def test_a_deviation_above_one_grey_step_stays_what_it_is():
    frames = 100 * np.random.default_rng(3).standard_normal((5, 8, 8))
    np.testing.assert_array_equal(hc.moving_voxels(frames, step=1), hc.moving_voxels(frames))


def test_normalising_a_clip_does_not_change_what_moves():
    # Grey values are whole numbers, so many changes are on the limit; float32 blurs them.
    noise = np.random.default_rng(0).standard_normal((6, 20, 20))
    grey = (100 + np.round(3 * noise)).astype(np.uint8)
    normalised = ((torch.tensor(grey).float() / 255 - 0.45) / 0.225).expand(3, -1, -1, -1)
    for n_mads in (1, 2):
        np.testing.assert_array_equal(
            hc.moving_voxels(normalised, n_mads=n_mads), hc.moving_voxels(grey, n_mads=n_mads)
        )


def test_one_frame_does_not_move():
    assert not hc.moving_voxels(np.random.default_rng(0).random((1, 3, 3))).any()


def test_a_negative_number_of_deviations_is_refused():
    with pytest.raises(ValueError, match="n_mads"):
        hc.moving_voxels(np.zeros((2, 2, 2)), n_mads=-1)
    with pytest.raises(ValueError, match="step is -1"):
        hc.moving_voxels(np.zeros((2, 2, 2)), step=-1)


def test_leak_is_the_share_on_other_moving_voxels():
    mask, motion = np.zeros((2, 1, 4, 4), dtype=bool)
    mask[0, 0, :2] = True
    motion[0, 0] = motion[0, 1] = True
    values = np.zeros((1, 4, 4))
    values[0, 0] = [3, -9, 2, 1]  # two in the mask, two moving elsewhere
    values[0, 3, 3] = 4  # nothing moves here
    assert hc.leakage(values, mask, motion) == pytest.approx(3 / 10)
    assert hc.leakage(values, mask, np.zeros_like(mask)) == 0
    assert np.isnan(hc.leakage(-np.abs(values), mask, motion))
    assert hc.leakage(values, mask, motion, of="moving") == pytest.approx(3 / 6)
    assert np.isnan(hc.leakage(values, mask, np.zeros_like(mask), of="moving"))
    with pytest.raises(ValueError, match="of is 'mask'"):
        hc.leakage(values, mask, motion, of="mask")
    with pytest.raises(ValueError, match="motion"):
        hc.leakage(values, mask, motion[:, :2])


def test_a_flat_map_leaks_little_of_itself_and_its_fair_share_among_movers():
    mask, motion = np.zeros((2, 1, 10, 10), dtype=bool)
    mask[0, :2, :2], motion[0, :2, :6] = True, True
    flat = np.ones(mask.shape)
    assert hc.leakage(flat, mask, motion) == pytest.approx(8 / 100)
    assert hc.leakage(flat, mask, motion, of="moving") == pytest.approx(8 / 12)


def test_with_signs_the_order_of_negative_voxels_counts():
    rng = np.random.default_rng(4)
    values = rng.standard_normal((3, 8, 9)) - 1
    values[0, 3, 3] = 9.0  # the peak: this frame is scored
    mask = np.zeros(values.shape, dtype=bool)
    mask[:, 2:5, 2:5] = True
    found = hc.signed_aucs(values, mask)
    assert found["clip"] == pytest.approx(roc_auc_score(mask.ravel(), values.ravel()), abs=1e-12)
    expected = roc_auc_score(mask[0].ravel(), values[0].ravel())
    assert found["frame"] == pytest.approx(expected, abs=1e-12)
    assert found["clip"] != hc.localization(values, mask)["auc"]
    positive = np.abs(values)
    assert hc.signed_aucs(positive, mask)["clip"] == hc.localization(positive, mask)["auc"]


def test_signed_aucs_are_averaged_over_tied_frames_and_undefined_without_one():
    values, mask = np.zeros((3, 6, 6)), np.zeros((3, 6, 6), dtype=bool)
    mask[:2, 2, 2] = True
    values[:2, 2, 2] = 1.0
    values[1, 4, 4] = 1.0
    frames = [roc_auc_score(mask[t].ravel(), values[t].ravel()) for t in (0, 1)]
    assert hc.signed_aucs(values, mask)["frame"] == pytest.approx(np.mean(frames))
    empty = hc.signed_aucs(values, np.zeros_like(mask))
    assert np.isnan(empty["clip"]) and np.isnan(empty["frame"])


def test_concentration_by_hand():
    values = np.array([[[3.0, 1.0, -2.0, -2.0]]])
    mask = np.array([[[1, 0, 1, 0]]])
    expected = {"positive_share": 0.5, "share_in_mask": 0.75, "mask_share": 0.5}
    assert hc.concentration(values, mask) == pytest.approx(expected)


def test_an_even_map_has_the_masks_own_share_in_it():
    mask = np.zeros((2, 4, 5), dtype=bool)
    mask[0, :2, :2] = True
    found = hc.concentration(np.full(mask.shape, 0.3), mask)
    assert found["share_in_mask"] == pytest.approx(found["mask_share"]) == pytest.approx(0.1)
    assert found["positive_share"] == 1


def test_shares_of_nothing_are_undefined():
    mask = np.ones((1, 2, 2), dtype=bool)
    nothing = hc.concentration(np.zeros(mask.shape), mask)
    assert np.isnan([nothing["positive_share"], nothing["share_in_mask"]]).all()
    negative = hc.concentration(-np.ones(mask.shape), mask)
    assert negative["positive_share"] == 0 and np.isnan(negative["share_in_mask"])
