"""Seconds, agreement, work and memory of every method: plain Captum beside ours."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import re
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks import machine, plain_captum
from vad_helpers import tables
from vad_helpers.attribution import METHODS, Explanation, attribute, baselines
from vad_helpers.attribution.probability import seeded
from vad_helpers.inference.prepared import (
    PRECISIONS,
    Prepared,
    computes_bf16,
    prepare,
    side_by_side,
    synchronize,
)
from vad_helpers.metrics import model_centric
from vad_helpers.model.training import TrainingSpec
from vad_helpers.run import steps
from vad_helpers.run.experiment import ENGINE, probability_of, quickest, time_work

COARSER = (2, 2, 2)
"""Captum's Occlusion_sp is timed on a grid this much coarser, and scaled by the windows."""

SLOW = ("ig_smoothgrad", "occlusion_sp")
"""Timed `slow_repeats` times: each is long enough to average over the machine's moods itself."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is explained, and how.

    Attributes
    ----------
    network : nn.Module
        In evaluation mode, float32, on the device.
    clip : Tensor (3, T, H, W)
    settings : dict
        Method -> settings that differ from the paper's.
    """

    network: nn.Module
    clip: Tensor
    settings: dict[str, dict[str, Any]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def stock(self) -> nn.Module:
        """The network of stock PyTorch layers, which plain Captum is timed on."""
        return plain_captum.stock(self.network)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.clip.device

    def options(self, method: str) -> dict[str, Any]:
        """All settings of a method."""
        return {**METHODS[method].settings, **self.settings.get(method, {})}


def rows(
    subject: Subject,
    methods: list[str],
    *,
    peaks: dict[str, float],
    repeats: int,
    slow_repeats: int,
) -> Iterator[dict[str, Any]]:
    """Measure every method; implementations take turns, so that all see the same machine.

    Parameters
    ----------
    subject : Subject
    methods : list of str
    peaks : dict
        From `peak_gflops`.
    repeats, slow_repeats : int
        Timed runs of each implementation.

    Yields
    ------
    dict
        One a method, in the schema of `benchmarks/results`; then "scoring", all that one map's
        faithfulness scores ask, and "whole_clip": every method and the scoring of its map. Nothing
        of bf16 where the device only emulates it, which would take hours. Of Captum's side, the
        scores are asked of the network of stock layers.
    """
    ours = {p: prepare(subject.network, precision=p) for p in precisions(subject.device)}
    seconds = unit_seconds(subject)
    printed = tables.paper().query("metric == 'seconds'").set_index("row")["paper"].to_dict()
    done = []
    for method in methods:
        n = slow_repeats if method in SLOW else repeats
        row = {"method": method, "name": METHODS[method].name, "repeats": n}
        row |= {"paper_s": printed.get(method)}
        row |= _timed(subject, ours | _auto(subject, ours, method, seconds), method, n)
        row |= _work(subject, ours, method)
        for precision in ours:
            rate = row["ours_gflop"] / row[f"ours_{precision}_s"]
            row[f"peak_share_{precision}"] = rate / peaks[precision]
        done.append(row)
        yield row
    scoring = _scoring(subject, ours | _auto(subject, ours, "", seconds))
    yield scoring
    whole = {name: sum(row[name] + scoring[name] for row in done) for name in seconds_of(scoring)}
    yield {"method": "whole_clip", "name": "A whole clip", "methods": methods} | _speedups(whole)


def unit_seconds(subject: Subject) -> dict[str, dict[str, float]]:
    """Seconds of each kind of work, by precision and engine, by which a run would decide."""
    clips = torch.stack([subject.clip, subject.clip.flip(1)])
    works = ("forward", "gradient", "occlusion")
    return {w: time_work(subject.network, w, clips, spec=TrainingSpec()) for w in works}


def _auto(
    subject: Subject, ours: dict[str, Prepared], method: str, seconds: dict[str, dict[str, float]]
) -> dict[str, Prepared]:
    """What a run takes of itself for a method, or for scoring (""), under the name "auto"."""
    work = steps.work_of(METHODS[method]) if method else "forward"
    usual = METHODS[method].precision if method else "bf16"
    precision, engine = quickest(seconds[work], PRECISIONS if usual == "bf16" else [usual])
    if engine == ENGINE:
        return {"auto": ours[precision]}
    return {"auto": prepare(subject.network, precision=precision, engine=engine)}


def _scoring(subject: Subject, ours: dict[str, Prepared], repeats: int = 1) -> dict[str, Any]:
    """Row of the scores of deletion and insertion, SRG of blocks too, of a map by Guided
    Backpropagation, the cheapest."""
    values = _ours(subject, ours["fp32"], "guided_backprop").map
    fill, device = baselines.make("blur", subject.clip), str(subject.device)
    blocks = {"areas": model_centric.BLOCK_AREAS, "block": model_centric.BLOCK}

    def score(predict: Callable[[Tensor], Any]) -> None:
        asked = predict, subject.clip, fill, values
        model_centric.both_axes(*asked, n_steps=20, batch_size=2)
        model_centric.area_matched(*asked, **blocks, batch_size=2)

    stock = plain_captum.AnomalyProbability(subject.stock)
    ways: dict[str, Callable[[Tensor], Any]] = {"captum_fp32": torch.no_grad()(stock)}
    ways |= {f"ours_{name}": probability_of(ready, device) for name, ready in ours.items()}
    runs = {f"{name}_s": functools.partial(score, predict) for name, predict in ways.items()}
    medians = side_by_side(runs, device=subject.device, repeats=repeats)
    row = {"method": "scoring", "name": "Scores of one map", "repeats": repeats}
    return row | _speedups(medians) | {"auto": _name(ours["auto"])}


def seconds_of(row: dict[str, Any]) -> list[str]:
    """Keys of a row's seconds by implementation."""
    return [name for name in row if re.fullmatch(r"(captum|ours)_[a-z0-9]+_s", name)]


def captum_calls(subject: Subject, method: str) -> int:
    """Clips that plain Captum puts through the network for a method, as it is timed."""
    options, shape = subject.options(method), tuple(subject.clip.shape)
    changed, _ = coarse(subject, method)
    return METHODS[method].model_calls(options | changed, shape, options.get("n_segments"))


def _name(ready: Prepared) -> str:
    return f"{ready.precision} {ready.engine}"


def _speedups(seconds: dict[str, float]) -> dict[str, float]:
    """Seconds by implementation, and how many times as fast as Captum's each of ours is."""
    names = [name.removeprefix("ours_").removesuffix("_s") for name in seconds if "ours" in name]
    return seconds | {
        f"speedup_{n}": seconds["captum_fp32_s"] / seconds[f"ours_{n}_s"] for n in names
    }


def precisions(device: torch.device) -> tuple[str, ...]:
    """Precisions that are worth timing on a device."""
    return ("fp32", "bf16") if computes_bf16(device) else ("fp32",)


def peak_gflops(device: torch.device) -> dict[str, float]:
    """Measured matrix-product peak by precision."""
    size = 8192 if device.type == "cuda" else 3072
    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {
        name: machine.matmul_gflops(device, types[name], size=size) for name in precisions(device)
    }


def forward_seconds(subject: Subject, *, repeats: int = 4) -> dict[str, float]:
    """Seconds of one clip forward in fp32: of stock layers, of this project's, prepared."""
    networks = {
        "stock_layers": subject.stock,
        "this_project": subject.network,
        "prepared": prepare(subject.network),
    }
    clips = subject.clip[None]
    ways = {name: functools.partial(network, clips) for name, network in networks.items()}
    with torch.no_grad():
        return side_by_side(ways, device=subject.device, repeats=repeats)


def _timed(
    subject: Subject, ours: dict[str, Prepared], method: str, repeats: int
) -> dict[str, Any]:
    """Seconds by implementation, how much faster ours is, and whether the maps agree.

    What "auto" takes is not timed again where it is one of the others.
    """
    auto = ours["auto"]
    twin = next((name for name in PRECISIONS if ours.get(name) is auto), None)
    changed, scale = coarse(subject, method)
    runs: dict[str, Callable[[], Any]] = {"captum_fp32": lambda: _captum(subject, method, changed)}
    for p, prepared in ours.items():
        if p != "auto" or twin is None:
            runs[f"ours_{p}"] = lambda m=prepared: _ours(subject, m, method)
    if method not in SLOW:  # warm, and with batch sizes measured
        for run in runs.values():
            run()
    seconds: dict[str, list[float]] = {whose: [] for whose in runs}
    found: dict[str, Any] = {}
    for _ in range(repeats):
        for whose, run in runs.items():
            found[whose], spent = _clocked(subject, run)
            seconds[whose].append(spent * (scale if whose == "captum_fp32" else 1))
    if twin is not None:
        seconds["ours_auto"] = seconds[f"ours_{twin}"]
    medians = {f"{whose}_s": statistics.median(times) for whose, times in seconds.items()}
    maps = {whose: one if whose == "captum_fp32" else one.map for whose, one in found.items()}
    # Compare what both computed.
    same = _ours(subject, ours["fp32"], method, **changed).map if changed else maps["ours_fp32"]
    agreed = {"agreement_fp32": agreement(maps["captum_fp32"], same)}
    if "bf16" in ours:
        agreed["agreement_bf16"] = agreement(maps["ours_fp32"], maps["ours_bf16"])
    return {
        **_speedups(medians),
        **{f"{whose}_all_s": times for whose, times in seconds.items()},
        "captum_scaled_by": scale,
        "auto": _name(auto),
        **agreed,
        "model_calls": found["ours_fp32"].model_calls,
    }


def agreement(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation over voxels; None where a map is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b, axis=None).statistic)


