"""Who moves through the walkway: articulated bodies, and how one is drawn.

A body lives in its own axes, in units of a person's height: forward, left and up, with the
origin on the ground between the feet. Its joints are computed for every frame at once; its
parts (limbs, discs, faces, rings) name the joints that they hang on. Joints are projected with
the body's heading and the camera's pitch, so one description serves every view.

Drawing goes to an RGB canvas that is no picture but three layers: grey, coverage, and coverage
by anomalies. Whatever is drawn later hides what is below it in all three, so that the third
layer is the mask of the visible part of the anomalies, without further work.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Limb(NamedTuple):
    """A tapered stick with round ends between two joints."""

    joints: tuple[int, int]
    radii: tuple[float, float]
    grey: int


class Disc(NamedTuple):
    """A ball around a joint."""

    joints: tuple[int]
    radius: float
    grey: int


class Face(NamedTuple):
    """A polygon through joints; a one-sided one is drawn only when it faces the camera.

    `bias` moves it towards the camera when parts are ordered, in heights.
    """

    joints: tuple[int, ...]
    grey: int
    one_sided: bool = False
    bias: float = 0.0


class Ring(NamedTuple):
    """A closed outline through joints."""

    joints: tuple[int, ...]
    width: float
    grey: int


Part = Limb | Disc | Face | Ring


@dataclass(frozen=True)
class Track:
    """Where a body is in each frame.

    Attributes
    ----------
    x, y : ndarray of float, shape (n_frames,)
        The point on the ground, in pixels.
    height : ndarray of float, shape (n_frames,)
        A person's height there, in pixels.
    heading : ndarray of float, shape (n_frames,)
        Direction on the ground, in radians: 0 to the right, pi/2 away from the camera.
    tilt : ndarray of float, shape (n_frames,)
        Tangent of the camera's pitch: image rows up for one unit away, over one unit up.
    travelled : ndarray of float, shape (n_frames,)
        Distance along the route, in heights.
    """

    x: np.ndarray
    y: np.ndarray
    height: np.ndarray
    heading: np.ndarray
    tilt: np.ndarray
    travelled: np.ndarray


class Body:
    """Joints over time and the parts between them, collected one by one."""

    def __init__(self, n_frames: int) -> None:
        self.n_frames = n_frames
        self.parts: list[Part] = []
        self._joints: list[np.ndarray] = []

    @property
    def joints(self) -> np.ndarray:
        """All joints, float, shape (n_frames, n_joints, 3): forward, left, up."""
        return np.stack(self._joints, axis=1)

    def joint(self, forward, left, up) -> int:
        """Add a joint (numbers, or one value a frame) and return its index."""
        columns = [
            np.broadcast_to(np.asarray(c, float), self.n_frames) for c in (forward, left, up)
        ]
        self._joints.append(np.stack(columns, axis=1))
        return len(self._joints) - 1

    def limb(self, a: int, b: int, radius_a: float, radius_b: float, grey: float) -> None:
        """Add a tapered stick between joints `a` and `b`."""
        self.parts.append(Limb((a, b), (radius_a, radius_b), int(grey)))

    def disc(self, a: int, radius: float, grey: float) -> None:
        """Add a ball around joint `a`."""
        self.parts.append(Disc((a,), radius, int(grey)))

    def face(self, joints, grey: float, *, one_sided: bool = False, bias: float = 0.0) -> None:
        """Add a polygon through `joints`."""
        self.parts.append(Face(tuple(joints), int(grey), one_sided, bias))

    def wheel(self, forward: float, left: float, radius: float, spin, grey: float) -> list[int]:
        """Add a spoked wheel standing on the ground; returns its rim's joints."""
        rim = [
            self.joint(forward + radius * np.cos(angle), left, radius + radius * np.sin(angle))
            for angle in np.arange(16) * (2 * np.pi / 16)
        ]
        self.parts.append(Ring(tuple(rim), 0.035, int(grey)))
        for turn in (0.0, np.pi / 3, 2 * np.pi / 3):
            dx, dz = 0.9 * radius * np.cos(spin + turn), 0.9 * radius * np.sin(spin + turn)
            a = self.joint(forward + dx, left, radius + dz)
            b = self.joint(forward - dx, left, radius - dz)
            self.limb(a, b, 0.006, 0.006, grey + 40)
        return rim

    def box(self, forward, left, up, grey: float) -> None:
        """Add a box between the given (low, high) pairs, lit from above."""
        corner = {
            (i, j, k): self.joint(forward[i], left[j], up[k])
            for i in (0, 1)
            for j in (0, 1)
            for k in (0, 1)
        }
        sides = [  # outward, counter-clockwise seen from outside, and how much light it gets
            ([(0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)], 1.12),
            ([(1, 0, 0), (1, 1, 0), (1, 1, 1), (1, 0, 1)], 0.94),
            ([(0, 1, 0), (0, 0, 0), (0, 0, 1), (0, 1, 1)], 0.84),
            ([(0, 0, 0), (1, 0, 0), (1, 0, 1), (0, 0, 1)], 0.90),
            ([(1, 1, 0), (0, 1, 0), (0, 1, 1), (1, 1, 1)], 0.78),
        ]
        for corners, light in sides:
            self.face([corner[c] for c in corners], min(250, grey * light), one_sided=True)


