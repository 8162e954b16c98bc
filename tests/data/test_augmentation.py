"""Augmentation: each change does what it says, for all frames alike, and nothing else."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch.nn import functional

from vad_helpers.data import augmentation
from vad_helpers.data.augmentation import Augmentation
from vad_helpers.errors import InputError

GREY = torch.rand((4, 20, 30), generator=torch.Generator().manual_seed(1)) * 255
DRAWS = ("scale", "top", "left", "flip", "reverse", "blur", "gain", "shift")


def augment(grey, spec, seed=0):
    return augmentation.augment(grey, spec, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def drawn(monkeypatch):
    """Decide the draws."""

    def decide(**draws):
        values = torch.tensor([draws.get(name, 0.5) for name in DRAWS])
        monkeypatch.setattr(augmentation.torch, "rand", lambda *_, **__: values)

    return decide


def test_a_ramp_is_enlarged_by_up_to_the_scale_and_cropped_anywhere():
    ramp = torch.arange(100.0).repeat(1, 80, 1)
    found = [augment(ramp, Augmentation(scale=1.25), s)[0, 0] for s in range(200)]
    steps = torch.stack([row[1:-1].diff().median() for row in found])  # 1 over the factor
    assert 0.79 < steps.min() < 0.82 and 0.97 < steps.max() < 1.01
    first, last = torch.stack([row[[0, -1]] for row in found]).unbind(1)
    assert first.min() < 1 < 10 < first.max()
    assert last.max() > 98 > 90 > last.min()
    still = augment(GREY[:1].repeat(4, 1, 1), Augmentation(scale=1.25))
    assert torch.equal(still[:1].expand_as(still), still)  # all frames alike


@pytest.mark.parametrize(("name", "axis"), [("flip", -1), ("reverse", 0)])
def test_mirroring_every_other_time_leaves_the_draws_of_the_others(name, axis):
    spec, both = Augmentation(**{name: True}), Augmentation(scale=1.25, **{name: True})
    mirrored = [torch.equal(augment(GREY, spec, s), GREY.flip(axis)) for s in range(200)]
    assert 70 < sum(mirrored) < 130
    for seed, flipped in enumerate(mirrored):
        assert flipped or torch.equal(augment(GREY, spec, seed), GREY)
        scaled = augment(GREY, Augmentation(scale=1.25), seed)
        assert torch.equal(augment(GREY, both, seed), scaled.flip(axis) if flipped else scaled)


def test_blur_is_the_gaussian_of_every_frame(drawn):
    drawn(blur=0.5)
    blurred = augment(GREY, Augmentation(blur=2.0))
    expected = [gaussian_filter(f, 1.0, mode="mirror", radius=3) for f in GREY.numpy()]
    np.testing.assert_allclose(blurred.numpy(), np.stack(expected), atol=1e-3)
    drawn(blur=0.1)  # a tenth of a pixel
    assert torch.equal(augment(GREY, Augmentation(blur=1.0)), GREY)
    drawn(blur=1.0)
    one_pixel = torch.full((2, 1, 1), 7.0)
    assert torch.equal(augment(one_pixel, Augmentation(blur=2.0)), one_pixel)


def test_contrast_scales_about_the_mean_and_stays_in_range(drawn):
    for contrast, gain, shift, before, after in (
        (0.5, 1.0, 0.5, [100, 140], [90, 150]),
        (0.5, 0.5, 1.0, [100, 140], [132, 172]),
        (1.0, 1.0, 1.0, [0, 255], [0, 255]),  # 0 - 127.5 + 64 and 255 + 127.5 + 64, clipped
    ):
        drawn(gain=gain, shift=shift)
        grey = torch.tensor([[before]], dtype=torch.float32)
        assert augment(grey, Augmentation(contrast=contrast)).flatten().tolist() == after


def test_a_region_is_pasted_whole_with_a_soft_seam_and_moves_with_its_content():
    background, donor = torch.zeros(2, 50, 80), torch.arange(80.0).repeat(2, 50, 1) + 100
    region = torch.zeros(2, 50, 80, dtype=torch.bool)
    region[0, 20:30, 30:40] = True  # in the first frame alone
    still = augmentation.paste(background, donor, region, right=0, down=0)
    assert torch.equal(still[0, 20:30, 30:40], donor[0, 20:30, 30:40])
    assert torch.equal(still[0] > 0, functional.pad(torch.ones(18, 18), (26, 36, 16, 16)) > 0)
    assert (still[0, 25, 26:30].diff() > 0).all()  # fades in
    assert not still[1].any()
    moved = augmentation.paste(background, donor, region, right=-1, down=1)
    assert torch.equal(moved[0, 22:32, 20:30], donor[0, 20:30, 30:40])
    region = region.roll(-28, dims=2)  # columns 2 to 11: ten to the left, most would be outside
    kept = augmentation.paste(background, donor, region, right=-1, down=0)
    assert torch.equal(kept[0, 20:30, 2:12], donor[0, 20:30, 2:12])


def test_values_out_of_range_are_refused():
    wrong = ("scale", 0.9), ("scale", "big"), ("contrast", 1.5), ("paste", 2), ("blur", True)
    for name, value in (*wrong, ("flip", 1)):
        with pytest.raises(InputError, match=name):
            Augmentation(**{name: value})
