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
from tqdm.auto import tqdm

from benchmarks import machine, plain_captum
from vad_helpers import store
from vad_helpers.attribution import METHODS, attribute, baselines
from vad_helpers.attribution.probability import seeded
from vad_helpers.inference.prepared import Prepared, prepare
from vad_helpers.model.prediction import computes_bf16

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
    repeats: int,
    slow_repeats: int,
    progress: bool,
    done: Callable[[dict[str, Any]], object] | None = None,
) -> list[dict[str, Any]]:
    """Measure every method; implementations take turns, so that all see the same machine.

    Parameters
    ----------
    subject : Subject
    methods : list of str
    repeats, slow_repeats : int
        Timed runs of each implementation.
    progress : bool
    done : callable, optional
        Told every row as soon as it is there.

    Returns
    -------
    list of dict
        One a method, in the schema of `benchmarks/results`; nothing of bf16 where the device only
        emulates it, which would take hours.
    """
    ours = {p: prepare(subject.network, precision=p) for p in precisions(subject.device)}
    peaks = peak_gflops(subject.device)
    found = []
    for method in tqdm(methods, desc="bench", disable=not progress):
        n = slow_repeats if method in SLOW else repeats
        row = {"method": method, "name": METHODS[method].name, "repeats": n}
        row |= _timed(subject, ours, method, n)
        row |= _work(subject, ours["fp32"], method)
        row |= _memory(subject, ours, method)
        for precision in ours:
            rate = row["ours_gflop"] / row[f"ours_{precision}_s"]
            row[f"peak_share_{precision}"] = rate / peaks[precision]
        found.append(row)
        if done:
            done(row)
        if progress:
            tqdm.write(summary(row))
    return found


def precisions(device: torch.device) -> tuple[str, ...]:
    """Precisions that are worth timing on a device."""
    return ("fp32", "bf16") if computes_bf16(device) else ("fp32",)


def summary(row: dict[str, Any]) -> str:
    """One line about a row, for who watches."""
    ours = [
        f"ours {p} {row[f'ours_{p}_s']:7.2f} s ({row[f'speedup_{p}']:.1f}x), "
        f"rank agreement {_spelled(row[f'agreement_{p}'])}"
        for p in ("fp32", "bf16")
        if f"ours_{p}_s" in row
    ]
    return f"{row['method']:16} Captum {row['captum_fp32_s']:8.2f} s  " + "  ".join(ours)


def _spelled(agreed: float | None) -> str:
    return "–" if agreed is None else f"{agreed:.5f}"


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
    seconds: dict[str, list[float]] = {"captum_fp32": [], **{f"ours_{p}": [] for p in ours}}
    maps: dict[str, np.ndarray] = {}
    scale = captum_scale(subject, method)
    if method not in SLOW:
        _captum(subject, method)
    for precision, prepared in ours.items():  # warm, and with batch sizes measured
        if method not in SLOW:
            _ours(subject, prepared, method, precision)
    for _ in range(repeats):
        maps["captum"], spent = _clocked(subject, lambda: _captum(subject, method))
        seconds["captum_fp32"].append(spent * scale)
        for precision, prepared in ours.items():
            run = lambda p=precision, m=prepared: _ours(subject, m, method, p)  # noqa: E731
            found, spent = _clocked(subject, run)
            maps[precision], calls = found
            seconds[f"ours_{precision}"].append(spent)
    medians = {f"{key}_s": statistics.median(times) for key, times in seconds.items()}
    spread = {f"{key}_all_s": times for key, times in seconds.items()}
    if scale != 1:  # compare what both computed
        same = dict(coarse(subject, method))
        maps["again"], _ = _ours(subject, ours["fp32"], method, "fp32", **same)
    return {
        **medians,
        **spread,
        "captum_scaled_by": scale,
        **{f"speedup_{p}": medians["captum_fp32_s"] / medians[f"ours_{p}_s"] for p in ours},
        "agreement_fp32": agreement(maps["captum"], maps.get("again", maps["fp32"])),
        **({"agreement_bf16": agreement(maps["fp32"], maps["bf16"])} if "bf16" in ours else {}),
        "model_calls": calls,
        "paper_s": _paper_seconds().get(method),
    }


def agreement(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation over voxels; None where a map is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b, axis=None).statistic)


