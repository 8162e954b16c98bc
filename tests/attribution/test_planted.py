"""Every method must find the region that a planted model reads.

The clip lies above the black baseline everywhere, so that every voxel of the region speaks for
the class; the region is made of whole superpixels.
"""

import numpy as np
import pytest
import sklearn.metrics

from vad_helpers.attribution import METHODS, explain
from vad_helpers.attribution.superpixels import slic

SMALL = {
    "ig": {"n_steps": 8},
    "ig_smoothgrad": {"n_steps": 4, "n_samples": 2},
    "guided_backprop": {},
    "gradient_shap": {},
    "kernel_shap": {"n_samples": 100, "n_segments": 24},
    "lime": {"n_segments": 24},
    "occlusion_lp": {"window": (4, 8, 12), "stride": (4, 4, 6)},
    "occlusion_sp": {"window": (2, 4, 6), "stride": (2, 2, 2)},
}
ONE_PASS = [key for key in METHODS if key not in ("kernel_shap", "lime", "occlusion_sp")]


def region_near(clip, box, **options):
    """Union of the superpixels that lie for the most part in a box."""
    labels = slic(clip, **options)
    inside = np.bincount(labels[box], minlength=labels.max() + 1)
    return np.isin(labels, np.flatnonzero(inside > np.bincount(labels.ravel()) / 2))


def auc(region, attribution):
    return sklearn.metrics.roc_auc_score(region.ravel(), np.maximum(attribution, 0).ravel())


def plant(planted, clip, rows, columns, **options):
    box = np.zeros(clip.shape[1:], dtype=bool)
    box[:, rows, columns] = True
    region = region_near(clip, box, **options)
    assert 0.05 < region.mean() < 0.5
    return planted(region), region


@pytest.mark.filterwarnings("ignore:.*all-zero map")
@pytest.mark.parametrize("key", SMALL)
def test_every_method_finds_the_region(key, planted, make_clip):
    clip = make_clip((8, 32, 48))
    model, region = plant(planted, clip, slice(8, 24), slice(16, 36), n_segments=24)
    found = explain(model, clip, key, baseline="black", **SMALL[key])
    assert auc(region, found) >= 0.95
    # The region speaks against the other class.
    assert auc(region, explain(model, clip, key, baseline="black", target=0, **SMALL[key])) <= 0.5


@pytest.mark.slow
@pytest.mark.parametrize("key", ONE_PASS)
def test_default_settings_find_the_region_at_full_size(key, planted, make_clip):
    clip = make_clip((20, 158, 237))
    model, region = plant(planted, clip, slice(48, 112), slice(96, 192))
    assert auc(region, explain(model, clip, key, baseline="black")) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("key", ["lime", "kernel_shap"])
def test_superpixel_methods_find_the_region_at_full_size_with_200_samples_not_with_25(
    key, planted, make_clip
):
    clip = make_clip((20, 158, 237))
    model, region = plant(planted, clip, slice(48, 112), slice(96, 192))
    few, converged = (
        auc(region, explain(model, clip, key, baseline="black", **settings))
        for settings in ({}, {"n_samples": 200})
    )
    assert few < 0.95 <= converged


@pytest.mark.slow
def test_small_occlusion_finds_the_region_with_default_windows_on_a_smaller_frame(
    planted, make_clip
):
    # The full frame has 4788 windows, and Captum builds a mask of the whole clip for each.
    clip = make_clip((20, 96, 144))
    model, region = plant(planted, clip, slice(24, 72), slice(32, 96))
    assert auc(region, explain(model, clip, "occlusion_sp", baseline="black")) >= 0.95