@dataclass(frozen=True)
class Looks:
    """Clothes and build: grey levels 0 to 255, a factor on height, and what is carried."""

    top: int
    legs: int
    skin: int
    hair: int
    shoes: int
    size: float
    backpack: int | None
    coat: bool
    shorts: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, *, vivid: bool = False) -> Looks:
        """Draw one person's looks: mostly dark clothes, or a high-visibility jacket."""
        light = rng.random() < 0.3
        top = rng.integers(165, 190) if light else rng.integers(28, 100)
        return cls(
            top=int(rng.integers(236, 252) if vivid else top),
            legs=int(rng.integers(30, 75) if rng.random() < 0.75 else rng.integers(90, 165)),
            skin=int(rng.integers(125, 190)),
            hair=int(245 if vivid else rng.integers(20, 70)),
            shoes=int(rng.choice([30, 45, 170])),
            size=float(rng.uniform(0.92, 1.07)),
            backpack=int(rng.integers(20, 70)) if rng.random() < 0.35 else None,
            coat=bool(rng.random() < 0.2),
            shorts=bool(rng.random() < 0.25),
        )


def _head(body: Body, forward, left, up, looks: Looks) -> None:
    """Add face and hair around a point; seen from behind, the hair covers the face."""
    body.disc(body.joint(forward, left, up), 0.066, looks.skin)
    body.disc(
        body.joint(np.asarray(forward) - 0.022, left, np.asarray(up) + 0.022), 0.066, looks.hair
    )


def _torso(body: Body, hips, shoulders, chest: int, pelvis: int, grey: float) -> None:
    """Add the trunk: a box of cloth between hips and shoulders around a rounded core."""
    body.limb(shoulders[0], shoulders[1], 0.045, 0.045, grey)
    body.face((shoulders[0], shoulders[1], hips[1], hips[0]), grey)
    body.limb(chest, pelvis, 0.085, 0.075, grey)


