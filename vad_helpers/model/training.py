"""Training an I3D on labelled clips, with checkpoints that a killed run resumes from.

Conventions
-----------
- Data sets, devices and precisions are those of `vad_helpers.model.prediction`. A data set with a
  method `set_epoch` is told each epoch (from 0), so that its augmentation can depend on it.
- A data set with an attribute `groups` (one a clip) is drawn from evenly, where the recipe says how
  many clips an epoch has.
- All that is random in an epoch (order, augmentation, dropout) follows from (seed, epoch): a
  resumed run repeats an uninterrupted one exactly on the CPU, and up to the rounding of
  non-deterministic kernels on a GPU. Global generators are as before on return.
- The best epoch is that of the highest validation AUC; ties go to the lower validation loss, then
  to the earlier epoch.
- The recipe is a `vad_helpers.model.recipe.TrainingSpec`.
"""

from __future__ import annotations

import io
import json
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write
from vad_helpers.model.checkpoints import State
from vad_helpers.model.i3d import InceptionI3d
from vad_helpers.model.prediction import (
    auc,
    check_precision,
    compute_logits,
    evaluate,
    labels_of,
    load_batches,
    predict,
    resolve_device,
    to_device,
)
from vad_helpers.model.recipe import (
    TrainingSpec,
    draw,
    frozen_stages,
    make_average,
    make_schedule,
    parameter_groups,
    require,
)
from vad_helpers.model.weights import describe, save_state

__all__ = ["TrainingSpec", "evaluate", "predict", "train"]

HISTORY = (
    "epoch",
    "lr",
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "val_auc",
    "seconds",
)
Rows = list[dict[str, float]]

STATE_VERSION = 2


def train(
    model: InceptionI3d,
    train_set: Dataset,
    val_set: Dataset,
    spec: TrainingSpec | None = None,
    *,
    checkpoint_dir: str | Path,
    device: str = "auto",
    precision: str = "fp32",
    seed: int = 0,
    key: str = "",
    metadata: Mapping[str, Any] | None = None,
    num_workers: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """Train a model, and leave it with the weights of its best epoch.

    The state after each epoch is kept in `checkpoint_dir/last.pt` and the best weights in
    `checkpoint_dir/best.safetensors` (for `weights.load`), each written whole or not at all.
    A run that was killed goes on after its last whole epoch; one that had ended returns at once.

    Parameters
    ----------
    model : InceptionI3d
        With two classes; trained in place. It returns to its device, in evaluation mode.
    train_set, val_set : Dataset
        Of (clip, label), both classes in each.
    spec : TrainingSpec, optional
        The recipe; the paper's by default.
    checkpoint_dir : str or Path
        Folder of this run, made if need be. One process at a time.
    device : {"auto", "cpu", "cuda"}
        Where to train.
    precision : {"fp32", "bf16"}
        How to compute; weights and optimizer stay float32.
    seed : int, default 0
        Of the order of clips, and of dropout.
    key : str
        Names what this function cannot see: data, initial weights. A state in `checkpoint_dir` of
        another key, recipe, seed, precision, number of clips or architecture is not resumed but
        replaced.
    metadata : mapping, optional
        Keyword arguments of `weights.describe` for `best.safetensors`: `mean`, `std`, ...
    num_workers : int, default 0
        Processes that read clips.
    progress : bool, default True
        Show a bar with the time left.

    Returns
    -------
    DataFrame
        A row an epoch: `epoch` (from 0), `lr` (at its first step), `train_loss` and
        `train_accuracy` (while training), `val_loss`, `val_accuracy`, `val_auc`, `seconds`, and
        `best` (True for the epoch whose weights were kept). Losses are cross-entropies in nats.

    Raises
    ------
    InputError
        If a parameter or a data set cannot be used, or the loss is no longer finite.
    OSError
        If a checkpoint cannot be written (a full disk, say); the earlier ones are left as they
        were.
    """
    spec = TrainingSpec() if spec is None else spec
    check_precision(precision)
    require("seed", seed, seed >= 0, "a whole number of at least 0")
    target = resolve_device(device)
    train_labels = _checked_labels("training", train_set, model)
    val_labels = _checked_labels("validation", val_set, model)
    header = describe(model, **(metadata or {}))
    facts = {
        "key": key,
        "spec": asdict(spec),
        "seed": seed,
        "precision": precision,
        "n_clips": [len(train_labels), len(val_labels)],
    }
    checkpoints = _Checkpoints(Path(checkpoint_dir), _signature(model, facts), header)
    home = next(model.parameters()).device
    trainer = _Trainer(
        model.to(target),
        _Data(train_set, val_set, val_labels, num_workers),
        spec,
        precision=precision,
        seed=seed,
    )
    rows, best = _run(trainer, checkpoints, progress=progress)
    model.load_state_dict(best)
    model.requires_grad_(True).to(home).eval()
    return _history(rows)


def _signature(model: InceptionI3d, facts: Mapping[str, Any]) -> str:
    """What decides the result, as far as it can be seen from here."""
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return json.dumps({"version": STATE_VERSION, **facts, "model": shapes}, sort_keys=True)


def _run(trainer: _Trainer, checkpoints: _Checkpoints, *, progress: bool) -> tuple[Rows, State]:
    """Do the epochs that are left; the whole history, and the best weights."""
    rows, best = checkpoints.resume(trainer)
    epochs = trainer.spec.epochs
    with tqdm(
        total=epochs * trainer.n_batches,
        initial=len(rows) * trainer.n_batches,
        desc="train",
        unit="batch",
        disable=not progress or _ended(rows, trainer.spec),
    ) as bar:
        while not _ended(rows, trainer.spec):
            epoch = len(rows)
            row = trainer.epoch(epoch, bar)
            rows.append(row)
            improved = best_epoch(rows) == epoch
            best = _snapshot(trainer.result) if improved else best
            checkpoints.save(trainer, rows, best, improved=improved)
            bar.set_postfix(loss=f"{row['train_loss']:.3f}", val_auc=f"{row['val_auc']:.3f}")
    return rows, best


def _ended(rows: Rows, spec: TrainingSpec) -> bool:
    """Whether all epochs are done, or the last better one is `patience` epochs ago."""
    if len(rows) == spec.epochs or spec.patience is None or not rows:
        return len(rows) == spec.epochs
    return len(rows) - 1 - best_epoch(rows) >= spec.patience


def best_epoch(rows: Sequence[Mapping[str, float]]) -> int:
    """Index of the row with the highest `val_auc`; ties by lower `val_loss`, then the earliest."""
    return max(range(len(rows)), key=lambda i: (rows[i]["val_auc"], -rows[i]["val_loss"], -i))


def _history(rows: Sequence[Mapping[str, float]]) -> pd.DataFrame:
    history = pd.DataFrame(rows, columns=list(HISTORY))
    history["best"] = history.index == best_epoch(rows)
    return history


def _checked_labels(name: str, dataset: Dataset, model: InceptionI3d) -> np.ndarray:
    labels = labels_of(dataset)
    if set(labels.tolist()) != {0, 1}:
        raise InputError(
            f"the {name} set of {len(labels)} clips has labels {np.unique(labels).tolist()[:5]}: "
            "expected both 0 (normal) and 1 (anomalous) and no other; choose another split"
        )
    if model.num_classes != 2:
        raise InputError(f"the model has {model.num_classes} classes: expected 2 to train it here")
    return labels


def _batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Consecutive batches; one clip left over joins the batch before it."""
    starts = list(range(batch_size, len(order), batch_size))
    if batch_size > 1 and len(order) % batch_size == 1 and starts:
        starts.pop()
    return np.split(order, starts)


def _snapshot(model: nn.Module) -> State:
    """A copy of the weights on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()}


