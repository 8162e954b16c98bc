"""Both explorers on a run made of arrays, and the live one on a real run."""

import json
import re
import threading
import types

import numpy as np
import pandas as pd
import pytest
import torch

from vad_helpers.attribution import baselines
from vad_helpers.metrics import human_centric
from vad_helpers.run.rows import Row
from vad_helpers.viz import explorer
from vad_helpers.viz.heatmaps import ShownClip

SHAPE = (4, 8, 12)
MASK = np.zeros(SHAPE, dtype=bool)
MASK[1:, 2:5, 3:7] = True
MASK[2, 2:6, 3:9] = True


def made(seed):
    return np.random.default_rng(seed).standard_normal(SHAPE).astype(np.float32)


# --- maps over frames -------------------------------------------------------------------------


def test_steps_are_a_multiple_of_the_thresholds_that_a_byte_holds():
    for n, expected in {50: 50, 10: 50, 7: 56, 254: 254, 1: 50}.items():
        assert explorer.fit_thresholds(n) == (n, expected)
    assert explorer.fit_thresholds(255) == (50, 50)


@pytest.mark.parametrize("n", [7, 25, 50])
def test_levels_by_hand_and_as_the_metrics_cut_the_map(n):
    found = explorer.to_levels(np.array([-1.0, 0.0, 1e-9, 0.5, 0.99, 1.0, 2.0]), steps=4)
    assert found.dtype == np.uint8 and found.tolist() == [0, 0, 1, 2, 2, 3, 5]
    assert not explorer.to_levels(-np.ones((2, 3)), steps=50).any()
    values, steps = made(1), explorer.fit_thresholds(n)[1]
    sets = [explorer.to_levels(values, steps=steps) > i * steps / n for i in range(n + 1)]
    ious = [(part & MASK).sum() / (part | MASK).sum() for part in sets]
    assert ious == human_centric.iou_curve(values, MASK, n_thresholds=n).tolist()


def test_blending_leaves_grey_what_is_not_above_the_level_and_mixes_by_opacity():
    levels = np.array([[0, 3, 5]], dtype=np.uint8)
    for opacity in (1, 0.5):
        grey = np.full((1, 3), 0.2)
        pixels = explorer.blend(grey, levels, steps=4, above=3, opacity=opacity)
        mixed = (1 - opacity) * 51 + opacity * explorer.palette(4)[4]
        np.testing.assert_allclose(pixels[0], [[51] * 3, [51] * 3, mixed], atol=0.5)


# --- the explorer of pages --------------------------------------------------------------------


def make_clip(label, names=("IG", 'Frame "difference" <b>', "Random map"), *, seed=0):
    maps = {name: made(seed + i) for i, name in enumerate(names)}
    smooth = np.linspace(0, 1, SHAPE[0])[:, None, None] * np.ones(SHAPE)
    p = {"p_clip": 0.75, "p_baseline": 0.5}
    return ShownClip(label=label, frames=smooth, mask=MASK, maps=maps, **p)


def data_of(html):
    (text,) = re.findall(r'<script type="application/json" class="vad-data">(.*?)</script>', html)
    return json.loads(text)


def pack(*clips, **options):
    html = explorer.fragment(clips, n_thresholds=25, **options)
    return html, data_of(html)


def test_the_html_asks_for_nothing_and_names_cannot_break_it():
    html, data = pack(make_clip("</script><b>"))
    sources = re.findall(r'\b(?:src|href)="([^"]{0,30})', html)
    assert sources and all(source.startswith("data:") for source in sources)
    assert "http" not in html and html.count("</script>") == 2
    assert "&quot;difference&quot; &lt;b&gt;" in html
    assert data["clips"][0]["label"] == "</script><b>"
    (alt,) = re.findall(r'<img alt="([^"]*)"', html)
    assert "IG" in alt and len(alt.split()) > 20


def test_clips_are_added_while_they_fit_and_a_large_first_one_loses_its_last_maps():
    clips = [make_clip(name, seed=i) for i, name in enumerate("abc")]
    two = len(pack(*clips[:2])[0])
    for limit, names in ((two - 50, "a"), (two + 50, "ab")):
        html, data = pack(*clips, max_bytes=limit)
        assert len(html) <= limit and [one["label"] for one in data["clips"]] == list(names)
    (first,) = pack(*clips, max_bytes=10)[1]["clips"]
    assert first["label"] == "a" and list(first["maps"]) == ["IG"]


