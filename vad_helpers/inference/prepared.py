"""A model made ready for inference: folded, laid out for its device, spread over the cores."""

from __future__ import annotations

import contextlib
import copy
import importlib.util
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import torch

from vad_helpers.errors import InputError
from vad_helpers.inference.chain import Chain

Model = torch.nn.Module | Callable[[torch.Tensor], torch.Tensor]
Item = TypeVar("Item")
Result = TypeVar("Result")

PRECISIONS = ("fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")  # auto: a GPU if PyTorch sees one
ENGINES = ("torch", "openvino")

MOST_CLIPS = 64
"""Largest batch that is tried."""
WORTH = 0.95
"""A larger batch must take less than this share of the time a clip to be chosen."""


def resolve_device(device: str) -> torch.device:
    """Give the device of a name in `DEVICES`; InputError for another, or "cuda" without a GPU."""
    if device not in DEVICES:
        raise InputError(f"device is {device!r}: give one of {', '.join(DEVICES)}")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise InputError("device is 'cuda' but PyTorch sees no GPU: give 'cpu' or 'auto'")
    return torch.device("cpu" if device == "cpu" or not has_gpu else "cuda")


def check_precision(precision: str) -> None:
    """Raise InputError unless `precision` is among `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise InputError(f"unknown precision: {precision!r}; choose from {', '.join(PRECISIONS)}")


def computes_bf16(device: str | torch.device) -> bool:
    """Tell whether a device computes in bfloat16 itself.

    A CPU without AVX-512 gets PyTorch's emulation instead, in which a convolution takes some fifty
    times as long as in float32. Of other CPUs PyTorch does not say, so that they count as without.
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or a CPU."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # PyTorch's allocator on Windows, and on other systems; oneDNN.
    words = "not enough memory", "can't allocate memory", "could not create a primitive"
    return isinstance(error, RuntimeError) and any(one in str(error) for one in words)


def has_openvino() -> bool:
    """Tell whether OpenVINO is installed: `pip install vad-helpers[fast]`."""
    return importlib.util.find_spec("openvino") is not None


