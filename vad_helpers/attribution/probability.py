"""The number that is explained, and the conditions under which it is computed."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator

import numpy as np
import torch

from vad_helpers.errors import InputError

Model = torch.nn.Module | Callable[[torch.Tensor], torch.Tensor]


class Probability(torch.nn.Module):
    """Softmax probability of one class, counting every clip that goes through the model.

    Parameters
    ----------
    model : torch.nn.Module or callable
        (N, 3, T, H, W) -> (N, classes) logits.
    target : int, optional
        The class that is explained.
    precision : {"fp32", "bf16"}, optional
        With "bf16", the model runs under autocast; the softmax stays in float32.
    batch_size : int, optional
        The number of clips that one call should hold at most: advice to the methods.
    tick : callable, optional
        Called after every forward pass with the number of its clips.

    Attributes
    ----------
    calls : int
        Clips that went forward through the model so far.
    """

    def __init__(
        self,
        model: Model,
        *,
        target: int = 1,
        precision: str = "fp32",
        batch_size: int = 4,
        tick: Callable[[int], object] | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.target = target
        self.precision = precision
        self.batch_size = batch_size
        self.calls = 0
        self._tick = tick

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Return the probability of the target class.

        Parameters
        ----------
        clips : torch.Tensor
            (N, 3, T, H, W), normalised.

        Returns
        -------
        torch.Tensor
            (N,), in [0, 1], float32 (float64 if the model's logits are).

        Raises
        ------
        InputError
            If the model does not return (N, classes) logits, has no class `target`, or cuts the
            gradient that a gradient method asks for.
        """
        with torch.autocast(
            clips.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"
        ):
            logits = self.model(clips)
        self._check(logits, clips)
        self.calls += len(clips)
        if self._tick is not None:
            self._tick(len(clips))
        # A softmax of half-precision logits would round the differences that are explained.
        wide = logits if logits.dtype == torch.float64 else logits.float()
        return wide.softmax(dim=1)[:, self.target]

    def _check(self, logits: object, clips: torch.Tensor) -> None:
        if not isinstance(logits, torch.Tensor):
            raise InputError(
                f"the model returned a {type(logits).__name__}; it must return a tensor of logits "
                "(N, classes)"
            )
        if logits.ndim != 2 or len(logits) != len(clips):
            raise InputError(
                f"the model returned shape {tuple(logits.shape)} for {len(clips)} clips; it must "
                "return logits (N, classes)"
            )
        if self.target >= logits.shape[1]:
            raise InputError(
                f"target is {self.target}, but the model has {logits.shape[1]} classes; choose one "
                f"of 0 to {logits.shape[1] - 1}"
            )
        if clips.requires_grad and torch.is_grad_enabled() and not logits.requires_grad:
            raise InputError(
                "the model's logits have no gradient with respect to the clip; use a perturbation "
                "method, or compute them in PyTorch without detach() and no_grad()"
            )


def placement(model: Model, clip: torch.Tensor) -> tuple[torch.device, torch.dtype]:
    """Return where the model runs: device and floating type of its parameters.

    A model without floating parameters or buffers, or a plain function, runs where the clip is.
    """
    tensors: list[torch.Tensor] = []
    if isinstance(model, torch.nn.Module):
        tensors = [*model.parameters(), *model.buffers()]
    for tensor in tensors:
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return clip.device, clip.dtype


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


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed Python's, NumPy's and PyTorch's global generators; restore their states afterwards.

    Captum draws from NumPy's and from PyTorch's global generators (CPU, and the clip's device),
    so all of them must be seeded for a map to be reproducible. Only what is restored is seeded.
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
