"""walkway: the embedded dataset, a synthetic stand-in for UCSD in UCSD's own layout.

Two scenes, `ped1` and `ped2`, each with normal training sequences and test sequences that hold
anomalies (bikes, skaters, carts, people on the grass), with a mask for every test frame. The
reader of the real data is the only reader. Writing takes about half a minute on one core.

A small network learns the task from scratch in a minute or two (see `crowd` for why);
accuracies reached on it say nothing about UCSD.

A pixel belongs to the mask when at least a quarter of it shows an anomaly (rider included,
shadow and hidden parts excluded); a frame is anomalous if and only if its mask is not empty.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import numpy as np
from PIL import Image

from vad_helpers.data.walkway.crowd import ANOMALIES, PATTERNS, anomalies, normal_crowd
from vad_helpers.data.walkway.drawing import Actor, draw_layers, soft_shadows
from vad_helpers.data.walkway.scenery import Scene, build_scene
from vad_helpers.errors import InputError
from vad_helpers.files import atomic_folder

VERSION = 1
"""Grows whenever the same spec and seed give other pixels."""
SCENES = ("ped1", "ped2")
MASK_COVERAGE = 0.25
SHADOW_DEPTH = 0.42
MANIFEST = "walkway.json"


@dataclasses.dataclass(frozen=True)
class WalkwaySpec:
    """What is written, the seed apart; InputError if a value is out of its range.

    Attributes
    ----------
    ped1_size, ped2_size : tuple of int
        Frame size (height, width) in pixels, at least 48 x 64; 1.3 to 2 times as wide as high.
    n_train, n_test : int
        Sequences a scene, 0 to 999 and 1 to 999.
    n_frames : int
        Frames a sequence, 32 to 999.
    """

    ped1_size: tuple[int, int] = (120, 180)
    ped2_size: tuple[int, int] = (144, 216)
    n_train: int = 12
    n_test: int = 36
    n_frames: int = 64

    def __post_init__(self) -> None:
        for name in ("ped1_size", "ped2_size"):
            value = getattr(self, name)
            try:
                height, width = (int(v) for v in value)
            except (TypeError, ValueError):
                height = width = 0
            if height < 48 or width < 64 or not 1.3 <= width / height <= 2:
                raise InputError(
                    f"{name} is {value!r}: give (height, width) of at least (48, 64) pixels, 1.3 "
                    f"to 2 times as wide as high"
                )
            object.__setattr__(self, name, (height, width))
        for name, low in (("n_train", 0), ("n_test", 1), ("n_frames", 32)):
            value = getattr(self, name)
            if not isinstance(value, int) or not low <= value <= 999:
                raise InputError(f"{name} is {value!r}: give a whole number from {low} to 999")


def key(seed: int, spec: WalkwaySpec) -> str:
    """Name the content of a tree by 16 hexadecimal digits: equal keys, equal files."""
    text = json.dumps([VERSION, seed, dataclasses.asdict(spec)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class Footage:
    """One rendered sequence."""

    frames: np.ndarray  # uint8 (n_frames, H, W), grey
    masks: np.ndarray  # bool (n_frames, H, W), visible pixels of anomalies
    cast: tuple[Actor, ...]  # who takes part, normal people first


def open_scene(spec: WalkwaySpec, name: str, *, seed: int = 0) -> Scene:
    """Build a scene of the dataset, `ped1` or `ped2`, without anybody in it."""
    return build_scene(name, getattr(spec, f"{name}_size"), _seeds(seed, name, "scene", 0))


def _seeds(seed: int, scene: str, kind: str, number: int) -> np.random.SeedSequence:
    place = (SCENES.index(scene), ("scene", "train", "test").index(kind), number)
    return np.random.SeedSequence(entropy=seed, spawn_key=place)


def film(spec: WalkwaySpec, scene: Scene, kind: str, number: int, *, seed: int = 0) -> Footage:
    """Render one sequence in memory: of normal people ("train"), or with anomalies ("test").

    `scene` is from `open_scene` with the same spec and seed; `number` counts from 1, whatever the
    spec's number of sequences.
    """
    cast_seed, light_seed = _seeds(seed, scene.name, kind, number).spawn(2)
    rng = np.random.default_rng(cast_seed)
    cast = normal_crowd(scene, spec.n_frames, rng)
    if kind == "test":
        what, when = role(number)
        cast += anomalies(scene, spec.n_frames, rng, kind=what, pattern=when)
    shape = (spec.n_frames, scene.height, scene.width)
    frames, masks = np.empty(shape, np.uint8), np.empty(shape, bool)
    rng = np.random.default_rng(light_seed)
    # The slow drift of the illumination, as a factor a frame.
    period, phase = rng.uniform(120, 400), rng.uniform(0, 2 * np.pi)
    drift = rng.uniform(0.01, 0.03) * np.sin(2 * np.pi * np.arange(spec.n_frames) / period + phase)
    light = (rng.uniform(0.95, 1.05) + drift).astype(np.float32)
    noise = rng.uniform(1.6, 2.4)
    breeze = rng.uniform(0, 2 * np.pi)
    for t in range(spec.n_frames):
        grey, masks[t] = draw_frame(scene, cast, t, breeze=breeze + 0.35 * t)
        grey = grey * light[t] + noise * rng.standard_normal(grey.shape, np.float32)
        frames[t] = np.clip(np.rint(grey), 0, 255)
    return Footage(frames, masks, tuple(cast))


def role(number: int) -> tuple[str, str]:
    """Give (kind, pattern) of a test sequence: sixteen in a row hold each pair once."""
    turn = number - 1
    return ANOMALIES[turn % 4], PATTERNS[(turn + turn // 4) % 4]


def draw_frame(
    scene: Scene, cast: list[Actor], frame: int, *, breeze: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one frame without noise and drift: grey float32 (H, W), 0 to 255, and mask (H, W)."""
    size = scene.height, scene.width
    visible = []  # any point or shadow within the picture
    for actor in cast:
        points = np.concatenate([actor.points[frame], actor.shadow[frame]])
        if (points.max(axis=0) > -3).all() and (points.min(axis=0) < np.add(size[::-1], 3)).all():
            visible.append(actor)
    stage = [(float(actor.track.y[frame]), actor, 0) for actor in visible]  # by rows
    for sprite in scene.sprites:
        stage.append((sprite.base, sprite, round(sprite.sway * np.sin(breeze + sprite.base))))
    layers = draw_layers(sorted(stage, key=lambda item: item[0]), frame, *size)
    ground = scene.background * (1 - SHADOW_DEPTH * soft_shadows(visible, frame, *size))
    grey = ground * (1 - layers[..., 1] / 255) + layers[..., 0]
    return grey, layers[..., 2] >= 255 * MASK_COVERAGE


