"""The rows of every table: methods, variants of them, and the reference rows.

The latter are what a method has to beat: maps that know nothing of the network (`random`,
`centre`, `motion`, `constant`), the maps of a network with randomised weights (`random_weights`),
and the time-averaged map of IG, which is scored on its robustness alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from vad_helpers.attribution.registry import METHODS
from vad_helpers.run.params import REFERENCES, Params, Variant

SLOW_CALLS = 500
"""A row with more model calls a clip than this is slow: `n_clips_slow` limits its clips."""
TIME_AVERAGE = "ig_time_average"
OF_VARIANT = {"baseline", "weights", "target", "n_clips", "seed", "precision"}  # beside settings


@dataclasses.dataclass(frozen=True)
class Row:
    """How the maps of one row come about."""

    key: str  # name in the tables ("ig", "lime_400", "random")
    label: str  # name for people
    kind: str  # "method", "variant" or "reference"
    family: str  # "gradient", "perturbation" or "reference"
    method: str | None = None  # attribution method; None for maps that need no network
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)  # beside the defaults
    baseline: str = "blur"  # what replaces removed pixels
    weights: str = "trained"  # "random", or the name of a stage
    target: int | None = None  # the class that is explained; None: "anomalous"
    n_clips: int | None = None  # fewer clips than the run explains; None: all
    seed: int | None = None  # of what is drawn: samples, random weights; None: the run's
    precision: str | None = None  # what "auto" means for this row; None: the method's default

    @property
    def all_settings(self) -> dict[str, Any]:
        """Settings of the method with its defaults."""
        return {**METHODS[self.method].settings, **self.settings} if self.method else {}

    def model_calls(self, params: Params) -> int:
        """Model calls a clip that the row's map is expected to need."""
        if self.method is None or self.key == TIME_AVERAGE:
            return 0
        shape = (3, params.n_frames, *params.frame_size)
        calls = METHODS[self.method].model_calls
        return int(calls(self.all_settings, shape, self.all_settings.get("n_segments")))


def rows_of(params: Params) -> dict[str, Row]:
    """All rows of a run's tables by key, in the order of the tables."""
    asked = [(key, METHODS[key].name, "method", Variant(method=key)) for key in params.methods]
    asked += [(key, variant.label, "variant", variant) for key, variant in params.variants.items()]
    of_ig = {"random_weights": Variant(method="ig", weights="random")}
    of_ig |= {TIME_AVERAGE: Variant(method="ig")}
    asked += [(key, label, "reference", of_ig.get(key)) for key, label in REFERENCES.items()]
    found = {}
    for key, label, kind, variant in asked:
        if variant is None:
            found[key] = Row(key, label, kind, "reference")
            continue
        if key == TIME_AVERAGE and "ig" not in params.methods:
            continue
        spec = METHODS[variant.method]
        given = variant.model_dump(exclude_unset=True, exclude={"method", "label"})
        changed = ", ".join(f"{name}={value}" for name, value in given.items())
        label = label or f"{spec.name} ({changed})"
        own = variant.model_dump(include=OF_VARIANT - {"baseline"} | {"method"})
        own["settings"] = {**params.settings.get(variant.method, {}), **variant.model_extra}
        own["baseline"] = variant.baseline or params.baseline
        family = "reference" if kind == "reference" else spec.family
        found[key] = Row(key, label, kind, family, **own)
    return found


def describe(listed: Mapping[str, Row]) -> list[tuple[str, ...]]:
    """Lines of `rows.csv`: row, kind, of, family, label, settings (JSON, with what a variant sets
    beside them)."""
    lines = []
    for row in listed.values():
        names = sorted(OF_VARIANT) if row.method else ()
        given = {name: getattr(row, name) for name in names if getattr(row, name) is not None}
        text = json.dumps({**row.settings, **given}, sort_keys=True, default=list)
        lines.append((row.key, row.kind, row.method or "", row.family, row.label, text))
    return lines
