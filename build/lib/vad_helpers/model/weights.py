"""Weights of an I3D: its own saved and loaded again, or a start from a checkpoint of others.

Conventions
-----------
- `initialise` reads checkpoints of whatever origin. Wrappers around the state
  (`{"state_dict": ...}`) and prefixes of its names (`module.`, `_orig_mod.`, `model.i3d.`) are
  taken off. A 2-D Inception-v1 is inflated, in the layout of torchvision's GoogLeNet or of Caffe's.
- A state is a dict from names to CPU tensors, floats as float32 whatever the file holds.
- The classifier of a checkpoint for another number of classes is ignored, see `LoadReport`.

References
----------
J. Carreira and A. Zisserman, "Quo Vadis, Action Recognition? A New Model and the Kinetics
Dataset", CVPR 2017 (section 2.4.1: bootstrapping 3-D filters from 2-D ones).
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from vad_helpers.errors import InputError
from vad_helpers.files import write_whole
from vad_helpers.model import googlenet
from vad_helpers.model.i3d import STAGES, InceptionI3d

State = dict[str, Tensor]

CLASSES = ("normal", "anomalous")
FORMAT = "vad_helpers.InceptionI3d"
OWN_FORMAT = "vad_helpers.own"
METADATA = {"mean": float, "std": float, "classes": list, "width": float, "num_classes": int}

_CONV = ".conv3d.weight"
_HEAD = "logits.conv3d."

# Units in torchvision's GoogLeNet -> names here; both list their blocks in order.
_BRANCHES = {"1": "b0", "2.0": "b1a", "2.1": "b1b", "3.0": "b2a", "3.1": "b2b", "4.1": "b3b"}
_MIXED = [name for name in STAGES if name.startswith("Mixed")]
_UNITS = {"conv1": "Conv3d_1a_7x7", "conv2": "Conv3d_2b_1x1", "conv3": "Conv3d_2c_3x3"} | {
    f"inception{theirs}.branch{branch}": f"{ours}.{unit}"
    for theirs, ours in zip(googlenet.BLOCKS, _MIXED, strict=True)
    for branch, unit in _BRANCHES.items()
}


def save(
    model: InceptionI3d,
    path: str | Path,
    *,
    mean: float = 0.5,
    std: float = 0.5,
    classes: Sequence[str] = CLASSES,
    half: bool = False,
    **extra: Any,
) -> None:
    """Save a model to safetensors, whole or not at all.

    Parameters
    ----------
    model : InceptionI3d
    path : str or Path
        Its folder is made if need be.
    mean, std : float, default 0.5
        Normalisation of grey values in [0, 1] that the model expects: (grey - mean) / std.
    classes : sequence of str, default ("normal", "anomalous")
        Names of the logits, in order.
    half : bool, default False
        Store convolutions in float16 (batch norms stay float32): half the size, for publishing.
    **extra
        More metadata, such as the origin of the initial weights: strings, or values kept as JSON.

    Raises
    ------
    ValueError
        If `classes` contradicts the model, or `extra` names a reserved entry.
    OSError
        If the file cannot be written; an older file is left as it was.
    """
    metadata = describe(model, mean=mean, std=std, classes=classes, **extra)
    save_state(model.state_dict(), path, metadata, half=half)


def describe(
    model: InceptionI3d,
    *,
    mean: float = 0.5,
    std: float = 0.5,
    classes: Sequence[str] = CLASSES,
    **extra: Any,
) -> dict[str, str]:
    """Metadata that `load` needs to rebuild a model; parameters as in `save`."""
    own = not isinstance(model, InceptionI3d)  # of two logits, see `adapter.two_logits`
    n_classes, width = (2, 1.0) if own else (model.num_classes, model.width)
    if len(classes) != n_classes:
        raise ValueError(f"classes are {list(classes)} for {n_classes} logits: name each")
    if clash := sorted(set(extra) & {"format", *METADATA}):
        raise ValueError(f"metadata {', '.join(clash)} is reserved: rename it")
    entries = {"format": OWN_FORMAT if own else FORMAT, "mean": float(mean), "std": float(std)}
    entries |= {"classes": list(classes), "width": width, "num_classes": n_classes, **extra}
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in entries.items()}


def save_state(
    state: State, path: str | Path, metadata: Mapping[str, str], *, half: bool = False
) -> None:
    """Write a state dict and its `describe`d metadata; see `save`."""
    tensors = {
        name: (tensor.half() if half and _is_halved(tensor) else tensor).cpu().contiguous()
        for name, tensor in state.items()
    }
    write_whole(path, to_bytes(tensors, metadata=dict(metadata)))


@torch.no_grad()
def round_to_half(model: InceptionI3d) -> None:
    """Round a model's convolutions, in place, to what float16 holds; they stay float32.

    A file that `save` writes with `half` then holds this very model, to the last bit. ValueError if
    a weight is larger than float16 holds.
    """
    for name, parameter in model.named_parameters():
        if _is_halved(parameter):
            rounded = parameter.half().float()
            if not torch.isfinite(rounded).all():
                raise ValueError(f"{name} has weights beyond float16's range of 65504")
            parameter.copy_(rounded)


def _is_halved(tensor: Tensor) -> bool:
    return tensor.ndim == 5  # convolutions: variances of batch norms can be too small for float16


def fingerprint(model: InceptionI3d) -> str:
    """SHA-256 of a model's weights in hexadecimal: the same for the same bits, however stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def load(path: str | Path, model: nn.Module | None = None) -> tuple[nn.Module, dict[str, Any]]:
    """Load a model that `save` wrote, or the weights of a network of one's own.

    Parameters
    ----------
    path : str or Path
        A `.safetensors` file; for a `model` also a `.pt` file that holds tensors only.
    model : nn.Module, optional
        A network of one's own that takes the weights, by name and shape; default: an I3D is made.

    Returns
    -------
    model : InceptionI3d or nn.Module
        In evaluation mode, on the CPU, float32.
    metadata : dict
        `mean`, `std`, `width` (float), `num_classes` (int), `classes` (list of str), and whatever
        else was saved, as strings. Of a file that `save` did not write: nothing.

    Raises
    ------
    InputError
        If there is no such file, it is damaged, it was not written by `save`, or its tensors are
        not those of the model that its metadata describes.
    """
    state, metadata = _read(Path(path))
    foreign = model is not None and metadata.get("format") != OWN_FORMAT
    try:
        names = {} if foreign else METADATA
        known = {name: kind(json.loads(metadata[name])) for name, kind in names.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path} lacks the metadata {', '.join(METADATA)} of a trained model: to start "
            "training from such a checkpoint, give it as initial weights"
        ) from error
    floats = {name: tensor for name, tensor in state.items() if tensor.is_floating_point()}
    _check_values(state if model is None else floats, path)
    described = "the weights of the model"
    try:
        if model is None:
            described = f"the model that its metadata describes, {known}; save it again"
            # Fresh weights are drawn and overwritten: the caller's generator must not notice.
            with torch.random.fork_rng(devices=[]):
                model = InceptionI3d(known["num_classes"], known["width"])
        model.load_state_dict(state, strict=True)
    except (RuntimeError, ValueError) as error:
        told = " ".join(str(error).split())[:300]
        raise InputError(f"{path} does not hold {described}: {told}") from error
    kept = {} if foreign else {k: v for k, v in metadata.items() if k != "format"}
    return model.eval(), kept | known


