"""The live explorer: its logic on a run made of arrays, and the whole of it in a real kernel."""

import re
import threading
import types

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbclient import NotebookClient

from vad_helpers.metrics import human_centric
from vad_helpers.viz import explorer as live

SHAPE = (4, 8, 12)
RNG = np.random.default_rng(0)
MAPS = {key: RNG.standard_normal(SHAPE).astype(np.float32) for key in ("ig", "motion", "made")}
MASK = np.zeros(SHAPE, dtype=bool)
MASK[1:, 2:5, 3:7] = True
MASK[2, 2:6, 3:9] = True


def row(key, method=None):
    return types.SimpleNamespace(key=key, label=key.upper(), method=method, baseline="blur")


@pytest.fixture
def run(monkeypatch):
    """Two clips; the run holds the map of "ig", "lime" has to be explained, "motion" needs none."""
    evaluated = pd.DataFrame({"clip_id": ["a", "b"], "sequence": "ped1/Test001",
                              "start": [0, 4], "n_frames": 4})  # fmt: skip
    table = {"ig": row("ig", "ig"), "lime": row("lime", "lime"), "motion": row("motion")}
    store = live.store
    monkeypatch.setattr(live, "rows", lambda run: table)
    monkeypatch.setattr(store, "evaluation", lambda run: evaluated)
    monkeypatch.setattr(store, "frames", lambda run, clip_id: np.full(SHAPE, 0.5))
    monkeypatch.setattr(store, "mask", lambda run, clip_id: MASK & (clip_id == "a"))
    monkeypatch.setattr(store, "attribution", lambda run, clip_id, key: MAPS[key])
    monkeypatch.setattr(store, "clip", lambda run, clip_id: torch.ones(3, *SHAPE))
    monkeypatch.setattr(store, "baseline", lambda run, clip_id, name: torch.zeros(3, *SHAPE))
    monkeypatch.setattr(live.maps, "explained", lambda run, clip_id, row: row.key == "ig")
    monkeypatch.setattr(live, "predictor", lambda run: lambda clips: clips.mean((1, 2, 3, 4)))
    values = {"n_frames": 4, "n_thresholds": 10, "baseline": "blur", "eval_batch_size": 2}
    return types.SimpleNamespace(params=types.SimpleNamespace(**values))


@pytest.fixture
def shown(run):
    return live.explore(run)


@pytest.fixture
def explaining(monkeypatch):
    """Explanations that take four steps, each when the test allows it."""
    step = threading.Semaphore(0)

    def explain_now(run, clip_id, key, *, baseline, progress):
        for done in range(1, 5):
            assert step.acquire(timeout=10)
            progress(done, 4)
        return MAPS["made"]

    monkeypatch.setattr(live.maps, "explain_now", explain_now)
    return step


def test_it_starts_at_the_largest_mask_with_the_iou_of_the_metrics(shown):
    assert shown.frame.value == 2 and shown.clip.value == "a"
    curve = human_centric.iou_curve(MAPS["ig"], MASK, n_thresholds=10)
    assert f"IoU {curve[1]:.3f} at a threshold of 0.10" in shown.readout.value
    assert f"thresholds: {curve.max():.3f}" in shown.readout.value
    shown.threshold.value = 4
    assert f"IoU {curve[4]:.3f} at a threshold of 0.40" in shown.readout.value


@pytest.mark.parametrize(
    ("control", "value"),
    [("frame", 0), ("threshold", 9), ("opacity", 10), ("outline", False), ("method", "motion")],
)
def test_every_control_changes_the_picture(shown, control, value):
    before = shown.picture.value
    getattr(shown, control).value = value
    assert shown.picture.value != before


def test_the_curve_of_iou_is_computed_when_the_map_changes_and_not_the_frame(shown, monkeypatch):
    asked, compute = [], human_centric.iou_curve
    monkeypatch.setattr(
        live.human_centric, "iou_curve", lambda *a, **k: asked.append(1) or compute(*a, **k)
    )
    shown.frame.value, shown.threshold.value = 0, 4
    assert asked == []
    shown.method.value = "motion"
    assert asked == [1]


