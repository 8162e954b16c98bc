"""Who moves through the walkway: articulated bodies in their own axes.

A body lives in units of a person's height: forward, left and up, with the origin on the ground
between the feet. A point of it is a triple of numbers, or of arrays with one value a frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """What is drawn between points of a body."""

    shape: str  # limb (a tapered stick), disc (a ball), face (a polygon), ring (an outline)
    points: tuple[int, ...]  # places in the body's list of points
    sizes: tuple[float, ...]  # radii of a limb or disc, width of a ring's line; in heights
    grey: int  # 0 to 255
    one_sided: bool = False  # a face that is drawn only when it faces the camera
    bias: float = 0.0  # towards the camera when parts are ordered, in heights


@dataclass(frozen=True)
class Track:
    """Where a body is in each frame: float arrays of shape (n_frames,)."""

    x: np.ndarray  # the point on the ground, in pixels
    y: np.ndarray
    height: np.ndarray  # of a person there, in pixels
    heading: np.ndarray  # on the ground, in radians: 0 to the right, pi/2 away from the camera
    tilt: np.ndarray  # tangent of the camera's pitch: rows up for one unit away, over one unit up
    travelled: np.ndarray  # distance along the route, in heights


class Body:
    """Points over time, float (n_frames, 3) each: forward, left, up; and the parts on them."""

    def __init__(self, n_frames: int) -> None:
        self.n_frames = n_frames
        self.parts: list[Part] = []
        self.points: list[np.ndarray] = []

    def _add(self, shape: str, points, sizes: tuple[float, ...], grey: float, **options) -> None:
        first = len(self.points)
        for point in points:
            columns = [np.broadcast_to(np.asarray(c, float), self.n_frames) for c in point]
            self.points.append(np.stack(columns, axis=1))
        places = tuple(range(first, len(self.points)))
        self.parts.append(Part(shape, places, sizes, int(grey), **options))

    def limb(self, a, b, radius_a: float, radius_b: float, grey: float) -> None:
        self._add("limb", (a, b), (radius_a, radius_b), grey)

    def disc(self, centre, radius: float, grey: float) -> None:
        self._add("disc", (centre,), (radius,), grey)

    def face(self, points, grey: float, **options) -> None:
        self._add("face", points, (), grey, **options)

    def wheel(self, forward: float, radius: float, spin) -> None:
        """Add a spoked wheel standing on the ground."""
        around = np.arange(16) * (2 * np.pi / 16)
        x, z = forward + radius * np.cos(around), radius + radius * np.sin(around)
        self._add("ring", [(a, 0.0, b) for a, b in zip(x, z, strict=True)], (0.035,), 30)
        for turn in (0.0, np.pi / 3, 2 * np.pi / 3):
            dx, dz = 0.9 * radius * np.cos(spin + turn), 0.9 * radius * np.sin(spin + turn)
            ends = (forward + dx, 0, radius + dz), (forward - dx, 0, radius - dz)
            self.limb(*ends, 0.006, 0.006, 70)

    def box(self, forward, left, up, grey: float) -> None:
        """Add a box between the given (low, high) pairs, lit from above."""
        sides = [  # outward, counter-clockwise seen from outside, and how much light it gets
            ([(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)], 1.12),
            ([(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)], 0.94),
            ([(0, 1, 0), (0, 0, 0), (0, 0, 1), (0, 1, 1)], 0.84),
            ([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)], 0.90),
            ([(1, 1, 0), (0, 1, 0), (0, 1, 1), (1, 1, 1)], 0.78),
        ]
        for corners, light in sides:
            points = [(forward[i], left[j], up[k]) for i, j, k in corners]
            self.face(points, min(250, grey * light), one_sided=True)


class Looks:
    """Clothes, build and what is carried by one person: mostly dark, or a high-visibility jacket.

    Grey levels are 0 to 255; size is a factor on height.
    """

    def __init__(self, rng: np.random.Generator, *, vivid: bool = False) -> None:
        light = rng.random() < 0.3
        top = rng.integers(165, 190) if light else rng.integers(28, 100)
        self.top = int(rng.integers(236, 252) if vivid else top)
        self.legs = int(rng.integers(30, 75) if rng.random() < 0.75 else rng.integers(90, 165))
        self.skin = int(rng.integers(125, 190))
        self.hair = int(245 if vivid else rng.integers(20, 70))
        self.shoes = int(rng.choice([30, 45, 170]))
        self.size = float(rng.uniform(0.92, 1.07))
        self.backpack = int(rng.integers(20, 70)) if rng.random() < 0.35 else None
        self.coat = bool(rng.random() < 0.2)
        self.shorts = bool(rng.random() < 0.25)


def _leg(body: Body, hip, knee, ankle, toe, looks: Looks, radii) -> None:
    """Add thigh, shin and foot; `radii` of both ends of each."""
    body.limb(hip, knee, *radii[0:2], looks.legs)
    body.limb(knee, ankle, *radii[2:4], looks.skin if looks.shorts else looks.legs)
    body.limb(ankle, toe, *radii[4:6], looks.shoes)


def _arm(body: Body, shoulder, elbow, hand, looks: Looks) -> None:
    body.limb(shoulder, elbow, 0.038, 0.034, looks.top * 0.92)
    body.limb(elbow, hand, 0.03, 0.026, looks.skin)


def _torso(body: Body, hips, shoulders, chest, pelvis, grey: float) -> None:
    """Add the trunk: a box of cloth between hips and shoulders around a rounded core."""
    body.limb(shoulders[0], shoulders[1], 0.045, 0.045, grey)
    body.face((shoulders[0], shoulders[1], hips[1], hips[0]), grey)
    body.limb(chest, pelvis, 0.085, 0.075, grey)


def _head(body: Body, forward, left, up, looks: Looks) -> None:
    """Add face and hair around a point; seen from behind, the hair covers the face."""
    body.disc((forward, left, up), 0.066, looks.skin)
    body.disc((forward - 0.022, left, up + 0.022), 0.066, looks.hair)


GAITS = {  # stride in heights, swing of thighs, bend of knees, of elbows (radians), hop, lean
    "walk": (0.85, 0.45, 0.75, 0.25, 0.0, 0.02),
    "run": (1.5, 0.72, 1.5, 1.5, 0.05, 0.07),
    "stand": (1.0, 0.05, 0.0, 0.5, 0.0, 0.0),
}


def walker(track: Track, looks: Looks, rng: np.random.Generator, *, gait: str = "walk") -> Body:
    """Give a person who walks, runs or stands; the gait follows the distance travelled."""
    body = Body(len(track.x))
    stride, swing, lift, elbow, hop, lean = GAITS[gait]
    phase = 2 * np.pi * track.travelled / (stride * rng.uniform(0.92, 1.08)) + rng.uniform(0, 6.28)
    turns = phase + np.array([[0], [np.pi]])  # of the left and the right leg
    thighs = swing * np.sin(turns)
    shins = thighs - 0.08 - lift * np.maximum(np.cos(turns), 0)
    reach = 0.24 * np.cos(thighs) + 0.24 * np.cos(shins)
    hip = reach.max(axis=0) + 0.03 + hop * np.abs(np.sin(phase))
    hips = [(0, 0.055 * side, hip) for side in (1, -1)]
    shoulders = [(lean, 0.1 * side, hip + 0.3) for side in (1, -1)]
    for at, thigh, shin in zip(hips, thighs, shins, strict=True):
        knee = 0.24 * np.sin(thigh), at[1], hip - 0.24 * np.cos(thigh)
        ankle = knee[0] + 0.24 * np.sin(shin), at[1], knee[2] - 0.24 * np.cos(shin)
        toe = ankle[0] + 0.09, at[1], ankle[2] - 0.015
        _leg(body, at, knee, ankle, toe, looks, (0.06, 0.046, 0.044, 0.032, 0.03, 0.024))
    for side, at, thigh in zip((1, -1), shoulders, thighs, strict=True):
        left, bend = 0.125 * side, -thigh + elbow
        middle = lean + 0.16 * np.sin(-thigh), left, hip + 0.3 - 0.16 * np.cos(-thigh)
        hand = middle[0] + 0.14 * np.sin(bend), left, middle[2] - 0.14 * np.cos(bend)
        _arm(body, at, middle, hand, looks)
    pelvis = 0, 0, hip + 0.02
    _torso(body, hips, shoulders, (lean, 0, hip + 0.27), pelvis, looks.top)
    if looks.coat and gait != "run":
        body.limb(pelvis, (0, 0, hip - 0.14), 0.085, 0.115, looks.top)
    if looks.backpack and gait != "run":
        body.limb((-0.1, 0, hip + 0.25), (-0.11, 0, hip + 0.08), 0.065, 0.075, looks.backpack)
    _head(body, lean * 1.3 + 0.015, 0, hip + 0.41, looks)
    return body


def cyclist(track: Track, looks: Looks, rng: np.random.Generator) -> Body:
    """Give a rider on a bicycle: turning wheels, pedalling legs, hands on the bar."""
    body = Body(len(track.x))
    frame = int(rng.choice([25, 40, 60, 210]))
    spin = -track.travelled / 0.2
    for forward in (-0.33, 0.35):
        body.wheel(forward, 0.205, spin)
    axle, saddle, crank = (-0.33, 0, 0.205), (-0.14, 0, 0.55), (-0.01, 0, 0.18)
    stem, fork = (0.25, 0, 0.56), (0.35, 0, 0.205)
    tubes = ((axle, crank), (crank, saddle), (crank, stem), (saddle, stem), (axle, saddle))
    for a, b in (*tubes, (stem, fork)):
        body.limb(a, b, 0.02, 0.02, frame)
    hands = [(0.3, 0.15 * side, 0.62) for side in (1, -1)]
    body.limb(hands[0], hands[1], 0.016, 0.016, frame)
    hips = [(-0.13, 0.055 * side, 0.6) for side in (1, -1)]
    for side, at in zip((1, -1), hips, strict=True):
        angle = spin * 0.45 + (0 if side > 0 else np.pi)
        pedal = -0.01 + 0.095 * np.cos(angle), 0.07 * side, 0.18 + 0.095 * np.sin(angle)
        # Thigh and shin are equally long: the knee is in front of the middle of their ends.
        ahead, down = pedal[0] - -0.13, pedal[2] - 0.6
        length = np.hypot(ahead, down)
        out = np.sqrt(np.maximum(0.27**2 - (length / 2) ** 2, 0)) / np.maximum(length, 1e-6)
        middle = (-0.13 + pedal[0]) / 2, (0.6 + pedal[2]) / 2
        knee = middle[0] - down * out, 0.08 * side, middle[1] + ahead * out
        toe = pedal[0] + 0.08, 0.07 * side, pedal[2]
        _leg(body, at, knee, pedal, toe, looks, (0.06, 0.046, 0.044, 0.03, 0.028, 0.024))
    shoulders = [(0.1, 0.11 * side, 0.88) for side in (1, -1)]
    for side, shoulder, hand in zip((1, -1), shoulders, hands, strict=True):
        _arm(body, shoulder, (0.2, 0.16 * side, 0.73), hand, looks)
    _torso(body, hips, shoulders, (0.08, 0, 0.84), (-0.13, 0, 0.62), looks.top)
    if looks.backpack:
        body.limb((-0.02, 0, 0.9), (-0.14, 0, 0.76), 0.06, 0.07, looks.backpack)
    _head(body, 0.17, 0, 1.01, looks)
    return body


def skater(track: Track, looks: Looks, rng: np.random.Generator) -> Body:
    """Give a skateboarder: side-on and crouched on a board, arms out, legs still."""
    body = Body(len(track.x))
    sway = 0.03 * np.sin(track.travelled * 3.0 + rng.uniform(0, 6.28))
    facing = rng.choice((-1, 1))
    body.limb((0.3, 0, 0.085), (-0.3, 0, 0.085), 0.03, 0.03, int(rng.choice([25, 200])))
    for forward in (-0.2, 0.2):
        body.disc((forward, 0, 0.035), 0.035, 25)
    hips = [(0.06 * end + sway, -0.04 * facing, 0.45) for end in (1, -1)]
    for end, at in zip((1, -1), hips, strict=True):
        knee = 0.2 * end, 0.05 * facing, 0.3
        foot, toe = (0.17 * end, -0.02 * facing, 0.13), (0.17 * end, 0.07 * facing, 0.12)
        _leg(body, at, knee, foot, toe, looks, (0.06, 0.048, 0.045, 0.033, 0.03, 0.026))
    shoulders = [(0.11 * end + sway, 0.03 * facing, 0.75) for end in (1, -1)]
    for end, shoulder in zip((1, -1), shoulders, strict=True):
        elbow = 0.25 * end + sway, 0.1 * facing * end, 0.72 + sway * end
        hand = 0.38 * end + sway, 0.16 * facing * end, 0.74 + 2 * sway * end
        _arm(body, shoulder, elbow, hand, looks)
    chest, pelvis = (sway, 0.03 * facing, 0.71), (sway, -0.04 * facing, 0.46)
    _torso(body, hips, shoulders, chest, pelvis, looks.top)
    _head(body, 0.03 + sway, 0.05 * facing, 0.88, looks)
    return body


def cart(track: Track, looks: Looks, rng: np.random.Generator) -> Body:
    """Give a small utility cart with a roof, a load bed and its driver."""
    body = Body(len(track.x))
    paint = int(rng.integers(190, 226))
    body.box((-0.72, 0.72), (-0.34, 0.34), (0.12, 0.36), paint)
    body.box((-0.72, -0.2), (-0.34, 0.34), (0.36, 0.55), paint * 0.85)
    body.box((0.4, 0.72), (-0.32, 0.32), (0.36, 0.5), paint)
    body.box((-0.2, 0.02), (-0.3, 0.3), (0.36, 0.46), 60)
    around = np.arange(12) * (2 * np.pi / 12)
    for forward in (-0.45, 0.46):
        for left in (0.355, -0.355):
            for radius, grey, bias in ((0.15, 28, 0.2), (0.06, 135, 0.21)):  # tyre, hub
                x, z = forward + radius * np.cos(around), 0.15 + radius * np.sin(around)
                rim = [(a, left, b) for a, b in zip(x, z, strict=True)]
                body.face(rim, grey, bias=bias)
    hips = [(-0.06, 0.11 + s, 0.47) for s in (0.08, -0.08)]
    shoulders = [(-0.02, 0.11 + s, 0.82) for s in (0.11, -0.11)]
    for side, shoulder in zip((0.12, -0.12), shoulders, strict=True):
        _arm(body, shoulder, (0.1, 0.11 + side, 0.66), (0.24, 0.11 + side / 2, 0.7), looks)
    _torso(body, hips, shoulders, (-0.02, 0.11, 0.79), (-0.06, 0.11, 0.5), looks.top)
    _head(body, 0.0, 0.11, 0.93, looks)
    windscreen = ((-0.3, 0.5), (0.3, 0.5), (0.28, 0.95), (-0.28, 0.95))
    body.face([(0.42, left, up) for left, up in windscreen], 105)
    for forward, left in ((-0.2, -0.3), (-0.2, 0.3), (0.4, -0.3), (0.4, 0.3)):
        body.limb((forward, left, 0.5), (forward, left, 1.0), 0.02, 0.02, 45)
    body.box((-0.3, 0.5), (-0.34, 0.34), (1.0, 1.06), paint * 1.05)
    for left in (0.22, -0.22):
        body.disc((0.73, left, 0.33), 0.045, 250)
    return body
