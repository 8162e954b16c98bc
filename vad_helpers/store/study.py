"""What a published study says: its tables, its headline comparisons, and how firm they are.

Everything is computed from `published.Published`: no videos, no network. Intervals resample
sequences over all folds together, given the trained networks, one a fold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from vad_helpers.metrics.runtime import alike_timed
from vad_helpers.store import contrasts, sensitivity, tables, verdicts
from vad_helpers.store.published import Published, once, read_curve
from vad_helpers.store.row import TIME_AVERAGE
from vad_helpers.tables import statistics
from vad_helpers.tables.resampling import FEWEST_GROUPS

CONVERGED = "_converged"
MEASURED = ("human_centric", "model_centric", "robustness")
SHARED = 0.9
"""A method with fewer than this share of the clips is not ranked: the others keep their clips."""
CALLED, MISSED = "called anomalous", "missed"
CALLED_FROM = 0.5
"""Probability from which on a clip is called anomalous."""
LEVELS = ("clip", "frame")
VARIANT_METRICS = (
    ("human_centric", "auc"),
    ("model_centric", "deletion"),
    ("model_centric", "area_matched_deletion"),
)


def options(found: Published) -> dict[str, int]:
    """Resamples and seed that the study was made with, for its intervals."""
    return {name: int(found.settings[name]) for name in ("n_resamples", "seed")}


def scores(found: Published) -> dict[str, pd.DataFrame]:
    """Tidy scores by table, with that of the costs."""
    scored = {name: getattr(found, name) for name in (*MEASURED, "controls")}
    return scored | {"cost": verdicts.cost_scores(found.explanations, found.human_centric)}


def main_rows(found: Published) -> list[str]:
    """Rows of the two tables: methods, converged variants, references; no other variants."""
    rows = found.rows
    kept = (rows["kind"] != "variant") | rows["method"].str.endswith(CONVERGED)
    return rows.loc[kept, "method"].tolist()


def finished_clips(found: Published) -> list[str]:
    """Clips on which every main row is scored; rows limited to fewer clips do not count."""
    expected = set(main_rows(found))
    if found.settings.get("n_clips_slow") is not None:
        counts = found.explanations.groupby("method")["clip_id"].nunique()
        expected -= set(counts.index[counts < counts.max()])
    return clips_with(found, expected)["clip_id"].tolist()


def evened(found: Published) -> Published:
    """Leave out the scores of clips that are not measured in every row yet, if some are.

    So every mean of a row that all clips have is over the same clips.
    """
    done = finished_clips(found)
    if not done or set(found.human_centric["clip_id"]) <= set(done):
        return found
    names = (*MEASURED, "controls", "runtime", "explanations", "curves", "frame_auc")
    scored = {name: getattr(found, name) for name in names}
    kept = {name: table[table["clip_id"].isin(done)] for name, table in scored.items()}
    return dataclasses.replace(found, **kept)


def methods(found: Published) -> list[str]:
    """Keys of the methods."""
    return found.rows.loc[found.rows["kind"] == "method", "method"].tolist()


def many_samples(found: Published) -> list[str]:
    """Keys that rows of many more samples have, where there are such rows."""
    return [f"{method}{CONVERGED}" for method in methods(found)]


def at_samples(found: Published) -> str:
    """What to say of "the methods" where rows of many more samples stand beside; "" elsewhere."""
    beside = set(many_samples(found)) & set(main_rows(found))
    return " at the paper's samples" if beside else ""


def clip_auc(found: Published) -> pd.DataFrame:
    """Summary of the clip AUC, by key of the row."""
    means = summary(found, "human_centric")
    return means[(means["level"] == "clip") & (means["metric"] == "auc")].set_index("method")


def mean_seconds(found: Published) -> pd.Series:
    """Mean seconds of a clip by key of the row, of the maps whose timings compare."""
    timed = alike_timed(found.explanations)
    return timed.groupby("method")["seconds"].mean()


def labels(found: Published) -> dict[str, str]:
    """Names of the rows, by key."""
    return tables.labels_of(found.rows)


@once
def summary(found: Published, table: str) -> pd.DataFrame:
    """Summarise one table of scores, of `main_rows`; see `tables.summary`.

    Clips that lack a row are left out until it is in (`evened`): means of rows are set side by
    side. Comparisons are paired, and take all clips that both sides have.
    """
    found = evened(found)
    scored = timed_alike(found) if table == "runtime" else getattr(found, table)
    # Other levels are alternatives, for `sensitivities`.
    kept = scored["method"].isin(main_rows(found))
    scored = scored[kept & scored["level"].isin(LEVELS)]
    if scored.empty:
        columns = ("method", "label", "family", "kind", "level", "metric", "mean", "low", "high",
                   "n", "n_groups", "n_undefined", "n_all_zero")  # fmt: skip
        return pd.DataFrame(columns=list(columns))
    return tables.summarise(scored, found.rows, **options(found))


def timed_alike(found: Published) -> pd.DataFrame:
    """Timings that compare over all folds: those of maps that are `runtime.alike_timed`.

    A fold's own timings compare; another fold may have been computed elsewhere.
    """
    kept = alike_timed(found.explanations)[["clip_id", "method"]]
    return found.runtime.merge(kept, on=["clip_id", "method"])


def judged(found: Published) -> list[verdicts.Judged]:
    """Judge the paper's claims on this study."""
    return verdicts.judge(scores(found), found.rows, **options(found))


