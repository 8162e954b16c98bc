"""What a published study says: its tables, its headline comparisons, and how firm they are.

Everything is computed from `published.Published`: no videos, no network. Intervals resample
sequences over all folds together, given the trained networks, one a fold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from vad_helpers.metrics import statistics
from vad_helpers.metrics.catalog import direction
from vad_helpers.metrics.gaps import by_gap
from vad_helpers.store import contrasts, sensitivity, tables, verdicts
from vad_helpers.store.published import Published, read_curve
from vad_helpers.store.row import TIME_AVERAGE

PAPER_PERFORMANCE = {"accuracy": 0.8886, "auc": 0.9331}
"""The paper's detector, on a split that it does not state."""
CONVERGED = "_converged"
MEASURED = ("human_centric", "model_centric", "robustness")
POOLED = "all folds"
SHARED = 0.9
"""A method with fewer than this share of the clips is not ranked: the others keep their clips."""
CALLED, MISSED = "called anomalous", "missed"
LEVELS = ("clip", "frame")
PERFORMANCE = ("part", "scene", "n_clips", "n_sequences", "n_anomalous", "accuracy",
               "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high")  # fmt: skip
FLATNESS = ("deletion", "insertion", "mean_area", "area_matched_deletion",
            "area_matched_insertion", "area_deletion", "area_insertion")  # fmt: skip
SAME_TEST = ("all_masks", "strong_blur")
FAITHFUL = ("gap", "deletion", "insertion", "area_matched_deletion")
VARIANT_METRICS = (
    ("human_centric", "auc"),
    ("model_centric", "deletion"),
    ("model_centric", "area_matched_deletion"),
)
CONVERGENCE = (
    ("human_centric", "clip", "auc"),
    ("human_centric", "clip", "iou"),
    ("model_centric", "clip", "deletion"),
    ("robustness", "clip", "cv"),
)


def options(found: Published) -> dict[str, int]:
    """Resamples and seed that the study was made with, for its intervals."""
    return {name: int(found.settings[name]) for name in ("n_resamples", "seed")}


def scores(found: Published) -> dict[str, pd.DataFrame]:
    """Tidy scores by table, with that of the costs."""
    scored = {name: getattr(found, name) for name in MEASURED}
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
    finished = set(found.clips["clip_id"])
    for name in MEASURED:
        wanted = expected - ({TIME_AVERAGE} if name != "robustness" else set())
        part = getattr(found, name)
        part = part[part["method"].isin(wanted)]
        counts = part.groupby("clip_id")["method"].nunique()
        finished &= set(counts.index[counts == len(wanted)])
    return [clip_id for clip_id in found.clips["clip_id"] if clip_id in finished]


def methods(found: Published) -> list[str]:
    """Keys of the methods."""
    return found.rows.loc[found.rows["kind"] == "method", "method"].tolist()


def labels(found: Published) -> dict[str, str]:
    """Names of the rows, by key."""
    return tables.labels_of(found.rows)


Make = Callable[..., pd.DataFrame]


def _once(make: Make) -> Make:
    """Evaluate a function of a study once for it: page, charts and lessons ask for the same."""

    @functools.wraps(make)
    def look_up(found: Published, *given: str) -> pd.DataFrame:
        key = (make.__name__, *given)
        if key not in found.memo:
            found.memo[key] = make(found, *given)
        return found.memo[key].copy()

    return look_up


@_once
def summary(found: Published, table: str) -> pd.DataFrame:
    """Summarise one table of scores, of `main_rows`; see `tables.summary`."""
    scored = getattr(found, table)
    # Other levels are alternatives, for `sensitivities`.
    kept = scored["method"].isin(main_rows(found))
    scored = scored[kept & scored["level"].isin(LEVELS)]
    if scored.empty:
        columns = ("method", "label", "family", "kind", "level", "metric", "mean", "low", "high",
                   "n", "n_groups", "n_undefined", "n_all_zero")  # fmt: skip
        return pd.DataFrame(columns=list(columns))
    return tables.summarise(scored, found.rows, **options(found))


