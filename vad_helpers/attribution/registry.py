"""The methods by name, and the one way to run them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from vad_helpers.attribution import (
    baselines,
    checks,
    gradient,
    occlusion,
    perturbation,
    superpixels,
)
from vad_helpers.attribution.probability import (
    Probability,
    evaluating,
    seeded,
)
from vad_helpers.attribution.spec import PRECISIONS, Explanation, MethodSpec
from vad_helpers.errors import InputError
from vad_helpers.inference.prepared import Model, Prepared, out_of_memory, prepare

Progress = Callable[[int, int], object]

METHODS: dict[str, MethodSpec] = {
    spec.key: spec for spec in (*gradient.SPECS, *perturbation.SPECS, *occlusion.SPECS)
}


def register(spec: MethodSpec, *, overwrite: bool = False) -> None:
    """Add a method, so that `explain`, and whatever reads `METHODS`, knows it by its key.

    Parameters
    ----------
    spec : MethodSpec
        The method; `vad_helpers.attribution.spec` says what its function is given and returns.
    overwrite : bool, optional
        Whether a method of the same key may be replaced.

    Raises
    ------
    InputError
        If `spec` is no MethodSpec, or its key is taken and `overwrite` is False.

    Examples
    --------
    >>> import torch
    >>> def input_x_gradient(probability, clip, baseline):
    ...     clips = clip[None].requires_grad_()
    ...     (gradient,) = torch.autograd.grad(probability(clips).sum(), clips)
    ...     return (gradient * clips)[0].sum(dim=0)
    >>> spec = MethodSpec(
    ...     key="input_x_gradient",
    ...     name="Input x gradient",
    ...     family="gradient",
    ...     attribute=input_x_gradient,
    ...     model_calls=lambda settings, shape, n_segments: 1,
    ... )
    >>> register(spec)
    """
    if not isinstance(spec, MethodSpec):
        raise InputError(f"register() was given a {type(spec).__name__}; give a MethodSpec")
    if spec.key in METHODS and not overwrite:
        raise InputError(
            f"method {spec.key!r} exists already; choose another key or pass overwrite=True"
        )
    METHODS[spec.key] = spec


def explain(
    model: Model | Prepared,
    clip: torch.Tensor,
    method: str,
    *,
    baseline: str | torch.Tensor = "blur",
    target: int = 1,
    precision: str = "fp32",
    seed: int = 0,
    black: float = -1.0,
    progress: bool | Progress = False,
    batch_size: int | str = "auto",
    segments: np.ndarray | None = None,
    **settings: Any,
) -> np.ndarray:
    """Explain the probability that a model gives to one class of one clip.

    Parameters
    ----------
    model : torch.nn.Module, callable or Prepared
        (N, 3, T, H, W) -> (N, classes) logits. A module runs in evaluation mode, on its own
        device, and is left as it was found. For many explanations, `prepare` it once.
    clip : torch.Tensor
        (3, T, H, W), floating, normalised.
    method : str
        A key of `METHODS`.
    baseline : str or torch.Tensor, optional
        What removed voxels are filled with: a name known to `baselines.make`, or a tensor like
        `clip`.
    target : int, optional
        The class whose softmax probability is explained.
    precision : {"fp32", "bf16"}, optional
        "bf16" runs the model under autocast; the map is float32 all the same.
    seed : int, optional
        0 .. 2^32 - 1. The same seed gives the same map on the same machine; the global generators
        are left as they were.
    black : float, optional
        The normalised value of black, for ``baseline="black"``.
    progress : bool or callable, optional
        Whether to show a bar that advances with the model calls; or a function that is told
        instead, as ``progress(done, total)`` after every batch of model calls. What it raises ends
        the explanation.
    batch_size : int or "auto", optional
        Clips in one pass through the model: memory and speed; the map changes by rounding only.
        "auto" takes the fastest, measured on this model and kept by it if it is prepared. Where
        memory runs out, half as many are tried.
    segments : numpy.ndarray, optional
        Superpixels of this clip found before, as `superpixels.slic` gives them: methods that
        use superpixels then share them. Others do not look at it.
    **settings
        The method's own settings; `METHODS[method].settings` lists them with their defaults.

    Returns
    -------
    numpy.ndarray
        float32, (T, H, W), signed: positive where a voxel speaks for the class.

    Raises
    ------
    InputError
        If an argument is not as described, or the method returns something else than a finite
        map (T, H, W).

    Warns
    -----
    UserWarning
        If the map is zero everywhere.
    """
    return attribute(
        model,
        clip,
        method,
        baseline=baseline,
        target=target,
        precision=precision,
        seed=seed,
        black=black,
        progress=progress,
        batch_size=batch_size,
        segments=segments,
        **settings,
    ).map


def attribute(
    model: Model | Prepared,
    clip: torch.Tensor,
    method: str,
    *,
    baseline: str | torch.Tensor = "blur",
    target: int = 1,
    precision: str = "fp32",
    seed: int = 0,
    black: float = -1.0,
    progress: bool | Progress = False,
    batch_size: int | str = "auto",
    segments: np.ndarray | None = None,
    **settings: Any,
) -> Explanation:
    """Explain as `explain` does, and report what it took.

    Parameters
    ----------
    model, clip, method, baseline, target, precision, seed, black, progress, batch_size
        As for `explain`.
    segments, settings
        As for `explain`.

    Returns
    -------
    Explanation
        The map, the model calls, the seconds and their parts, and what the method reports.

    Raises
    ------
    InputError
        As for `explain`.
    """
    if not callable(model):
        raise InputError(f"the model is a {type(model).__name__}; give a module or a function")
    spec = METHODS[checks.one_of("method", method, METHODS)]
    clip = checks.video("clip", clip)
    shape = tuple(clip.shape)
    settings = _settings(spec, settings, shape)
    baseline = _checked_baseline(baseline, clip)
    black = checks.real("black", black)
    seed = checks.whole("seed", seed, maximum=checks.MAX_SEED)
    if not callable(progress):
        checks.flag("progress", progress)
    options = {
        "target": checks.whole("target", target),
        "precision": checks.one_of("precision", precision, PRECISIONS),
        "batch_size": None
        if batch_size == "auto"
        else checks.whole("batch_size", batch_size, minimum=1),
    }

    start = time.perf_counter()
    fill, baseline_seconds = _timed(_fill, spec, baseline, clip, black)
    labels, superpixel_seconds = _superpixels(spec, settings, clip, segments)
    info = {} if labels is None else {"n_segments": int(labels.max()) + 1}
    total = spec.model_calls(settings, shape, info.get("n_segments"))
    with _bar(spec, total, progress) as bar:
        result, calls = _run(spec, model, options, bar, clip, fill, labels, settings, seed)
    attribution, reported = _unpack(spec, result, shape[1:])
    seconds = time.perf_counter() - start
    if not attribution.any():
        _warn_all_zero(spec)
    return Explanation(
        map=attribution,
        model_calls=calls,
        seconds=seconds,
        baseline_seconds=baseline_seconds,
        superpixel_seconds=superpixel_seconds,
        info={**info, **reported},
    )


class _Told:
    """Stands where a bar would, and tells a function how far the explanation is."""

    def __init__(self, tell: Progress, total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *error: object) -> None:
        """Nothing to close."""

    def update(self, n: int) -> None:
        self._done += n
        self._tell(self._done, self._total)

    def reset(self) -> None:
        self._done = 0


def _bar(spec: MethodSpec, total: int, progress: bool | Progress) -> tqdm | _Told:
    if callable(progress):
        return _Told(progress, total)
    return tqdm(total=total, desc=spec.name, unit="call", disable=not progress)


def _settings(spec: MethodSpec, given: dict[str, Any], shape: tuple[int, ...]) -> dict[str, Any]:
    settings = checks.settings(spec.key, given, spec.settings)
    if spec.check is not None:
        spec.check(settings, shape)
    return settings


def _checked_baseline(baseline: str | torch.Tensor, clip: torch.Tensor) -> str | torch.Tensor:
    if isinstance(baseline, torch.Tensor):
        return checks.like("baseline", baseline, clip)
    return checks.one_of("baseline", baseline, baselines.NAMES)


def _timed(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    result = function(*arguments, **keywords)
    return result, 0.0 if result is None else time.perf_counter() - start


def _fill(
    spec: MethodSpec, baseline: str | torch.Tensor, clip: torch.Tensor, black: float
) -> torch.Tensor | None:
    if not spec.uses_baseline:
        return None
    if isinstance(baseline, torch.Tensor):
        return baseline
    return baselines.make(baseline, clip, black=black)


def _superpixels(
    spec: MethodSpec, settings: dict[str, Any], clip: torch.Tensor, given: np.ndarray | None
) -> tuple[np.ndarray | None, float]:
    """Labels, and the seconds it took to find them."""
    if not spec.superpixels:
        return None, 0.0
    if given is not None:
        return checks.labels("segments", given, tuple(clip.shape[1:])), 0.0
    options = {name: settings[name] for name in ("n_segments", "compactness")}
    return _timed(superpixels.slic, clip, **options)


def _run(
    spec: MethodSpec,
    model: Model | Prepared,
    options: dict[str, Any],
    bar: tqdm | _Told,
    clip: torch.Tensor,
    fill: torch.Tensor | None,
    labels: np.ndarray | None,
    settings: dict[str, Any],
    seed: int,
) -> tuple[Any, int]:
    """Result and model calls; where memory runs out, again with half the batch."""
    # Gradients are wanted even if the caller works without them; copies, because a method may
    # write into what it is given, and tensors born in inference mode cannot be differentiated.
    with torch.inference_mode(False), torch.enable_grad():
        prepared = prepare(model, precision=options.pop("precision"))
        options["measure"] = prepared is model
        device, dtype = prepared.placement(clip)
        keywords = dict(settings)
        if labels is not None:
            del keywords["n_segments"], keywords["compactness"]
            keywords["segments"] = torch.from_numpy(labels).to(device)
        while True:
            own = [
                None if one is None else one.detach().to(device, dtype, copy=True)
                for one in (clip, fill)
            ]
            probability = Probability(prepared, **options, example=own[0], tick=bar.update)
            try:
                with evaluating(prepared.model), seeded(seed, device):
                    return spec.attribute(probability, *own, **keywords), probability.calls
            except RuntimeError as error:
                smallest = options["batch_size"] == 1 or not probability.largest
                if smallest or not out_of_memory(error):
                    raise
            options["batch_size"] = max(1, probability.largest // 2)
            bar.reset()


def _unpack(
    spec: MethodSpec, result: Any, shape: tuple[int, ...]
) -> tuple[np.ndarray, dict[str, Any]]:
    attribution, info = result if isinstance(result, tuple) else (result, {})
    if isinstance(attribution, torch.Tensor):
        attribution = attribution.detach().float().cpu().numpy()
    with np.errstate(over="ignore"):  # what overflows float32 is reported below
        attribution = np.ascontiguousarray(attribution, dtype=np.float32)
    if attribution.shape != shape:
        raise InputError(
            f"method {spec.key!r} returned a map of shape {attribution.shape}; it must be (T, H, "
            f"W) = {shape}"
        )
    if not np.isfinite(attribution).all():
        raise InputError(
            f"method {spec.key!r} returned NaN or infinite values; check that the model's logits "
            "are finite for this clip and its baseline, and try precision='fp32'"
        )
    return attribution, info


def _warn_all_zero(spec: MethodSpec) -> None:
    hint = "; lower alpha, widen the kernel or raise n_samples" if "alpha" in spec.settings else ""
    warnings.warn(
        f"method {spec.key!r} returned an all-zero map, which explains nothing{hint}",
        stacklevel=3,
    )
