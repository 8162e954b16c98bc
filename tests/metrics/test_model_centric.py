"""Deletion and insertion by hand and against the protocol spelled out."""

import numpy as np
import pytest
import torch

from vad_helpers.errors import InputError
from vad_helpers.metrics import model_centric as mc

SHAPE = (2, 5, 6)
WEIGHTS = torch.tensor([0.4, 0.3, 0.2, 0.1])
EVERY_SCORE = pytest.mark.parametrize(
    "score", [mc.deletion_insertion, mc.area_curves, mc.area_matched, mc.both_axes]
)
RANDOM = np.random.default_rng(12).standard_normal(SHAPE)
MAPS = {
    "random": RANDOM,
    "float32": RANDOM.astype(np.float32),
    "ties": np.round(2 * RANDOM) / 2,
    "superpixels": np.repeat(RANDOM[:, :, :2], 3, axis=2),
    "one voxel": np.where(RANDOM == RANDOM.max(), 1.0, 0.0),
    "heavy tail": np.exp(6 * RANDOM),
    "zero": np.zeros(SHAPE),
    "negative": -np.abs(RANDOM),
    "constant": np.full(SHAPE, 0.3),
}


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
    clip, baseline = torch.randn(2, 3, *SHAPE).double()
    weights = 0.1 * torch.randn(3, *SHAPE).double()

    def predict(batch):
        return torch.sigmoid((batch * weights).sum(dim=(1, 2, 3, 4)))

    return predict, clip, baseline


class Recorder:
    """Keeps what a model is asked and says."""

    def __init__(self, predict):
        self.predict, self.batches, self.answers = predict, [], []

    def __call__(self, batch):
        self.batches.append(batch)
        self.answers.append(self.predict(torch.as_tensor(batch)))
        return self.answers[-1]


def by_the_book(predict, clip, baseline, sets):
    """p without each set and p of it alone, one clip at a time."""
    found = []
    for inside in map(torch.as_tensor, sets):
        without, alone = clip.clone(), baseline.clone()
        without[:, inside], alone[:, inside] = baseline[:, inside], clip[:, inside]
        found.append([float(predict(one[None])[0]) for one in (without, alone)])
    return np.array(found).T


def assert_close(found, expected):
    assert set(found) == set(expected)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=0, atol=1e-12, err_msg=key)


@pytest.mark.parametrize("n", [1, 6, 50])
@pytest.mark.parametrize("name", MAPS)
def test_scores_are_those_of_the_protocol_alone_and_together(scene, name, n):
    positive = np.maximum(MAPS[name].astype(np.float64), 0)
    p, p_baseline = by_the_book(*scene, [np.zeros(SHAPE, dtype=bool)])[:, 0]
    tau = [i / n * positive.max() for i in range(n, -1, -1)]
    sets = [(positive > 0) & (positive >= t) for t in tau]
    deletion, insertion = p - by_the_book(*scene, sets)
    threshold = {"deletion_curve": deletion, "insertion_curve": insertion}
    threshold |= {"deletion": deletion.mean(), "insertion": insertion.mean()}
    threshold |= {"areas": np.mean(sets, axis=(1, 2, 3)), "mean_area": np.mean(sets)}

    rank, sizes = mc.importance_rank(positive, seed=4), np.rint(np.linspace(0, 1, 8) * 60)
    deleted, inserted = by_the_book(*scene, [rank < size for size in sizes])
    area = {"deletion_curve": deleted, "insertion_curve": inserted, "area_axis": sizes / 60}
    area |= {"area_deletion": np.trapezoid(deleted, sizes / 60)}
    area |= {"area_insertion": np.trapezoid(inserted, sizes / 60)}
    deletion, insertion = p - by_the_book(*scene, [rank < size for size in (1, 18, 60)])
    matched = {"matched_deletion_curve": deletion, "matched_insertion_curve": insertion}
    matched |= {"area_matched_deletion": deletion.mean(), "matched_areas": (1 / 60, 0.3, 1.0)}
    matched |= {"area_matched_insertion": insertion.mean()}
    matched |= {"srg": deletion.mean() - insertion.mean()}

    options = {"areas": (0.001, 0.3, 1.0), "seed": 4}  # at least one voxel
    levels = {} if n == 50 else {"n_thresholds": n}  # the default
    found = mc.both_axes(*scene, MAPS[name], n_steps=7, **levels, **options)
    assert_close(found["threshold"], threshold)
    assert_close(found["area"], area | matched)
    shared, calls = {"p_clip": p, "p_baseline": p_baseline}, []
    for axes, alone in (
        (threshold, mc.deletion_insertion(*scene, MAPS[name], **levels)),
        (area | matched, mc.area_curves(*scene, MAPS[name], n_steps=7, **options)),
        (matched, mc.area_matched(*scene, MAPS[name], **options)),
    ):
        calls.append(alone.pop("model_calls"))
        assert_close(alone, axes | shared)
    # What both axes ask about is asked once: the clip and its baseline at the least.
    assert max(calls) <= found["shared"]["model_calls"] <= calls[0] + calls[1] - 2


