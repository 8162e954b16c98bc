"""Profiles and parameters: one typed list, read from YAML, strict about names and types.

A *profile* is a YAML file in `params/` that gives every parameter its value; `quick` and `ucsd`
differ by their YAML alone. Notebooks, the command line and papermill override single values.

YAML is read as version 1.2 has it: 010 is ten, `yes`, `1:30` and `2020-01-01` are text, and a name
that stands twice is an error. (Version 1.1 makes 8, true, 90 and a date of them without a word.)
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from vad_helpers.attribution import METHODS, checks
from vad_helpers.data.augmentation import Augmentation
from vad_helpers.data.walkway import WalkwaySpec
from vad_helpers.errors import InputError
from vad_helpers.model.i3d import STAGES

MERGED = ("settings", "variants")
"""Parameters whose overrides change the profile's value entry by entry."""
REFERENCES = ("random", "centre", "motion", "constant", "random_weights", "ig_time_average")
"""Names of the reference rows; no variant may have them."""
_NUMBER = re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)([eE][-+]?\d+)?")


def _written_number(value: Any) -> Any:
    # YAML 1.1, which papermill reads, takes 1e-3 for text (it wants 1.0e-3).
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


Seed = Annotated[int, Field(ge=0, le=checks.MAX_SEED)]  # NumPy's legacy generator takes no larger
Count = Annotated[int, Field(ge=1)]
Real = Annotated[float, BeforeValidator(_written_number), Field(allow_inf_nan=False)]
Positive = Annotated[Real, Field(gt=0)]
NotNegative = Annotated[Real, Field(ge=0)]
Decay = Annotated[Real, Field(ge=0, lt=1)]
Precision = Literal["fp32", "bf16", "auto"]
Baseline = Literal["blur", "strong_blur", "spacetime_blur", "black"]


class Variant(BaseModel):
    """A row beside the methods: one of them, with something changed.

    Attributes
    ----------
    method : str
    baseline : str or None
        None: the run's.
    weights : {"trained", "random"}
    n_clips : int or None
        Fewer clips than the run explains.
    seed : int or None
        Another one than the run's, for what the method draws.
    precision : str or None
        What "auto" means for this row; None: the method's own.
    label : str or None
        Name for people.
    **settings
        Any other name is a setting of the method.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    method: str
    baseline: Baseline | None = None
    weights: Literal["trained", "random"] = "trained"
    n_clips: Count | None = None
    seed: Seed | None = None
    precision: Literal["fp32", "bf16"] | None = None
    label: str | None = None


class Params(BaseModel):
    """Everything a run depends on.

    Attributes
    ----------
    profile : str
        Name of the YAML file in `params/`, or a path to one.
    dataset : {"walkway", "ucsd"}
        Synthetic videos, written when missing, or a tree on disk.
    data_dir : str
        Folder of the dataset's tree, relative to the project's folder.
    run_dir : str or None
        Where this run's results go; None: `runs/<profile>/fold-<fold>`.
    seed : int
        Seed of data, split, training and every sampled explanation.
    device : {"auto", "cpu", "cuda"}
        "auto": CUDA where there is a GPU.
    precision : {"fp32", "bf16", "auto"}
        Of explanations and scores. "auto": each method's default, bf16 scores; all in fp32 where
        the device only emulates bf16.
    train_precision : {"fp32", "bf16", "auto"}
        Of training. "auto": as `precision`; where that is "auto" too, bf16 where it is computed.
    fold : int
        Fold that is tested; the next one validates, the rest trains.
    n_clips : int
        At most so many clips are explained in this run.
    study_clips : int or None
        Clips of a study over all folds, of which this run explains those of its own fold; None:
        the run chooses among all clips of its fold.
    methods : list of str
        Attribution methods, in the order of the tables.
    epochs : int
        Passes over the training clips, or draws of `epoch_clips` from them.
    init_weights : str or None
        2-D Inception-v1 or I3D checkpoint to start from; None trains from scratch.
    trained_weights : str or None
        Weights to evaluate instead of training.
    n_clips_slow : int or None
        Clips for rows of over 500 model calls a clip; None: all `n_clips`.
    frame_size : list of int
        Height and width in pixels after resizing.
    masks : {"official", "added", "all"}
        Which masks measure localisation.
    walkway, augmentation : dict
        Options of `vad_helpers.data.walkway.WalkwaySpec`, and of
        `vad_helpers.data.augmentation.Augmentation`.
    n_frames, stride : int
        Length of a clip and step between clips, in frames.
    n_folds, max_per_sequence : int
        Folds of the split; most clips of one sequence in the evaluation set.
    split_by : {"sequence", "clip"}
        What is assigned to folds. With "clip" a network is tested on sequences that it has seen:
        for an `alternative` alone.
    alternative : str or None
        Name of the choice that this run settles differently from the profile, to be measured
        beside the study's folds; None: the run is the study's, or stands for itself.
    mean, std : float
        Normalisation of grey values in [0, 1].
    model_width : float
        Multiplier of the network's channels; 1 is the Inception-I3D.
    batch_size, lr, weight_decay, lr_schedule, lr_step, lr_gamma, epoch_clips, early_lr, early_end, \