def coarse(subject: Subject, method: str) -> tuple[dict[str, Any], float]:
    """Settings that Captum is timed with where they differ, and all windows over theirs."""
    if method != "occlusion_sp":
        return {}, 1.0
    options, shape = subject.options(method), tuple(subject.clip.shape)
    changed = {"stride": tuple(a * b for a, b in zip(options["stride"], COARSER, strict=True))}
    calls = METHODS[method].model_calls
    return changed, calls(options, shape, None) / calls({**options, **changed}, shape, None)


def _captum(subject: Subject, method: str, changed: dict[str, Any]) -> np.ndarray:
    model = plain_captum.AnomalyProbability(subject.stock)
    fill = baselines.make("blur", subject.clip)
    with seeded(0, subject.device), quiet():
        found = plain_captum.METHODS[method](
            model, subject.clip, fill, **{**subject.options(method), **changed}
        )
    return found.detach().cpu().numpy()


def _ours(subject: Subject, prepared: Prepared, method: str, **changed: Any) -> Explanation:
    options = {**subject.settings.get(method, {}), **changed}
    with quiet():
        return attribute(prepared, subject.clip, method, precision=prepared.precision, **options)


def _clocked(subject: Subject, function: Callable[[], Any]) -> tuple[Any, float]:
    synchronize(subject.device)
    start = time.perf_counter()
    found = function()
    synchronize(subject.device)
    return found, time.perf_counter() - start


