"""The rows of every table: methods, variants of methods, and the reference rows.

The reference rows are what a method has to beat: maps that know nothing of the network (`random`,
`centre`, `motion`, `constant`), the maps of a network with randomised weights (`random_weights`),
and the time-averaged map of IG, which is scored on its robustness alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from vad_helpers.attribution import METHODS
from vad_helpers.run.params import REFERENCES, Params

SLOW_CALLS = 500
"""A row with more model calls a clip than this is slow: `n_clips_slow` limits its clips."""
TIME_AVERAGE = "ig_time_average"
LABELS = dict(
    zip(
        REFERENCES,
        ("Random map", "Centre prior", "Frame difference", "Constant map", "IG, random weights",
         "IG, averaged over time"),
        strict=True,
    )
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Row:
    """How the maps of one row come about."""

    key: str  # name in the tables ("ig", "lime_400", "random")
    label: str  # name for people
    kind: str  # "method", "variant" or "reference"
    family: str  # "gradient", "perturbation" or "reference"
    method: str | None = None  # attribution method; None for maps that need no network
    # Settings that differ from the method's defaults.
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    baseline: str = "blur"  # what replaces removed pixels
    weights: str = "trained"  # or "random"
    n_clips: int | None = None  # fewer clips than the run explains; None: all
    seed: int | None = None  # of what the method draws; None: the run's
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
    shared = {"baseline": params.baseline}
    found = [
        Row(
            m, METHODS[m].name, "method", METHODS[m].family, m, params.settings.get(m, {}), **shared
        )
        for m in params.methods
    ]
    for key, variant in params.variants.items():
        spec = METHODS[variant.method]
        given = variant.model_dump(exclude_unset=True, exclude={"method", "label"})
        changed = ", ".join(f"{name}={value}" for name, value in given.items())
        found.append(
            Row(
                key,
                variant.label or f"{spec.name} ({changed})",
                "variant",
                spec.family,
                variant.method,
                {**params.settings.get(variant.method, {}), **variant.model_extra},
                variant.baseline or params.baseline,
                variant.weights,
                variant.n_clips,
                variant.seed,
                variant.precision,
            )
        )
    for key, label in LABELS.items():
        row = Row(key, label, "reference", "reference")
        if key in ("random_weights", TIME_AVERAGE):
            of = {"method": "ig", "settings": params.settings.get("ig", {}), **shared}
            weights = "random" if key == "random_weights" else "trained"
            row = dataclasses.replace(row, **of, weights=weights)
        if key != TIME_AVERAGE or "ig" in params.methods:
            found.append(row)
    return {row.key: row for row in found}


def describe(listed: Mapping[str, Row]) -> list[tuple[str, ...]]:
    """Lines of `rows.csv`: row, kind, of, family, label, settings (JSON).

    Settings are those that differ from the method's, and baseline and weights; seed, precision
    and n_clips where a variant sets them.
    """
    lines = []
    for row in listed.values():
        settings = dict(row.settings)
        if row.method:
            settings |= {"baseline": row.baseline, "weights": row.weights}
            given = {name: getattr(row, name) for name in ("n_clips", "seed", "precision")}
            settings |= {name: value for name, value in given.items() if value is not None}
        text = json.dumps(settings, sort_keys=True, default=list)
        lines.append((row.key, row.kind, row.method or "", row.family, row.label, text))
    return lines
