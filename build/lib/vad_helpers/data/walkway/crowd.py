"""Who is where and when on the walkway: routes, speeds, and the timetable of anomalies.

Joggers move as fast as bikes and skaters, and those on the grass walk: speed gives nothing away
by itself. Two choices make the task quick to learn. Anomalies differ by shape and motion, but
also have bright jackets or paint; normal people do not. And they enter and leave at multiples of
`GRID` frames, or are in view when a sequence begins or ends, so that a clip with an anomalous
frame nearly always shows a good part of it.
"""

from __future__ import annotations

import numpy as np

from vad_helpers.data.walkway.actors import Looks, Track, cart, cyclist, skater, walker
from vad_helpers.data.walkway.drawing import Actor, make_actor
from vad_helpers.data.walkway.scenery import PED1_LANES, PED1_SIDE, PED2_EDGES, Scene

GRID = 16  # anomalies enter and leave at multiples of it (a little later and sooner)
INSET = 2.0  # frames by which a visit is shorter at either end
OVERLAP = 6  # frames for which a successor is already there when an anomaly leaves
ANOMALIES = ("bike", "skater", "cart", "grass")
PATTERNS = ("throughout", "enters", "leaves", "passes")
KINDS = {  # least and greatest speed, heights a frame; half of the length it takes up, heights
    "walker": (0.028, 0.045, 0.3),
    "jogger": (0.07, 0.12, 0.4),
    "bike": (0.075, 0.12, 0.55),
    "skater": (0.065, 0.105, 0.4),
    "cart": (0.065, 0.105, 0.75),
    "grass": (0.035, 0.06, 0.3),
}


def lengths(route: np.ndarray) -> np.ndarray:
    """Distance from a route's start to each of its points (across, away), in heights."""
    return np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(route, axis=0).T))])


