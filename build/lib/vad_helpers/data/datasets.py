"""The datasets that a profile can name: "walkway", written when missing, "ucsd" and "videos", on
disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vad_helpers.data import ucsd, videos, walkway
from vad_helpers.data.augmentation import Augmentation
from vad_helpers.errors import InputError

SPECS = {"walkway": walkway.WalkwaySpec, "augmentation": Augmentation}
"""What a parameter's options are those of."""


def spec_of(name: str, options: Mapping[str, Any]) -> Any:
    """Make the dataclass of a parameter's options; InputError names what is unknown or wrong."""
    try:
        return SPECS[name](**options)
    except TypeError:
        known = ", ".join(SPECS[name].__dataclass_fields__)
        raise InputError(f"parameter '{name}' is {options}; its options are {known}") from None


def walkway_folder(folder: Path, *, seed: int, options: Mapping[str, Any]) -> Path:
    """Name the synthetic tree's folder, beside `folder`, by seed, options and version: never a
    stale one."""
    spec = spec_of("walkway", options)
    return folder.with_name(f"{folder.name}-{walkway.key(seed, spec)[:8]}")


def write_walkway(folder: Path, *, seed: int, options: Mapping[str, Any]) -> Path:
    """Write the synthetic tree to its `walkway_folder` if it is missing; give its root."""
    return walkway.write(walkway_folder(folder, seed=seed, options=options), seed=seed, **options)


def content_key(
    dataset: str,
    folder: Path,
    *,
    seed: int,
    options: Mapping[str, Any],
    labels: str = "none",
    masks: str = "none",
) -> str:
    """Name what is in a dataset: "walkway-..." by seed and options, it need not be there; else
    "ucsd-..." or "videos-..." and the fingerprint of the `folder`."""
    if dataset == "walkway":
        return f"walkway-{walkway.key(seed, spec_of('walkway', options))}"
    if dataset == "videos":
        return f"videos-{videos.fingerprint(folder, labels=labels, masks=masks)}"
    return f"ucsd-{ucsd.fingerprint(folder)}"


def example_clip(n_frames: int = 16) -> tuple[str, np.ndarray, np.ndarray]:
    """Draw a walkway clip in memory, where most of its anomaly is in sight.

    Its id, grey frames uint8 (T, H, W), and mask bool (T, H, W).
    """
    spec = walkway.WalkwaySpec()
    footage = walkway.film(spec, walkway.open_scene(spec, "ped1"), "test", 1)
    areas = np.convolve(footage.masks.sum(axis=(1, 2)), np.ones(n_frames), mode="valid")
    start = int(areas.argmax())
    shown = slice(start, start + n_frames)
    return f"walkway-ped1-Test001-{start:04d}", footage.frames[shown], footage.masks[shown]
