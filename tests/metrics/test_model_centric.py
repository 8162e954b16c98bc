"""Deletion and insertion by hand, against the protocol spelled out, and what they reward."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vad_helpers.metrics import model_centric as mc

SHAPE = (2, 5, 6)
WEIGHTS = torch.tensor([0.4, 0.3, 0.2, 0.1])


def linear(batch):
    """p = .4 v0 + .3 v1 + .2 v2 + .1 v3 of the first channel."""
    return (batch[:, 0, 0, 0] * WEIGHTS).sum(dim=1)


@pytest.fixture
def tiny():
    """A clip of four voxels, all ones, over a baseline of zeros: p(x) = 1, p(x_b) = 0."""
    clip = torch.ones(3, 1, 1, 4)
    return clip, torch.zeros_like(clip), np.float32([[[1.0, 0.5, 0.25, -1.0]]])


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(3)
    clip, baseline = torch.randn(2, 3, *SHAPE, generator=generator).double()
    weights = 0.1 * torch.randn(3, *SHAPE, generator=generator).double()

    def predict(batch):
        return torch.sigmoid((batch * weights).sum(dim=(1, 2, 3, 4)))

    values = torch.randn(*SHAPE, generator=generator).double().numpy()
    return predict, clip, baseline, values


class Recorder:
    """Counts and keeps what a model is asked."""

    def __init__(self, predict):
        self.predict, self.batches = predict, []

    def __call__(self, batch):
        self.batches.append(batch)
        return self.predict(batch)


def by_the_book(predict, clip, baseline, values, n=50):
    """The protocol, set by set, one clip at a time."""
    positive = np.maximum(values, 0)
    p = float(predict(clip[None])[0])
    deletion, insertion, areas = [], [], []
    for i in range(n, -1, -1):
        inside = torch.tensor((positive > 0) & (positive >= i / n * positive.max()))
        without, alone = clip.clone(), baseline.clone()
        without[:, inside], alone[:, inside] = baseline[:, inside], clip[:, inside]
        deletion.append(p - float(predict(without[None])[0]))
        insertion.append(p - float(predict(alone[None])[0]))
        areas.append(float(inside.double().mean()))
    return deletion, insertion, areas


def test_scores_by_hand(tiny):
    # S_i is {v0} for i = 50..26, {v0, v1} for 25..13, {v0, v1, v2} for 12..0 (.25 is 12.5 / 50).
    found = mc.deletion_insertion(linear, *tiny)
    assert found["deletion"] == pytest.approx((25 * 0.4 + 13 * 0.7 + 13 * 0.9) / 51, abs=1e-6)
    assert found["insertion"] == pytest.approx((25 * 0.6 + 13 * 0.3 + 13 * 0.1) / 51, abs=1e-6)
    assert found["mean_area"] == pytest.approx((25 + 13 * 2 + 13 * 3) / 4 / 51, abs=1e-12)
    assert (found["p_clip"], found["p_baseline"]) == pytest.approx((1, 0))
    assert found["model_calls"] == 2 + 2 * 3


def test_curves_run_from_the_highest_threshold_down(tiny):
    found = mc.deletion_insertion(linear, *tiny, n_thresholds=4)
    # Levels 4, 2, 1: i = 4, 3 hold v0; i = 2 v1 too; i = 1, 0 v2 too.
    assert found["areas"].tolist() == [0.25, 0.25, 0.5, 0.75, 0.75]
    assert found["deletion_curve"] == pytest.approx([0.4, 0.4, 0.7, 0.9, 0.9])
    assert found["insertion_curve"] == pytest.approx([0.6, 0.6, 0.3, 0.1, 0.1])


@pytest.mark.parametrize("n_thresholds", [1, 7, 50])
def test_scores_are_those_of_the_protocol(scene, n_thresholds):
    deletion, insertion, areas = by_the_book(*scene, n_thresholds)
    found = mc.deletion_insertion(*scene, n_thresholds=n_thresholds)
    assert found["deletion_curve"] == pytest.approx(deletion, abs=1e-12)
    assert found["insertion_curve"] == pytest.approx(insertion, abs=1e-12)
    assert found["areas"] == pytest.approx(areas, abs=1e-12)
    assert found["deletion"] == pytest.approx(np.mean(deletion), abs=1e-12)
    assert found["insertion"] == pytest.approx(np.mean(insertion), abs=1e-12)
    assert found["mean_area"] == pytest.approx(np.mean(areas), abs=1e-12)


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_batch_size_changes_no_score_and_is_respected(scene, batch_size):
    predict, *rest = scene
    recorder = Recorder(predict)
    found = mc.deletion_insertion(recorder, *rest, batch_size=batch_size)
    usual = mc.deletion_insertion(predict, *rest)
    assert found["deletion_curve"] == pytest.approx(usual["deletion_curve"], abs=1e-12)
    sizes = [len(batch) for batch in recorder.batches]
    assert max(sizes) <= batch_size
    assert sum(sizes) == found["model_calls"] == usual["model_calls"]


def test_each_different_set_is_asked_about_once(scene):
    predict, clip, baseline, values = scene
    recorder = Recorder(predict)
    levels = np.round(2 * values) / 2  # few values, so most thresholds give the same set
    found = mc.deletion_insertion(recorder, clip, baseline, levels)
    asked = torch.cat(recorder.batches)
    assert len(torch.unique(asked, dim=0)) == len(asked) == found["model_calls"]
    assert found["deletion_curve"] == pytest.approx(by_the_book(*scene[:3], levels)[0], abs=1e-12)


@pytest.mark.parametrize("fill", [0.0, -3.0])
def test_an_all_zero_map_wins_nothing(tiny, fill):
    found = mc.deletion_insertion(linear, *tiny[:2], np.full((1, 1, 4), fill))
    assert (found["deletion"], found["insertion"]) == pytest.approx((0, 1))
    assert (found["mean_area"], found["model_calls"]) == (0, 2)


def test_a_constant_map_is_unbeatable_which_is_why_it_is_a_row_of_its_own(scene):
    predict, clip, baseline, values = scene
    found = mc.deletion_insertion(predict, clip, baseline, np.ones(SHAPE))
    assert found["deletion"] == pytest.approx(found["p_clip"] - found["p_baseline"], abs=1e-12)
    assert (found["insertion"], found["mean_area"], found["model_calls"]) == (0, 1, 2)


def test_threshold_scores_reward_flat_noise_over_the_true_map_and_equal_area_does_not():
    n = 200
    true = np.zeros((1, 1, n), dtype=np.float32)
    true[..., :20] = np.linspace(1, 0.05, 20)
    weights = torch.tensor(true / true.sum())

    def predict(batch):
        return (batch[:, 0] * weights).sum(dim=(1, 2, 3))

    pair = torch.ones(1, 1, 1, n), torch.zeros(1, 1, 1, n)
    noise = np.random.default_rng(0).random((1, 1, n)).astype(np.float32)
    scores = {
        name: {
            **mc.area_matched(predict, *pair, values),
            **mc.deletion_insertion(predict, *pair, values),
        }
        for name, values in {"true": true, "flat": 0.9 + 0.1 * noise}.items()
    }
    assert scores["flat"]["deletion"] > scores["true"]["deletion"]
    assert scores["flat"]["insertion"] < scores["true"]["insertion"]
    for key, sign in (("area_matched_deletion", 1), ("area_matched_insertion", -1)):
        assert sign * (scores["true"][key] - scores["flat"][key]) > 0.2


def test_a_drop_below_the_baseline_keeps_its_sign(tiny):
    clip, baseline, values = tiny
    found = mc.deletion_insertion(lambda batch: 1 - linear(batch), clip, baseline, values)
    assert found["deletion"] < 0
    assert found["insertion"] < 0


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(-40, 40))
def test_positive_scale_changes_nothing(seed, exponent):
    values = np.random.default_rng(seed).standard_normal((1, 1, 4)).astype(np.float32)
    pair = torch.ones(1, 1, 1, 4), torch.zeros(1, 1, 1, 4)
    plain = mc.deletion_insertion(linear, *pair, values)
    scaled = mc.deletion_insertion(linear, *pair, values * np.float32(2.0) ** exponent)
    assert (plain["deletion"], plain["insertion"]) == (scaled["deletion"], scaled["insertion"])


def test_all_channels_of_a_voxel_are_replaced_together(tiny):
    recorder = Recorder(linear)
    mc.deletion_insertion(recorder, *tiny)
    asked = torch.cat(recorder.batches)
    assert (asked == asked[:, :1]).all()


def test_the_model_gets_what_the_clip_is(tiny):
    for convert, kind in ((lambda a: a, torch.Tensor), (lambda a: a.numpy(), np.ndarray)):
        recorder = Recorder(lambda batch: linear(torch.as_tensor(batch)))
        mc.deletion_insertion(recorder, convert(tiny[0]), convert(tiny[1]), tiny[2])
        assert all(isinstance(batch, kind) for batch in recorder.batches)


def test_the_model_is_asked_without_gradients(tiny):
    weights = WEIGHTS.clone().requires_grad_()
    tracked = []

    def predict(batch):
        p = (batch[:, 0, 0, 0] * weights).sum(dim=1)
        tracked.append(p.requires_grad)
        return p

    mc.deletion_insertion(predict, tiny[0].requires_grad_(), *tiny[1:])
    assert tracked
    assert not any(tracked)


def test_integer_clips_mix_with_a_baseline_between_their_values():
    clip, baseline = np.full((1, 1, 1, 4), 2, dtype=np.uint8), np.full((1, 1, 1, 4), 0.5)
    found = mc.deletion_insertion(
        lambda x: x.mean(axis=(1, 2, 3, 4)), clip, baseline, np.ones((1, 1, 4))
    )
    assert (found["p_clip"], found["p_baseline"]) == (2.0, 0.5)


@pytest.mark.parametrize(
    "score", [mc.deletion_insertion, mc.area_curves, mc.area_matched, mc.both_axes]
)
def test_progress_is_shown_on_request_only(tiny, score, capsys):
    score(linear, *tiny)
    assert capsys.readouterr().err == ""
    score(linear, *tiny, progress=True)
    assert "masked clips" in capsys.readouterr().err


@pytest.mark.parametrize(
    "score", [mc.deletion_insertion, mc.area_curves, mc.area_matched, mc.both_axes]
)
def test_input_that_does_not_fit_is_refused(tiny, score):
    clip, baseline, values = tiny
    with pytest.raises(ValueError, match=r"clip has shape \(3, 1, 1, 4\); expected \(C, T, H, W\)"):
        score(linear, clip, baseline, np.ones((1, 1, 5)))
    with pytest.raises(ValueError, match="clip has shape"):
        score(linear, clip[0], baseline, values)
    with pytest.raises(ValueError, match="baseline has shape"):
        score(linear, clip, baseline[:1], values)
    with pytest.raises(ValueError, match="NaN"):
        score(linear, clip, baseline, np.full((1, 1, 4), np.nan))
    with pytest.raises(ValueError, match="batch_size"):
        score(linear, *tiny, batch_size=0)


@pytest.mark.parametrize(
    "predict",
    [
        lambda batch: linear(batch)[:, None],
        lambda batch: linear(batch) * torch.nan,
        lambda batch: linear(batch).mean(),
    ],
)
def test_a_model_that_does_not_give_one_finite_number_a_clip_is_refused(tiny, predict):
    with pytest.raises(ValueError, match="predict gave shape"):
        mc.deletion_insertion(predict, *tiny)


def test_area_curves_by_hand(tiny):
    found = mc.area_curves(linear, *tiny, n_steps=4, areas=(0.25, 0.5))
    assert found["deletion_curve"] == pytest.approx([1, 0.6, 0.3, 0.1, 0], abs=1e-6)
    assert found["insertion_curve"] == pytest.approx([0, 0.4, 0.7, 0.9, 1], abs=1e-6)
    assert found["area_axis"].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found["area_deletion"] == pytest.approx(0.375, abs=1e-6)
    assert found["area_insertion"] == pytest.approx(0.625, abs=1e-6)
    assert found["area_matched_deletion"] == pytest.approx((0.4 + 0.7) / 2, abs=1e-6)
    assert found["area_matched_insertion"] == pytest.approx((0.6 + 0.3) / 2, abs=1e-6)
    assert found["model_calls"] == 2 + 2 * 3


def test_area_matched_is_the_same_alone(scene):
    together = mc.area_curves(*scene, n_steps=6, areas=(0.05, 0.3))
    alone = mc.area_matched(*scene, areas=(0.05, 0.3))
    assert set(alone) < set(together)
    for key in set(alone) - {"model_calls"}:
        assert alone[key] == pytest.approx(together[key], abs=1e-12)
    assert alone["matched_areas"] == pytest.approx([0.05, 0.3])
    assert alone["model_calls"] == 2 + 2 * 2


def test_area_scores_see_ranks_alone(scene):
    predict, clip, baseline, values = scene
    plain = mc.area_curves(predict, clip, baseline, values, n_steps=10)
    cubed = mc.area_curves(predict, clip, baseline, values**3, n_steps=10)
    np.testing.assert_array_equal(plain["deletion_curve"], cubed["deletion_curve"])
    thresholds = [mc.deletion_insertion(predict, clip, baseline, v) for v in (values, values**3)]
    assert thresholds[0]["mean_area"] != thresholds[1]["mean_area"]


def test_more_steps_than_voxels_ask_about_each_set_once(tiny):
    found = mc.area_curves(linear, *tiny, n_steps=100, areas=(0.001,))
    assert found["model_calls"] == 2 + 2 * 3
    assert found["matched_areas"].tolist() == [0.25]  # at least one voxel


def test_ranks_follow_the_map_and_break_ties_at_random():
    values = np.array([[0.0, 5.0, 1.0, 1.0, 0.0, 0.0]])
    ranks = mc.importance_rank(values, seed=0)
    assert ranks[0, 1] == 0
    assert set(ranks[0, 2:4]) == {1, 2}
    assert set(ranks[0, [0, 4, 5]]) == {3, 4, 5}
    np.testing.assert_array_equal(ranks, mc.importance_rank(values, seed=0))
    orders = {tuple(mc.importance_rank(np.zeros(6), seed=seed)) for seed in range(20)}
    assert len(orders) > 10


@pytest.mark.parametrize(
    ("score", "key"),
    [(mc.area_curves, "area_deletion"), (mc.area_matched, "area_matched_deletion")],
)
def test_the_seed_decides_among_ties(scene, score, key):
    predict, clip, baseline, _ = scene
    found = [score(predict, clip, baseline, np.ones(SHAPE), seed=s)[key] for s in (0, 0, 1)]
    assert found[0] == found[1] != found[2]


def test_ties_favour_no_frame():
    ranks = mc.importance_rank(np.zeros((4, 30, 30)), seed=1)
    assert ranks.mean(axis=(1, 2)) == pytest.approx(np.full(4, 1799.5), rel=0.05)


@pytest.mark.parametrize("areas", [(), (0.0,), (0.5, 1.5), (np.nan,), 0.5])
@pytest.mark.parametrize("score", [mc.area_curves, mc.area_matched, mc.both_axes])
def test_areas_must_be_shares(tiny, score, areas):
    with pytest.raises(ValueError, match=r"areas are .*\(0, 1\]"):
        score(linear, *tiny, areas=areas)


def test_a_curve_needs_a_step(tiny):
    with pytest.raises(ValueError, match="n_steps"):
        mc.area_curves(linear, *tiny, n_steps=0)


# --- both axes in one pass ---------------------------------------------------------------------

RANDOM = np.random.default_rng(12).standard_normal(SHAPE)
MAPS = {
    "random": RANDOM,
    "float32": RANDOM.astype(np.float32),
    "positive": np.abs(RANDOM),
    "ties": np.round(2 * RANDOM) / 2,
    "superpixels": np.repeat(RANDOM[:, :, :2], 3, axis=2),
    "two levels": (RANDOM > 0.3).astype(np.float64),
    "one voxel": np.where(RANDOM == RANDOM.max(), 1.0, 0.0),
    "heavy tail": np.exp(6 * RANDOM),
    "zero": np.zeros(SHAPE),
    "negative": -np.abs(RANDOM),
    "constant": np.full(SHAPE, 0.3),
}
OPTIONS = {"n_steps": 7, "areas": (0.05, 0.3, 1.0), "seed": 4}


def assert_same_scores(found, expected):
    assert set(found) == set(expected) - {"p_clip", "p_baseline", "model_calls"}
    for key, value in found.items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("n_thresholds", [1, 6, 50])
@pytest.mark.parametrize("name", MAPS)
def test_both_axes_give_what_each_gives_alone(scene, name, n_thresholds):
    subject = *scene[:3], MAPS[name]
    found = mc.both_axes(*subject, n_thresholds=n_thresholds, **OPTIONS)
    threshold = mc.deletion_insertion(*subject, n_thresholds=n_thresholds)
    area = mc.area_curves(*subject, **OPTIONS)
    assert set(found) == {"threshold", "area", "shared"}
    assert_same_scores(found["threshold"], threshold)
    assert_same_scores(found["area"], area)
    for key in ("p_clip", "p_baseline"):
        assert found["shared"][key] == pytest.approx(threshold[key], abs=1e-12)
    assert set(found["shared"]) == {"p_clip", "p_baseline", "model_calls"}


@pytest.mark.parametrize("name", MAPS)
def test_both_axes_ask_about_no_set_twice(scene, name):
    predict, clip, baseline, _ = scene
    subject = clip, baseline, MAPS[name]
    recorder, alone = Recorder(predict), Recorder(predict)
    found = mc.both_axes(recorder, *subject, n_thresholds=6, **OPTIONS)
    asked = [one.numpy().tobytes() for one in torch.cat(recorder.batches)]
    assert len(set(asked)) == len(asked) == found["shared"]["model_calls"]
    mc.deletion_insertion(alone, *subject, n_thresholds=6)
    mc.area_curves(alone, *subject, **OPTIONS)
    # With nothing asked that neither axis needs.
    separately = [one.numpy().tobytes() for one in torch.cat(alone.batches)]
    if name in ("random", "float32", "positive", "heavy tail"):  # no ties: one order
        assert set(asked) == set(separately)
    assert len(asked) <= len(set(separately)) <= len(separately) - 2


def test_both_axes_share_the_sets_of_the_same_size(tiny):
    # Thresholds hold 1, 2 and 3 of 4 voxels, the area's steps 1, 2 and 3, its shares 1 and 2.
    recorder = Recorder(linear)
    found = mc.both_axes(recorder, *tiny, n_steps=4, areas=(0.25, 0.5))
    assert found["shared"]["model_calls"] == sum(map(len, recorder.batches)) == 2 + 2 * 3
    assert found["threshold"]["mean_area"] == pytest.approx((25 + 13 * 2 + 13 * 3) / 4 / 51)
    assert found["area"]["area_deletion"] == pytest.approx(0.375, abs=1e-6)


@pytest.mark.parametrize("name", ["zero", "negative"])
def test_on_both_axes_a_map_without_positive_values_wins_nothing_by_threshold(scene, name):
    found = mc.both_axes(*scene[:3], MAPS[name], **OPTIONS)
    gap = found["shared"]["p_clip"] - found["shared"]["p_baseline"]
    scores = found["threshold"]
    assert (scores["deletion"], scores["mean_area"]) == (0, 0)
    assert scores["insertion"] == pytest.approx(gap, abs=1e-12) and gap != 0
    assert found["area"]["matched_areas"].tolist() == [0.05, 0.3, 1.0]


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_on_both_axes_the_batch_size_is_respected(scene, batch_size):
    predict, *rest = scene
    recorder = Recorder(predict)
    found = mc.both_axes(recorder, *rest, batch_size=batch_size, **OPTIONS)
    sizes = [len(batch) for batch in recorder.batches]
    assert max(sizes) <= batch_size and sum(sizes) == found["shared"]["model_calls"]
    usual = mc.both_axes(*scene, **OPTIONS)
    assert_same_scores(found["threshold"], {**usual["threshold"], **usual["shared"]})


@settings(max_examples=40, deadline=None)
@given(
    values=st.lists(st.sampled_from([-1.0, 0.0, 0.1, 0.2, 0.5, 0.7, 1.0]), min_size=6, max_size=6),
    n_thresholds=st.integers(1, 12),
    n_steps=st.integers(1, 9),
    seed=st.integers(0, 3),
)
def test_both_axes_of_few_levels_give_what_each_gives_alone(values, n_thresholds, n_steps, seed):
    weights = torch.linspace(0.05, 0.3, 6, dtype=torch.float64)

    def predict(batch):
        return (batch[:, 0, 0, 0] * weights).sum(dim=1)

    pair = (torch.ones(1, 1, 1, 6).double(), torch.zeros(1, 1, 1, 6).double())
    subject = predict, *pair, np.float32(values).reshape(1, 1, 6)
    options = {"n_steps": n_steps, "seed": seed}
    found = mc.both_axes(*subject, n_thresholds=n_thresholds, **options)
    assert_same_scores(
        found["threshold"], mc.deletion_insertion(*subject, n_thresholds=n_thresholds)
    )
    assert_same_scores(found["area"], mc.area_curves(*subject, **options))
    assert found["shared"]["model_calls"] <= 2 + 2 * 5


@pytest.mark.parametrize("option", ["n_thresholds", "n_steps", "batch_size"])
def test_both_axes_need_positive_counts(tiny, option):
    with pytest.raises(ValueError, match=option):
        mc.both_axes(linear, *tiny, **{option: 0})
