import itertools
import math

import numpy as np
import pytest
import sklearn.linear_model
import torch

from vad_helpers.attribution import explain
from vad_helpers.attribution.perturbation import kernel_shap, lime
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


def synergy(shown):
    a, b, c, d = shown.unbind(dim=1)
    return 0.1 + 0.1 * a + 0.3 * b * c + 0.2 * a * b * d - 0.1 * d


def shapley(value, n):
    """Shapley values by the formula, over all coalitions."""
    worth = {
        mask: float(value(torch.tensor([mask], dtype=torch.float64)))
        for mask in itertools.product((0.0, 1.0), repeat=n)
    }
    result = np.zeros(n)
    for mask, player in itertools.product(worth, range(n)):
        if mask[player]:
            continue
        size = int(sum(mask))
        weight = math.factorial(size) * math.factorial(n - size - 1) / math.factorial(n)
        joined = (*mask[:player], 1.0, *mask[player + 1 :])
        result[player] += weight * (worth[joined] - worth[mask])
    return result


@pytest.mark.parametrize("kernel_width", [1000.0, 3.0])
def test_lime_is_a_weighted_lasso_on_fair_coins(kernel_width, as_logits):
    game = Game(synergy, 4, as_logits)
    found, info = game.run(lime, seed=5, n_samples=25, alpha=1e-3, kernel_width=kernel_width)
    with seeded(5, CPU):
        coins = torch.cat([torch.bernoulli(torch.full((1, 4), 0.5)) for _ in range(25)]).double()
    # A removed segment changes 2 x 3 voxels in three channels by one.
    squared_distance = 18 * (1 - coins).sum(dim=1).numpy()
    lasso = sklearn.linear_model.Lasso(alpha=1e-3).fit(
        coins.numpy(),
        synergy(coins).numpy(),
        sample_weight=np.exp(-squared_distance / (2 * kernel_width**2)),
    )
    np.testing.assert_allclose(found, lasso.coef_, atol=1e-4)
    assert info == {"n_nonzero": np.count_nonzero(lasso.coef_)}
    torch.testing.assert_close(torch.cat(game.seen), coins)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_kernel_that_weighs_nothing_gives_an_all_zero_map_with_a_warning(make_clip, tiny_net):
    with pytest.warns(UserWarning, match="all-zero map.*widen the kernel"):
        found = explain(tiny_net, make_clip(), "lime", n_segments=4, kernel_width=1e-9)
    assert not found.any()


def test_two_samples_share_out_the_whole_difference(as_logits):
    game = Game(synergy, 4, as_logits)
    found, _ = game.run(kernel_shap, n_samples=2)
    ends = synergy(torch.cat(game.seen))
    assert found.sum() == pytest.approx(float(ends[0] - ends[1]), abs=1e-3)


def interacting(shown):
    """Effects of single segments and, larger, of two at a time."""
    n = shown.shape[1]
    pairs = torch.triu(torch.cos(torch.arange(n * n, dtype=shown.dtype)).reshape(n, n), 1)
    return 0.5 + 0.01 * shown.sum(dim=1) + 0.02 * ((shown @ pairs) * shown).sum(dim=1)


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
    expected = shapley(interacting, 8)

    def error(paired):
        game = Game(interacting, 8, as_logits)
        options = {"n_samples": 42, "paired": paired}
        found = [game.run(kernel_shap, seed=seed, **options)[0] for seed in range(5)]
        return np.abs(np.array(found) - expected).mean()

    assert error(True) < 1e-6 < 0.1 * error(False)