def points_at(route: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Give the points at distances from a route's start; both ends go on straight."""
    knots = lengths(route)
    segment = np.clip(np.searchsorted(knots, distance, side="right") - 1, 0, len(knots) - 2)
    share = (distance - knots[segment]) / (knots[segment + 1] - knots[segment])
    return route[segment] + share[:, None] * (route[segment + 1] - route[segment])


def make_track(scene: Scene, route: np.ndarray, distance: np.ndarray, weave: float = 0.0) -> Track:
    """Follow a route as the camera sees it: corners rounded, swinging by `weave` heights."""
    camera = scene.camera
    nearest = 0.15 * camera.away_at(scene.height)
    seen = []
    for place in (distance - 0.1, distance, distance + 0.1):
        around = [points_at(route, place + offset) for offset in (-0.5, -0.25, 0.0, 0.25, 0.5)]
        along = around[-1] - around[0]
        normal = np.stack([-along[:, 1], along[:, 0]], axis=1)
        normal /= np.maximum(np.hypot(*along.T), 1e-6)[:, None]
        point = np.mean(around, axis=0) + weave * np.sin(2.2 * place)[:, None] * normal
        seen.append(camera.to_image(point[:, 0], np.maximum(point[:, 1], nearest)))
    (x0, y0, _), (x, y, height), (x1, y1, _) = seen
    tilt = camera.eye * height / camera.focal
    heading = np.arctan2(-(y1 - y0) / tilt, x1 - x0)
    return Track(x, y, height, heading, tilt, distance)


def find_route(scene: Scene, kind: str, rng: np.random.Generator) -> np.ndarray:
    """Draw a route, float (n, 2) on the ground, for a kind of actor, in either direction.

    In ped2 it leads along the plaza, or along the lawn behind it. In ped1 it leads from the near
    edge to the far end (not anomalies), to the side path, or over the lawn and out on the right.
    The far end hides behind leaves: there people appear bit by bit, too slowly for anomalies.
    """
    camera, reach, width, height = scene.camera, KINDS[kind][2], scene.width, scene.height
    near = 0.33 * camera.away_at(height)
    if scene.name == "ped2":
        rows = (0.40, 0.45) if kind == "grass" else (PED2_EDGES[0] + 0.03, PED2_EDGES[1] - 0.02)
        start = rng.uniform(*rows)
        stop = np.clip(start + rng.normal(0, 0.04), *rows)
        left, left_away = camera.to_ground(0.0, start * height)
        right, right_away = camera.to_ground(float(width), stop * height)
        points = [[left - reach, left_away], [right + reach, right_away]]
    elif kind == "grass":
        lane = rng.uniform(-0.15, 0.1)
        corner = camera.focal / (rng.uniform(0.27, 0.33) * height)
        far = camera.focal / (rng.uniform(0.22, 0.26) * height)
        right, _ = camera.to_ground(width * 1.04, camera.horizon + camera.eye * camera.focal / far)
        points = [[lane, near], [lane - 0.15, corner], [right, far]]
    else:
        lane = rng.uniform(PED1_LANES[0] + 0.25 + reach / 2, PED1_LANES[1] - 0.2 - reach / 2)
        if kind in ("walker", "jogger") and rng.random() < 0.6:
            points = [[lane, near], [lane, camera.away_at(0.17 * height)]]
        else:
            side = rng.uniform(PED1_SIDE[0] + 0.012, PED1_SIDE[1] - 0.008) * height
            hidden, _ = camera.to_ground(0.14 * width, camera.horizon + camera.eye * side)
            turn = camera.focal / side
            points = [[lane, near], [lane, turn], [hidden, turn]]
    return np.array(points if rng.random() < 0.5 else points[::-1], float)


def place(scene: Scene, kind: str, route: np.ndarray, distance: np.ndarray, rng) -> Actor:
    """Put an actor on a route at a distance from its start for every frame."""
    looks = Looks(rng, vivid=kind in ("bike", "skater", "grass"))
    track = make_track(scene, route, distance, weave=0.12 if kind == "skater" else 0.0)
    if kind in ("bike", "skater", "cart"):
        body = {"bike": cyclist, "skater": skater, "cart": cart}[kind](track, looks, rng)
    else:
        gait = {"jogger": "run", "standing": "stand"}.get(kind, "walk")
        body = walker(track, looks, rng, gait=gait)
    size = 1.0 if kind == "cart" else looks.size
    return make_actor(kind, body, track, anomalous=kind in ANOMALIES, sun=scene.sun, size=size)


def seen_span(scene: Scene, kind: str, route: np.ndarray) -> tuple[float, float]:
    """Find the distances along a route between which a joint is in the picture and not hidden."""
    distance = np.linspace(0, lengths(route)[-1], 300)
    actor = place(scene, kind, route, distance, np.random.default_rng(0))
    # A body is wider than its joints, and a cart's sides can cross a corner between them.
    margin = (0.25 if kind == "cart" else 0.08) * actor.track.height[:, None]
    x, y = np.moveaxis(actor.points, 2, 0)
    inside = (x > -margin) & (x < scene.width + margin)
    inside &= (y > -margin) & (y < scene.height + margin)
    row = np.clip(y.astype(int), 0, scene.height - 1)
    column = np.clip(x.astype(int), 0, scene.width - 1)
    in_front = scene.screen[row, column] <= actor.track.y[:, None]
    seen = distance[(inside & in_front).any(axis=1)]
    return float(seen[0]), float(seen[-1])


def normal_crowd(scene: Scene, n_frames: int, rng: np.random.Generator) -> list[Actor]:
    """Draw the normal people of a sequence: walkers, pairs, joggers, some who stand."""
    kinds = ["walker"] * int(rng.integers(3, 6)) + ["jogger"] * int(rng.integers(2, 4))
    actors = []
    for kind in kinds:
        route, speed = find_route(scene, kind, rng), rng.uniform(*KINDS[kind][:2])
        start = rng.uniform(-speed * n_frames * 0.8, lengths(route)[-1] * 0.95)
        distance = start + speed * np.arange(n_frames)
        actors.append(place(scene, kind, route, distance, rng))
        if kind == "walker" and rng.random() < 0.25:
            along = route[1] - route[0]
            sideways = np.array([-along[1], along[0]]) / np.hypot(*along)
            beside = route + sideways * 0.45
            actors.append(place(scene, kind, beside, distance + rng.uniform(-0.2, 0.2), rng))
    if rng.random() <= 0.35:  # two face each other
        route, still = find_route(scene, "walker", rng), np.zeros(n_frames)
        there = lengths(route)[1] * rng.uniform(0.3, 0.8)
        back = points_at(route, there + np.array([2.0, 0.55, -1.0]))
        actors.append(place(scene, "standing", route, still + there, rng))
        actors.append(place(scene, "standing", back, still + lengths(back)[1], rng))
    return actors


def anomalies(
    scene: Scene, n_frames: int, rng: np.random.Generator, *, pattern: str, kind: str
) -> list[Actor]:
    """Draw the anomalies of a test sequence: the first of a given kind, its successors of any."""
    visits = []  # kind, route, the span in which it is seen, first and last frame
    while not visits or (pattern != "passes" and visits[-1][-1] < n_frames):
        if visits:
            kind = str(rng.choice(ANOMALIES))
        route = find_route(scene, kind, rng)
        span = seen_span(scene, kind, route)
        frames = (span[1] - span[0]) / rng.uniform(*KINDS[kind][:2])
        if visits:
            start = visits[-1][-1] - OVERLAP
        elif pattern == "throughout":
            start = -frames * rng.uniform(0.15, 0.4)
        elif pattern == "passes":  # the whole pass within the sequence, on the grid
            frames = GRID * int(np.clip(round(frames / GRID), 1, n_frames // GRID - 1))
            start = GRID * int(rng.integers(0, (n_frames - frames) // GRID + 1))
        else:
            start = float(GRID * rng.integers(1, n_frames // GRID))
            if pattern == "leaves":  # to be on the grid when mirrored
                start = n_frames - start
        visits.append((kind, route, span, start, start + frames))
    actors = []
    for kind, route, span, start, stop in visits:
        if pattern == "leaves":  # the mirror image in time
            start, stop = n_frames - stop, n_frames - start
        # The visit is INSET frames shorter at either end: a body reaches beyond its joints.
        share = (np.arange(n_frames) - start - INSET) / (stop - start - 2 * INSET)
        distance = span[0] + (span[1] - span[0]) * share
        actors.append(place(scene, kind, route, distance, rng))
    return actors
