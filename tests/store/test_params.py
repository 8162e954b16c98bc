import dataclasses
import shutil
from pathlib import Path

import pytest
import yaml

from vad_helpers.errors import InputError
from vad_helpers.store import params

ROOT = Path(__file__).parents[2]


@pytest.fixture
def root(tmp_path):
    shutil.copytree(ROOT / "params", tmp_path / "params")
    return tmp_path


@pytest.mark.parametrize("profile", ["quick", "ucsd"])
def test_the_committed_profiles_give_every_parameter_and_no_other(profile):
    raw = yaml.safe_load((ROOT / "params" / f"{profile}.yaml").read_text())
    assert sorted([*raw, "profile"]) == sorted(params.names())
    assert params.load(profile, root=ROOT).profile == profile


def test_the_ucsd_profile_holds_the_papers_settings():
    p = params.load("ucsd", root=ROOT)
    assert (p.frame_size, p.n_frames, p.model_width) == ([158, 237], 20, 1.0)
    assert (p.n_clips, p.study_clips, p.baseline, p.settings) == (40, 40, "blur", {})
    assert p.n_thresholds == 50


def test_overrides_replace_and_none_keeps_the_profiles_value(root):
    p = params.load("quick", root=root, epochs=3, n_clips=None, lr=1)
    kept = params.load("quick", root=root)
    assert (p.epochs, p.n_clips, p.lr) == (3, kept.n_clips, 1.0)
    assert isinstance(p.lr, float)


@pytest.fixture
def layered(root):
    """A profile with settings of two methods and two variants."""
    values = yaml.safe_load((root / "params" / "quick.yaml").read_text())
    values["settings"] = {"ig": {"n_steps": 4}, "lime": {"alpha": 0.1, "n_samples": 9}}
    values["variants"] = {"a": {"method": "ig", "baseline": "black"}, "b": {"method": "lime"}}
    (root / "params" / "layered.yaml").write_text(yaml.safe_dump(values))
    return lambda **overrides: params.load("layered", root=root, **overrides)


def test_settings_change_only_what_they_name(layered):
    p = layered(settings={"lime": {"n_samples": 400}, "kernel_shap": {"n_samples": 5}})
    assert p.settings == {
        "ig": {"n_steps": 4},
        "lime": {"alpha": 0.1, "n_samples": 400},
        "kernel_shap": {"n_samples": 5},
    }
    assert p.variants == layered().variants


def test_variants_are_added_changed_and_removed_one_by_one(layered):
    p = layered(variants={"a": {"n_steps": 7}, "b": None, "c": {"method": "ig"}})
    assert p.variants == {
        "a": {"method": "ig", "baseline": "black", "n_steps": 7},
        "c": {"method": "ig"},
    }


def test_an_empty_mapping_removes_all(layered):
    p = layered(settings={}, variants={})
    assert (p.settings, p.variants) == ({}, {})


def test_a_merge_leaves_the_profiles_own_values_alone():
    base = {"a": {"x": 1}}
    assert params.merged(base, {"a": {"y": 2}}) == {"a": {"x": 1, "y": 2}}
    assert base == {"a": {"x": 1}}


@pytest.mark.parametrize("name", ["profile", "root", "epoch"])
def test_what_is_no_override_is_refused(name):
    with pytest.raises(InputError, match=name):
        params.check_overrides({name: "x"})


def test_a_profile_in_another_encoding_is_refused(root):
    (root / "params" / "old.yaml").write_bytes("# größer\n".encode("latin-1"))
    with pytest.raises(InputError, match="old.yaml is not UTF-8"):
        params.load("old", root=root)


def test_black_is_the_normalised_zero(root):
    assert params.load("quick", root=root).black == -1.0
    assert params.load("quick", root=root, mean=0.0, std=1.0).black == 0.0


