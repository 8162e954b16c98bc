"""ROAD: what fills a hole, its noise, and what a removal costs; more in `test_quantus`."""

import numpy as np
import pytest
import torch

from vad_helpers.errors import InputError
from vad_helpers.metrics.road import fill, road


def test_a_plane_is_filled_with_itself_noise_is_seeded_and_an_empty_frame_is_grey():
    plane = np.add.outer(np.arange(8.0), 2 * np.arange(9.0))[None, None]
    removed = np.zeros((1, 8, 9), bool)
    removed[0, 2:6, 3:7] = True
    np.testing.assert_allclose(fill(plane, removed, noise=0), plane, atol=1e-3)
    noisy = [fill(plane, removed, noise=0.5, seed=seed) - plane for seed in (0, 0, 1)]
    assert (noisy[0] == noisy[1]).all() and (noisy[0] != noisy[2]).any()
    assert 0.2 < noisy[0][0, removed].std() < 0.8
    assert (fill(plane, removed | True, noise=0) == 0).all()
    assert (fill(plane, removed & False) == plane).all()


def test_scores_are_drops_of_p_and_ties_and_input_are_treated_as_elsewhere():
    clip = torch.zeros(1, 1, 10, 10)
    clip[0, 0, 4:6, 4:6] = 1  # surroundings fill it with what is around: 0

    def predict(batch):
        return batch[:, 0, 0, 4:6, 4:6].mean(dim=(1, 2)).clamp(0, 1)

    found = road(predict, clip, clip[0], areas=(0.04, 0.5), noise=0)
    assert found["road_curve"] == pytest.approx([1, 1], abs=1e-3) and found["road"] > 0.99
    assert found["model_calls"] == 3
    known = road(predict, clip, clip[0], areas=(0.04, 0.5), noise=0, p_clip=1.0)
    assert known["road"] == found["road"] and known["model_calls"] == 2
    assert road(predict, clip, -clip[0] + 2 * (1 - clip[0]), areas=(0.5,), noise=0)["road"] == 0
    flat = [road(predict, clip, 0 * clip[0], areas=(0.3,), seed=seed)["road"] for seed in (0, 0, 1)]
    assert flat[0] == flat[1] != flat[2]
    as_arrays = road(lambda b: predict(torch.from_numpy(b)), clip.numpy(), clip[0].numpy())
    assert as_arrays["road"] == pytest.approx(road(predict, clip, clip[0])["road"])
    for areas in ((), (0,), (2,)):
        with pytest.raises(InputError, match="areas"):
            road(predict, clip, clip[0], areas=areas)
    with pytest.raises(InputError, match="removed has shape"):
        fill(clip.numpy(), np.zeros((1, 2, 2), bool))
