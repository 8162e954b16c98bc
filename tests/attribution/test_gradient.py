import pytest
import torch

from vad_helpers.attribution import explain
from vad_helpers.attribution.gradient import integrated_gradients, smooth_integrated_gradients
from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError


def test_guided_backprop_refuses_functional_relus_and_functions(make_clip):
    module = torch.nn.Module()
    module.relu = torch.nn.ReLU()  # which it does not use
    module.forward = lambda clips: torch.nn.functional.relu(clips).sum(dim=(2, 3, 4))
    for model in (module, lambda clips: module.relu(clips).sum(dim=(2, 3, 4))):
        with pytest.raises(InputError, match="found no torch.nn.ReLU in use"):
            explain(model, make_clip(), "guided_backprop")
    assert not module.relu._forward_hooks and not module.relu._forward_pre_hooks


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


def test_noise_may_be_grey_and_cancels_at_both_ends_of_a_linear_model(make_clip, linear):
    x, x0 = make_clip(grey=False), torch.zeros(3, 4, 10, 12)
    torch.manual_seed(3)
    drawn = sum(torch.normal(0.0, torch.full((1, 4, 10, 12), 0.5)) for _ in range(2)) / 2
    expected = (WEIGHTS * (x + drawn)).sum(dim=0) / N_VOXELS
    found = smooth(linear, x, x0, noise="grey")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)
    x0 = make_clip(grey=False, seed=4)  # noise on the baseline too: of a linear model, no effect
    expected = integrated_gradients(linear, x, x0, n_steps=2)
    found = smooth(linear, x, x0, noisy_baseline=True)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
    assert not torch.allclose(smooth(linear, x, x0), expected, atol=1e-6)
