"""Methods of one's own: what `register` takes, and what their functions are given."""

import random

import numpy as np
import pytest
import torch

from vad_helpers.attribution import METHODS, MethodSpec, attribute, baselines, explain, register
from vad_helpers.errors import InputError


@pytest.fixture(autouse=True)
def registry_as_found():
    found = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(found)


def spec(**fields):
    base = {
        "key": "mine",
        "name": "Mine",
        "family": "perturbation",
        "attribute": lambda probability, clip, baseline: clip[0],
        "model_calls": lambda settings, shape, n_segments: 0,
    }
    return MethodSpec(**{**base, **fields})


def test_a_ten_line_method_joins_the_others(tiny_net, make_clip):
    def input_x_gradient(probability, clip, baseline):
        clips = clip[None].requires_grad_()
        (gradient,) = torch.autograd.grad(probability(clips).sum(), clips)
        return (gradient * clips)[0].sum(dim=0)

    register(
        MethodSpec(
            key="input_x_gradient",
            name="Input x gradient",
            family="gradient",
            attribute=input_x_gradient,
            model_calls=lambda settings, shape, n_segments: 1,
        )
    )
    clip = make_clip(grey=False)
    done = attribute(tiny_net, clip, "input_x_gradient")
    clips = clip[None].requires_grad_()
    p = tiny_net.eval()(clips).softmax(dim=1)[0, 1]
    (gradient,) = torch.autograd.grad(p, clips)
    np.testing.assert_allclose(
        done.map, (gradient * clips)[0].sum(dim=0).detach().numpy(), rtol=1e-5
    )
    assert done.model_calls == 1


def test_a_registered_method_gets_what_the_contract_says(tiny_net, make_clip):
    seen = {}

    def spy(probability, clip, baseline, *, segments, weight):
        seen.update(locals(), numbers=(random.random(), np.random.rand(), float(torch.rand(()))))
        seen["gradients"] = torch.is_grad_enabled()
        return np.full(clip.shape[1:], 2.0), {"note": "seen"}

    register(
        spec(
            attribute=spy,
            settings={"weight": 1.5, "n_segments": 4, "compactness": 60.0},
            superpixels=True,
            model_calls=lambda settings, shape, n_segments: n_segments,
        )
    )
    clip = make_clip()
    with torch.no_grad():
        done = attribute(tiny_net, clip, "mine", weight=2, n_segments=6, batch_size=3, seed=9)
    assert seen["weight"] == 2.0 and isinstance(seen["weight"], float)
    assert seen["probability"].model is tiny_net and seen["probability"].batch_size == 3
    assert seen["segments"].dtype == torch.int64 and seen["segments"].shape == (4, 10, 12)
    assert done.info == {"note": "seen", "n_segments": int(seen["segments"].max()) + 1}
    assert torch.equal(seen["clip"], clip) and seen["clip"].data_ptr() != clip.data_ptr()
    torch.testing.assert_close(seen["baseline"], baselines.make("blur", clip))
    assert seen["gradients"]
    random.seed(9), np.random.seed(9)
    drawn = torch.rand((), generator=torch.Generator().manual_seed(9))
    assert seen["numbers"] == (random.random(), np.random.rand(), float(drawn))
    assert done.map.dtype == np.float32 and (done.map == 2).all()


def test_a_method_without_baseline_gets_none(tiny_net, make_clip):
    seen = []

    def spy(probability, clip, baseline):
        seen.append(baseline)
        return clip[0]

    register(spec(attribute=spy, uses_baseline=False))
    explain(tiny_net, make_clip(), "mine")
    assert seen == [None]


def test_a_taken_key_needs_overwrite():
    mine = spec(key="ig")
    with pytest.raises(InputError, match="'ig' exists already"):
        register(mine)
    assert METHODS["ig"] is not mine
    register(mine, overwrite=True)
    assert METHODS["ig"] is mine


def test_only_a_method_spec_can_be_registered():
    with pytest.raises(InputError, match="given a dict; give a MethodSpec"):
        register({"key": "mine"})


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda clip: clip, "returned a map of shape \\(3, 4, 10, 12\\)"),
        (lambda clip: clip[0] * torch.nan, "'mine' returned NaN"),
        (lambda clip: clip[0] * torch.inf, "'mine' returned NaN or infinite"),
        (lambda clip: clip[0].double().numpy() * 1e300, "'mine' returned NaN or infinite"),
    ],
)
def test_what_a_method_returns_is_checked(returned, message, tiny_net, make_clip):
    register(spec(attribute=lambda probability, clip, baseline: returned(clip)))
    with pytest.raises(InputError, match=message):
        explain(tiny_net, make_clip(), "mine")
