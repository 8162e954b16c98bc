import numpy as np
import pytest

from vad_helpers.attribution import checks
from vad_helpers.errors import InputError


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        (3, 1, 3),
        (np.int64(3), 1, 3),
        (-3, 1, -3),
        (3, 1.0, 3.0),
        (np.float32(0.5), 1.0, 0.5),
        ("b", "a", "b"),
        (False, True, False),
        ([1, 2, 3], (4, 5, 6), (1, 2, 3)),
        ((1, 2), (0.0, 0.0), (1.0, 2.0)),
        ("anything", None, "anything"),
    ],
)
def test_a_setting_takes_the_type_of_its_default(value, default, expected):
    result = checks.setting("it", value, default)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("value", "default"),
    [
        (3.0, 1),
        (True, 1),
        ("3", 1),
        (None, 1),
        ("0.1", 1.0),
        (True, 1.0),
        (float("nan"), 1.0),
        (float("inf"), 1.0),
        (1, "a"),
        (1, True),
        (4, (1, 2, 3)),
        ((1, 2), (1, 2, 3)),
        ((1, 2, 3.5), (1, 2, 3)),
        ("abc", (1, 2, 3)),
    ],
)
def test_a_setting_of_another_type_is_refused(value, default):
    with pytest.raises(InputError, match="it is .*; give"):
        checks.setting("it", value, default)


def test_settings_are_the_defaults_with_the_given_on_top():
    defaults = {"a": 1, "b": (1, 2)}
    assert checks.settings("m", {"b": [3, 4]}, defaults) == {"a": 1, "b": (3, 4)}
    assert defaults == {"a": 1, "b": (1, 2)}


def test_an_unknown_name_is_answered_with_the_closest_or_all():
    assert checks.suggest("blue", ["blur", "black"]) == "did you mean 'blur'?"
    assert checks.suggest("zzz", ["blur", "black"]) == "choose from blur, black"


def test_bounds_are_inclusive():
    assert checks.whole("it", 5, minimum=5, maximum=5) == 5
    for value in (4, 6):
        with pytest.raises(InputError, match="at least 5 and at most 5"):
            checks.whole("it", value, minimum=5, maximum=5)
    checks.at_least("m", {"a": 0}, a=0)
    with pytest.raises(InputError, match="m: a is 0; it must be above 0"):
        checks.above_zero("m", {"a": 0}, "a")
