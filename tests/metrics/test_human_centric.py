"""Localisation scores against the protocol spelled out, scikit-learn, and numbers by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import auc, f1_score, jaccard_score, roc_auc_score

from vad_helpers.errors import InputError
from vad_helpers.metrics import human_centric as hc

SHAPE = (3, 4, 5)
NONE, FULL = np.zeros(SHAPE, dtype=bool), np.ones(SHAPE, dtype=bool)
DOT, FIRST_FRAME = np.arange(60).reshape(SHAPE) == 26, np.arange(60).reshape(SHAPE) < 20
PERFECT = {"iou": 1.0, "f1": 1.0, "auc": 1.0}


def by_the_book(attribution, mask, n=50):
    """The protocol with scikit-learn, threshold by threshold: IoU at each, and the scores."""
    positive, mask = np.maximum(attribution.astype(np.float64), 0).ravel(), mask.ravel()
    sets = [(positive > 0) & (positive >= i / n * positive.max()) for i in range(n + 1)]
    ious, f1s = ([score(mask, found) for found in sets] for score in (jaccard_score, f1_score))
    return ious, {"iou": max(ious), "f1": max(f1s), "auc": roc_auc_score(mask, positive)}


@pytest.fixture
def blob():
    mask = np.zeros((4, 8, 9), dtype=bool)
    mask[:, 2:5, 3:6] = True
    return mask


@pytest.mark.parametrize(
    ("kind", "n_thresholds"),
    [("gaussian", 50), ("heavy", 1), ("levels", 7), ("subnormal", 50), ("mostly_negative", 120)],
)
@pytest.mark.parametrize(("dtype", "share"), [(np.float32, 0.1), (np.float64, 0.97)])
def test_scores_are_those_of_the_protocol(kind, n_thresholds, dtype, share):
    rng = np.random.default_rng(7)
    mask = rng.random((5, 16, 17)) < share
    values = rng.standard_normal(mask.shape) + mask
    values = {
        "gaussian": values,
        "heavy": values**11,
        "levels": np.round(2 * values),
        "subnormal": values * 1e-42,
        "mostly_negative": values - 2,
    }[kind].astype(dtype)
    ious, expected = by_the_book(values, mask, n_thresholds)
    found = hc.localization(values, mask, n_thresholds=n_thresholds)
    assert found == pytest.approx(expected, abs=1e-12)
    curve = hc.iou_curve(torch.tensor(values), torch.tensor(mask), n_thresholds=n_thresholds)
    np.testing.assert_allclose(curve, ious, atol=1e-15)


@pytest.mark.parametrize(
    ("values", "mask", "iou", "f1", "auc"),
    [
        (np.zeros(SHAPE), DOT, 0, 0, 0.5),
        (-np.ones(SHAPE), DOT, 0, 0, 0.5),
        (np.full(SHAPE, 0.3), DOT, 1 / 60, 2 / 61, 0.5),  # a constant selects everything
        (FIRST_FRAME, NONE, np.nan, np.nan, np.nan),
        (FIRST_FRAME, FULL, 1 / 3, 1 / 2, np.nan),
    ],
)
def test_maps_and_masks_without_contrast(values, mask, iou, f1, auc):
    found = hc.localization(values, mask)
    assert found == pytest.approx({"iou": iou, "f1": f1, "auc": auc}, nan_ok=True)
    curve = hc.iou_curve(values, mask, n_thresholds=4)
    assert curve.tolist() == pytest.approx([iou] * 5, nan_ok=True)
    assert hc.is_all_zero(values) == (iou == 0)
    assert not hc.is_all_zero(values + 1e-30 + 2 * DOT)


@pytest.mark.parametrize(
    "score",
    [hc.localization, hc.iou_curve, hc.frame_localization, hc.signed_aucs, hc.concentration],
)
def test_what_cannot_be_scored_is_refused(score):
    for bad in (np.nan, np.inf):
        with pytest.raises(InputError, match="60 NaN or infinite"):
            score(np.full(SHAPE, bad), FULL)
    with pytest.raises(InputError, match="expected the map's"):
        score(np.ones(SHAPE), np.ones((3, 5, 4), dtype=bool))
    for fill in (255, 0.5, np.nan, "1"):
        with pytest.raises(InputError, match="only 0 and 1"):
            score(np.ones(SHAPE), np.full(SHAPE, fill))
    for bad, words in ((np.full(SHAPE, "a"), "real"), (0j + FULL, "real"), (FULL[:0], "non-empty")):
        with pytest.raises(InputError, match=words):
            score(bad, np.ones(bad.shape, bool))


def test_frame_level_scores_the_frame_of_the_largest_value_also_with_signs(blob):
    values = np.random.default_rng(4).standard_normal(blob.shape) - 1
    values[2, 0, 0] = 50
    _, scores = by_the_book(values[2], blob[2])
    expected = {**scores, "frame": 2, "n_tied": 1}
    assert hc.frame_localization(values, blob) == pytest.approx(expected, abs=1e-12)
    pairs = {"clip": (blob, values), "frame": (blob[2], values[2])}
    expected = {level: roc_auc_score(m.ravel(), v.ravel()) for level, (m, v) in pairs.items()}
    assert hc.signed_aucs(values, blob) == pytest.approx(expected, abs=1e-12)
    assert expected["frame"] != pytest.approx(scores["auc"])


@pytest.mark.parametrize("row, column", [(0, 4), (7, 4), (3, 0), (3, 8)])
def test_frame_level_passes_over_frames_without_or_with_a_cut_anomaly(blob, row, column):
    blob[0] = False
    blob[1, row, column] = True  # touches a border
    values = np.zeros(blob.shape)
    values[0], values[1, row, column], values[3, 3, 4] = 9, 8, 1  # thresholds: of frame 3 alone
    found = hc.frame_localization(values, blob)
    assert (found["frame"], found["n_tied"], found["iou"]) == (3, 1, pytest.approx(1 / 9))
    found = hc.frame_localization(values, blob, frames="masked")
    assert (found["frame"], found["n_tied"], found["iou"]) == (1, 1, pytest.approx(1 / 10))


def test_tied_frames_are_averaged_or_the_first_is_scored_alone(blob):
    values = np.zeros(blob.shape)
    values[1] = blob[1]
    values[3, 2, 3] = 1
    auc = roc_auc_score(blob[3].ravel(), values[3].ravel())
    expected = {"iou": (1 + 1 / 9) / 2, "f1": (1 + 2 / 10) / 2, "auc": (1 + auc) / 2}
    expected |= {"frame": 1, "n_tied": 2}
    assert hc.frame_localization(values, blob) == pytest.approx(expected)
    assert hc.signed_aucs(values, blob)["frame"] == pytest.approx(expected["auc"])
    first = hc.frame_localization(values, blob, ties="first")
    assert first == {**PERFECT, "frame": 1, "n_tied": 1}


def test_options_out_of_range_are_refused():
    for options in ({"frames": "all"}, {"ties": "last"}):
        with pytest.raises(InputError, match=next(iter(options))):
            hc.frame_localization(DOT, DOT, **options)
    for options in ({"n_mads": -1}, {"step": np.nan}):
        with pytest.raises(InputError, match=next(iter(options))):
            hc.moving_voxels(DOT, **options)


def test_frame_level_without_a_visible_anomaly_of_a_map_of_zeros_and_of_one_frame(blob):
    for mask in (NONE, FULL):
        found = hc.frame_localization(np.ones(SHAPE), mask)
        undefined = {"iou": np.nan, "f1": np.nan, "auc": np.nan, "frame": np.nan, "n_tied": 0}
        assert found == pytest.approx(undefined, nan_ok=True)
        assert np.isnan(hc.signed_aucs(np.ones(SHAPE), mask)["frame"])
    found = hc.frame_localization(np.full(blob.shape, -2.0), blob)
    assert found == {"iou": 0.0, "f1": 0.0, "auc": 0.5, "frame": 0, "n_tied": 4}
    found = hc.frame_localization(blob[:1] * 1.0, blob[:1])
    assert found == {**PERFECT, "frame": 0, "n_tied": 1}
    with pytest.raises(InputError, match="3 axes"):
        hc.frame_localization(blob[0] * 1.0, blob[0])


HAND = np.array([[[3.0, 1.0, -2.0, -2.0]]])


@pytest.mark.parametrize(
    ("values", "positive_share", "share_in_mask"),
    [
        (HAND, 0.5, 0.75),
        (np.full(HAND.shape, 0.3), 1, 0.5),  # an even map has the mask's own share in it
        (-np.abs(HAND), 0, np.nan),
        (0 * HAND, np.nan, np.nan),
    ],
)
def test_concentration_by_hand(values, positive_share, share_in_mask):
    expected = {"positive_share": positive_share, "share_in_mask": share_in_mask, "mask_share": 0.5}
    found = hc.concentration(values, np.array([[[1, 0, 1, 0]]]))
    assert found == pytest.approx(expected, nan_ok=True)


def test_motion_auc_looks_at_moving_voxels_alone_and_finding_motion_earns_nothing(blob):
    rng = np.random.default_rng(8)
    values, motion = rng.standard_normal(blob.shape), rng.random(blob.shape) < 0.5
    found = hc.motion_localization(values, blob, motion)
    expected = roc_auc_score(blob[motion], np.maximum(values, 0)[motion])
    assert found["auc"] == pytest.approx(expected, abs=1e-12)
    assert (found["n_moving"], found["n_anomalous_moving"]) == (motion.sum(), (motion & blob).sum())
    assert hc.motion_localization(motion, blob, motion)["auc"] == 0.5
    for motion in (blob & ~blob, blob, ~blob):
        found = hc.motion_localization(np.ones(blob.shape), blob, motion)
        assert np.isnan(found["auc"]) and found["n_moving"] == motion.sum()
    with pytest.raises(InputError, match="motion has shape"):
        hc.motion_localization(np.ones(blob.shape), blob, motion[1:])


def test_leaks_are_shares_on_moving_voxels_outside_the_mask():
    mask, motion = np.zeros((2, 1, 4, 4), dtype=bool)
    mask[0, 0, :2] = True
    motion[0, :2] = True
    values = np.zeros((1, 4, 4))
    values[0, 0] = [3, -9, 2, 1]  # two in the mask, two moving elsewhere
    values[0, 3, 3] = 4  # nothing moves here

    def leaks(values, motion):
        found = hc.motion_localization(values, mask, motion)
        return found["leak"], found["leak_moving"]

    assert leaks(values, motion) == pytest.approx((3 / 10, 3 / 6))
    assert leaks(np.ones(mask.shape), motion) == pytest.approx((6 / 16, 6 / 8))  # even: little
    assert leaks(values, ~motion & False) == pytest.approx((0, np.nan), nan_ok=True)
    assert leaks(-np.abs(values), motion) == pytest.approx((np.nan, np.nan), nan_ok=True)


@pytest.mark.parametrize(
    ("speeds", "options", "n_still"),
    [
        # Median 5.5, deviations .5 .5 1.5 .5 1.5 7.5: MAD 1.
        ([5.0, 6.0, 4.0, 5.0, 7.0, 13.0], {"n_mads": 6}, 4),
        ([5.0, 6.0, 4.0, 5.0, 7.0, 13.0], {"n_mads": 6, "step": 0.9}, 4),
        # Deviations from .5 are .5 .5 1.5 .5 2.5 2.6: MAD 1, and three of it by default.
        ([0.0, 1.0, -1.0, 0.0, 3.0, 3.1], {}, 5),
        # Most stand still, so the deviation is 0: any change counts, or more than 3 steps of 2.
        ([0.0, 0.0, 0.0, 0.0, 2.0, 6.0, 8.0], {}, 4),
        ([0.0, 0.0, 0.0, 0.0, 2.0, 6.0, 8.0], {"step": 2}, 6),
    ],
)
def test_moving_voxels_by_hand(speeds, options, n_still):
    frames = np.arange(3).reshape(3, 1, 1) * np.array(speeds)
    expected = [[i >= n_still for i in range(len(speeds))]] * 3
    assert hc.moving_voxels(frames, **options)[:, 0].tolist() == expected
    assert not hc.moving_voxels(frames[:1], **options).any()  # one frame does not move


@pytest.mark.parametrize("n_mads", [1, 2])
def test_normalising_a_clip_does_not_change_what_moves(n_mads):
    # Grey values are whole numbers, so many changes are on the limit; float32 blurs them.
    noise = np.random.default_rng(0).standard_normal((6, 20, 20))
    grey = (100 + np.round(3 * noise)).astype(np.uint8)
    normalised = ((torch.tensor(grey).float() / 255 - 0.45) / 0.225).expand(3, -1, -1, -1)
    found = hc.moving_voxels(normalised, n_mads=n_mads)
    np.testing.assert_array_equal(found, hc.moving_voxels(grey, n_mads=n_mads))


def test_pointing_counts_the_largest_value_shares_ties_and_never_hits_an_empty_mask():
    mask = np.array([[[True, True, False, False]]])
    for values, expected in (
        ([1, 3, 2, 0], 1),
        ([1, 2, 3, -9], 0),
        ([3, 1, 3, 3], 1 / 3),
        ([2, 2, 2, 2], 0.5),
        ([0, 0, 0, 0], 0),
        ([-1, -2, -3, -4], 0),
    ):
        values = np.array(values, dtype=float).reshape(1, 1, 4)
        assert hc.pointing(values, mask) == pytest.approx(expected)
        assert np.isnan(hc.pointing(values, ~mask & mask))
        assert hc.pointing(values, mask | ~mask) == (1 if values.max() > 0 else 0)
    with pytest.raises(InputError, match="NaN"):
        hc.pointing(np.full((1, 1, 4), np.nan), mask)


def test_sparseness_is_twice_the_area_that_the_lorenz_curve_leaves():
    rng = np.random.default_rng(0)
    values = np.round(rng.standard_normal((3, 4, 5)), 1)
    lorenz = np.concatenate([[0], np.sort(np.abs(values), axis=None).cumsum()])
    area = auc(np.linspace(0, 1, 61), lorenz / lorenz[-1])
    assert hc.sparseness(values) == pytest.approx(1 - 2 * area, abs=1e-12)
    assert hc.sparseness(7 * values) == pytest.approx(1 - 2 * area, abs=1e-12)
    assert hc.sparseness(np.full((2, 3), -2.0)) == 0
    one = np.zeros((1, 2, 5))
    one[0, 0, 0] = 3
    assert hc.sparseness(one) == pytest.approx(0.9)
    assert np.isnan(hc.sparseness(np.zeros((1, 2, 2))))
