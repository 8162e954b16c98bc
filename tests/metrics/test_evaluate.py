"""All scores of one map: a case by hand, and each level against the function that it stands for."""

import numpy as np
import pytest
import torch

from vad_helpers.errors import InputError
from vad_helpers.metrics import catalog, evaluate, human_centric, model_centric, robustness

COUNTS = {"all_zero", "frame", "n_anomalous", "n_anomalous_moving", "n_moving", "n_tied"}


@pytest.fixture
def scene():
    """Two frames of 4 x 4, whose brightness is the probability; the anomaly is 2 x 2 in each."""
    rng = np.random.default_rng(3)
    mask = np.zeros((2, 4, 4), bool)
    mask[:, 1:3, 1:3] = True
    clip = torch.from_numpy(rng.random((3, 2, 4, 4), dtype=np.float32))
    return {
        "mask": mask,
        "changing": np.ones_like(mask),
        "moving": rng.random(mask.shape) < 0.7,
        "clip": clip,
        "baseline": torch.zeros_like(clip),
        "predict": lambda batch: batch.mean((1, 2, 3, 4)),
        "n_thresholds": 4,
        "n_steps": 4,
        "batch_size": 3,
        "seed": 5,
    }


def values_of(lines, table):
    """Scores by level and metric; each is in the catalog, and in its range."""
    for _, metric, value in lines[table]:
        if metric not in COUNTS:
            low, high = catalog.METRICS[metric].range
            assert np.isnan(value) or low <= value <= high
    return {(level, metric): value for level, metric, value in lines[table]}


def test_each_level_is_that_of_its_function(scene):
    values = np.random.default_rng(1).standard_normal((2, 4, 4)).astype(np.float32)
    steady = evaluate.over_time(values, scene["mask"])["robustness"]
    temporal = robustness.temporal(values, scene["mask"])
    assert steady == [("clip", metric, value) for metric, value in temporal.items()]
    scene["mask"][1] = False  # one frame without an anomaly
    mask, n = scene["mask"], {"n_thresholds": 4}
    batches, predict = [], scene["predict"]
    found = evaluate.evaluate(
        values, **scene | {"predict": lambda x: batches.append(x) or predict(x)}
    )
    people, signed = values_of(found, "human_centric"), human_centric.signed_aucs(values, mask)

    def at_peak(values, **rule):
        scores = human_centric.frame_localization(values, mask, **n, **rule)
        return {name: scores[name] for name in human_centric.KEYS}

    expected = {
        "clip": human_centric.localization(values, mask, **n),
        "frame": human_centric.frame_localization(values, mask, **n),
        "clip_abs": human_centric.localization(np.abs(values), mask, **n),
        "frame_abs": at_peak(np.abs(values)),
        "frame_any": at_peak(values, frames="masked"),
        "frame_first": at_peak(values, ties="first"),
        "clip_signed": {"auc": signed["clip"]},
        "frame_signed": {"auc": signed["frame"]},
    }
    for level, scores in expected.items():
        assert {m: people[level, m] for m in scores} == pytest.approx(scores, nan_ok=True)
    among = human_centric.motion_localization(values, mask, scene["moving"])
    assert people["moving", "leak"] == among["leak_moving"]
    assert people["moving", "auc"] == among["auc"]
    assert people["moving", "n_anomalous"] == among["n_anomalous_moving"]
    everywhere = human_centric.motion_localization(values, mask, scene["changing"])
    assert people["clip", "motion_auc"] == everywhere["auc"]
    inputs = (scene["predict"], scene["clip"], scene["baseline"], values)
    faithful = model_centric.deletion_insertion(*inputs, **n)
    faithful |= model_centric.area_matched(*inputs, seed=5)
    model = values_of(found, "model_centric")
    for name in ("deletion", "insertion", "mean_area", "p_clip", "area_matched_deletion"):
        assert model["clip", name] == pytest.approx(faithful[name], abs=1e-6)
    assert model["clip", "srg"] == pytest.approx(faithful["srg"], abs=1e-6)
    blocks = {"block": model_centric.BLOCK, "areas": model_centric.BLOCK_AREAS, "seed": 5}
    of_blocks = model_centric.area_matched(*inputs, **blocks)
    assert model["clip", "srg_blocks"] == of_blocks["srg"]
    both = model_centric.both_axes(*inputs, n_steps=4, seed=5, **n)["shared"]["model_calls"]
    assert model["clip", "model_calls"] == both + of_blocks["model_calls"] - 2
    assert len(torch.cat(batches)) == model["clip", "model_calls"]
    ends = faithful["p_clip"], faithful["p_baseline"]
    known = values_of(evaluate.evaluate(values, **scene, ends=ends), "model_centric")
    assert known["clip", "model_calls"] == model["clip", "model_calls"] - 2
    assert known == {**model, ("clip", "model_calls"): known["clip", "model_calls"]}
    assert people["clip", "pointing"] == human_centric.pointing(values, mask)
    assert people["clip", "gini"] == human_centric.sparseness(values)
    assert people["clip", "all_zero"] == 0 and people["clip", "leak"] == everywhere["leak"]
    inside = human_centric.concentration(values, mask)["share_in_mask"]
    assert people["clip", "share_in_mask"] == inside
    curves = dict(found["curves"])
    areas = model_centric.deletion_insertion(*inputs, **n)["areas"]
    assert len(curves) == 9
    assert curves["threshold_areas"] == " ".join(f"{area:.4g}" for area in areas)
    steady = evaluate.over_time(values, mask)
    assert steady["robustness"] == found["robustness"]
    assert (
        steady["frame_auc"] == found["frame_auc"] == [(0, robustness.frame_aucs(values, mask)[0])]
    )
    with pytest.raises(InputError, match="no metric 'accuracy'; expected one of iou"):
        catalog.direction("accuracy")
    with pytest.raises(InputError, match="shape"):
        evaluate.evaluate(values[:1], **scene)
