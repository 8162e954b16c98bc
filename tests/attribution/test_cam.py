import numpy as np
import pytest
import torch

from vad_helpers.attribution import explain
from vad_helpers.errors import InputError


class Read(torch.nn.Module):
    """ReLU of the first channels, then a weight for every channel and place: logits (0, sum)."""

    def __init__(self, weights):
        super().__init__()
        self.relu = torch.nn.ReLU(inplace=True)
        self.register_buffer("weights", torch.as_tensor(weights, dtype=torch.float64))

    def forward(self, clips):
        read = self.relu(clips[:, : len(self.weights)] + 0) * self.weights
        score = read.sum(dim=(1, 2, 3, 4))
        return torch.stack([0 * score, score], dim=1)


def test_maps_of_two_channels_and_two_voxels_are_those_worked_by_hand():
    # A = (1, 2), (3, 0); dz/dA = (1/2, -1), (1, 2); z = 1/2 - 2 + 3 = 3/2.
    model = Read(np.array([[0.5, -1], [1, 2]]).reshape(2, 1, 1, 2))
    clip = torch.tensor([[1.0, 2], [3, -1], [9, 9]]).view(3, 1, 1, 2)
    slope = torch.sigmoid(torch.tensor(1.5)) * torch.sigmoid(torch.tensor(-1.5))
    by_hand = {
        # Means of the gradient: -1/4 and 3/2.
        "grad_cam": slope * torch.tensor([-0.25 * 1 + 1.5 * 3, -0.25 * 2 + 1.5 * 0]),
        "hirescam": slope * torch.tensor([0.5 * 1 + 1 * 3, -1 * 2 + 2 * 0]),
        "layercam": slope * torch.tensor([0.5 * 1 + 1 * 3, 0 * 2 + 2 * 0]),
        # Both channels sum to 3. Weights .5 / (2 + 1.5) and 1 / (2 + 3) + 2 / (2 + 6).
        "grad_cam_pp": torch.tensor([1 / 7 * 1 + 0.45 * 3, 1 / 7 * 2 + 0.45 * 0]),
    }
    for key, expected in by_hand.items():
        found = explain(model, clip, key, layer="relu")
        np.testing.assert_allclose(found.ravel(), expected, rtol=1e-5, err_msg=key)


def test_grad_cam_pp_is_the_papers_general_form_for_an_exponential_score(make_clip):
    shape = (2, 2, 3)
    head = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(24, 5), torch.nn.ReLU())
    head.append(torch.nn.Linear(5, 2)).double()
    body = torch.nn.Sequential(torch.nn.Conv3d(3, 2, 1), torch.nn.ReLU()).double()
    clip = make_clip(shape, grey=False, dtype=torch.float64)
    held = body(clip[None]).detach().ravel()

    def derivatives(place):
        """First to third derivative of exp(z) with respect to one activation."""
        step, found = torch.zeros((), dtype=torch.float64, requires_grad=True), []
        moved = held + step * torch.nn.functional.one_hot(torch.tensor(place), held.numel())
        value = head(moved.view(1, 2, *shape))[0, 1].exp()
        for _ in range(3):
            (value,) = torch.autograd.grad(value, step, create_graph=True)
            found.append(float(value.detach()))
        return found

    columns = np.transpose([derivatives(place) for place in range(held.numel())])
    first, second, third = columns.reshape(3, 2, -1)
    activations = held.numpy().reshape(2, -1)
    alpha = second / (2 * second + activations.sum(axis=1, keepdims=True) * third)
    weights = (alpha * np.maximum(first, 0)).sum(axis=1)
    expected = np.maximum(weights @ activations, 0)
    score = float(head(held.view(1, 2, *shape))[0, 1].detach().exp())
    found = explain(torch.nn.Sequential(body, head), clip, "grad_cam_pp", layer="0.1")
    assert expected.any()
    np.testing.assert_allclose(score * found.ravel(), expected, rtol=1e-5)


def test_a_layer_that_does_not_fit_is_named_with_those_there_are(tiny_net, make_clip):
    twice = Read(np.ones((2, 4, 10, 12)))
    twice.forward = lambda clips: Read.forward(twice, twice.relu(clips + 0))
    aside = torch.nn.Sequential(tiny_net)
    aside.forward = lambda clips: tiny_net(clips) + 0 * aside.other(clips).detach().mean()
    aside.other = torch.nn.Conv3d(3, 2, 1)
    wrong = [
        (tiny_net, "Mixed_5c", "give one of body, head, or one inside them"),
        (tiny_net, "", "unknown layer: ''"),
        (tiny_net, "head", "'head' gives .1, 3."),
        (lambda clips: tiny_net(clips), "body", "with layers"),
        (twice, "relu", "used 2 times"),
        (tiny_net, "body.0", "'body.0' has negative values"),
        (aside, "other", "no gradient with respect to layer 'other'"),
    ]
    for model, layer, said in wrong:
        with pytest.raises(InputError, match=said):
            explain(model, make_clip(), "grad_cam_pp", layer=layer)
