"""The rows of every table: methods, variants of methods, and the reference rows.

A row says how a map comes about. The reference rows are what a method has to beat: maps that
know nothing of the network (`random`, `centre`, `motion`, `constant`) and the maps of a network
that knows nothing (`random_weights`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from vad_helpers.attribution import METHODS, baselines, checks
from vad_helpers.errors import InputError
from vad_helpers.store.cache import Run

SLOW_CALLS = 500
"""A method with more model calls a clip than this is slow: `n_clips_slow` limits its clips."""

REFERENCES = {
    "random": "Random map",
    "centre": "Centre prior",
    "motion": "Frame difference",
    "constant": "Constant map",
    "random_weights": "IG, random weights",
}
TIME_AVERAGE = "ig_time_average"


@dataclasses.dataclass(frozen=True)
class Row:
    """How the maps of one row come about.

    Attributes
    ----------
    key : str
        Name in the tables ("ig", "lime_converged", "random").
    label : str
        Name for people.
    kind : str
        "method", "variant" or "reference".
    family : str
        "gradient", "perturbation" or "reference".
    method : str or None
        Attribution method; None for maps that need no network.
    settings : dict
        Settings that differ from the method's defaults.
    baseline : str
        What replaces removed pixels.
    weights : str
        "trained" or "random".
    n_clips : int or None
        Fewer clips than the run explains; None means all.
    seed : int or None
        Of what the method draws; None means the run's.
    precision : str or None
        "fp32" or "bf16", where the run leaves it to each row ("auto"); None: the method's default.
    """

    key: str
    label: str
    kind: str
    family: str
    method: str | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    baseline: str = "blur"
    weights: str = "trained"
    n_clips: int | None = None
    seed: int | None = None
    precision: str | None = None


def rows(run: Run) -> dict[str, Row]:
    """All rows of a run's tables by key, in the order of the tables.

    Raises
    ------
    InputError
        For an unknown method in `methods`, `settings` or `variants`.
    """
    p = run.params
    for method in p.settings:
        _known(method, "settings")
    listed = [_method_row(run, method) for method in p.methods]
    listed += [_variant_row(run, name, dict(spec)) for name, spec in p.variants.items()]
    listed += [_reference_row(run, key) for key in REFERENCES]
    return {row.key: row for row in listed}


def methods(run: Run) -> dict[str, Row]:
    """Rows of the methods alone, without variants and references."""
    return {key: row for key, row in rows(run).items() if row.kind == "method"}


def check_rows(run: Run) -> None:
    """Check methods, settings and baselines of all rows, so that nothing starts that would fail.

    Raises
    ------
    InputError
        For an unknown method, a setting that its method does not have or that is of the wrong
        type or out of range, an unknown baseline, a label that is no text, or a variant's seed
        that is the run's own.
    """
    p = run.params
    shape = (3, p.n_frames, *p.frame_size)
    table = rows(run)
    for method, settings in p.settings.items():
        _check_settings(method, settings, shape)
    for name in p.variants:
        row = table[name]
        try:
            checks.one_of("baseline", row.baseline, baselines.NAMES)
            _check_seed(row, p.seed)
            _check_settings(row.method, row.settings, shape)
        except InputError as error:
            raise InputError(f"variant '{name}': {error}") from None
    # Defaults too: a window may not fit into this run's frames.
    for method in p.methods:
        _check_settings(method, table[method].settings, shape)


def _check_seed(row: Row, seed: int) -> None:
    # Two rows of one draw agree perfectly, which would pass for stability over seeds.
    if row.seed == seed:
        raise InputError(f"its seed is the run's own, {seed}, so it repeats a row; give another")


def _check_settings(method: str, given: Mapping[str, Any], shape: tuple[int, ...]) -> None:
    spec = METHODS[method]
    settings = checks.settings(method, given, spec.settings)
    if spec.check is not None:
        spec.check(settings, shape)


def _known(method: object, where: str) -> None:
    if not isinstance(method, str) or method not in METHODS:
        raise InputError(
            f"unknown method '{method}' in parameter '{where}'; there are {', '.join(METHODS)}"
        )


def _method_row(run: Run, method: str) -> Row:
    _known(method, "methods")
    spec = METHODS[method]
    settings = run.params.settings.get(method, {})
    return Row(method, spec.name, "method", spec.family, method, settings, run.params.baseline)


def _variant_row(run: Run, name: str, spec: dict[str, Any]) -> Row:
    method = spec.pop("method", None)
    if method is None or name in METHODS or name in REFERENCES:
        raise InputError(
            f"variant '{name}' needs a name of its own and a line `method:`; given {spec or 'none'}"
        )
    _known(method, "variants")
    baseline = spec.pop("baseline", run.params.baseline)
    weights, n_clips = spec.pop("weights", "trained"), spec.pop("n_clips", None)
    seed, precision = spec.pop("seed", None), spec.pop("precision", None)
    _require(name, "weights", weights, weights in ("trained", "random"), "trained or random")
    counts = n_clips is None or (type(n_clips) is int and n_clips >= 1)
    _require(name, "n_clips", n_clips, counts, "a whole number of at least 1")
    draws = seed is None or (type(seed) is int and 0 <= seed <= checks.MAX_SEED)
    _require(name, "seed", seed, draws, f"a whole number from 0 to {checks.MAX_SEED}")
    _require(name, "precision", precision, precision in (None, "fp32", "bf16"), "fp32 or bf16")
    changed = {"weights": weights, "baseline": baseline, **spec}
    changed |= {k: v for k, v in (("seed", seed), ("precision", precision)) if v is not None}
    label = spec.pop("label", f"{METHODS[method].name} ({_spell(changed, run)})")
    _require(name, "label", label, isinstance(label, str), "text")
    return Row(
        key=name,
        label=label,
        kind="variant",
        family=METHODS[method].family,
        method=method,
        settings={**run.params.settings.get(method, {}), **spec},
        baseline=baseline,
        weights=weights,
        n_clips=n_clips,
        seed=seed,
        precision=precision,
    )


def _require(variant: str, name: str, value: object, holds: bool, expected: str) -> None:
    if not holds:
        raise InputError(f"variant '{variant}' has the {name} {value!r}; give {expected}")


def _spell(changed: dict[str, Any], run: Run) -> str:
    """Say in words what a variant changes."""
    weights, baseline = changed.pop("weights"), changed.pop("baseline")
    words = [f"{name.replace('n_', '')} {value}" for name, value in changed.items()]
    words += [f"{baseline.replace('_', ' ')} baseline"] if baseline != run.params.baseline else []
    return ", ".join(words + ([f"{weights} weights"] if weights != "trained" else []))


def _reference_row(run: Run, key: str) -> Row:
    if key != "random_weights":
        return Row(key, REFERENCES[key], "reference", "reference")
    settings = run.params.settings.get("ig", {})
    return Row(
        key,
        REFERENCES[key],
        "reference",
        "reference",
        "ig",
        settings,
        run.params.baseline,
        "random",
    )