def _work(subject: Subject, ours: dict[str, Prepared], method: str) -> dict[str, float]:
    """Billions of operations, and peak memory in gigabytes.

    Ours are counted, in fp32: bf16 fills tiles with zeros where that is faster, which is no work.
    Captum's are its calls of the counted network. Of slow methods a fraction is run, and scaled.
    """
    options, shape = subject.options(method), tuple(subject.clip.shape)
    changed, scale = coarse(subject, method)
    if method == "ig_smoothgrad":
        changed, scale = {"n_samples": 1}, float(options["n_samples"])
    with FlopCounter() as counter:
        _ours(subject, ours["fp32"], method, **changed)
    calls = METHODS[method].model_calls(options, shape, options.get("n_segments"))
    forward, backward = network_gflop(subject)
    found = {
        "ours_gflop": counter.total * scale / 1e9,
        "captum_gflop": calls
        * (forward + (backward if METHODS[method].family == "gradient" else 0)),
    }
    for p, prepared in ours.items():
        run = lambda m=prepared: _ours(subject, m, method, **changed)  # noqa: E731
        found[f"peak_{p}_gb"] = machine.peak_of(run, subject.device) / 1e9
    return found


def network_gflop(subject: Subject) -> tuple[float, float]:
    """Billions of operations of one clip forward, and back to the clip."""
    clips = subject.clip[None].clone().requires_grad_()
    with FlopCounter() as counter:
        p = subject.network(clips).softmax(dim=1)[:, 1].sum()
        forward = counter.total
        torch.autograd.grad(p, clips)
    return forward / 1e9, (counter.total - forward) / 1e9


class FlopCounter(TorchDispatchMode):
    """Operations by PyTorch's formulas, of this thread, in which all work is kept meanwhile.

    PyTorch's own `FlopCounterMode` also follows modules, by hooks under which `autograd.grad`
    with respect to a module's input fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total, self._threads = 0, torch.get_num_threads()

    def __enter__(self) -> FlopCounter:
        """Begin to count."""
        torch.set_num_threads(1)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        """Give the threads back."""
        super().__exit__(*error)
        torch.set_num_threads(self._threads)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Captum's remarks about hooks and batch sizes, and ours about zero maps, are no news here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