def side_by_side(
    ways: Mapping[str, Callable[[], object]], *, device: torch.device, repeats: int = 3
) -> dict[str, float]:
    """Median seconds of several ways to do the same work.

    They take turns on a device, so that all see the same machine; `repeats` turns count, and one
    ahead of them, which pays for what later ones share, does not.
    """
    turns = []
    for _ in range(repeats + 1):
        turns.append({name: _seconds(work, device) for name, work in ways.items()})
    return {name: statistics.median(turn[name] for turn in turns[1:]) for name in ways}


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def synchronize(device: torch.device) -> None:
    """Wait until a device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextlib.contextmanager
def evaluating(model: Model) -> Iterator[None]:
    """Put the model in evaluation mode; give every submodule its own mode back afterwards."""
    modules = list(model.modules()) if isinstance(model, torch.nn.Module) else []
    training = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        yield
    finally:
        for module, was in zip(modules, training, strict=True):
            module.training = was


class Prepared:
    """A model in the form in which it is asked many times; `prepare` makes one.

    Attributes
    ----------
    model : torch.nn.Module or callable
        (N, 3, T, H, W) -> (N, classes) logits: what is evaluated. For a model that offers
        `for_inference`, a copy with batch norms folded and without gradients to its weights.
    chain : Chain or None
        The same as a chain of local stages, if the model describes itself as one.
    precision : {"fp32", "bf16"}
        "fp32" means the model's own type.
    device : torch.device or None
        Where it runs; None if it has no floating parameters: then where the clip is.
    dtype : torch.dtype or None
        Floating type of the clips that it takes, likewise.
    layout : torch.memory_format
        Memory layout of what a chain works on; any other model gets plain tensors.
    engine : {"torch", "openvino"}
        What evaluates clips without gradients.
    """

    def __init__(self, model: Model, *, precision: str, engine: str = "torch") -> None:
        check_precision(precision)
        self.precision, self.engine = precision, engine
        self.model = model
        is_module = isinstance(model, torch.nn.Module)
        tensors = (*model.parameters(), *model.buffers()) if is_module else ()
        placed = next(((t.device, t.dtype) for t in tensors if t.is_floating_point()), (None, None))
        self.device, self.dtype = placed
        self._inner = self.dtype
        self._autocast = precision == "bf16"
        if hasattr(model, "for_inference") and self.device is not None:
            self._autocast = False
            self._inner = torch.bfloat16 if precision == "bf16" else self.dtype
            self.model = model.for_inference(self._inner)
        self.chain: Chain | None = None
        if isinstance(model, Chain):
            if self._autocast:
                raise InputError("a bare chain runs in its own type; prepare it as 'fp32'")
            self.chain = model
        elif hasattr(self.model, "chain") and not self._autocast:
            self.chain = self.model.chain()
        plain = self.chain is None
        self.layout = torch.contiguous_format if plain else torch.channels_last_3d
        self._batch_sizes: dict[str, int] = {}
        self._compiled: dict[tuple[int, ...], Any] = {}  # by OpenVINO, a network a shape of clips
        if engine == "openvino":
            name, given = "engine 'openvino'", f"a {type(model).__name__} of {self.dtype}"
            if not has_openvino():
                raise InputError(f"{name} is not installed: pip install 'vad-helpers[fast]'")
            if (self.device and self.device.type, self.dtype) != ("cpu", torch.float32):
                given += f" on {self.device}; give a float32 module on the CPU"
                raise InputError(f"{name} was given {given}")
            self._source = model
        # Others are tried before two of their clips are evaluated together.
        self.keeps_clips_apart = getattr(model, "keeps_clips_apart", False)

    def placement(self, clip: torch.Tensor) -> tuple[torch.device, torch.dtype]:
        """Where the model runs: its own device and floating type, or the clip's if it has none."""
        return self.device or clip.device, self.dtype or clip.dtype

    def fit(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips in the type and memory layout that the model is evaluated in."""
        return clips.to(dtype=self._inner, memory_format=self.layout)

    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of clips (N, 3, T, H, W); without gradients, on all cores."""
        if self.engine == "openvino" and not torch.is_grad_enabled():
            return self._by_openvino(clips)
        chunks = [clips]
        if not torch.is_grad_enabled() and len(clips) > 1:
            chunks = clips.tensor_split(min(self.n_workers(clips.device), len(clips)))
        logits = list(self.spread(self.evaluate, chunks, device=clips.device))
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def evaluate(self, clips: torch.Tensor) -> torch.Tensor:
        """The same in this thread, with gradients if they are enabled.

        Without, three equal channels go through a chain as one, if its first stage takes it.
        """
        if (one := self._grey(clips)) is not None:
            return self.chain(self.fit(one))
        with torch.autocast(clips.device.type, dtype=torch.bfloat16, enabled=self._autocast):
            return self.model(self.fit(clips))

    def _grey(self, clips: torch.Tensor) -> torch.Tensor | None:
        """One channel (N, 1, T, H, W) of clips, where it stands for three equal ones."""
        if torch.is_grad_enabled() or self.chain is None or not self.chain.takes_grey:
            return None
        one = clips[:, :1]
        equal = clips.ndim == 5 and clips.shape[1] == 3 and torch.equal(one.expand_as(clips), clips)
        return one if equal else None

    def _by_openvino(self, clips: torch.Tensor) -> torch.Tensor:
        """The same by OpenVINO, clip by clip, as many at once as it wants."""
        import openvino as ov

        one = self._grey(clips)
        clips, threads = clips if one is None else one, torch.get_num_threads()
        shape = tuple(clips.shape[1:])
        if shape not in self._compiled:  # PyTorch's exporter refuses what depends on the data
            lean = getattr(self._source, "for_inference", None)
            source = lean() if lean else copy.deepcopy(self._source).eval()
            source = source if one is None else _AsModule(source)
            with warnings.catch_warnings(action="ignore"), torch.no_grad():
                try:
                    exported = torch.export.export(source, (torch.zeros(1, *shape),))
                except Exception as error:  # of many types
                    told = str(error).splitlines()[0]
                    raise InputError(
                        "the model cannot be compiled, as where its steps depend on the clip "
                        f"({told}); give engine='torch'"
                    ) from error
                converted = ov.convert_model(exported)
            options = {"PERFORMANCE_HINT": "THROUGHPUT", "INFERENCE_NUM_THREADS": threads}
            options["INFERENCE_PRECISION_HINT"] = "bf16" if self.precision == "bf16" else "f32"
            compiled = ov.Core().compile_model(converted, "CPU", options)
            self._compiled[shape] = ov.AsyncInferQueue(compiled)
        queue, logits = self._compiled[shape], [torch.empty(0)] * len(clips)

        def keep(request: Any, i: int) -> None:
            logits[i] = torch.from_numpy(request.get_output_tensor(0).data.copy())

        queue.set_callback(keep)
        for i, one in enumerate(clips.float().contiguous().numpy()):
            queue.start_async([one[None]], i)
        queue.wait_all()
        return torch.cat(logits)

    def n_workers(self, device: torch.device) -> int:
        """How many calls run side by side: a core each on a CPU, if the model is a chain.

        One clip a core beats one clip on all cores: nothing waits for the slowest. A model that
        does not describe itself may hold state that two threads would spoil.
        """
        inside = self.engine == "openvino" and not torch.is_grad_enabled()  # it has its own threads
        if self.chain is None or device.type != "cpu" or inside:
            return 1
        return torch.get_num_threads()

    def spread(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, device: torch.device
    ) -> Iterator[Result]:
        """Apply a function to items side by side.

        Parameters
        ----------
        function : callable
            Independent of the order of its calls.
        items : sequence
        device : torch.device
            Where the function computes.

        Yields
        ------
        Results in the order of the items, each as soon as it is there.
        """
        workers = min(self.n_workers(device), len(items))
        if workers < 2:
            yield from map(function, items)
            return
        gradients = torch.is_grad_enabled()

        def work(item: Item) -> Result:
            with torch.set_grad_enabled(gradients):  # the mode is a thread's own
                return function(item)

        threads = torch.get_num_threads()
        try:
            with ThreadPoolExecutor(workers, "explain", torch.set_num_threads, (1,)) as pool:
                yield from pool.map(work, items)
        finally:
            # A worker's number is also what threads started later begin with.
            torch.set_num_threads(threads)

    def batch_size(self, name: str, work: Callable[[int], Any], *, device: torch.device) -> int:
        """Double the batch from 1 while an item takes clearly less time and memory lasts.

        Parameters
        ----------
        name : str
            Of the kind of work: it is measured once, and the size kept under this name.
        work : callable
            n -> anything: does the work on n items.
        device : torch.device
            Where it computes.

        Returns
        -------
        int
            It changes time and memory; results differ by rounding at most.
        """
        if name in self._batch_sizes:
            return self._batch_sizes[name]
        work(1)  # the first call pays for what later ones share
        best, fastest, n = 1, _seconds(partial(work, 1), device), 2
        while n <= MOST_CLIPS:
            try:
                found = _seconds(partial(work, n), device) / n
            except RuntimeError as error:
                if out_of_memory(error):
                    break
                raise
            if found > WORTH * fastest:
                break
            best, fastest, n = n, found, 2 * n
        self._batch_sizes[name] = best
        return best


class _AsModule(torch.nn.Module):
    """A network that describes itself as a chain, evaluated as one."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network, self.chain = network, network.chain()

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.chain(clips)


def prepare(model: Model | Prepared, *, precision: str = "fp32", engine: str = "torch") -> Prepared:
    """Make a model ready for being asked many times.

    Hand the result to `explain` in the model's place when many clips or methods are to be
    explained: the preparation, and the measured batch sizes, are then shared.

    Parameters
    ----------
    model : torch.nn.Module or callable
        (N, 3, T, H, W) -> (N, classes) logits. A module that offers `for_inference(dtype)` (as
        `InceptionI3d` does) is copied in its leaner form, one that offers `chain()` is evaluated
        piece by piece where that is faster; any other is used as it is.
    precision : {"fp32", "bf16"}
        "fp32" keeps the model's own type, "bf16" evaluates it in bfloat16; logits are float32.
    engine : {"torch", "openvino"}
        What evaluates clips without gradients. OpenVINO gives the same logits to rounding, for
        float32 models on a CPU (the extra `fast`); it compiles once a shape of clips, which takes
        seconds. Which is faster depends on the processor: `side_by_side` tells.

    Returns
    -------
    Prepared
        Of a model that offers `for_inference`, a snapshot: later changes do not reach it.

    Raises
    ------
    InputError
        If precision or engine are unknown or not to be had for this model, or `model` was prepared
        for another precision.
    """
    if engine not in ENGINES:
        raise InputError(f"unknown engine: {engine!r}; choose from {', '.join(ENGINES)}")
    if not isinstance(model, Prepared):
        return Prepared(model, precision=precision, engine=engine)
    if precision != model.precision:
        raise InputError(
            f"precision is {precision!r} for a model prepared as {model.precision!r}: prepare it "
            "again"
        )
    return model
