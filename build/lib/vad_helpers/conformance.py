"""Does code of one's own keep what a run relies on? Networks, methods and metrics, tried briefly.

A check gives a line a property. "fails": a run needs it. "limits": some methods are left out, or a
plan or a ranking misleads. What makes no sense after an earlier failure is left out.
"""

from __future__ import annotations

import itertools
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vad_helpers.attribution.registry import METHODS, MethodSpec, attribute, register
from vad_helpers.errors import InputError
from vad_helpers.inference.prepared import evaluating, side_by_side
from vad_helpers.metrics import catalog, evaluate
from vad_helpers.model.adapter import n_classes, two_logits

SAME = 1e-3
"""Largest change that counts as rounding, as a share of the largest value: a batch of another size
adds in another order, by which float32 logits move by 1e-7 to 1e-4 of their size. Statistics over
the batch move them by a tenth or more."""
Shape = tuple[int, int, int]
SHAPE = (16, 80, 120)


class Line(NamedTuple):
    """What became of a property: its name, "ok", "limits" or "fails", and what there is to say."""

    name: str
    state: str
    told: str


class _Lines(list):
    @contextmanager
    def of(self, name: str, bad: str = "fails") -> Iterator[Callable[[str], None]]:
        """Add the line of a property: what is told inside, or the error by which it fails."""
        told: list[str] = []
        try:
            with warnings.catch_warnings(action="ignore"):
                yield told.append
            self.append(Line(name, "ok", "; ".join(told)))
        except Exception as error:  # whatever the user's code raises
            words = (str(error).splitlines() or [""])[0]
            kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
            self.append(Line(name, bad, kind + words))

    @property
    def failed(self) -> bool:
        return any(line.state == "fails" for line in self)


def _expect(holds: object, told: str) -> None:
    if not holds:
        raise InputError(told)


def _same(a: Any, b: Any) -> bool:
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return a.shape == b.shape and bool(np.abs(a - b).max() <= SAME * (np.abs(b).max() + SAME))


def _clips(n: int, shape: Shape) -> Tensor:
    """Grey noise (n, 3, T, H, W), of another mean and contrast a clip: batch statistics show."""
    drawn = torch.rand((n, 1, *shape), generator=torch.Generator().manual_seed(0)) * 2 - 1
    contrast = torch.linspace(1, 0.5, n).view(-1, 1, 1, 1, 1)
    return (drawn * contrast + 1 - contrast).repeat(1, 3, 1, 1, 1)


def _state(model: nn.Module) -> dict[str, Any]:
    """What a call must leave as it is: weights, and the mode and hooks of each module."""
    found: dict[str, Any] = {name: value.clone() for name, value in model.state_dict().items()}
    for name, module in model.named_modules():
        hooks = [len(v) for k, v in vars(module).items() if k.endswith("_hooks")]
        frozen = [p.requires_grad for p in module.parameters(recurse=False)]
        found[f"mode or hooks of {name or 'the network'}"] = module.training, hooks, frozen
    return found


def _as_found(before: dict[str, Any], model: nn.Module) -> None:
    for name, now in _state(model).items():
        same = torch.equal(now, before[name]) if isinstance(now, Tensor) else now == before[name]
        _expect(same, f"a call changes {name}")