@EVERY_SCORE
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_each_different_set_is_asked_about_once_and_none_whose_p_is_known(
    scene, score, batch_size, known, capsys
):
    options = {"batch_size": batch_size, "progress": batch_size == 3}
    for values in MAPS.values():
        recorder, usual = Recorder(scene[0]), score(*scene, values)
        about = usual.get("shared", usual)
        ends = (about["p_clip"], about["p_baseline"]) if known else None
        found = score(recorder, *scene[1:], values, ends=ends, **options)
        about["model_calls"] -= 2 * known
        assert all(len(batch) <= batch_size for batch in recorder.batches)
        asked = torch.cat([*recorder.batches, *(end[None] for end in scene[1:] if known)])
        assert len(torch.unique(asked, dim=0)) == len(asked) == about["model_calls"] + 2 * known
        pairs = zip(found.values(), usual.values(), strict=True)
        for own, expected in pairs if "shared" in found else [(found, usual)]:
            assert_close(own, expected)
    assert ("masked clips" in capsys.readouterr().err) == options["progress"]
    for ends in ((0.5,), (0.5, 1.5), (np.nan, 0)):
        with pytest.raises(InputError, match="probabilities in"):
            score(*scene, values, ends=ends)


def test_ranks_follow_the_map_and_ties_are_random_by_seed_and_favour_no_frame(scene):
    ranks = mc.importance_rank(np.array([[0.0, 5.0, 1.0, 1.0, 0.0, 0.0]]), seed=0)[0]
    assert ranks[1] == 0 and set(ranks[2:4]) == {1, 2} and set(ranks[[0, 4, 5]]) == {3, 4, 5}
    assert len({tuple(mc.importance_rank(np.zeros(6), seed=seed)) for seed in range(20)}) > 10
    ranks = mc.importance_rank(np.zeros((4, 30, 30)), seed=1)
    assert ranks.mean(axis=(1, 2)) == pytest.approx(np.full(4, 1799.5), rel=0.05)
    found = [mc.area_matched(*scene, MAPS["constant"], seed=seed) for seed in (0, 0, 1)]
    scores = [one["area_matched_deletion"] for one in found]
    assert scores[0] == scores[1] != scores[2]


@pytest.mark.parametrize("as_given", [torch.Tensor.requires_grad_, torch.Tensor.numpy])
def test_the_model_gets_what_the_clip_is_whole_voxels_and_no_gradients(tiny, as_given):
    weights = WEIGHTS.clone().requires_grad_()
    recorder = Recorder(lambda batch: (batch[:, 0, 0, 0] * weights).sum(dim=1))
    clip, baseline, values = as_given(tiny[0]), as_given(tiny[1].double()), tiny[2]
    mc.deletion_insertion(recorder, clip, baseline, values)
    for batch in recorder.batches:
        assert isinstance(batch, type(clip)) and batch.dtype == clip.dtype
        assert (batch == batch[:, :1]).all()
    assert not any(p.requires_grad for p in recorder.answers)


@EVERY_SCORE
def test_input_that_does_not_fit_is_refused(tiny, score):
    clip, baseline, values = tiny
    for message, subject in (
        ("clip has shape", (clip, baseline, np.ones((1, 1, 5)))),
        ("clip has shape", (clip[0], baseline, values)),
        ("baseline has shape", (clip, baseline[:1], values)),
        ("NaN", (clip, baseline, values * np.nan)),
    ):
        with pytest.raises(InputError, match=message):
            score(linear, *subject)


