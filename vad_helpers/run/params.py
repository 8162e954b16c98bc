"""Profiles and parameters, strict about names and types; and the runs that they open.

A *profile* is a YAML file in `params/` that gives every parameter its value, or names another one
as its `base` and gives what differs. Notebooks, the command line and papermill override single
values. YAML is read as version 1.2 has it: 010 is ten, `yes` and `1:30` are text (version 1.1 makes
8, true and 90 of them without a word).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML, YAMLError

from vad_helpers.attribution import checks
from vad_helpers.attribution.registry import METHODS, MethodSpec, register
from vad_helpers.data import datasets
from vad_helpers.errors import InputError
from vad_helpers.metrics import catalog
from vad_helpers.model.i3d import STAGES
from vad_helpers.run import plugins
from vad_helpers.run.cache import FREE, MORE, Run, manifest_in

REFERENCES = {
    "random": "Random map",
    "centre": "Centre prior",
    "motion": "Frame difference",
    "constant": "Constant map",
    "random_weights": "IG, random weights",
    "ig_time_average": "IG, averaged over time",
}
"""Reference rows and their labels; no variant may have their names."""

OWN = ("model", "model_args", "target_class", "metrics", "sources", "labels")
"""Parameters that are about what is one's own."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy's legacy generator takes no larger
Count = Annotated[int, Field(ge=1)]
# YAML 1.1, which papermill reads, takes 1e-3 for text (it wants 1.0e-3).
Number = BeforeValidator(lambda value: float(value) if isinstance(value, str) else value)
Real = Annotated[float, Number, Field(allow_inf_nan=False)]
Positive = Annotated[Real, Field(gt=0)]
NotNegative = Annotated[Real, Field(ge=0)]
Decay = Annotated[Real, Field(ge=0, lt=1)]
Precision = Literal["fp32", "bf16", "auto"]
Baseline = Literal["blur", "strong_blur", "spacetime_blur", "black"]


class Variant(BaseModel):
    """A row beside the methods: one of them, with something changed. Any other name than these is
    a setting of the method."""

    model_config = ConfigDict(frozen=True, strict=True, extra="allow")

    method: str
    baseline: Baseline | None = None  # None: the run's
    weights: str = "trained"  # or "random", or random from a stage on: see `experiment.network`
    target: Literal[0, 1] | None = None  # the class that is explained; None: "anomalous"
    n_clips: Count | None = None  # fewer than the run explains
    seed: Seed | None = None  # another one than the run's, for what is drawn: samples, weights
    precision: Literal["fp32", "bf16"] | None = None  # what "auto" means for this row
    label: str | None = None  # for people


