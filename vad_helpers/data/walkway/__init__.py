"""walkway: the embedded dataset, a synthetic stand-in for UCSD in UCSD's own layout.

Two scenes, `ped1` and `ped2`, each with normal training sequences and test sequences that hold
anomalies (bikes, skaters, carts, people on the grass), with a pixel mask for every test frame.
It is written to disk as TIFF frames, BMP masks and a `.m` list, so that the reader of the real
data is the only reader. Writing takes about half a minute on one core.

The task is made to be learned from scratch by a small network in a minute or two, and localised
not quite as easily: anomalies have shapes and motions of their own and bright jackets or paint,
while joggers move as fast (see `crowd`). Accuracies reached on it say nothing about UCSD.

A pixel belongs to the mask when at least a quarter of it shows an anomaly (rider included,
shadow and hidden parts excluded); a frame is anomalous if and only if its mask is not empty.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vad_helpers.data.walkway.crowd import ANOMALIES, PATTERNS, anomalies, normal_crowd
from vad_helpers.data.walkway.drawing import Actor, Canvas, soft_shadows
from vad_helpers.data.walkway.scenery import Scene, build_scene
from vad_helpers.errors import InputError

VERSION = 1
"""Grows whenever the same spec and seed give other pixels."""
SCENES = ("ped1", "ped2")
MASK_COVERAGE = 0.25
SHADOW_DEPTH = 0.42
MANIFEST = "walkway.json"
SMALLEST = (48, 64)
WIDEST = (1.3, 2.0)
SHORTEST = 32


@dataclass(frozen=True)
class WalkwaySpec:
    """What is written, the seed apart.

    Attributes
    ----------
    ped1_size, ped2_size : tuple of int
        Frame size (height, width) in pixels, at least 48 x 64; 1.3 to 2 times as wide as high.
    n_train, n_test : int
        Sequences a scene, 0 to 999 and 1 to 999.
    n_frames : int
        Frames a sequence, 32 to 999.

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    ped1_size: tuple[int, int] = (120, 180)
    ped2_size: tuple[int, int] = (144, 216)
    n_train: int = 12
    n_test: int = 36
    n_frames: int = 64

    def __post_init__(self) -> None:
        for name in ("ped1_size", "ped2_size"):
            object.__setattr__(self, name, _checked_size(name, getattr(self, name)))
        for name, low in (("n_train", 0), ("n_test", 1), ("n_frames", SHORTEST)):
            _check_count(name, getattr(self, name), low)


def _checked_size(name: str, value) -> tuple[int, int]:
    try:
        height, width = (int(v) for v in value)
    except (TypeError, ValueError):
        raise InputError(f"{name} is {value!r}: give (height, width) in pixels") from None
    if height < SMALLEST[0] or width < SMALLEST[1]:
        raise InputError(f"{name} is {value!r}: give at least {SMALLEST} pixels (height, width)")
    if not WIDEST[0] <= width / height <= WIDEST[1]:
        raise InputError(
            f"{name} is {value!r}: make it {WIDEST[0]} to {WIDEST[1]} times as wide as high"
        )
    return height, width


def _check_count(name: str, value, low: int) -> None:
    if not isinstance(value, int) or not low <= value <= 999:
        raise InputError(f"{name} is {value!r}: give a whole number from {low} to 999")


