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
    assert (p.epochs, p.batch_size, p.lr, p.weight_decay) == (100, 5, 1e-3, 1e-4)
    assert (p.lr_schedule, p.lr_step, p.lr_gamma) == ("step", 30, 0.1)
    assert (p.n_clips, p.baseline, p.settings, p.n_thresholds) == (40, "blur", {}, 50)


def test_overrides_replace_and_none_keeps_the_profiles_value(root):
    p = params.load("quick", root=root, epochs=3, n_clips=None, lr=1)
    kept = params.load("quick", root=root)
    assert (p.epochs, p.n_clips, p.lr) == (3, kept.n_clips, 1.0)
    assert isinstance(p.lr, float)


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
        ({"augment": 1}, ["augment", "true or false"]),
        ({"fold": 5}, ["fold", "0 to 4"]),
        ({"precision": "fp64"}, ["precision", "fp64", "bf16"]),
        ({"dataset": "shanghai"}, ["dataset", "walkway"]),
        ({"n_clips": 0}, ["n_clips", "at least 1"]),
        ({"frame_size": [80]}, ["frame_size", "height"]),
        ({"std": 0.0}, ["std", "positive"]),
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
