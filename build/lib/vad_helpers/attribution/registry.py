"""The methods by name, and the one way to run them: users call `vad_helpers.attribution.explain`.

A method is a function and a few facts about it, a `MethodSpec`. The function has the signature

    attribute(probability, clip, baseline, **settings) -> map   or   (map, info)

probability : vad_helpers.attribution.probability.Probability
    Callable: clips (N, 3, T, H, W) -> (N,) softmax probability of the explained class,
    differentiable with respect to the clips. It counts its calls. `probability.model` is the
    user's model, `probability.batch_size` the number of clips one call should hold at most.
clip, baseline : torch.Tensor, (3, T, H, W)
    On the model's device and of its floating type, without gradient, the method's own copies.
    `baseline` fills what is removed; it is None when the spec says `uses_baseline=False`.
**settings
    Every entry of `MethodSpec.settings`, the caller's value or the default, by keyword. With
    `superpixels=True`, `n_segments` and `compactness` are replaced by `segments`, an int64
    tensor (T, H, W) of labels 0 .. n - 1 on the model's device.
map : torch.Tensor or numpy.ndarray, (T, H, W)
    Signed and finite: positive where the voxel speaks for the class.
info : dict, optional
    Anything worth reporting, such as a count of non-zero coefficients.

Around the call, gradients are enabled, the model is in evaluation mode, and Python's, NumPy's
and PyTorch's global generators are seeded: a method that draws random numbers just draws.
"""

from __future__ import annotations

import importlib
import inspect
import time
import tomllib
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from vad_helpers.attribution import baselines, checks, superpixels
from vad_helpers.attribution.probability import Probability, refuse_mixing, seeded
from vad_helpers.errors import InputError
from vad_helpers.inference.prepared import Model, Prepared, evaluating, out_of_memory, prepare

LARGEST_SEED = 2**32 - 1  # NumPy's legacy generator takes no larger one
_SLOW_TO_IMPORT = ("captum.attr", "scipy.ndimage", "skimage.segmentation", "sklearn.linear_model")


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """One attribution method: its function, its settings, its cost and its source.

    InputError if key or family are not as described, or `explain` keeps a setting's name.

    Parameters
    ----------
    key : str
        The name that `explain` takes, such as ``"ig"``: a Python identifier.
    name : str
        The name to print, such as ``"Integrated Gradients"``.
    family : {"gradient", "perturbation"}
        Whether the method reads the model's gradients or only its outputs.
    attribute : callable
        ``attribute(probability, clip, baseline, **settings)``, as the module's opening says.
    model_calls : callable
        ``model_calls(settings, shape, n_segments) -> int``: clips that go forward through the
        model, for a clip of shape (3, T, H, W); n_segments is None without superpixels.
    settings : dict, optional
        Every setting with its default, whose type a value must have (an int passes for a float,
        a list for a tuple). Methods on superpixels need `n_segments` and `compactness`.
    limits : dict, optional
        What settings may be: ``">= 1"`` or ``"> 0"`` for numbers, alone or in a tuple; a tuple of
        words for strings.
    check : callable, optional
        ``check(settings, shape)``: raises InputError for values that do not fit together.
    superpixels, uses_baseline : bool, optional
        Whether the method needs superpixels, and a baseline.
    precision : {"fp32", "bf16"}, optional
        The precision to use where the user leaves it to the method: "bf16" where no mean score
        moved by more than .01 in a study on real clips (`benchmarks.precision`).
    version : int, optional
        Raise it whenever the function's code changes its maps: kept ones are then made again.
    citation : str, optional
        Key in the book's bibliography.
    """

    key: str
    name: str
    family: str
    attribute: Callable[..., Any]
    model_calls: Callable[[Mapping[str, Any], tuple[int, ...], int | None], int]
    settings: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, checks.Limit] = field(default_factory=dict)
    check: Callable[[Mapping[str, Any], tuple[int, ...]], None] | None = None
    superpixels: bool = False
    uses_baseline: bool = True
    precision: str = "fp32"
    version: int = 1
    citation: str = ""

    def __post_init__(self) -> None:
        mine = f"method {self.key!r}"
        if not (isinstance(self.key, str) and self.key.isidentifier()):
            raise InputError(f"{mine}: its key must be a Python identifier such as 'ig'")
        checks.one_of(f"family of {mine}", self.family, ("gradient", "perturbation"))
        # A keyword of `explain`, or what is handed to a method: such a setting would never arrive.
        for name in {*inspect.signature(attribute).parameters, "probability"} & {*self.settings}:
            raise InputError(f"{mine}: explain() keeps {name!r} for itself; rename the setting")
        # A copy of its own, so that the caller's dict can change without changing the method.
        object.__setattr__(self, "settings", dict(self.settings))

    def complete(
        self, given: Mapping[str, object], shape: tuple[int, ...] | None = None
    ) -> dict[str, Any]:
        """Fill in the defaults of settings, and check them: every setting, in its default's type.

        Windows, for instance, must fit the shape (3, T, H, W) of a clip, if one is given. Raises
        InputError if the method has no such setting, or a value is of another type or out of range.
        """
        for name in given:
            checks.one_of(f"setting of method {self.key!r}", name, self.settings)
        settings = dict(self.settings)
        for name, found in given.items():
            default, limit = self.settings[name], self.limits.get(name)
            settings[name] = checks.value(f"{self.key}: {name}", found, default, limit)
        if shape is not None and self.check is not None:
            self.check(settings, shape)
        return settings