def key(seed: int, spec: WalkwaySpec) -> str:
    """Name the content of a tree: equal keys, equal files.

    Returns
    -------
    str
        16 hexadecimal digits that depend on seed, spec and `VERSION`.
    """
    text = json.dumps([VERSION, seed, dataclasses.asdict(spec)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Footage:
    """One rendered sequence.

    Attributes
    ----------
    frames : ndarray of uint8, shape (n_frames, H, W)
        Grey values.
    masks : ndarray of bool, shape (n_frames, H, W)
        Visible pixels of anomalies.
    cast : tuple of Actor
        Who takes part, normal people first.
    """

    frames: np.ndarray
    masks: np.ndarray
    cast: tuple[Actor, ...]


def open_scene(spec: WalkwaySpec, name: str, *, seed: int = 0) -> Scene:
    """Build a scene of the dataset, `ped1` or `ped2`, without anybody in it."""
    return build_scene(name, getattr(spec, f"{name}_size"), _seeds(seed, name, "scene", 0))


def film(spec: WalkwaySpec, scene: Scene, kind: str, number: int, *, seed: int = 0) -> Footage:
    """Render one sequence in memory.

    Parameters
    ----------
    spec : WalkwaySpec
        Only `n_frames` matters here.
    scene : Scene
        From `open_scene` with the same spec and seed.
    kind : {"train", "test"}
        Normal people only, or with anomalies.
    number : int
        From 1. It does not matter how many other sequences there are.
    seed : int
        Seed of the dataset.
    """
    cast_seed, light_seed = _seeds(seed, scene.name, kind, number).spawn(2)
    rng = np.random.default_rng(cast_seed)
    cast = normal_crowd(scene, spec.n_frames, rng)
    if kind == "test":
        what, when = _role(number)
        cast += anomalies(scene, spec.n_frames, rng, kind=what, pattern=when)
    frames, masks = _render(scene, cast, spec.n_frames, np.random.default_rng(light_seed))
    return Footage(frames, masks, tuple(cast))


def _seeds(seed: int, scene: str, kind: str, number: int) -> np.random.SeedSequence:
    place = (SCENES.index(scene), ("scene", "train", "test").index(kind), number)
    return np.random.SeedSequence(entropy=seed, spawn_key=place)


def _role(number: int) -> tuple[str, str]:
    """Give (kind, pattern) of a test sequence: sixteen in a row hold each pair once."""
    turn = number - 1
    kind = ANOMALIES[turn % len(ANOMALIES)]
    return kind, PATTERNS[(turn + turn // len(ANOMALIES)) % len(PATTERNS)]


def _render(scene: Scene, cast: list[Actor], n_frames: int, rng) -> tuple[np.ndarray, np.ndarray]:
    shape = (n_frames, scene.height, scene.width)
    frames, masks = np.empty(shape, np.uint8), np.empty(shape, bool)
    light = _light(n_frames, rng)
    noise = rng.uniform(1.6, 2.4)
    breeze = rng.uniform(0, 2 * np.pi)
    for t in range(n_frames):
        grey, masks[t] = draw_frame(scene, cast, t, breeze=breeze + 0.35 * t)
        grey = grey * light[t] + noise * rng.standard_normal(grey.shape, np.float32)
        frames[t] = np.clip(np.rint(grey), 0, 255)
    return frames, masks


def _light(n_frames: int, rng: np.random.Generator) -> np.ndarray:
    """Draw the slow drift of the illumination, as a factor a frame."""
    period, phase = rng.uniform(120, 400), rng.uniform(0, 2 * np.pi)
    drift = rng.uniform(0.01, 0.03) * np.sin(2 * np.pi * np.arange(n_frames) / period + phase)
    return (rng.uniform(0.95, 1.05) + drift).astype(np.float32)


def draw_frame(
    scene: Scene, cast: list[Actor], frame: int, *, breeze: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one frame without noise and drift.

    Returns
    -------
    grey : ndarray of float32, shape (H, W)
        0 to 255.
    mask : ndarray of bool, shape (H, W)
        Visible pixels of anomalies.
    """
    visible = [actor for actor in cast if actor.in_view(frame, scene.height, scene.width)]
    canvas = Canvas(scene.height, scene.width)
    for depth, thing in sorted(_stage(scene, visible, frame), key=lambda item: item[0]):
        if isinstance(thing, Actor):
            canvas.add(thing, frame)
        else:
            canvas.paste(thing, round(thing.sway * np.sin(breeze + depth)))
    layers = canvas.layers()
    shade = soft_shadows(visible, frame, scene.height, scene.width)
    ground = scene.background * (1 - SHADOW_DEPTH * shade)
    grey = ground * (1 - layers[..., 1] / 255) + layers[..., 0]
    return grey, layers[..., 2] >= 255 * MASK_COVERAGE


def _stage(scene: Scene, cast: list[Actor], frame: int) -> list[tuple[float, object]]:
    """List (row on which it stands, thing) of all that is drawn over the ground."""
    people = [(float(actor.track.y[frame]), actor) for actor in cast]
    return people + [(sprite.base, sprite) for sprite in scene.sprites]


def write(dest: str | Path, *, seed: int = 0, **options) -> Path:
    """Write the dataset to a folder, in UCSD's layout.

    The tree appears whole or not at all. A folder that already holds this very dataset is left
    as it is.

    Parameters
    ----------
    dest : str or Path
        Folder to make: `dest/UCSDped1/Test/Test001/001.tif` and so on.
    seed : int
        Not negative. The same seed and options give the same bytes.
    **options
        Fields of `WalkwaySpec`.

    Returns
    -------
    Path
        `dest`, the root of the tree.

    Raises
    ------
    InputError
        If an option is unknown or out of range, or `dest` holds something else.
    """
    spec = _make_spec(options)
    if not isinstance(seed, int) or seed < 0:
        raise InputError(f"seed is {seed!r}: give a whole number from 0")
    dest = Path(dest)
    if _holds(dest, key(seed, spec)):
        return dest
    if dest.exists() and not (dest.is_dir() and not any(dest.iterdir())):
        raise InputError(
            f"{dest} exists and is not this dataset: remove it or choose another folder"
        )
    with _whole_tree(dest, key(seed, spec)) as root:
        for name in SCENES:
            _write_scene(root / f"UCSD{name}", spec, name, seed)
        manifest = {"key": key(seed, spec), "version": VERSION, "seed": seed}
        text = json.dumps(manifest | {"spec": dataclasses.asdict(spec)}, indent=1)
        (root / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return dest


def _make_spec(options: dict) -> WalkwaySpec:
    known = [field.name for field in dataclasses.fields(WalkwaySpec)]
    unknown = sorted(set(options) - set(known))
    if unknown:
        raise InputError(
            f"unknown walkway option {unknown[0]!r}: the options are {', '.join(known)}"
        )
    return WalkwaySpec(**options)


def _holds(dest: Path, wanted: str) -> bool:
    try:
        return json.loads((dest / MANIFEST).read_text(encoding="utf-8"))["key"] == wanted
    except (OSError, ValueError, KeyError, TypeError):
        return False


@contextlib.contextmanager
def _whole_tree(dest: Path, wanted: str) -> Iterator[Path]:
    """Give a temporary sibling of `dest`; it takes its place when the block succeeds."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=".partial-", dir=dest.parent))
    try:
        root = work / "tree"
        root.mkdir()
        yield root
        with contextlib.suppress(OSError):
            dest.rmdir()  # an empty folder stands in the way of a rename on some systems
        try:
            os.rename(root, dest)
        except OSError:
            if not _holds(dest, wanted):  # else another process wrote the same tree first
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _write_scene(folder: Path, spec: WalkwaySpec, name: str, seed: int) -> None:
    scene = open_scene(spec, name, seed=seed)
    (folder / "Train").mkdir(parents=True)
    (folder / "Test").mkdir()
    for number in range(1, spec.n_train + 1):
        footage = film(spec, scene, "train", number, seed=seed)
        _write_images(folder / "Train" / f"Train{number:03d}", footage.frames, "tif")
    anomalous = []
    for number in range(1, spec.n_test + 1):
        footage = film(spec, scene, "test", number, seed=seed)
        _write_images(folder / "Test" / f"Test{number:03d}", footage.frames, "tif")
        _write_images(folder / "Test" / f"Test{number:03d}_gt", footage.masks, "bmp")
        anomalous.append(footage.masks.any(axis=(1, 2)))
    (folder / "Test" / f"UCSD{name}.m").write_text(ground_truth(anomalous), encoding="ascii")


def _write_images(folder: Path, images: np.ndarray, suffix: str) -> None:
    folder.mkdir()
    for number, image in enumerate(images, start=1):
        Image.fromarray(image).save(folder / f"{number:03d}.{suffix}")


def ground_truth(anomalous: list[np.ndarray]) -> str:
    """Write the `.m` list: one line a test sequence, 1-based inclusive ranges of frames.

    Parameters
    ----------
    anomalous : list of ndarray of bool, shape (n_frames,)
        One array a sequence, in order.
    """
    lines = ["TestVideoFile = {};"]
    for flags in anomalous:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(np.int8), [0]])))
        ranges = [f"{a + 1}:{b}" for a, b in edges.reshape(-1, 2)]
        lines.append(f"TestVideoFile{{end+1}}.gt_frame = [{', '.join(ranges)}];")
    return "\n".join(lines) + "\n"
