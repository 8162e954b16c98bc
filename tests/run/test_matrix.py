"""Which change of a parameter touches which artifact: computed again, or refused for a folder.

Networks are not trained here: their checksum stands for them, as it does in the keys.
"""

import dataclasses

import pytest

from vad_helpers.attribution import METHODS
from vad_helpers.errors import InputError
from vad_helpers.run import cache, experiment, open_run, params, steps

VARIANTS = {"ig_black": {"method": "ig", "baseline": "black"}}
EVERYTHING = {"clips", "model", "predictions", "ig", "lime", "ig_black", "random_weights", "motion"}
SCORES = {"ig", "lime", "ig_black", "random_weights", "motion"}
NETWORK = {"model", "predictions", *SCORES}  # every map is scored with the network
PICTURES = EVERYTHING - {"clips"}
TEXT = [
    ("seed=1 n_frames=16 stride=4", EVERYTHING),
    ("fold=1 n_folds=4 masks=added", {"clips", *NETWORK}),
    ("train_seed=1 keep=last", NETWORK),
    ("frame_size=[44,60] mean=0.4 std=0.4 precision=bf16", PICTURES),
    ("model_width=0.2 epochs=2 batch_size=4 lr=0.5 weight_decay=0.5 lr_schedule=step", NETWORK),
    ("lr_step=3 lr_gamma=0.5 train_stride=4 epoch_clips=4 early_end=Mixed_3b", NETWORK),
    ("average=0.5 label_smoothing=0.5 patience=3 train_precision=bf16", NETWORK),
    ("baseline=black n_thresholds=5 area_steps=4", SCORES),
    ("n_clips=4 n_clips_slow=1 max_per_sequence=1 study_clips=20 device=cpu", set()),
    ("methods=[ig,lime,guided_backprop] eval_batch_size=1 n_resamples=10", set()),
    ("runtime_repeats=2 alternative=another devices=2 num_nodes=2", set()),
]
CHANGES = {
    name: (value, touched)
    for text, touched in TEXT
    for name, value in map(params.parse_override, text.split())
} | {
    "walkway": ({"n_train": 6, "n_test": 10, "n_frames": 32}, EVERYTHING),
    "augmentation": ({"flip": True}, NETWORK),
    "settings": ({"ig": {"n_steps": 5}}, {"ig", "ig_black", "random_weights"}),
    "variants": ({"ig_black": {**VARIANTS["ig_black"], "n_steps": 5}}, {"ig_black"}),
}
"""Parameter -> another value, and what it touches."""
NOT_HERE = {"profile", "run_dir", "data_dir", "dataset", "split_by", "with_validation", "early_lr",
            "init_weights", "trained_weights", *params.OWN}  # fmt: skip
"""Places, and what needs files or another parameter: tested on their own."""


@pytest.fixture
def keys(tmp_path):
    """Keys of the artifacts of a run that is taken for trained."""

    def found(**change):
        folder = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        options = {"methods": ["ig", "lime"], "variants": VARIANTS, **change}
        run = open_run("tiny", run_dir=str(folder), **options)
        key = experiment.model_key(run)
        cache.update(run, files={"model": {"key": key}}, weights_sha256=key)
        run.path("model.safetensors").touch()
        precision = experiment.precision_of(run, "scores")
        own = {"clips": cache.key_of(run, "clips", data=experiment.data_key(run)), "model": key}
        parts = {"clips": own["clips"], "model": key, "precision": precision}
        own["predictions"] = cache.key_of(run, "predictions", **parts)
        rows = steps.rows(run)
        return own | {r: steps.score_key(run, rows[r]) for r in rows if r in EVERYTHING}

    return found


def test_every_parameter_is_in_the_matrix():
    assert set(CHANGES) | NOT_HERE == set(params.Params.model_fields)


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_touches_what_depends_on_it_and_nothing_else(keys, name):
    value, touched = CHANGES[name]
    before, after = keys(), keys(**{name: value})
    assert {artifact for artifact in before if before[artifact] != after[artifact]} == touched


@pytest.mark.parametrize("name", CHANGES)
def test_a_folder_with_a_manifest_refuses_what_contradicts_it(measured, name):
    value, _ = CHANGES[name]
    folder = str(measured.dir)
    if name in {*cache.FREE, "n_clips"}:
        assert getattr(open_run(run_dir=folder, **{name: value}).params, name) == value
        return
    with pytest.raises(InputError, match=f"was made with {name} .*, asked for is"):
        open_run(run_dir=folder, **{name: value})


def test_a_folder_with_a_manifest_supplies_all_that_is_not_given(measured):
    for options in ({}, {"methods": None, "epochs": 1}):
        run = open_run(run_dir=measured.dir, **options)
        assert run.supplied and not run.readonly
        ours = {**measured.params.dump(), "run_dir": None}
        assert {**run.params.dump(), "run_dir": None} == ours
    with pytest.raises(InputError, match="profile tiny, asked for is ucsd"):
        open_run("ucsd", run_dir=measured.dir)
    with pytest.raises(InputError, match="n_clips 2, asked for is 1"):
        open_run(run_dir=measured.dir, n_clips=1)


def test_a_changed_parameter_in_the_usual_folder_is_told_and_replaces(weights):
    options = {"methods": ["guided_backprop"], "variants": {}, "n_clips": 1}
    shared = {**options, "trained_weights": weights, "alternative": "usual"}
    first = open_run("tiny", **shared)
    assert first.dir.name == "usual-fold-0"
    steps.measure(first)
    again = open_run("tiny", **shared, n_thresholds=4)
    with pytest.warns(UserWarning, match="n_thresholds 10 -> 4"):
        study = steps.measure(again)
    assert study.params["n_thresholds"] == 4
    keys = {steps.score_key(again, row) for row in steps.rows(again).values()}
    assert set(study.human_centric["key"]) == keys


def test_a_methods_version_and_agreement_that_is_asked_for_are_in_the_keys_of_its_rows(
    keys, monkeypatch
):
    before, asked, lime = keys(), keys(settings={"lime": {"agreement": 0.9}}), METHODS["lime"]
    monkeypatch.setitem(METHODS, "lime", dataclasses.replace(lime, version=2))
    for after in (asked, keys()):
        assert {name for name in before if before[name] != after[name]} == {"lime"}
    older = {name: value for name, value in lime.settings.items() if name != "agreement"}
    monkeypatch.setitem(METHODS, "lime", dataclasses.replace(lime, settings=older, check=None))
    assert keys() == before


def test_weights_are_told_by_their_content(measured, weights, tmp_path, keys):
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(measured.path("model.safetensors").read_bytes())
    assert keys(trained_weights=weights) == keys(trained_weights=str(moved))
    moved.write_bytes(moved.read_bytes() + b" ")
    before, after = keys(trained_weights=weights), keys(trained_weights=str(moved))
    assert {name for name in before if before[name] != after[name]} == NETWORK
