"""How well the networks of a published study tell clips apart, on sequences they never saw."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from vad_helpers.store import replaced
from vad_helpers.store.published import Published, once
from vad_helpers.store.study import options
from vad_helpers.tables import resampling, statistics

PAPER_PERFORMANCE = {"accuracy": 0.8886, "auc": 0.9331}
"""The paper's detector, on a split that it does not state."""
POOLED = "all folds"
PERFORMANCE = ("part", "scene", "n_clips", "n_sequences", "n_anomalous", "accuracy",
               "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high")  # fmt: skip
# Clips, number of draws, seed -> a score, and that of every draw of their sequences.
Drawn = Callable[[pd.DataFrame, int, list[int]], tuple[float, np.ndarray]]
SAME_TEST = ("added_masks", "strong_blur", "spacetime_blur")
"""Alternatives that test the same networks on the same clips."""


@once
def performance(found: Published) -> pd.DataFrame:
    """How well the networks tell clips apart, on sequences that they never saw.

    Returns
    -------
    DataFrame
        part ("fold 0", "mean over folds", `POOLED`, ...; "folds 0, 2" and "mean over folds 0, 2"
        while folds are missing), scene, n_clips, n_sequences,
        n_anomalous; accuracy (at p >= .5) and auc, each with _low and _high. The mean over folds
        draws the sequences of every fold anew, each fold among its own. The fold on whose
        sequences the recipe was tuned is left out of the last.
    """
    test = found.predictions[found.predictions["split"] == "test"]
    folds = list(test.groupby("fold"))
    pooled = pooled_name(found)
    mean = mean_name(found)
    scenes = [(scene, test[test["scene"] == scene]) for scene in sorted(test["scene"].unique())]
    lines = [_performance(f"fold {k}", "both", part, found) for k, part in folds]
    lines += [
        _performance(f"fold {k}", scene, part, found)
        for k, whole in folds
        for scene, part in whole.groupby("scene")
    ]
    for scene, part in scenes:
        lines += [_mean(mean, scene, part, found), _performance(pooled, scene, part, found)]
    if folds:
        lines += [_mean(mean, "both", test, found), _performance(pooled, "both", test, found)]
    tuned = tuned_fold(found)
    if tuned in dict(folds) and len(folds) > 1:
        rest = test[test["fold"] != tuned]
        lines.append(_performance(f"{pooled} but fold {tuned}", "both", rest, found))
    return pd.DataFrame(lines, columns=list(PERFORMANCE))


def pooled_name(found: Published) -> str:
    """Name of what pools the folds that are there: `POOLED`, or their numbers while some lack."""
    there = sorted(found.predictions["fold"].unique())
    if len(there) == int(found.settings["n_folds"]):
        return POOLED
    return "folds " + ", ".join(map(str, there))


def mean_name(found: Published) -> str:
    """Name of the mean over the folds that are there."""
    return f"mean over {pooled_name(found).removeprefix('all ')}"


@once
def alternative_performance(found: Published) -> pd.DataFrame:
    """Networks tested on other clips, or after another split; see `alternatives`.

    Returns
    -------
    DataFrame
        As `performance`, with a column alternative; each beside the study's line of the same folds
        (alternative ""). Empty where none was measured, or those alone that test the same network
        on the same clips (`SAME_TEST`).
    """
    columns = ["alternative", *PERFORMANCE]
    table = found.extras.get("alternative_predictions")
    if table is None:
        return pd.DataFrame(columns=columns)
    test = found.predictions[found.predictions["split"] == "test"]
    lines = []
    table = table[~table["alternative"].isin(SAME_TEST)]
    for name, part in table.groupby("alternative", sort=False):
        folds = sorted(part["fold"].unique())
        where = f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"
        for alternative, clips in (("", test[test["fold"].isin(folds)]), (name, part)):
            line = _performance(where, "both", clips, found)
            lines.append({"alternative": alternative, **line})
    return pd.DataFrame(lines, columns=columns).drop_duplicates()


