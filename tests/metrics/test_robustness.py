"""Temporal robustness against scikit-learn, frame by frame, and numbers by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from vad_helpers.errors import InputError
from vad_helpers.metrics import robustness


@pytest.fixture
def scene():
    rng = np.random.default_rng(11)
    values, mask = rng.standard_normal((6, 8, 9)).astype(np.float32), np.zeros((6, 8, 9), bool)
    mask[:, 2:5, 3:6] = True
    return values + mask, mask


def test_statistics_are_those_of_the_frame_aucs(scene):
    aucs = [roc_auc_score(m.ravel(), np.maximum(e, 0).ravel()) for e, m in zip(*scene, strict=True)]
    mean, spread = np.mean(aucs), np.std(aucs)
    expected = {"mauc": mean, "stdauc": spread, "cv": spread / mean, "worst": min(aucs)}
    expected |= {"n_frames": 6}
    assert robustness.temporal(*scene) == pytest.approx(expected, abs=1e-12)


def test_empty_and_full_frames_are_left_out_and_not_counted(scene):
    values, mask = scene
    kept = robustness.temporal(values[2:], mask[2:])
    mask[0], mask[1] = False, True
    assert robustness.temporal(values, mask) == kept
    assert np.isnan(robustness.frame_aucs(values, mask)).tolist() == [True, True] + [False] * 4


@pytest.mark.parametrize("n_valid", [0, 1])
def test_fewer_than_two_valid_frames_leave_all_undefined(scene, n_valid):
    values, mask = scene
    mask[n_valid:] = False
    found = robustness.temporal(values, mask)
    assert found.pop("n_frames") == n_valid
    assert set(found) == {"mauc", "stdauc", "cv", "worst"}
    assert np.isnan(list(found.values())).all()


@pytest.mark.parametrize(
    ("values", "mean", "spread", "variation"),
    [
        (lambda mask: 0 * mask, 0.5, np.nan, np.nan),  # no positive voxel: chance, not steady
        (lambda mask: -1.0 - mask, 0.5, np.nan, np.nan),
        (lambda mask: 0 * mask + 1, 0.5, 0, 0),
        (lambda mask: ~mask * 1.0, 0, 0, np.nan),  # always wrong
    ],
)
def test_maps_without_spread(scene, values, mean, spread, variation):
    expected = {"mauc": mean, "stdauc": spread, "cv": variation, "worst": mean, "n_frames": 6}
    found = robustness.temporal(values(scene[1]), scene[1])
    assert found == pytest.approx(expected, abs=0, nan_ok=True)


def test_time_average_repeats_the_signed_mean(scene):
    still = robustness.time_average(torch.tensor(scene[0]))
    assert still.dtype == np.float32
    expected = np.broadcast_to(scene[0].mean(axis=0), scene[0].shape)
    np.testing.assert_allclose(still, expected, atol=1e-6)


def test_max_sensitivity_of_a_linear_map_is_that_of_its_noise():
    clip, asked = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(1)), []

    def explain(video):
        asked.append(video)
        return 3 * video[0]

    found = robustness.max_sensitivity(explain, clip, radius=0.1, n_samples=4, seed=2)
    noises = [(one - clip).norm() for one in asked[1:]]
    assert len(asked) == 5 and all((one - clip).abs().max() <= 0.1 for one in asked)
    assert found == pytest.approx(float(max(noises) / clip.norm()), rel=1e-5)
    assert found == robustness.max_sensitivity(explain, clip, radius=0.1, n_samples=4, seed=2)
    blind = np.ones((2, 3, 4))
    assert robustness.max_sensitivity(lambda video: blind, clip) == 0
    assert np.isnan(robustness.max_sensitivity(lambda video: 0 * blind, clip))
    for options in ({"radius": 0}, {"n_samples": 0}):
        with pytest.raises(InputError, match=next(iter(options))):
            robustness.max_sensitivity(explain, clip, **options)