average, label_smoothing, patience
        Training, see `vad_helpers.model.training.TrainingSpec`. `early_lr` counts with
        `init_weights` alone: without them every stage starts at random, and learns at full rate.
    train_stride : int or None
        Step between the clips that are trained on, in frames; None: `stride`.
    baseline : {"blur", "strong_blur", "spacetime_blur", "black"}
        What replaces removed pixels.
    settings : dict of dict
        Method -> its settings, where they differ from the paper's.
    variants : dict of Variant
        Extra rows of the tables, by name.
    n_thresholds, area_steps : int
        Steps of the threshold axis (IoU, F1, deletion, insertion), and of the area axis (RISE).
    n_resamples : int
        Bootstrap resamples of the intervals.
    eval_batch_size : int
        Clips evaluated together; changes speed and memory, not results.
    runtime_repeats : int
        Timed repetitions of each fast method.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    profile: str
    dataset: Literal["walkway", "ucsd"]
    data_dir: str
    run_dir: str | None
    seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    precision: Precision
    train_precision: Precision
    fold: Annotated[int, Field(ge=0)]
    n_clips: Count
    methods: Annotated[list[str], Field(min_length=1, strict=False)]
    epochs: Count
    init_weights: str | None
    trained_weights: str | None
    n_clips_slow: Count | None
    study_clips: Count | None
    frame_size: Annotated[list[Count], Field(min_length=2, max_length=2, strict=False)]
    masks: Literal["official", "added", "all"]
    walkway: dict[str, Any]
    n_frames: Count
    stride: Count
    n_folds: Annotated[int, Field(ge=3)]
    split_by: Literal["sequence", "clip"]
    alternative: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None
    max_per_sequence: Count
    mean: Real
    std: Positive
    model_width: Positive
    batch_size: Count
    lr: Positive
    weight_decay: NotNegative
    lr_schedule: Literal["step", "onecycle"]
    lr_step: Count
    lr_gamma: Annotated[Positive, Field(le=1)]
    train_stride: Count | None
    epoch_clips: Count | None
    early_lr: Annotated[NotNegative, Field(le=1)]
    early_end: Literal[tuple(STAGES)]  # type: ignore[valid-type]
    average: Decay
    label_smoothing: Decay
    patience: Count | None
    augmentation: dict[str, Any]
    baseline: Baseline
    settings: dict[str, dict[str, Any]]
    variants: dict[str, Variant]
    n_thresholds: Count
    area_steps: Count
    n_resamples: Count
    eval_batch_size: Count
    runtime_repeats: Count

    @property
    def black(self) -> float:
        """Value of a black pixel after normalisation."""
        return (0.0 - self.mean) / self.std

    def dump(self) -> dict[str, Any]:
        """Values as JSON and YAML hold them; of variants, those that were given."""
        values = self.model_dump(exclude={"variants"})
        values["variants"] = {k: v.model_dump(exclude_unset=True) for k, v in self.variants.items()}
        return values


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