class Params(BaseModel):
    """Everything a run depends on; what each parameter means stands beside it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    profile: str  # name of the YAML file in `params/`, or a path to one
    # Synthetic, written when missing; a tree on disk; or a folder of videos, see `data.videos`.
    dataset: Literal["walkway", "ucsd", "videos"]
    data_dir: str  # folder of the dataset's tree, relative to the project's folder
    run_dir: str | None  # None: runs/<profile>/fold-<fold>
    seed: Seed  # of data, split, training and every sampled explanation
    fold: Annotated[int, Field(ge=0)]  # it is tested; the next one validates, the rest trains
    n_folds: Count  # at least 3; 1, for a network that is not trained here, tests everything
    # What is assigned to folds; "clip", for an alternative alone, tests on sequences seen before.
    split_by: Literal["sequence", "clip"]
    # False: the validation fold joins the training, once a recipe is frozen; `keep` is then "last".
    with_validation: bool
    # Which ones measure localisation: official, added or all; of own videos their folder, or none.
    masks: str
    labels: str = "labels.csv"  # of own videos, see `data.videos`; "masks" or "none"
    walkway: dict[str, Any]  # options of `data.walkway.WalkwaySpec`
    # What this run settles differently from its profile, shown beside the study; None: nothing.
    alternative: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")] | None = None

    device: Literal["auto", "cpu", "cuda"]  # auto: CUDA where there is a GPU
    devices: Count = 1  # GPUs of this machine that train together, see `model.training.train`
    num_nodes: Count = 1  # machines that train together
    precision: Precision  # of explanations and scores, see `steps.precision_of`
    train_precision: Precision  # auto: as `precision`

    frame_size: Annotated[list[Count], Field(min_length=2, max_length=2, strict=False)]  # H, W
    n_frames: Count  # a clip
    stride: Count  # frames from one clip's start to the next one's
    mean: Real  # of grey values in [0, 1], for normalisation
    std: Positive

    # Address of a function (**model_args) -> torch.nn.Module, see `plugins`; None: the I3D.
    model: str | None = None
    model_args: dict[str, Any] = {}
    target_class: Annotated[int, Field(ge=0)] = 1  # of an own network with more than two: anomalous
    model_width: Positive  # multiplier of the network's channels; 1 is the Inception-I3D
    init_weights: str | None  # 2-D Inception-v1 or I3D checkpoint to start from; None: at random
    trained_weights: str | None  # weights to evaluate instead of training
    # Of training alone: another network of the same split; None: `seed`.
    train_seed: Seed | None = None
    # The recipe, see `model.training.TrainingSpec`.
    epochs: Annotated[int, Field(ge=0)]  # 0: the network of `model` is taken as it comes
    batch_size: Count
    lr: Positive
    weight_decay: NotNegative
    lr_schedule: Literal["step", "onecycle"]
    lr_step: Count
    lr_gamma: Annotated[Positive, Field(le=1)]
    train_stride: Count | None  # as `stride`, of the clips that are trained on; None: `stride`
    epoch_clips: Count | None
    early_lr: Annotated[NotNegative, Field(le=1)]  # counts with `init_weights` alone
    early_end: Literal[STAGES]
    average: Decay
    label_smoothing: Decay
    patience: Count | None
    keep: Literal["best", "last"]
    augmentation: dict[str, Any]  # options of `data.augmentation.Augmentation`

    # In the order of the tables; an address of a MethodSpec is read as its key, see `sources`.
    methods: Annotated[list[str], Field(min_length=1, strict=False)]
    metrics: Annotated[list[str], Field(strict=False)] = []  # beside the package's, likewise
    sources: dict[str, str] = {}  # where own methods and metrics come from, by key
    baseline: Baseline  # what replaces removed pixels
    settings: dict[str, dict[str, Any]]  # by method, where they differ from the paper's
    variants: dict[str, Variant]  # extra rows of the tables, by name

    n_clips: Count  # at most so many are explained
    n_clips_slow: Count | None  # by rows of over 500 model calls a clip; None: all `n_clips`
    # Clips of a study over all folds, of which this run explains those of its own fold; None: it
    # chooses among all clips of its fold.
    study_clips: Count | None
    max_per_sequence: Count
    n_thresholds: Count  # steps of the threshold axis: IoU, F1, deletion, insertion
    area_steps: Count  # steps of the area axis (RISE)
    n_resamples: Count  # of the bootstrap
    eval_batch_size: Count  # changes speed and memory, not results
    runtime_repeats: Count  # timed repetitions of a method

    @property
    def training_seed(self) -> int:
        """Seed of what training draws: fresh weights, order, augmentation, dropout."""
        return self.seed if self.train_seed is None else self.train_seed

    @property
    def black(self) -> float:
        """Value of a black pixel after normalisation."""
        return (0.0 - self.mean) / self.std

    def dump(self) -> dict[str, Any]:
        """Values as JSON and YAML hold them; of variants, those that were given."""
        values = self.model_dump(exclude={"variants"})
        values["variants"] = {k: v.model_dump(exclude_unset=True) for k, v in self.variants.items()}
        # As manifests were before these existed.
        unused = [n for n in OWN if values[n] == type(self).model_fields[n].default]
        return {name: value for name, value in values.items() if name not in unused}


def project_root(start: str | Path | None = None) -> Path:
    """Find the project's folder: the nearest one from `start` (default: the working folder) upward
    that holds `params/quick.yaml`; InputError if there is none."""
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "params" / "quick.yaml").is_file():
            return folder
    told = "(no params/quick.yaml upward); change into its folder"
    raise InputError(f"{start} is not inside the project {told}")


def load(profile: str = "quick", *, root: Path | None = None, **overrides: Any) -> Params:
    """Read a profile (a name in `params/`, or a path to a YAML file) and apply overrides.

    InputError for an unknown profile, parameter, method or setting, and for a value that is
    missing, of the wrong type or out of its range.
    """
    root = root or project_root()
    return checked(override(_profile(profile, root), overrides), root=root)


def _profile(profile: str, root: Path) -> dict[str, Any]:
    """Values of a profile, with those of its base in the place of what it does not give."""
    path = root / (profile if profile.endswith((".yaml", ".yml")) else f"params/{profile}.yaml")
    if not path.is_file():
        known = sorted(p.stem for p in (root / "params").glob("*.yaml"))
        raise InputError(f"unknown profile '{profile}'; there are {', '.join(known)}")
    try:
        values = read_yaml(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text (byte {error.start}); save it so") from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        told = f"line {mark.line + 1}: {error.problem}".splitlines()[0] if mark else "no text"
        raise InputError(f"{path} is not readable YAML: {told}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no `parameter: value` lines")
    if (base := values.pop("base", None)) is not None:
        if not re.fullmatch(r"[\w-]+", str(base)) or base == path.stem:
            raise InputError(f"{path} has the base {base!r}; give another profile in params/")
        values = _profile(base, root) | values
    return values | {"profile": path.stem if path.parent == root / "params" else str(profile)}


def override(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Put values in the place of others, by parameter; InputError for `profile` and other names.

    None keeps a value, so that a notebook's parameters cell can leave a choice to the profile. In
    `settings` and `variants`, entries change those of the same name item by item, None removes one,
    and an empty mapping removes all.
    """
    if "profile" in changes:
        told = "choose it by its own option (--profile on the command line), not as an override"
        raise InputError(f"parameter 'profile' is {changes['profile']!r}; {told}")
    result = dict(values)
    for name, change in changes.items():
        checks.one_of("parameter", name, Params.model_fields)
        mappings = isinstance(result.get(name), Mapping) and isinstance(change, Mapping)
        if name in ("settings", "variants") and change and mappings:
            merged = dict(result[name])
            for key, entry in change.items():
                both = isinstance(merged.get(key), Mapping) and isinstance(entry, Mapping)
                merged[key] = {**merged[key], **entry} if both else entry
            change = {key: entry for key, entry in merged.items() if entry is not None}
        if change is not None:
            result[name] = change
    return result


