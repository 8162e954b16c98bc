"""Every method that Captum has, but occlusion, against Captum in float64, given the same samples.

Occlusion has files of its own: Captum accumulates it in float32.
"""

import numpy as np
import pytest
import torch
from captum.attr import (
    InputXGradient,
    LayerAttribution,
    LayerGradCam,
    LayerGradientXActivation,
    NoiseTunnel,
    Saliency,
)

from benchmarks import plain_captum
from vad_helpers.attribution import METHODS, superpixels
from vad_helpers.attribution.probability import Probability, seeded
from vad_helpers.inference.chain import sequential
from vad_helpers.inference.prepared import evaluating, prepare

AGREEMENT = 1e-10  # largest difference from Captum's map, as a share of its maximum
CPU = torch.device("cpu")
SEED = 5

SUPERPIXELS = {"n_segments": 12, "compactness": 10.0}
LIME = {"n_samples": 30, "alpha": 1e-5, **SUPERPIXELS}
SMOOTH = {"n_steps": 3, "n_samples": 2, "sigma": 0.4}
SHAP = {"n_samples": 4, "sigma": 0.4}
CASES = {
    "ig": ("ig", {"n_steps": 5}),
    "ig at one point": ("ig", {"n_steps": 1}),
    "smoothgrad": ("ig_smoothgrad", SMOOTH),
    "smoothgrad without noise": ("ig_smoothgrad", {**SMOOTH, "sigma": 0.0}),
    "gradient_shap": ("gradient_shap", {**SHAP, "sigma": 0.0}),
    "gradient_shap with noise": ("gradient_shap", SHAP),
    "kernel_shap": ("kernel_shap", {"n_samples": 30, **SUPERPIXELS}),
    "lime": ("lime", {"kernel_width": 1000.0, **LIME}),
    "lime with a narrow kernel": ("lime", {"kernel_width": 40.0, **LIME}),
    "guided_backprop": ("guided_backprop", {}),
    "ig, absolute channels": ("ig", {"n_steps": 3, "channels": "abs"}),
    "smoothgrad, absolute channels": ("ig_smoothgrad", {**SMOOTH, "channels": "abs"}),
    "gradient_shap, absolute channels": ("gradient_shap", {**SHAP, "channels": "abs"}),
    "guided_backprop, absolute channels": ("guided_backprop", {"channels": "abs"}),
    "input_x_gradient": ("input_x_gradient", {}),
    "smoothgrad of gradients": ("smoothgrad", SHAP),
    "vargrad": ("vargrad", SHAP),
}


def noisy(kind):
    def theirs(model, clip, baseline, *, n_samples, sigma):
        draws = {"nt_samples": n_samples, "stdevs": sigma, "nt_samples_batch_size": 1}
        explainer = NoiseTunnel(Saliency(model))
        found = explainer.attribute(clip[None], nt_type=kind, abs=False, **draws)
        return found[0].sum(dim=0)

    return theirs


def input_x_gradient(model, clip, baseline):
    return InputXGradient(model).attribute(clip[None].clone().requires_grad_())[0].sum(dim=0)


CAPTUM = plain_captum.METHODS | {"input_x_gradient": input_x_gradient}
CAPTUM |= {kind: noisy(kind) for kind in ("smoothgrad", "vargrad")}
LINES = ["ig", "smoothgrad", "gradient_shap", "gradient_shap with noise"]


@pytest.fixture
def subject(request, i3d, tiny_net, make_clip):
    """A model by name, with a clip and a baseline that fit it."""
    tiny_net.double().eval()
    convolution, _, relu, _ = tiny_net.body  # in place, and right behind the affine stem

    def head(x):
        return tiny_net.head(x.mean(dim=(2, 3, 4)))

    model = {
        "i3d": i3d,
        "i3d as a function": lambda clips: i3d(clips),
        "tiny": tiny_net,
        "tiny as a chain": sequential([convolution, relu], head),
    }[request.param]
    # Sixteen frames leave four steps at depth: with two, equal maxima make subgradients ambiguous.
    shape = (16, 32, 40) if "i3d" in request.param else (4, 10, 12)
    pair = [make_clip(shape, seed=seed, grey=False, dtype=torch.float64) for seed in (0, 1)]
    return model, *pair


