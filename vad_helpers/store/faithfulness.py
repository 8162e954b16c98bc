"""Deletion and insertion in a published study, and their controls: flatness, gap, baseline."""

from __future__ import annotations

import pandas as pd

from vad_helpers.metrics.gaps import by_gap
from vad_helpers.store.published import Published, once
from vad_helpers.store.study import labels, main_rows, methods, options, summary

FLATNESS = ("deletion", "insertion", "mean_area", "area_matched_deletion",
            "area_matched_insertion", "area_deletion", "area_insertion")  # fmt: skip
FAITHFUL = ("gap", "deletion", "insertion", "area_matched_deletion")


def flatness(found: Published) -> pd.DataFrame:
    """Faithfulness on the threshold axis beside what controls it, of the main rows.

    Returns
    -------
    DataFrame
        As `summary`, with the metrics of `FLATNESS` in that order.
    """
    part = summary(found, "model_centric")
    return pd.concat([part[part["metric"] == metric] for metric in FLATNESS], ignore_index=True)


def gaps(found: Published) -> pd.DataFrame:
    """p(x) and p(x_b) of every clip: fold, scene, clip_id, p_clip, p_baseline, gap."""
    part = found.model_centric[found.model_centric["metric"].isin(["p_clip", "p_baseline"])]
    if part.empty:
        return pd.DataFrame(columns=["fold", "scene", "clip_id", "p_clip", "p_baseline", "gap"])
    # Every row of a clip has the same two numbers.
    wide = part.drop_duplicates(["clip_id", "metric"])
    wide = wide.pivot(index="clip_id", columns="metric", values="value").reset_index()
    wide = found.clips[["fold", "scene", "clip_id"]].merge(wide, on="clip_id")
    return wide.assign(gap=wide["p_clip"] - wide["p_baseline"])


def faithfulness_by_gap(found: Published) -> pd.DataFrame:
    """Deletion and insertion over clips whose baseline moves the network enough; see `by_gap`."""
    needed = ["deletion", "insertion", "p_clip", "p_baseline"]
    part = found.model_centric
    part = part[part["metric"].isin(needed) & part["method"].isin(main_rows(found))]
    if part.empty:
        return pd.DataFrame(columns=["method", "label", "min_gap", "n_clips"])
    wide = part.pivot(index=["clip_id", "sequence", "method"], columns="metric", values="value")
    table = by_gap(wide.reset_index(), **options(found))
    order = {key: i for i, key in enumerate(main_rows(found))}
    table = table.sort_values("method", key=lambda m: m.map(order), kind="stable")
    table.insert(1, "label", table["method"].map(labels(found)))
    return table.reset_index(drop=True)


@once
def stronger_baseline(found: Published) -> pd.DataFrame:
    """Faithfulness where maps and scores fill with a stronger blur, beside the study's own.

    Returns
    -------
    DataFrame
        For every method: label, n_clips and gap (mean p(x) - p(x_b)), deletion, insertion and
        area_matched_deletion, each of the study on these clips and with "_strong" of the run
        beside it. Empty where it was not measured.
    """
    columns = ["label", "n_clips", *(f"{m}{end}" for m in FAITHFUL for end in ("", "_strong"))]
    table = found.extras.get("alternatives")
    if table is None:
        return pd.DataFrame(columns=columns)
    part = table[(table["alternative"] == "strong_blur") & (table["table"] == "model_centric")]
    both = {"": found.model_centric, "_strong": part}
    wide = {end: _faithfulness(scored, methods(found)) for end, scored in both.items()}
    shared = wide[""].index.intersection(wide["_strong"].index)
    means = [lines.loc[shared].groupby("method", sort=False).mean().add_suffix(end)
             for end, lines in wide.items()]  # fmt: skip
    joined = pd.concat(means, axis=1)
    joined.insert(0, "n_clips", pd.Series(1, shared).groupby("method").sum())
    joined.insert(0, "label", joined.index.map(labels(found)))
    return joined.reindex([m for m in methods(found) if m in joined.index])[columns]


def _faithfulness(scored: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Scores of `FAITHFUL`, a line a method and clip."""
    scored = scored[(scored["level"] == "clip") & scored["method"].isin(keys)]
    wide = scored.pivot(index=["method", "clip_id"], columns="metric", values="value")
    wide = wide.assign(gap=wide.get("p_clip") - wide.get("p_baseline")) if len(wide) else wide
    return wide.reindex(columns=list(FAITHFUL))
