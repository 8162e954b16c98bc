"""Training an I3D on labelled clips, and what a network says of others.

Conventions
-----------
- A data set is any map-style one of (clip, label): clip (3, T, H, W) float32, label 0 (normal) or
  1 (anomalous). It may have: an attribute `labels`, which saves reading clips to know them; a
  method `set_epoch`, told each epoch (from 0), on which augmentation can depend; an attribute
  `groups` (one a clip), drawn from evenly where the recipe says how many clips an epoch has.
- Devices and precisions are those of `vad_helpers.inference.prepared`; "bf16" is by autocast
  (weights and optimizer stay float32).
- All that is random in an epoch (order, augmentation, dropout) follows from (seed, epoch): a
  resumed run repeats an uninterrupted one exactly on the CPU, and up to the rounding of
  non-deterministic kernels on a GPU. Global generators are as before on return.
- The epoch that is kept is that of `kept_epoch`.

References
----------
Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015. Smith and Topin,
"Super-Convergence", 2017 (the schedule "onecycle"). Tarvainen and Valpola, "Mean Teachers Are
Better Role Models", NeurIPS 2017 (exponentially averaged weights).
"""

from __future__ import annotations

import io
import json
import pickle
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.plugins.environments import LightningEnvironment
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.optim.lr_scheduler import OneCycleLR, StepLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from vad_helpers.errors import InputError
from vad_helpers.files import write_whole
from vad_helpers.inference.prepared import check_precision, evaluating, resolve_device
from vad_helpers.model.i3d import STAGES
from vad_helpers.model.weights import State, describe, save_state

SCHEDULES = ("step", "onecycle")
STATE_VERSION = 2
"""Of `last.pt`: a state of another version is not resumed."""


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
    lr_step, lr_gamma : int and float
        In epochs; in (0, 1].
    early_end : str
        Name of the first stage that is not early (`i3d.STAGES`). Early stages see edges and
        motion and come from the initial weights; those before Mixed_3b cost about half of the
        computation, those before Mixed_4b four fifths.
    early_lr : float
        Factor of the learning rate of early stages, in [0, 1]: a low one keeps them near the
        initial weights; 0 freezes them, batch norm statistics included.
    average : float
        Decay of exponentially averaged weights, updated every step, in [0, 1): the average is
        what is validated and kept. 0 keeps the weights as they are.
    label_smoothing : float
        Probability mass taken from the true class in the training loss, in [0, 1).
    epoch_clips : int or None
        Clips drawn for an epoch, evenly from the data set's `groups` if it has any (scene and
        label) and without repetition while a group lasts; None takes every clip once.
    patience : int or None
        Epochs without a better one after which training stops; None never stops early.
    keep : {"best", "last"}
        The epoch whose weights are kept: the one that validates best, or the last.

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
    keep: str = "best"

    def __post_init__(self) -> None:
        ranges = [
            ("epochs batch_size lr_step", lambda n: n >= 1, "at least 1"),
            ("epoch_clips patience", lambda n: n is None or n >= 1, "at least 1, or None"),
            ("lr", lambda x: 0 < x < float("inf"), "a positive rate"),
            ("weight_decay", lambda x: x >= 0, "at least 0"),
            ("lr_gamma", lambda x: 0 < x <= 1, "a factor in (0, 1]"),
            ("early_lr", lambda x: 0 <= x <= 1, "a factor in [0, 1]"),
            ("average label_smoothing", lambda x: 0 <= x < 1, "a number in [0, 1)"),
            ("schedule", SCHEDULES.__contains__, " or ".join(SCHEDULES)),
            ("keep", ("best", "last").__contains__, "best or last"),
            ("early_end", STAGES.__contains__, f"a stage: {', '.join(STAGES)}"),
        ]
        for names, holds, expected in ranges:
            for name in names.split():
                if not holds(value := getattr(self, name)):
                    raise InputError(f"{name} is {value!r}: give {expected}")


