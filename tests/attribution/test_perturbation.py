import math
import weakref

import numpy as np
import pytest
import scipy.ndimage
import sklearn.linear_model
import torch
from captum._utils.models.linear_model import SkLearnLasso
from captum.attr import KernelShap, Lime
from captum.attr._core.lime import get_exp_kernel_similarity_function

from vad_helpers.attribution import attribute, explain
from vad_helpers.attribution.perturbation import kernel_shap, lime, rise
from vad_helpers.attribution.probability import Probability, seeded

CPU = torch.device("cpu")


class Game:
    """p as a function of which segments show the clip (all ones) and which the baseline (zeros)."""

    def __init__(self, value, n_segments, as_logits):
        self.value = value
        self.n_segments = n_segments
        self.as_logits = as_logits
        self.segments = torch.arange(2 * 3 * n_segments).reshape(2, 3, n_segments) % n_segments
        self.seen = []

    def __call__(self, clips):
        shown = torch.stack(
            [clips[:, :, self.segments == one].mean(dim=(1, 2)) for one in range(self.n_segments)],
            dim=1,
        )
        self.seen.append(shown)
        return self.as_logits(self.value(shown))

    def run(self, method, seed=0, batch_size=4, **settings):
        """A value for every segment, and LIME's info."""
        clip = torch.ones(3, *self.segments.shape, dtype=torch.float64)
        probability = Probability(self, batch_size=batch_size)
        with seeded(seed, CPU):
            found = method(probability, clip, 0 * clip, segments=self.segments, **settings)
        found, info = found if isinstance(found, tuple) else (found, {})
        values = [found[self.segments == one] for one in range(self.n_segments)]
        assert all((one == one[0]).all() for one in values)
        return np.array([float(one[0]) for one in values]), info


def test_a_single_superpixel_is_enough_for_lime(as_logits):
    game = Game(lambda shown: 0.2 + 0.5 * shown[:, 0], 1, as_logits)
    found, _ = game.run(lime, n_samples=20, **LASSO)
    assert found == pytest.approx([0.5], abs=1e-3)


def test_a_relative_penalty_of_lime_does_not_zero_probabilities_that_hardly_move(as_logits):
    found = []
    for size in (1, 1e-3):
        game = Game(lambda shown, size=size: 0.2 + 0.5 * size * shown[:, 0], 1, as_logits)
        options = {"n_samples": 20, "alpha": 0.01, "kernel_width": 1000.0}
        found += [game.run(lime, relative=one, **options)[0] / size for one in (True, False)]
    assert found[2] == pytest.approx(found[0], rel=1e-2) and found[0] > 0.4 and found[3] == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_kernel_that_weighs_nothing_gives_an_all_zero_map_with_a_warning(make_clip, tiny_net):
    with pytest.warns(UserWarning, match="all-zero map.*widen the kernel"):
        found = explain(tiny_net, make_clip(), "lime", n_segments=4, kernel_width=1e-9)
    assert not found.any()


def effects_of_two(n):
    return 0.02 * torch.triu(torch.cos(torch.arange(n * n).double()).reshape(n, n), 1)


def interacting(shown):
    """Effects of single segments and, larger, of two at a time."""
    pairs = effects_of_two(shown.shape[1]).to(shown)
    return 0.5 + 0.01 * shown.sum(dim=1) + ((shown @ pairs) * shown).sum(dim=1)


@pytest.mark.parametrize("method", [lime, kernel_shap])
def test_in_pairs_every_sample_is_followed_by_its_complement(method, as_logits):
    game = Game(interacting, 6, as_logits)
    settings = {"alpha": 1e-6, "kernel_width": 1000.0} if method is lime else {}
    game.run(method, n_samples=22, paired=True, **settings)
    seen = torch.cat(game.seen)[:22]
    if method is kernel_shap:
        assert seen[0].all() and not seen[1].any()  # once each, without complements of their own
        seen = seen[2:]
    torch.testing.assert_close(seen[0::2] + seen[1::2], torch.ones_like(seen[0::2]))
    assert len({tuple(z.tolist()) for z in seen}) > 4


