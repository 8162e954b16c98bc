"""Profiles and parameters: one typed list, read from YAML, strict about names and types.

A *profile* is a YAML file in `params/` that gives every parameter its value; `quick` and `ucsd`
differ by their YAML alone. Notebooks, `vad run` and papermill override single values.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vad_helpers.errors import InputError

MERGED = ("settings", "variants")
"""Parameters whose overrides change the profile's value entry by entry."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Params:
    """Everything a run depends on.

    Attributes
    ----------
    profile : str
        Name of the YAML file in `params/`, or a path to one.
    dataset : str
        "walkway" (synthetic, written when missing) or "ucsd" (a tree on disk).
    data_dir : str
        Folder of the dataset's tree, relative to the project's folder.
    run_dir : str or None
        Where this run's results go; None means `runs/<profile>/fold-<fold>`.
    seed : int
        Seed of data, split, training and every sampled explanation.
    device : str
        "auto" (CUDA where there is a GPU), "cpu" or "cuda".
    precision : str
        Of explanations and scores: "fp32", "bf16", or "auto" (each method's default, bf16 scores;
        all in fp32 on a device that only emulates bf16).
    train_precision : str
        Of training: "fp32", "bf16", or "auto" (as `precision`; where that is "auto" too, bf16
        unless the device only emulates it).
    fold : int
        Fold that is tested; the next one validates, the rest trains.
    n_clips : int
        Clips of the evaluation set: at most so many are explained in this run.
    study_clips : int or None
        Clips of a study over all folds, of which this run explains those of its test fold, each
        by a network that never saw it; None lets the run choose among all clips of its own fold.
    methods : list of str
        Attribution methods, in the order of the tables.
    epochs : int
        Passes over the training clips, or draws of `epoch_clips` from them.
    init_weights : str or None
        2-D Inception-v1 or I3D checkpoint to start from; None trains from scratch.
    trained_weights : str or None
        Weights to evaluate instead of training.
    n_clips_slow : int or None
        Clips for methods that need over 500 model calls a clip; None means all `n_clips`.
    frame_size : list of int
        Height and width in pixels after resizing.
    masks : str
        Which masks measure localisation: "official", "added" (those that came later), or "all".
    walkway : dict
        Options of the synthetic dataset, see `vad_helpers.data.walkway.WalkwaySpec`.
    n_frames, stride : int
        Length of a clip and step between clips, in frames.
    n_folds, max_per_sequence : int
        Folds of the split; most clips of one sequence in the evaluation set.
    split_by : str
        What is dealt to the folds: "sequence", or "clip", with which a network is tested on
        sequences that it has seen (for `vad_helpers.store.alternatives` alone).
    mean, std : float
        Normalisation of grey values in [0, 1].
    model_width : float
        Multiplier of the network's channels; 1 is the Inception-I3D.
    batch_size, lr, weight_decay, lr_schedule, lr_step, lr_gamma
        Training, see `vad_helpers.model.recipe.TrainingSpec`.
    train_stride : int or None
        Step between the clips that are trained on, in frames; None means `stride`. A smaller one
        gives overlapping clips.
    epoch_clips, early_lr, early_end, average, label_smoothing, patience
        Training, too. `early_lr` counts with `init_weights` alone: without them every stage starts
        at random, and learns at the full rate.
    augmentation : dict
        How training clips are varied, see `vad_helpers.data.augmentation.Augmentation`.
    baseline : str
        What replaces removed pixels: "blur", "strong_blur", "spacetime_blur" or "black".
    settings : dict
        Method -> its settings, where they differ from the paper's.
    variants : dict
        Extra rows of the tables: name -> {method: ..., baseline: ..., weights: ..., n_clips: ...,
        seed: ..., precision: ..., label: ..., setting: ...}; `weights` is "trained" or "random",
        `n_clips` fewer clips than the run's, `seed` another one than the run's for what the method
        draws, `precision` what "auto" means for this row.
    n_thresholds : int
        Steps of the threshold axis (IoU, F1, deletion, insertion).
    area_steps : int
        Steps of the area axis (RISE's curves).
    n_resamples : int
        Bootstrap resamples of the intervals.
    eval_batch_size : int
        Clips evaluated together; changes speed and memory, not results.
    runtime_repeats : int
        Timed repetitions of each fast method.
    """

    profile: str
    dataset: str
    data_dir: str
    run_dir: str | None
    seed: int
    device: str
    precision: str
    fold: int
    n_clips: int
    methods: list[str]
    epochs: int
    init_weights: str | None
    trained_weights: str | None
    n_clips_slow: int | None
    study_clips: int | None
    frame_size: list[int]
    masks: str
    walkway: dict[str, Any]
    n_frames: int
    stride: int
    n_folds: int
    split_by: str
    max_per_sequence: int
    mean: float
    std: float
    model_width: float
    batch_size: int
    train_precision: str
    lr: float
    weight_decay: float
    lr_schedule: str
    lr_step: int
    lr_gamma: float
    train_stride: int | None
    epoch_clips: int | None
    early_lr: float
    early_end: str
    average: float
    label_smoothing: float
    patience: int | None
    augmentation: dict[str, Any]
    baseline: str
    settings: dict[str, Any]
    variants: dict[str, Any]
    n_thresholds: int
    area_steps: int
    n_resamples: int
    eval_batch_size: int
    runtime_repeats: int

    @property
    def black(self) -> float:
        """Value of a black pixel after normalisation."""
        return (0.0 - self.mean) / self.std