def check_model(
    make: Callable[..., Any],
    *,
    args: Mapping[str, Any] | None = None,
    shape: Shape = SHAPE,
    target: int = 1,
) -> list[Line]:
    """Try a network on noise, with the weights that it is made with.

    Parameters
    ----------
    make : callable
        (**args) -> torch.nn.Module, as a run's `model` with its `model_args`.
    shape : tuple of int
        (T, H, W) of a clip.
    target : int
        The class "anomalous", if there are more than two.
    """
    lines, clips, model = _Lines(), _clips(3, shape), nn.Module()

    def ask(n: int) -> Tensor:
        with evaluating(model), torch.no_grad():
            return model(clips[:n].clone())

    with lines.of("made") as tell:
        model = make(**args or {})
        _expect(isinstance(model, nn.Module), f"made a {type(model).__name__}, no torch.nn.Module")
        tell(f"{type(model).__name__}, {sum(p.numel() for p in model.parameters()):,} weights")
    if not lines.failed:
        with lines.of("logits") as tell:
            classes = {n_classes(ask(n), n) for n in (1, 3)}
            _expect(len(classes) == 1, f"{sorted(classes)} classes, by the number of clips")
            tell("one logit: sigmoid" if classes == {1} else f"{max(classes)} logits: softmax")
    if not lines.failed:
        with lines.of("target") as tell:
            tell(f"class {target}" * (n_classes(ask(1), 1, target=target) > 1))
        with lines.of("finite"):
            _expect(ask(3).isfinite().all(), "logits of noise in [-1, 1] are NaN or infinite")
    if lines.failed:
        return lines
    with lines.of("repeatable"):
        told = "one clip, two answers: is dropout left on, or a layer in training mode?"
        _expect(_same(ask(3), ask(3)), told)
    if not lines.failed:
        with lines.of("batch"):
            told = "a clip's logits depend on those beside it: are there statistics over the batch?"
            _expect(all(_same(ask(n)[:1], ask(1)) for n in (2, 3)), told)
    with lines.of("as found"), evaluating(model), torch.no_grad():
        given, before = clips.clone(), _state(model)
        model(given)
        _expect(given.equal(clips), "writes into the clips that it is given")
        _as_found(before, model)
    with lines.of("gradient"), evaluating(model):
        given = clips[:1].clone().requires_grad_()
        logit, found = model(given).reshape(-1)[-1], None
        if logit.requires_grad:
            (found,) = torch.autograd.grad(logit, given, allow_unused=True)
        _expect(found is not None, "none reaches the clip: is there a detach() or no_grad()?")
        _expect(found.any(), "at the clip it is zero everywhere")
        _expect(found.isfinite().all(), "at the clip it is NaN or infinite")
    with lines.of("chain") as tell, evaluating(model), torch.no_grad():
        has, two = hasattr(model, "chain"), classes == {2} and target == 1
        _expect(two or not has, "with chain() it must give two logits, normal and anomalous")
        _expect(not has or _same(model.chain()(clips), ask(3)), "chain() gives other logits")
        tell("exact short cuts" if has else "none, methods ask the whole network")
    if not lines.failed:
        _limits(lines, two_logits(model, target=target), clips[:1])
    return lines


class _CountRelus(TorchFunctionMode):
    n = 0

    def __torch_function__(self, func, types, args=(), kwargs=None) -> Any:
        self.n += func.__name__ in ("relu", "relu_")
        return func(*args, **kwargs or {})


