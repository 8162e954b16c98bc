"""What a published study says: its tables, its headline comparisons, and how firm they are.

Everything is computed from `published.Published`: no videos, no network. Intervals resample
sequences over all folds together, given the trained networks, one a fold.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pandas as pd

from vad_helpers.metrics import statistics
from vad_helpers.metrics.catalog import direction
from vad_helpers.metrics.gaps import by_gap
from vad_helpers.store import contrasts, sensitivity, tables, verdicts
from vad_helpers.store.published import Published, read_curve

PAPER_PERFORMANCE = {"accuracy": 0.8886, "auc": 0.9331}
"""The paper's detector, on a split that it does not state."""
CONVERGED = "_converged"
CALLED, MISSED = "called anomalous", "missed"
LEVELS = ("clip", "frame")
PERFORMANCE = ("part", "scene", "n_clips", "n_sequences", "n_anomalous", "accuracy",
               "accuracy_low", "accuracy_high", "auc", "auc_low", "auc_high")  # fmt: skip
FLATNESS = ("deletion", "insertion", "mean_area", "area_matched_deletion",
            "area_matched_insertion", "area_deletion", "area_insertion")  # fmt: skip
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
    scored = {name: getattr(found, name) for name in ("human_centric", "model_centric",
                                                      "robustness")}  # fmt: skip
    return scored | {"cost": verdicts.cost_scores(found.explanations, found.human_centric)}


def main_rows(found: Published) -> list[str]:
    """Rows of the two tables: methods, converged variants, references; no other variants."""
    rows = found.rows
    kept = (rows["kind"] != "variant") | rows["method"].str.endswith(CONVERGED)
    return rows.loc[kept, "method"].tolist()


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
        part ("fold 0", "mean over folds", "all folds", ...), scene, n_clips, n_sequences,
        n_anomalous; accuracy (at p >= .5) and auc, each with _low and _high. The mean over folds
        has no interval. The fold on whose sequences the recipe was tuned is left out of the last.
    """
    test = found.predictions[found.predictions["split"] == "test"]
    folds = list(test.groupby("fold"))
    parts = [(f"fold {k}", part) for k, part in folds]
    lines = [_performance(name, "both", part, found) for name, part in parts]
    lines += [
        _performance(name, scene, part[part["scene"] == scene], found)
        for name, whole in (*parts, ("all folds", test))
        for part, scene in ((whole, scene) for scene in sorted(whole["scene"].unique()))
    ]
    if lines:
        mean = pd.DataFrame(lines[: len(folds)])[["accuracy", "auc"]].mean()
        lines.append({"part": "mean over folds", "scene": "both", **mean})
        lines.append(_performance("all folds", "both", test, found))
    tuned = tuned_fold(found)
    if tuned in dict(folds) and len(folds) > 1:
        rest = test[test["fold"] != tuned]
        lines.append(_performance(f"all folds but {tuned}", "both", rest, found))
    return pd.DataFrame(lines, columns=list(PERFORMANCE))


@_once
def alternative_performance(found: Published) -> pd.DataFrame:
    """Networks tested on other clips, or after another split; see `alternatives`.

    Returns
    -------
    DataFrame
        As `performance`, with a column alternative; each beside the study's line of the same folds
        (alternative ""). Empty where none was measured. Added masks change no test clip.
    """
    columns = ["alternative", *PERFORMANCE]
    table = found.extras.get("alternative_predictions")
    if table is None:
        return pd.DataFrame(columns=columns)
    test = found.predictions[found.predictions["split"] == "test"]
    lines = []
    for name, part in table[table["alternative"] != "all_masks"].groupby("alternative", sort=False):
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
    found: Published, row: str, table: str, metrics: tuple[str, ...], *, level: str = "clip"
) -> pd.DataFrame:
    """Compare one row with every method, paired by clip.

    Returns
    -------
    DataFrame
        method, label, metric, difference (row - method), low, high, n, n_groups, p, p_holm (over
        all lines), verdict ("higher", "lower", "undecided"), better ("a": the row).
    """
    scored = getattr(found, table)
    scored = scored[(scored["level"] == level) & scored["metric"].isin(metrics)]
    there = set(scored["method"])
    rivals = [m for m in methods(found) if m in there]
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
        variant), low, high, n, n_groups, p, p_holm (over the lines of a metric), verdict, better.
        Methods without the variant are left out.
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
    return joined


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
        and rank_after with enough (rank among the methods, over the clips that both have),
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
    part = part[part["method"].isin([*rivals, variant])]
    if not {method, variant} <= set(part["method"]):
        return None
    wide = part.pivot(index=["clip_id", "sequence"], columns="method", values="value")
    wide = wide.reindex(columns=[*rivals, variant]).dropna(axis=1, how="all").dropna()
    if wide.empty:
        return None
    means = wide.drop(columns=variant).mean()
    after = means.mask(means.index == method, wide[variant].mean())
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
    table = pd.DataFrame({
        "n": known.size(),
        "model_calls": known["model_calls"].median(),
        "n_segments": known["n_segments"].median(),
        "n_nonzero": known["n_nonzero"].median(),
        "n_all_zero": known["all_zero"].sum().astype(int),
    })  # fmt: skip
    table = table[table["n_nonzero"].notna() | (table["n_all_zero"] > 0)]
    table.insert(0, "label", table.index.map(labels(found)))
    return table


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
        Index the parts, with a column "clips" and one a row, by label.
    """
    part = found.human_centric
    part = part[(part["level"] == "clip") & (part["metric"] == metric)]
    part = part.merge(_parts_of_clips(found), on="clip_id")
    wide = part.pivot_table(index=by, columns="method", values="value", aggfunc="mean")
    wide = wide[[m for m in main_rows(found) if m in wide.columns]].rename(columns=labels(found))
    wide.insert(0, "clips", part.groupby(by)["clip_id"].nunique())
    return wide


