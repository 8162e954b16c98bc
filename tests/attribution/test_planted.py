"""Every method must find the region that a planted model reads.

The clip lies above the black baseline everywhere, so that every voxel of the region speaks for
the class; the region is made of whole superpixels.
"""

import numpy as np
import pytest
import sklearn.metrics
import torch

from vad_helpers.attribution import explain
from vad_helpers.attribution.superpixels import slic
from vad_helpers.inference.prepared import prepare
from vad_helpers.model.i3d import InceptionI3d

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

CAMS = ("grad_cam", "grad_cam_pp", "hirescam", "layercam")
BEYOND = ("input_x_gradient", "smoothgrad", "vargrad", *CAMS, "lrp")


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


@pytest.mark.filterwarnings("ignore:.*all-zero map")
@pytest.mark.parametrize("key", BEYOND)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_methods_beyond_the_paper_take_any_clip_and_any_batch_size(key, precision, make_clip):
    network, settings = InceptionI3d(width=0.1), {"precision": precision}
    settings |= {"n_samples": 3} if key in ("smoothgrad", "vargrad") else {}
    torch.nn.init.normal_(network.logits.conv3d.weight)
    ready = prepare(network, precision=precision)
    for clip in (make_clip((1, 24, 33)), torch.full((3, 7, 24, 33), 0.25)):
        one, more = (explain(ready, clip, key, batch_size=n, **settings) for n in (1, 5))
        np.testing.assert_array_equal(one, more)
        assert np.isfinite(one).all()
