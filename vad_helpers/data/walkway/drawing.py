"""Draw bodies of `actors` frame by frame: projection, painter's order, canvas, shadows.

The canvas is supersampled and has three layers (grey, coverage, coverage by anomalies). Drawing
to it in depth order hides what lies behind in all three layers alike; reduced to the frame's
size they give the anti-aliased picture, premultiplied by its coverage, and the mask of what is
visible of the anomalies.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from vad_helpers.data.walkway.actors import Body, Disc, Face, Limb, Part, Ring, Track

SUPERSAMPLE = 4
SHADOW_SAMPLE = 2
SHADOW_RADIUS = 0.04  # thinner limbs (spokes, forearms) leave no shadow worth its time


@dataclass(frozen=True)
class Sprite:
    """A fixed or swaying thing that hides what is behind it (a tree, a lamp post).

    Attributes
    ----------
    image, alpha : PIL.Image
        Canvas layers ("RGB": grey, 255, 0) and opacity ("L"), at the canvas's resolution.
    left, top : int
        Where its corner lies on the canvas.
    base : float
        Row (in frame pixels) on which it stands: it hides all that stands higher up.
    sway : float
        Amplitude of its sideways motion, in canvas pixels.
    """

    image: Image.Image
    alpha: Image.Image
    left: int
    top: int
    base: float
    sway: float = 0.0


@dataclass(frozen=True)
class Actor:
    """A body on its way, projected to the image for every frame.

    Attributes
    ----------
    kind : str
        walker, jogger, bike, skater, cart or grass.
    anomalous : bool
        Whether its visible pixels belong to the mask.
    track : Track
        Where it is.
    parts : tuple of Part
        What is drawn between its joints.
    points, shadow : ndarray of float, shape (n_frames, n_joints, 2)
        Joints, and their shadows on the ground, in frame pixels (x, y).
    order : ndarray of int, shape (n_frames, n_parts)
        Parts from far to near.
    size : float
        Factor on a person's height.
    """

    kind: str
    anomalous: bool
    track: Track
    parts: tuple[Part, ...]
    points: np.ndarray
    shadow: np.ndarray
    order: np.ndarray
    size: float

    def in_view(self, frame: int, height: int, width: int) -> bool:
        """Tell whether any joint (or shadow) of this frame lies within the picture."""
        points = np.concatenate([self.points[frame], self.shadow[frame]])
        low, high = points.min(axis=0), points.max(axis=0)
        return bool(high[0] > -3 and low[0] < width + 3 and high[1] > -3 and low[1] < height + 3)


def make_actor(
    kind: str, body: Body, track: Track, *, anomalous: bool, sun: tuple[float, float], size: float
) -> Actor:
    """Project a body along its track.

    `sun` is how far the shadow of one unit of height falls to the right and away.
    """
    forward, left, up = np.moveaxis(body.joints, 2, 0)
    cos, sin = np.cos(track.heading)[:, None], np.sin(track.heading)[:, None]
    right, away = forward * cos - left * sin, forward * sin + left * cos
    unit, tilt = (track.height * size)[:, None], track.tilt[:, None]
    x, y = track.x[:, None], track.y[:, None]
    points = np.stack([x + unit * right, y - unit * (up + tilt * away)], axis=2)
    on_ground = right + up * sun[0], tilt * (away + up * sun[1])
    shadow = np.stack([x + unit * on_ground[0], y - unit * on_ground[1]], axis=2)
    distance = away - tilt * up
    per_part = [
        distance[:, list(part.joints)].mean(axis=1) - getattr(part, "bias", 0.0)
        for part in body.parts
    ]
    order = np.argsort(-np.stack(per_part, axis=1), axis=1, kind="stable")
    return Actor(kind, anomalous, track, tuple(body.parts), points, shadow, order, size)


class Canvas:
    """Three layers of one frame under construction (see the module)."""

    def __init__(self, height: int, width: int) -> None:
        self._image = Image.new("RGB", (width * SUPERSAMPLE, height * SUPERSAMPLE))
        self._draw = ImageDraw.Draw(self._image)

    def add(self, actor: Actor, frame: int) -> None:
        """Draw an actor over what is there."""
        points = (actor.points[frame] * SUPERSAMPLE).tolist()
        unit = float(actor.track.height[frame]) * actor.size * SUPERSAMPLE
        for index in actor.order[frame].tolist():
            part = actor.parts[index]
            colour = (part.grey, 255, 255 if actor.anomalous else 0)
            _draw_part(self._draw, part, [points[j] for j in part.joints], unit, colour)

    def paste(self, sprite: Sprite, shift: int = 0) -> None:
        """Put a sprite over what is there, `shift` canvas pixels to the right."""
        self._image.paste(sprite.image, (sprite.left + shift, sprite.top), sprite.alpha)

    def layers(self) -> np.ndarray:
        """Give the layers at the frame's size: float32 (H, W, 3), values 0 to 255."""
        return np.asarray(self._image.reduce(SUPERSAMPLE), np.float32)


