"""How well the networks of a published study tell clips apart, on sequences they never saw."""

from __future__ import annotations

import pandas as pd

from vad_helpers.metrics import statistics
from vad_helpers.store.published import Published, once
from vad_helpers.store.study import options

PAPER_PERFORMANCE = {"accuracy": 0.8886, "auc": 0.9331}
"""The paper's detector, on a split that it does not state."""
POOLED = "all folds"
PERFORMANCE = ("part", "scene", "n_clips", "n_sequences", "n_anomalous", "accuracy",
               "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high")  # fmt: skip
SAME_TEST = ("all_masks", "strong_blur")
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
        has no interval. The fold on whose sequences the recipe was tuned is left out of the last.
    """
    test = found.predictions[found.predictions["split"] == "test"]
    folds = list(test.groupby("fold"))
    pooled = pooled_name(found)
    parts = [(f"fold {k}", part) for k, part in folds]
    lines = [_performance(name, "both", part, found) for name, part in parts]
    lines += [
        _performance(name, scene, part[part["scene"] == scene], found)
        for name, whole in (*parts, (pooled, test))
        for part, scene in ((whole, scene) for scene in sorted(whole["scene"].unique()))
    ]
    if lines:
        mean = pd.DataFrame(lines[: len(folds)])[["accuracy", "auc"]].mean()
        over = pooled.removeprefix("all ")
        lines.append({"part": f"mean over {over}", "scene": "both", **mean})
        lines.append(_performance(pooled, "both", test, found))
    tuned = tuned_fold(found)
    if tuned in dict(folds) and len(folds) > 1:
        rest = test[test["fold"] != tuned]
        lines.append(_performance(f"{pooled} but {tuned}", "both", rest, found))
    return pd.DataFrame(lines, columns=list(PERFORMANCE))


def pooled_name(found: Published) -> str:
    """Name of what pools the folds that are there: `POOLED`, or their numbers while some lack."""
    there = sorted(found.predictions["fold"].unique())
    if len(there) == int(found.settings["n_folds"]):
        return POOLED
    return "folds " + ", ".join(map(str, there))


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


def tuned_fold(found: Published) -> int:
    """Fold whose test sequences fold 0 validates on: what the recipe was tuned on."""
    return 1 % int(found.settings["n_folds"])


def _performance(name: str, scene: str, part: pd.DataFrame, found: Published) -> dict:
    right = ((part["p"] >= 0.5) == (part["label"] == 1)).astype(float)
    sure = statistics.bootstrap_mean(right, part["sequence"], **options(found))
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
