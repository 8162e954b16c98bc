"""The moving clip: every frame is there, sizes are kept, bytes stay within their limit."""

import io
import types

import numpy as np
import pytest
from PIL import Image

from vad_helpers.viz import moving


def pictures(n, size=(64, 48), seed=0):
    rng = np.random.default_rng(seed)
    return [
        Image.fromarray(rng.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)) for _ in range(n)
    ]


def opened(data):
    return Image.open(io.BytesIO(data))


def test_an_animation_has_every_frame_unchanged_and_repeats():
    frames = pictures(3)
    found = opened(moving.animated(frames))
    assert (found.format, found.n_frames, found.size) == ("WEBP", 3, (64, 48))
    assert found.info["loop"] == 0
    for i, frame in enumerate(frames):
        found.seek(i)
        assert np.array_equal(np.asarray(found.convert("RGB")), np.asarray(frame))


def test_a_large_animation_is_made_coarser_until_it_fits():
    frames = pictures(4)
    lossless = moving.animated(frames)
    smaller = moving.animated(frames, max_bytes=len(lossless) // 2)
    assert len(smaller) < len(lossless) and opened(smaller).n_frames == 4
    least = moving.animated(frames, max_bytes=1)
    assert len(least) <= len(smaller)


@pytest.fixture
def run(monkeypatch):
    """A run of two methods on a clip of four frames whose anomaly is largest in the third."""
    rng = np.random.default_rng(0)
    mask = np.zeros((4, 12, 18), dtype=bool)
    for t, size in enumerate((1, 2, 4, 2)):
        mask[t, 2 : 2 + size, 3 : 3 + size] = True
    rows = {
        key: types.SimpleNamespace(key=key, label=key.upper(), kind=kind)
        for key, kind in (("ig", "method"), ("lime", "method"), ("random", "reference"))
    }
    monkeypatch.setattr("vad_helpers.store.row.rows", lambda run: rows)
    monkeypatch.setattr(moving.store, "mask", lambda run, clip_id: mask)
    monkeypatch.setattr(moving.store, "frames", lambda run, clip_id: rng.random(mask.shape))
    monkeypatch.setattr(
        moving.store, "attribution", lambda run, clip_id, key: rng.normal(size=mask.shape)
    )
    return types.SimpleNamespace(params=types.SimpleNamespace(n_frames=4, frame_size=(12, 18)))


def test_a_clip_moves_and_its_still_has_the_same_size(run):
    animated, still = moving.moving_clip(run, "clip")
    assert opened(animated).n_frames == 4
    assert opened(still).format == "PNG" and opened(still).size == opened(animated).size


def test_a_map_is_loaded_once_for_all_frames(run, monkeypatch):
    asked, load = [], moving.store.attribution
    monkeypatch.setattr(
        moving.store, "attribution", lambda run, c, key: asked.append(key) or load(run, c, key)
    )
    moving.moving_clip(run, "clip")
    assert asked == ["ig", "lime"]
