import numpy as np
import pytest
import torch

from vad_helpers.attribution import explain
from vad_helpers.attribution.gradient import integrated_gradients, smooth_integrated_gradients
from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError


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