def train(
    model: nn.Module,
    train_set: Dataset,
    val_set: Dataset | None,
    spec: TrainingSpec | None = None,
    *,
    checkpoint_dir: str | Path,
    device: str = "auto",
    devices: int = 1,
    num_nodes: int = 1,
    precision: str = "fp32",
    seed: int = 0,
    key: str = "",
    metadata: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Train a model, and leave it with the weights of the epoch that is kept.

    `checkpoint_dir` keeps the state after each epoch (`last.pt`) and the weights to keep so far
    (`best.safetensors`, for `weights.load`), each written whole or not at all. A run that was
    killed goes on after its last whole epoch; one that had ended returns at once.

    Parameters
    ----------
    model : nn.Module
        With two logits; trained in place. It returns to its device, in evaluation mode. Early
        stages are those of an I3D: another model needs a spec with `early_lr` 1.
    train_set, val_set : Dataset
        Of (clip, label), both classes in each. Without a `val_set` (None), the spec keeps the last
        epoch, and what is measured on it is NaN.
    spec : TrainingSpec, optional
        The recipe; the paper's by default.
    checkpoint_dir : str or Path
        Folder of this run, made if need be. One process at a time.
    device, precision : {"auto", "cpu", "cuda"} and {"fp32", "bf16"}
    devices, num_nodes : int, default 1
        Processes on this machine, each on a GPU of its own (or a part of the CPU), and machines
        that call this with the same arguments and folder; the environment of each has NODE_RANK
        (from 0), MASTER_ADDR and MASTER_PORT. Processes share every batch out. GPUs normalise it as
        a whole; on CPUs each process normalises its own clips, which trains another network.
    seed : int, default 0
        Of the order of clips, and of dropout; at least 0.
    key : str
        Names what cannot be seen here: data, initial weights. A state in `checkpoint_dir` of
        another key, recipe, seed, precision, number of clips or architecture is replaced.
    metadata : mapping, optional
        Keyword arguments of `weights.describe` for `best.safetensors`: `mean`, `std`, ...
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
        If a checkpoint cannot be written (a full disk, say); the earlier ones stay as they were.
    """
    spec = TrainingSpec() if spec is None else spec
    check_precision(precision)
    target = resolve_device(device)
    if getattr(model, "num_classes", 2) != 2:
        raise InputError(f"the model has {model.num_classes} classes: expected 2 to train it here")
    labels = []
    for name, dataset in (("training", train_set), ("validation", val_set)):
        if dataset is None:
            continue
        found = getattr(dataset, "labels", None)
        found = [dataset[i][1] for i in range(len(dataset))] if found is None else found
        found = np.asarray(found, dtype=np.float64)
        if set(found.tolist()) != {0, 1}:
            told = "expected both 0 (normal) and 1 (anomalous) and no other; choose another split"
            given = f"{len(found)} clips has labels {np.unique(found).tolist()[:5]}"
            raise InputError(f"the {name} set of {given}: {told}")
        labels.append(found.astype(np.int64))
    if val_set is None and (spec.keep == "best" or spec.patience is not None):
        raise InputError("without a validation set, give keep='last' and no patience")
    # What decides the result, as far as it can be seen from here.
    facts = {"version": STATE_VERSION, "key": key, "spec": asdict(spec), "seed": seed}
    facts |= {"precision": precision, "n_clips": [len(part) for part in labels]}
    facts["model"] = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    header = describe(model, **(metadata or {}))
    folder = _Folder(Path(checkpoint_dir), json.dumps(facts, sort_keys=True), header)
    home = next(model.parameters()).device
    val_labels = labels[1] if val_set is not None else None
    given = train_set, val_set, val_labels, spec, precision, seed
    if min(devices, num_nodes) < 1:
        raise InputError(f"{devices} devices on {num_nodes} machines: give at least one of each")
    options = {"accelerator": target.type, "plugins": _plugins(target, precision)}
    if devices * num_nodes > 1:
        # Its environment even where a batch system starts the one process of a machine.
        here = {**options, "plugins": [*options["plugins"], LightningEnvironment()]}
        fabric = Fabric(**here, strategy="ddp_spawn", devices=devices, num_nodes=num_nodes)
        # As bytes: Fabric would look for tensors inside, and refuses frozen dataclasses.
        fabric.launch(_train_share, pickle.dumps((model.cpu(), given, folder, progress)))
        # They leave their network in the folder.
    trainer = _Trainer(Fabric(**options, devices=1), model.to(target), *given)
    rows, best = _fit(trainer, folder, progress=progress)
    model.load_state_dict(best)
    model.requires_grad_(True).to(home).eval()
    kept = kept_epoch(rows, spec.keep)
    return pd.DataFrame(rows).assign(best=[i == kept for i in range(len(rows))])


def _train_share(fabric: Fabric, content: bytes) -> None:
    """What each of several processes does."""
    model, given, folder, progress = pickle.loads(content)
    if fabric.device.type == "cuda":
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    trainer = _Trainer(fabric, model.to(fabric.device), *given)
    _fit(trainer, folder, progress=progress and fabric.is_global_zero)
    fabric.barrier()


def _fit(trainer: _Trainer, folder: _Folder, *, progress: bool) -> tuple[list, State]:
    """All epochs that the folder lacks: history and weights to keep."""
    rows, best = folder.resume(trainer)
    spec = trainer.spec
    total, initial = (n * trainer.n_batches for n in (spec.epochs, len(rows)))
    hidden = not progress or _ended(rows, spec)
    with tqdm(total=total, initial=initial, desc="train", unit="batch", disable=hidden) as bar:
        while not _ended(rows, spec):
            # Of one process: statistics of batches, and so scores, may differ between them.
            rows.append(trainer.fabric.broadcast(trainer.epoch(len(rows), bar.update)))
            improved = kept_epoch(rows, spec.keep) == len(rows) - 1
            if improved:
                state = trainer.result.state_dict()
                best = {name: tensor.detach().cpu().clone() for name, tensor in state.items()}
            if trainer.fabric.is_global_zero:
                folder.keep(trainer, rows, best, improved=improved)
            bar.set_postfix({name: f"{rows[-1][name]:.3f}" for name in ("train_loss", "val_auc")})
    return rows, best


def _plugins(device: torch.device, precision: str) -> list[MixedPrecision]:
    # As a plugin and not by its name, which would log a line into every notebook's output.
    return [MixedPrecision("bf16-mixed", device.type)] if precision == "bf16" else []


def pass_back(model: nn.Module, clips: Tensor, spec: TrainingSpec, *, precision: str) -> None:
    """Pass a batch (N, 3, T, H, W) forward and back as training would, for its seconds alone; the
    model, on the device of the clips, is left in training mode with gradients."""
    frozen = STAGES[: STAGES.index(spec.early_end)] if spec.early_lr == 0 else ()
    model.train()
    for stage in map(model.get_submodule, frozen):
        stage.eval().requires_grad_(False)
    with torch.autocast(clips.device.type, torch.bfloat16, enabled=precision == "bf16"):
        loss = model(clips).float().square().sum()
    loss.backward()


def _ended(rows: Sequence[Mapping[str, float]], spec: TrainingSpec) -> bool:
    """Whether all epochs are done, or the last better one is `patience` epochs ago."""
    waited = len(rows) - 1 - kept_epoch(rows) if rows else 0
    return len(rows) == spec.epochs or (spec.patience is not None and waited >= spec.patience)


def kept_epoch(rows: Sequence[Mapping[str, float]], keep: str = "best") -> int:
    """Index of the "last" row, or the "best": with the highest `val_auc`; ties by lower `val_loss`,
    then the earliest."""
    if keep == "last":
        return len(rows) - 1
    return max(range(len(rows)), key=lambda i: (rows[i]["val_auc"], -rows[i]["val_loss"], -i))


def draw(rng: np.random.Generator, n_clips: int, spec: TrainingSpec, groups=None) -> np.ndarray:
    """Indices of the clips of one epoch, in order; `groups` (n_clips,): see `epoch_clips`."""
    if spec.epoch_clips is None:
        return rng.permutation(n_clips)
    groups = np.zeros(n_clips) if groups is None else np.asarray(groups)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    share, left = divmod(spec.epoch_clips, len(members))
    drawn = []
    for k, part in enumerate(members):
        n = share + (k < left)
        # Nobody a second time before all had their turn.
        rounds = [rng.permutation(part) for _ in range(-(-n // len(part)))]
        drawn.append(np.concatenate([part[:0], *rounds])[:n])
    return rng.permutation(np.concatenate(drawn))


def in_batches(order: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Consecutive batches; one clip left over joins the batch before it."""
    starts = list(range(batch_size, len(order), batch_size))
    if batch_size > 1 and len(order) % batch_size == 1 and starts:
        starts.pop()
    return np.split(order, starts)


class _Trainer:
    """A model with its optimizer, schedule and data; knows how to do one epoch."""

    def __init__(
        self,
        fabric: Fabric,
        model: nn.Module,
        train_set: Dataset,
        val_set: Dataset | None,
        val_labels: np.ndarray | None,
        spec: TrainingSpec,
        precision: str,
        seed: int,
    ) -> None:
        self.raw, self.spec, self.precision, self.seed = model, spec, precision, seed
        self.train_set, self.val_labels = train_set, val_labels
        self.val_loader = [] if val_set is None else _loader(val_set, batch_size=spec.batch_size)
        self.n_clips = spec.epoch_clips or len(train_set)
        n_steps = len(in_batches(np.arange(self.n_clips), spec.batch_size))
        self.n_batches = n_steps + len(self.val_loader)
        self.device = next(model.parameters()).device
        names = STAGES[: STAGES.index(spec.early_end)] if spec.early_lr != 1 else ()
        early = [model.get_submodule(name) for name in names]
        self.frozen = early if spec.early_lr == 0 else []
        for stage in self.frozen:
            stage.requires_grad_(False)
        slow = {p: None for stage in early for p in stage.parameters()}
        groups = [{"params": [p for p in model.parameters() if p not in slow], "lr": spec.lr}]
        if slow and spec.early_lr > 0:
            groups.append({"params": list(slow), "lr": spec.lr * spec.early_lr})
        optimizer = torch.optim.Adam(groups, weight_decay=spec.weight_decay)
        if spec.schedule == "onecycle":  # stepped once a batch, as the other
            highest = [group["lr"] for group in groups]
            self.scheduler: Any = OneCycleLR(optimizer, highest, total_steps=spec.epochs * n_steps)
        else:
            self.scheduler = StepLR(optimizer, spec.lr_step * n_steps, gamma=spec.lr_gamma)
        # What has a state that a resumed run needs, and the network that is validated and kept.
        self.parts, self.result = {"model": model, "scheduler": self.scheduler}, model
        if spec.average > 0:
            average = get_ema_multi_avg_fn(spec.average)
            averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
            self.result, self.parts["average"] = averaged.module, averaged
        self.fabric = fabric
        self.model, self.optimizer = self.fabric.setup(model, optimizer)
        self.parts["optimizer"] = self.optimizer

    def epoch(self, epoch: int, on_batch: Callable[[], object]) -> dict[str, float]:
        """Train on the clips of one epoch, then validate; a row of the history."""
        start = time.perf_counter()
        lr = self.scheduler.get_last_lr()[0]
        if hasattr(self.train_set, "set_epoch"):
            self.train_set.set_epoch(epoch)
        # Everything random follows from these two numbers, so no generator's state is kept.
        rng = np.random.default_rng([self.seed, epoch])
        groups = getattr(self.train_set, "groups", None)
        order = draw(rng, len(self.train_set), self.spec, groups)
        batches = [batch.tolist() for batch in in_batches(order, self.spec.batch_size)]
        rank, world = self.fabric.global_rank, self.fabric.world_size
        shares = [batch[rank::world] for batch in batches]
        loss_sum, n_correct = 0.0, 0
        self.raw.train()
        for stage in self.frozen:
            stage.eval()
        on_gpu = self.device.type == "cuda"
        with torch.random.fork_rng(devices=[torch.cuda.current_device()] if on_gpu else []):
            seed = int(rng.integers(2**63)) ^ rank
            torch.default_generator.manual_seed(seed)  # torch.manual_seed touches every GPU
            if on_gpu:
                torch.cuda.manual_seed(seed)
            # Who has no clip of a batch takes one without weight: all take every step.
            taken = [own or batch[:1] for own, batch in zip(shares, batches, strict=True)]
            loader = _loader(self.train_set, batch_sampler=taken)
            for (clips, labels), own, batch in zip(loader, shares, batches, strict=True):
                labels = labels.to(self.device)
                logits = self.model(_to_device(clips, self.device, self.raw)).float()
                smoothing = self.spec.label_smoothing
                loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
                loss_sum += self._finite(loss.item(), "training", epoch) * len(own)
                n_correct += int((logits.argmax(dim=1) == labels)[: len(own)].sum())
                self.optimizer.zero_grad()
                # Processes average their gradients: a clip counts the same in all shares.
                self.fabric.backward(loss * (len(own) * world / len(batch)))
                self.optimizer.step()
                self.scheduler.step()
                if "average" in self.parts:
                    self.parts["average"].update_parameters(self.raw)
                on_batch()
        sums = torch.tensor([loss_sum, n_correct], dtype=torch.float64, device=self.device)
        loss_sum, n_correct = self.fabric.all_reduce(sums, reduce_op="sum").tolist()
        row = {"epoch": epoch, "lr": lr, "train_loss": loss_sum / self.n_clips}
        row |= {"train_accuracy": n_correct / self.n_clips}
        row |= dict.fromkeys(("val_loss", "val_accuracy", "val_auc"), float("nan"))
        if self.val_loader:
            model, labels = self.result.eval(), self.val_labels
            logits = _logits(model, self.val_loader, self.device, self.precision, on_batch)
            val_loss = F.cross_entropy(logits, torch.from_numpy(labels)).item()
            p = logits.softmax(dim=1)[:, 1].numpy()
            row["val_loss"] = self._finite(val_loss, "validation", epoch)
            row["val_accuracy"] = float(np.mean((p >= 0.5) == labels))
            row["val_auc"] = float(roc_auc_score(labels, p))
        return row | {"seconds": time.perf_counter() - start}

    def _finite(self, loss: float, name: str, epoch: int) -> float:
        if not np.isfinite(loss):
            at = f"in epoch {epoch} at a learning rate of {self.scheduler.get_last_lr()[0]:g}"
            told = "lower lr, or check that clips are finite"
            raise InputError(f"the {name} loss is {loss} {at}: {told}")
        return loss


class _Folder(NamedTuple):
    """The folder of a run: `last.pt` to resume from, `best.safetensors` to use."""

    path: Path
    signature: str
    header: dict[str, str]

    def keep(self, trainer: _Trainer, rows: list, best: State, *, improved: bool) -> None:
        """Keep an epoch. The best weights are in both files: they can never be of two runs."""
        state = {"signature": self.signature, "rows": rows, "best": best}
        state |= {name: part.state_dict() for name, part in trainer.parts.items()}
        content = io.BytesIO()
        torch.save(state, content)
        write_whole(self.path / "last.pt", content.getbuffer())
        if improved:
            save_state(best, self.path / "best.safetensors", self.header)

    def resume(self, trainer: _Trainer) -> tuple[list[dict[str, float]], State]:
        """Put the trainer back after its last whole epoch; history and best weights so far."""
        last, best = self.path / "last.pt", self.path / "best.safetensors"
        try:
            state = torch.load(last, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            state = None
        except Exception as error:  # a damaged file can raise nearly anything
            state = None
            problem = f"{last} is damaged ({type(error).__name__}): training starts anew"
            warnings.warn(problem, stacklevel=3)
        if not isinstance(state, dict) or state.get("signature") != self.signature:
            # Nothing of another run may be taken for this one's.
            last.unlink(missing_ok=True)
            best.unlink(missing_ok=True)
            return [], {}
        for name, part in trainer.parts.items():
            part.load_state_dict(state[name])
        # The run may have been killed between the two files.
        save_state(state["best"], best, self.header)
        return state["rows"], state["best"]


def predict(
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 5,
    device: str = "auto",
    precision: str = "fp32",
    progress: bool = False,
) -> np.ndarray:
    """Probability of "anomalous" of each clip.

    Parameters
    ----------
    model : nn.Module
        (N, 3, T, H, W) -> (N, 2) logits, such as `InceptionI3d`. Used in evaluation mode; its
        mode and device are as before on return.
    dataset : Dataset
        Of (clip, label); labels are not looked at.
    batch_size : int, default 5
        Clips at a time.
    device, precision : {"auto", "cpu", "cuda"} and {"fp32", "bf16"}
    progress : bool, default False
        Show a bar.

    Returns
    -------
    ndarray, float32 (N,)
        In the order of the data set, in [0, 1].

    Raises
    ------
    InputError
        If a parameter is out of its range.
    """
    check_precision(precision)
    target = resolve_device(device)
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: give a whole number of at least 1")
    loader = _loader(dataset, batch_size=batch_size)
    home = next(model.parameters()).device
    bar = tqdm(total=len(loader), desc="predict", disable=not progress)
    with bar, evaluating(model):
        try:
            logits = _logits(model.to(target), loader, target, precision, bar.update)
        finally:
            model.to(home)
    return logits.softmax(dim=1)[:, 1].numpy()


def _loader(dataset: Dataset, **batches: Any) -> DataLoader:
    """Loader of clips in order or in given batches, which draws nothing from global generators."""
    on_gpu = torch.cuda.is_available()
    return DataLoader(dataset, generator=torch.Generator(), pin_memory=on_gpu, **batches)


@torch.no_grad()
def _logits(
    model: nn.Module,
    loader: DataLoader,
    device: torch.device,
    precision: str,
    on_batch: Callable[[], object],
) -> Tensor:
    """Logits, float32 on the CPU (N, classes), of a model that is in place and in its mode."""
    outputs = [torch.empty(0, 2)]
    for clips, _ in loader:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            outputs.append(model(_to_device(clips, device, model)).float().cpu())
        on_batch()
    return torch.cat(outputs)


def _to_device(clips: Tensor, device: torch.device, model: nn.Module) -> Tensor:
    """Move a batch; for a chain of layers channels last: convolutions are then faster, above all in
    bf16. Another network may reshape what it is given."""
    chain = hasattr(model, "chain")
    layout = torch.channels_last_3d if chain else torch.contiguous_format
    return clips.to(device, non_blocking=True, memory_format=layout)