# --- a run --------------------------------------------------------------------------------------


class Steps:
    """What the explorers ask of `run.steps`, made of arrays; the maps of `there` are there.

    A "slow" row is on clip "a" alone. Explaining takes four steps, each when the test allows it.
    """

    def __init__(self):
        self.there = {("a", "ig"), ("b", "ig"), ("c", "ig"), ("a", "slow")}
        self.step, self.fails, self.made = threading.Semaphore(0), False, []
        kinds = {"ig": "method", "slow": "method", "more": "variant"}
        self.table = {k: Row(k, k.upper(), kind, "gradient", "ig") for k, kind in kinds.items()}
        for key in ("random", "centre", "motion"):
            self.table[key] = Row(key, key.upper(), "reference", "reference")
        self.table["ig_time_average"] = Row("ig_time_average", "T", "reference", "reference", "ig")
        self.clip = lambda run, clip_id: torch.ones(3, *SHAPE)
        self.baseline = lambda run, clip_id: torch.zeros(3, *SHAPE)
        self.predictor = lambda run: lambda batch: batch.mean((1, 2, 3, 4)) * 0.8 + 0.1
        self.frames = lambda run, clip_id: np.full(SHAPE, 0.5)
        self.mask = lambda run, clip_id: MASK & (clip_id != "b")
        self.rows = lambda run: self.table
        self.clips_of = lambda run, row: ["a"] if row.key == "slow" else list("abcd")

    def evaluation(self, run):
        sequences = ["ped1/Test001", "ped1/Test002", "ped2/Test001", "ped2/Test002"]
        table = pd.DataFrame({"clip_id": list("abcd"), "sequence": sequences})
        scenes = table["sequence"].str[:4]
        return table.assign(scene=scenes, start=[0, 16, 32, 48], n_frames=16)

    def map_path(self, run, clip_id, row):
        return types.SimpleNamespace(is_file=lambda: (clip_id, row.key) in self.there)

    def attribution(self, run, clip_id, row, progress=False):
        row = self.table[row] if isinstance(row, str) else row
        if row.method and (clip_id, row.key) not in self.there:
            if self.fails:
                raise RuntimeError("no memory <left>")
            for done in range(1, 5 if progress else 1):
                assert self.step.acquire(timeout=10)
                progress(done, 4)
            self.there.add((clip_id, row.key))
            self.made.append((clip_id, row.key, row.baseline))
        return made(len(row.key))


@pytest.fixture
def fake(monkeypatch):
    fake = Steps()
    monkeypatch.setattr(explorer, "steps", fake)
    return fake


RUN = types.SimpleNamespace(params=types.SimpleNamespace(n_frames=4, n_thresholds=10))


def test_a_page_has_a_clip_of_each_scene_first_then_others_that_the_run_has_explained(fake):
    data = data_of(explorer.explorer_html(RUN))
    shown = {entry["label"]: list(entry["maps"]) for entry in data["clips"]}
    assert shown == {
        "ped1/Test001, frames 1 to 16": ["IG", "SLOW", "MOTION", "RANDOM"],
        "ped2/Test001, frames 33 to 48": ["IG", "MOTION", "RANDOM"],
        "ped1/Test002, frames 17 to 32": ["IG", "MOTION", "RANDOM"],
    }
    assert fake.made == [] and data["second"] == "MOTION"
    assert (data["n_thresholds"], data["steps"], data["first_threshold"]) == (10, 50, 1)
    assert [data["clips"][0][p] for p in ("p_clip", "p_baseline")] == pytest.approx([0.9, 0.1])


def test_missing_maps_of_the_first_clips_are_explained_and_no_others(fake):
    fake.there.clear()
    data = data_of(explorer.explorer_html(RUN))
    assert [entry["label"][:12] for entry in data["clips"]] == ["ped1/Test001", "ped2/Test001"]
    assert [(clip, key) for clip, key, _ in fake.made] == [("a", "ig"), ("a", "slow"), ("c", "ig")]


@pytest.fixture
def shown(fake):
    return explorer.Explorer(RUN)


def curve_of(key):
    return human_centric.iou_curve(made(len(key)), MASK, n_thresholds=10)


