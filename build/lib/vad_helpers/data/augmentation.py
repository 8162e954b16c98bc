"""Random changes of training clips that leave their label true.

A change is the same for all frames of a clip: what moves between them is what tells an anomaly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from vad_helpers.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training clips are varied.

    Attributes
    ----------
    scale : float
        Enlarge by a random factor in (1, `scale`], then crop back to size at a random place;
        1 leaves size and place as they are.
    flip, reverse : bool
        Mirror left and right, or play backwards, every other time: what is too fast, or on wheels,
        is so either way.
    blur : float
        A Gaussian blur in space has a standard deviation from [0, `blur`] pixels; 0 blurs nothing.
    contrast : float
        Grey values are multiplied by a factor from [1 - `contrast`, 1 + `contrast`] about the
        clip's mean, and shifted by up to `contrast` times a quarter of the range; 0 keeps them.
    paste : float
        Share of clips, in [0, 1], that become another clip of their class: the masked region of an
        anomalous clip is put into a normal clip of the same scene. A normal clip gets a region of
        that shape out of another normal clip, so that a seam tells nothing. It is for data sets
        that know masks (`clips.ClipDataset`); clips without one stay as they are.

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    scale: float = 1.0
    flip: bool = False
    reverse: bool = False
    blur: float = 0.0
    contrast: float = 0.0
    paste: float = 0.0

    def __post_init__(self) -> None:
        limits = {"scale": (1, 4), "blur": (0, 10), "contrast": (0, 1), "paste": (0, 1)}
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise InputError(f"augmentation {name} is {value!r}: give a number")
            if not low <= value <= high:
                raise InputError(f"augmentation {name} is {value}: give {low} to {high}")
        for name in ("flip", "reverse"):
            if not isinstance(getattr(self, name), bool):
                raise InputError(f"augmentation {name} is {getattr(self, name)!r}: true or false")


def augment(grey: Tensor, spec: Augmentation, *, generator: torch.Generator) -> Tensor:
    """Vary one clip: grey, float32 (T, H, W), 0 to 255. The generator decides all draws."""
    # Every number is drawn whether it is used or not: switching one change off leaves the others.
    scale, top, left, flip, reverse, blur, gain, shift = torch.rand(8, generator=generator).tolist()
    if spec.scale > 1:
        factor = spec.scale - (spec.scale - 1) * scale
        height, width = grey.shape[-2:]
        large = (round(height * factor), round(width * factor))
        grey = functional.interpolate(grey[None], size=large, mode="bilinear")[0]
        top, left = int(top * (large[0] - height + 1)), int(left * (large[1] - width + 1))
        grey = grey[:, top : top + height, left : left + width]
    if spec.flip and flip < 0.5:
        grey = grey.flip(-1)
    if spec.reverse and reverse < 0.5:
        grey = grey.flip(0)
    # Less than a third of a pixel changes nothing that is worth the time.
    radius = min(round(3 * spec.blur * blur), min(grey.shape[-2:]) - 1)
    if radius >= 1:
        taps = torch.arange(-radius, radius + 1, dtype=grey.dtype)
        kernel = torch.exp(-0.5 * (taps / (spec.blur * blur)) ** 2)
        kernel /= kernel.sum()
        frames = functional.pad(grey[:, None], (radius,) * 4, mode="reflect")
        frames = functional.conv2d(frames, kernel.view(1, 1, 1, -1))
        grey = functional.conv2d(frames, kernel.view(1, 1, -1, 1))[:, 0]
    if spec.contrast > 0:
        gain, shift = (spec.contrast * (2 * draw - 1) for draw in (gain, shift))
        mean = grey.mean()
        grey = ((grey - mean) * (1 + gain) + mean + 64 * shift).clamp(0, 255)
    return grey


def paste(
    background: Tensor, donor: Tensor, region: Tensor, *, right: float, down: float
) -> Tensor:
    """Put a region of one clip into another, moved alike in all frames.

    Parameters
    ----------
    background, donor : Tensor
        Grey, float32 (T, H, W), 0 to 255.
    region : Tensor
        bool (T, H, W). Two pixels around it come along, and two more fade out.
    right, down : float
        In [-1, 1], of the farthest move: an eighth of the width, and a 25th of the height, as
        people grow with the way down. A region that would leave the picture by half stays.

    Returns
    -------
    Tensor
        float32 (T, H, W).
    """
    height, width = region.shape[-2:]
    weight = functional.max_pool2d(region[:, None].float(), 5, stride=1, padding=2)
    weight = functional.avg_pool2d(weight, 5, stride=1, padding=2)[:, 0]
    x, y = round(right * width / 8), round(down * height / 25)
    moved = functional.pad(weight, (x, -x, y, -y))
    if moved.sum() >= weight.sum() / 2:
        weight, donor = moved, functional.pad(donor, (x, -x, y, -y))
    return background * (1 - weight) + donor * weight
