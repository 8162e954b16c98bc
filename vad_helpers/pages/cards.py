"""What a method's card states as fact: settings and cost, from the registry and from the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vad_helpers import store
from vad_helpers.attribution import METHODS
from vad_helpers.attribution.spec import MethodSpec
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.store import maps
from vad_helpers.store.cache import Run

PAPER_CLIP = (3, 20, 158, 237)
"""A clip of the paper's study, as the network gets it: channels, frames, height, width."""

CARDS = {
    "ig": "method-ig",
    "ig_smoothgrad": "method-ig-smoothgrad",
    "guided_backprop": "method-guided-backprop",
    "gradient_shap": "method-gradient-shap",
    "kernel_shap": "method-kernel-shap",
    "lime": "method-lime",
    "occlusion_lp": "method-occlusion",
    "occlusion_sp": "method-occlusion",
}
"""Anchors of the cards on the page of methods."""

PASSES = {"gradient": "forward and backward passes", "perturbation": "forward passes"}


def method_table(run: Run) -> str:
    """Tabulate the methods: family, the paper's settings, their cost there and in this run.

    Parameters
    ----------
    run : Run

    Returns
    -------
    str
        A table in Markdown, one line a method of the registry, each linked to its card; "–" where
        it is not in the run, or was not timed.
    """
    seconds = _seconds(run)
    table = store.rows(run)
    lines = [
        "| method | family | settings in the paper | calls, paper | calls, here | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for key, spec in METHODS.items():
        calls = str(maps.expected_calls(run, table[key])) if key in table else "–"
        time = f"{seconds[key]:.3g}" if key in seconds else "–"
        name = f"[{spec.name}]({CARDS[key]})" if key in CARDS else spec.name
        settings = spell_settings(spec.settings).replace("`", "")
        cells = [f"{name} `{key}`", spec.family, settings, str(paper_calls(spec)), calls, time]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def metric_table() -> str:
    """Tabulate the metrics of the catalogue: family, range, direction, what moves them.

    Returns
    -------
    str
        A table in Markdown.
    """
    lines = ["| metric | asks about | range | better | sensitive to |", "|---|---|---|---|---|"]
    for metric in METRICS.values():
        low, high = (f"{end:g}".replace("inf", "∞").replace("-", "−") for end in metric.range)
        unit = f" {metric.unit}" if metric.unit else ""
        cells = [
            f"{metric.name} (`{metric.key}`)",
            metric.family,
            f"{low} to {high}{unit}",
            metric.direction or "–",
            ", ".join(metric.sensitive_to) or "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def method_facts(run: Run, key: str) -> str:
    """Write the cost and settings of one method for its card.

    Parameters
    ----------
    run : Run
    key : str
        Of the registry.

    Returns
    -------
    str
        Markdown, one paragraph.
    """
    spec = METHODS[key]
    text = (
        f"{paper_calls(spec)} {PASSES[spec.family]} for the paper's clip of "
        f"{' × '.join(map(str, PAPER_CLIP[1:]))} ({spell_settings(spec.settings)})."
    )
    table = store.rows(run)
    if key not in table:
        return f"{text} Not in this run."
    p = run.params
    changed = {
        name: value
        for name, value in table[key].settings.items()
        if _plain(value) != _plain(spec.settings[name])
    }
    size = " × ".join(map(str, (p.n_frames, *p.frame_size)))
    text += f" In this run, clips of {size}: {maps.expected_calls(run, table[key])}"
    text += f", with {spell_settings(changed)}" if changed else ""
    seconds = _seconds(run).get(key)
    return f"{text}, {seconds:.3g} s a clip." if seconds is not None else f"{text}."


def paper_calls(spec: MethodSpec) -> int:
    """Model calls for the paper's clip at the paper's settings."""
    # The number of superpixels that was asked for: SLIC finds a few more or less.
    return spec.model_calls(spec.settings, PAPER_CLIP, spec.settings.get("n_segments"))


def spell_settings(settings: Mapping[str, Any]) -> str:
    """Write settings for reading: "`window` 10 × 52 × 78, `stride` 10 × 32 × 32"."""
    words = [f"`{name}` {_spell(value)}" for name, value in settings.items()]
    return ", ".join(words) or "no settings"


def _spell(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " × ".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """A setting as a profile would write it: sequences as lists."""
    return list(value) if isinstance(value, tuple) else value


def _seconds(run: Run) -> dict[str, float]:
    times = store.runtime(run)
    return times[times["metric"] == "seconds"].set_index("method")["value"].to_dict()
