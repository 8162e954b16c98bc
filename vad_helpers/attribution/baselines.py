"""Baselines: the video that stands for "nothing to see here" and fills what is removed."""

from __future__ import annotations

import scipy.ndimage
import torch

from vad_helpers.attribution import checks

# (standard deviation, radius) in pixels. 9 taps and sigma 1.7: the kernel size of the paper and
# the deviation that OpenCV derives from it, .3 * ((9 - 1) / 2 - 1) + .8.
_BLURS = {"blur": (1.7, 4), "strong_blur": (8.0, 32)}

NAMES = (*_BLURS, "black")


def make(name: str, clip: torch.Tensor, *, black: float = -1.0) -> torch.Tensor:
    """Make a named baseline for a clip.

    Parameters
    ----------
    name : {"blur", "strong_blur", "black"}
        ``"blur"``: every frame under a Gaussian of 9 x 9 taps, sigma 1.7 pixels.
        ``"strong_blur"``: the same with 65 x 65 taps, sigma 8. ``"black"``: one value everywhere.
        Blurs act in space only, with borders reflected without repeating the edge.
    clip : torch.Tensor
        (3, T, H, W), floating, normalised.
    black : float, optional
        The normalised value of black: (0 - mean) / std.

    Returns
    -------
    torch.Tensor
        A new tensor of the clip's shape, type and device.

    Raises
    ------
    InputError
        If the name is unknown or the clip or `black` is not as described.
    """
    checks.one_of("baseline", name, NAMES)
    checks.video("clip", clip)
    black = checks.real("black", black)
    if name == "black":
        return torch.full_like(clip, black)
    return _blur(clip, *_BLURS[name])


def _blur(clip: torch.Tensor, sigma: float, radius: int) -> torch.Tensor:
    # SciPy's "mirror" is the reflection without the edge, also on frames smaller than the kernel,
    # where PyTorch's padding refuses. NumPy knows no bfloat16, hence at least float32.
    wide = torch.promote_types(clip.dtype, torch.float32)
    frames = clip.detach().to("cpu", wide).numpy()
    blurred = scipy.ndimage.gaussian_filter(
        frames, sigma, mode="mirror", radius=radius, axes=(-2, -1)
    )
    return torch.from_numpy(blurred).to(clip.device, clip.dtype)