def checked(values: Mapping[str, Any], *, root: Path | None = None) -> Params:
    """Give parameters their types, and check that they make sense together; InputError if not.

    Methods and metrics that are addresses, of files below `root`, are loaded and registered.
    """
    try:
        params = Params.model_validate(_with_own(dict(values), root))
    except ValidationError as error:
        raise InputError(_first_complaint(error, values.get("profile"))) from None
    if params.dataset != "videos" and params.masks not in ("official", "added", "all"):
        raise InputError(f"parameter 'masks' is {params.masks!r}; expected official, added or all")
    if params.epochs == 0 and not params.model:
        raise InputError("parameter 'epochs' is 0, which leaves the I3D untrained; give 1 or more")
    given = params.trained_weights or params.epochs == 0
    if params.n_folds < 3 and not (params.n_folds == 1 and given):
        told = "or 1 to test a network that is not trained here on everything"
        least = "expected at least 3 (test, validation, training)"
        raise InputError(f"parameter 'n_folds' is {params.n_folds}; {least}, {told}")
    if params.fold >= params.n_folds:
        raise InputError(f"parameter 'fold' is {params.fold}; expected 0 to {params.n_folds - 1}")
    if params.split_by == "clip" and params.alternative is None:
        # Chapters and tables say that tested sequences were never seen.
        told = "measure it beside a study, with a name such as alternative=split_by_clip"
        shows = "shows the network the tested sequences"
        raise InputError(f"parameter 'split_by' is 'clip', which {shows}; {told}")
    if not params.with_validation and (params.keep == "best" or params.patience is not None):
        told = "no epoch is known to be best; give keep=last, patience=null"
        raise InputError(f"without validation {told}")
    if params.model and params.init_weights:
        told = "load its own weights, by a setting in model_args, and give init_weights=null"
        given = f"init_weights are for the I3D, and model is {params.model}"
        raise InputError(f"{given}: let that {told}")
    for name in datasets.SPECS:
        datasets.spec_of(name, getattr(params, name))
    rows = [("parameter 'settings'", method, given) for method, given in params.settings.items()]
    # Defaults too: a window may not fit into this run's frames.
    rows += [("parameter 'methods'", m, params.settings.get(m, {})) for m in params.methods]
    for name, variant in params.variants.items():
        own = {**params.settings.get(variant.method, {}), **variant.model_extra}
        rows.append((f"variant '{name}'", variant.method, own))
        if name in METHODS or name in REFERENCES:
            raise InputError(f"variant '{name}' has the name of another row; give it its own")
        if params.model is None:
            known = "trained", "random", *STAGES, "logits"
            checks.one_of(f"weights of variant '{name}'", variant.weights, known)
        if variant.seed == params.seed:
            # Two rows of one draw agree perfectly, which would pass for stability over seeds.
            told = f"has the run's own seed, {params.seed}; give another"
            raise InputError(f"variant '{name}' {told}")
    for where, method, given in rows:
        try:
            spec = METHODS[checks.one_of("method", method, METHODS)]
            spec.complete(given, (3, params.n_frames, *params.frame_size))
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
    for key in params.metrics:
        if getattr(catalog.METRICS.get(key), "score", None) is None:
            known = "beside the package's, which are always there, an own one by its address"
            raise InputError(f"parameter 'metrics': {key!r} is no metric of your own; give {known}")
    for name, given in (("methods", params.methods), ("metrics", params.metrics)):
        if len(set(given)) < len(given):
            raise InputError(f"parameter '{name}' is {given}; give each {name[:-1]} once")
    return params


