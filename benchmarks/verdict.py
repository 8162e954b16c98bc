"""The verdict on metrics: how well each recovers the order of maps that is known.

Scores are those of `planted.try_clip`, of several clips (clip_id), one a sequence.
"""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd

from vad_helpers.metrics.catalog import HIGHER, direction
from vad_helpers.tables.schema import STUDY_SCHEMAS
from vad_helpers.tables.statistics import summarise

TIE, SAME_RECALL = 1e-6, 0.05
LADDERS = ("noise", "shift", "delay", "blur", "parts", "swap")
NO_VERDICT = ("fragile_minus", "fragile_plus", "diffuse", "gated_i3d")
"""Detectors that are shown apart."""
REFERENCES = ("constant", "random", "motion", "annotation")
RULES = {"tau": 0.8, "ladder": 0.5, "wins": 0.05, "value_effect": 0.05}
"""A metric passes if the lower end of its tau and each ladder's tau are above the first two, a
constant and a random map beat the truth in at most the share `wins`, and `value_effect`, what
powers change over what permuting the truth does, is below the last: fixed before a result was
seen."""


def kendall(scores: np.ndarray, recall: np.ndarray) -> np.ndarray:
    """Kendall's tau_a of a ladder's levels, for each column of `scores`, (n_levels, n_metrics).

    Levels go from the truth down, higher scores are better. Pairs whose evidence `recall`,
    (n_levels,), differs by less than .05 are left out; a tie of a metric, or an undefined score,
    counts 0. In [-1, 1], NaN without a pair.
    """
    pairs = list(itertools.combinations(range(len(recall)), 2))
    pairs = [(i, j) for i, j in pairs if abs(recall[i] - recall[j]) >= SAME_RECALL]
    if not pairs:
        return np.full(scores.shape[1], np.nan)
    apart = np.array([scores[i] - scores[j] for i, j in pairs])
    return (np.sign(np.nan_to_num(apart)) * (np.abs(apart) >= TIE)).mean(axis=0)


def judge(scores: pd.DataFrame) -> pd.DataFrame:
    """Judge every metric by `RULES`, from clip_id, detector, ladder, level, metric and value.

    A line a metric, detector and ladder: tau, its mean over clips, with low and high (clips drawn
    anew, 2,000 times), and n clips. Detector "all": the mean over those with a verdict; ladder
    "all", and "all but blur": over ladders. The line "all", "all" also has: truth_wins, how often
    the truth beats a spoiled map; how often each of `REFERENCES` beats the truth (constant_wins
    ...); value_effect; quality and flatness, shares of the variance of noise by powers; passed.
    """
    keys, metrics = ["clip_id", "detector", "ladder", "level"], scores["metric"].drop_duplicates()
    wide = scores.pivot(index=keys, columns="metric", values="value")[list(metrics)]
    metrics = [metric for metric in metrics if metric != "recall"]
    signs = [1 if direction(metric) == HIGHER else -1 for metric in metrics]
    recall, wide = wide["recall"], wide[metrics] * signs
    taus, cases, grids = [], [], []
    for (clip_id, detector), part in wide.groupby(level=["clip_id", "detector"], sort=False):
        part = part.droplevel(["clip_id", "detector"])
        own, place = part.loc[("truth", 0)], {"clip_id": clip_id, "detector": detector}
        apart = part - own
        for ladder, steps in part.groupby(level="ladder", sort=False):
            if ladder in (*LADDERS, "object"):
                levels = [("truth", 0), *steps.index]
                known = recall.loc[(clip_id, detector)].loc[levels].to_numpy()
                tau = kendall(part.loc[levels].to_numpy(), known)
                taus.append(place | {"ladder": ladder} | dict(zip(metrics, tau, strict=True)))
        if "grid" in part.index and detector == "appearance":
            grid = part.loc["grid"].to_numpy().reshape(5, 5, -1)
            rest = grid - grid.mean(axis=(0, 1))
            total = np.square(rest).sum(axis=(0, 1))
            ways = [np.square(rest.mean(axis=axis)).sum(axis=0) * 5 for axis in (1, 0)]
            nothing = np.full((2, len(total)), np.nan)
            grids.append(np.divide(ways, total, out=nothing, where=total > 0))
        if detector not in NO_VERDICT:
            case = {f"{r}_wins": (apart.loc[r] > TIE).mean() for r in REFERENCES}
            spoiled = apart.loc[apart.index.isin(LADDERS, level="ladder")]
            case["truth_wins"] = (spoiled < -TIE).mean()
            case["power"], case["noise"] = apart.loc["power"].abs().mean(), -apart.loc[("noise", 4)]
            cases.append(pd.DataFrame(case))
    found = pd.DataFrame(taus).melt(["clip_id", "detector", "ladder"], metrics, "metric", "tau")
    table = _summarised(found)
    shared = pd.concat(cases).groupby(level="metric").mean().loc[metrics]
    lost = shared.pop("noise").abs()
    shared["value_effect"] = shared["power"] / lost.where(lost >= TIE)
    shared[["quality", "flatness"]] = np.mean(grids, axis=0).T if grids else np.nan
    whole = table[table["detector"] == "all"]
    taus_of = whole.pivot(index="metric", columns="ladder", values="tau").loc[metrics]
    low = whole[whole["ladder"] == "all"].set_index("metric")["low"].loc[metrics]
    wins = shared[["constant_wins", "random_wins"]].max(axis=1)
    shared["passed"] = (low > RULES["tau"]) & (taus_of[list(LADDERS)] > RULES["ladder"]).all(axis=1)
    shared["passed"] &= (wins <= RULES["wins"]) & (shared["value_effect"] < RULES["value_effect"])
    shared = shared.drop(columns="power").reset_index().assign(detector="all", ladder="all")
    table = table.merge(shared, how="left", on=["metric", "detector", "ladder"])
    return table.reindex(columns=list(STUDY_SCHEMAS["metrics_on_trial"].columns))


def _summarised(taus: pd.DataFrame) -> pd.DataFrame:
    """Means and intervals over clips, of detectors and ladders one by one and together."""
    judged = taus[~taus["detector"].isin(NO_VERDICT)].assign(detector="all")
    together = pd.concat([taus, judged])
    kept = together["ladder"] != "blur"
    every = [together.assign(ladder="all"), together[kept].assign(ladder="all but blur")]
    # Of a clip, the mean over what it has; then clips alone are drawn.
    keys = ["metric", "detector", "ladder", "clip_id"]
    of_clip = pd.concat([together, *every]).groupby(keys, sort=False)["tau"].mean().reset_index()
    of_clip = of_clip.set_axis(["metric", "row", "level", "clip_id", "value"], axis=1)
    found = summarise(of_clip.assign(sequence=of_clip["clip_id"]))
    return found.rename(columns={"row": "detector", "level": "ladder", "mean": "tau"})


def agreement(scores: pd.DataFrame) -> float:
    """Krippendorff's alpha of the ranks that clips (lines) give to rows (columns).

    1: all clips rank alike; 0: as by chance. Distances of ranks are squared; clips without all
    scores are left out.

    References
    ----------
    A. F. Hayes, K. Krippendorff, "Answering the call for a standard reliability measure for coding
    data", Communication Methods and Measures 1, 2007.
    """
    ranks = scores.dropna().rank(axis=1).to_numpy()
    return float(1 - ranks.var(axis=0, ddof=1).mean() / ranks.var(ddof=1))
