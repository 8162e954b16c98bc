import numpy as np
import pytest
import torch
from torch import nn

from vad_helpers.attribution import METHODS, attribute, explain
from vad_helpers.attribution.occlusion import IncrementalOcclusion
from vad_helpers.attribution.probability import Probability
from vad_helpers.errors import InputError
from vad_helpers.inference.chain import sequential
from vad_helpers.inference.prepared import prepare

CLIPS = torch.zeros(2, 3, 1, 1, 1)


@pytest.mark.parametrize("given", [torch.float64, torch.float32, torch.bfloat16])
def test_softmax_of_the_target_is_never_taken_in_half_precision(given):
    logits = torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]], dtype=given)
    p = Probability(lambda clips: logits, target=2)(CLIPS)
    expected = [np.exp(2) / (1 + np.e + np.exp(2)), 1 / (2 + np.exp(3))]
    np.testing.assert_allclose(p.numpy(), expected, rtol=1e-6)
    assert p.dtype == (torch.float64 if given == torch.float64 else torch.float32)


@pytest.mark.parametrize("logits", [[1.0], torch.zeros(3, 2), torch.zeros(2, 1), torch.zeros(2)])
def test_what_the_model_returns_is_checked(logits):
    with pytest.raises(InputError, match="the model returned"):
        Probability(lambda clips: logits)(CLIPS)


def test_a_cut_gradient_is_an_error_only_where_one_is_wanted():
    probability = Probability(lambda clips: clips.detach()[:, :2].sum(dim=(2, 3, 4)))
    probability(CLIPS)
    wanting = CLIPS.clone().requires_grad_()
    with torch.no_grad():
        probability(wanting)
    with pytest.raises(InputError, match="no gradient with respect to the clip"):
        probability(wanting)


def batch_normed():
    return nn.Conv3d(3, 4, 3, padding=1), nn.BatchNorm3d(4, track_running_stats=False), nn.ReLU()


def head(x):
    return x.mean(dim=(2, 3, 4))[:, :2]


def normed():
    return nn.Sequential(*batch_normed(), nn.AdaptiveAvgPool3d(1), nn.Flatten())


MIXING = {
    "module": normed,
    "function": lambda: lambda clips: head(clips - clips.mean(dim=0)),  # in no layer
    "chain": lambda: sequential(batch_normed(), head),
    "random": lambda: lambda clips: head(clips) + torch.rand(len(clips), 1).mul(torch.arange(2)),
}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", MIXING)
def test_a_network_that_mixes_its_batch_is_refused(kind, precision, make_clip, small_settings):
    if kind == "chain" and precision == "bf16":
        return  # a bare chain runs in its own type
    refused = pytest.raises(InputError, match="other clips of its batch")
    model, before = MIXING[kind](), torch.get_rng_state()
    for key in ("ig", "lime", "occlusion_sp"):
        for subject in (model, prepare(model, precision=precision)):
            with refused:
                explain(subject, make_clip(), key, precision=precision, **small_settings[key])
    assert torch.equal(torch.get_rng_state(), before)
    with refused:
        IncrementalOcclusion(model).attribute(make_clip()[None], (3, 2, 4, 4), target=1)


def test_one_clip_at_a_time_is_never_mixed(make_clip):
    calm = (("ig", {"n_steps": 1}), ("ig", {"batch_size": 1}), ("guided_backprop", {}))
    for key, options in calm:
        assert explain(normed(), make_clip(), key, **options).any()


@pytest.mark.parametrize("key", METHODS)
def test_what_it_costs_to_find_out_is_two_passes_once_and_no_model_call(
    key, tiny_net, make_clip, small_settings
):
    passes = []
    tiny_net.register_forward_hook(lambda module, inputs, output: passes.append(len(output)))
    ready, options = prepare(tiny_net), {"batch_size": 2, **small_settings[key]}
    calls = [attribute(ready, make_clip(seed=s), key, **options).model_calls for s in (0, 1)]
    extra = [] if calls == [1, 1] else [1, 2]
    assert passes[: len(extra)] == extra and calls[0] == calls[1]
    assert sum(passes) == sum(extra) + sum(calls)


def test_two_clips_that_do_not_fit_into_memory_cannot_be_mixed(tiny_net, make_clip):
    def narrow(clips):
        if len(clips) > 1:
            raise torch.OutOfMemoryError("no memory")
        return tiny_net.eval()(clips)

    expected = explain(tiny_net, make_clip(), "ig", n_steps=3, batch_size=1)
    np.testing.assert_array_equal(explain(narrow, make_clip(), "ig", n_steps=3), expected)