def _two_bones(a, b, bone: float, bend: float) -> tuple[np.ndarray, np.ndarray]:
    """Give (forward, up) of the middle joint of two equal bones from `a` to `b`."""
    a, b = np.broadcast_arrays(np.asarray(a, float), np.asarray(b, float))
    middle, span = (a + b) / 2, b - a
    length = np.hypot(span[0], span[1])
    out = np.sqrt(np.maximum(bone**2 - (length / 2) ** 2, 0)) * bend / np.maximum(length, 1e-6)
    return middle[0] - span[1] * out, middle[1] + span[0] * out


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
    thighs = [swing * np.sin(phase + turn) for turn in (0, np.pi)]
    shins = [
        thigh - 0.08 - lift * np.maximum(np.cos(phase + turn), 0)
        for thigh, turn in zip(thighs, (0, np.pi), strict=True)
    ]
    reach = [0.24 * np.cos(t) + 0.24 * np.cos(s) for t, s in zip(thighs, shins, strict=True)]
    hip = np.maximum(*reach) + 0.03 + hop * np.abs(np.sin(phase))
    hips, shoulders = [], []
    for side, thigh, shin in zip((1, -1), thighs, shins, strict=True):
        hips.append(_leg(body, side, hip, thigh, shin, looks))
    for side, thigh in zip((1, -1), thighs, strict=True):
        shoulders.append(_arm(body, side, lean, hip + 0.3, -thigh, elbow, looks))
    chest, pelvis = body.joint(lean, 0, hip + 0.27), body.joint(0, 0, hip + 0.02)
    _torso(body, hips, shoulders, chest, pelvis, looks.top)
    if looks.coat and gait != "run":
        body.limb(pelvis, body.joint(0, 0, hip - 0.14), 0.085, 0.115, looks.top)
    if looks.backpack is not None and gait != "run":
        top, bottom = body.joint(-0.1, 0, hip + 0.25), body.joint(-0.11, 0, hip + 0.08)
        body.limb(top, bottom, 0.065, 0.075, looks.backpack)
    _head(body, lean * 1.3 + 0.015, 0, hip + 0.41, looks)
    return body


def _leg(body: Body, side: int, hip, thigh, shin, looks: Looks) -> int:
    """Add a leg by its thigh's and shin's angles from the vertical; returns the hip joint."""
    left = 0.055 * side
    knee = 0.24 * np.sin(thigh), hip - 0.24 * np.cos(thigh)
    ankle = knee[0] + 0.24 * np.sin(shin), knee[1] - 0.24 * np.cos(shin)
    joints = [body.joint(0, left, hip), body.joint(knee[0], left, knee[1])]
    joints += [
        body.joint(ankle[0], left, ankle[1]),
        body.joint(ankle[0] + 0.09, left, ankle[1] - 0.015),
    ]
    body.limb(joints[0], joints[1], 0.06, 0.046, looks.legs)
    body.limb(joints[1], joints[2], 0.044, 0.032, looks.skin if looks.shorts else looks.legs)
    body.limb(joints[2], joints[3], 0.03, 0.024, looks.shoes)
    return joints[0]


def _arm(body: Body, side: int, forward, up, swing, elbow: float, looks: Looks) -> int:
    """Add a swinging arm with a bent elbow; returns the shoulder joint."""
    left = 0.125 * side
    bend = swing + elbow
    elbow_at = forward + 0.16 * np.sin(swing), up - 0.16 * np.cos(swing)
    hand_at = elbow_at[0] + 0.14 * np.sin(bend), elbow_at[1] - 0.14 * np.cos(bend)
    shoulder = body.joint(forward, 0.1 * side, up)
    middle, hand = (
        body.joint(elbow_at[0], left, elbow_at[1]),
        body.joint(hand_at[0], left, hand_at[1]),
    )
    body.limb(shoulder, middle, 0.038, 0.034, looks.top * 0.92)
    body.limb(middle, hand, 0.03, 0.026, looks.skin)
    return shoulder


def _straight_arm(body: Body, shoulder: int, elbow: int, hand: int, looks: Looks) -> None:
    body.limb(shoulder, elbow, 0.038, 0.034, looks.top * 0.92)
    body.limb(elbow, hand, 0.03, 0.026, looks.skin)