@dataclass(frozen=True)
class _Data:
    """What a training reads."""

    train: Dataset
    val: Dataset
    val_labels: np.ndarray
    num_workers: int

    def train_batches(self, order: np.ndarray, batch_size: int) -> DataLoader:
        return load_batches(self.train, _batches(order, batch_size), num_workers=self.num_workers)

    def val_batches(self, batch_size: int) -> DataLoader:
        n = len(self.val_labels)
        chunks = np.split(np.arange(n), range(batch_size, n, batch_size))
        return load_batches(self.val, chunks, num_workers=self.num_workers)


class _Trainer:
    """A model with its optimizer, schedule and data; knows how to do one epoch."""

    def __init__(
        self, model: InceptionI3d, data: _Data, spec: TrainingSpec, *, precision: str, seed: int
    ) -> None:
        self.raw, self.data, self.spec = model, data, spec
        self.precision, self.seed = precision, seed
        self.n_clips = spec.epoch_clips or len(data.train)
        n_steps = len(_batches(np.arange(self.n_clips), spec.batch_size))
        self.n_batches = n_steps + len(data.val_batches(spec.batch_size))
        self.device = next(model.parameters()).device
        # As a plugin and not by its name, which would log a line into every notebook's output.
        plugins = [MixedPrecision("bf16-mixed", self.device.type)] if precision == "bf16" else []
        self.fabric = Fabric(accelerator=self.device.type, devices=1, plugins=plugins)
        for stage in frozen_stages(model, spec):
            stage.requires_grad_(False)
        groups = parameter_groups(model, spec)
        optimizer = torch.optim.Adam(groups, weight_decay=spec.weight_decay)
        self.scheduler = make_schedule(optimizer, spec, n_steps)
        self.average = make_average(model, spec)
        self.model, self.optimizer = self.fabric.setup(model, optimizer)

    @property
    def result(self) -> nn.Module:
        """The network that is validated and kept."""
        return self.raw if self.average is None else self.average.module

    def epoch(self, epoch: int, bar: tqdm) -> dict[str, float]:
        """Train on the clips of one epoch, then validate; a row of the history."""
        start = time.perf_counter()
        row = {"epoch": epoch, "lr": self.scheduler.get_last_lr()[0]}
        row |= self._train(epoch, bar)
        row |= self._validate(epoch, bar)
        return {**row, "seconds": time.perf_counter() - start}

    def _train(self, epoch: int, bar: tqdm) -> dict[str, float]:
        if hasattr(self.data.train, "set_epoch"):
            self.data.train.set_epoch(epoch)
        # Everything random follows from these two numbers, so no generator's state is kept.
        rng = np.random.default_rng([self.seed, epoch])
        groups = getattr(self.data.train, "groups", None)
        order = draw(rng, len(self.data.train), self.spec, groups)
        loss_sum, n_correct = 0.0, 0
        self.raw.train()
        for stage in frozen_stages(self.raw, self.spec):
            stage.eval()
        with _seeded(self.device, int(rng.integers(2**63))):
            for clips, labels in self.data.train_batches(order, self.spec.batch_size):
                loss, correct = self._step(clips, labels, epoch)
                loss_sum += loss * len(labels)
                n_correct += correct
                bar.update()
        return {
            "train_loss": loss_sum / self.n_clips,
            "train_accuracy": n_correct / self.n_clips,
        }

    def _step(self, clips: Tensor, labels: Tensor, epoch: int) -> tuple[float, int]:
        """One step of the optimizer; mean loss and number of correct clips before it."""
        labels = labels.to(self.device)
        logits = self.model(to_device(clips, self.device)).float()
        loss = F.cross_entropy(logits, labels, label_smoothing=self.spec.label_smoothing)
        value = self._finite(loss.item(), "training", epoch)
        self.optimizer.zero_grad()
        self.fabric.backward(loss)
        self.optimizer.step()
        self.scheduler.step()
        if self.average is not None:
            self.average.update_parameters(self.raw)
        return value, int((logits.argmax(dim=1) == labels).sum())

    def _validate(self, epoch: int, bar: tqdm) -> dict[str, float]:
        labels = self.data.val_labels
        logits = compute_logits(
            self.result.eval(),
            self.data.val_batches(self.spec.batch_size),
            device=self.device,
            precision=self.precision,
            on_batch=bar.update,
        )
        loss = F.cross_entropy(logits, torch.from_numpy(labels)).item()
        p = logits.softmax(dim=1)[:, 1].numpy()
        return {
            "val_loss": self._finite(loss, "validation", epoch),
            "val_accuracy": float(np.mean((p >= 0.5) == labels)),
            "val_auc": auc(p, labels),
        }

    def _finite(self, loss: float, name: str, epoch: int) -> float:
        if not np.isfinite(loss):
            raise InputError(
                f"the {name} loss is {loss} in epoch {epoch} at a learning rate of "
                f"{self.scheduler.get_last_lr()[0]:g}: lower lr, or check that clips are finite"
            )
        return loss


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Global generators of the CPU and of `device` seeded; as before on leaving."""
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_gpu else []):
        # torch.manual_seed would also touch every other GPU.
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.manual_seed(seed)
        yield


@dataclass(frozen=True)
class _Checkpoints:
    """The folder of a run: `last.pt` to resume from, `best.safetensors` to use."""

    folder: Path
    signature: str
    header: dict[str, str]

    def save(self, trainer: _Trainer, rows: Rows, best: State, *, improved: bool) -> None:
        """Keep an epoch. The best weights are in both files: they can never be of two runs."""
        state = {
            "signature": self.signature,
            "model": trainer.raw.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "scheduler": trainer.scheduler.state_dict(),
            "rows": rows,
            "best": best,
        }
        if trainer.average is not None:
            state["average"] = trainer.average.state_dict()
        # By way of memory: on a full disk, torch.save would raise no OSError but a RuntimeError.
        content = io.BytesIO()
        torch.save(state, content)
        with atomic_write(self.folder / "last.pt") as temporary:
            temporary.write_bytes(content.getbuffer())
        if improved:
            self._save_best(best)

    def _save_best(self, best: State) -> None:
        save_state(best, self.folder / "best.safetensors", self.header)

    def resume(self, trainer: _Trainer) -> tuple[Rows, State]:
        """Put the trainer back after its last whole epoch; history and best weights so far."""
        state = self._read()
        if state is None:
            # Nothing of another run may be taken for this one's.
            (self.folder / "last.pt").unlink(missing_ok=True)
            (self.folder / "best.safetensors").unlink(missing_ok=True)
            return [], {}
        trainer.raw.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        trainer.scheduler.load_state_dict(state["scheduler"])
        if trainer.average is not None:
            trainer.average.load_state_dict(state["average"])
        # The run may have been killed between the two files.
        self._save_best(state["best"])
        return state["rows"], state["best"]

    def _read(self) -> dict[str, Any] | None:
        """The state, or None if there is none of this run."""
        path = self.folder / "last.pt"
        if not path.is_file():
            return None
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file can raise nearly anything
            warnings.warn(
                f"{path} is damaged ({type(error).__name__}): training starts anew", stacklevel=4
            )
            return None
        known = isinstance(state, dict) and state.get("signature") == self.signature
        return state if known else None
