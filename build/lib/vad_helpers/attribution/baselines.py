"""Baselines: the video that stands for "nothing to see here" and fills what is removed."""

from __future__ import annotations

import torch
from torch import Tensor

from vad_helpers.attribution import checks

_SPACE, _SPACE_TIME = (-2, -1), (-3, -2, -1)
# (standard deviation, radius) in pixels and frames, axes. 9 taps and sigma 1.7: the kernel size of
# the paper and the deviation that OpenCV derives from it, .3 * ((9 - 1) / 2 - 1) + .8.
_BLURS = {
    "blur": (1.7, 4, _SPACE),
    "strong_blur": (8.0, 32, _SPACE),
    "spacetime_blur": (1.7, 4, _SPACE_TIME),
}

NAMES = (*_BLURS, "black")


def make(name: str, clip: Tensor, *, black: float = -1.0) -> Tensor:
    """Make a named baseline for a clip: a new tensor of its shape, type and device.

    InputError if the name is unknown, or the clip or `black` is not as described.

    Parameters
    ----------
    name : {"blur", "strong_blur", "spacetime_blur", "black"}
        ``"blur"``: every frame under a Gaussian of 9 x 9 taps, sigma 1.7 pixels, in space only.
        ``"strong_blur"``: the same with 65 x 65 taps, sigma 8. ``"spacetime_blur"``: as "blur",
        over 9 frames too, so that motion is removed. ``"black"``: one value everywhere. Blurs
        reflect borders, and the first and last frame, without repeating the edge.
    clip : torch.Tensor
        (3, T, H, W), floating, normalised.
    black : float, optional
        The normalised value of black: (0 - mean) / std.
    """
    checks.one_of("baseline", name, NAMES)
    checks.video("clip", clip)
    black = checks.value("black", black, -1.0)
    if name == "black":
        return torch.full_like(clip, black)
    from scipy.ndimage import gaussian_filter  # late: importing it takes longer than a blur

    sigma, radius, axes = _BLURS[name]
    # SciPy's "mirror" is the reflection without the edge, also on frames smaller than the kernel,
    # where PyTorch's padding refuses. NumPy knows no bfloat16, hence at least float32.
    wide = torch.promote_types(clip.dtype, torch.float32)
    frames = clip.detach().to("cpu", wide).numpy()
    blurred = gaussian_filter(frames, sigma, mode="mirror", radius=radius, axes=axes)
    return torch.from_numpy(blurred).to(clip.device, clip.dtype)
