import dataclasses

import pytest

from vad_helpers.attribution import MethodSpec
from vad_helpers.errors import InputError


def fields(**changes):
    base = {
        "key": "mine",
        "name": "Mine",
        "family": "gradient",
        "attribute": lambda probability, clip, baseline: clip[0],
        "model_calls": lambda settings, shape, n_segments: 1,
    }
    return {**base, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "my method"}, "Python identifier"),
        ({"key": 3}, "a method's key is 3"),
        ({"family": "gradients"}, "did you mean 'gradient'"),
        ({"precision": "fp16"}, "unknown precision of method 'mine'"),
        ({"attribute": None}, "attribute is None; give a function"),
        ({"model_calls": 5}, "model_calls is 5; give a function"),
        ({"settings": {"target": 1}}, "setting named 'target'"),
        ({"superpixels": True}, "no setting 'compactness'"),
        ({"superpixels": True, "settings": {"compactness": 1.0}}, "no setting 'n_segments'"),
    ],
)
def test_a_wrong_field_is_named(changes, message):
    with pytest.raises(InputError, match=message):
        MethodSpec(**fields(**changes))


def test_a_spec_keeps_its_own_settings_and_cannot_be_changed():
    settings = {"n": 1}
    spec = MethodSpec(**fields(settings=settings))
    settings["n"] = 2
    assert spec.settings == {"n": 1}
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.key = "other"