def load(profile: str = "quick", *, root: Path | None = None, **overrides: Any) -> Params:
    """Read a profile and apply overrides, strict about names and types.

    Parameters
    ----------
    profile : str
        A name in `params/` or a path to a YAML file.
    root : Path, optional
        The project's folder; found from the working folder by default.
    **overrides
        Values that replace the profile's; see `override`.

    Returns
    -------
    Params

    Raises
    ------
    InputError
        For an unknown profile, parameter, method or setting, a missing parameter, or a value of
        the wrong type or out of its range.
    """
    root = root or project_root()
    path = root / profile if profile.endswith((".yaml", ".yml")) else root / f"params/{profile}.yaml"
    if not path.is_file():
        known = sorted(p.stem for p in (root / "params").glob("*.yaml"))
        raise InputError(f"unknown profile '{profile}'; there are {', '.join(known)}")
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it so") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not readable YAML: {_in_one_line(error)}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no `parameter: value` lines")
    values["profile"] = path.stem if path.parent == root / "params" else str(profile)
    return checked(override(values, overrides))


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put values in the place of others.

    Parameters
    ----------
    values : mapping
        By parameter.
    changes : mapping
        None keeps a value, so that a notebook's parameters cell can leave a choice to the profile.
        In `settings` and `variants`, entries change those of the same name item by item, None
        removes one, and an empty mapping removes all.

    Raises
    ------
    InputError
        For a name that is no parameter, and for `profile`.
    """
    if "profile" in changes:
        raise InputError(
            f"parameter 'profile' is {changes['profile']!r}; choose the profile by its own option "
            "(--profile on the command line), not as an override"
        )
    result = dict(values)
    for name, change in changes.items():
        if name not in Params.model_fields:
            raise InputError(f"unknown parameter '{name}'; {_hint(name)}")
        base = result.get(name)
        if name in MERGED and change and isinstance(base, Mapping) and isinstance(change, Mapping):
            merged = dict(base)
            for key, entry in change.items():
                both = isinstance(merged.get(key), Mapping) and isinstance(entry, Mapping)
                merged[key] = {**merged[key], **entry} if both else entry
            change = {key: entry for key, entry in merged.items() if entry is not None}
        if change is not None:
            result[name] = change
    return result


def checked(values: Mapping[str, Any]) -> Params:
    """Give parameters their types, and check that they make sense together.

    Raises
    ------
    InputError
        As `load`.
    """
    try:
        params = Params.model_validate(dict(values))
    except ValidationError as error:
        raise InputError(_first_complaint(error, values.get("profile"))) from None
    if params.fold >= params.n_folds:
        raise InputError(f"parameter 'fold' is {params.fold}; expected 0 to {params.n_folds - 1}")
    if params.split_by == "clip" and params.alternative is None:
        # Chapters and tables say that tested sequences were never seen.
        raise InputError(
            "parameter 'split_by' is 'clip', which shows the network the tested sequences; measure "
            "it beside a study, with a name such as alternative=split_by_clip"
        )
    for name, spec in (("walkway", WalkwaySpec), ("augmentation", Augmentation)):
        try:
            spec(**getattr(params, name))
        except TypeError:
            known = ", ".join(spec.__dataclass_fields__)
            given = getattr(params, name)
            raise InputError(f"parameter '{name}' is {given}; its options are {known}") from None
    _check_methods(params)
    return params


def _check_methods(params: Params) -> None:
    """Refuse what no row could be made of: methods, their settings, variants."""
    shape = (3, params.n_frames, *params.frame_size)
    for where, names in (("methods", params.methods), ("settings", params.settings)):
        for method in names:
            _check_settings(method, params.settings.get(method, {}), shape, f"parameter '{where}'")
    if len(set(params.methods)) < len(params.methods):
        raise InputError(f"parameter 'methods' is {params.methods}; give each method once")
    for name, variant in params.variants.items():
        if name in METHODS or name in REFERENCES:
            raise InputError(f"variant '{name}' has the name of another row; give it its own")
        if variant.seed == params.seed:
            # Two rows of one draw agree perfectly, which would pass for stability over seeds.
            raise InputError(f"variant '{name}' has the run's own seed, {params.seed}; give another")
        own = {**params.settings.get(variant.method, {}), **variant.model_extra}
        _check_settings(variant.method, own, shape, f"variant '{name}'")


def _check_settings(method: str, given: Mapping[str, Any], shape: tuple, where: str) -> None:
    if method not in METHODS:
        raise InputError(f"{where}: unknown method '{method}'; {checks.suggest(method, METHODS)}")
    spec = METHODS[method]
    try:
        settings = checks.settings(method, given, spec.settings)
        if spec.check is not None:
            spec.check(settings, shape)  # defaults too: a window may not fit into this run's frames
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _first_complaint(error: ValidationError, profile: Any) -> str:
    """Pydantic's first complaint in one line of ours."""
    first = error.errors()[0]
    # Positions in lists and alternatives of a union are no names.
    name, *rest = [str(part) for part in first["loc"]]
    if first["type"] == "extra_forbidden":
        return f"unknown parameter '{name}'; {_hint(name)}"
    if first["type"] == "missing" and not rest:
        return f"profile '{profile}' lacks parameter '{name}'"
    if name == "variants" and rest:
        where = f"variant '{rest[0]}'" + (f": {rest[1]}" if len(rest) > 1 else "")
        if first["type"] == "missing":
            return f"{where} is missing; give one of {', '.join(METHODS)}"
    else:
        where = f"parameter '{name}'" + (f", {rest[0]}," if rest and not rest[0].isdigit() else "")
    expected = first["msg"].replace("Input should be", "expected")
    expected = expected[0].lower() + expected[1:]
    return f"{where} is {first['input']!r} ({type(first['input']).__name__}); {expected}"


def _hint(name: str) -> str:
    close = difflib.get_close_matches(str(name), Params.model_fields, n=1)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(Params.model_fields)}"


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value` from the command line; the value is read as YAML 1.2.

    Raises
    ------
    InputError
        If there is no `=`, no key, or the value is not YAML.
    """
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise InputError(f"'{text}' is not a parameter; write key=value, for example epochs=3")
    try:
        return name.strip(), read_yaml(value)
    except yaml.YAMLError:
        raise InputError(f"the value of parameter '{name}' is not YAML: {value}") from None


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with the scalars of YAML 1.2's core schema."""

    yaml_implicit_resolvers: dict = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"'{key}' stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep=deep)


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


def _real(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    ("float", _NUMBER.pattern + r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern})$"), _first
    )
_Loader.add_constructor("tag:yaml.org,2002:int", _whole)
_Loader.add_constructor("tag:yaml.org,2002:float", _real)


def read_yaml(text: str) -> Any:
    """Read YAML 1.2: scalars of its core schema, no name twice.

    Raises
    ------
    yaml.YAMLError
        If it is no YAML.
    """
    return yaml.load(text, Loader=_Loader)


def _in_one_line(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f" in line {mark.line + 1}" if mark else ""
    return f"{getattr(error, 'problem', None) or str(error).splitlines()[0]}{where}"