@dataclass(frozen=True, eq=False)
class Explanation:
    """An attribution map and what it took.

    Attributes
    ----------
    map : numpy.ndarray
        float32, (T, H, W), signed, finite: positive where the voxel speaks for the class.
    model_calls : int
        Clips that went forward through the model.
    seconds, baseline_seconds, superpixel_seconds : float
        Wall time, without the preparation of the model, and its parts (0 if there are none).
    settings : dict
        All settings of the method, those of the caller and the defaults.
    info : dict
        What the method reports; `n_segments` (superpixels found) for methods that use them.
    """

    map: np.ndarray
    model_calls: int
    seconds: float
    baseline_seconds: float
    superpixel_seconds: float
    settings: dict[str, Any]
    info: dict[str, Any]


def register(spec: MethodSpec, *, overwrite: bool = False) -> None:
    """Add a method, so that `explain`, and whatever reads `METHODS`, knows it by its key.

    InputError if `spec` is no MethodSpec, or its key is taken and `overwrite` is False.
    """
    if not isinstance(spec, MethodSpec):
        raise InputError(f"register() was given a {type(spec).__name__}; give a MethodSpec")
    if spec.key in METHODS and not overwrite:
        raise InputError(f"method {spec.key!r} exists already; pass overwrite=True to replace it")
    METHODS[spec.key] = spec


