"""What `vad check` finds: planted faults are named by the line that fails, and nothing else is."""

import re
from dataclasses import replace
from pathlib import Path

import networks
import numpy as np
import own_method
import own_metric
import pytest
import torch
from torch import nn

from vad_helpers import conformance
from vad_helpers.attribution import METHODS
from vad_helpers.inference.chain import Chain
from vad_helpers.metrics.catalog import METRICS

ROOT = Path(__file__).parents[1]
SHAPE = (4, 16, 24)


class Net(nn.Module):
    """A sound network, with a fault or a peculiarity by name."""

    def __init__(self, fault="", n_logits=2):
        super().__init__()
        self.fault = fault
        self.conv = nn.Conv3d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4, track_running_stats=fault != "batch norm")
        self.relu, self.again = nn.ReLU(inplace=fault == "relu module in place"), nn.ReLU()
        self.last = nn.Conv3d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, n_logits)

    def forward(self, clips):
        fault = self.fault
        x = nn.functional.relu_(clips) if fault == "relu_ on the clip" else clips
        x = self.norm(self.conv(x.detach() if fault == "detached" else x))
        x = self.again(self.last(x.relu_() if fault == "relu_ inside" else self.relu(x)))
        if fault == "mean over the batch":
            x = x + x.mean(dim=0)
        if fault == "dropout":
            x = nn.functional.dropout(x)
        if fault == "train()":
            self.norm.train()
        logits = self.head(x.mean(dim=(2, 3, 4)))
        if fault == "one number":
            return logits[:, 0].reshape(-1, 1, 1)
        return logits / (logits - logits) if fault == "nan" else logits


def lines_of(fault="", target=1, **args):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return conformance.check_model(
            Net, args={"fault": fault, **args}, shape=SHAPE, target=target
        )


def named(lines, state="fails"):
    return [line.name for line in lines if line.state == state]


def told(lines, name):
    return next(line.told for line in lines if line.name == name)


@pytest.mark.parametrize(
    ("fault", "line", "words"),
    [
        ("one number", "logits", r"gave \(1, 1, 1\) for 1 clips"),
        ("nan", "finite", "NaN or infinite"),
        ("dropout", "repeatable", "dropout left on"),
        ("mean over the batch", "batch", "statistics over the batch"),
        ("batch norm", "batch", "statistics over the batch"),
        ("detached", "gradient", "detach"),
        ("train()", "as found", "norm"),
        ("relu_ on the clip", "as found", "writes into the clips"),
    ],
)
def test_a_planted_fault_is_named_by_the_line_that_fails(fault, line, words):
    lines = lines_of(fault)
    assert named(lines)[0] == line
    # Of a clip that is written into, no gradient can be had either.
    assert set(named(lines)) <= {line, *(["gradient"] if fault == "relu_ on the clip" else [])}
    assert re.search(words, told(lines, line))


@pytest.mark.parametrize(
    ("n_logits", "target", "words"),
    [(1, 1, "one logit: sigmoid"), (2, 0, "2"), (5, 3, "5"), (2, 2, "2 classes"), (5, 7, "5 cl")],
)
def test_any_number_of_logits_is_no_fault_but_a_class_that_is_not_there(n_logits, target, words):
    lines, absent = lines_of(n_logits=n_logits, target=target), target >= max(n_logits, 2)
    assert named(lines) == ["target"] * absent
    assert words in told(lines, "target" if absent else "logits")
    if not absent:  # LRP has no rule for "all other classes together"
        assert named(lines, "limits") == ["method lrp"] * (n_logits > 2)
        assert "grad_cam: {layer: again}" in told(lines, "layer")


def test_relus_in_place_serve_as_modules_and_are_missed_as_functions():
    inside = lines_of("relu module in place")
    assert not named(inside) + named(inside, "limits") and "1 work in place" in told(
        inside, "ReLUs"
    )
    functions = lines_of("relu_ inside")
    assert not named(functions) and "1 of 2 are no modules" in told(functions, "ReLUs")
    # Two methods name the limit: one by the count, one by its own rules.
    assert named(functions, "limits") == ["ReLUs", "method lrp"]
    # What serves in place gives the map that it gives otherwise.
    maps, clip = [], torch.rand(3, *SHAPE) * 2 - 1
    for fault in ("", "relu module in place"):
        torch.manual_seed(0)
        model = Net(fault).eval()
        maps += [conformance.attribute(model, clip, "guided_backprop").map]
    assert np.array_equal(*maps) and maps[0].any()


def test_a_network_without_relus_and_layers_is_limited_not_refused():
    size = (4, 16, 24)
    lines = conformance.check_model(
        networks.video_transformer, args={"size": size, "width": 16, "depth": 1}, shape=size
    )
    assert not named(lines)
    limits = {"ReLUs", "method guided_backprop", "method lrp", "method grad_cam_pp"}
    assert set(named(lines, "limits")) == limits
    flat = conformance.check_model(
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(3 * 4 * 16 * 24, 2)), shape=size
    )
    assert not named(flat) and "layer" in named(flat, "limits")