def judged(found: Published) -> list[verdicts.Judged]:
    """Judge the paper's claims on this study."""
    return verdicts.judge(scores(found), found.rows, **options(found))


def sensitivities(found: Published) -> pd.DataFrame:
    """Compare rankings under every open choice; see `sensitivity.sensitivity`."""
    elsewhere = found.extras.get("alternatives")
    return sensitivity.sensitivity(scores(found), found.rows, elsewhere=elsewhere, **options(found))


@_once
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


@_once
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
    wide = all_zero_maps(found).unstack("method")
    if not set(rows) <= set(wide.columns):
        return 0
    return int(wide[list(rows)].dropna().astype(bool).any(axis=1).sum())


def _variant(method: str, suffix: str) -> str:
    return "random_weights" if (method, suffix) == ("ig", "random") else f"{method}_{suffix}"


def flatness(found: Published) -> pd.DataFrame:
    """Faithfulness on the threshold axis beside what controls it, of the main rows.

    Returns
    -------
    DataFrame
        As `summary`, with the metrics of `FLATNESS` in that order.
    """
    part = summary(found, "model_centric")
    return pd.concat([part[part["metric"] == metric] for metric in FLATNESS], ignore_index=True)


@_once
def convergence(found: Published) -> pd.DataFrame:
    """Does the place of LIME and KernelSHAP change when their samples are enough?

    Returns
    -------
    DataFrame
        method, label, level, metric, mean and rank at the paper's number of samples, mean_after
        and rank_after with many more (rank among the methods over the clips that all have, the
        other converged variants in their methods' places too),
        difference (after - before), low, high, n, n_groups. Empty where no row is converged.
    """
    keys = [m for m in methods(found) if f"{m}{CONVERGED}" in set(found.rows["method"])]
    lines = [
        line
        for method in keys
        for key in CONVERGENCE
        if (line := _convergence(found, method, *key)) is not None
    ]
    columns = ["method", "label", "level", "metric", "mean", "rank", "mean_after", "rank_after",
               "difference", "low", "high", "n", "n_groups"]  # fmt: skip
    return pd.DataFrame(lines, columns=columns)


def _convergence(found: Published, method: str, table: str, level: str, metric: str):
    scored = getattr(found, table)
    part = scored[(scored["level"] == level) & (scored["metric"] == metric)]
    rivals, variant = methods(found), f"{method}{CONVERGED}"
    swaps = {f"{m}{CONVERGED}": m for m in rivals}
    part = part[part["method"].isin([*rivals, *swaps])]
    if not {method, variant} <= set(part["method"]):
        return None
    wide = part.pivot(index=["clip_id", "sequence"], columns="method", values="value")
    wide = wide.reindex(columns=[*rivals, *swaps]).dropna(axis=1, how="all").dropna()
    if wide.empty:
        return None
    means = wide[[m for m in rivals if m in wide]].mean()
    after = means.copy()
    for converged, plain in swaps.items():
        if converged in wide:
            after[plain] = wide[converged].mean()
    ascending = direction(metric) == "lower"
    groups = wide.index.get_level_values("sequence")
    paired = statistics.paired_difference(wide[variant], wide[method], groups, **options(found))
    paired.pop("n_undefined")
    return {
        **{"method": method, "label": labels(found)[method], "level": level, "metric": metric},
        "mean": means[method],
        "rank": means.rank(ascending=ascending, method="min")[method],
        "mean_after": after[method],
        "rank_after": after.rank(ascending=ascending, method="min")[method],
        **paired,
    }


def sampled_maps(found: Published) -> pd.DataFrame:
    """What LIME's and KernelSHAP's maps are made of.

    Returns
    -------
    DataFrame
        label, n (maps), model_calls, n_segments and n_nonzero (medians), n_all_zero. All other
        rows with an all-zero map are there too.
    """
    known = found.explanations.groupby("method", sort=False)
    all_zero = all_zero_maps(found).groupby(level="method").sum()
    table = pd.DataFrame({
        "n": known.size(),
        "model_calls": known["model_calls"].median(),
        "n_segments": known["n_segments"].median(),
        "n_nonzero": known["n_nonzero"].median(),
    })  # fmt: skip
    table["n_all_zero"] = all_zero.reindex(table.index).fillna(0).astype(int)
    table = table[table["n_nonzero"].notna() | (table["n_all_zero"] > 0)]
    table.insert(0, "label", table.index.map(labels(found)))
    return table