def test_the_picture_says_what_it_shows(shown):
    shown.method.value = "motion"
    assert 'alt="Frame 3 of the clip, and over it the map of MOTION"' in shown.picture.value


def test_the_player_moves_the_frame(shown):
    shown.play.value = 3
    assert shown.frame.value == 3 and 'alt="Frame 4' in shown.picture.value


def test_a_clip_without_a_mask_has_no_iou(shown):
    shown.clip.value = "b"
    assert "undefined" in shown.readout.value


def test_a_map_that_is_not_there_is_not_made_unasked(shown):
    shown.method.value = "lime"
    assert "Not explained yet" in shown.status.value and shown.readout.value == ""
    shown.measure_button.click()
    assert shown.wait(10)
    assert "no map to measure" in shown.status.value
    shown.method.value = "ig"
    shown.baseline.value = "black"
    assert "Not explained yet" in shown.status.value


def test_explaining_shows_progress_then_the_map(shown, explaining):
    shown.method.value = "lime"
    shown.explain_button.click()
    assert shown.explain_button.disabled and not shown.cancel_button.disabled
    assert not shown.wait(0.01)
    shown.explain_button.click()  # a second one is not started
    explaining.release(4)
    assert shown.wait(10)
    assert (shown.progress.value, shown.progress.max) == (4, 4)
    assert "Explained" in shown.status.value
    curve = human_centric.iou_curve(MAPS["made"], MASK, n_thresholds=10)
    assert f"IoU {curve[1]:.3f}" in shown.readout.value
    assert not shown.explain_button.disabled and shown.cancel_button.disabled
    shown.method.value = "ig"
    shown.method.value = "lime"  # it is kept
    assert f"IoU {curve[1]:.3f}" in shown.readout.value


def test_cancelling_keeps_nothing_and_frees_the_buttons(shown, explaining):
    shown.method.value = "lime"
    shown.explain_button.click()
    explaining.release(1)
    shown.cancel_button.click()
    explaining.release(1)
    assert shown.wait(10)
    assert "Cancelled" in shown.status.value and shown.readout.value == ""
    assert shown.progress.value < 4
    assert not shown.explain_button.disabled and shown.cancel_button.disabled
    shown.explain_button.click()  # and the next one is not cancelled
    explaining.release(4)
    assert shown.wait(10)
    assert "Explained" in shown.status.value


def test_what_is_explained_is_not_shown_over_another_choice(shown, explaining):
    shown.method.value = "lime"
    shown.explain_button.click()
    shown.method.value = "motion"
    before = shown.picture.value
    explaining.release(4)
    assert shown.wait(10)
    assert shown.picture.value == before


def test_a_failure_is_said_and_not_silent(shown, monkeypatch):
    def fail(*arguments, **options):
        raise RuntimeError("no memory <left>")

    monkeypatch.setattr(live.maps, "explain_now", fail)
    shown.explain_button.click()
    assert shown.wait(10)
    assert shown.status.value == "Failed: no memory &lt;left&gt;"
    assert not shown.explain_button.disabled


def test_maps_without_a_network_are_not_explained(shown):
    shown.method.value = "motion"
    shown.explain_button.click()
    assert shown.wait(10)
    assert "needs no network" in shown.status.value


def test_deletion_and_insertion_of_the_map_shown(shown):
    shown.measure_button.click()
    assert shown.wait(10)
    from vad_helpers.metrics import model_centric

    expected = model_centric.deletion_insertion(
        lambda clips: clips.mean((1, 2, 3, 4)),
        torch.ones(3, *SHAPE),
        torch.zeros(3, *SHAPE),
        MAPS["ig"],
        n_thresholds=10,
    )
    assert f"Deletion {expected['deletion']:.3f}" in shown.status.value
    assert f"insertion {expected['insertion']:.3f}" in shown.status.value
    assert "p(x) = 1.000, p(x_b) = 0.000" in shown.status.value
    assert shown.curves.value.startswith("<img alt=")
    assert 0 < shown.progress.value <= shown.progress.max
    shown.method.value = "motion"
    assert shown.curves.value == ""