@dataclass(frozen=True)
class LoadReport:
    """What `initialise` did, by names of tensors and of convolutions.

    Attributes
    ----------
    matched : tuple of str
        Tensors that were loaded.
    missing : tuple of str
        Tensors of the model that the checkpoint lacks, but for counters of batches
        (`num_batches_tracked`), on which nothing depends: left as they were.
    ignored : tuple of str
        Tensors of the checkpoint that were not used: unknown names, a classifier of other classes.
    mismatched : dict of str to (tuple, tuple)
        Other tensors of another shape: (in the checkpoint, in the model); left as they were.
    convolutions_matched, convolutions_missing : tuple of str
        Convolutions of the model whose weight the checkpoint holds, or lacks.
    classifier : (int, int) or None
        Classes (in the checkpoint, in the model) if they differ: the classifier is then left fresh.
    """

    matched: tuple[str, ...]
    missing: tuple[str, ...]
    ignored: tuple[str, ...]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    convolutions_matched: tuple[str, ...]
    convolutions_missing: tuple[str, ...]
    classifier: tuple[int, int] | None

    @property
    def n_convolutions_loaded(self) -> int:
        """Convolutions whose weights were copied: a classifier of other classes starts fresh."""
        return len(self.convolutions_matched) - (self.classifier is not None)