def cyclist(track: Track, looks: Looks, rng: np.random.Generator) -> Body:
    """Give a rider on a bicycle: turning wheels, pedalling legs, hands on the bar."""
    body = Body(len(track.x))
    frame = int(rng.choice([25, 40, 60, 210]))
    spin = -track.travelled / 0.2
    for forward in (-0.33, 0.35):
        body.wheel(forward, 0.0, 0.205, spin, 30)
    axle, saddle = body.joint(-0.33, 0, 0.205), body.joint(-0.14, 0, 0.55)
    crank, stem = body.joint(-0.01, 0, 0.18), body.joint(0.25, 0, 0.56)
    fork = body.joint(0.35, 0, 0.205)
    for a, b in ((axle, crank), (crank, saddle), (crank, stem), (saddle, stem), (axle, saddle)):
        body.limb(a, b, 0.02, 0.02, frame)
    body.limb(stem, fork, 0.02, 0.02, frame)
    hands = [body.joint(0.3, 0.15 * side, 0.62) for side in (1, -1)]
    body.limb(hands[0], hands[1], 0.016, 0.016, frame)
    hips = [_pedalling_leg(body, side, spin * 0.45, looks) for side in (1, -1)]
    shoulders = [body.joint(0.1, 0.11 * side, 0.88) for side in (1, -1)]
    for side, shoulder, hand in zip((1, -1), shoulders, hands, strict=True):
        _straight_arm(body, shoulder, body.joint(0.2, 0.16 * side, 0.73), hand, looks)
    chest, pelvis = body.joint(0.08, 0, 0.84), body.joint(-0.13, 0, 0.62)
    _torso(body, hips, shoulders, chest, pelvis, looks.top)
    if looks.backpack is not None:
        body.limb(body.joint(-0.02, 0, 0.9), body.joint(-0.14, 0, 0.76), 0.06, 0.07, looks.backpack)
    _head(body, 0.17, 0, 1.01, looks)
    return body


def _pedalling_leg(body: Body, side: int, turn, looks: Looks) -> int:
    """Add a leg from the saddle to a turning pedal; returns the hip joint."""
    angle = turn + (0 if side > 0 else np.pi)
    pedal = -0.01 + 0.095 * np.cos(angle), 0.18 + 0.095 * np.sin(angle)
    hip_at = (np.full_like(angle, -0.13), np.full_like(angle, 0.6))
    knee_at = _two_bones(hip_at, pedal, 0.27, 1.0)
    hip, knee = (
        body.joint(-0.13, 0.055 * side, 0.6),
        body.joint(knee_at[0], 0.08 * side, knee_at[1]),
    )
    foot = body.joint(pedal[0], 0.07 * side, pedal[1])
    toe = body.joint(pedal[0] + 0.08, 0.07 * side, pedal[1])
    body.limb(hip, knee, 0.06, 0.046, looks.legs)
    body.limb(knee, foot, 0.044, 0.03, looks.skin if looks.shorts else looks.legs)
    body.limb(foot, toe, 0.028, 0.024, looks.shoes)
    return hip


def skater(track: Track, looks: Looks, rng: np.random.Generator) -> Body:
    """Give a skateboarder: side-on and crouched on a board, arms out, legs still."""
    body = Body(len(track.x))
    sway = 0.03 * np.sin(track.travelled * 3.0 + rng.uniform(0, 6.28))
    facing = rng.choice((-1, 1))
    nose, tail = body.joint(0.3, 0, 0.085), body.joint(-0.3, 0, 0.085)
    body.limb(nose, tail, 0.03, 0.03, int(rng.choice([25, 200])))
    for forward in (-0.2, 0.2):
        body.disc(body.joint(forward, 0, 0.035), 0.035, 25)
    hips = [_braced_leg(body, end, sway, facing, looks) for end in (1, -1)]
    shoulders = [body.joint(0.11 * end + sway, 0.03 * facing, 0.75) for end in (1, -1)]
    for end, shoulder in zip((1, -1), shoulders, strict=True):
        elbow = body.joint(0.25 * end + sway, 0.1 * facing * end, 0.72 + sway * end)
        hand = body.joint(0.38 * end + sway, 0.16 * facing * end, 0.74 + 2 * sway * end)
        _straight_arm(body, shoulder, elbow, hand, looks)
    chest, pelvis = body.joint(sway, 0.03 * facing, 0.71), body.joint(sway, -0.04 * facing, 0.46)
    _torso(body, hips, shoulders, chest, pelvis, looks.top)
    _head(body, 0.03 + sway, 0.05 * facing, 0.88, looks)
    return body