def ours(model, key, clip, baseline, settings, batch_size):
    """The map in the model's own type: `explain` rounds it to float32."""
    settings = dict(settings)
    if METHODS[key].superpixels:
        sizes = {name: settings.pop(name) for name in SUPERPIXELS}
        settings["segments"] = torch.from_numpy(superpixels.slic(clip, **sizes))
    probability = Probability(prepare(model), batch_size=batch_size, example=clip)
    with evaluating(probability.model), seeded(SEED, CPU):
        found = METHODS[key].attribute(probability, clip, baseline, **settings)
    return (found[0] if isinstance(found, tuple) else found).detach()


@pytest.mark.filterwarnings("ignore:Setting .*backward hooks")
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    "subject", ["i3d", "i3d as a function", "tiny", "tiny as a chain"], indirect=True
)
def test_captum_gives_the_same_map(case, subject):
    (key, settings), (model, clip, baseline) = CASES[case], subject
    if key == "guided_backprop" and not isinstance(model, torch.nn.Module):
        return  # it is refused
    wrapped = plain_captum.AnomalyProbability(model).eval()
    with seeded(SEED, CPU):
        expected = CAPTUM[key](wrapped, clip, baseline, **settings).detach()
    found = ours(model, key, clip, baseline, settings, batch_size=3)
    # Captum's linear models give float32 coefficients whatever they are fitted to.
    assert found.dtype == (torch.float32 if METHODS[key].superpixels else torch.float64)
    largest = float(expected.abs().max())
    # Under noise the softmax may be flat, and a variance is of the gradient's square.
    least = {"smoothgrad": 1e-15, "vargrad": 1e-30}.get(key, 1e-7)
    assert largest > least and np.ptp(expected.numpy()) > 0
    assert float((found - expected).abs().max()) <= AGREEMENT * largest


@pytest.mark.parametrize("layer", ["Mixed_4f", "Mixed_5c", "body.2"])
def test_captum_has_the_same_maps_of_layers(layer, i3d, tiny_net, make_clip):
    model, shape = (i3d, (16, 32, 40)) if layer != "body.2" else (tiny_net, (4, 10, 12))
    clip = make_clip(shape, grey=False, dtype=torch.float64)
    wrapped = plain_captum.AnomalyProbability(model.double().eval())
    inner = wrapped.network.get_submodule(layer)
    theirs = {
        "grad_cam": LayerGradCam(wrapped, inner).attribute(clip[None]),
        "hirescam": LayerGradientXActivation(wrapped, inner).attribute(clip[None]),
    }
    for key, expected in theirs.items():
        expected = expected.sum(dim=1, keepdim=True).detach()
        expected = LayerAttribution.interpolate(expected, shape, "trilinear")[0, 0]
        found = ours(model, key, clip, None, {"layer": layer}, batch_size=3)
        largest = float(expected.abs().max())
        assert largest > 1e-7 and expected.min() < 0
        assert float((found - expected).abs().max()) <= AGREEMENT * largest


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("case", LINES)
@pytest.mark.parametrize("subject", ["i3d"], indirect=True)
def test_the_affine_stem_is_evaluated_at_the_two_ends_of_a_line_alone(case, batch_size, subject):
    (key, settings), (model, clip, baseline) = CASES[case], subject
    prepared = prepare(model)
    forward, backward, after = [], [], []
    stem, later = prepared.model.Conv3d_1a_7x7.conv3d, prepared.model.Mixed_3b.b0.conv3d
    stem.register_forward_hook(lambda module, inputs, output: forward.append(len(output)))
    stem.register_full_backward_hook(lambda module, inputs, outputs: backward.append(len(outputs)))
    later.register_forward_hook(lambda module, inputs, output: after.append(len(output)))
    probability = Probability(prepared, batch_size=batch_size, example=clip)
    with seeded(SEED, CPU):
        METHODS[key].attribute(probability, clip, baseline, **settings)
    n_lines = {"smoothgrad": 2, "gradient_shap with noise": 4}.get(case, 1)
    assert sum(forward) == 2 * n_lines and len(backward) == n_lines
    points = METHODS[key].model_calls(settings, tuple(clip.shape), None)
    assert sum(after) == probability.calls == points and max(after) <= batch_size