def names() -> list[str]:
    """List the parameters every profile has, in their documented order."""
    return [field.name for field in dataclasses.fields(Params)]


def project_root(start: str | Path | None = None) -> Path:
    """Find the project's folder: the nearest one upward that holds `params/quick.yaml`.

    Raises
    ------
    InputError
        If there is none from `start` (default: the working folder) upward.
    """
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "params" / "quick.yaml").is_file():
            return folder
    raise InputError(
        f"{start} is not inside the project (no params/quick.yaml upward); change into its folder"
    )


def profile_path(profile: str, root: Path) -> Path:
    """Path of a profile's YAML: a name in `params/`, or a path to a `.yaml` file.

    Raises
    ------
    InputError
        If there is no such profile; the message lists those there are.
    """
    path = Path(profile) if profile.endswith((".yaml", ".yml")) else None
    path = (root / path) if path else root / "params" / f"{profile}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in (root / "params").glob("*.yaml"))
        raise InputError(f"unknown profile '{profile}'; there are {', '.join(known)}")
    return path


def load(profile: str = "quick", *, root: Path | None = None, **overrides: Any) -> Params:
    """Read a profile and apply overrides, strict about names and types.

    Parameters
    ----------
    profile : str
        A name in `params/` or a path to a YAML file.
    root : Path, optional
        The project's folder; found from the working folder by default.
    **overrides
        Values that replace the profile's. None keeps the profile's value, so that a notebook's
        parameter cell can leave a choice to the profile. `settings` and `variants` change the
        profile's entry by entry, see `merged`.

    Returns
    -------
    Params

    Raises
    ------
    InputError
        For an unknown profile or parameter, a missing one, or a value of the wrong type.
    """
    root = root or project_root()
    path = profile_path(profile, root)
    values = _read_yaml(path)
    check_overrides(overrides)
    for name, value in overrides.items():
        if value is not None:
            values[name] = merged(values.get(name), value) if name in MERGED else value
    values["profile"] = path.stem if path.parent == root / "params" else str(profile)
    _check_names(values)
    hints = typing.get_type_hints(Params)
    typed = {name: coerce(name, value, hints[name]) for name, value in values.items()}
    params = Params(**typed)
    _check_values(params)
    return params


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Refuse overrides of what is no parameter, and of the profile's own name.

    Raises
    ------
    InputError
        If there are any.
    """
    if "profile" in overrides:
        raise InputError(
            f"parameter 'profile' is {overrides['profile']!r}; choose the profile by its own "
            "option (--profile on the command line), not as an override"
        )
    _check_known(overrides)


def merged(base: Any, change: Any) -> Any:
    """Merge a mapping of mappings (method -> settings, variant -> description) into another.

    Parameters
    ----------
    base : mapping
        The profile's.
    change : mapping
        Entries that are mappings change those of the same name item by item; None removes one.
        An empty mapping removes all.

    Returns
    -------
    dict
        Or `change` itself if one of the two is no mapping: the check of types reports it.
    """
    if not (isinstance(base, Mapping) and isinstance(change, Mapping) and change):
        return change
    result = dict(base)
    for name, entry in change.items():
        both = isinstance(result.get(name), Mapping) and isinstance(entry, Mapping)
        result[name] = {**result[name], **entry} if both else entry
    return {name: entry for name, entry in result.items() if entry is not None}


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value` from the command line; the value is read as YAML.

    Raises
    ------
    InputError
        If there is no `=`, no key, or the value is not YAML.
    """
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise InputError(f"'{text}' is not a parameter; write key=value, for example epochs=3")
    try:
        return name.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise InputError(f"the value of parameter '{name}' is not YAML: {value}") from None


