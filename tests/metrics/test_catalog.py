"""The catalog describes exactly what the metric modules return."""

import numpy as np
import pytest

from vad_helpers.errors import InputError
from vad_helpers.metrics import catalog, human_centric, model_centric, robustness


def test_scores_have_an_entry_and_lie_in_their_range():
    rng = np.random.default_rng(0)
    values, mask = rng.standard_normal((4, 6, 7)), np.zeros((4, 6, 7), dtype=bool)
    mask[:, 2:4, 2:5] = True
    clip = rng.random((3, 4, 6, 7))

    def predict(batch):
        return batch.mean(axis=(1, 2, 3, 4))

    scores = {
        **human_centric.localization(values, mask),
        **robustness.temporal(values, mask),
        **model_centric.deletion_insertion(predict, clip, 0 * clip, values),
        **model_centric.area_curves(predict, clip, 0 * clip, values, n_steps=5),
    }
    scalars = {key: value for key, value in scores.items() if np.ndim(value) == 0}
    assert set(scalars) <= set(catalog.METRICS)
    for key, value in scalars.items():
        low, high = catalog.METRICS[key].range
        assert low <= value <= high


def test_directions_are_the_papers_and_rises():
    higher = ("iou", "deletion", "area_insertion", "area_matched_deletion")
    lower = ("insertion", "cv", "area_deletion", "area_matched_insertion", "leak")
    assert {catalog.direction(key) for key in higher} == {"higher"}
    assert {catalog.direction(key) for key in lower} == {"lower"}
    assert catalog.direction("mean_area") is None
    with pytest.raises(InputError, match="no metric 'accuracy'; expected one of iou"):
        catalog.direction("accuracy")
