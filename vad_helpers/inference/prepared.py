"""A model made ready for inference: folded, laid out for its device, spread over the cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

from vad_helpers.attribution import checks
from vad_helpers.attribution.spec import PRECISIONS
from vad_helpers.errors import InputError
from vad_helpers.inference.chain import Chain

Model = torch.nn.Module | Callable[[torch.Tensor], torch.Tensor]
Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_CLIPS = 64
"""Largest batch that is tried."""
WORTH = 0.95
"""A larger batch must take less than this share of the time a clip to be chosen."""


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
    """

    def __init__(self, model: Model, *, precision: str) -> None:
        self.precision = checks.one_of("precision", precision, PRECISIONS)
        self._autocast = precision == "bf16"
        self.model = model
        self.chain: Chain | None = None
        self._batch_sizes: dict[tuple, int] = {}
        self.device, self.dtype = _placement(model)
        self._inner = self.dtype
        if hasattr(model, "for_inference") and self.device is not None:
            self._autocast = False
            self._inner = torch.bfloat16 if precision == "bf16" else self.dtype
            self.model = model.for_inference(self._inner)
        if isinstance(model, Chain):
            if self._autocast:
                raise InputError("a bare chain runs in its own type; prepare it as 'fp32'")
            self.chain = model
        elif hasattr(self.model, "chain") and not self._autocast:
            self.chain = self.model.chain()

    def placement(self, clip: torch.Tensor) -> tuple[torch.device, torch.dtype]:
        """Where the model runs: its own device and floating type, or the clip's if it has none."""
        return self.device or clip.device, self.dtype or clip.dtype

    def fit(self, clips: torch.Tensor) -> torch.Tensor:
        """Clips in the type and memory layout that the model is evaluated in."""
        return clips.to(dtype=self._inner, memory_format=self.layout)

    @property
    def layout(self) -> torch.memory_format:
        """Memory layout of what a chain works on; any other model gets plain tensors."""
        return torch.contiguous_format if self.chain is None else torch.channels_last_3d

    def __call__(self, clips: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of clips (N, 3, T, H, W); without gradients, on all cores."""
        chunks = [clips]
        if not torch.is_grad_enabled() and len(clips) > 1:
            chunks = clips.tensor_split(min(self.n_workers(clips.device), len(clips)))
        logits = list(self.spread(self.evaluate, chunks, device=clips.device))
        return logits[0] if len(logits) == 1 else torch.cat(logits)

    def evaluate(self, clips: torch.Tensor) -> torch.Tensor:
        """The same in this thread, with gradients if they are enabled."""
        with torch.autocast(clips.device.type, dtype=torch.bfloat16, enabled=self._autocast):
            return self.model(self.fit(clips))

    def n_workers(self, device: torch.device) -> int:
        """How many calls run side by side: a core each on a CPU, if the model is a chain.

        One clip a core beats one clip on all cores: nothing waits for the slowest. A model that
        does not describe itself may hold state that two threads would spoil.
        """
        if self.chain is None or device.type != "cpu":
            return 1
        return torch.get_num_threads()

    def spread(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        device: torch.device,
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
        """The batch size of the highest throughput for a piece of work, measured once.

        Parameters
        ----------
        name : str
            Of the kind of work: the measurement is kept under it.
        work : callable
            n -> anything: does the work on n items.
        device : torch.device
            Where it computes.

        Returns
        -------
        int
            Doubled from 1 while an item takes clearly less time and memory lasts. It changes
            time and memory; results differ by rounding at most.
        """
        if name not in self._batch_sizes:
            self._batch_sizes[name] = fastest_batch(work, device=device)
        return self._batch_sizes[name]


def prepare(model: Model | Prepared, *, precision: str = "fp32") -> Prepared:
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

    Returns
    -------
    Prepared
        Of a model that offers `for_inference`, a snapshot: later changes do not reach it.

    Raises
    ------
    InputError
        If the precision is unknown, or `model` was prepared for another one.
    """
    if isinstance(model, Prepared):
        checks.one_of("precision of a model prepared before", precision, [model.precision])
        return model
    return Prepared(model, precision=precision)


def fastest_batch(
    work: Callable[[int], Any], *, device: torch.device, most: int = MOST_CLIPS
) -> int:
    """Double the batch while it makes an item cheaper; see `Prepared.batch_size`."""
    work(1)  # the first call pays for what later ones share
    best, fastest, n = 1, _seconds(work, 1, device), 2
    while n <= most:
        try:
            seconds = _seconds(work, n, device) / n
        except RuntimeError as error:
            if out_of_memory(error):
                break
            raise
        if seconds > WORTH * fastest:
            break
        best, fastest, n = n, seconds, 2 * n
    return best


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory ran out, on a GPU or a CPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    # PyTorch's allocator on Windows, and on other systems.
    words = "not enough memory", "can't allocate memory"
    return isinstance(error, RuntimeError) and any(one in str(error) for one in words)


def _seconds(work: Callable[[int], Any], n: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    work(n)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _placement(model: Model) -> tuple[torch.device | None, torch.dtype | None]:
    if isinstance(model, torch.nn.Module):
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.is_floating_point():
                return tensor.device, tensor.dtype
    return None, None