def test_a_profile_may_be_a_path(root):
    own = root / "mine.yaml"
    own.write_text((root / "params" / "quick.yaml").read_text())
    assert params.load("mine.yaml", root=root).profile == "mine.yaml"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"epoch": 3}, ["epoch", "did you mean 'epochs'"]),
        ({"zzz": 3}, ["zzz", "known:"]),
        ({"epochs": "many"}, ["epochs", "'many'", "whole number"]),
        ({"epochs": 2.5}, ["epochs", "2.5"]),
        ({"epochs": True}, ["epochs", "True"]),
        ({"lr": "fast"}, ["lr", "fast", "number"]),
        ({"lr": True}, ["lr", "number"]),
        ({"methods": "ig"}, ["methods", "'ig'", "list"]),
        ({"methods": [1]}, ["methods", "1"]),
        ({"settings": []}, ["settings", "dict"]),
        ({"augmentation": 1}, ["augmentation", "dict"]),
        ({"fold": 5}, ["fold", "0 to 4"]),
        ({"precision": "fp64"}, ["precision", "fp64", "bf16"]),
        ({"dataset": "shanghai"}, ["dataset", "walkway"]),
        ({"n_clips": 0}, ["n_clips", "at least 1"]),
        ({"frame_size": [80]}, ["frame_size", "height"]),
        ({"std": 0.0}, ["std", "positive"]),
        ({"std": float("nan")}, ["std", "nan", "finite"]),
        ({"mean": float("inf")}, ["mean", "inf", "finite"]),
        ({"seed": -1}, ["seed", "-1", "at least 0"]),
        ({"seed": 2**32}, ["seed", "at most 4294967295"]),
        ({"model_width": 0}, ["model_width", "positive"]),
        ({"batch_size": 0}, ["batch_size", "at least 1"]),
        ({"eval_batch_size": 0}, ["eval_batch_size", "at least 1"]),
        ({"area_steps": 0}, ["area_steps", "at least 1"]),
        ({"n_resamples": 0}, ["n_resamples", "at least 1"]),
        ({"max_per_sequence": 0}, ["max_per_sequence", "at least 1"]),
        ({"n_clips_slow": 0}, ["n_clips_slow", "at least 1"]),
        ({"n_folds": 2}, ["n_folds", "at least 3"]),
        ({"lr": 0}, ["lr", "positive"]),
        ({"lr_step": 0}, ["lr_step", "at least 1"]),
        ({"lr_gamma": 2}, ["lr_gamma", "at most 1"]),
        ({"weight_decay": -1}, ["weight_decay", "at least 0"]),
        ({"methods": []}, ["methods", "a method at least"]),
        ({"device": "tpu"}, ["device", "tpu", "cuda"]),
        ({"variants": {"x": 5}}, ["variants", "x: 5", "mapping"]),
        ({"settings": {"lime": 5}}, ["settings", "lime: 5", "mapping"]),
        ({"settings": {1: {}}}, ["settings", "1: {}", "mapping"]),
    ],
)
def test_bad_overrides_are_refused_in_one_clear_line(root, overrides, words):
    with pytest.raises(InputError) as caught:
        params.load("quick", root=root, **overrides)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_numbers_in_exponent_notation_are_numbers_though_yaml_reads_text(root):
    assert params.load("quick", root=root, lr="1e-3").lr == 1e-3


def test_an_unknown_profile_is_refused_naming_those_there_are(root):
    with pytest.raises(InputError, match="unknown profile 'fast'; there are quick, ucsd"):
        params.load("fast", root=root)


@pytest.mark.parametrize(
    ("text", "words"),
    [("epochs: [1", "not readable YAML"), ("- a\n- b", "no `parameter"), ("epochs: 1", "lacks")],
)
def test_a_damaged_profile_is_refused(root, text, words):
    (root / "params" / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        params.load("bad", root=root)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epochs=3", ("epochs", 3)),
        ("lr=1e-3", ("lr", "1e-3")),
        ("run_dir=a=b", ("run_dir", "a=b")),
        ("methods=[ig, lime]", ("methods", ["ig", "lime"])),
        ("settings={lime: {n_samples: 9}}", ("settings", {"lime": {"n_samples": 9}})),
        ("init_weights=", ("init_weights", None)),
    ],
)
def test_overrides_are_read_as_yaml(text, expected):
    assert params.parse_override(text) == expected


@pytest.mark.parametrize("text", ["epochs", "=3", "methods=[ig"])
def test_malformed_overrides_are_refused(text):
    with pytest.raises(InputError):
        params.parse_override(text)


def test_the_project_is_found_from_inside_and_missed_from_outside(root, tmp_path_factory):
    inside = root / "notebooks" / "deep"
    inside.mkdir(parents=True)
    assert params.project_root(inside) == root
    with pytest.raises(InputError, match="not inside the project"):
        params.project_root(tmp_path_factory.mktemp("elsewhere"))


def test_every_parameter_is_documented():
    for field in dataclasses.fields(params.Params):
        assert field.name in params.Params.__doc__