def test_curves_of_a_map_are_not_shown_under_another(shown, monkeypatch):
    go_on = threading.Event()

    def slow(clips):
        assert go_on.wait(10)
        return clips.mean((1, 2, 3, 4))

    monkeypatch.setattr(live, "predictor", lambda run: slow)
    shown.measure_button.click()
    shown.method.value = "motion"
    go_on.set()
    assert shown.wait(10)
    assert shown.curves.value == ""


def test_measuring_can_be_cancelled_between_batches(shown, monkeypatch):
    at_work, go_on = threading.Event(), threading.Event()

    def slow(clips):
        at_work.set()
        assert go_on.wait(10)
        return clips.mean((1, 2, 3, 4))

    monkeypatch.setattr(live, "predictor", lambda run: slow)
    shown.measure_button.click()
    assert at_work.wait(10)
    shown.cancel_button.click()
    go_on.set()
    assert shown.wait(10)
    assert "Cancelled" in shown.status.value and shown.curves.value == ""


# --- in a kernel --------------------------------------------------------------------------------

CELLS = [
    "from vad_helpers import store\nfrom vad_helpers.viz.explorer import explore\n"
    "run = store.open_run('tiny')\nlive = explore(run)\nlive",
    "live.method.value = 'occlusion_lp'\nbefore = live.picture.value\n"
    "live.baseline.value = 'black'\nprint('asked:', live.status.value)\n"
    "live.explain_button.click()\nassert live.wait(120)\n"
    "print('explained:', live.status.value, live.progress.value, live.progress.max)\n"
    "print('readout:', live.readout.value, before != live.picture.value)",
    "live.measure_button.click()\nassert live.wait(120)\nprint('measured:', live.status.value)\n"
    "print('curves:', len(live.curves.value))",
    # Cancelled at the first news of progress, whenever that comes.
    "live.baseline.value = 'strong_blur'\nlive.method.value = 'occlusion_sp'\n"
    "live.progress.observe(lambda change: live.cancel_button.click(), 'value')\n"
    "live.explain_button.click()\nassert live.wait(120)\nprint('cancelled:', live.status.value)\n"
    "print('readout:', repr(live.readout.value), live.progress.value < live.progress.max)",
]  # fmt: skip


@pytest.fixture(scope="module")
def executed(tiny_root):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(one) for one in CELLS])
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tiny_root}}
    )
    return client.execute()


def printed(notebook, i):
    outputs = notebook.cells[i].outputs
    assert not [one for one in outputs if one.output_type == "error"], outputs
    assert not [one for one in outputs if one.get("name") == "stderr"], outputs
    return "".join(one.text for one in outputs if one.output_type == "stream")


@pytest.mark.slow
def test_in_a_kernel_it_is_shown_as_a_widget(executed):
    (output,) = executed.cells[0].outputs
    assert "application/vnd.jupyter.widget-view+json" in output.data
    state = executed.metadata["widgets"]["application/vnd.jupyter.widget-state+json"]["state"]
    pictures = [one["state"].get("value", "") for one in state.values()]
    assert any(isinstance(one, str) and one.startswith("<img alt=") for one in pictures)


@pytest.mark.slow
def test_in_a_kernel_a_clip_is_explained_with_progress(executed):
    text = printed(executed, 1)
    assert "asked: Not explained yet" in text
    done, total = re.search(r"explained: Explained.*? (\d+) (\d+)\n", text).groups()
    assert done == total != "0"
    assert re.search(r"readout: IoU \d\.\d{3} at a threshold.* True", text)


@pytest.mark.slow
def test_in_a_kernel_the_map_shown_is_measured(executed):
    text = printed(executed, 2)
    assert re.search(r"measured: Deletion -?\d\.\d{3} .*insertion -?\d\.\d{3}", text)
    assert int(re.search(r"curves: (\d+)", text)[1]) > 5000


@pytest.mark.slow
def test_in_a_kernel_cancelling_ends_the_explanation(executed):
    text = printed(executed, 3)
    assert "cancelled: Cancelled; nothing was kept." in text
    assert "readout: '' True" in text
