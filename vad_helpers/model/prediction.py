"""Probabilities of a trained model on a data set, and how good they are.

Conventions
-----------
- A data set is any map-style one of (clip, label): clip (3, T, H, W) float32, label 0 (normal) or
  1 (anomalous). An attribute `labels`, where there is one, saves reading clips to know them.
- Devices: "auto" (a GPU if PyTorch sees one), "cpu", "cuda". Precisions: "fp32", or "bf16" by
  autocast (weights stay float32); logits are float32 either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from vad_helpers.errors import InputError

PRECISIONS = ("fp32", "bf16")
DEVICES = ("auto", "cpu", "cuda")


def resolve_device(device: str) -> torch.device:
    """The device of a name among `DEVICES`.

    Raises
    ------
    InputError
        If the name is another, or there is no GPU for "cuda".
    """
    if device not in DEVICES:
        raise InputError(f"device is {device!r}: give one of {', '.join(DEVICES)}")
    has_gpu = torch.cuda.is_available()
    if device == "cuda" and not has_gpu:
        raise InputError("device is 'cuda' but PyTorch sees no GPU: give 'cpu' or 'auto'")
    return torch.device("cpu" if device == "cpu" or not has_gpu else "cuda")


def computes_bf16(device: str | torch.device) -> bool:
    """Tell whether a device computes in bfloat16 itself.

    A CPU without AVX-512 gets PyTorch's emulation instead, in which a convolution takes some fifty
    times as long as in float32. Of other CPUs PyTorch does not say, so that they count as without.

    Parameters
    ----------
    device : str or torch.device
        Such as "cpu" or "cuda:0".
    """
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512")


def check_precision(precision: str) -> None:
    """Raise InputError unless `precision` is among `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}: give one of {', '.join(PRECISIONS)}")


def labels_of(dataset: Dataset) -> np.ndarray:
    """Labels of a data set, int64 (N,): its attribute `labels`, else read item by item."""
    labels = getattr(dataset, "labels", None)
    if labels is None:
        labels = [label for _, label in (dataset[i] for i in range(len(dataset)))]
    return np.asarray(labels).astype(np.int64)


def predict(
    model: nn.Module,
    dataset: Dataset,
    *,
    batch_size: int = 5,
    device: str = "auto",
    precision: str = "fp32",
    num_workers: int = 0,
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
    device : {"auto", "cpu", "cuda"}
        Where to compute.
    precision : {"fp32", "bf16"}
        How to compute.
    num_workers : int, default 0
        Processes that read clips.
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
    chunks = np.array_split(np.arange(len(dataset)), range(batch_size, len(dataset), batch_size))
    with (
        _placed(model, target),
        tqdm(total=len(chunks), desc="predict", disable=not progress) as bar,
    ):
        logits = compute_logits(
            model,
            load_batches(dataset, chunks, num_workers=num_workers),
            device=target,
            precision=precision,
            on_batch=bar.update,
        )
    return logits.softmax(dim=1)[:, 1].numpy()


@contextmanager
def _placed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """The model on a device in evaluation mode; device and mode as before on leaving."""
    parameter = next(model.parameters(), None)
    home = device if parameter is None else parameter.device
    modes = {module: module.training for module in model.modules()}
    model.to(device).eval()
    try:
        yield
    finally:
        model.to(home)
        for module, training in modes.items():
            module.training = training


def load_batches(
    dataset: Dataset, batches: Sequence[Sequence[int]], *, num_workers: int = 0
) -> DataLoader:
    """Loader of given batches of indices, which draws nothing from global generators."""
    return DataLoader(
        dataset,
        batch_sampler=[list(map(int, batch)) for batch in batches if len(batch)],
        num_workers=num_workers,
        generator=torch.Generator(),
        pin_memory=torch.cuda.is_available(),
    )


@torch.no_grad()
def compute_logits(
    model: nn.Module,
    batches: DataLoader,
    *,
    device: torch.device,
    precision: str,
    on_batch: Callable[[], object] = lambda: None,
) -> Tensor:
    """Logits, float32 on the CPU (N, classes), of a model that is in place and in its mode."""
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
    outputs = [torch.empty(0, 2)]
    for clips, _ in batches:
        with autocast:
            outputs.append(model(to_device(clips, device)).float().cpu())
        on_batch()
    return torch.cat(outputs)


def to_device(clips: Tensor, device: torch.device) -> Tensor:
    """Move a batch, channels last: convolutions are then faster, above all in bf16."""
    return clips.to(device, non_blocking=True, memory_format=torch.channels_last_3d)


def evaluate(
    p: Sequence[float] | np.ndarray,
    labels: Sequence[int] | np.ndarray,
    groups: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Accuracy and ROC AUC of probabilities, over all clips and group by group.

    Parameters
    ----------
    p : array_like of float (N,)
        Probability of "anomalous", in [0, 1].
    labels : array_like of int (N,)
        0 (normal) or 1 (anomalous).
    groups : sequence of str (N,), optional
        What each clip belongs to, such as its scene.

    Returns
    -------
    DataFrame
        A row for "all", then one for each group in alphabetical order: `group`, `n`,
        `n_anomalous`, `accuracy` (share of clips where p >= .5 agrees with the label; higher is
        better) and `auc` (higher is better, .5 is chance; NaN where there is one class alone).

    Raises
    ------
    ValueError
        If lengths differ, there are no clips, or a value is out of its range.
    """
    p, labels = np.asarray(p, dtype=np.float64), np.asarray(labels)
    _check_scores(p, labels, groups)
    rows = [{"group": "all", **_score(p, labels)}]
    names = np.asarray([] if groups is None else groups, dtype=object)
    for name in sorted(set(names)):
        rows.append({"group": name, **_score(p[names == name], labels[names == name])})
    return pd.DataFrame(rows)


def _score(p: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    return {
        "n": len(labels),
        "n_anomalous": int(labels.sum()),
        "accuracy": float(np.mean((p >= 0.5) == labels)),
        "auc": auc(p, labels),
    }


def auc(p: np.ndarray, labels: np.ndarray) -> float:
    """ROC AUC, ties counted half; NaN if there is one class alone."""
    if len(np.unique(labels)) < 2:
        return float("nan")
    return float(roc_auc_score(labels, p))


def _check_scores(p: np.ndarray, labels: np.ndarray, groups: Sequence[str] | None) -> None:
    n_groups = len(p) if groups is None else len(groups)
    if p.ndim != 1 or labels.shape != p.shape or n_groups != len(p) or not len(p):
        raise ValueError(
            f"p has shape {p.shape}, labels {labels.shape}, groups {n_groups} entries: expected "
            "one value of each for every clip, and a clip at least"
        )
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p holds NaN or values outside [0, 1]: give probabilities, not logits")
    if not np.isin(labels, (0, 1)).all():
        raise ValueError(f"labels are {np.unique(labels).tolist()[:5]}: expected 0 and 1 alone")
