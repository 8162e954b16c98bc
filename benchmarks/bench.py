"""Seconds, agreement, work and memory of every method: plain Captum beside ours."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
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
from vad_helpers.inference.prepared import Prepared, computes_bf16, prepare

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
        One a method, in the schema of `benchmarks/results`; nothing of bf16 where the device only
        emulates it, which would take hours.
    """
    ours = {p: prepare(subject.network, precision=p) for p in precisions(subject.device)}
    printed = tables.paper().query("metric == 'seconds'").set_index("row")["paper"].to_dict()
    for method in methods:
        n = slow_repeats if method in SLOW else repeats
        row = {"method": method, "name": METHODS[method].name, "repeats": n}
        row |= {"paper_s": printed.get(method)}
        row |= _timed(subject, ours, method, n)
        row |= _work(subject, ours, method)
        for precision in ours:
            rate = row["ours_gflop"] / row[f"ours_{precision}_s"]
            row[f"peak_share_{precision}"] = rate / peaks[precision]
        yield row


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


def forward_seconds(subject: Subject, *, repeats: int = 5) -> dict[str, float]:
    """Seconds of one clip forward in fp32: of stock layers, of this project's, prepared."""
    networks = {
        "stock_layers": subject.stock,
        "this_project": subject.network,
        "prepared": prepare(subject.network),
    }
    times: dict[str, list[float]] = {name: [] for name in networks}
    with torch.no_grad():
        for _ in range(repeats):
            for name, network in networks.items():
                _, spent = _clocked(subject, lambda n=network: n(subject.clip[None]))
                times[name].append(spent)
    return {name: statistics.median(spent[1:] or spent) for name, spent in times.items()}


def _timed(
    subject: Subject, ours: dict[str, Prepared], method: str, repeats: int
) -> dict[str, Any]:
    """Seconds by implementation, how much faster ours is, and whether the maps agree."""
    changed, scale = coarse(subject, method)
    runs: dict[str, Callable[[], Any]] = {"captum_fp32": lambda: _captum(subject, method, changed)}
    for p, prepared in ours.items():
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
    medians = {f"{whose}_s": statistics.median(times) for whose, times in seconds.items()}
    maps = {whose: one if whose == "captum_fp32" else one.map for whose, one in found.items()}
    # Compare what both computed.
    same = _ours(subject, ours["fp32"], method, **changed).map if changed else maps["ours_fp32"]
    agreed = {"agreement_fp32": agreement(maps["captum_fp32"], same)}
    if "bf16" in ours:
        agreed["agreement_bf16"] = agreement(maps["ours_fp32"], maps["ours_bf16"])
    return {
        **medians,
        **{f"{whose}_all_s": times for whose, times in seconds.items()},
        "captum_scaled_by": scale,
        **{f"speedup_{p}": medians["captum_fp32_s"] / medians[f"ours_{p}_s"] for p in ours},
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
    machine.synchronize(subject.device)
    start = time.perf_counter()
    found = function()
    machine.synchronize(subject.device)
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
