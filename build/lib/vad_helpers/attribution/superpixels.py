"""Superpixels: the pieces of a clip that LIME and KernelSHAP switch on and off."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vad_helpers.attribution import checks
from vad_helpers.errors import InputError

SETTINGS = {"n_segments": 80, "compactness": 60.0}
LIMITS = {"n_segments": ">= 1", "compactness": "> 0"}


def slic(clip: Tensor, *, n_segments: int = 80, compactness: float = 60.0) -> np.ndarray:
    """Cut a clip into superpixels that span space and time.

    SLIC clusters voxels by grey value and position (time counts as much as space: unit spacing),
    without smoothing, and makes the clusters connected.

    Parameters
    ----------
    clip : torch.Tensor
        (3, T, H, W), floating. Grey is the mean over channels; scikit-image stretches it to [0, 1].
    n_segments : int, optional
        How many are asked for; SLIC finds about as many.
    compactness : float, optional
        Weight of position against grey value: larger is closer to cubes.

    Returns
    -------
    numpy.ndarray
        int64 labels, (T, H, W), every one of 0 .. n - 1 in use.

    Raises
    ------
    InputError
        If an argument is not as described.

    References
    ----------
    Achanta et al., SLIC superpixels compared to state-of-the-art superpixel methods, IEEE TPAMI
    34 (11), 2012.
    """
    checks.video("clip", clip)
    options = {"n_segments": n_segments, "compactness": compactness}
    for name, given in options.items():
        checks.value(name, given, SETTINGS[name], LIMITS[name])
    from skimage.segmentation import slic as cluster  # late: only two methods need it

    # In float64 the mean of three equal channels is the channel itself, to the last bit.
    grey = clip.detach().cpu().double().mean(dim=0).float().numpy()
    labels = cluster(grey, **options, sigma=0, start_label=0, channel_axis=None)
    # Connecting the clusters may drop one: number what is left without gaps.
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape).astype(np.int64)


def check(segments: object, shape: tuple[int, ...]) -> np.ndarray:
    """Return labels as int64 if they give every voxel one of 0 .. n - 1, else raise InputError."""
    array = np.asarray(segments)
    if array.shape != shape or array.dtype.kind not in "iu":
        raise InputError(f"segments has shape {array.shape}, {array.dtype}; give integers {shape}")
    found = np.unique(array)
    if found[0] != 0 or found[-1] != len(found) - 1:
        raise InputError(f"segments has labels {found[0]} to {found[-1]}; number them without gaps")
    return array.astype(np.int64)
