"""Draw bodies of `actors` frame by frame: projection, painter's order, canvas, shadows.

The canvas is supersampled and holds three layers: grey, coverage, coverage by anomalies. Drawing
in depth order hides what lies behind in all three alike; reduced to the frame's size they give
the anti-aliased picture, premultiplied by its coverage, and the mask of visible anomalies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vad_helpers.data.walkway.actors import Body, Part, Track

SUPERSAMPLE = 4
SHADOW_SAMPLE = 2
SHADOW_RADIUS = 0.04  # thinner limbs (spokes, forearms) leave no shadow worth its time


@dataclass(frozen=True)
class Sprite:
    """A fixed or swaying thing that hides what is behind it (a tree, a lamp post)."""

    image: Image.Image  # canvas layers ("RGB": grey, 255, 0) at the canvas's resolution
    alpha: Image.Image  # opacity ("L")
    left: int  # where its corner lies on the canvas
    top: int
    base: float  # row (in frame pixels) on which it stands: it hides all that stands higher up
    sway: float = 0.0  # amplitude of its sideways motion, in canvas pixels


@dataclass(frozen=True)
class Actor:
    """A body on its way, projected to the image for every frame."""

    kind: str  # walker, jogger, standing, bike, skater, cart or grass
    anomalous: bool  # whether its visible pixels belong to the mask
    track: Track
    parts: tuple[Part, ...]
    points: np.ndarray  # float (n_frames, n_points, 2), in frame pixels (x, y)
    shadow: np.ndarray  # likewise, on the ground
    order: np.ndarray  # int (n_frames, n_parts), parts from far to near
    size: float  # factor on a person's height


def make_actor(
    kind: str, body: Body, track: Track, *, anomalous: bool, sun: tuple[float, float], size: float
) -> Actor:
    """Project a body along its track.

    `sun` is how far the shadow of one unit of height falls to the right and away.
    """
    forward, left, up = np.moveaxis(np.stack(body.points, axis=1), 2, 0)
    cos, sin = np.cos(track.heading)[:, None], np.sin(track.heading)[:, None]
    right, away = forward * cos - left * sin, forward * sin + left * cos
    unit, tilt = (track.height * size)[:, None], track.tilt[:, None]
    x, y = track.x[:, None], track.y[:, None]
    points = np.stack([x + unit * right, y - unit * (up + tilt * away)], axis=2)
    on_ground = right + up * sun[0], tilt * (away + up * sun[1])
    shadow = np.stack([x + unit * on_ground[0], y - unit * on_ground[1]], axis=2)
    distance = away - tilt * up
    per_part = [distance[:, list(part.points)].mean(axis=1) - part.bias for part in body.parts]
    order = np.argsort(-np.stack(per_part, axis=1), axis=1, kind="stable")
    return Actor(kind, anomalous, track, tuple(body.parts), points, shadow, order, size)


def draw_layers(
    things: list[tuple[float, Actor | Sprite, int]], frame: int, height: int, width: int
) -> np.ndarray:
    """Draw things (row, what, canvas pixels to the right) one over the other.

    Float32 (H, W, 3) from 0 to 255: grey, coverage, coverage by anomalies.
    """
    image = Image.new("RGB", (width * SUPERSAMPLE, height * SUPERSAMPLE))
    draw = ImageDraw.Draw(image)
    for _, thing, shift in things:
        if isinstance(thing, Sprite):
            image.paste(thing.image, (thing.left + shift, thing.top), thing.alpha)
            continue
        places = (thing.points[frame] * SUPERSAMPLE).tolist()
        unit = float(thing.track.height[frame]) * thing.size * SUPERSAMPLE
        for part in (thing.parts[index] for index in thing.order[frame]):
            colour = (part.grey, 255, 255 if thing.anomalous else 0)
            _draw_part(draw, part, [tuple(places[j]) for j in part.points], unit, colour)
    return np.asarray(image.reduce(SUPERSAMPLE), np.float32)


def _draw_part(draw: ImageDraw.ImageDraw, part: Part, points, unit: float, colour) -> None:
    sizes = [size * unit for size in part.sizes]
    if part.shape == "disc":
        draw.circle(points[0], sizes[0], colour)
    elif part.shape == "ring":
        draw.line([*points, points[0]], colour, width=max(1, round(sizes[0])))
    elif part.shape == "face":
        # Counter-clockwise from outside: is it seen from there? Image rows grow downwards.
        (ax, ay), (bx, by), (cx, cy) = points[:3]
        if not part.one_sided or (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) < 0:
            draw.polygon(points, colour)
    elif sum(sizes) < 2.5:  # a spoke or a tube: its ends do not show
        draw.line(points, colour, width=max(1, round(sum(sizes))))
    else:
        (ax, ay), (bx, by) = points
        ra, rb = sizes
        length = max(float(np.hypot(bx - ax, by - ay)), 1e-6)
        nx, ny = (ay - by) / length, (bx - ax) / length
        outline = [(ax + nx * ra, ay + ny * ra), (bx + nx * rb, by + ny * rb)]
        outline += [(bx - nx * rb, by - ny * rb), (ax - nx * ra, ay - ny * ra)]
        draw.polygon(outline, colour)
        draw.circle(points[0], ra, colour)
        draw.circle(points[1], rb, colour)


def soft_shadows(actors: list[Actor], frame: int, height: int, width: int) -> np.ndarray:
    """Draw all shadows on the ground: float32 (H, W), 0 in the light, 1 in full shadow."""
    image = Image.new("L", (width * SHADOW_SAMPLE, height * SHADOW_SAMPLE))
    draw = ImageDraw.Draw(image)
    for actor in actors:
        places = (actor.shadow[frame] * SHADOW_SAMPLE).tolist()
        unit = float(actor.track.height[frame]) * actor.size * SHADOW_SAMPLE
        for part in actor.parts:
            points = [tuple(places[j]) for j in part.points]
            size = max(part.sizes, default=0)
            if part.shape == "face":
                draw.polygon(points, 255)
            elif part.shape == "ring":
                draw.line([*points, points[0]], 255, width=max(1, round(size * unit)))
            elif part.shape == "limb" and size >= SHADOW_RADIUS:
                draw.line(points, 255, width=max(1, round(2 * size * unit)))
            elif part.shape == "disc" and size >= SHADOW_RADIUS:
                draw.circle(points[0], size * unit, 255)
    image = image.reduce(SHADOW_SAMPLE).filter(ImageFilter.GaussianBlur(0.9))
    return np.asarray(image, np.float32) / 255
