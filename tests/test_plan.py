"""The plan of a run: what is there, and what the rest is expected to cost."""

import warnings

import pytest

from vad_helpers import plan, store
from vad_helpers.store import maps, scores


@pytest.fixture
def steps(in_project, tmp_path, monkeypatch):
    """Steps of a fresh run in which a forward pass takes 1 s and one with its gradient 10 s."""
    store.clips(store.open_run("tiny"))  # the data are there
    monkeypatch.setattr(plan, "seconds_per_clip", lambda run: (1.0, 10.0))
    monkeypatch.setattr(plan, "seconds_per_training_clip", lambda run: 5.0)

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


def test_only_maps_that_are_not_scored_yet_cost_scoring(steps, tmp_path):
    found = steps(methods=["ig"]).loc["scores: model_centric"]
    rows = 1 + 5  # IG and the reference rows
    assert found["state"] == f"0 of {3 * rows} cached"
    curves = found["model_calls"] / (3 * rows)
    run = store.open_run("tiny", variants={}, run_dir=str(tmp_path / "run"), methods=["ig"])
    scored = store.evaluation(run)["clip_id"].iloc[0]
    for table in ("human_centric", "model_centric"):
        scores.score(run, table, scored, "motion")
    found = steps(methods=["ig"])
    assert found.loc["scores: model_centric", "state"] == f"1 of {3 * rows} cached"
    assert found.loc["scores: model_centric", "model_calls"] == (3 * rows - 1) * curves
    assert found.loc["scores: human_centric", "minutes"] == pytest.approx((3 * rows - 1) * 0.3 / 60)
    assert found.loc["scores: controls", "state"] == f"0 of {3 * rows} cached"


def test_variants_on_a_few_clips_are_not_timed_again(steps):
    variants = {"few": {"method": "ig", "n_clips": 1, "baseline": "black"},
                "every": {"method": "ig", "baseline": "black"}}  # fmt: skip
    found = steps(methods=["ig"], runtime_repeats=3, variants=variants).loc["scores: runtime"]
    assert found["model_calls"] == 4 * (4 + 4 + 60)  # the profile has a variant of LIME too


def test_slow_methods_explained_on_another_machine_are_timed_here_once(
    steps, tmp_path, monkeypatch
):
    variants = {"few": {"method": "ig", "n_clips": 1, "baseline": "black"}}
    given = {"methods": ["ig"], "runtime_repeats": 3, "variants": variants, "n_clips": 1}
    monkeypatch.setattr(maps, "SLOW_CALLS", 3)
    run = store.open_run("tiny", run_dir=str(tmp_path / "run"), **given)
    for row in ("ig", "few", "lime_converged"):
        store.attribution(run, maps.clips_of(run, store.rows(run)[row])[0], row)
    assert steps(**given).loc["scores: runtime", "model_calls"] == 0
    monkeypatch.setattr(scores.detector, "machine", lambda run: "another")
    found = steps(**given).loc["scores: runtime"]
    assert found["model_calls"] == 4 + 60  # IG, and LIME, of which the profile has a variant
    assert found["minutes"] == pytest.approx((4 * 10 + 60) / 60)
    store.runtime(run)
    assert steps(**given).loc["scores: runtime", "state"] == "cached"
    monkeypatch.setattr(scores.detector, "machine", lambda run: "a third")
    assert steps(**given).loc["scores: runtime", "state"] == "to do"


def test_training_costs_the_clips_that_its_recipe_draws(steps):
    clips = store.clips(store.open_run("tiny"))["split"].value_counts()
    found = steps(methods=["ig"], epochs=2).loc["training"]
    assert found["model_calls"] == 2 * (clips["train"] + clips["val"])
    assert found["minutes"] == pytest.approx(2 * (5 * clips["train"] + clips["val"]) / 60)
    found = steps(methods=["ig"], epochs=2, epoch_clips=3).loc["training"]
    assert found["model_calls"] == 2 * (3 + clips["val"])
    overlapping = steps(methods=["ig"], epochs=1, train_stride=2).loc["training", "model_calls"]
    assert overlapping > 2 * clips["train"]


def test_predictions_and_the_doubling_of_samples_count_until_they_are_there(steps, tmp_path):
    given = {"methods": ["ig", "lime"], "n_clips": 2}
    clips = store.clips(store.open_run("tiny"))["split"].value_counts()
    found = steps(**given)
    assert found.loc["predictions", "model_calls"] == clips["val"] + clips["test"]
    # Two seeds of the 25 samples that LIME has, on a clip of each scene.
    assert found.loc["doubling of samples", "model_calls"] == 2 * 2 * 25
    run = store.open_run("tiny", variants={}, run_dir=str(tmp_path / "run"), **given)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of maps that are all zero
        store.convergence_table(run)
    store.predictions(run)
    found = steps(**given)
    assert found["model_calls"].isna()[["predictions", "doubling of samples"]].all()
    assert steps(methods=["ig"]).loc["doubling of samples", "state"] == "cached"


def test_a_training_step_is_measured(in_project, tmp_path):
    run = store.open_run("tiny", run_dir=str(tmp_path / "run"))
    assert 0 < plan.seconds_per_training_clip(run) < 5


def test_a_window_of_occlusion_costs_what_it_recomputes(steps, monkeypatch):
    monkeypatch.setattr(plan, "window_seconds", lambda run, window, stride: 0.25)
    found = steps(methods=["occlusion_lp"]).loc["maps: occlusion_lp"]
    assert found["minutes"] == pytest.approx(found["model_calls"] * 0.25 / 60)


def test_a_windows_seconds_are_measured_and_no_more_than_a_clips(in_project, tmp_path):
    run = store.open_run("tiny", run_dir=str(tmp_path / "run"))
    assert 0 < plan.window_seconds(run, (4, 20, 20), (4, 20, 20)) < 1