def all_zero_maps(found: Published) -> pd.Series:
    """Which maps have no positive voxel, and scores by convention: bool by (method, clip)."""
    part = found.human_centric
    part = part[(part["level"] == "clip") & (part["metric"] == "all_zero")]
    return part.set_index(["method", "clip_id"])["value"] > 0


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


@_once
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


def localised(found: Published) -> pd.DataFrame:
    """How well the methods localise each clip that all of them have explained.

    Returns
    -------
    DataFrame
        By clip_id: auc, the mean clip AUC of the methods, and place (1 is localised best).
    """
    part = found.human_centric
    part = part[(part["level"] == "clip") & (part["metric"] == "auc")]
    wide = part.pivot(index="clip_id", columns="method", values="value")
    auc = wide.reindex(columns=methods(found)).dropna().mean(axis=1)
    return pd.DataFrame({"auc": auc, "place": auc.rank(ascending=False, method="min")})


def breakdown(found: Published, by: str, *, metric: str = "auc") -> pd.DataFrame:
    """Mean clip-level localisation of the main rows in every part of the clips.

    Parameters
    ----------
    found : Published
    by : {"scene", "sequence", "call"}
        "call": what the network says of the clip, at p >= .5: `CALLED` or `MISSED`.
    metric : str

    Returns
    -------
    DataFrame
        Index the parts, with a column "clips" and one a row, by label. Only clips that all of
        these rows have.
    """
    part = found.human_centric
    part = part[(part["level"] == "clip") & (part["metric"] == metric)]
    part = part[part["method"].isin(main_rows(found))]
    wide = part.pivot(index="clip_id", columns="method", values="value").dropna()
    wide = wide[[m for m in main_rows(found) if m in wide.columns]].rename(columns=labels(found))
    group = wide.index.map(_parts_of_clips(found).set_index("clip_id")[by])
    means = wide.groupby(group).mean().rename_axis(by)
    means.insert(0, "clips", wide.groupby(group).size())
    return means


def _parts_of_clips(found: Published) -> pd.DataFrame:
    test = found.predictions[found.predictions["split"] == "test"]
    called = dict(zip(test["clip_id"], np.where(test["p"] >= 0.5, CALLED, MISSED), strict=True))
    clips = found.clips[["clip_id", "scene", "sequence"]]
    return clips.assign(call=clips["clip_id"].map(called))


def firm_ranks(found: Published, table: str, level: str, metric: str) -> pd.DataFrame:
    """How firm the methods' ranks are when sequences are drawn anew; references stay out.

    Returns
    -------
    DataFrame
        As `contrasts.firm_ranks`, and n: the clips on which all methods in it are defined, which
        alone count. Methods with too few clips (see `SHARED`) are left out; see `unranked`.
    """
    wide = _ranked_scores(found, table, level, metric)
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
    there = _ranked_scores(found, table, level, metric).columns
    return [labels(found)[m] for m in methods(found) if m not in there]


def _ranked_scores(found: Published, table: str, level: str, metric: str) -> pd.DataFrame:
    """Scores (clip, sequence) x method of the methods with enough clips, on those they share."""
    part = getattr(found, table)
    part = part[(part["level"] == level) & (part["metric"] == metric)]
    part = part[part["method"].isin(methods(found))]
    wide = part.pivot(index=["clip_id", "sequence"], columns="method", values="value")
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
    """AUC of every frame, averaged over clips: key -> (T,), NaN where no clip has one."""
    part = found.frame_auc[found.frame_auc["method"].isin(main_rows(found))]
    wide = part.pivot_table(index="method", columns="frame", values="auc", aggfunc="mean")
    wide = wide.reindex(columns=range(int(found.settings["n_frames"])))
    return {key: line.to_numpy() for key, line in wide.iterrows()}
