"""How well networks tell clips apart, and two of them on the same clips, with intervals."""

from __future__ import annotations

from typing import Any

import numpy as np

from vad_helpers.tables import statistics


def bootstrap_auc(
    p: Any, labels: Any, groups: Any, *, minus: Any = None, n_resamples: int = 2000, seed: int = 0
) -> dict[str, float]:
    """ROC AUC of clips, or how far those of two scores are apart, with an interval.

    `p`, (n,), has one score a clip, without NaN (larger speaks for class 1), `labels` its class, 0
    or 1, and `minus` another score, whose AUC on the same draws is subtracted; `groups` and the
    other options are as in `statistics.bootstrap_mean`.

    ``auc``: in [0, 1], ties count one half; NaN if there is one class only. ``low``, ``high``: over
    the draws that have an AUC; NaN without any, or with fewer than two sequences.

    Raises
    ------
    ValueError
        If lengths differ, a value is not finite, or a label is not 0 or 1.
    """
    drawn = {"n_resamples": n_resamples, "seed": seed}
    auc, draws = statistics.drawn_aucs(p, labels, groups, **drawn)
    if minus is not None:
        other, others = statistics.drawn_aucs(minus, labels, groups, **drawn)
        auc, draws = auc - other, draws - others
    low, high = statistics.percentiles(draws[~np.isnan(draws)])
    return {"auc": auc, "low": low, "high": high}