def addresses(values: Mapping[str, Any]) -> set[str]:
    """Addresses of code that parameters name."""
    sources, model = values.get("sources"), values.get("model")
    listed = [*(values.get("methods") or ()), *(values.get("metrics") or ())]
    listed += [*(sources.values() if isinstance(sources, Mapping) else ()), model]
    return {text for text in listed if isinstance(text, str) and plugins.is_address(text)}


def _with_own(values: dict[str, Any], root: Path | None) -> dict[str, Any]:
    """Parameters with own methods and metrics loaded, and named by their keys."""
    sources = dict(values.get("sources") or {})
    for name, kind in (("methods", MethodSpec), ("metrics", catalog.Metric)):
        listed = []
        for entry in values.get(name) or ():
            address = sources.get(entry, entry) if isinstance(entry, str) else ""
            if isinstance(address, str) and plugins.is_address(address):
                found = plugins.load_object(address, root=root or project_root())
                if not isinstance(found, kind):
                    given = f"{address} is a {type(found).__name__}"
                    raise InputError(f"parameter '{name}': {given}; expected a {kind.__name__}")
                if kind is catalog.Metric:
                    catalog.register(found)
                elif METHODS.get(found.key) is not found:
                    # An edited file replaces itself, nothing of the package.
                    register(found, overwrite=plugins.is_own(METHODS.get(found.key)))
                entry, sources[found.key] = found.key, address
            listed.append(entry)
        if name in values:
            values[name] = listed
    return values | ({"sources": sources} if sources else {})


def _first_complaint(error: ValidationError, profile: Any) -> str:
    """Pydantic's first complaint in one line of ours."""
    # A misspelt name is said before the one that it leaves out.
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    name, given = ".".join(map(str, first["loc"])), first["input"]
    if first["type"] == "extra_forbidden":
        checks.one_of("parameter", name, Params.model_fields)
    if first["type"] == "missing":
        return f"profile '{profile}' lacks parameter '{name}'"
    expected = first["msg"].replace("Input should be", "expected")
    return f"parameter '{name}' is {given!r} ({type(given).__name__}); {expected}"


