"""The catalog describes exactly what the metric modules return."""

import numpy as np
import pytest

from vad_helpers.metrics import catalog, human_centric, model_centric, robustness


def test_keys_name_their_metrics():
    assert all(key == metric.key for key, metric in catalog.METRICS.items())


def test_directions_and_ranges_are_well_formed():
    for metric in catalog.METRICS.values():
        assert metric.direction in ("higher", "lower", None)
        assert metric.range[0] < metric.range[1]
        assert set(metric.levels) <= {"clip", "frame"}
        assert metric.sensitive_to


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


@pytest.mark.parametrize(
    ("key", "expected"),
    [("iou", "higher"), ("deletion", "higher"), ("insertion", "lower"), ("cv", "lower"),
     ("area_deletion", "lower"), ("area_insertion", "higher"), ("mean_area", None)],
)  # fmt: skip
def test_directions_are_the_papers_and_rises(key, expected):
    assert catalog.direction(key) == expected


def test_an_unknown_metric_is_an_error_that_lists_the_known():
    with pytest.raises(ValueError, match="no metric 'accuracy'; expected one of iou"):
        catalog.direction("accuracy")