def test_in_pairs_interactions_of_two_cancel(as_logits):
    pairs = effects_of_two(8)  # either of two gets half of what they do together
    expected = 0.01 + (pairs.sum(dim=0) + pairs.sum(dim=1)).numpy() / 2

    def error(paired):
        game = Game(interacting, 8, as_logits)
        options = {"n_samples": 42, "paired": paired}
        found = [game.run(kernel_shap, seed=seed, **options)[0] for seed in range(5)]
        return np.abs(np.array(found) - expected).mean()

    assert error(True) < 1e-6 < 0.1 * error(False)


LASSO = {"alpha": 1e-4, "kernel_width": 10.0}
SETTINGS = {lime: LASSO, kernel_shap: {}, rise: {"grid": (1, 3, 3), "p_keep": 0.5}}
every_sampled = pytest.mark.parametrize("method", SETTINGS)


@pytest.mark.parametrize("options", [{}, {"paired": True}])
@pytest.mark.parametrize("n_samples", [2, 25])
@pytest.mark.parametrize("method", [lime, kernel_shap])
def test_captum_finds_the_same_for_the_same_matrix(method, n_samples, options, as_logits):
    game = Game(interacting, 9, as_logits)
    found, info = game.run(method, n_samples=n_samples, **SETTINGS[method], **options)
    matrix = torch.cat(game.seen)
    assert matrix.shape == (n_samples, 9) and set(matrix.unique().tolist()) <= {0, 1}

    def draw(original, **_):
        yield from matrix[:, None].long()

    model = lambda clips: game(clips).softmax(dim=1)[:, 1]  # noqa: E731
    if method is lime:
        kernel = get_exp_kernel_similarity_function("euclidean", LASSO["kernel_width"])
        explainer = Lime(model, SkLearnLasso(alpha=LASSO["alpha"], max_iter=20_000), kernel, draw)
    else:
        explainer = KernelShap(model)
        explainer.perturb_func = draw
    expected = explainer.attribute(
        torch.ones(1, 3, *game.segments.shape, dtype=torch.float64),
        baselines=0,
        feature_mask=game.segments[None, None],
        n_samples=n_samples,
        return_input_shape=False,
    )
    np.testing.assert_allclose(found, expected.ravel(), rtol=0, atol=1e-10 * expected.abs().max())
    assert info.get("n_nonzero") == (np.count_nonzero(expected) if method is lime else None)


def flat_box(clips):
    """Logits by the mean of a box."""
    score = clips[:, 0, :2, 2:6, 3:8].mean(dim=(1, 2, 3))
    return torch.stack([0 * score, 3 * score], dim=1)


@every_sampled
def test_no_more_clips_live_at_once_for_many_samples(method):
    clip = torch.ones(3, 4, 8, 10)
    segments = torch.arange(320).reshape(4, 8, 10) // 32
    options = SETTINGS[method] | ({} if method is rise else {"segments": segments})

    def most(n_samples):
        alive, counts = weakref.WeakSet(), []

        def model(clips):
            alive.add(clips)
            counts.append(sum(len(one) for one in alive))
            return flat_box(clips)

        method(Probability(model, batch_size=4), clip, 0 * clip, n_samples=n_samples, **options)
        return max(counts)

    assert most(25) == most(800) <= 8


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("method", [lime, kernel_shap])
def test_samples_double_until_the_maps_of_two_halves_agree(method, paired, as_logits):
    game, shared = Game(interacting, 20, as_logits), {**SETTINGS[method], "paired": paired}
    found, info = game.run(method, batch_size=50, n_samples=3000, agreement=0.9, **shared)
    ends, z = 2 * (method is kernel_shap), torch.cat(game.seen).numpy()
    numbers, correlations = zip(*info["agreements"], strict=True)
    assert numbers == tuple(50 * 2**k for k in range(len(numbers))) and len(numbers) > 1
    assert info["n_samples"] == numbers[-1] == len(z)  # none is asked for twice
    assert correlations[-1] >= 0.9 > max(correlations[:-1])
    y = interacting(torch.from_numpy(z)).numpy()
    for n, correlation in info["agreements"]:
        half = (n - ends) // 2 // (1 + paired) * (1 + paired)
        maps = []
        for start in (ends, ends + half):
            own = np.r_[:ends, start : start + half]
            if ends:
                weights = np.where(np.isin(z[own].sum(axis=1), (0, 20)), 1e6, 1)
                model = sklearn.linear_model.LinearRegression()
            else:
                weights = np.exp(-18 * (1 - z[own]).sum(axis=1) / (2 * LASSO["kernel_width"] ** 2))
                model = sklearn.linear_model.Lasso(alpha=LASSO["alpha"], max_iter=20_000)
            maps.append(model.fit(z[own], y[own], sample_weight=weights).coef_)
        assert correlation == pytest.approx(np.corrcoef(*maps)[0, 1], abs=2e-3)
    again = Game(interacting, 20, as_logits)
    same, about = again.run(method, batch_size=50, n_samples=len(z), **shared)
    np.testing.assert_array_equal(found, same)
    assert "n_samples" not in about