@pytest.mark.parametrize(
    ("option", "wrong"),
    [("n_thresholds", 0), ("n_steps", 0), ("batch_size", 0), ("n_thresholds", None)]
    + [("areas", areas) for areas in ((), (0.0,), (0.5, 1.5), (np.nan,), 0.5)]
    + [("block", block) for block in ((2, 2), (0, 2, 2), (1.5, 1, 1))],
)
def test_options_out_of_range_are_refused(tiny, option, wrong):
    of_both = mc.deletion_insertion.__kwdefaults__ | mc.area_curves.__kwdefaults__
    for score in (mc.deletion_insertion, mc.area_curves, mc.area_matched, mc.both_axes):
        if option in (score.__kwdefaults__ or of_both):
            with pytest.raises(InputError, match=option):
                score(linear, *tiny, **{option: wrong})


NO_PROBABILITIES = {
    "logits": lambda batch: 50 * linear(batch) - 3,
    "logits of one side": lambda batch: -linear(batch),
    "percent": lambda batch: (100 * linear(batch)).int(),
    "some NaN": lambda batch: linear(batch).where(linear(batch) > 0.5, torch.nan),
    "both classes": lambda batch: torch.stack([linear(batch)] * 2, 1),
    "their mean": lambda batch: linear(batch).mean(),
    "too few": lambda batch: linear(batch)[1:],
    "complex": lambda batch: linear(batch) + 0j,
    "words": lambda batch: ["anomalous"] * len(batch),
    "several tensors": lambda batch: (linear(batch), batch),
}


@EVERY_SCORE
@pytest.mark.parametrize("kind", NO_PROBABILITIES)
def test_what_is_no_probability_a_clip_is_refused_in_one_line(tiny, score, kind):
    with pytest.raises(InputError, match=r"^predict gave .*probabilities in \[0, 1\].*$"):
        score(NO_PROBABILITIES[kind], *tiny)


@EVERY_SCORE
def test_rounding_hard_labels_and_other_types_of_clips_and_probabilities_pass(tiny, score):
    half, brain = torch.Tensor.half, torch.Tensor.bfloat16
    for kind in (lambda p: p * (1 + 5e-4), brain, lambda p: half(p).tolist(), lambda p: p > 0.5):
        found = score(lambda batch, kind=kind: kind(linear(batch)), *tiny)
        assert found.get("shared", found)["p_clip"] == pytest.approx(1, abs=1e-3)
    found = score(lambda batch: batch[:, 0, 0, 0, 0], tiny[0].int(), tiny[1] + 0.25, tiny[2])
    assert found.get("shared", found)["p_baseline"] == 0.25  # between integers


def test_blocks_are_ranked_by_mean_signed_relevance_and_replaced_whole():
    """Frames of 3 x 5 in blocks of 2 x 2 x 2: those at the end are cut; by another route here."""
    rng, shape = np.random.default_rng(0), (3, 3, 5)
    values = rng.standard_normal(shape)
    clip, baseline = np.ones((1, *shape)), np.zeros((1, *shape))
    weights = rng.random(shape) / 60
    corners = [(t, y, x) for t in (0, 2) for y in (0, 2) for x in (0, 2, 4)]
    blocks = [tuple(slice(i, i + 2) for i in corner) for corner in corners]
    order = sorted(blocks, key=lambda b: -max(values[b].mean(), 0))[:4]  # as many are positive
    assert all(values[b].mean() > 0 for b in order)
    removed = [sum(weights[b].sum() for b in order[:n]) for n in (1, 4)]
    found = mc.area_matched(
        lambda batch: (batch[:, 0] * weights).sum(axis=(1, 2, 3)),
        *(clip, baseline, values),
        areas=(0.01, 4 / 12),
        block=(2, 2, 2),
    )
    assert found["matched_deletion_curve"] == pytest.approx(removed)
    assert found["matched_areas"] == pytest.approx([1 / 12, 4 / 12])
    assert found["model_calls"] == 2 + 2 * 2


def test_log_areas_reach_from_a_few_voxels_to_all_of_them():
    assert mc.LOG_AREAS[0] == pytest.approx(2e-4) and mc.LOG_AREAS[-1] == 1
    assert np.ptp(np.diff(np.log(mc.LOG_AREAS))) < 1e-9 and len(mc.LOG_AREAS) == 24