def initialise(
    model: InceptionI3d, path: str | Path, *, clips: Iterable[Tensor] | None = None
) -> LoadReport:
    """Start a model from a checkpoint: copy every tensor that fits by name and shape.

    Parameters
    ----------
    model : InceptionI3d
        Changed in place.
    path : str or Path
        A `.safetensors` file, or one that `torch.load` reads (`.pt`, `.pth`, `.ckpt`, ...), of an
        I3D, or of a 2-D Inception-v1 to be inflated.
    clips : iterable of Tensor (3, T, H, W), optional
        Training clips in [-1, 1], some forty, of one shape. Only for a network in Caffe's layout,
        whose batch norms are measured on them.

    Returns
    -------
    LoadReport

    Raises
    ------
    InputError
        If there is no such file, it is damaged or no checkpoint, or loading it would run code; if
        fewer than half of the model's convolutions fit (it is of another architecture or width),
        two prefixes hold a network each, a weight is not finite, or a network in Caffe's layout
        comes without clips. The model is then as before.
    """
    matched, report, network_2d = _fit(model, path)
    if not network_2d:
        model.load_state_dict(matched, strict=False)
        return report
    clips = [] if clips is None else list(clips)
    if not clips:
        raise InputError(
            f"{path} has no batch norms, which are measured on training clips, and there are none: "
            "give clips"
        )
    matched |= inflate(googlenet.matched_norms(network_2d, clips))
    model.load_state_dict(matched, strict=False)
    n = -(-len(clips) // 5)  # batches as even as can be: batch norm may refuse a single clip
    with torch.random.fork_rng(devices=[]):  # dropout draws
        update_bn((torch.stack(clips[i::n]) for i in range(n)), model)
    return report


def fits(model: InceptionI3d, path: str | Path) -> LoadReport:
    """What `initialise` would do, InputError included, without clips and without doing it."""
    return _fit(model, path)[1]


def _fit(model: InceptionI3d, path: str | Path) -> tuple[State, LoadReport, State]:
    """What of a checkpoint fits a model, the report, and its 2-D network if Caffe's, else {}."""
    own, (state, _) = model.state_dict(), _read(Path(path))
    network_2d: State = {}
    prefix = _common_prefix(state, own, path)
    state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    if googlenet.TENSORS <= state.keys():
        network_2d, state = state, googlenet.as_torchvision(state)
    if not own.keys() & state.keys():
        state = inflate(state)
    shapes = {n: (tuple(state[n].shape), tuple(own[n].shape)) for n in own if n in state}
    matched = {name: state[name] for name, (theirs, ours) in shapes.items() if theirs == ours}
    mismatched = {name: pair for name, pair in shapes.items() if name not in matched}
    classifier, head = None, []
    theirs, ours = mismatched.get(_HEAD + "weight", ((), ()))
    if theirs and theirs[1:] == ours[1:]:  # the number of classes alone tells the two apart
        classifier = theirs[0], ours[0]
        head = [name for name in mismatched if name.startswith(_HEAD)]
    convolutions = [name.removesuffix(_CONV) for name in own if name.endswith(_CONV)]
    report = LoadReport(
        matched=tuple(matched),
        missing=tuple(n for n in own if n not in state and not n.endswith("num_batches_tracked")),
        ignored=(*(name for name in state if name not in own), *head),
        mismatched={name: pair for name, pair in mismatched.items() if name not in head},
        convolutions_matched=tuple(n for n in convolutions if n + _CONV in {*matched, *head}),
        convolutions_missing=tuple(n for n in convolutions if n + _CONV not in state),
        classifier=classifier,
    )
    loaded = report.n_convolutions_loaded
    if 2 * loaded < len(convolutions):
        other = [f"{name} {theirs} for {ours}" for name, (theirs, ours) in mismatched.items()]
        raise InputError(
            f"{path} fits {loaded} of the model's {len(convolutions)} convolutions (prefix "
            f"{prefix!r}; {len(other)} tensors of another shape, such as {'; '.join(other[:2])}): "
            "expected an I3D, or a whole 2-D Inception-v1 in GoogLeNet's layout, of the same width"
        )
    _check_values(matched, path)
    return matched, report, network_2d


def _read(path: Path) -> tuple[State, dict[str, str]]:
    """Tensors of a file, floats as float32, and the metadata of safetensors.

    Wrappers are taken off; keys of other dicts around the state become prefixes of its names.
    """
    if not path.is_file():
        raise InputError(f"no weights file {path}: give the path of a .safetensors or .pt file")
    metadata: dict[str, str] = {}
    try:
        if path.suffix.lower() == ".safetensors":
            with safe_open(path, framework="pt", device="cpu") as file:
                content: Any = {name: file.get_tensor(name) for name in file.keys()}
                metadata = file.metadata() or {}
        else:
            with warnings.catch_warnings(action="ignore"):  # of odd pickle protocols
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can raise nearly anything
        if re.search(r"GLOBAL|Unsupported class|Trying to|Can only", str(error)):
            raise InputError(
                f"{path} holds Python objects besides tensors, and loading them could run code: "
                "not loaded; save its state_dict() alone, or convert it to .safetensors"
            ) from error
        raise InputError(
            f"{path} cannot be read as weights ({type(error).__name__}): it is damaged or of "
            "another kind; fetch it again"
        ) from error
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    state: State = {}
    left, seen = [("", content)], set()
    while left:
        prefix, entries = left.pop()
        if isinstance(entries, Tensor):
            entries = entries.detach()
            floats = entries.is_floating_point()
            state[prefix.removesuffix(".")] = entries.float() if floats else entries
        elif isinstance(entries, Mapping) and id(entries) not in seen:  # it may hold itself
            seen.add(id(entries))
            left += [(f"{prefix}{name}.", value) for name, value in reversed(entries.items())]
    state.pop("", None)  # a bare tensor
    if not state:
        raise InputError(
            f"{path} holds no named tensors but {type(content).__name__}: expected a state dict, "
            'or a dict with one under "state_dict" or "model"'
        )
    return state, metadata


def _common_prefix(names: Iterable[str], own: Iterable[str], path: str | Path) -> str:
    """What to cut from a state's names so that they fit an I3D or a 2-D Inception-v1."""
    own, names = set(own), list(names)
    counts: Counter[str] = Counter()
    for name in names:
        for cut in (0, *(dot.end() for dot in re.finditer(r"\.", name))):
            rest = name[cut:]
            if rest in own or _name_in_3d(rest) or rest in googlenet.TENSORS:
                counts[name[:cut]] += 1
                break
    if not counts:
        raise InputError(
            f"{path} fits 0 of the model's convolutions, whatever prefix is cut from its names, "
            f"such as {', '.join(names[:2])}; expected an I3D (Mixed_3b.b0.conv3d.weight), or a "
            "2-D Inception-v1 (inception3a.branch1.conv.weight, inception_3a_1x1.weight)"
        )
    (prefix, most), *others = counts.most_common()
    if rivals := [repr(other) for other, n in others if 2 * n > most]:
        raise InputError(
            f"{path} holds a network under each of the prefixes {prefix!r}, {', '.join(rivals)}: "
            "save the state_dict() of the one to start from alone"
        )
    return prefix


def inflate(state_2d: Mapping[str, Tensor]) -> State:
    """Turn the weights of a 2-D Inception-v1 into those of an I3D.

    Each filter is repeated along time, as deep as it is wide, and divided by its depth: a video
    that repeats one image gives the 2-D network's activations, away from the padding in time.

    Parameters
    ----------
    state_2d : mapping of str to Tensor
        In the layout of torchvision's GoogLeNet (whose third branches are 3x3, as in the I3D):
        `conv1.conv.weight` (64, 3, 7, 7), `inception3a.branch2.1.bn.running_mean` and so on.
        Expects images in [-1, 1].

    Returns
    -------
    dict of str to Tensor
        In the layout of `InceptionI3d`, convolutions (out, in, k, k, k). Tensors without a
        counterpart (`fc.*`, `aux1.*`, `aux2.*`) keep their names, so that `initialise` reports
        them as ignored.

    Raises
    ------
    InputError
        If a filter is not square in 2-D.
    """
    state: State = {}
    for name, tensor in state_2d.items():
        name_3d = _name_in_3d(name) or name
        if name_3d != name and name_3d.endswith(_CONV):
            if tensor.ndim != 4 or tensor.shape[2] != tensor.shape[3]:
                raise InputError(
                    f"{name} has shape {tuple(tensor.shape)}: expected a square 2-D filter "
                    "(out, in, k, k)"
                )
            depth = tensor.shape[-1]
            tensor = tensor.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth
        state[name_3d] = tensor
    return state


def _name_in_3d(name: str) -> str | None:
    """Name in an I3D of a tensor of GoogLeNet; None if it has no counterpart."""
    match = re.fullmatch(r"(.+)\.(conv|bn)\.(\w+)", name)
    if match is None or match[1] not in _UNITS:
        return None
    return f"{_UNITS[match[1]]}.{'conv3d' if match[2] == 'conv' else 'bn'}.{match[3]}"


def _check_values(state: Mapping[str, Tensor], path: str | Path) -> None:
    """Raise InputError, which names the tensor, if one holds anything but finite floats."""
    for name, tensor in state.items():
        if name.endswith("num_batches_tracked"):
            continue
        if not tensor.is_floating_point():
            raise InputError(f"{path}: {name} is {tensor.dtype}: expected floats")
        if not torch.isfinite(tensor).all():
            raise InputError(f"{path}: {name} holds NaN or infinite values: fetch it again")
