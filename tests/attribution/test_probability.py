import random

import numpy as np
import pytest
import torch

from vad_helpers.attribution.probability import Probability, evaluating, seeded
from vad_helpers.errors import InputError
from vad_helpers.inference.prepared import prepare

CLIPS = torch.zeros(2, 3, 1, 1, 1)


def test_softmax_probability_of_the_target():
    def model(clips):
        return torch.tensor([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0]])

    expected = [np.exp(2) / (1 + np.e + np.exp(2)), 1 / (2 + np.exp(3))]
    p = Probability(model, target=2)(CLIPS)
    np.testing.assert_allclose(p.numpy(), expected, rtol=1e-6)


def test_rows_are_counted_and_ticked():
    ticks = []
    probability = Probability(lambda clips: clips.new_zeros(len(clips), 2), tick=ticks.append)
    probability(CLIPS), probability(CLIPS[:1])
    assert probability.calls == 3 and ticks == [2, 1]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (torch.float64, torch.float64),
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.float32),
    ],
)
def test_softmax_is_never_taken_in_half_precision(given, expected):
    logits = torch.tensor([[0.0, 0.01]], dtype=given)
    p = Probability(lambda clips: logits)(CLIPS[:1])
    assert p.dtype == expected
    assert float(p) == pytest.approx(1 / (1 + np.exp(-float(logits[0, 1]))), rel=1e-6)


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        ([1.0], "returned a list"),
        (torch.zeros(2), "shape \\(2,\\)"),
        (torch.zeros(3, 2), "shape \\(3, 2\\) for 2 clips"),
        (torch.zeros(2, 1), "target is 1, but the model has 1 classes"),
    ],
)
def test_what_the_model_returns_is_checked(logits, message):
    with pytest.raises(InputError, match=message):
        Probability(lambda clips: logits)(CLIPS)


def test_a_cut_gradient_is_an_error_only_where_one_is_wanted():
    probability = Probability(lambda clips: clips.detach().sum(dim=(2, 3, 4)))
    probability(CLIPS)
    wanting = CLIPS.clone().requires_grad_()
    with torch.no_grad():
        probability(wanting)
    with pytest.raises(InputError, match="no gradient with respect to the clip"):
        probability(wanting)


def test_fp32_holds_under_an_outer_autocast():
    layer = torch.nn.Linear(3, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        p = Probability(lambda clips: layer(clips.flatten(1)))(CLIPS)
    expected = layer(CLIPS.flatten(1)).softmax(dim=1)[:, 1]
    torch.testing.assert_close(p, expected, rtol=0, atol=0)


def test_placement_follows_parameters_then_buffers_then_the_clip():
    clip = torch.zeros(3, 1, 1, 1)
    layer = torch.nn.Linear(1, 1).double()
    buffered = torch.nn.Module()
    buffered.register_buffer("count", torch.zeros(1, dtype=torch.int64))
    assert prepare(layer).placement(clip) == (torch.device("cpu"), torch.float64)
    assert prepare(buffered).placement(clip) == (torch.device("cpu"), torch.float32)
    buffered.register_buffer("mean", torch.zeros(1, dtype=torch.float16))
    assert prepare(buffered).placement(clip) == (torch.device("cpu"), torch.float16)
    assert prepare(lambda clips: clips).placement(clip.double()) == (
        torch.device("cpu"),
        torch.float64,
    )


def test_evaluating_restores_every_mode_after_an_error():
    model = torch.nn.Sequential(torch.nn.Dropout(), torch.nn.Dropout())
    model[1].eval()
    with pytest.raises(KeyError), evaluating(model):
        assert not any(module.training for module in model.modules())
        raise KeyError
    assert [module.training for module in model.modules()] == [True, True, False]


def test_seeded_reproduces_and_restores_after_an_error():
    def draw():
        return random.random(), np.random.rand(), float(torch.rand(()))

    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    drawn = []
    for _ in range(2):
        with pytest.raises(KeyError), seeded(7, torch.device("cpu")):
            drawn.append(draw())
            raise KeyError
    assert drawn[0] == drawn[1]
    assert random.getstate() == before[0]
    assert (np.random.get_state()[1] == before[1]).all()
    assert torch.equal(torch.get_rng_state(), before[2])
