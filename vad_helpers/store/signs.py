"""A published study with the sizes of attributions in the place of their positive parts.

The protocol counts negative attributions as zero. What speaks against "anomalous" can lie on the
anomaly all the same; the scores of |E| stand at levels of their own.
"""

from __future__ import annotations

import pandas as pd

from vad_helpers.store import rejudged, study
from vad_helpers.store.claims import CLAIMS, Claim
from vad_helpers.store.published import Published, once
from vad_helpers.tables.resampling import paired_difference

ABSOLUTE = {"clip": "clip_abs", "frame": "frame_abs"}
"""Level of the tables -> that of the same scores of |E|."""
METRICS = ("auc", "iou")


@once
def absolute(found: Published) -> pd.DataFrame:
    """Localisation by |E| beside localisation by E+, of the main rows.

    Returns
    -------
    DataFrame
        method, label, level, metric, mean (of E+) and mean_after (of |E|) over the clips that have
        both, difference (after - before) with low and high, its 95 % interval by sequences, n,
        n_groups. Higher is better throughout. Empty where it was not measured.
    """
    scored, names = found.human_centric, study.labels(found)
    lines = [
        {"method": row, "label": names[row], "level": level, "metric": metric} | line
        for row in study.main_rows(found)
        for level in ABSOLUTE
        for metric in METRICS
        if (line := _change(found, scored[scored["method"] == row], level, metric))
    ]
    columns = ("method", "label", "level", "metric", "mean", "mean_after", "difference", "low",
               "high", "n", "n_groups")  # fmt: skip
    return pd.DataFrame(lines, columns=list(columns))


def _change(found: Published, scored: pd.DataFrame, level: str, metric: str) -> dict[str, float]:
    part = scored[scored["metric"] == metric]
    wide = part.pivot(index=["clip_id", "sequence"], columns="level", values="value")
    wide = wide.reindex(columns=[level, ABSOLUTE[level]]).dropna()
    if wide.empty:
        return {}
    before, after = wide[level], wide[ABSOLUTE[level]]
    groups = wide.index.get_level_values("sequence")
    paired = paired_difference(after, before, groups, **study.options(found))
    paired.pop("n_undefined")
    return {"mean": before.mean(), "mean_after": after.mean(), **paired}


@once
def judged_absolute(found: Published) -> pd.DataFrame:
    """Do the verdicts on localisation stay when |E| is located instead of E+?

    Only claims count whose deciding comparisons are all of IoU and AUC, at clip or frame level.

    Returns
    -------
    DataFrame
        As `rejudged.judged_twice`. Empty where it was not measured.
    """
    before = study.scores(found)
    located = before["human_centric"]
    back = {other: level for level, other in ABSOLUTE.items()}
    after = located[located["level"].isin(back)]
    if after.empty:
        return pd.DataFrame(columns=list(rejudged.TWICE))
    # Both on the same clips.
    shared = located[located["level"].isin(ABSOLUTE) & located["clip_id"].isin(after["clip_id"])]
    sides = (shared, after.assign(level=after["level"].map(back)))
    size = (after["clip_id"].nunique(), after["sequence"].nunique())
    asked = [claim for claim in CLAIMS if _is_located(claim)]
    return rejudged.judged_twice(
        found, *({**before, "human_centric": side} for side in sides), asked, size
    )


def _is_located(claim: Claim) -> bool:
    deciding = [contrast for contrast in claim.contrasts if contrast.required]
    return all(c.table == "human_centric" and c.metric in METRICS for c in deciding)
