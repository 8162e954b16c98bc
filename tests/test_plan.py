"""The plan of a run: what is there, and what the rest is expected to cost."""

import pytest

from vad_helpers import plan, store
from vad_helpers.store import maps


@pytest.fixture
def steps(in_project, tmp_path, monkeypatch):
    """Steps of a fresh run in which a forward pass takes 1 s and one with its gradient 10 s."""
    store.clips(store.open_run("tiny"))  # the data are there
    monkeypatch.setattr(plan, "seconds_per_clip", lambda run: (1.0, 10.0))

    def look(**overrides):
        options = {"run_dir": str(tmp_path / "run"), "variants": {}, **overrides}
        return plan.steps(store.open_run("tiny", **options)).set_index("step")

    return look


def test_maps_cost_their_methods_model_calls(steps):
    found = steps(methods=["ig", "lime"])
    assert found.loc["maps: ig", "model_calls"] == 3 * 4
    assert found.loc["maps: ig", "minutes"] == pytest.approx(3 * 4 * 10 / 60)
    assert found.loc["maps: lime", "minutes"] == pytest.approx(3 * 25 * 1 / 60)


def test_the_chapter_on_run_time_repeats_the_fast_methods(steps, monkeypatch):
    found = steps(methods=["ig", "lime"], runtime_repeats=3).loc["scores: runtime"]
    assert found["model_calls"] == 4 * (4 + 25)
    assert found["minutes"] == pytest.approx(4 * (4 * 10 + 25 * 1) / 60)
    monkeypatch.setattr(maps, "SLOW_CALLS", 10)
    found = steps(methods=["ig", "lime"], runtime_repeats=3).loc["scores: runtime"]
    assert found["model_calls"] == 4 * 4


def test_a_window_of_occlusion_costs_what_it_recomputes(steps, monkeypatch):
    monkeypatch.setattr(plan, "window_seconds", lambda run, window, stride: 0.25)
    found = steps(methods=["occlusion_lp"]).loc["maps: occlusion_lp"]
    assert found["minutes"] == pytest.approx(found["model_calls"] * 0.25 / 60)


def test_a_windows_seconds_are_measured_and_no_more_than_a_clips(in_project, tmp_path):
    run = store.open_run("tiny", run_dir=str(tmp_path / "run"))
    assert 0 < plan.window_seconds(run, (4, 20, 20), (4, 20, 20)) < 1