def _parts_of_clips(found: Published) -> pd.DataFrame:
    test = found.predictions[found.predictions["split"] == "test"]
    called = dict(zip(test["clip_id"], np.where(test["p"] >= 0.5, CALLED, MISSED), strict=True))
    clips = found.clips[["clip_id", "scene"]]
    return clips.assign(call=clips["clip_id"].map(called))


def firm_ranks(found: Published, table: str, level: str, metric: str) -> pd.DataFrame:
    """How firm the methods' ranks are when sequences are drawn anew; references stay out."""
    scored = getattr(found, table)
    scored = scored[scored["method"].isin(methods(found))]
    part = scored[(scored["level"] == level) & (scored["metric"] == metric)]
    if part["value"].notna().sum() == 0:
        return pd.DataFrame(columns=["label", "rank", "rank_median", "rank_low", "rank_high",
                                     "p_best"])  # fmt: skip
    about = tables.summarise(part, found.rows, **options(found))
    return contrasts.firm_ranks(part, about, level=level, metric=metric, **options(found))


def mean_curves(found: Published, curve: str) -> dict[str, np.ndarray]:
    """Give one curve of the main rows, averaged over all clips: key -> (n_steps,)."""
    part = found.curves[found.curves["curve"] == curve]
    part = part[part["method"].isin(main_rows(found))]
    return {
        key: np.mean([read_curve(text) for text in lines], axis=0)
        for key, lines in part.groupby("method")["values"]
    }


def frame_means(found: Published) -> dict[str, np.ndarray]:
    """AUC of every frame, averaged over clips: key -> (T,), NaN where no clip has one."""
    part = found.frame_auc[found.frame_auc["method"].isin(main_rows(found))]
    wide = part.pivot_table(index="method", columns="frame", values="auc", aggfunc="mean")
    wide = wide.reindex(columns=range(int(found.settings["n_frames"])))
    return {key: line.to_numpy() for key, line in wide.iterrows()}
