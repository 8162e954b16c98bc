"""What the explorer's HTML holds; what it does is tested in a browser."""

import base64
import io
import json
import re
import types
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vad_helpers.viz import overlay, static_explorer
from vad_helpers.viz.overlay import ShownClip

SHAPE = (4, 6, 8)
LABELS = {"ig": "Integrated Gradients", "motion": 'Frame "difference" <b>', "random": "Random map"}


def make_clip(name, *, keys=("ig", "motion", "random"), seed=0):
    rng = np.random.default_rng(seed)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2, 2:5, 3:6] = True
    return ShownClip(
        key=name,
        label=f"Clip {name}",
        frames=rng.random(SHAPE),
        mask=mask,
        p_clip=0.75,
        p_baseline=0.5,
        maps={key: rng.standard_normal(SHAPE).astype(np.float32) for key in keys},
    )


def data_of(html):
    (text,) = re.findall(r'<script type="application/json" class="vad-data">(.*?)</script>', html)
    return json.loads(text)


def inflate(text, shape=SHAPE):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8).reshape(shape)


def pack(*clips):
    return static_explorer.fragment(clips, LABELS, n_thresholds=25, steps=50)


def test_maps_and_masks_come_back_as_they_were_packed():
    clip = make_clip("a")
    data = data_of(pack(clip))
    (entry,) = data["clips"]
    assert (data["n_frames"], data["height"], data["width"]) == SHAPE
    assert (data["n_thresholds"], data["steps"], len(data["palette"])) == (25, 50, 51)
    np.testing.assert_array_equal(inflate(entry["mask"]), clip.mask)
    for key, values in clip.maps.items():
        np.testing.assert_array_equal(
            inflate(entry["maps"][key]), overlay.to_levels(values, steps=50)
        )


def test_frames_are_one_picture_each_below_the_other():
    clip = make_clip("a")
    smooth = np.linspace(0, 1, SHAPE[0])[:, None, None] * np.ones(SHAPE)
    (entry,) = data_of(pack(ShownClip(**{**clip.__dict__, "frames": smooth})))["clips"]
    kind, text = entry["frames"].split(",")
    assert kind == "data:image/jpeg;base64"
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
    assert picture.shape == (SHAPE[0] * SHAPE[1], SHAPE[2])
    assert picture[0].mean() < 60 and picture[-1].mean() > 200


def test_the_first_frame_shown_is_that_of_the_largest_mask():
    assert data_of(pack(make_clip("a")))["clips"][0]["first_frame"] == 2


def test_the_html_asks_for_nothing_and_names_cannot_break_it():
    html = pack(make_clip("a"))
    sources = re.findall(r'\b(?:src|href)="([^"]{0,30})', html)
    assert sources and all(source.startswith("data:") for source in sources)
    assert "http" not in html and html.count("</script>") == 2
    assert "&quot;difference&quot; &lt;b&gt;" in html
    tricky = ShownClip(**{**make_clip("a").__dict__, "label": "</script><b>"})
    assert data_of(pack(tricky))["clips"][0]["label"] == "</script><b>"


def test_every_control_has_a_label_and_the_contact_sheet_a_text():
    html = pack(make_clip("a"))
    for control in re.findall(r"<(?:select|input)\b[^>]*>", html):
        assert re.search(r"<label[^>]*>[^\n]*\n?" + re.escape(control), html), control
    (alt,) = re.findall(r'<img alt="([^"]*)"', html)
    assert "Integrated Gradients" in alt and len(alt.split()) > 20


# --- as many clips as fit ---------------------------------------------------------------------


def fitted(clips, max_bytes):
    html = static_explorer._fitting(clips, LABELS, n_thresholds=25, steps=50, max_bytes=max_bytes)
    return html, [entry["key"] for entry in data_of(html)["clips"]]


def test_clips_are_added_while_they_fit():
    clips = [make_clip(name, seed=i) for i, name in enumerate("abcd")]
    whole, keys = fitted(clips, 10**9)
    assert keys == list("abcd")
    two = len(pack(*clips[:2]))
    assert fitted(clips, two + 50)[1] == ["a", "b"]
    for limit in (two - 50, two + 50, len(whole) + 50):
        assert len(fitted(clips, limit)[0]) <= limit


def test_a_first_clip_that_does_not_fit_loses_its_last_maps_but_one():
    clips = [make_clip("a"), make_clip("b")]
    html, keys = fitted(clips, 10)
    assert keys == ["a"]
    assert list(data_of(html)["clips"][0]["maps"]) == ["ig"]


def test_clips_may_have_different_maps():
    html, keys = fitted([make_clip("a", keys=["ig"]), make_clip("b", keys=["ig", "motion"])], 10**9)
    assert keys == ["a", "b"]
    assert [list(entry["maps"]) for entry in data_of(html)["clips"]] == [["ig"], ["ig", "motion"]]


# --- a run's clips ----------------------------------------------------------------------------


@pytest.fixture
def run(monkeypatch):
    """A run whose store is made of arrays; a slow method is evaluated on one clip alone."""
    clip = make_clip("a")
    evaluated = pd.DataFrame({
        "scene": ["ped1", "ped1", "ped2"], "clip_id": ["a", "b", "c"],
        "sequence": ["ped1/Test001", "ped1/Test002", "ped2/Test001"],
        "start": [0, 16, 32], "n_frames": 16,
    })  # fmt: skip
    kinds = {"ig": "method", "slow": "method", "ig_more": "variant", "random": "reference",
             "centre": "reference", "motion": "reference"}  # fmt: skip
    table = {key: types.SimpleNamespace(key=key, kind=kind) for key, kind in kinds.items()}
    se = static_explorer
    monkeypatch.setattr(se, "rows", lambda run: table)
    monkeypatch.setattr(
        se.maps, "clips_of", lambda run, row: ["a"] if row.key == "slow" else ["a", "b", "c"]
    )
    monkeypatch.setattr(se, "probabilities", lambda run, clip_id: (0.9, 0.1))
    monkeypatch.setattr(se, "shown_clips", lambda run: {"ped1": "a", "ped2": "c"})
    monkeypatch.setattr(se.store, "evaluation", lambda run: evaluated)
    monkeypatch.setattr(se.store, "labels", lambda run: {key: key.upper() for key in kinds})
    monkeypatch.setattr(se.store, "frames", lambda run, clip_id: clip.frames)
    monkeypatch.setattr(se.store, "mask", lambda run, clip_id: clip.mask)
    monkeypatch.setattr(se.store, "attribution", lambda run, clip_id, row: clip.maps["ig"])
    return types.SimpleNamespace(params=types.SimpleNamespace(n_thresholds=10))


def test_a_clip_of_each_scene_comes_first_then_the_others(run):
    data = data_of(static_explorer.explorer_html(run))
    assert [entry["key"] for entry in data["clips"]] == ["a", "c", "b"]
    assert data["clips"][1]["label"] == "ped2/Test001, frames 33 to 48"
    assert (data["n_thresholds"], data["steps"], data["first_threshold"]) == (10, 50, 1)


def test_methods_come_before_the_two_references_and_only_where_they_are_evaluated(run):
    data = data_of(static_explorer.explorer_html(run))
    shown = {entry["key"]: list(entry["maps"]) for entry in data["clips"]}
    assert shown["a"] == ["ig", "slow", "motion", "random"]
    assert shown["b"] == ["ig", "motion", "random"]
