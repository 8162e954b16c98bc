"""What controls a study's tables: motion, flat maps, samples, weights, baselines, gaps."""

from __future__ import annotations

import json

import pandas as pd

from vad_helpers import viz
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.metrics.gaps import EQUAL_AREA, SCORES
from vad_helpers.pages import provenance, spending
from vad_helpers.pages.spelling import NOTHING, folded, judged_difference, with_interval
from vad_helpers.store import contrasts, faithfulness, rejudged, signs, study, tables
from vad_helpers.store.published import Published
from vad_helpers.tables.resampling import FEWEST_GROUPS
from vad_helpers.viz import charts

VARIED = {
    "random": "minus random weights",
    "black": "minus black baseline",
    "strong_blur": "minus stronger blur",
}
"""Suffix of rows of variants -> heading of the differences from them."""
MOVING = {"human_centric": ("auc", "motion_auc"), "controls": ("mover_auc",)}
SHARES = {"human_centric": ("share_in_mask", "leak"), "controls": ("mover_leak",)}
SMALLEST_DIVISOR = 0.05
"""Gap from which on scores divided by it are shown."""
OTHER_BASELINES = {
    "strong_blur": "a stronger blur",
    "spacetime_blur": "a blur over time too",
}


def motion(found: Published) -> str:
    """Frame difference against every method: over all voxels, and among what moves."""
    # Scores among movers stand beside the others where intervals can be given.
    asked = {name: metrics for name, metrics in MOVING.items()
             if name != "controls" or study.controlled(found)}  # fmt: skip
    against = [study.against_row(found, "motion", *key) for key in asked.items()]
    if against[0].empty:
        return NOTHING
    levels = [study.summary(found, table) for table in asked]
    levels = [part[(part["level"] == "clip") & part["metric"].isin(metrics)]
              for part, metrics in zip(levels, asked.values(), strict=True)]  # fmt: skip
    shown = pd.concat([part for part in levels if len(part)])
    compared = pd.concat([part for part in against if len(part)])
    return (
        viz.table_html(means(tables.ranked(shown)))
        + f"\n{_what_moves(found)}\n\nFrame difference minus each method:\n\n"
        + _against(compared)
        + _where_it_lies(found)
        + charts.figure(found, "motion")
    )


def _where_it_lies(found: Published) -> str:
    """How much of each map lies in the mask, and how much on what else moves."""
    parts = [study.summary(found, name) for name in SHARES]
    parts = [part[part["metric"].isin(metrics)] for part, metrics in
             zip(parts, SHARES.values(), strict=True)]  # fmt: skip
    shown = pd.concat([part for part in parts if len(part)] or parts)
    if shown.empty:
        return ""
    return folded("Where maps lie: in the mask, on what else moves",
                  viz.table_html(means(tables.ranked(shown))))  # fmt: skip


def _what_moves(found: Published) -> str:
    """Say how many voxels count as moving, by the protocol's rule and above one grey step."""
    shares = study.moving_shares(found)
    if shares["moving"].isna().all():
        return ""
    by_rule = f"By the protocol's rule {shares['moving'].mean():.0%} of a clip's voxels move"
    known = shares.dropna(subset="movers")
    if known.empty:
        return f"{by_rule}. How many do by more than rounding hides is not measured yet."
    return (
        f"{by_rule}. In {known['stricter'].sum()} of {len(known)} clips its deviation is below one "
        "grey step, so that the least change counts, that of compression too. Movers are the "
        f"voxels above three grey steps there: {known['movers'].mean():.0%} of a clip's."
        + _among_movers(found, len(known))
    )


def _among_movers(found: Published, of: int) -> str:
    """Say on how many clips maps are located among movers, where those are not all."""
    n = len(study.controlled_clips(found))
    if not study.controlled(found):
        return " AUC among movers is not measured on enough clips."
    return "" if n == of else (
        f" AUC among movers is measured on {n} of {of} clips; differences are over the clips that "
        "both sides have."
    )  # fmt: skip


def means(table: pd.DataFrame) -> pd.DataFrame:
    """Spell a summary: a line a row, a column a metric, without the paper's values."""
    return tables.wide(table.assign(paper=float("nan"))).xs("this run", axis=1, level=1)


def _against(table: pd.DataFrame) -> str:
    """Differences of one row from every method, a column a metric."""
    cells = table.assign(cell=[judged_difference(line) for _, line in table.iterrows()])
    order = cells["label"].drop_duplicates()
    wide = cells.pivot(index="label", columns="metric", values="cell").loc[order]
    wide = wide[list(table["metric"].unique())].rename(columns=lambda m: METRICS[m].name)
    return viz.table_html(wide) + f"\n{contrasts.floor_note(table)}\n"


