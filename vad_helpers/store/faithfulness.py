"""Deletion and insertion in a published study, and their controls: flatness, gap, baseline."""

from __future__ import annotations

import pandas as pd

from vad_helpers.metrics.gaps import EQUAL_AREA, by_gap
from vad_helpers.store.published import Published, once
from vad_helpers.store.study import evened, labels, main_rows, options, summary
from vad_helpers.tables.resampling import paired_difference

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
    """p(x) and p(x_b) of every measured clip: fold, scene, clip_id, p_clip, p_baseline, gap."""
    part = found.model_centric[found.model_centric["metric"].isin(["p_clip", "p_baseline"])]
    if part.empty:
        return pd.DataFrame(columns=["fold", "scene", "clip_id", "p_clip", "p_baseline", "gap"])
    # Every row of a clip has the same two numbers.
    wide = part.drop_duplicates(["clip_id", "metric"])
    wide = wide.pivot(index="clip_id", columns="metric", values="value").reset_index()
    wide = found.clips[["fold", "scene", "clip_id"]].merge(wide, on="clip_id")
    return wide.assign(gap=wide["p_clip"] - wide["p_baseline"])


def beyond_gap(found: Published) -> pd.DataFrame:
    """Where do the voxels that a map chooses lower p by more than the whole baseline does?

    Deletion at equal area removes a fifth of the clip at most. Where it exceeds the gap
    p(x) - p(x_b), what is left of the clip is an input unlike any that the network was trained on,
    and the score tells how well a map finds voxels that upset it. Clips whose gap is not above
    zero are left out: nearly every map exceeds that.

    Returns
    -------
    DataFrame
        Of the main rows: method, label, n_clips (with a gap above zero), n_beyond (of them: with
        an area_matched_deletion above their gap), deletion and gap (means over these clips).
    """
    needed, found = ["area_matched_deletion", "p_clip", "p_baseline"], evened(found)
    part = found.model_centric[found.model_centric["metric"].isin(needed)]
    columns = ["method", "label", "n_clips", "n_beyond", "deletion", "gap"]
    wide = part.pivot(index=["method", "clip_id"], columns="metric", values="value")
    if not set(needed) <= set(wide.columns):
        return pd.DataFrame(columns=columns)
    wide = wide[needed].dropna()
    wide["gap"] = wide["p_clip"] - wide["p_baseline"]
    wide = wide[wide["gap"] > 0]
    wide["beyond"] = wide["area_matched_deletion"] > wide["gap"]
    per_row = wide.groupby(level="method")
    table = pd.DataFrame({
        "n_clips": per_row.size(),
        "n_beyond": per_row["beyond"].sum(),
        "deletion": per_row["area_matched_deletion"].mean(),
        "gap": per_row["gap"].mean(),
    })  # fmt: skip
    table = table.loc[[row for row in main_rows(found) if row in table.index]].reset_index()
    table.insert(1, "label", table["method"].map(labels(found)))
    return table[columns]


def faithfulness_by_gap(found: Published) -> pd.DataFrame:
    """Deletion and insertion over clips whose baseline moves the network enough; see `by_gap`."""
    needed, found = ["deletion", "insertion", *EQUAL_AREA, "p_clip", "p_baseline"], evened(found)
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
def other_baseline(found: Published, name: str) -> pd.DataFrame:
    """Faithfulness where maps and scores fill with another baseline, beside the study's own.

    Parameters
    ----------
    found : Published
    name : str
        Of the alternative: "strong_blur" or "spacetime_blur".

    Returns
    -------
    DataFrame
        A line for every method and reference row: label, n_clips, n_groups (sequences), and of gap
        (p(x) - p(x_b)), deletion, insertion and area_matched_deletion: the study's mean on these
        clips, "_other" under the other baseline, "_change" (other - study, clip by clip) with
        "_low" and "_high", its 95 % interval by sequences. Empty where it was not measured.
    """
    ends = ("", "_other", "_change", "_low", "_high")
    columns = ["label", "n_clips", "n_groups", *(f"{m}{end}" for m in FAITHFUL for end in ends)]
    table = found.extras.get("alternatives")
    if table is None:
        return pd.DataFrame(columns=columns)
    part = table[(table["alternative"] == name) & (table["table"] == "model_centric")]
    own, other = _faithfulness(found.model_centric), _faithfulness(part)
    shared = own.index.intersection(other.index)
    rows = [m for m in main_rows(found) if m in shared.get_level_values("method")]
    lines = {m: _changes(own, other, shared[shared.get_level_values("method") == m],
                         options(found)) for m in rows}  # fmt: skip
    joined = pd.DataFrame.from_dict(lines, orient="index")
    joined.insert(0, "label", joined.index.map(labels(found)))
    return joined.reindex(columns=columns)


def _faithfulness(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores of `FAITHFUL`, a line a method and clip."""
    scored = scored[scored["level"] == "clip"]
    wide = scored.pivot(index=["method", "clip_id", "sequence"], columns="metric", values="value")
    wide = wide.assign(gap=wide.get("p_clip") - wide.get("p_baseline")) if len(wide) else wide
    return wide.reindex(columns=list(FAITHFUL))


def _changes(
    own: pd.DataFrame, other: pd.DataFrame, clips: pd.MultiIndex, drawn: dict[str, int]
) -> dict[str, float]:
    """Means of one method on the clips that both have, and how they change."""
    groups = clips.get_level_values("sequence")
    line: dict[str, float] = {"n_clips": len(clips), "n_groups": groups.nunique()}
    for metric in FAITHFUL:
        before, after = own.loc[clips, metric], other.loc[clips, metric]
        change = paired_difference(after.to_numpy(), before.to_numpy(), groups, **drawn)
        line |= {metric: before.mean(), f"{metric}_other": after.mean()}
        line |= {f"{metric}_change": change["difference"]}
        line |= {f"{metric}_{end}": change[end] for end in ("low", "high")}
    return line