@once
def trained_again(found: Published) -> pd.DataFrame:
    """Networks that the same recipe and seed gave for one fold; see `replaced`.

    Returns
    -------
    DataFrame
        As `performance`, with the columns network (first digits of its checksum), train_precision,
        device, date and in_study: the study's own is the last of its fold. Empty where no fold was
        trained again.
    """
    columns = ["network", *replaced.TRAINED, "in_study", *PERFORMANCE]
    table = found.extras.get(replaced.NAME)
    test = found.predictions[found.predictions["split"] == "test"]
    lines = []
    for fold, part in () if table is None else table.groupby("fold"):
        about = replaced.about(found.manifest["folds"][str(fold)])
        own = test[test["fold"] == fold].assign(in_study=True, **about)
        both = pd.concat([part.assign(in_study=False), own])
        for digest, clips in both.groupby("weights_sha256", sort=False):
            known = clips.iloc[0][[*replaced.TRAINED, "in_study"]].to_dict()
            scored = _performance(f"fold {fold}", "both", clips, found)
            lines.append({"network": digest[:12], **known, **scored})
    return pd.DataFrame(lines, columns=columns)


def tuned_fold(found: Published) -> int:
    """Fold whose test sequences fold 0 validates on: what the recipe was tuned on."""
    return 1 % int(found.settings["n_folds"])


def _performance(name: str, scene: str, part: pd.DataFrame, found: Published) -> dict:
    sure = statistics.bootstrap_mean(_right(part), part["sequence"], **options(found))
    auc = statistics.bootstrap_auc(part["p"], part["label"], part["sequence"], **options(found))
    return {
        "part": name,
        "scene": scene,
        "n_clips": len(part),
        "n_sequences": part["sequence"].nunique(),
        "n_anomalous": int(part["label"].sum()),
        "accuracy": sure["mean"],
        "accuracy_low": sure["low"],
        "accuracy_high": sure["high"],
        **{name: auc[key] for name, key in
           (("auc", "auc"), ("auc_low", "low"), ("auc_high", "high"))},
    }  # fmt: skip


def _mean(name: str, scene: str, test: pd.DataFrame, found: Published) -> dict:
    """Mean of the folds' accuracy and AUC; a fold without an AUC is left out of that mean."""
    line = {
        "part": name,
        "scene": scene,
        "n_clips": len(test),
        "n_sequences": test["sequence"].nunique(),
        "n_anomalous": int(test["label"].sum()),
    }
    folds = [part for _, part in test.groupby("fold")]
    for metric, drawn in (("accuracy", _drawn_accuracies), ("auc", _drawn_aucs)):
        value, low, high = _mean_over(folds, drawn, **options(found))
        line |= {metric: value, f"{metric}_low": low, f"{metric}_high": high}
    return line


def _mean_over(
    folds: list[pd.DataFrame], drawn: Drawn, *, n_resamples: int, seed: int
) -> tuple[float, float, float]:
    """Mean over folds and its interval; none where a fold has one sequence alone."""
    # Draws of its own for every fold: equal ones would pair sequences that have no pair.
    scored = [drawn(part, n_resamples, [seed, i]) for i, part in enumerate(folds)]
    scored = [(value, draws) for value, draws in scored if not np.isnan(value)]
    if not scored:
        return np.nan, np.nan, np.nan
    values, draws = zip(*scored, strict=True)
    means = np.mean(draws, axis=0)
    means = means[~np.isnan(means)]  # as for one fold: a draw without an AUC does not count
    low, high = resampling.percentiles(means, resampling.LEVEL) if len(means) else (np.nan, np.nan)
    return float(np.mean(values)), float(low), float(high)


def _drawn_accuracies(part: pd.DataFrame, n: int, seed: list[int]) -> tuple[float, np.ndarray]:
    return resampling.drawn_means(_right(part), part["sequence"], n_resamples=n, seed=seed)


def _drawn_aucs(part: pd.DataFrame, n: int, seed: list[int]) -> tuple[float, np.ndarray]:
    columns = (part["p"], part["label"], part["sequence"])
    auc, draws = resampling.drawn_aucs(*columns, n_resamples=n, seed=seed)
    single = part["sequence"].nunique() < 2
    return auc, np.full(n, np.nan) if single else draws


def _right(part: pd.DataFrame) -> pd.Series:
    """Whether the network calls each clip what it is."""
    return ((part["p"] >= 0.5) == (part["label"] == 1)).astype(float)