def flatness(found: Published) -> str:
    """Faithfulness on the threshold axis beside its controls, and the constant map against all."""
    if found.model_centric.empty:
        return NOTHING
    table = means(faithfulness.flatness(found))
    beyond = faithfulness.beyond_gap(found).set_index("label")
    table["clips beyond the gap"] = (
        beyond["n_beyond"].astype(str) + " of " + beyond["n_clips"].astype(str)
    )
    text = viz.table_html(table.fillna("–"))
    metrics = ("deletion", "insertion", "area_matched_deletion", "area_matched_insertion")
    against = study.against_row(found, "constant", "model_centric", metrics)
    if len(against):
        text += "\nConstant map minus each method:\n\n" + _against(against)
    return text + charts.figure(found, "flatness")


def absolute(found: Published) -> str:
    """Localisation by E+ and by |E|."""
    table = signs.absolute(found)
    if table.empty:
        return NOTHING
    cells = [
        f"{line['mean']:.3f} → {line['mean_after']:.3f}, {viz.spell_difference(line)}"
        for _, line in table.iterrows()
    ]
    headings = [f"{METRICS[m].name}, {level}" for m, level in
                zip(table["metric"], table["level"], strict=True)]  # fmt: skip
    wide = table.assign(cell=cells, heading=headings).pivot(
        index="label", columns="heading", values="cell"
    )
    wide = wide.loc[table["label"].drop_duplicates(), list(dict.fromkeys(headings))].fillna("–")
    return viz.table_html(wide)


def converged(found: Published) -> str:
    """LIME and KernelSHAP at the paper's number of samples, and with enough."""
    table = rejudged.convergence(found)
    if table.empty:
        return NOTHING
    shown = pd.DataFrame({
        "method": table["label"],
        "metric": [f"{METRICS[m].name}, {level}" for m, level in
                   zip(table["metric"], table["level"], strict=True)],
        "at the paper's samples (rank)": [f"{v:.3f} ({r:.0f})" for v, r in
                                          table[["mean", "rank"]].to_numpy()],
        "at many more (rank)": [f"{v:.3f} ({r:.0f})" for v, r in
                             table[["mean_after", "rank_after"]].to_numpy()],
        "difference": [viz.spell_difference(line) for _, line in table.iterrows()],
        "clips": table["n"],
    })  # fmt: skip
    return viz.table_html(shown, index=False)


def agreement(found: Published) -> str:
    """Say what the rows of many more samples draw, and whether that is known to be enough."""
    rows = found.rows[found.rows["method"].str.endswith(study.CONVERGED)]
    settings = rows["settings"].map(json.loads)
    drawn = [
        label
        if str(given.get("n_samples", "")) in label
        else f"{label} ({given['n_samples']} samples)"
        for label, given in zip(rows["label"], settings, strict=True)
    ]
    if not drawn:
        return ""
    return f"Rows that draw many more samples: {', '.join(drawn)}. {spending.enough(found)}\n"


def varied(found: Published) -> str:
    """Every method against itself: on a network that knows nothing, and with other baselines."""
    columns = {}
    for suffix, words in VARIED.items():
        table = study.against_variants(found, suffix)
        for metric, part in table.groupby("metric", sort=False):
            cells = [
                f"{viz.spell_difference(line)} {line['verdict']}, {line['n']:.0f} clips"
                + (f" ({line['n_all_zero']} all-zero)" if line["n_all_zero"] else "")
                for _, line in part.iterrows()
            ]
            columns[words, METRICS[metric].name] = pd.Series(cells, index=part["label"])
    if not columns:
        return NOTHING
    order = [study.labels(found)[m] for m in study.methods(found)]
    wide = pd.DataFrame(columns)
    return viz.table_html(wide.reindex([k for k in order if k in wide.index]).fillna("–"))


def by_gap(found: Published) -> str:
    """Deletion and insertion on the clips whose baseline moves the network enough."""
    table = faithfulness.faithfulness_by_gap(found)
    if table.empty:
        return NOTHING
    names = {bound: "all clips" if bound < 0 else f"gap > {bound:g}"
             for bound in table["min_gap"].unique()}  # fmt: skip
    # Rows on fewer clips have counts of their own: the largest are those of the study.
    counts = table.groupby("min_gap")["n_clips"].max()
    parts = []
    for metric in (f"{name}{of}" for of in ("", "_by_gap") for name in (*SCORES, *EQUAL_AREA)):
        if metric not in table:
            continue
        kept = table
        if metric.endswith("_by_gap"):
            # The mean of ratios to a gap near zero is that of the one clip with the smallest.
            kept = table[table["min_gap"] >= SMALLEST_DIVISOR]
        cells = kept.assign(cell=_spelled_means(kept, metric, kept["min_gap"].map(counts)))
        wide = cells.pivot(index="label", columns="min_gap", values="cell")
        wide = wide.loc[kept["label"].drop_duplicates()].dropna(axis=1, how="all")
        if wide.empty:
            continue
        wide.columns = [f"{names[b]} ({counts[b]} clips)" for b in wide.columns]
        wide = wide.fillna("–")
        base = METRICS[metric.removesuffix("_by_gap")]
        title = base.name + (" / gap" if metric.endswith("_by_gap") else "")
        shown = viz.table_html(wide)
        if metric.endswith("_by_gap"):
            parts.append(folded(f"{title} ({base.direction} is better)", shown))
        else:
            parts.append(f"**{title}** ({base.direction} is better)\n\n{shown}")
    return "\n".join(parts)