def test_it_starts_at_the_largest_mask_with_the_iou_of_the_metrics(shown):
    assert shown.frame.value == 2 and shown.clip.value == "a"
    assert [value for _, value in shown.baseline.options] == ["", *baselines.NAMES]
    rows = [value for _, value in shown.row.options]
    assert rows == ["ig", "slow", "more", "random", "centre", "motion"]
    curve = curve_of("ig")
    assert f"thresholds: {curve.max():.3f}" in shown.readout.value
    for i in (1, 4):
        shown.threshold.value = i
        assert f"IoU {curve[i]:.3f} at a threshold of 0.{i}0" in shown.readout.value
    shown.clip.value = "b"
    assert "undefined" in shown.readout.value, "nothing is marked there"


CONTROLS = {"frame": 0, "threshold": 9, "opacity": 10, "outline": False, "row": "motion", "play": 3}


@pytest.mark.parametrize(("control", "value"), CONTROLS.items())
def test_every_control_changes_the_picture_and_its_words(shown, control, value):
    before = shown.picture.value
    getattr(shown, control).value = value
    assert shown.picture.value != before
    name = "MOTION" if control == "row" else "IG"
    words = f"Frame {shown.frame.value + 1} of the clip, and over it the map of {name}"
    assert f'alt="{words}"' in shown.picture.value


def test_a_map_that_is_not_there_is_not_made_unasked(shown, fake):
    for control, value in (("row", "more"), ("row", "ig"), ("baseline", "black")):
        getattr(shown, control).value = value
        missing = (control, value) != ("row", "ig")
        assert ("Not explained yet" in shown.status.value) == missing
        assert (shown.readout.value == "") == missing
    shown.baseline.value = "blur"  # the row's own, by its name
    assert shown.readout.value != ""
    shown.baseline.value, shown.row.value = "black", "motion"  # it has no baseline
    assert shown.readout.value != "" and fake.made == []


def explained(shown, fake, *, then=lambda: None):
    """Press "Explain", do something else meanwhile, let it go on; give what the status says."""
    shown.explain_button.click()
    assert shown.explain_button.disabled and not shown.cancel_button.disabled
    fake.step.release(1)
    then()
    fake.step.release(3)
    assert shown.wait(10)
    assert not shown.explain_button.disabled and shown.cancel_button.disabled
    return shown.status.value


def test_explaining_shows_progress_then_the_map_and_keeps_it(shown, fake):
    shown.baseline.value = "black"
    # A second press starts nothing.
    assert "Explained" in explained(shown, fake, then=shown.explain_button.click)
    assert (shown.progress.value, shown.progress.max) == (4, 4)
    assert fake.made == [("a", "ig_black", "black")]
    for baseline, key in (("black", "ig_black"), ("", "ig"), ("black", "ig_black")):
        shown.baseline.value = baseline
        assert f"IoU {curve_of(key)[1]:.3f}" in shown.readout.value


def test_cancelling_keeps_nothing_and_does_not_cancel_the_next(shown, fake):
    shown.row.value = "more"
    assert "Cancelled" in explained(shown, fake, then=shown.cancel_button.click)
    assert shown.readout.value == "" and fake.made == [] and shown.progress.value < 4
    shown.row.value = "motion"
    before, shown.row.value = shown.picture.value, "more"
    # What is explained is not shown over another choice.
    explained(shown, fake, then=lambda: setattr(shown.row, "value", "motion"))
    assert shown.picture.value == before and fake.made == [("a", "more", "blur")]


def test_a_failure_is_said_and_not_silent(shown, fake):
    fake.fails, shown.row.value = True, "more"
    shown.explain_button.click()
    assert shown.wait(10)
    assert shown.status.value == "Failed: no memory &lt;left&gt;"
    assert not shown.explain_button.disabled


# --- on a real run ------------------------------------------------------------------------------


@pytest.mark.slow
def test_on_a_real_run_a_clip_is_explained_under_another_baseline(in_project):
    from vad_helpers.run import open_run

    live = explorer.Explorer(open_run("tiny"))
    live.row.value, live.baseline.value = "occlusion_lp", "black"
    before = live.picture.value
    assert "Not explained yet" in live.status.value
    live.explain_button.click()
    assert live.wait(120)
    assert live.status.value == "Explained." and live.picture.value != before
    assert live.progress.value == live.progress.max > 0