def clips_with(found: Published, rows: Iterable[str]) -> pd.DataFrame:
    """Clips on which all of these rows are scored, in every table."""
    clips = found.clips
    for name in MEASURED:
        wanted = set(rows) - ({TIME_AVERAGE} if name != "robustness" else set())
        part = getattr(found, name)
        counts = part[part["method"].isin(wanted)].groupby("clip_id")["method"].nunique()
        clips = clips[clips["clip_id"].isin(counts.index[counts == len(wanted)])]
    return clips


def sensitivities(found: Published) -> pd.DataFrame:
    """Compare rankings under every open choice; see `sensitivity.sensitivity`."""
    elsewhere = found.extras.get("alternatives")
    return sensitivity.sensitivity(scores(found), found.rows, elsewhere=elsewhere, **options(found))


def against_row(
    found: Published,
    row: str,
    table: str,
    metrics: tuple[str, ...],
    *,
    level: str = "clip",
    rivals: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Compare one row with every method, or with the rows named, paired by clip.

    Returns
    -------
    DataFrame
        method, label, metric, difference (row - method), low, high, n, n_groups, p, p_holm (over
        all lines), verdict ("higher", "lower", "undecided"), better ("a": the row).
    """
    scored = getattr(found, table)
    scored = scored[(scored["level"] == level) & scored["metric"].isin(metrics)]
    there = set(scored["method"])
    rivals = [m for m in (methods(found) if rivals is None else rivals) if m in there]
    if row not in there or not rivals:
        return pd.DataFrame(columns=["method", "label", "metric", "difference", "better"])
    pairs = {m: (row, m) for m in rivals}
    compared = statistics.compare(scored, pairs, **options(found))
    compared = compared.rename(columns={"contrast": "method"})
    compared.insert(1, "label", compared["method"].map(labels(found)))
    return compared


def moving_shares(found: Published) -> pd.DataFrame:
    """Say which share of a clip's voxels counts as moving, by either rule.

    Returns
    -------
    DataFrame
        Index clip_id; moving: by the rule of `motion_auc`; movers: by that of `mover_auc`, NaN
        where the controls are not measured; stricter: whether they are fewer.
    """
    size = found.settings["n_frames"] * np.prod(found.settings["frame_size"])
    shares = {}
    for name, table, metric in (
        ("moving", "human_centric", "n_moving"),
        ("movers", "controls", "n_movers"),
    ):
        part = getattr(found, table)
        part = part[(part["level"] == "clip") & (part["metric"] == metric)]
        # Every row of a clip has the same number.
        shares[name] = part.drop_duplicates("clip_id").set_index("clip_id")["value"] / size
    table = pd.DataFrame(shares)
    return table.assign(stricter=table["movers"] < table["moving"])


def controlled(found: Published) -> bool:
    """Whether every method has its AUC among movers on enough sequences for intervals."""
    return controlled_clips(found)["sequence"].nunique() >= FEWEST_GROUPS


def controlled_clips(found: Published) -> pd.DataFrame:
    """Clips on which every method has its AUC among movers: clip_id, sequence."""
    part = found.controls
    part = part[(part["metric"] == "mover_auc") & part["method"].isin(methods(found))]
    n_rows = part.dropna(subset="value").groupby(["clip_id", "sequence"])["method"].nunique()
    return n_rows.index[n_rows == len(methods(found))].to_frame(index=False)


def against_variants(found: Published, suffix: str) -> pd.DataFrame:
    """Compare every method with its variant `<method>_<suffix>`, on the clips that both have.

    For "random", IG is compared with the reference row of a network with random weights.

    Returns
    -------
    DataFrame
        method, label, metric (clip AUC, deletion, deletion at equal area), difference (method -
        variant), low, high, n, n_groups, p, p_holm (over the lines of a metric), verdict, better,
        n_all_zero (clips of the comparison on which either map has no positive voxel). Methods
        without the variant are left out.
    """
    parts = []
    for table, metric in VARIANT_METRICS:
        scored = getattr(found, table)
        scored = scored[(scored["level"] == "clip") & (scored["metric"] == metric)]
        there = set(scored["method"])
        pairs = {m: (m, _variant(m, suffix)) for m in methods(found)
                 if {m, _variant(m, suffix)} <= there}  # fmt: skip
        if pairs:
            parts.append(statistics.compare(scored, pairs, **options(found)))
    if not parts:
        return pd.DataFrame(columns=["method", "label", "metric", "difference", "verdict"])
    joined = pd.concat(parts, ignore_index=True).rename(columns={"contrast": "method"})
    joined.insert(1, "label", joined["method"].map(labels(found)))
    return joined.assign(
        n_all_zero=[n_all_zero(found, (m, _variant(m, suffix))) for m in joined["method"]]
    )


def n_all_zero(found: Published, rows: Sequence[str]) -> int:
    """Count the clips that all rows have and on which the map of any has no positive voxel."""
    zero = wide_scores(found, "human_centric", "clip", "all_zero", rows)
    return verdicts.n_all_zero(zero, zero.index, rows)


def _variant(method: str, suffix: str) -> str:
    return "random_weights" if (method, suffix) == ("ig", "random") else f"{method}_{suffix}"


def sampled_maps(found: Published) -> pd.DataFrame:
    """What LIME's and KernelSHAP's maps are made of.

    Returns
    -------
    DataFrame
        label, n (maps), model_calls, n_segments and n_nonzero (medians), n_all_zero. All other
        rows with an all-zero map are there too.
    """
    known = found.explanations.groupby("method", sort=False)
    zero = wide_scores(found, "human_centric", "clip", "all_zero", list(known.groups))
    table = pd.DataFrame({
        "n": known.size(),
        "model_calls": known["model_calls"].median(),
        "n_segments": known["n_segments"].median(),
        "n_nonzero": known["n_nonzero"].median(),
    })  # fmt: skip
    table["n_all_zero"] = (zero > 0).sum().reindex(table.index).fillna(0).astype(int)
    table = table[table["n_nonzero"].notna() | (table["n_all_zero"] > 0)]
    table.insert(0, "label", table.index.map(labels(found)))
    return table


def wide_scores(
    found: Published, table: str, level: str, metric: str, rows: Sequence[str]
) -> pd.DataFrame:
    """Scores of some rows, a column each in that order: index (clip_id, sequence), NaN for none."""
    part = getattr(found, table)
    part = part[(part["level"] == level) & (part["metric"] == metric) & part["method"].isin(rows)]
    wide = part.pivot(index=["clip_id", "sequence"], columns="method", values="value")
    return wide[[row for row in rows if row in wide.columns]]


def mean_auc(scored: pd.DataFrame, keys: Sequence[str]) -> pd.Series:
    """Clip AUC, averaged over methods, of every clip that all of them have: by clip_id."""
    part = scored[(scored["level"] == "clip") & (scored["metric"] == "auc")]
    wide = part.pivot(index="clip_id", columns="method", values="value").reindex(columns=[*keys])
    return wide.dropna().mean(axis=1).rename("auc")


def localised(found: Published) -> pd.DataFrame:
    """How well the methods localise each clip that all of them have explained.

    Returns
    -------
    DataFrame
        By clip_id: auc, the mean clip AUC of the methods, and place (1 is localised best).
    """
    auc = mean_auc(found.human_centric, methods(found))
    return pd.DataFrame({"auc": auc, "place": auc.rank(ascending=False, method="min")})


def breakdown(
    found: Published, by: str, *, table: str = "human_centric", metric: str = "auc"
) -> pd.DataFrame:
    """Mean clip-level score of the main rows in every part of the clips.

    Parameters
    ----------
    found : Published
    by : {"scene", "sequence", "call"}
        "call": what the network says of the clip, from `CALLED_FROM` on `CALLED`, else `MISSED`.
    table, metric : str
        Of the scores.

    Returns
    -------
    DataFrame
        part, clips, label, mean, low, high (a 95 % interval by sequences; NaN for one sequence),
        n_groups; the rows of a part in their order. Only clips that all of these rows have.
    """
    wide = wide_scores(found, table, "clip", metric, main_rows(found)).dropna()
    wide = wide.rename(columns=labels(found))
    clip_ids = wide.index.get_level_values("clip_id")
    group = clip_ids.map(_parts_of_clips(found).set_index("clip_id")[by])
    lines = [
        {"part": part, "clips": len(scored), "label": label, **_part_mean(column, found)}
        for part, scored in wide.groupby(group)
        for label, column in scored.items()
    ]
    columns = ["part", "clips", "label", "mean", "low", "high", "n_groups"]
    return pd.DataFrame(lines, columns=columns)


def _part_mean(column: pd.Series, found: Published) -> dict[str, float]:
    groups = column.index.get_level_values("sequence")
    drawn = statistics.bootstrap_mean(column, groups, **options(found))
    return {name: drawn[name] for name in ("mean", "low", "high", "n_groups")}


def _parts_of_clips(found: Published) -> pd.DataFrame:
    clips = found.clips[["clip_id", "scene", "sequence"]]
    p = clips["clip_id"].map(probabilities(found))
    called = pd.Series(np.where(p >= CALLED_FROM, CALLED, MISSED), index=clips.index)
    return clips.assign(call=called.where(p.notna()))


def probabilities(found: Published) -> pd.Series:
    """What the network says of each clip, p(x) in [0, 1] by clip_id.

    As it was asked beside the scores; where a clip has none, as it was predicted with all test
    clips, in batches and a precision of their own: the two differ by rounding.
    """
    test = found.predictions[found.predictions["split"] == "test"].set_index("clip_id")["p"]
    asked = found.model_centric[found.model_centric["metric"] == "p_clip"]
    asked = asked.drop_duplicates("clip_id").set_index("clip_id")["value"]
    predicted = test[test.index.isin(found.clips["clip_id"])]
    return asked.combine_first(predicted).rename("p")


def firm_ranks(found: Published, table: str, level: str, metric: str) -> pd.DataFrame:
    """How firm the methods' ranks are when sequences are drawn anew; references stay out.

    Returns
    -------
    DataFrame
        As `contrasts.firm_ranks`, and n: the clips on which all methods in it are defined, which
        alone count. Methods with too few clips (see `SHARED`) are left out; see `unranked`.
    """
    wide = ranked_scores(found, table, level, metric)
    if wide.empty:
        return pd.DataFrame(columns=["label", "rank", "rank_median", "rank_low", "rank_high",
                                     "p_best", "n"])  # fmt: skip
    part = wide.reset_index().melt(["clip_id", "sequence"], var_name="method")
    part = part.assign(level=level, metric=metric)
    about = tables.summarise(part, found.rows, **options(found))
    firm = contrasts.firm_ranks(part, about, level=level, metric=metric, **options(found))
    return firm.assign(n=len(wide))


def unranked(found: Published, table: str, level: str, metric: str) -> list[str]:
    """Labels of the methods that `firm_ranks` leaves out."""
    there = ranked_scores(found, table, level, metric).columns
    return [labels(found)[m] for m in methods(found) if m not in there]


def ranked_scores(found: Published, table: str, level: str, metric: str) -> pd.DataFrame:
    """Scores (clip, sequence) x method of the methods with enough clips, on those they share."""
    wide = wide_scores(found, table, level, metric, methods(found))
    counts = wide.notna().sum()
    return wide[counts.index[counts >= max(1, SHARED * counts.max())]].dropna()


def mean_curves(found: Published, curve: str) -> dict[str, np.ndarray]:
    """Average a curve of the main rows over the clips that all have: key -> (n_steps,)."""
    part = found.curves[found.curves["curve"] == curve]
    part = part[part["method"].isin(main_rows(found))]
    wide = part.pivot(index="clip_id", columns="method", values="values").dropna()
    return {key: np.mean([read_curve(text) for text in lines], axis=0)
            for key, lines in wide.items() if len(lines)}  # fmt: skip


def frame_means(found: Published) -> dict[str, np.ndarray]:
    """AUC of every frame, averaged over the clips that all main rows have.

    Returns
    -------
    dict
        Key -> (T,), NaN where no clip has one.
    """
    part = found.frame_auc[found.frame_auc["method"].isin(main_rows(found))]
    n_rows = part.groupby("clip_id")["method"].nunique()
    part = part[part["clip_id"].isin(n_rows.index[n_rows == part["method"].nunique()])]
    wide = part.pivot_table(index="method", columns="frame", values="auc", aggfunc="mean")
    wide = wide.reindex(columns=range(int(found.settings["n_frames"])))
    return {key: line.to_numpy() for key, line in wide.iterrows()}
