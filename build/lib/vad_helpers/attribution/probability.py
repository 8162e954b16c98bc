"""The number that is explained, and the conditions under which it is computed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from vad_helpers.errors import InputError
from vad_helpers.inference.prepared import Model, Prepared, out_of_memory, prepare

UNMEASURED = 4  # clips at once where nobody measured: little memory, the same on every machine
# Change of a clip's logits by company in its batch, as a share of the largest, that no rounding
# explains. Batch norm without running statistics moved them by a tenth to twice their size.
MIXED = {"fp32": 1e-2, "bf16": 5e-2}


class Probability(torch.nn.Module):
    """Softmax probability of one class, counting every clip that goes through the model.

    Parameters
    ----------
    model : torch.nn.Module, callable or Prepared
        (N, 3, T, H, W) -> (N, classes) logits.
    target : int, optional
        The class that is explained.
    batch_size : int, optional
        The number of clips that one call should hold at most: advice to the methods. None
        measures which is fastest when it is first asked for, and lets `model` remember it.
    example, measure : torch.Tensor, bool, optional
        (3, T, H, W): a clip to measure that with. Without it, or with False (for a model that
        would not live to remember the answer), it is `UNMEASURED`.
    tick : callable, optional
        Called after every forward pass with the number of its clips.

    Attributes
    ----------
    prepared, model : Prepared, torch.nn.Module or callable
        The model made ready for inference, and what of it is evaluated.
    calls, largest : int
        Clips that went forward through the model, and the largest batch asked for, so far.
    """

    def __init__(
        self,
        model: Model | Prepared,
        *,
        target: int = 1,
        batch_size: int | None = None,
        example: Tensor | None = None,
        measure: bool = True,
        tick: Callable[[int], object] | None = None,
    ) -> None:
        super().__init__()
        self.prepared = model if isinstance(model, Prepared) else prepare(model)
        self.model = self.prepared.model
        self.target, self.given = target, batch_size
        self.calls = self.largest = 0
        self._example, self._measure, self._tick = example, measure and example is not None, tick
        self._workers = 1 if example is None else self.prepared.n_workers(example.device)

    @property
    def batch_size(self) -> int:
        """Clips that one call without gradients should hold at most."""

        def work(n: int) -> None:
            n *= self._workers
            with torch.no_grad():
                self.prepared(self._example.expand(n, *self._example.shape))

        return self.fastest("forward", work) * self._workers

    def fastest(self, name: str, work: Callable[[int], object]) -> int:
        """Items of a kind of work, `work(n)`, that one worker should do at once."""
        if self.given is None and self._measure:
            shape, device = tuple(self._example.shape), self._example.device
            size = self.prepared.batch_size(f"{name} {shape}", work, device=device)
        else:
            size = max(1, (self.given or UNMEASURED) // self._workers)
        self.largest = max(self.largest, size * self._workers)
        return size

    def forward(self, clips: Tensor) -> Tensor:
        """Probability (N,) of the target class of clips (N, 3, T, H, W), float32 at least.

        Raises InputError if the model does not return logits (N, classes) of two classes or more,
        has no class `target`, or cuts the gradient that a gradient method asks for.
        """
        p = self.uncounted(clips)
        self.count(len(clips))
        return p

    def uncounted(self, clips: Tensor) -> Tensor:
        """The same, leaving the count to the caller."""
        return self._asked(clips)[0]

    def logit(self, clips: Tensor) -> Tensor:
        """Logit (N,) of the target class, as `forward`; InputError also if one is not finite."""
        _, logits = self._asked(clips)
        self.count(len(clips))
        if not torch.isfinite(logits).all():
            raise InputError("the model's logits are not finite; check the clip and the weights")
        return logits[:, self.target]

    def _asked(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Probability (N,) and logits (N, classes)."""
        logits = self.prepared(clips)
        p = self.of(logits)
        if len(p) != len(clips):
            raise InputError(
                f"the model returned {len(p)} logits for {len(clips)} clips; give (N, classes)"
            )
        if clips.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            raise InputError(
                "the model's logits have no gradient with respect to the clip; use a perturbation "
                "method, or compute them in PyTorch without detach() and no_grad()"
            )
        return p, logits

    def of(self, logits: Tensor) -> Tensor:
        """Probability (N,) of the target class by logits (N, classes); counts nothing."""
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if not isinstance(logits, Tensor) or logits.ndim != 2 or logits.shape[1] < 2:
            raise InputError(
                f"the model returned {shape}; it must return logits (N, classes) of two classes or "
                "more, for the softmax of one logit z is always 1: give torch.stack([0 * z, z], "
                "dim=1), z of shape (N,), to explain sigmoid(z)"
            )
        if self.target >= logits.shape[1]:
            raise InputError(f"target is {self.target}; choose one of 0 to {logits.shape[1] - 1}")
        # A softmax of half-precision logits would round the differences that are explained.
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return wide.softmax(dim=1)[:, self.target]

    def count(self, n: int) -> None:
        """Count clips that went forward through the model."""
        self.calls += n
        if self._tick is not None:
            self._tick(n)


@torch.no_grad()
def refuse_mixing(prepared: Prepared, clip: Tensor) -> None:
    """Refuse a model whose answer for a clip depends on the other clips of its batch.

    Its maps would depend on the batch size. It costs two forward passes, once: a prepared model
    keeps that it has passed. The clip is (C, T, H, W), where the model runs and of its type.
    """
    if prepared.keeps_clips_apart:
        return
    # Noise of another mean and deviation than a clip's: statistics over the batch show.
    noise = torch.randn(clip.shape, generator=torch.Generator().manual_seed(0))
    pair = torch.stack([clip, (1 + 3 * noise).to(clip)])
    try:
        alone, both = prepared.evaluate(clip[None]), prepared.evaluate(pair)
    except RuntimeError as error:
        if out_of_memory(error):  # no two clips will ever be evaluated together
            return
        raise
    outputs = isinstance(alone, Tensor) and isinstance(both, Tensor)
    if outputs and alone.ndim and alone.shape[1:] == both.shape[1:]:  # else refused when used
        alone, beside = alone[0].double(), both[0].double()
        change, largest = (float(one.abs().max()) for one in (alone - beside, alone))
        if change > MIXED[prepared.precision] * (largest + 1e-3):
            raise InputError(
                "the model's output for a clip depends on the other clips of its batch, or on "
                f"chance (it moves by {change:.2g}, its size is {largest:.2g}); call eval() on "
                "what a function holds, and let batch norm keep running statistics"
            )
    prepared.keeps_clips_apart = True


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's global generators; restore their states afterwards.

    Captum draws from NumPy's and PyTorch's (CPU, and the clip's device). Only what is restored is
    seeded.
    """
    on_cuda = device.type == "cuda"
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[device] if on_cuda else []):
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.default_generator.manual_seed(seed)
            if on_cuda:
                with torch.cuda.device(device):
                    torch.cuda.manual_seed(seed)
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