def write(dest: str | Path, *, seed: int = 0, **options) -> Path:
    """Write the dataset to a folder, in UCSD's layout.

    The tree appears whole or not at all; one that is there already is left as it is.

    Parameters
    ----------
    dest : str or Path
        Folder to make, the tree's root.
    seed : int
        Not negative. The same seed and options give the same bytes.
    **options
        Fields of `WalkwaySpec`.

    Raises
    ------
    InputError
        If an option or the seed is out of range, or `dest` holds something else.
    """
    spec = WalkwaySpec(**options)
    if seed < 0:
        raise InputError(f"seed is {seed}: give a whole number from 0")
    dest, wanted = Path(dest), key(seed, spec)
    if _holds(dest, wanted):
        return dest
    if dest.exists() and not (dest.is_dir() and not any(dest.iterdir())):
        raise InputError(f"{dest} exists and is not this dataset: remove it or give another folder")
    try:
        with atomic_folder(dest) as root:
            for name in SCENES:
                _write_scene(root / f"UCSD{name}", spec, name, seed)
            manifest = {"key": wanted, "version": VERSION, "seed": seed}
            text = json.dumps(manifest | {"spec": dataclasses.asdict(spec)}, indent=1)
            (root / MANIFEST).write_text(text + "\n", encoding="utf-8")
    except OSError:
        if not _holds(dest, wanted):  # else another process wrote the same tree first
            raise
    return dest


def _holds(dest: Path, wanted: str) -> bool:
    try:
        return json.loads((dest / MANIFEST).read_text(encoding="utf-8"))["key"] == wanted
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write_scene(folder: Path, spec: WalkwaySpec, name: str, seed: int) -> None:
    scene = open_scene(spec, name, seed=seed)
    lines = ["TestVideoFile = {};"]
    for kind, side, n in (("train", "Train", spec.n_train), ("test", "Test", spec.n_test)):
        (folder / side).mkdir(parents=True)
        for number in range(1, n + 1):
            footage = film(spec, scene, kind, number, seed=seed)
            outputs = [(f"{side}{number:03d}", footage.frames, "tif")]
            if kind == "test":
                outputs.append((f"{side}{number:03d}_gt", footage.masks, "bmp"))
                # 1-based inclusive ranges of anomalous frames.
                flags = footage.masks.any(axis=(1, 2)).astype(np.int8)
                edges = np.flatnonzero(np.diff(flags, prepend=0, append=0)).reshape(-1, 2)
                ranges = ", ".join(f"{first + 1}:{last}" for first, last in edges)
                lines.append(f"TestVideoFile{{end+1}}.gt_frame = [{ranges}];")
            for subfolder, images, suffix in outputs:
                (folder / side / subfolder).mkdir()
                for i, image in enumerate(images, start=1):
                    Image.fromarray(image).save(folder / side / subfolder / f"{i:03d}.{suffix}")
    (folder / "Test" / f"UCSD{name}.m").write_text("\n".join(lines) + "\n", encoding="ascii")
