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
    "rise": {"n_samples": 200, "grid": (1, 4, 6)},
}


@pytest.mark.filterwarnings("ignore:.*all-zero map")
@pytest.mark.parametrize("key", SMALL)
def test_every_method_finds_the_region(key, planted, make_clip):
    clip = make_clip((8, 32, 48))
    labels = slic(clip, n_segments=24)
    inside = np.bincount(labels[:, 8:24, 16:36].ravel(), minlength=labels.max() + 1)
    # The superpixels that lie for the most part in the box.
    region = np.isin(labels, np.flatnonzero(inside > np.bincount(labels.ravel()) / 2))
    assert 0.05 < region.mean() < 0.5
    options = {"baseline": "black", **SMALL[key]}
    for target, low, high in ((1, 0.95, 1), (0, 0, 0.5)):  # it speaks against the other class
        found = np.maximum(explain(planted(region), clip, key, target=target, **options), 0)
        assert low <= sklearn.metrics.roc_auc_score(region.ravel(), found.ravel()) <= high
