"""Checkpoints of whatever origin: read from files, and loaded into an I3D.

Conventions
-----------
- A state is a dict from tensor names to CPU tensors. Checkpoint files are `.safetensors` or
  whatever `torch.load` reads with `weights_only=True`: files that would run code are refused.
- A convolution is *matched* if the checkpoint holds one of its name and shape. The classifier of a
  checkpoint for another number of classes is matched by name but ignored: the model's own, fresh
  one is trained instead, and the report says so.
- Everything is computed in float32: float16 files are cast when read.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vad_helpers.errors import InputError
from vad_helpers.model.i3d import InceptionI3d
from vad_helpers.model.inflation import inflate, is_inception_2d

State = dict[str, Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_CONV = ".conv3d.weight"
_HEAD = "logits.conv3d."


@dataclass(frozen=True)
class LoadReport:
    """What `load_into` did, by names of tensors and of convolutions.

    Attributes
    ----------
    matched : tuple of str
        Tensors that were loaded.
    missing : tuple of str
        Tensors of the model that the checkpoint lacks: left as they were. Counters of batches
        (`num_batches_tracked`) are not listed: nothing depends on them here.
    ignored : tuple of str
        Tensors of the checkpoint that were not used: unknown names, and a classifier of another
        number of classes.
    mismatched : dict of str to (tuple, tuple)
        Other tensors of another shape: (in the checkpoint, in the model); left as they were.
    convolutions_matched, convolutions_missing : tuple of str
        Convolutions of the model whose weight the checkpoint holds, or lacks.
    classifier : (int, int) or None
        Number of classes (in the checkpoint, in the model) if they differ: the classifier counts
        as matched, by its name, but is ignored and left fresh.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    convolutions_matched: tuple[str, ...]
    convolutions_missing: tuple[str, ...]
    classifier: tuple[int, int] | None

    @property
    def n_convolutions_matched(self) -> int:
        """Convolutions that the checkpoint holds, an ignored classifier included."""
        return len(self.convolutions_matched)

    @property
    def n_convolutions_missing(self) -> int:
        """Convolutions that the checkpoint lacks."""
        return len(self.convolutions_missing)

    @property
    def n_convolutions_loaded(self) -> int:
        """Convolutions whose weights were copied."""
        return self.n_convolutions_matched - (self.classifier is not None)

    def __str__(self) -> str:
        lines = [
            f"{self.n_convolutions_matched} convolutions matched, "
            f"{self.n_convolutions_missing} missing" + _listed(self.convolutions_missing)
        ]
        if self.classifier is not None:
            theirs, ours = self.classifier
            lines.append(
                f"classifier of {theirs} classes ignored, the model's own of {ours} starts fresh "
                f"(so {self.n_convolutions_loaded} convolutions loaded)"
            )
        if self.mismatched:
            lines.append(f"{len(self.mismatched)} tensors of another shape" + _shapes(self))
        lines.append(
            f"tensors: {len(self.matched)} loaded, {len(self.missing)} left fresh, "
            f"{len(self.ignored)} ignored" + _listed(self.ignored)
        )
        return "\n".join(lines)


def _listed(names: Sequence[str], most: int = 6) -> str:
    """ ": a, b, ... and 3 more", or nothing."""
    if not names:
        return ""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f": {', '.join(names[:most])}{more}"


def _shapes(report: LoadReport) -> str:
    return _listed([f"{k} {a} for {b}" for k, (a, b) in report.mismatched.items()], most=3)


# -- Checkpoints ----------------------------------------------------------------------------------


def read_checkpoint(path: str | Path) -> State:
    """Read the tensors of a checkpoint of any architecture.

    Parameters
    ----------
    path : str or Path
        A `.safetensors` file, or one that `torch.load` reads (`.pt`, `.pth`, ...). A dict around
        the state (`{"state_dict": ...}`, `{"model": ...}`) and the prefix `module.` are removed.

    Returns
    -------
    dict of str to Tensor
        On the CPU; floating-point tensors as float32.

    Raises
    ------
    InputError
        If there is no such file, it is damaged or no checkpoint, loading it would run code, or a
        weight is not finite.
    """
    path = existing_file(path)
    content = read_safetensors(path)[0] if _is_safetensors(path) else _read_pickle(path)
    state = {
        name.removeprefix("module."): as_float32(tensor)
        for name, tensor in _unwrapped(content, path).items()
    }
    check_finite(state, path)
    return state


def _is_safetensors(path: Path) -> bool:
    return path.suffix.lower() == ".safetensors"


def existing_file(path: str | Path) -> Path:
    """Give the path of a weights file, or raise `InputError` where there is none."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"no weights file {path}: give the path of a .safetensors or .pt file")
    return path


def read_safetensors(path: Path) -> tuple[State, dict[str, str]]:
    """Read tensors, on the CPU and of the file's dtypes, and metadata of a safetensors file.

    Parameters
    ----------
    path : Path
        A `.safetensors` file.

    Returns
    -------
    (dict of str to Tensor, dict of str to str)

    Raises
    ------
    InputError
        If the file cannot be read as safetensors.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as safetensors ({type(error).__name__}): fetch it again"
        ) from error


