"""The datasets that a profile can name: "walkway", written when missing, "ucsd" and "videos", on
disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vad_helpers.data import ucsd, videos, walkway
from vad_helpers.errors import InputError


def spec_of(name: str, kind: type, options: Mapping[str, Any]) -> Any:
    """Make a dataclass of a parameter's options; InputError names what is unknown or wrong."""
    try:
        return kind(**options)
    except TypeError:
        known = ", ".join(kind.__dataclass_fields__)
        raise InputError(f"parameter '{name}' is {options}; its options are {known}") from None


def walkway_spec(options: Mapping[str, Any]) -> walkway.WalkwaySpec:
    """Check the options of the synthetic dataset, see `spec_of`."""
    return spec_of("walkway", walkway.WalkwaySpec, options)


def walkway_folder(folder: Path, *, seed: int, options: Mapping[str, Any]) -> Path:
    """Name the synthetic tree's folder, beside `folder`, by seed and options.

    Another seed, option or version is another folder, never a stale one.
    """
    return folder.with_name(f"{folder.name}-{walkway.key(seed, walkway_spec(options))[:8]}")


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
    """Name what is in a dataset: "walkway-...", "ucsd-..." or "videos-...".

    The walkway's depends on seed and options, and it need not be there; that of the tree or the
    videos in `folder` is its fingerprint.
    """
    if dataset == "walkway":
        return f"walkway-{walkway.key(seed, walkway_spec(options))}"
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