def _draw_part(draw: ImageDraw.ImageDraw, part: Part, points, unit: float, colour) -> None:
    if isinstance(part, Limb):
        _draw_limb(draw, points, [r * unit for r in part.radii], colour)
    elif isinstance(part, Disc):
        _draw_disc(draw, points[0], part.radius * unit, colour)
    elif isinstance(part, Ring):
        loop = [tuple(p) for p in points]
        draw.line([*loop, loop[0]], colour, width=max(1, round(part.width * unit)))
    elif not part.one_sided or _faces_camera(points):
        draw.polygon([tuple(p) for p in points], colour)


def _draw_disc(draw: ImageDraw.ImageDraw, centre, radius: float, colour) -> None:
    x, y = centre
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), colour)


def _draw_limb(draw: ImageDraw.ImageDraw, points, radii, colour) -> None:
    (ax, ay), (bx, by) = points
    length = max(float(np.hypot(bx - ax, by - ay)), 1e-6)
    nx, ny = (ay - by) / length, (bx - ax) / length
    ra, rb = radii
    if ra + rb < 2.5:  # a spoke or a tube: its ends do not show
        draw.line((ax, ay, bx, by), colour, width=max(1, round(ra + rb)))
        return
    outline = [(ax + nx * ra, ay + ny * ra), (bx + nx * rb, by + ny * rb)]
    outline += [(bx - nx * rb, by - ny * rb), (ax - nx * ra, ay - ny * ra)]
    draw.polygon(outline, colour)
    _draw_disc(draw, points[0], ra, colour)
    _draw_disc(draw, points[1], rb, colour)


def _faces_camera(points) -> bool:
    """Tell whether a polygon, counter-clockwise from outside, is seen from its outer side."""
    (ax, ay), (bx, by), (cx, cy) = points[:3]
    return (bx - ax) * (cy - ay) - (by - ay) * (cx - ax) < 0  # image rows grow downwards


def soft_shadows(actors: list[Actor], frame: int, height: int, width: int) -> np.ndarray:
    """Draw all shadows on the ground.

    Returns
    -------
    ndarray of float32, shape (H, W)
        0 in the light, 1 in full shadow.
    """
    scale = SHADOW_SAMPLE
    image = Image.new("L", (width * scale, height * scale))
    draw = ImageDraw.Draw(image)
    for actor in actors:
        points = (actor.shadow[frame] * scale).tolist()
        unit = float(actor.track.height[frame]) * actor.size * scale
        for part in actor.parts:
            _draw_shadow(draw, part, points, unit)
    image = image.reduce(scale).filter(ImageFilter.GaussianBlur(0.9))
    return np.asarray(image, np.float32) / 255


def _draw_shadow(draw: ImageDraw.ImageDraw, part: Part, points, unit: float) -> None:
    where = [tuple(points[j]) for j in part.joints]
    if isinstance(part, Limb) and max(part.radii) >= SHADOW_RADIUS:
        draw.line(where, 255, width=max(1, round(2 * max(part.radii) * unit)))
    elif isinstance(part, Disc) and part.radius >= SHADOW_RADIUS:
        _draw_disc(draw, where[0], part.radius * unit, 255)
    elif isinstance(part, Ring):
        draw.line([*where, where[0]], 255, width=max(1, round(part.width * unit)))
    elif isinstance(part, Face):
        draw.polygon(where, 255)