def captum_scale(subject: Subject, method: str) -> float:
    """Windows of a method over those that Captum is timed on."""
    if method != "occlusion_sp":
        return 1.0
    spec, shape = METHODS[method], tuple(subject.clip.shape)
    full = spec.model_calls(subject.options(method), shape, None)
    return full / spec.model_calls(
        {**subject.options(method), **coarse(subject, method)}, shape, None
    )


def coarse(subject: Subject, method: str) -> dict[str, Any]:
    """Settings that Captum is timed with, where they differ."""
    if method != "occlusion_sp":
        return {}
    stride = subject.options(method)["stride"]
    return {"stride": tuple(a * b for a, b in zip(stride, COARSER, strict=True))}


def _captum(subject: Subject, method: str) -> np.ndarray:
    model = plain_captum.AnomalyProbability(subject.stock)
    fill = baselines.make("blur", subject.clip)
    options = {**subject.options(method), **coarse(subject, method)}
    with seeded(0, subject.device), quiet():
        found = plain_captum.METHODS[method](model, subject.clip, fill, **options)
    return found.detach().cpu().numpy()


def _ours(
    subject: Subject, prepared: Prepared, method: str, precision: str, **changed: Any
) -> tuple[np.ndarray, int]:
    options = {**subject.settings.get(method, {}), **changed}
    with quiet():
        found = attribute(prepared, subject.clip, method, precision=precision, **options)
    return found.map, found.model_calls


def _clocked(subject: Subject, function: Any) -> tuple[Any, float]:
    machine.synchronize(subject.device)
    start = time.perf_counter()
    found = function()
    machine.synchronize(subject.device)
    return found, time.perf_counter() - start


def _work(subject: Subject, prepared: Prepared, method: str) -> dict[str, float]:
    """Billions of operations: ours counted, Captum's by its calls of the counted network.

    Counted in fp32: bf16 fills tiles with zeros where that is faster, which is no work.
    """
    forward, backward = _network_gflop(subject)
    gradient = METHODS[method].family == "gradient"
    options, shape = subject.options(method), tuple(subject.clip.shape)
    calls = METHODS[method].model_calls(options, shape, options.get("n_segments"))
    changed, scale = _shortened(subject, method)
    with one_thread(), FlopCounter() as counter:
        _ours(subject, prepared, method, prepared.precision, **changed)
    return {
        "ours_gflop": counter.total * scale / 1e9,
        "captum_gflop": calls * (forward + backward if gradient else forward),
    }


def _shortened(subject: Subject, method: str) -> tuple[dict[str, Any], float]:
    """Settings that take a fraction of the work, and its inverse."""
    if method == "ig_smoothgrad":
        return {"n_samples": 1}, float(subject.options(method)["n_samples"])
    return coarse(subject, method), captum_scale(subject, method)


def _network_gflop(subject: Subject) -> tuple[float, float]:
    clips = subject.clip[None].clone().requires_grad_()
    with one_thread(), FlopCounter() as counter:
        p = subject.network(clips).softmax(dim=1)[:, 1].sum()
        forward = counter.total
        torch.autograd.grad(p, clips)
    return forward / 1e9, (counter.total - forward) / 1e9


class FlopCounter(TorchDispatchMode):
    """Operations of this thread by PyTorch's formulas.

    PyTorch's own `FlopCounterMode` also follows modules, by hooks under which `autograd.grad`
    with respect to a module's input fails.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count it."""
        result = func(*args, **(kwargs or {}))
        count = flop_registry.get(func._overloadpacket)
        if count is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Keep all work in this thread, where operations are counted."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _memory(subject: Subject, ours: dict[str, Prepared], method: str) -> dict[str, float]:
    changed, _ = _shortened(subject, method)
    return {
        f"peak_{precision}_gb": machine.peak_of(
            lambda p=precision, m=prepared: _ours(subject, m, method, p, **changed), subject.device
        )
        / 1e9
        for precision, prepared in ours.items()
    }


def _paper_seconds() -> dict[str, float]:
    table = store.paper_table(2)
    return table[table["metric"] == "seconds"].set_index("method")["paper"].to_dict()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Captum's remarks about hooks and batch sizes, and ours about zero maps, are no news here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