def other_baselines(found: Published) -> str:
    """Deletion and insertion where another blur fills removed pixels, in maps and scores."""
    parts = []
    for name, words in OTHER_BASELINES.items():
        table = faithfulness.other_baseline(found, name)
        if table.empty:
            parts.append(f"*Scores with {words} are not measured yet.*\n")
            continue
        sizes = table[["n_clips", "n_groups"]].to_numpy()
        shown = pd.DataFrame({"clips (sequences)": [f"{n:.0f} ({k:.0f})" for n, k in sizes]},
                             index=table.index)  # fmt: skip
        for metric in faithfulness.FAITHFUL:
            title = "p(x) − p(x_b)" if metric == "gap" else METRICS[metric].name
            shown[title] = _spelled_changes(table, metric)
        shown.index = table["label"]
        few = table["n_groups"].max() < FEWEST_GROUPS
        head = f"The study's blur → {words}{provenance.beside(found, name)}, and the change" + (
            f" (no interval: it takes {FEWEST_GROUPS} sequences)" if few else " with its interval"
        )
        parts.append(f"{head}:\n\n{viz.table_html(shown)}")
    return "\n".join(parts)


def _spelled_changes(table: pd.DataFrame, metric: str) -> list[str]:
    ends = [metric, *(f"{metric}_{end}" for end in ("other", "change", "low", "high")), "n_groups"]
    return [
        f"{own:.3f} → {other:.3f}, {change:+.3f}"
        + (f" [{low:+.3f}, {high:+.3f}]" if n >= FEWEST_GROUPS else "")
        for own, other, change, low, high, n in table[ends].to_numpy(float)
    ]


def _spelled_means(table: pd.DataFrame, name: str, most: pd.Series) -> list[str | None]:
    """Each mean with its interval, and its clips where they are fewer than most; None for NaN."""
    columns = [name, f"{name}_low", f"{name}_high", "n_clips"]
    return [
        None
        if pd.isna(mean)
        else with_interval(mean, low, high, digits=3) + (f" ({n:.0f} clips)" if n < full else "")
        for (mean, low, high, n), full in zip(table[columns].to_numpy(float), most, strict=True)
    ]


def probabilities(found: Published) -> str:
    """p(x) of every clip of the study, and p(x_b) of those that are measured."""
    measured = faithfulness.gaps(found)
    if measured.empty:
        return NOTHING
    ends = measured.set_index("clip_id")[["p_baseline", "gap"]]
    table = found.clips[["fold", "scene", "clip_id"]].join(ends, on="clip_id")
    table.insert(3, "p_clip", table["clip_id"].map(study.probabilities(found)))
    for name in ("p_clip", *ends):
        table[name] = table[name].map(lambda p: "–" if pd.isna(p) else f"{p:.3f}")
    names = {"p_clip": "p(x)", "p_baseline": "p(x_b)", "clip_id": "clip"}
    title = f"p(x) and p(x_b) of all {len(table)} clips"
    if len(measured) < len(table):
        title = f"p(x) of all {len(table)} clips, and p(x_b) of the {len(measured)} measured so far"
    shown = viz.table_html(table.rename(columns=names), index=False)
    return folded(title, f"{_asked_twice(found)}{shown}")


def _asked_twice(found: Published) -> str:
    """Say how far p(x) beside the scores is from that of the predictions, which rounding sets."""
    test = found.predictions[found.predictions["split"] == "test"].set_index("clip_id")["p"]
    both = pd.DataFrame({"asked": study.probabilities(found), "predicted": test}).dropna()
    apart = (both["asked"] - both["predicted"]).abs()
    if both.empty or not apart.max() > 0:
        return ""
    sides = both.ge(study.CALLED_FROM)
    crossed = list(sides.index[sides["asked"] != sides["predicted"]])
    words = f", and {', '.join(crossed)} is on the other side of one half there" if crossed else ""
    return (
        "These are of the clips as they were scored. Accuracy and AUC above are of predictions in "
        f"other batches and precision, which differ by {apart.max():.3f} at most{words}.\n\n"
    )