def _limits(lines: _Lines, model: nn.Module, clip: Tensor) -> None:
    """Lines about ReLUs, layers, every gradient method (others need logits alone), and cost."""
    relus, maps = [], []

    def keep(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(module, nn.ReLU):
            relus.append(name + " in place" * module.inplace)
        if name and isinstance(output, Tensor) and output.ndim == 5 and output[0, 0].numel() > 1:
            maps.append((name, bool((output >= 0).all())))

    with evaluating(model), torch.no_grad(), _CountRelus() as counted, ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.enter_context(module.register_forward_hook(partial(keep, name)))
        model(clip.clone())
    with lines.of("ReLUs", "limits") as tell:
        _expect(counted.n, "none: guided_backprop has none to guide through")
        others = f"{counted.n - len(relus)} of {counted.n} are no modules"
        _expect(counted.n == len(relus), f"{others}: guided_backprop misses them")
        tell(f"{counted.n} modules")
        if inside := [name for name in relus if name.endswith(" in place")]:
            tell(f"{len(inside)} work in place, which serves: {inside[0].split()[0]} ...")
    n, layers = Counter(name for name, _ in maps), {}
    for name, positive in maps:  # the last one that serves
        keys = ["grad_cam", "hirescam", "layercam", *["grad_cam_pp"] * positive]
        layers |= dict.fromkeys(keys if n[name] == 1 else (), name)
    with lines.of("layer", "limits") as tell:
        _expect(layers, "none gives (N, K, t, h, w), once: class activation maps are left out")
        tell(", ".join(f"{key}: {{layer: {name}}}" for key, name in layers.items()))
    for key, spec in METHODS.items():
        if spec.family == "gradient":
            with lines.of(f"method {key}", "limits"):
                fewer = {name: 1 for name in ("n_steps", "n_samples") if name in spec.settings}
                if "layer" in spec.settings:
                    _expect(key in layers, "no layer serves it, such as one behind a ReLU")
                    fewer["layer"] = layers[key]
                found = attribute(model, clip[0], key, batch_size=1, **fewer).map
                # The variance of a single copy is zero.
                _expect(found.any() or key == "vargrad", "its map is zero everywhere")
    batch = clip.clone().requires_grad_()
    with lines.of("cost") as tell, evaluating(model):
        both = {"forward": lambda: model(clip), "and back": lambda: model(batch)[:, 1].backward()}
        seconds = side_by_side(both, device=clip.device, repeats=1).items()
        tell(", ".join(f"{name} {value:.2g} s" for name, value in seconds) + " a clip")


def check_method(
    spec: MethodSpec, *, args: Mapping[str, Any] | None = None, shape: Shape = SHAPE
) -> list[Line]:
    """Try a method on a small network and noise of (T, H, W); `args` are its settings."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv3d(3, 4, 3, 2, 1), nn.ReLU(), nn.Conv3d(4, 8, 3, 2, 1), nn.ReLU()]
        layers += [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 2)]
    lines, model, clips = _Lines(), nn.Sequential(*layers), _clips(2, shape)
    before, given = _state(model), clips.clone()

    def explained(i: int, batch_size: int = 4) -> Any:
        return attribute(model, clips[i], spec.key, batch_size=batch_size, **args or {})

    with mock.patch.dict(METHODS):  # put back afterwards
        with lines.of("made") as tell:
            _expect(isinstance(spec, MethodSpec), f"a {type(spec).__name__}, no MethodSpec")
            register(spec, overwrite=METHODS.get(spec.key) is spec)
            tell(f"{spec.name}, of the family {spec.family}")
        if not lines.failed:
            with lines.of("map") as tell:
                first = explained(0)
                tell(f"finite, {first.map.shape}")
        if lines.failed:
            return lines
        with lines.of("not zero"):
            _expect(first.map.any(), "the map is zero everywhere")
        with lines.of("repeatable"):
            _expect(np.array_equal(explained(0).map, first.map), "one seed, two maps")
        with lines.of("second clip"):
            explained(1)
        with lines.of("batch of one"):
            told = "the map changes by more than rounding: is there a mean over the batch?"
            _expect(_same(explained(0, batch_size=1).map, first.map), told)
    with lines.of("as found"):
        _expect(clips.equal(given), "writes into the clip that is explained")
        _as_found(before, model)
    with lines.of("calls", "limits") as tell:
        n = spec.model_calls(first.settings, (3, *shape), first.info.get("n_segments"))
        told = f"counted {first.model_calls}, model_calls() says {n}"
        _expect(n == first.model_calls, f"{told}: plans and bars go by that")
        tell(told)
    return lines


def check_metric(metric: catalog.Metric, *, shape: Shape = SHAPE) -> list[Line]:
    """Try a metric on maps and masks of (T, H, W), with a detector that sees the mask alone."""
    lines, clip, box = _Lines(), _clips(1, shape)[0], np.zeros(shape, dtype=bool)
    box[tuple(slice(n // 4, n // 2 + 1) for n in shape)] = True
    masks = {"": box, ", an empty mask": box & ~box, ", a full mask": box | ~box}
    drawn = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    maps = {"random": drawn, "constant": drawn * 0 + 1, "all-zero": drawn * 0}
    maps |= {"true": box.astype(np.float32), "inverse": (~box).astype(np.float32)}
    scene = {"clip": clip, "baseline": torch.full_like(clip, -1.0)}
    scene["predict"] = lambda x: (2 * x[:, :, torch.from_numpy(box)].mean((1, 2))).sigmoid().numpy()
    found: dict[str, float] = {}

    with mock.patch.dict(catalog.METRICS):  # put back afterwards
        with lines.of("made") as tell:
            catalog.register(metric)
            tell(f"{metric.name}, of the family {metric.family}")
        if not lines.failed:
            with lines.of("numbers") as tell:
                low, high = metric.range
                for (name, values), (of, mask) in itertools.product(maps.items(), masks.items()):
                    value = metric.score(values.copy(), mask=mask.copy(), **scene)
                    told = f"{value!r} for the {name} map{of}; expected {low:g} to {high:g}, or NaN"
                    _expect(not np.ndim(value) and not (value < low or value > high), told)
                    found.setdefault(name, float(value))
                tell(", ".join(f"{name} {value:.3g}" for name, value in found.items()))
        if lines.failed:
            return lines
        given, before = (drawn.copy(), box.copy()), clip.clone()
        with lines.of("repeatable"):
            value = float(metric.score(given[0], mask=given[1], **scene))
            _expect(np.array_equal(value, found["random"], equal_nan=True), "one map, two numbers")
        with lines.of("as found"):
            kept = np.array_equal(given[0], drawn) and np.array_equal(given[1], box)
            _expect(kept and before.equal(clip), "writes into the map, the mask or the clip")
        with lines.of("direction", "limits") as tell:
            true, inverse = found["true"], found["inverse"]
            better = true > inverse if metric.direction == catalog.HIGHER else true < inverse
            told = f"the mask itself as a map {true:.3g}, inverted {inverse:.3g}"
            told = f"{metric.direction}: {told}"
            _expect(better or metric.direction is None, told)
            tell(told if metric.direction else "none, it is never ranked")
        with lines.of("table"):
            scene |= {"changing": box, "moving": box, "n_thresholds": 2, "n_steps": 2}
            table = metric.family.replace("-", "_")
            scored = evaluate.evaluate(drawn, mask=box, own=[metric], **scene)[table]
            n = [line[:2] for line in scored].count(("clip", metric.key))
            _expect(n == 1, f"{table}.csv has {metric.key} already; give another key")
    return lines
