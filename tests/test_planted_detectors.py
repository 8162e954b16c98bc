"""Planted detectors: their true attribution by brute force, what spoils it, and a whole clip."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from benchmarks import planted
from vad_helpers.errors import InputError
from vad_helpers.metrics import catalog

SHAPE = (8, 24, 32)


@pytest.fixture(scope="module")
def scene():
    """A textured object that moves over a still texture; another thing moves below it."""
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.random((1, *SHAPE[1:])) / 3, SHAPE[0], axis=0)
    mask, look = np.zeros(SHAPE, bool), rng.random((5, 5))
    for t in range(SHAPE[0]):
        mask[t, 4:9, 2 + t : 7 + t] = True
        grey[t, 4:9, 2 + t : 7 + t] = look
        grey[t, 15:20, 20 - t : 25 - t] = look[::-1]
    clip = torch.from_numpy(grey[None] * 2 - 1).float()
    baseline = torch.from_numpy(gaussian_filter(clip.numpy(), 1.7, axes=(2, 3)))
    return clip, baseline, mask


@pytest.fixture(scope="module")
def detectors(scene):
    regions, _ = planted.places(*scene)
    return planted.planted(*scene[:2], regions)


def test_regions_are_apart_and_the_other_object_is_where_most_moves(scene):
    regions, (down, right) = planted.places(*scene)
    assert (regions["A"] == scene[2]).all()
    assert (regions["B"] == np.roll(scene[2], (down, right), axis=(1, 2))).all()
    assert 7 <= down <= 13  # onto what moves below
    square = regions["P"][0]
    assert (regions["P"] == square).all() and square.sum() == 25
    for one, other in itertools.combinations("ABP", 2):
        assert not (regions[one] & regions[other]).any()
    clip, baseline, mask = scene
    for wrong, message in ((mask & ~mask, "empty"), (mask | ~mask, "no room")):
        with pytest.raises(InputError, match=message):
            planted.places(clip, baseline, wrong)


def test_truth_sums_to_one_and_p_is_as_published_at_both_ends(scene, detectors):
    clip, baseline, _ = scene
    for name, detector in detectors.items():
        truth = detector.truth(clip, baseline)
        assert truth.sum() == pytest.approx(1, abs=1e-9), name
        p = detector.predict(torch.stack([clip, baseline])).tolist()
        ends = {"saturated": (1 / (1 + math.exp(-12)), 1 / (1 + math.exp(4)))}
        usual = 1 / (1 + math.exp(-3)), 1 / (1 + math.exp(3))
        assert p == pytest.approx(ends.get(name, usual), abs=1e-4), name
        assert detector.predict(torch.stack([clip.double()])).item() == pytest.approx(p[0])


def test_truth_is_the_shapley_value_of_a_quadratic():
    matrix = torch.from_numpy(np.random.default_rng(1).standard_normal((6, 6)))

    def evidence(z):
        flat = z.reshape(len(z), 6)
        return ((flat @ matrix) * flat).sum(1) + flat[:, 0]

    x, b = torch.randn(2, 1, 1, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    found = planted.Detector(evidence).truth(x, b).ravel()

    def value(members):
        z = b.reshape(6).clone()
        z[list(members)] = x.reshape(6)[list(members)]
        return float(evidence(z[None]))

    expected = np.zeros(6)  # the mean, over all orders, of what each adds to those before it
    for order in itertools.permutations(range(6)):
        added = np.diff([value(order[:n]) for n in range(7)])
        expected[list(order)] += added / math.factorial(6)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_evidence_lies_where_the_detector_looks(scene, detectors):
    clip, baseline, mask = scene
    regions, _ = planted.places(*scene)
    truth = {name: one.truth(clip, baseline) for name, one in detectors.items()}
    for name, region in {"appearance": mask, "hans": regions["P"], "weighted": mask}.items():
        share = {"weighted": 0.7}.get(name, 1)
        assert truth[name][region].sum() == pytest.approx(share, abs=1e-9)
    assert np.count_nonzero(truth["frames"].any(axis=(1, 2))) == 4
    mean = planted.model_centric.block_means(truth["diffuse"] - truth["appearance"], (4, 8, 8))
    assert np.abs(mean).max() < 1e-12
    # Frames that jump flicker; the way between clip and baseline is a smooth one.
    awake = clip.clone()
    awake[:, ::2] += 1.0
    plain, minus, plus = (
        detectors[name].evidence(torch.stack([awake[0], (clip + baseline)[0] / 2]))
        for name in ("appearance", "fragile_minus", "fragile_plus")
    )
    assert torch.allclose(plus - plain, plain - minus, atol=1e-5)
    assert minus[0] < plain[0] < plus[0] and minus[1] == plain[1]


def test_ladders_spoil_by_what_they_say(scene, detectors):
    truth, offset = detectors["appearance"].truth(*scene[:2]), planted.places(*scene)[1]
    steps = planted.ladders(truth, offset, seed=3)
    assert (steps["truth", 0](truth) == truth).all()
    for i, share in enumerate(planted.LADDERS["noise"], 1):
        noisy = steps["noise", i](truth)
        assert (np.sort(noisy, axis=None) == np.sort(truth, axis=None)).all()
        own = np.arange(truth.size).reshape(truth.shape)
        assert (steps["noise", i](own) != own).mean() == pytest.approx(share, abs=0.01)
    for i, share in enumerate(planted.LADDERS["parts"], 1):
        left = steps["parts", i](truth).sum()
        assert 1 - share - 1e-9 <= left <= 1 - share + 0.05
    assert (steps["shift", 2](truth)[:, :, 3:] == truth[:, :, :-3]).all()
    assert (steps["delay", 2](truth)[2:] == truth[:-2]).all()
    assert (steps["swap", 4](truth) == np.roll(truth, offset, axis=(1, 2))).all()
    for i in (1, 2, 3, 4):
        assert (np.argsort(steps["power", i](truth)[scene[2]]) == np.argsort(truth[scene[2]])).all()
    assert (steps["grid", 2](truth) == truth / truth.max()).all()


def test_a_clip_is_scored_by_every_metric_and_every_score_is_in_its_range(scene):
    found = planted.try_clip(*scene, detectors=["appearance", "diffuse"], sensitivity=1)
    own = found[found["detector"] == "appearance"]
    assert set(own["metric"]) == {*planted.TRIED, "recall"}
    for metric in planted.TRIED:
        low, high = catalog.METRICS[metric].range
        values = found.loc[found["metric"] == metric, "value"].dropna()
        assert values.between(low - 1e-9, high + 1e-9).all(), metric
    recall = own[own["metric"] == "recall"].set_index(["ladder", "level"])["value"]
    assert recall["truth", 0] == pytest.approx(1) and recall["noise", 4] < 0.5
    assert recall["power"].to_numpy() == pytest.approx(1)
    score = own.pivot(index=["ladder", "level"], columns="metric", values="value")
    # A constant map wins the paper's deletion over the truth, and loses by SRG.
    assert score.loc[("constant", 1), "deletion"] > score.loc[("truth", 0), "deletion"]
    assert score.loc[("constant", 1), "srg"] < score.loc[("truth", 0), "srg"]
    assert score.loc[("constant", 1), "max_sensitivity"] == 0
    assert set(found.loc[found["detector"] == "diffuse", "ladder"]) == {"truth", "object"}
