"""Which way a metric is better; that all have an entry, `test_evaluate` looks at."""

import pytest

from vad_helpers.errors import InputError
from vad_helpers.metrics import catalog


def test_directions_are_the_papers_and_rises():
    higher = ("iou", "deletion", "area_insertion", "area_matched_deletion")
    lower = ("insertion", "cv", "area_deletion", "area_matched_insertion", "leak")
    assert {catalog.direction(key) for key in higher} == {"higher"}
    assert {catalog.direction(key) for key in lower} == {"lower"}
    assert catalog.direction("mean_area") is None
    with pytest.raises(InputError, match="no metric 'accuracy'; expected one of iou"):
        catalog.direction("accuracy")
