"""Words for the cells of tables."""

import pandas as pd
import pytest

from vad_helpers.pages import spelling

LINE = {"difference": 0.1, "low": 0.05, "high": 0.2, "verdict": "higher"}


def test_a_difference_shows_its_corrected_p_where_it_has_one():
    assert spelling.judged_difference(pd.Series(LINE | {"p_holm": 0.3125})) == (
        "+0.100 [+0.050, +0.200] (p 0.31) higher"
    )


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_difference_without_a_corrected_p_does_not_speak_of_one(missing):
    line = pd.Series(LINE | {"p_holm": missing})
    assert spelling.judged_difference(line) == "+0.100 [+0.050, +0.200] higher"


def test_a_share_that_only_rounds_to_none_or_all_is_not_called_so():
    spelled = [spelling.share(value) for value in (0, 0.0001, 0.4, 0.9999, 1)]
    assert spelled == ["0%", "under 1%", "40%", "over 99%", "100%"]


def test_an_undefined_difference_says_so():
    nothing = dict.fromkeys(("difference", "low", "high", "p_holm"), float("nan"))
    line = pd.Series(nothing | {"verdict": "undecided"})
    assert spelling.judged_difference(line) == "undefined undecided"
