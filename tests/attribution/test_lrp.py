import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vad_helpers.attribution import attribute, explain
from vad_helpers.attribution.lrp import lrp
from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError


def relevance(model, clip, *, target=1, **settings):
    """The map in the model's own type, and what is reported."""
    return lrp(Probability(model, target=target), clip.clone(), **settings)


def test_two_layers_are_those_worked_by_hand():
    model = nn.Sequential(nn.Conv3d(3, 2, (1, 1, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(2, 2))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[:, 0, 0, 0] = torch.tensor([[1, -2, 1], [0.5, 1, 0]])
        model[0].bias[:] = torch.tensor([-0.5, 0.75])
        model[3].weight[1], model[3].bias[1] = torch.tensor([2.0, -1]), 0.3
    clip = torch.zeros(3, 1, 1, 3)
    clip[0] = torch.tensor([0.5, -0.5, 1])
    # Units 2 and 1/2, so z = 4 - 1/2 + .3. From the bounds -1 and 1 voxels contribute 1.5, 3, 2 to
    # the first unit and .75, .5, 0 to the second.
    expected = 4 * np.array([1.5, 3, 2]) / 6.5 - 0.5 * np.array([0.75, 0.5, 0]) / 1.25
    done = attribute(model, clip, "lrp")
    np.testing.assert_allclose(done.map.ravel(), expected, rtol=1e-6)
    assert done.info == {"logit": pytest.approx(3.8), "kept_by_biases": pytest.approx(0.3)}
    # One brighter, between 0 and 2: units 2 and 2, the same contributions from the bounds.
    clip[0] += 1
    wider = explain(model, clip, "lrp", low=0.0, high=2.0)
    expected = 4 * np.array([1.5, 3, 2]) / 6.5 - 2 * np.array([0.75, 0.5, 0]) / 1.25
    np.testing.assert_allclose(wider.ravel(), expected, rtol=1e-6)


def test_deeper_layers_share_by_their_positive_contributions(make_clip):
    """Against the rules, written out layer by layer."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(18, 7), nn.ReLU(), nn.Linear(7, 6, bias=False))
    model.extend([nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)]).double().eval()
    nn.init.uniform_(model[4].weight, -2, 2)
    nn.init.uniform_(model[4].running_var, 0.5, 2)
    clip = make_clip((1, 2, 3), grey=False, dtype=torch.float64)
    outputs = [clip.flatten().numpy()]
    for layer in list(model)[1:]:
        outputs.append(layer(torch.from_numpy(outputs[-1])[None])[0].detach().numpy())
    x, _, first, _, _, second, logits = outputs
    scale = (model[4].weight / (model[4].running_var + model[4].eps).sqrt()).detach().numpy()
    w1, w2 = model[1].weight.detach().numpy(), scale[:, None] * model[3].weight.detach().numpy()
    shared = model[6].weight.detach().numpy()[1] * second
    for parts in (
        first * np.maximum(w2, 0),
        (x + 1) * np.maximum(w1, 0) + (x - 1) * np.minimum(w1, 0),
    ):
        shared = shared @ (parts / np.maximum(parts.sum(axis=1, keepdims=True), 1e-300))
    found, told = relevance(model, clip)
    np.testing.assert_allclose(found.ravel(), shared.reshape(3, -1).sum(axis=0), rtol=1e-10)
    assert told["logit"] == pytest.approx(logits[1], rel=1e-12)


@pytest.mark.parametrize("target", [0, 1])
def test_all_of_the_logit_but_the_classifiers_bias_reaches_the_clip(target, i3d, make_clip):
    clip = make_clip((16, 32, 40), dtype=torch.float64)
    found, told = relevance(i3d, clip, target=target)
    with torch.no_grad():
        logit, bias = (float(one[target]) for one in (i3d(clip[None])[0], i3d.logits.conv3d.bias))
    assert told["logit"] == pytest.approx(logit, rel=1e-12)
    assert told["kept_by_biases"] == pytest.approx(bias, abs=1e-9)
    assert float(found.sum()) == pytest.approx(logit - bias, abs=1e-9)
    # Batch norms are merged, whether `prepare` does it or the method: the same map.
    inner, _ = relevance(lambda clips: i3d(clips), clip, target=target)
    torch.testing.assert_close(inner, found, rtol=1e-9, atol=1e-12)


def test_the_zero_rule_everywhere_is_the_clip_times_the_gradient_of_the_logit(make_clip):
    layers = [nn.Conv3d(3, 4, 3, padding=1, bias=False), nn.ReLU(), nn.MaxPool3d(2)]
    layers += [nn.Conv3d(4, 5, (1, 3, 3), bias=False), nn.ReLU(), nn.AvgPool3d((2, 3, 4))]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(5, 2, bias=False)).double()
    clip = make_clip(grey=False, dtype=torch.float64)
    leaf = clip[None].clone().requires_grad_()
    logit = model(leaf)[0, 1]
    (gradient,) = torch.autograd.grad(logit, leaf)
    found, told = relevance(model, clip, rule="zero")
    torch.testing.assert_close(found, (leaf * gradient)[0].sum(dim=0), rtol=1e-10, atol=1e-14)
    assert told["kept_by_biases"] == pytest.approx(0, abs=1e-12)
    assert float(found.sum()) == pytest.approx(float(logit.detach()), rel=1e-10)
    # Without biases, the composite hands on as much, in other places.
    other, told = relevance(model, clip)
    assert told["kept_by_biases"] == pytest.approx(0, abs=1e-12)
    assert not torch.allclose(other, found, atol=0.1 * float(found.abs().max()))


def small(*layers):
    return nn.Sequential(nn.Conv3d(3, 4, 1), *layers, nn.Flatten(), nn.LazyLinear(2))


class Functional(nn.Module):
    def __init__(self, act):
        super().__init__()
        self.conv, self.act = nn.Conv3d(3, 2, 1), act

    def forward(self, clips):
        return self.act(self.conv(clips)).mean(dim=(2, 3, 4))


def test_what_has_no_rule_is_refused_however_it_is_called(make_clip):
    wrong = {
        "LeakyRelu": small(nn.LeakyReLU()),
        "Sigmoid": Functional(torch.sigmoid),
        "Mul": Functional(lambda x: x * x.mean()),
        "Div": Functional(lambda x: torch.ones(()) / (x + 9)),
        # Not seen as a layer's ReLU: in place by name, and below PyTorch's functions.
        "Relu": Functional(lambda x: x.relu_()),
        "Rel": Functional(torch.ops.aten.relu.default),
        "BatchNorm": nn.Sequential(nn.BatchNorm3d(3), small(nn.ReLU())),
        "Convolution": nn.Sequential(nn.ConvTranspose3d(3, 3, 1), small(nn.ReLU())),
        # Its weight is not fixed.
        "Conv": Functional(lambda x: F.conv3d(x, x[:, :, :1, :1, :1].expand(2, -1, -1, -1, -1))),
        "Softmax": nn.Sequential(small(nn.ReLU()), nn.Softmax(dim=1)),
    }
    for kind, model in wrong.items():
        with pytest.raises(InputError, match=f"no rule for .*{kind}"):
            explain(model, make_clip(), "lrp")


def test_what_autograd_shares_out_needs_no_module(make_clip):
    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = (nn.Conv3d(3, 3, 1, bias=False) for _ in range(3))

        def forward(self, clips):
            x = F.relu(self.one(clips[:, :, 1:]))
            x = F.relu(x + 2 * self.two(x)) / 3
            return F.adaptive_avg_pool3d(self.head(x), 1).squeeze((2, 3, 4))

    clip = make_clip(grey=False, dtype=torch.float64)
    found, told = relevance(Residual().double(), clip)
    assert told["kept_by_biases"] == pytest.approx(0, abs=1e-12) and found.any()
    assert not found[0].any()  # the frame that is not read


def test_units_that_only_their_bias_turns_on_keep_their_share(make_clip):
    model = small(nn.ReLU()).double()
    model(make_clip(dtype=torch.float64)[None])
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(1)
    with pytest.warns(UserWarning, match="all-zero"):
        done = attribute(model, make_clip(), "lrp")
    assert done.info["kept_by_biases"] == done.info["logit"] != 0


def test_a_relu_in_place_makes_no_difference_and_bounds_are_widened_to_the_clip(
    tiny_net, make_clip
):
    found = explain(tiny_net, make_clip(), "lrp")
    assert tiny_net.body[2].inplace and found.any()
    tiny_net.body[2].inplace = False
    np.testing.assert_array_equal(explain(tiny_net, make_clip(), "lrp"), found)
    clip = make_clip(high=3.0)
    wide = explain(tiny_net, clip, "lrp", high=float(clip.max()))
    np.testing.assert_array_equal(explain(tiny_net, clip, "lrp"), wide)
