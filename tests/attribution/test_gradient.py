import numpy as np
import pytest
import torch

from vad_helpers.attribution import explain
from vad_helpers.attribution.gradient import integrated_gradients, smooth_integrated_gradients
from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError
from vad_helpers.inference.chain import sequential


class Polynomial:
    """p = .2 + mean(a x^2) + mean(b x y), y the next column's voxel; its IG has a closed form."""

    def __init__(self, shape, as_logits):
        rng = np.random.default_rng(4)
        self.a, self.b = (torch.from_numpy(rng.uniform(0, 0.2, shape)) for _ in range(2))
        self.as_logits = as_logits

    def __call__(self, clips):
        squares = self.a * clips**2
        products = self.b * clips * clips.roll(-1, dims=-1)
        return self.as_logits(0.2 + (squares + products).flatten(1).mean(dim=1))

    def closed_form(self, x, x0):
        y, y0 = x.roll(-1, dims=-1), x0.roll(-1, dims=-1)
        shared = self.b * (x - x0) * (y + y0) / 2, self.b * (y - y0) * (x + x0) / 2
        per_voxel = self.a * (x**2 - x0**2) + shared[0] + shared[1].roll(1, dims=-1)
        return (per_voxel / x.numel()).sum(dim=0).numpy()


@pytest.mark.parametrize(("n_steps", "batch_size"), [(1, 4), (2, 1), (5, 3), (30, 64)])
def test_ig_of_a_polynomial_is_its_closed_form_and_complete(
    n_steps, batch_size, as_logits, make_clip
):
    polynomial = Polynomial((3, 4, 10, 12), as_logits)
    x, x0 = (make_clip(seed=seed, grey=False, dtype=torch.float64) for seed in (0, 1))
    found = explain(polynomial, x, "ig", baseline=x0, n_steps=n_steps, batch_size=batch_size)
    # The gradient is linear on the way, so Gauss-Legendre is exact from one step on.
    np.testing.assert_allclose(found, polynomial.closed_form(x, x0), rtol=1e-4, atol=1e-9)
    p, p0 = (float(Probability(polynomial)(clip[None])) for clip in (x, x0))
    assert found.sum() == pytest.approx(p - p0, rel=1e-5) and p != p0


class TwoLayers(torch.nn.Module):
    """Linear, ReLU, linear, ReLU, linear on a clip of twelve values."""

    def __init__(self, *, inplace=False):
        super().__init__()
        rng = np.random.default_rng(8)
        self.w = [torch.from_numpy(rng.normal(size=s)) for s in ((9, 12), (7, 9), (2, 7))]
        self.relus = torch.nn.ModuleList(torch.nn.ReLU(inplace=inplace) for _ in range(2))

    def forward(self, clips):
        hidden = clips.flatten(1)
        for weights, relu in zip(self.w, self.relus, strict=False):
            hidden = relu(hidden @ weights.T)
        return hidden @ self.w[2].T


def by_hand(weights, x, *, guided):
    w1, w2, w3 = (w.numpy() for w in weights)
    z1 = w1 @ x
    z2 = w2 @ np.maximum(z1, 0)
    logits = w3 @ np.maximum(z2, 0)
    p = np.exp(logits) / np.exp(logits).sum()
    back = w3.T @ (p[1] * (np.array([0.0, 1.0]) - p))
    for z, w in ((z2, w2), (z1, w1)):
        back = back * (z > 0)
        back = w.T @ (np.maximum(back, 0) if guided else back)
    return back.reshape(3, 1, 2, 2).sum(axis=0)


@pytest.mark.parametrize("inplace", [False, True])
def test_guided_backprop_equals_two_layers_by_hand(inplace, make_clip):
    model = TwoLayers(inplace=inplace)
    clip = make_clip((1, 2, 2), grey=False, dtype=torch.float64)
    found = explain(model, clip, "guided_backprop")
    x = clip.numpy().ravel()
    np.testing.assert_allclose(found, by_hand(model.w, x, guided=True), rtol=1e-5)
    assert not np.allclose(found, by_hand(model.w, x, guided=False), rtol=1e-2)


class Functional(torch.nn.Module):
    """Owns a ReLU module but uses the functional one."""

    def __init__(self):
        super().__init__()
        self.relu = torch.nn.ReLU()

    def forward(self, clips):
        return torch.nn.functional.relu(clips).sum(dim=(2, 3, 4))


def test_guided_backprop_refuses_functional_relus_and_functions(make_clip):
    module = Functional()
    for model in (module, lambda clips: module.relu(clips).sum(dim=(2, 3, 4))):
        with pytest.raises(InputError, match="found no torch.nn.ReLU in use"):
            explain(model, make_clip(), "guided_backprop")
    assert not module.relu._forward_hooks and not module.relu._forward_pre_hooks


@pytest.mark.parametrize("key", ["ig", "ig_smoothgrad", "gradient_shap"])
def test_a_model_that_cuts_the_gradient_is_refused(key, tiny_net, make_clip):
    with pytest.raises(InputError, match="no gradient with respect to the clip"):
        explain(lambda clips: tiny_net.eval()(clips).detach(), make_clip(), key)


WEIGHTS = torch.tensor([0.1, -0.3, 0.4]).view(3, 1, 1, 1)
N_VOXELS = 4 * 10 * 12


@pytest.fixture
def linear(as_logits):
    """A probability that is linear in the clip: its true attributions are known."""
    return Probability(
        lambda clips: as_logits(0.5 + (WEIGHTS * clips).mean(dim=(2, 3, 4)).sum(dim=1))
    )


def smooth(probability, x, x0, **options):
    torch.manual_seed(3)
    options |= {"n_steps": 2, "n_samples": 2, "sigma": 0.5}
    return smooth_integrated_gradients(probability, x, x0, **options)


@pytest.mark.parametrize(("noise", "channels"), [("channels", 3), ("grey", 1)])
def test_noise_is_drawn_for_every_channel_or_for_all_together(make_clip, linear, noise, channels):
    x, x0 = make_clip(grey=False), torch.zeros(3, 4, 10, 12)
    torch.manual_seed(3)
    drawn = sum(torch.normal(0.0, torch.full((channels, 4, 10, 12), 0.5)) for _ in range(2)) / 2
    expected = (WEIGHTS * (x + drawn)).sum(dim=0) / N_VOXELS
    found = smooth(linear, x, x0, noise=noise)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


def test_noise_on_the_baseline_too_cancels_where_the_model_is_linear(make_clip, linear):
    x, x0 = make_clip(grey=False), make_clip(grey=False, seed=4)
    expected = integrated_gradients(linear, x, x0, n_steps=2)
    found = smooth(linear, x, x0, noisy_baseline=True)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    assert not torch.allclose(smooth(linear, x, x0), expected, atol=1e-6)


def test_a_relu_in_place_after_the_stem_gives_the_same_map(tiny_net, make_clip):
    convolution, _, relu, _ = tiny_net.double().body

    def head(x):
        return tiny_net.head(x.mean(dim=(2, 3, 4)))

    def plain(clips):
        return head(torch.relu(convolution(clips)))

    assert relu.inplace
    models, clip = (sequential([convolution, relu], head), plain), make_clip(dtype=torch.float64)
    for key in ("ig", "ig_smoothgrad", "gradient_shap"):
        found, expected = (explain(model, clip, key) for model in models)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6 * np.abs(expected).max())
