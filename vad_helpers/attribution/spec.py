"""What a method is (`MethodSpec`) and what it gives back (`Explanation`).

A method is a function and a few facts about it. The function has the signature

    attribute(probability, clip, baseline, **settings) -> map   or   (map, info)

probability : vad_helpers.attribution.probability.Probability
    Callable: clips (N, 3, T, H, W) -> (N,) softmax probability of the explained class,
    differentiable with respect to the clips. It counts its calls. `probability.model` is the
    model as the user gave it, `probability.batch_size` the number of clips one call should hold
    at most.
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

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vad_helpers.attribution.checks import one_of
from vad_helpers.errors import InputError

FAMILIES = ("gradient", "perturbation")
PRECISIONS = ("fp32", "bf16")

# The keywords of `explain` and what is handed to a method: a setting of that name never arrives.
RESERVED = frozenset(
    "model clip method baseline target precision seed black progress batch_size"
    " probability segments".split()
)


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """One attribution method: its function, its settings, its cost and its source.

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
        ``model_calls(settings, shape, n_segments) -> int``: how many clips go forward through
        the model, for complete settings, the clip's shape (3, T, H, W), and the number of
        superpixels (None for methods without them).
    settings : dict, optional
        Every setting with its default. A value given to `explain` must be of the default's type
        (an int passes for a float, a list for a tuple).
    check : callable, optional
        ``check(settings, shape)``: raises InputError for values that make no sense.
    superpixels : bool, optional
        Whether the method works on superpixels; it then has the settings `n_segments` and
        `compactness`.
    uses_baseline : bool, optional
        Whether a baseline is needed at all.
    precision : {"fp32", "bf16"}, optional
        The precision to use where the user leaves it to the method: "bf16" where no mean score
        moved by more than .01 in a study on real clips (`benchmarks.precision`).
    version : int, optional
        Raise it whenever the function's code changes its maps: kept ones are then made again.
    citation, reference : str, optional
        Key in the book's bibliography, and the reference in words.

    Raises
    ------
    InputError
        If a field is not as described.
    """

    key: str
    name: str
    family: str
    attribute: Callable[..., Any]
    model_calls: Callable[[Mapping[str, Any], tuple[int, ...], int | None], int]
    settings: dict[str, Any] = field(default_factory=dict)
    check: Callable[[Mapping[str, Any], tuple[int, ...]], None] | None = None
    superpixels: bool = False
    uses_baseline: bool = True
    precision: str = "fp32"
    version: int = 1
    citation: str = ""
    reference: str = ""

    def __post_init__(self) -> None:
        if not (isinstance(self.key, str) and self.key.isidentifier()):
            raise InputError(
                f"a method's key is {self.key!r}; it must be a Python identifier such as 'ig'"
            )
        one_of(f"family of method {self.key!r}", self.family, FAMILIES)
        one_of(f"precision of method {self.key!r}", self.precision, PRECISIONS)
        for name in ("attribute", "model_calls"):
            if not callable(getattr(self, name)):
                raise InputError(
                    f"method {self.key!r}: {name} is {getattr(self, name)!r}; give a function"
                )
        self._check_settings()
        # A copy of its own, so that the caller's dict can change without changing the method.
        object.__setattr__(self, "settings", dict(self.settings))

    def _check_settings(self) -> None:
        clashing = sorted(RESERVED.intersection(self.settings))
        if clashing:
            raise InputError(
                f"method {self.key!r} has a setting named {clashing[0]!r}, which explain() keeps "
                "for itself; rename the setting"
            )
        missing = {"n_segments", "compactness"}.difference(self.settings)
        if self.superpixels and missing:
            raise InputError(
                f"method {self.key!r} works on superpixels but has no setting "
                f"{sorted(missing)[0]!r}; add it to settings"
            )


@dataclass(frozen=True, eq=False)
class Explanation:
    """An attribution map and what it took.

    Attributes
    ----------
    map : numpy.ndarray
        float32, (T, H, W), signed, finite: positive where the voxel speaks for the class.
    model_calls : int
        Clips that went forward through the model.
    seconds : float
        Wall time of the whole explanation, baseline and superpixels included.
    baseline_seconds, superpixel_seconds : float
        Their parts of it (zero if the method needs none).
    info : dict
        What the method reports; `n_segments` (superpixels found) for methods that use them.
    """

    map: np.ndarray
    model_calls: int
    seconds: float
    baseline_seconds: float
    superpixel_seconds: float
    info: dict[str, Any]
