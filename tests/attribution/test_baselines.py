import numpy as np
import pytest
import scipy.signal
import torch

from vad_helpers.attribution import baselines

# exp(-x^2 / 2 / 1.7^2) for x = -4 .. 4, divided by its sum: worked out by hand.
TAPS = np.array([0.01484, 0.04982, 0.11832, 0.19883, 0.23638, 0.19883, 0.11832, 0.04982, 0.01484])


@pytest.mark.parametrize(("name", "sigma", "radius"), [("blur", 1.7, 4), ("strong_blur", 8.0, 32)])
@pytest.mark.parametrize("size", [(12, 17), (3, 2), (40, 5)])
def test_blur_equals_an_explicit_convolution_also_on_frames_below_the_kernel(
    name, sigma, radius, size, make_clip
):
    clip = make_clip((2, *size), grey=False)
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    kernel = np.outer(taps, taps) / taps.sum() ** 2
    frames = clip.double().numpy().reshape(-1, *size)
    padded = [np.pad(frame, radius, mode="reflect") for frame in frames]
    expected = np.stack([scipy.signal.convolve2d(one, kernel, mode="valid") for one in padded])
    found = baselines.make(name, clip).numpy()
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=2e-6)


def test_a_bright_pixel_becomes_the_nine_taps_in_space_and_time():
    clip = torch.zeros(3, 21, 21, 21)
    clip[1, 10, 10, 10] = 1.0
    result = baselines.make("spacetime_blur", clip).numpy()
    expected = np.einsum("t,y,x->tyx", TAPS, TAPS, TAPS)
    np.testing.assert_allclose(result[1, 6:15, 6:15, 6:15], expected, atol=2e-5)
    result[1, 6:15, 6:15, 6:15] = 0
    assert not result.any()


@pytest.mark.parametrize("frames", [1, 5])
def test_a_clip_that_stands_still_is_not_changed_by_blurring_over_time(frames, make_clip):
    clip = make_clip((1, 12, 17)).expand(-1, frames, -1, -1)
    still = baselines.make("spacetime_blur", clip)
    torch.testing.assert_close(still, baselines.make("blur", clip))


@pytest.mark.parametrize("name", baselines.NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_baseline_is_a_new_tensor_like_the_clip(name, dtype, make_clip):
    clip = make_clip(dtype=dtype)
    before = clip.clone()
    made = baselines.make(name, clip, black=-2.5)
    assert made.dtype == dtype and made.shape == clip.shape and made.device == clip.device
    assert (made == -2.5).all() == (name == "black")
    made += 1
    assert torch.equal(clip, before)
