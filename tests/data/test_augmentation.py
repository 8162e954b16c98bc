"""Augmentation: each change does what it says, for all frames alike, and nothing else."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from vad_helpers.data import augmentation
from vad_helpers.data.augmentation import Augmentation, augment
from vad_helpers.errors import InputError


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def drawn(monkeypatch):
    """Decide the draws: scale, top, left, flip, reverse, blur, gain, shift."""

    def decide(**draws):
        names = ("scale", "top", "left", "flip", "reverse", "blur", "gain", "shift")
        values = torch.tensor([draws.get(name, 0.5) for name in names])
        monkeypatch.setattr(augmentation.torch, "rand", lambda *_, **__: values)

    return decide


@pytest.fixture
def grey():
    return torch.rand((4, 20, 30), generator=generator(1)) * 255


def test_the_default_changes_nothing(grey):
    assert torch.equal(augment(grey, Augmentation(), generator=generator()), grey)


@pytest.mark.parametrize(("draw", "scale"), [(0.0, 1.25), (1 - 2**-24, 1.0)])
def test_the_scale_is_above_one_and_at_most_the_given(monkeypatch, drawn, draw, scale):
    seen = []
    plain = augmentation.functional.interpolate

    def spy(grey, *, size, **options):
        seen.append(size)
        return plain(grey, size=size, **options)

    monkeypatch.setattr(augmentation.functional, "interpolate", spy)
    drawn(scale=draw)
    changed = augment(torch.zeros(2, 100, 200), Augmentation(scale=1.25), generator=generator())
    assert seen == [(round(100 * scale), round(200 * scale))]
    assert changed.shape == (2, 100, 200)


def test_crops_reach_every_border():
    ramp = torch.arange(100.0).repeat(1, 80, 1)
    spec = Augmentation(scale=1.25)
    corners = [augment(ramp, spec, generator=generator(s))[0, 0, [0, -1]] for s in range(200)]
    first, last = torch.stack(corners).unbind(1)
    assert first.min() < 1 < 10 < first.max()
    assert last.max() > 98 > 90 > last.min()


@pytest.mark.parametrize(("name", "axis"), [("flip", -1), ("reverse", 0)])
def test_mirroring_in_space_and_time(grey, drawn, name, axis):
    spec = Augmentation(**{name: True})
    drawn(**{name: 0.49})
    assert torch.equal(augment(grey, spec, generator=generator()), grey.flip(axis))
    drawn(**{name: 0.51})
    assert torch.equal(augment(grey, spec, generator=generator()), grey)


def test_blur_is_the_gaussian_of_every_frame(grey, drawn):
    drawn(blur=0.5)
    blurred = augment(grey, Augmentation(blur=2.0), generator=generator())
    expected = [gaussian_filter(f, 1.0, mode="mirror", radius=3) for f in grey.numpy()]
    np.testing.assert_allclose(blurred.numpy(), np.stack(expected), atol=1e-3)


def test_blur_of_a_small_fraction_of_a_pixel_and_of_a_tiny_frame(grey, drawn):
    drawn(blur=0.1)
    assert torch.equal(augment(grey, Augmentation(blur=1.0), generator=generator()), grey)
    drawn(blur=1.0)
    one_pixel = torch.full((2, 1, 1), 7.0)
    assert torch.equal(augment(one_pixel, Augmentation(blur=2.0), generator=generator()), one_pixel)


def test_contrast_scales_about_the_mean_and_stays_in_range(drawn):
    grey = torch.tensor([100.0, 140.0]).view(1, 1, 2)
    drawn(gain=1.0, shift=0.5)
    changed = augment(grey, Augmentation(contrast=0.5), generator=generator())
    assert changed.flatten().tolist() == pytest.approx([90, 150])
    drawn(gain=0.5, shift=1.0)
    changed = augment(grey, Augmentation(contrast=0.5), generator=generator())
    assert changed.flatten().tolist() == pytest.approx([132, 172])
    drawn(gain=1.0, shift=1.0)
    extreme = augment(
        torch.tensor([0.0, 255.0]).view(1, 1, 2), Augmentation(contrast=1.0), generator=generator()
    )
    assert extreme.min() >= 0
    assert extreme.max() <= 255


def test_switching_one_change_on_leaves_the_draws_of_the_others(grey):
    both = Augmentation(scale=1.25, flip=True)
    found = [augment(grey, both, generator=generator(s)) for s in range(8)]
    alone = [augment(grey, Augmentation(scale=1.25), generator=generator(s)) for s in range(8)]
    mirrored = [torch.equal(a.flip(-1), b) for a, b in zip(alone, found, strict=True)]
    same = [torch.equal(a, b) for a, b in zip(alone, found, strict=True)]
    assert all(m != s for m, s in zip(mirrored, same, strict=True))
    assert 0 < sum(mirrored) < 8


@pytest.mark.parametrize(
    "change",
    [
        {"scale": 0.9},
        {"scale": "big"},
        {"blur": -1.0},
        {"contrast": 1.5},
        {"contrast": True},
        {"flip": 1},
        {"reverse": "yes"},
    ],
    ids=str,
)
def test_values_out_of_range_are_refused(change):
    with pytest.raises(InputError, match=next(iter(change))):
        Augmentation(**change)
