"""Words for the cells of tables: counts, shares, intervals, and what folds away."""

from __future__ import annotations

import pandas as pd

from vad_helpers import viz

NOTHING = "*Not measured yet.*\n"
"""What stands where a table would, as long as there is nothing for it."""


def folded(title: str, content: str) -> str:
    """Put content behind a title that opens it (MyST)."""
    return f"\n````{{dropdown}} {title}\n{content}\n````\n"


def count(value: float) -> str:
    """Write a number of things; a dash for NaN."""
    return "–" if pd.isna(value) else f"{value:.0f}"


def percent(value: float) -> str:
    """Write a share; a dash for NaN."""
    return "–" if pd.isna(value) else f"{value:.0%}"


def share(value: float) -> str:
    """Write a share of draws: one that only rounds to none or all is not called so."""
    if 0 < value < 0.005:
        return "under 1%"
    return "over 99%" if 0.995 <= value < 1 else percent(value)


def with_interval(value: float, low: float, high: float, *, digits: int = 4) -> str:
    """Write a value and its interval, where there is one; a dash for NaN."""
    if pd.isna(value):
        return "–"
    return f"{value:.{digits}f}" + ("" if pd.isna(low) else f" [{low:.3f}, {high:.3f}]")


def judged_difference(line: pd.Series) -> str:
    """Write a paired difference, its corrected p where there is one, and the verdict.

    Parameters
    ----------
    line : Series
        ``difference``, ``low``, ``high``, ``p_holm``, ``verdict``.

    Returns
    -------
    str
        "+0.120 [+0.080, +0.170] (p 0.31) higher".
    """
    p = "" if pd.isna(line["p_holm"]) else f" (p {line['p_holm']:.2g})"
    return f"{viz.spell_difference(line)}{p} {line['verdict']}"
