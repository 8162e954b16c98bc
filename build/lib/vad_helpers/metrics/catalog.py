"""What each metric is: its name, family, direction, range, and what it depends on.

Tables and figures look here for which way is better; the values come from the other modules.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources

from vad_helpers.errors import InputError

HIGHER, LOWER = "higher", "lower"


@dataclass(frozen=True)
class Metric:
    """One metric.

    Attributes
    ----------
    key : str
        As in the column ``metric`` of a table of scores.
    name : str
        For headings.
    family : str
        "human-centric", "model-centric", "robustness" or "run time".
    direction : str or None
        "higher" or "lower" is better; None where neither is (a description, not a score).
    range : tuple of float
        Smallest and largest possible value, in `unit`.
    sensitive_to : tuple of str
        Parameters and properties, beside the quality of the map, that move it.
    unit : str
        Empty for pure numbers.
    description : str
        What the number is, in one line.
    score : callable or None
        Of a metric of one's own: ``score(attribution, *, mask, clip, baseline, predict) -> float``,
        NaN where it is not defined; arguments as those of `evaluate.evaluate`. None: the package's.
    """

    key: str
    name: str
    family: str
    direction: str | None
    range: tuple[float, float]
    sensitive_to: tuple[str, ...] = ()
    unit: str = ""
    description: str = ""
    score: Callable[..., float] | None = None


def _packaged() -> dict[str, Metric]:
    """Read `catalog.csv`: a line a metric, empty where neither direction is better."""
    found = {}
    with (resources.files("vad_helpers.metrics") / "catalog.csv").open(encoding="utf-8") as file:
        for line in csv.DictReader(file):
            span = float(line.pop("low")), float(line.pop("high"))
            line["sensitive_to"] = tuple(line["sensitive_to"].split("; "))
            line["direction"] = line["direction"] or None
            found[line["key"]] = Metric(range=span, **line)
    return found


METRICS = _packaged()
_OF_THE_PACKAGE = frozenset(METRICS)


def direction(key: str) -> str | None:
    """Tell which way a metric is better: "higher", "lower", or None where neither is.

    InputError if there is no such metric.
    """
    if key not in METRICS:
        raise InputError(f"no metric {key!r}; expected one of {', '.join(METRICS)}")
    return METRICS[key].direction


def register(metric: Metric) -> None:
    """Add a metric of one's own, so that runs score by it and tables know which way is better.

    Another one of its key is replaced. InputError if it cannot be used, or has a key of the
    package's.
    """
    families = ("human-centric", "model-centric", "robustness")
    if not isinstance(metric, Metric) or not metric.key.isidentifier():
        raise InputError(f"register() was given {metric!r}; give a Metric, its key an identifier")
    for name, known in (("family", families), ("direction", (HIGHER, LOWER, None))):
        if (given := getattr(metric, name)) not in known:
            raise InputError(f"metric {metric.key!r} has {name} {given!r}; expected one of {known}")
    if metric.key in _OF_THE_PACKAGE:
        raise InputError(f"metric {metric.key!r} exists already; give yours another key")
    if not callable(metric.score):
        raise InputError(f"metric {metric.key!r} has no score; give it a function")
    METRICS[metric.key] = metric


def described(metric: Metric) -> dict[str, object]:
    """What a manifest keeps of a metric of one's own, so that its scores can be read without it."""
    about = asdict(metric)
    return {name: value for name, value in about.items() if name not in ("key", "score")}