def coerce(name: str, value: Any, kind: Any) -> Any:
    """Check `value` against a type hint; whole numbers may stand for floats.

    Raises
    ------
    InputError
        If it does not fit.
    """
    if _is_union(kind):
        options = typing.get_args(kind)
        if value is None and type(None) in options:
            return None
        kind = next(option for option in options if option is not type(None))
    origin = typing.get_origin(kind)
    if origin is list and isinstance(value, list | tuple):
        (item,) = typing.get_args(kind)
        return [coerce(name, element, item) for element in value]
    if kind is float:
        return _as_float(name, value)
    fits = isinstance(value, origin or kind) and (kind is bool or not isinstance(value, bool))
    if not fits:
        raise InputError(
            f"parameter '{name}' is {value!r} ({type(value).__name__}); expected {_spell(kind)}"
        )
    return value


def _as_float(name: str, value: Any) -> float:
    # YAML 1.1 reads 1e-3 as a string (it wants 1.0e-3); people write the former.
    try:
        if isinstance(value, bool) or not math.isfinite(float(value)):
            raise ValueError
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise InputError(
            f"parameter '{name}' is {value!r} ({type(value).__name__}); expected a finite number"
        ) from None


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (types.UnionType, typing.Union)


def _spell(kind: Any) -> str:
    return {int: "a whole number", str: "text", bool: "true or false"}.get(
        kind, str(kind).replace("typing.", "")
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8"
        ) from None
    except yaml.YAMLError as error:
        where = str(error).splitlines()[0]
        raise InputError(f"{path} is not readable YAML: {where}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no `parameter: value` lines")
    return values


def _check_known(given: Mapping[str, Any]) -> None:
    known = names()
    for name in given:
        if name not in known:
            close = difflib.get_close_matches(str(name), known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"
            raise InputError(f"unknown parameter '{name}'{hint}")


def _check_names(values: Mapping[str, Any]) -> None:
    _check_known(values)
    missing = [name for name in names() if name not in values]
    if missing:
        raise InputError(f"profile '{values['profile']}' lacks {', '.join(missing)}")


CHOICES = {
    "dataset": ("walkway", "ucsd"),
    "masks": ("official", "added", "all"),
    "split_by": ("sequence", "clip"),
    "device": ("auto", "cpu", "cuda"),
    "precision": ("fp32", "bf16", "auto"),
    "train_precision": ("fp32", "bf16", "auto"),
    "lr_schedule": ("step", "onecycle"),
    "baseline": ("blur", "strong_blur", "spacetime_blur", "black"),
}
MINIMA = {
    "seed": 0,
    "n_folds": 3,
    "weight_decay": 0,
    **dict.fromkeys(("n_clips", "n_clips_slow", "max_per_sequence", "n_frames", "stride"), 1),
    **dict.fromkeys(("epochs", "batch_size", "lr_step", "n_thresholds", "area_steps"), 1),
    **dict.fromkeys(("study_clips", "train_stride", "epoch_clips", "patience"), 1),
    **dict.fromkeys(("n_resamples", "eval_batch_size", "runtime_repeats"), 1),
}
POSITIVE = ("std", "model_width", "lr", "lr_gamma")
MAX_SEED = 2**32 - 1  # NumPy's legacy generator takes no larger one


def _check_values(params: Params) -> None:
    for name, allowed in CHOICES.items():
        _require(params, name, getattr(params, name) in allowed, f"one of {', '.join(allowed)}")
    for name, least in MINIMA.items():
        value = getattr(params, name)
        _require(params, name, value is None or value >= least, f"at least {least}")
    for name in POSITIVE:
        _require(params, name, getattr(params, name) > 0, "a positive number")
    _require(params, "seed", params.seed <= MAX_SEED, f"at most {MAX_SEED}")
    _require(params, "lr_gamma", params.lr_gamma <= 1, "at most 1")
    _require(params, "fold", 0 <= params.fold < params.n_folds, f"0 to {params.n_folds - 1}")
    size = params.frame_size
    fits = len(size) == 2 and min(size) >= 1
    _require(params, "frame_size", fits, "[height, width] in pixels")
    _require(params, "methods", bool(params.methods), "a method at least")
    for name in MERGED:
        for entry, value in getattr(params, name).items():
            fits = isinstance(entry, str) and isinstance(value, Mapping)
            _require(params, name, fits, f"a mapping for each entry, given {entry}: {value}")


def _require(params: Params, name: str, holds: bool, expected: str) -> None:
    if not holds:
        raise InputError(f"parameter '{name}' is {getattr(params, name)!r}; expected {expected}")