def test_code_that_cannot_be_called_or_gives_no_module_is_one_line():
    for make, words in ((lambda: 3, "made a int"), (lambda: 1 / 0, "ZeroDivisionError")):
        (line,) = conformance.check_model(make, shape=SHAPE)
        assert line.state == "fails" and words in line.told
    (line,) = conformance.check_method(3, shape=SHAPE)
    assert "no MethodSpec" in line.told
    (line,) = conformance.check_metric(3, shape=SHAPE)
    assert "give a Metric" in line.told


def test_a_chain_is_told_and_its_logits_compared():
    class Chained(Net):
        def chain(self):
            # It fits its network in `head` alone, so that only the comparison is asked.
            return Chain((), lambda clips: self(clips) + float(self.fault or 0))

    (one,) = named(conformance.check_model(Chained, args={"n_logits": 1}, shape=SHAPE))
    assert one == "chain"
    for shift, failing in (("", []), ("1", ["chain"])):
        lines = conformance.check_model(Chained, args={"fault": shift}, shape=SHAPE)
        assert named(lines) == failing
        if failing:
            assert told(lines, "chain") == "chain() gives other logits"


def noisy(probability, clip, baseline):
    return own_method.moving_gradient(probability, clip, baseline) + torch.from_numpy(
        np.random.default_rng().normal(size=clip.shape[1:])
    )


def hooking(probability, clip, baseline):
    probability.model[0].register_forward_hook(lambda *_: None)
    return own_method.moving_gradient(probability, clip, baseline)


def by_batch(probability, clip, baseline):
    part = own_method.moving_gradient(probability, clip, baseline)
    return part * probability.batch_size


def test_every_method_of_the_package_keeps_its_own_rules():
    few = {"n_steps": 2, "n_samples": 4, "n_segments": 6, "alpha": 0.0, "layer": "3"}
    few |= {"window": (2, 8, 8), "stride": (2, 8, 8)}
    for key, spec in METHODS.items():
        args = {name: few[name] for name in spec.settings if name in few}
        assert not named(conformance.check_method(spec, args=args, shape=SHAPE)), key


def _score(attribution, *, mask, clip, baseline, predict):
    return float(attribution[mask].mean()) if mask.any() else float("nan")


def _writing(attribution, **scene):
    attribution *= 0
    return 0.5


SOUND = replace(own_metric.METRIC, range=(-9.0, 9.0), score=_score, direction="higher")


METHOD_FAULTS = [
    (own_method.moving_gradient, None, "ok"),
    (lambda probability, clip, baseline: clip, "map", "fails"),
    (lambda probability, clip, baseline: clip[0] / 0, "map", "fails"),
    (lambda probability, clip, baseline: 0 * clip[0], "not zero", "fails"),
    (noisy, "repeatable", "fails"),
    (hooking, "as found", "fails"),
    (by_batch, "batch of one", "fails"),
    (lambda probability, clip, baseline: clip[0], "calls", "limits"),
]


@pytest.mark.parametrize(
    ("changes", "line", "state"),
    [
        *(({"attribute": function}, *said) for function, *said in METHOD_FAULTS),
        ({}, None, "ok"),
        ({"range": (0.0, 0.5)}, "numbers", "fails"),
        ({"score": lambda attribution, **scene: attribution}, "numbers", "fails"),
        ({"score": lambda attribution, **scene: 1 / 0}, "numbers", "fails"),
        ({"score": lambda *_, **scene: np.random.default_rng().random()}, "repeatable", "fails"),
        ({"score": _writing}, "as found", "fails"),
        ({"direction": "lower"}, "direction", "limits"),
        ({"direction": None}, None, "ok"),
        ({"key": "n_moving"}, "table", "fails"),
        ({"key": "auc"}, "made", "fails"),
    ],
)
def test_faults_of_a_method_and_of_a_metric(changes, line, state):
    kind, sound = ("method", own_method.SPEC) if "attribute" in changes else ("metric", SOUND)
    before = dict(METHODS), dict(METRICS)
    lines = getattr(conformance, f"check_{kind}")(replace(sound, **changes), shape=SHAPE)
    assert before == (METHODS, METRICS)
    assert [n.name for n in lines if n.state == state != "ok"][:1] == [line] * bool(line)
    assert line or {n.state for n in lines} == {"ok"}


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["model", "examples/networks.py:r2plus1d"], 0, "306,226 weights"),
        (["model", "examples/networks.py:r2plus1d", "--args", "{n_logits: 1}"], 0, "sigmoid"),
        (["model", "examples/networks.py:r2plus1d", "--target", "2"], 2, "target: class 2"),
        (["method", "examples/own_method.py:SPEC"], 0, "repeatable"),
        (["metric", "examples/own_metric.py:METRIC"], 0, "direction"),
        (["metric", "examples/own_method.py:SPEC"], 2, "give a Metric"),
        (["thing", "examples/own_method.py:SPEC"], 2, "no such kind"),
        (["model", "examples/networks.py:no"], 2, "has no no"),
        (["model", "examples/networks.py:r2plus1d", "--size", "12"], 2, "--size HxW"),
        (["model", "examples/networks.py:r2plus1d", "--args", "[1"], 2, "not YAML"),
    ],
)
def test_the_command(arguments, status, words, vad, monkeypatch):
    monkeypatch.chdir(ROOT)
    size = [] if "--size" in arguments else ["--size", "16x24"]
    ended, out, err = vad("check", *arguments, "--frames", "4", *size)
    assert ended == status and words in out + err
    assert err.count("\n") == (status == 2)
