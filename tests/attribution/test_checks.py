import numpy as np
import pytest

from vad_helpers.attribution import checks
from vad_helpers.errors import InputError


@pytest.mark.parametrize(
    ("given", "default", "expected"),
    [
        (np.int64(-3), 1, -3),
        (3, 1.0, 3.0),
        (np.float32(0.5), 1.0, 0.5),
        ("b", "a", "b"),
        (False, True, False),
        ([1, 2, 3], (4, 5, 6), (1, 2, 3)),
        ((1, 2), (0.0, 0.0), (1.0, 2.0)),
        ("anything", None, "anything"),
    ],
)
def test_a_value_takes_the_type_of_its_default(given, default, expected):
    result = checks.value("it", given, default)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("given", "default"),
    [
        *((one, 1) for one in (3.0, True, "3", None)),
        *((one, 1.0) for one in ("0.1", True, float("nan"), float("inf"))),
        *((one, (1, 2, 3)) for one in (4, (1, 2), (1, 2, 3.5), "abc")),
        (1, "a"),
        (1, True),
    ],
)
def test_a_value_of_another_type_is_refused(given, default):
    with pytest.raises(InputError, match="it is .*; give"):
        checks.value("it", given, default)