@pytest.mark.filterwarnings("ignore:.*all-zero map")
def test_halves_that_are_constant_or_too_small_do_not_agree(make_clip, tiny_net):
    shared = {"segments": np.arange(480).reshape(4, 10, 12) // 80, "agreement": 0.1}
    cases = ("lime", {"n_samples": 60, "alpha": 1e3}), ("kernel_shap", {"n_samples": 3})
    for method, options in cases:
        info = attribute(tiny_net, make_clip(), method, **options, **shared).info
        assert info["n_samples"] == options["n_samples"]
        assert np.isnan([r for _, r in info["agreements"]]).all()


def masks_of(n, grid, size, p_keep, paired):
    """RISE's masks of seed 7 one voxel at a time, by interpolation between centres of cells."""
    with seeded(7, CPU):
        coins = (torch.rand(n, *grid) < p_keep).double().numpy()
        cell = [math.ceil(a / b) for a, b in zip(size, grid, strict=True)]
        shifts = np.stack([torch.randint(c, (n,)).numpy() for c in cell], axis=1)
    masks = []
    for k in range(n):
        original = k - k % 2 if paired else k
        axes = zip(size, cell, grid, shifts[original], strict=True)
        places = [(np.arange(a) + shift + 0.5) / (c * (g + 1) / g) - 0.5 for a, c, g, shift in axes]
        at = np.meshgrid(*places, indexing="ij")
        mask = scipy.ndimage.map_coordinates(coins[original], at, order=1, mode="nearest")
        masks.append(1 - mask if k != original else mask)
    return np.stack(masks)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize(
    ("n", "p_keep", "paired"), [(7, 0.5, True), (2, 0.5, True), (6, 0.3, False)]
)
def test_rise_is_the_published_formula_less_the_mean(n, p_keep, paired, batch_size, make_clip):
    size, grid = (4, 10, 11), (2, 3, 4)
    clip, baseline = (make_clip(size, seed=seed, grey=False).double() for seed in (0, 1))
    probability = Probability(flat_box, batch_size=batch_size)
    options = {"n_samples": n, "grid": grid, "p_keep": p_keep, "paired": paired}
    with seeded(7, CPU):
        found, info = rise(probability, clip, baseline, **options)
    published, p = np.zeros(size), []
    for mask in masks_of(n, grid, size, p_keep, paired):
        shown = clip.numpy() * mask + baseline.numpy() * (1 - mask)
        p.append(float(flat_box(torch.from_numpy(shown)[None]).softmax(dim=1)[0, 1]))
        published += p[-1] * mask / (n * p_keep)
    np.testing.assert_allclose(found, published - np.mean(p), atol=1e-12)
    assert probability.calls == n and info == {}


def test_rise_in_pairs_says_nothing_where_nothing_changes(make_clip, tiny_net):
    clip = make_clip()
    options = {"baseline": clip, "n_samples": 40}
    assert np.abs(explain(tiny_net, clip, "rise", **options)).max() < 1e-6
    assert np.abs(explain(tiny_net, clip, "rise", paired=False, **options)).max() > 1e-2


def test_rise_doubles_its_masks_too(make_clip, planted):
    region = np.zeros((4, 10, 12))
    region[:, 2:6, 3:9] = 1
    options = {"n_samples": 1000, "grid": (1, 2, 2), "agreement": 0.95, "baseline": "black"}
    done = attribute(planted(region), make_clip(), "rise", **options)
    n, correlation = done.info["agreements"][-1]
    assert 50 < done.model_calls == done.info["n_samples"] == n < 1000 and correlation >= 0.95
    alone = explain(planted(region), make_clip(), "rise", **options | {"agreement": 0, "seed": 3})
    assert np.corrcoef(alone.ravel(), done.map.ravel())[0, 1] > 0.95
