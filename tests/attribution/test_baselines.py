import numpy as np
import pytest
import scipy.signal
import torch

from vad_helpers.attribution import baselines
from vad_helpers.errors import InputError

# exp(-x^2 / 2 / 1.7^2) for x = -4 .. 4, divided by its sum: worked out by hand.
TAPS = np.array([0.01484, 0.04982, 0.11832, 0.19883, 0.23638, 0.19883, 0.11832, 0.04982, 0.01484])


def gaussian(sigma, radius):
    taps = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma**2))
    return taps / taps.sum()


def blurred(frames, taps):
    """Blur (..., H, W) by an outer-product kernel on frames padded by reflection."""
    radius = len(taps) // 2
    kernel = np.outer(taps, taps)
    flat = frames.reshape(-1, *frames.shape[-2:])
    padded = [np.pad(frame, radius, mode="reflect") for frame in flat]
    done = [scipy.signal.convolve2d(frame, kernel, mode="valid") for frame in padded]
    return np.stack(done).reshape(frames.shape)


@pytest.mark.parametrize(("name", "sigma", "radius"), [("blur", 1.7, 4), ("strong_blur", 8.0, 32)])
@pytest.mark.parametrize("size", [(12, 17), (3, 2), (40, 5)])
def test_blur_equals_an_explicit_convolution_also_on_frames_below_the_kernel(
    name, sigma, radius, size, make_clip
):
    clip = make_clip((2, *size), grey=False)
    expected = blurred(clip.double().numpy(), gaussian(sigma, radius))
    np.testing.assert_allclose(baselines.make(name, clip).numpy(), expected, atol=2e-6)


def test_a_bright_pixel_becomes_the_nine_taps_in_its_frame_alone():
    clip = torch.zeros(3, 3, 21, 21)
    clip[1, 1, 10, 10] = 1.0
    result = baselines.make("blur", clip).numpy()
    np.testing.assert_allclose(result[1, 1, 6:15, 6:15], np.outer(TAPS, TAPS), atol=2e-5)
    result[1, 1, 6:15, 6:15] = 0
    assert not result.any()


def test_a_blur_over_time_spreads_a_flash_over_nine_frames():
    clip = torch.zeros(3, 21, 21, 21)
    clip[:, 10, 10, 10] = 1.0
    result = baselines.make("spacetime_blur", clip).numpy()
    expected = np.einsum("t,y,x->tyx", TAPS, TAPS, TAPS)
    np.testing.assert_allclose(result[1, 6:15, 6:15, 6:15], expected, atol=2e-5)
    assert not result[:, :6].any() and not result[:, 15:].any()


def test_a_clip_that_stands_still_is_not_changed_by_blurring_over_time(make_clip):
    frame = make_clip((1, 12, 17))
    clip = frame.expand(-1, 5, -1, -1)
    still = baselines.make("spacetime_blur", clip)
    torch.testing.assert_close(still, baselines.make("blur", clip))
    torch.testing.assert_close(
        baselines.make("spacetime_blur", frame), baselines.make("blur", frame)
    )


def test_borders_reflect_without_repeating_the_edge():
    clip = torch.zeros(3, 1, 1, 21)
    clip[..., 0] = 1.0
    # Repeating the edge would count the bright border pixel twice.
    result = baselines.make("blur", clip)[0, 0, 0].numpy()
    np.testing.assert_allclose(result[:5], TAPS[4:], atol=2e-5)


def test_black_is_the_given_value_everywhere(make_clip):
    assert (baselines.make("black", make_clip()) == -1).all()
    assert (baselines.make("black", make_clip(), black=-2.5) == -2.5).all()


@pytest.mark.parametrize("name", baselines.NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_baseline_is_a_new_tensor_like_the_clip(name, dtype, make_clip):
    clip = make_clip(dtype=dtype)
    before = clip.clone()
    made = baselines.make(name, clip)
    assert made.dtype == dtype and made.shape == clip.shape and made.device == clip.device
    made += 1
    assert torch.equal(clip, before)


@pytest.mark.parametrize("name", ["blur", "strong_blur"])
def test_a_constant_clip_stays_what_it_is(name):
    clip = torch.full((3, 2, 5, 6), 0.3)
    torch.testing.assert_close(baselines.make(name, clip), clip)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("blue", torch.zeros(3, 1, 2, 2)), "did you mean 'blur'"),
        (("blur", torch.zeros(1, 2, 2)), "give one clip"),
        ((None, torch.zeros(3, 1, 2, 2)), "unknown baseline: None"),
    ],
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        baselines.make(*arguments)


def test_black_must_be_a_number():
    with pytest.raises(InputError, match="black is nan"):
        baselines.make("black", torch.zeros(3, 1, 2, 2), black=float("nan"))
