"""Weights of an I3D of this project: saved with what they are, and loaded again.

A file is safetensors with metadata (`describe`); `load` gives the model that `save` was given, in
float32. Weights of other origin are read by `vad_helpers.model.checkpoints`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_bytes
from torch import Tensor

from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write
from vad_helpers.model.checkpoints import (
    as_float32,
    check_finite,
    existing_file,
    read_safetensors,
)
from vad_helpers.model.i3d import InceptionI3d

CLASSES = ("normal", "anomalous")
FORMAT = "vad_helpers.InceptionI3d"
_KINDS = {"mean": float, "std": float, "classes": list, "width": float, "num_classes": int}


def save(
    model: InceptionI3d,
    path: str | Path,
    *,
    mean: float = 0.5,
    std: float = 0.5,
    classes: Sequence[str] = CLASSES,
    width: float | None = None,
    half: bool = False,
    **extra: Any,
) -> None:
    """Save a model to safetensors, whole or not at all.

    Parameters
    ----------
    model : InceptionI3d
        To be saved.
    path : str or Path
        Its folder is made if need be.
    mean, std : float, default 0.5
        Normalisation of grey values in [0, 1] that the model expects: (grey - mean) / std.
    classes : sequence of str, default ("normal", "anomalous")
        Names of the logits, in order.
    width : float, optional
        Taken from the model; if given, it must agree.
    half : bool, default False
        Store convolutions in float16 (batch norms stay float32): half the size, for publishing.
    **extra
        More metadata, such as the origin and licence of the initial weights: strings as they are,
        other values as JSON.

    Raises
    ------
    ValueError
        If `width` or `classes` contradicts the model, or `extra` names a reserved entry.
    OSError
        If the file cannot be written; an older file is left as it was.
    """
    if width is not None and width != model.width:
        raise ValueError(f"width is {width} but the model's is {model.width}: leave it out")
    metadata = describe(model, mean=mean, std=std, classes=classes, **extra)
    save_state(model.state_dict(), path, metadata, half=half)


@torch.no_grad()
def round_to_half(model: InceptionI3d) -> None:
    """Round a model's convolutions to what float16 holds; they stay float32.

    A file that `save` writes with `half` then holds this very model: what is said of it is true of
    the file, to the last bit.

    Parameters
    ----------
    model : InceptionI3d
        Changed in place.

    Raises
    ------
    ValueError
        If a weight is larger than float16 holds.
    """
    for name, parameter in model.named_parameters():
        if _is_halved(parameter):
            rounded = parameter.half().float()
            if not torch.isfinite(rounded).all():
                raise ValueError(f"{name} has weights beyond float16's range of 65504")
            parameter.copy_(rounded)


def _is_halved(tensor: Tensor) -> bool:
    """Convolutions alone: variances of batch norms can be too small for float16."""
    return tensor.ndim == 5


def fingerprint(model: InceptionI3d) -> str:
    """SHA-256 of a model's weights in hexadecimal: the same for the same bits, however stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def describe(
    model: InceptionI3d,
    *,
    mean: float = 0.5,
    std: float = 0.5,
    classes: Sequence[str] = CLASSES,
    **extra: Any,
) -> dict[str, str]:
    """Metadata that `load` needs to rebuild a model; parameters as in `save`."""
    if len(classes) != model.num_classes:
        raise ValueError(
            f"{len(classes)} classes {list(classes)} for {model.num_classes} logits: name each"
        )
    if clash := sorted(set(extra) & {"format", *_KINDS}):
        raise ValueError(f"metadata {', '.join(clash)} is reserved: rename it")
    known = {
        "format": FORMAT,
        "mean": float(mean),
        "std": float(std),
        "classes": list(classes),
        "width": model.width,
        "num_classes": model.num_classes,
    }
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in {**known, **extra}.items()
    }


def save_state(
    state: Mapping[str, Tensor],
    path: str | Path,
    metadata: Mapping[str, str],
    *,
    half: bool = False,
) -> None:
    """Write a state dict and its `describe`d metadata; see `save`."""
    tensors = {
        name: (tensor.half() if half and _is_halved(tensor) else tensor).cpu().contiguous()
        for name, tensor in state.items()
    }
    content = to_bytes(tensors, metadata=dict(metadata))
    # Written by Python, whose error on a full disk is an OSError; the library's own is not.
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def load(path: str | Path) -> tuple[InceptionI3d, dict[str, Any]]:
    """Load a model that `save` wrote.

    Parameters
    ----------
    path : str or Path
        A `.safetensors` file.

    Returns
    -------
    model : InceptionI3d
        In evaluation mode, on the CPU, float32.
    metadata : dict
        `mean`, `std`, `width` (float), `num_classes` (int), `classes` (list of str), and whatever
        else was saved, as strings.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, it was not written by `save`, or its tensors are
        not those of the model that its metadata describes.
    """
    path = existing_file(path)
    tensors, metadata = read_safetensors(path)
    state = {name: as_float32(tensor) for name, tensor in tensors.items()}
    check_finite(state, path)
    described = _parsed(metadata, path)
    try:
        # Fresh weights are drawn and overwritten: the caller's generator must not notice.
        with torch.random.fork_rng(devices=[]):
            model = InceptionI3d(described["num_classes"], described["width"])
        model.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"{path} does not hold the model of width {described['width']} and "
            f"{described['num_classes']} classes that its metadata describes: save it again"
        ) from error
    return model.eval(), described


def _parsed(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    try:
        known = {name: kind(json.loads(metadata[name])) for name, kind in _KINDS.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} lacks the metadata {', '.join(_KINDS)} of a trained model: to start "
            "training from such a checkpoint, give it as initial weights"
        ) from error
    return {**{k: v for k, v in metadata.items() if k != "format"}, **known}