def parse_override(text: str) -> tuple[str, Any]:
    """Split `key=value` from the command line, whose value is YAML 1.2; InputError if it is not."""
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise InputError(f"'{text}' is not a parameter; write key=value, for example epochs=3")
    try:
        return name.strip(), read_yaml(value)
    except YAMLError:
        raise InputError(f"the value of parameter '{name}' is not YAML: {value}") from None


def read_yaml(text: str) -> Any:
    """Read YAML 1.2, in which no name may stand twice; ruamel.yaml's YAMLError for other text."""
    return YAML(typ="safe", pure=True).load(text)


def open_run(profile: str = "quick", **overrides: Any) -> Run:
    """Open a run by its profile and overrides, or by its folder; nothing is computed or written.

    `profile` and `overrides` are those of `load`. If `run_dir` names a folder with a manifest, that
    supplies all parameters; once there is a network, the others given must agree with it but for
    `cache.FREE` and `cache.MORE`. Without `run_dir`, the folder is `runs/<profile>/fold-<fold>`, or
    `<alternative>-fold-<fold>` there, and what changed parameters touch is computed again.

    The run is read-only if its folder was made elsewhere, and its network or the videos are not
    here. InputError as of `load`, and if a value contradicts the folder's manifest.
    """
    root = project_root()
    if overrides.get("run_dir"):
        overrides["run_dir"] = str(overrides["run_dir"])
    folder = root / (overrides.get("run_dir") or "")
    known = manifest_in(folder) if overrides.get("run_dir") else {}
    if "parameters" not in known:
        params = load(profile, root=root, **overrides)
        name = f"{params.alternative}-" if params.alternative else ""
        usual = f"runs/{Path(params.profile).stem}/{name}fold-{params.fold}"
        return Run(params=params, root=root, dir=root / (params.run_dir or usual))
    # A folder from elsewhere may not say what holds for its machine, an older one what came later.
    values = {"device": "auto", "eval_batch_size": 1, "with_validation": True, "keep": "best"}
    values |= {**known["parameters"], "run_dir": None}
    _refuse_foreign(folder, values, profile, overrides, root)
    before = checked(values, root=root)
    params = checked(override(values, overrides), root=root)
    converted = "counts" in known and "files" not in known
    made = converted or "weights_sha256" in known  # before that, nothing is lost
    clashes = [(name, getattr(before, name), getattr(params, name)) for name in overrides]
    if profile != "quick":  # which is every notebook's default
        clashes.append(("profile", Path(before.profile).stem, Path(profile).stem))
    for name, had, asked in clashes:
        grows = name in MORE and had is not None and (asked is None or asked >= had)
        if made and had != asked and name not in FREE and not grows:
            told = f"asked for is {asked}; leave {name} out, or give another run_dir"
            raise InputError(f"{folder} was made with {name} {had}, {told}")
    network, videos, readonly = folder / "model.safetensors", root / params.data_dir, ""
    given = params.trained_weights and (root / params.trained_weights).is_file()
    if converted:
        readonly = "its tables were made before tables had keys"
    elif made and not (network.is_file() or given):
        readonly = f"its network is not there ({network})"
    elif params.dataset != "walkway" and not videos.exists():
        readonly = f"its videos are not there ({videos})"
    return Run(params=params, root=root, dir=folder, supplied=made, readonly=readonly)


def _refuse_foreign(
    folder: Path, values: Mapping[str, Any], profile: str, given: Mapping[str, Any], root: Path
) -> None:
    """Refuse code that is named by a folder's manifest, which may come from anywhere, but neither
    by the profile that is asked for nor by the parameters that are given."""
    named, own = addresses(given) | addresses(_profile(profile, root)), str(values["profile"])
    # By its bare name it is a file of `params/`; a path in a manifest may lead into its folder.
    if re.fullmatch(r"[\w-]+", own) and (root / "params" / f"{own}.yaml").is_file():
        named |= addresses(_profile(own, root))
    foreign = sorted(addresses(values) - named)
    if foreign:
        told = f"{', '.join(foreign)} as model, methods or metrics, or the profile that does"
        ran = "code of its own, which runs only where you name it"
        raise InputError(f"{folder} was made with {ran}: give {told}")
