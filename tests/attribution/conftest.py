"""Small models and clips with known explanations."""

import numpy as np
import pytest
import torch

from vad_helpers.model.i3d import InceptionI3d

SHAPE = (4, 10, 12)


class Planted(torch.nn.Module):
    """Its second logit reads the mean of one region, above a floor; the rest of the clip is idle.

    The floor lies above black, so the way from the black baseline to the clip bends once at
    every voxel, and softmax bends it again: no method sees a straight line.
    """

    def __init__(self, region):
        super().__init__()
        self.relu = torch.nn.ReLU()
        self.register_buffer("region", torch.as_tensor(region).float())

    def forward(self, clips):
        evidence = self.relu(clips.mean(dim=1) + 0.8) * self.region
        score = 2 * (evidence.sum(dim=(1, 2, 3)) / self.region.sum() - 0.8)
        return torch.stack([torch.zeros_like(score), score], dim=1)


class TinyNet(torch.nn.Module):
    """A convolutional network with batch norm, dropout and an in-place ReLU; three classes."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv3d(3, 4, 3, padding=1),
            torch.nn.BatchNorm3d(4),
            torch.nn.ReLU(inplace=True),
            torch.nn.Dropout(0.5),
        )
        self.head = torch.nn.Linear(4, 3)

    def forward(self, clips):
        return self.head(self.body(clips).mean(dim=(2, 3, 4)))


@pytest.fixture
def planted():
    return Planted


@pytest.fixture
def as_logits():
    """Logits of two classes whose softmax gives the second one exactly p."""
    return lambda p: torch.stack([torch.log1p(-p), torch.log(p)], dim=1)


@pytest.fixture
def tiny_net():
    return TinyNet()


@pytest.fixture(scope="module")
def i3d(randomise):
    """A narrow I3D in float64 whose batch norms do something; its classifier has a bias."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = randomise(InceptionI3d(width=0.1))
        network.logits.conv3d.weight.data.mul_(3)
        torch.nn.init.normal_(network.logits.conv3d.bias)
    return network


@pytest.fixture
def quarters():
    """Four labels by rows and columns."""
    _, rows, columns = np.indices(SHAPE)
    return 2 * (rows >= SHAPE[1] // 2) + (columns >= SHAPE[2] // 2)


@pytest.fixture
def make_clip():
    """Grey noise in [low, high], the same in every channel, as a real clip would be."""

    def make(shape=SHAPE, *, seed=0, low=-0.4, high=0.8, grey=True, dtype=torch.float32):
        values = np.random.default_rng(seed).uniform(low, high, (1 if grey else 3, *shape))
        return torch.from_numpy(np.broadcast_to(values, (3, *shape)).copy()).to(dtype)

    return make


@pytest.fixture
def small_settings():
    """Settings of every method that fit a clip of 4 x 10 x 12 and take milliseconds."""
    return {
        "ig": {"n_steps": 3},
        "ig_smoothgrad": {"n_steps": 2, "n_samples": 3, "sigma": 0.1},
        "guided_backprop": {},
        "gradient_shap": {"n_samples": 4, "sigma": 0.1},
        "kernel_shap": {"n_samples": 7, "n_segments": 6},
        "lime": {"n_samples": 9, "n_segments": 6, "alpha": 1e-5},
        "occlusion_lp": {"window": (4, 6, 6), "stride": (4, 5, 4)},
        "occlusion_sp": {"window": (2, 4, 4), "stride": (1, 3, 4)},
        "input_x_gradient": {},
        "smoothgrad": {"n_samples": 3},
        "vargrad": {"n_samples": 3},
        **dict.fromkeys(("grad_cam", "grad_cam_pp", "hirescam", "layercam"), {"layer": "body.2"}),
        "lrp": {},
        "rise": {"n_samples": 9, "grid": (2, 3, 3)},
    }