def _read_pickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd pickle protocols
            return torch.load(path, map_location="cpu", weights_only=True)
    # A damaged pickle can raise nearly anything: every failure to read is the file's.
    except Exception as error:
        if re.search(r"GLOBAL|Unsupported class|Trying to|Can only", str(error)):
            raise InputError(
                f"{path} holds Python objects besides tensors, and loading them could run code: "
                "not loaded; save its state_dict() alone, or convert it to .safetensors"
            ) from error
        raise InputError(
            f"{path} cannot be read as a PyTorch checkpoint ({type(error).__name__}): it is "
            "damaged or of another kind; fetch it again"
        ) from error


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    """The state inside a checkpoint's dict; entries that are no tensors are left out."""
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    entries = content.items() if isinstance(content, Mapping) else ()
    state = {str(name): value for name, value in entries if isinstance(value, Tensor)}
    if not state:
        raise InputError(
            f"{path} holds no named tensors but {type(content).__name__}: expected a state dict, "
            'or a dict with one under "state_dict" or "model"'
        )
    return state


def as_float32(tensor: Tensor) -> Tensor:
    """Detach a tensor, and cast it to float32 if it is of a floating-point type."""
    return tensor.detach().float() if tensor.is_floating_point() else tensor.detach()


def check_finite(state: Mapping[str, Tensor], path: Path) -> None:
    """Raise `InputError`, which names the file and the tensor, if a value is not finite."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {name} holds NaN or infinite values: fetch it again")


# -- Loading into a model -------------------------------------------------------------------------


def initialise(model: InceptionI3d, path: str | Path) -> LoadReport:
    """Start a model from a checkpoint: of an I3D, or of a 2-D Inception-v1 to be inflated.

    Parameters
    ----------
    model : InceptionI3d
        Changed in place.
    path : str or Path
        See `read_checkpoint`; which of the two it is shows in its tensor names.

    Returns
    -------
    LoadReport

    Raises
    ------
    InputError
        If the file cannot be used. The model is then as before.
    """
    state = read_checkpoint(path)
    if is_inception_2d(state):
        state = inflate(state)
    return load_into(model, state, source=str(path))


def load_into(
    model: InceptionI3d, state: Mapping[str, Tensor], *, source: str = "the checkpoint"
) -> LoadReport:
    """Copy every tensor that fits by name and shape into a model.

    Parameters
    ----------
    model : InceptionI3d
        Changed in place.
    state : mapping of str to Tensor
        In the layout of `InceptionI3d`.
    source : str
        How error messages call the state.

    Returns
    -------
    LoadReport

    Raises
    ------
    InputError
        If fewer than half of the model's convolutions fit: the state is of another architecture
        or width. The model is then as before.
    """
    own = model.state_dict()
    report = _compare(own, state)
    n_convolutions = sum(name.endswith(_CONV) for name in own)
    if 2 * report.n_convolutions_loaded < n_convolutions:
        raise InputError(_misfit(report, n_convolutions, source))
    model.load_state_dict({name: state[name] for name in report.matched}, strict=False)
    return report


def _compare(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> LoadReport:
    same = [name for name in own if name in state and own[name].shape == state[name].shape]
    other = {
        name: (tuple(state[name].shape), tuple(own[name].shape))
        for name in own
        if name in state and own[name].shape != state[name].shape
    }
    classifier = _classifier(other)
    head = tuple(name for name in other if classifier and name.startswith(_HEAD))
    convolutions = [name for name in own if name.endswith(_CONV)]
    return LoadReport(
        matched=tuple(same),
        missing=tuple(n for n in own if n not in state and not n.endswith("num_batches_tracked")),
        ignored=tuple(name for name in state if name not in own) + head,
        mismatched={name: shapes for name, shapes in other.items() if name not in head},
        convolutions_matched=_units(n for n in convolutions if n in same or n in head),
        convolutions_missing=_units(n for n in convolutions if n not in state),
        classifier=classifier,
    )


def _classifier(other: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]):
    """Numbers of classes (theirs, ours), if those alone tell the two classifiers apart."""
    theirs, ours = other.get(_HEAD + "weight", ((), ()))
    if theirs and theirs[1:] == ours[1:]:
        return theirs[0], ours[0]
    return None


def _units(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(name.removesuffix(_CONV) for name in names)


def _misfit(report: LoadReport, n_convolutions: int, source: str) -> str:
    detail = _listed(report.ignored, most=3).replace(": ", "; it has ", 1)
    if report.mismatched:
        detail = f"; {len(report.mismatched)} tensors have another shape" + _shapes(report)
    return (
        f"{source} fits {report.n_convolutions_loaded} of the model's {n_convolutions} "
        "convolutions: expected an I3D, or a 2-D Inception-v1 in torchvision's GoogLeNet layout, "
        f"of the same width{detail}"
    )
