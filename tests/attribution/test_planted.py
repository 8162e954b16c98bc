"""Every method must find the region that a planted model reads.

The clip lies above the black baseline everywhere, so that every voxel of the region speaks for
the class; the region is made of whole superpixels.
"""

import numpy as np
import pytest
import sklearn.metrics

from vad_helpers.attribution import explain
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


def auc(region, attribution):
    return sklearn.metrics.roc_auc_score(region.ravel(), np.maximum(attribution, 0).ravel())


def plant(planted, clip, rows, columns, **options):
    """The model that reads the superpixels which lie for the most part in a box."""
    labels = slic(clip, **options)
    inside = np.bincount(labels[:, rows, columns].ravel(), minlength=labels.max() + 1)
    region = np.isin(labels, np.flatnonzero(inside > np.bincount(labels.ravel()) / 2))
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
