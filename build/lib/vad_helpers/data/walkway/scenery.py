"""The two places of the walkway: ground, plants, lamp posts, camera and light.

`ped1` looks along an oblique path from above, `ped2` across a plaza. Both are made of a pinhole
camera over a flat ground (world units: a person's height), textures fixed to that ground, and
sprites that stand in front of the actors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from vad_helpers.data.walkway.drawing import SUPERSAMPLE, Sprite


@dataclass(frozen=True)
class Camera:
    """A camera over flat ground; all lengths in pixels, world units in heights."""

    vanishing_x: float  # image point where lines straight away from the camera meet
    horizon: float
    eye: float  # a person at distance z stands `eye` own heights below the horizon
    focal: float  # a person at distance z is focal / z pixels high

    def to_image(self, across, away):
        """Map ground (across, away) to (x, y, a person's height there)."""
        height = self.focal / np.asarray(away, float)
        return self.vanishing_x + across * height, self.horizon + self.eye * height, height

    def to_ground(self, x, y):
        """Map image points below the horizon to ground (across, away)."""
        height = np.maximum((np.asarray(y, float) - self.horizon) / self.eye, 1e-3)
        return (x - self.vanishing_x) / height, self.focal / height

    def away_at(self, y: float) -> float:
        """Give the distance of the ground in image row `y`."""
        return self.eye * self.focal / (y - self.horizon)


@dataclass(frozen=True)
class Scene:
    """One place."""

    name: str  # ped1 or ped2
    height: int  # of a frame, in pixels
    width: int
    camera: Camera
    background: np.ndarray  # float32 (H, W), grey without actors and sprites, 0 to 255
    sprites: tuple[Sprite, ...]  # what hides actors behind it
    screen: np.ndarray  # float32 (H, W): hidden for certain is what stands on a row above this one
    sun: tuple[float, float]  # how far the shadow of one unit of height falls: right and away


def build_scene(name: str, size: tuple[int, int], seed: np.random.SeedSequence) -> Scene:
    """Build `ped1` or `ped2` at a frame size (height, width) in pixels."""
    build = {"ped1": _oblique_path, "ped2": _plaza}[name]
    camera, ground, sprites, sun = build(*size, np.random.default_rng(seed))
    background = np.asarray(Image.fromarray(ground.grey).reduce(SUPERSAMPLE), np.float32)
    screen = np.full(background.shape, -np.inf, np.float32)
    for sprite in sprites:
        alpha = Image.new("L", ground.shape[::-1])
        alpha.paste(sprite.alpha, (sprite.left, sprite.top))
        opaque = np.asarray(alpha.reduce(SUPERSAMPLE)) > 127
        screen = np.where(opaque, np.maximum(screen, np.float32(sprite.base)), screen)
    # Gaps between leaves show next to nothing; whoever passes behind an edge has some width.
    grain = round(0.045 * size[0])
    screen = ndimage.minimum_filter(ndimage.grey_closing(screen, size=grain), size=grain)
    return Scene(name, *size, camera, background, tuple(sprites), screen, sun)


def fractal(shape: tuple[int, int], cell: float, rng: np.random.Generator, octaves: int = 4):
    """Make smooth noise of mean 0 and standard deviation 1; `cell` is its coarsest grain."""
    total = np.zeros(shape, np.float32)
    for octave in range(octaves):
        grain = max(cell / 2**octave, 1.0)
        grid = [int(np.ceil(n / grain)) + 1 for n in shape]
        coarse = Image.fromarray(rng.standard_normal(grid).astype(np.float32))
        fine = coarse.resize(shape[::-1], Image.Resampling.BICUBIC)
        total += np.asarray(fine) / 1.7**octave
    return (total - total.mean()) / max(float(total.std()), 1e-6)


class _Ground:
    """Grey values of the ground on the canvas's grid: a lawn, painted region by region."""

    def __init__(self, height: int, width: int, camera: Camera, lawn: float, rng):
        self.shape = (height * SUPERSAMPLE, width * SUPERSAMPLE)
        self.rng = rng
        rows, columns = np.mgrid[: self.shape[0], : self.shape[1]].astype(np.float32)
        self.x, self.y = (columns + 0.5) / SUPERSAMPLE, (rows + 0.5) / SUPERSAMPLE
        self.across, self.away = camera.to_ground(self.x, self.y)
        self.height = camera.focal / self.away
        blades = fractal(self.shape, 6, rng, octaves=3)  # and broad patches
        grey = lawn + 9 * blades + 7 * self.texture(1.5) + 5 * self.texture(0.2)
        self.grey = grey.astype(np.float32)

    def texture(self, per_unit: float) -> np.ndarray:
        """Sample noise fixed to the ground: `per_unit` grains a height."""
        tile = fractal((512, 512), 16, self.rng)
        where = [self.away * per_unit * 8, self.across * per_unit * 8]
        return ndimage.map_coordinates(tile, where, order=1, mode="mirror")

    def concrete(self, level: float, joints: tuple[float, float]) -> np.ndarray:
        """Give slabs with joints every so many heights across and away (0: none)."""
        grey = level + 4.0 * self.texture(0.12) + 3.0 * self.texture(1.0) + 1.5 * self.texture(6)
        stains = np.clip(self.texture(0.35) - 1.6, 0, 1.2)
        grey -= 16 * stains
        for position, gap in zip((self.across, self.away), joints, strict=True):
            if gap:
                off_joint = np.abs((position / gap) % 1 - 0.5) * gap
                grey -= 20 * np.clip(1.4 - off_joint * self.height, 0, 1)
        return grey

    def paint(self, where: np.ndarray, grey) -> None:
        """Set a region."""
        self.grey = np.where(where, grey, self.grey).astype(np.float32)

    def shade(self, x: float, y: float, rx: float, ry: float, amount: float) -> None:
        """Lay the soft, dappled shadow of a crown on the ground: at most `amount` of the light."""
        radius = np.hypot((self.x - x) / rx, (self.y - y) / ry)
        dapple = 0.25 * fractal(self.shape, 14, self.rng, 3)
        self.grey *= 1 - amount * np.clip((1.1 - radius + dapple) * 1.3, 0, 1)

    def stand(self, sprite: Sprite) -> None:
        """Paint a sprite into the background: nobody ever passes behind it."""
        image = Image.fromarray(self.grey)
        grey = sprite.image.getchannel(0).convert("F")
        image.paste(grey, (sprite.left, sprite.top), sprite.alpha)
        self.grey = np.array(image, np.float32)


def _bush(x, y, width, height, base, rng, *, solid=0.75, level=62.0, sway=0.0) -> Sprite:
    """Make a mass of leaves in a box: tufts lit from above; `solid` of the radius has no gaps."""
    shape = (round(height * SUPERSAMPLE), round(width * SUPERSAMPLE))
    leaf = max(3.0, 1.1 * SUPERSAMPLE)
    rows, columns = np.mgrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    leaves, clumps = fractal(shape, leaf, rng, 2), fractal(shape, leaf * 5, rng, 3)
    light = np.full(shape, 0.75)
    radius = np.hypot(rows, columns) / (solid + 0.1)
    wide = shape[1] / shape[0]
    spots = rng.uniform(-1, 1, (int(18 + 14 * wide), 2))
    for row, column in spots[np.argsort(spots[:, 0])]:
        size = rng.uniform(0.24, 0.42)
        if np.hypot(row, column) > 1 - size / 2:
            continue
        across = (columns - column) * max(wide, 1.0) / size
        along = (rows - row) * max(1 / wide, 1.0) / size
        tuft = np.hypot(across, along) + 0.12 * leaves
        light = np.where(tuft < 1, 1.12 - 0.42 * along - 0.12 * rows, light)
        radius = np.minimum(radius, np.maximum(tuft, np.hypot(rows, columns) * 0.99))
    opaque = radius + 0.06 * leaves * (radius > 0.85) < 1
    grey = level * light * (1 + 0.14 * clumps) + 9 * leaves
    return _sprite(np.clip(grey, 10, 185), opaque.astype(np.float32), x, y, base, sway)


def _sprite(grey: np.ndarray, alpha: np.ndarray, x, y, base, sway=0.0) -> Sprite:
    """Place grey values with an opacity at the frame point (x, y), its upper left corner."""
    layers = np.zeros((*grey.shape, 3), np.uint8)
    layers[..., 0], layers[..., 1] = np.clip(grey, 0, 255), 255
    image = Image.fromarray(layers)
    mask = Image.fromarray((alpha * 255).astype(np.uint8))
    return Sprite(image, mask, round(x * SUPERSAMPLE), round(y * SUPERSAMPLE), base, sway)


def _lamp_post(x: float, base: float, tall: float, thick: float) -> Sprite:
    """Make a lamp post standing at (x, base), `tall` and `thick` pixels."""
    s = SUPERSAMPLE
    head = 4.5 * thick
    high, wide, half = round(tall * s), round(2 * head * s), thick * s / 2
    image = Image.new("LA", (wide, high), (34, 0))
    for reach, top, bottom, level in (
        (half, 0, high, 38),
        (1.7 * half, high - 4 * half, high, 50),
        (head * s * 0.8, 0, 2.2 * half, 30),
        (head * s * 0.6, 2.2 * half, 3.2 * half, 205),
    ):
        box = (wide / 2 - reach, top, wide / 2 + reach, bottom)
        ImageDraw.Draw(image).rectangle(box, (level, 255))
    grey, alpha = np.moveaxis(np.asarray(image, float), 2, 0)
    return _sprite(grey, alpha / 255, x - head, base - tall, base)


def _trunk(x: float, base: float, tall: float, thick: float, rng: np.random.Generator) -> Sprite:
    """Make a tree trunk, slightly bent and lit from one side."""
    shape = round(tall * SUPERSAMPLE), round(3 * thick * SUPERSAMPLE)
    rows, columns = np.mgrid[: shape[0], : shape[1]] / np.array(shape)[:, None, None]
    bend = 0.5 + 0.1 * np.sin(3 * rows)
    side = (columns - bend) / (1 / 6 * (0.8 + 0.5 * rows**3))
    bark = fractal(shape, 5, rng, 2)
    grey, alpha = 62 - 20 * side + 9 * bark, (np.abs(side) < 1).astype(float)
    return _sprite(grey, alpha, x - 1.5 * thick, base - tall, base)


PED1_LANES = (-3.2, -0.62)  # edges of the path, in heights across
PED1_SIDE = (0.175, 0.222)  # a side path: heights (share of the frame's) at its edges
PED2_EDGES = (0.485, 0.955)  # rows of the plaza's kerbs, share of the frame's height


def _oblique_path(h: int, w: int, rng: np.random.Generator) -> tuple:
    """Build ped1: a path that leads away from the camera, a side path, a lawn, a hedge."""
    camera = Camera(0.83 * w, -0.1 * h, 2.5, 1.3 * h)
    ground = _Ground(h, w, camera, 100, rng)
    scale = ground.height / h
    on_side = (scale > PED1_SIDE[0]) & (scale < PED1_SIDE[1]) & (ground.across < -2)
    on_path = (ground.across > PED1_LANES[0]) & (ground.across < PED1_LANES[1])
    kerb = (ground.across > PED1_LANES[0] - 0.09) & (ground.across < PED1_LANES[1] + 0.09)
    ground.paint(kerb, 172 + 6 * ground.texture(1.0))
    ground.paint(on_side, ground.concrete(158, (0, 0)))
    ground.paint(on_path, ground.concrete(146, (0, 1.5)))
    ground.shade(0.1 * w, 0.62 * h, 0.22 * w, 0.13 * h, 0.4)
    ground.shade(0.97 * w, 0.5 * h, 0.14 * w, 0.08 * h, 0.35)
    ground.stand(_bush(-0.1 * w, -0.22 * h, 1.2 * w, 0.47 * h, 0, rng, level=44, solid=0.9))
    sprites = [
        _bush(-0.16 * w, 0.1 * h, 0.46 * w, 0.4 * h, 0.49 * h, rng, level=50, solid=1.0),
        _bush(-0.2 * w, 0.3 * h, 0.3 * w, 0.34 * h, 0.62 * h, rng, level=40, solid=0.85),
        _lamp_post(0.115 * w, 0.72 * h, 0.5 * h, 0.011 * h),
        _lamp_post(0.735 * w, 0.60 * h, 0.42 * h, 0.009 * h),
        _trunk(0.955 * w, 0.56 * h, 0.5 * h, 0.03 * h, rng),
        _bush(0.2 * w, -0.2 * h, 0.42 * w, 0.36 * h, 2 * h, rng, solid=0.6, level=54, sway=2.0),
        _bush(0.5 * w, -0.2 * h, 0.4 * w, 0.415 * h, 2 * h, rng, solid=0.72, level=60, sway=2.0),
        _bush(0.8 * w, -0.24 * h, 0.4 * w, 0.56 * h, 2 * h, rng, solid=0.55, level=52, sway=2.0),
    ]
    return camera, ground, sprites, (0.55, 0.35)


def _plaza(h: int, w: int, rng: np.random.Generator) -> tuple:
    """Build ped2: a plaza seen from the side, a lawn with lamp posts behind it, a building."""
    camera = Camera(0.5 * w, -0.4 * h, 3.7, 2.4 * h)
    ground = _Ground(h, w, camera, 104, rng)
    top, bottom = PED2_EDGES
    on_plaza = (ground.y > top * h) & (ground.y < bottom * h)
    kerb = (ground.y > (top - 0.016) * h) & (ground.y < (bottom + 0.018) * h)
    ground.paint(kerb, 178 + 5 * ground.texture(1.0))
    ground.paint(on_plaza, ground.concrete(150, (1.7, 1.5)))
    ground.paint((np.abs(ground.y - top * h) < 0.004 * h), 70)
    ground.paint(ground.y < 0.2 * h, 118 + 4 * fractal(ground.shape, 30, rng))
    for left in np.arange(0.03, 1.0, 0.11):  # windows of the building at the top
        across = np.abs(ground.x / w - left - 0.035) < 0.032
        inside = across & (np.abs(ground.y / h - 0.055) < 0.035)
        ground.paint(inside, 52 + 26 * (ground.y / h - 0.02) / 0.07 + 0 * ground.x)
    for k, x in enumerate(np.linspace(-0.08, 0.9, 7)):
        top_row, wide = 0.13 - 0.02 * (k % 2), 0.2 + 0.03 * (k % 3)
        ground.stand(_bush(x * w, top_row * h, wide * w, 0.2 * h, 0, rng, level=52))
    ground.shade(0.1 * w, 0.42 * h, 0.16 * w, 0.07 * h, 0.4)
    ground.shade(0.82 * w, 0.9 * h, 0.2 * w, 0.06 * h, 0.3)
    crown = {"solid": 0.6, "sway": 2.0}
    sprites = [
        _trunk(0.085 * w, 0.44 * h, 0.36 * h, 0.03 * h, rng),
        _lamp_post(0.3 * w, 0.478 * h, 0.42 * h, 0.010 * h),
        _lamp_post(0.9 * w, 0.478 * h, 0.42 * h, 0.010 * h),
        _bush(-0.06 * w, -0.14 * h, 0.3 * w, 0.36 * h, 0.44 * h, rng, **crown, level=48),
        _lamp_post(0.6 * w, 0.985 * h, 0.62 * h, 0.014 * h),
        _bush(0.86 * w, 0.8 * h, 0.24 * w, 0.3 * h, 1.08 * h, rng, **crown, level=56),
    ]
    return camera, ground, sprites, (0.5, 0.5)
