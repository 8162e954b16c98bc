"""The training recipe: its numbers, and what they mean for optimizer, schedule and data order.

Conventions
-----------
- *Early* stages are those before `TrainingSpec.early_end` in `i3d.STAGES`: they see edges and
  motion, cost four fifths of the computation, and come from the initial weights. A lower learning
  rate keeps them near these; a rate of zero freezes them, batch norm statistics included, and
  saves their backward pass.
- The average of the weights is exponential, one update a step; it is what is validated and kept.

References
----------
D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. L. N. Smith and
N. Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates",
2017 (the schedule "onecycle"). B. T. Polyak and A. B. Juditsky, "Acceleration of Stochastic
Approximation by Averaging", SIAM Journal on Control and Optimization, 1992 (averaged weights).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from vad_helpers.errors import InputError
from vad_helpers.model.i3d import STAGES, InceptionI3d

SCHEDULES = ("step", "onecycle")


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """A training recipe; the defaults are the paper's.

    Attributes
    ----------
    epochs : int
        Passes over the training set, or draws of `epoch_clips` from it.
    batch_size : int
        Clips a step. A single clip left over joins the batch before it, because batch norm
        cannot normalise one clip whose last feature maps are a single voxel.
    lr : float
        Adam's learning rate: the initial one ("step") or the highest ("onecycle").
    weight_decay : float
        L2 penalty, added to the gradient (Adam, not AdamW).
    schedule : {"step", "onecycle"}
        "step" multiplies the rate by `lr_gamma` every `lr_step` epochs; "onecycle" warms up, then
        anneals to nearly zero: for short trainings.
    lr_step : int
        In epochs.
    lr_gamma : float
        In (0, 1].
    early_end : str
        Name of the first stage that is not early (`i3d.STAGES`).
    early_lr : float
        Factor of the learning rate of early stages, in [0, 1]; 0 freezes them.
    average : float
        Decay of the averaged weights a step, in [0, 1); 0 keeps the weights as they are.
    label_smoothing : float
        Probability mass taken from the true class in the training loss, in [0, 1).
    epoch_clips : int or None
        Clips drawn for an epoch, evenly from the data set's `groups` if it has any (scene and
        label) and without repetition while a group lasts; None takes every clip once.
    patience : int or None
        Epochs without a better one after which training stops; None never stops early.

    Raises
    ------
    InputError
        If a value is out of its range.
    """

    epochs: int = 100
    batch_size: int = 5
    lr: float = 1e-3
    weight_decay: float = 1e-4
    schedule: str = "step"
    lr_step: int = 30
    lr_gamma: float = 0.1
    early_end: str = "Mixed_4b"
    early_lr: float = 1.0
    average: float = 0.0
    label_smoothing: float = 0.0
    epoch_clips: int | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr_step", "epoch_clips", "patience"):
            value = getattr(self, name)
            require(name, value, value is None or value >= 1, "at least 1")
        require("lr", self.lr, 0 < self.lr < float("inf"), "a positive rate")
        require("weight_decay", self.weight_decay, self.weight_decay >= 0, "at least 0")
        require("lr_gamma", self.lr_gamma, 0 < self.lr_gamma <= 1, "a factor in (0, 1]")
        require("early_lr", self.early_lr, 0 <= self.early_lr <= 1, "a factor in [0, 1]")
        for name in ("average", "label_smoothing"):
            value = getattr(self, name)
            require(name, value, 0 <= value < 1, "a number in [0, 1)")
        require("schedule", self.schedule, self.schedule in SCHEDULES, " or ".join(SCHEDULES))
        known = self.early_end in STAGES
        require("early_end", self.early_end, known, f"a stage: {', '.join(STAGES)}")


def require(name: str, value: object, holds: bool, expected: str) -> None:
    """Raise an InputError that names the value, unless it holds."""
    if not holds:
        raise InputError(f"{name} is {value!r}: give {expected}")


def early_stages(model: InceptionI3d, spec: TrainingSpec) -> list[nn.Module]:
    """The stages before `spec.early_end`."""
    names = STAGES[: STAGES.index(spec.early_end)]
    return [getattr(model, name) for name in names]


def parameter_groups(model: InceptionI3d, spec: TrainingSpec) -> list[dict]:
    """Parameters for the optimizer: the late ones, then the early ones at their lower rate.

    Early ones that are frozen, or have the full rate, make no group of their own.
    """
    if spec.early_lr == 1:
        return [{"params": list(model.parameters()), "lr": spec.lr}]
    early = [p for stage in early_stages(model, spec) for p in stage.parameters()]
    known = {id(p) for p in early}
    late = [p for p in model.parameters() if id(p) not in known]
    groups = [{"params": late, "lr": spec.lr}]
    if spec.early_lr > 0 and early:
        groups.append({"params": early, "lr": spec.lr * spec.early_lr})
    return groups


def frozen_stages(model: InceptionI3d, spec: TrainingSpec) -> list[nn.Module]:
    """Stages that training leaves as they are."""
    return early_stages(model, spec) if spec.early_lr == 0 else []


def make_schedule(
    optimizer: torch.optim.Optimizer, spec: TrainingSpec, n_steps: int
) -> LRScheduler:
    """Make a schedule that is stepped once a batch; `n_steps` is the number of these an epoch."""
    if spec.schedule == "onecycle":
        highest = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=highest, total_steps=spec.epochs * n_steps)
    return StepLR(optimizer, step_size=spec.lr_step * n_steps, gamma=spec.lr_gamma)


def make_average(model: nn.Module, spec: TrainingSpec) -> AveragedModel | None:
    """The averaged network, batch norm statistics included; None if the recipe has none."""
    if spec.average == 0:
        return None
    average = get_ema_multi_avg_fn(spec.average)
    return AveragedModel(model, multi_avg_fn=average, use_buffers=True)


def draw(rng: np.random.Generator, n_clips: int, spec: TrainingSpec, groups=None) -> np.ndarray:
    """Indices of the clips of one epoch, in their order.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_clips : int
        Clips of the data set.
    spec : TrainingSpec
    groups : array-like, optional
        Group of each clip, (n_clips,).

    Returns
    -------
    numpy.ndarray
        int64, (n_clips,) or (spec.epoch_clips,).
    """
    if spec.epoch_clips is None:
        return rng.permutation(n_clips)
    groups = np.zeros(n_clips) if groups is None else np.asarray(groups)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    shares = np.full(len(members), spec.epoch_clips // len(members))
    shares[: spec.epoch_clips % len(members)] += 1
    drawn = [_cycle(rng, part, share) for part, share in zip(members, shares, strict=True)]
    return rng.permutation(np.concatenate(drawn))


def _cycle(rng: np.random.Generator, members: np.ndarray, n: int) -> np.ndarray:
    """`n` of the members, none a second time before all had their turn."""
    rounds = [rng.permutation(members) for _ in range(-(-n // len(members)))]
    return np.concatenate(rounds)[:n] if rounds else members[:0]