def _braced_leg(body: Body, end: int, sway, facing: int, looks: Looks) -> int:
    """Add a bent leg that stands on the board; returns the hip joint."""
    hip, knee = (
        body.joint(0.06 * end + sway, -0.04 * facing, 0.45),
        body.joint(0.2 * end, 0.05 * facing, 0.3),
    )
    foot, toe = (
        body.joint(0.17 * end, -0.02 * facing, 0.13),
        body.joint(0.17 * end, 0.07 * facing, 0.12),
    )
    body.limb(hip, knee, 0.06, 0.048, looks.legs)
    body.limb(knee, foot, 0.045, 0.033, looks.skin if looks.shorts else looks.legs)
    body.limb(foot, toe, 0.03, 0.026, looks.shoes)
    return hip


def cart(track: Track, looks: Looks, rng: np.random.Generator) -> Body:
    """Give a small utility cart with a roof, a load bed and its driver."""
    body = Body(len(track.x))
    paint = int(rng.integers(190, 226))
    body.box((-0.72, 0.72), (-0.34, 0.34), (0.12, 0.36), paint)
    body.box((-0.72, -0.2), (-0.34, 0.34), (0.36, 0.55), paint * 0.85)
    body.box((0.4, 0.72), (-0.32, 0.32), (0.36, 0.5), paint)
    body.box((-0.2, 0.02), (-0.3, 0.3), (0.36, 0.46), 60)
    for forward in (-0.45, 0.46):
        for side in (1, -1):
            _cart_wheel(body, forward, 0.355 * side)
    _driver(body, looks)
    body.face(
        [body.joint(0.42, s, u) for s, u in ((-0.3, 0.5), (0.3, 0.5), (0.28, 0.95), (-0.28, 0.95))],
        105,
    )
    posts = [(f, s) for f in (-0.2, 0.4) for s in (-0.3, 0.3)]
    for forward, side in posts:
        body.limb(body.joint(forward, side, 0.5), body.joint(forward, side, 1.0), 0.02, 0.02, 45)
    body.box((-0.3, 0.5), (-0.34, 0.34), (1.0, 1.06), paint * 1.05)
    for side in (1, -1):
        body.disc(body.joint(0.73, 0.22 * side, 0.33), 0.045, 250)
    return body


def _cart_wheel(body: Body, forward: float, left: float) -> None:
    angles = np.arange(12) * (2 * np.pi / 12)
    rim = [body.joint(forward + 0.15 * np.cos(a), left, 0.15 + 0.15 * np.sin(a)) for a in angles]
    body.face(rim, 28, bias=0.2)
    hub = [body.joint(forward + 0.06 * np.cos(a), left, 0.15 + 0.06 * np.sin(a)) for a in angles]
    body.face(hub, 135, bias=0.21)


def _driver(body: Body, looks: Looks) -> None:
    shoulders = [body.joint(-0.02, 0.11 + s, 0.82) for s in (0.11, -0.11)]
    hips = [body.joint(-0.06, 0.11 + s, 0.47) for s in (0.08, -0.08)]
    chest, pelvis = body.joint(-0.02, 0.11, 0.79), body.joint(-0.06, 0.11, 0.5)
    for side, shoulder in zip((0.12, -0.12), shoulders, strict=True):
        elbow, hand = body.joint(0.1, 0.11 + side, 0.66), body.joint(0.24, 0.11 + side / 2, 0.7)
        _straight_arm(body, shoulder, elbow, hand, looks)
    _torso(body, hips, shoulders, chest, pelvis, looks.top)
    _head(body, 0.0, 0.11, 0.93, looks)
