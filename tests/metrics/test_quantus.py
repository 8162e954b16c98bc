"""Metrics against Quantus 0.6.0, whose values stand here: it requires OpenCV with its windows.

Quantus takes no videos: the frames were handed to it below one another, as one image.
"""

import numpy as np
import pytest
import torch

from vad_helpers.metrics import human_centric, robustness
from vad_helpers.metrics.road import fill

VALUES = ((37 * np.arange(126) % 127) / 50 - 1).reshape(3, 6, 7) ** 3
MASK = np.zeros((3, 6, 7), bool)
MASK[0, 1:4, 2:5] = MASK[1, 2:5, 2:5] = MASK[2, 2:5, 3:6] = True


@pytest.mark.parametrize(
    ("shift", "pointing", "mass"),
    [(0, 1, 0.2966063099), (1, 1, 0.3070122234), (2, 0, 0.2294589593), (3, 0, 0.1630361769)],
)
def test_pointing_game_and_relevance_mass_accuracy(shift, pointing, mass):
    """Of E+, with `abs` and `normalise` off."""
    values = np.roll(VALUES, shift, axis=2)
    assert human_centric.pointing(values, MASK) == pointing
    found = human_centric.concentration(values, MASK)["share_in_mask"]
    assert found == pytest.approx(mass, abs=1e-9)


def test_sparseness():
    """Quantus adds 1e-7 to every value."""
    assert human_centric.sparseness(VALUES) == pytest.approx(0.6576867112, abs=1e-6)


def test_max_sensitivity_for_the_same_noise(monkeypatch):
    clip = torch.from_numpy(VALUES[None])
    draws = iter((k * torch.arange(126) % 127).reshape(clip.shape) / 126 for k in (5, 23, 64))
    monkeypatch.setattr(torch, "rand", lambda shape, generator: next(draws).double())
    found = robustness.max_sensitivity(
        lambda video: (video**3 + video)[0], clip, radius=0.2, n_samples=3
    )
    assert found == pytest.approx(0.1221132030, abs=1e-6)


ROAD = (
    [-0.2994496, 0.2720234, 0.4274587, 0.2322465, 0.1169696, 0.1643755]
    + [0.1280685, -0.0383657, 0.0750571, -0.0038414, 0.0558682, 0.806613],
    [0.0219584, 0.269205, 0.4530782, 0.4233729, 0.5305754, 0.1859712, 0.2843694]
    + [0.3876341, 0.6179492, 0.0944616, 0.1840817, 0.5539471, 0.596855],
    [0.5680064, 0.9583457, 0.1482663, 0.6746082, 0.7880261, 0.6307693]
    + [0.1475216, 0.3661905, 0.3139919, 0.2102853, 0.3822307, 0.2110037],
)


def test_noisy_linear_imputation_without_its_noise():
    """A hole of 3 x 3 in each frame, a corner, and single voxels."""
    removed = MASK | (np.arange(42).reshape(6, 7) % 11 == 0)
    filled, opposite = fill(np.stack([VALUES, -VALUES]), removed, noise=0)
    np.testing.assert_allclose(opposite, -filled, atol=1e-5)  # channel by channel
    np.testing.assert_array_equal(filled[~removed], VALUES[~removed])
    for frame, hole, expected in zip(filled, removed, ROAD, strict=True):
        np.testing.assert_allclose(frame[hole], expected, atol=2e-4)