def attribute(
    model: Model | Prepared,
    clip: Tensor,
    method: str,
    *,
    baseline: str | Tensor = "blur",
    target: int = 1,
    precision: str = "fp32",
    seed: int = 0,
    black: float = -1.0,
    progress: bool | Callable[[int, int], object] = False,
    batch_size: int | str = "auto",
    segments: np.ndarray | None = None,
    **settings: Any,
) -> Explanation:
    """Explain as `explain` does, whose arguments it takes, and report what it took."""
    if not callable(model):
        raise InputError(f"the model is a {type(model).__name__}; give a module or a function")
    spec = METHODS[checks.one_of("method", method, METHODS)]
    checks.video("clip", clip)
    shape = tuple(clip.shape)
    settings = spec.complete(settings, shape)
    if isinstance(baseline, Tensor):
        checks.video("baseline", baseline, like=clip)
    if checks.value("seed", seed, 0, ">= 0") > LARGEST_SEED:
        raise InputError(f"seed is {seed}; it must be at most {LARGEST_SEED}")
    checks.value("target", target, 1, ">= 0")
    size = None if batch_size == "auto" else checks.value("batch_size", batch_size, 1, ">= 1")
    if spec.superpixels and segments is not None:
        segments = superpixels.check(segments, shape[1:])
    prepared = prepare(model, precision=precision)
    for name in _SLOW_TO_IMPORT:  # now, before the clock starts
        importlib.import_module(name)

    device, dtype = prepared.placement(clip)
    keywords, info, fill, baseline_seconds, superpixel_seconds = dict(settings), {}, None, 0.0, 0.0
    # Gradients are wanted even if the caller works without them.
    with torch.inference_mode(False), torch.enable_grad(), evaluating(prepared.model):
        if spec.uses_baseline:
            start = time.perf_counter()
            given = isinstance(baseline, Tensor)
            fill = baseline if given else baselines.make(baseline, clip, black=black)
            baseline_seconds = time.perf_counter() - start
        if spec.superpixels:
            options = {name: keywords.pop(name) for name in superpixels.SETTINGS}
            if segments is None:
                start = time.perf_counter()
                segments = superpixels.slic(clip, **options)
                superpixel_seconds = time.perf_counter() - start
            keywords["segments"] = torch.from_numpy(segments).to(device)
            info["n_segments"] = int(segments.max()) + 1
        total = spec.model_calls(settings, shape, info.get("n_segments"))
        if total > 1 and (prepared.chain is not None or size != 1):  # else no two clips ever meet
            with seeded(seed, device):
                refuse_mixing(prepared, clip.detach().to(device, dtype, copy=True))
        start = time.perf_counter()
        with tqdm(total=total, desc=spec.name, unit="call", disable=progress is not True) as bar:

            def tick(n: int) -> None:
                bar.update(n)
                if callable(progress):
                    progress(probability.calls, total)

            while True:
                # Copies, because a method may write into what it is given, and tensors born in
                # inference mode cannot be differentiated.
                own, filling = (
                    None if video is None else video.detach().to(device, dtype, copy=True)
                    for video in (clip, fill)
                )
                options = {"target": target, "batch_size": size, "measure": prepared is model}
                probability = Probability(prepared, **options, example=own, tick=tick)
                try:
                    with seeded(seed, device):
                        found = spec.attribute(probability, own, filling, **keywords)
                    break
                except RuntimeError as error:
                    smallest = size == 1 or not probability.largest
                    if smallest or not out_of_memory(error):
                        raise
                size = max(1, probability.largest // 2)  # again, with half as many
                bar.reset()
    found, reported = found if isinstance(found, tuple) else (found, {})
    if isinstance(found, Tensor):
        found = found.detach().float().cpu().numpy()
    with np.errstate(over="ignore"):  # what overflows float32 is refused below
        found = np.ascontiguousarray(found, dtype=np.float32)
    if found.shape != shape[1:]:
        raise InputError(f"method {method!r} returned shape {found.shape}; give {shape[1:]}")
    if not np.isfinite(found).all():
        raise InputError(
            f"method {method!r} returned NaN or infinite values; check that the model's logits "
            "are finite for this clip and its baseline, and try precision='fp32'"
        )
    if not found.any():
        lasso = "; lower alpha, widen the kernel or raise n_samples" if "alpha" in settings else ""
        warnings.warn(
            f"method {method!r} returned an all-zero map, which explains nothing{lasso}",
            stacklevel=2,
        )
    return Explanation(
        map=found,
        model_calls=probability.calls,
        seconds=baseline_seconds + superpixel_seconds + time.perf_counter() - start,
        baseline_seconds=baseline_seconds,
        superpixel_seconds=superpixel_seconds,
        settings=settings,
        info={**info, **reported},
    )


def explain(model: Model | Prepared, clip: Tensor, method: str, **options: Any) -> np.ndarray:
    """Explain the probability that a model gives to one class of one clip.

    Parameters
    ----------
    model : torch.nn.Module, callable or Prepared
        (N, 3, T, H, W) -> (N, classes) logits, two classes or more; a model that mixes the clips
        of a batch is refused. A module runs in evaluation mode, on its own device, and is left as
        it was found. For many explanations, `prepare` it once.
    clip : torch.Tensor
        (3, T, H, W), floating, normalised.
    method : str
        A key of `METHODS`.
    baseline : str or torch.Tensor, optional
        What fills removed voxels: a name that `baselines.make` knows, or a tensor like `clip`.
    target : int, optional
        The class whose softmax probability is explained.
    precision : {"fp32", "bf16"}, optional
        "bf16" runs the model under autocast; the map is float32 all the same.
    seed : int, optional
        0 .. 2^32 - 1: the same map on the same machine. Global generators are left as found.
    black : float, optional
        The normalised value of black, for ``baseline="black"``.
    progress : bool or callable, optional
        Whether to show a bar of model calls; or a function that is told ``progress(done, total)``
        after every batch of them, and ends the explanation by raising.
    batch_size : int or "auto", optional
        Clips in one pass: memory and speed; the map changes by rounding only. "auto" measures the
        fastest, which a prepared model keeps. Where memory runs out, half as many are tried.
    segments : numpy.ndarray, optional
        Superpixels found before, as `superpixels.slic` gives them, for methods that use some.
    **settings
        The method's own settings; `METHODS[method].settings` lists them with their defaults.

    Returns
    -------
    numpy.ndarray
        float32, (T, H, W), signed: positive where a voxel speaks for the class.

    Raises
    ------
    InputError
        If an argument is not as described, or what the method returns is no finite map (T, H, W).

    Warns
    -----
    UserWarning
        If the map is zero everywhere.
    """
    return attribute(model, clip, method, **options).map


explain.__signature__ = inspect.signature(attribute).replace(return_annotation="np.ndarray")


def _samples(settings: Mapping[str, Any], *_: object) -> int:
    return settings.get("n_steps", 1) * settings.get("n_samples", 1)


def _packaged() -> dict[str, MethodSpec]:
    """Read `methods.toml`; a check and model calls of its own are those of a method's module."""
    given = tomllib.loads((resources.files(__package__) / "methods.toml").read_text("utf-8"))

    def tuples(entries: Mapping[str, Any]) -> dict[str, Any]:
        return {n: tuple(v) if isinstance(v, list) else v for n, v in entries.items()}

    limits, found = tuples(given["limits"]) | superpixels.LIMITS, {}
    for key, about in given["methods"].items():
        name, function = about.pop("function").split(".")
        module, settings = importlib.import_module(f"{__package__}.{name}"), about.pop("settings")
        found[key] = MethodSpec(
            key=key,
            attribute=getattr(module, function),
            model_calls=getattr(module, "model_calls", _samples),
            settings=tuples(settings) | (superpixels.SETTINGS if "superpixels" in about else {}),
            limits=limits | about.pop("limits", {}),
            check=getattr(module, "check", None),
            **about,
        )
    return found


METHODS = _packaged()
