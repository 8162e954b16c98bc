"""Does a ranking depend on what the paper leaves open? One line a choice and alternative.

Every choice of the protocol that the paper does not settle is in `CHOICES`, with alternatives. An
alternative is in the data as rows that vary methods (`<method>_<suffix>`), as scores at another
level, or as another label; where it is in none of these ways it counts as not measured. Rankings
are those of the methods, before and after, by their means over the same clips.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from vad_helpers.metrics.catalog import direction
from vad_helpers.store import tables, verdicts
from vad_helpers.store.claims import CLAIMS
from vad_helpers.store.contrasts import BUT_LIME, GRADIENT, PERTURBATION
from vad_helpers.tables.resampling import resample

NOT_MEASURED = "not measured yet"
N_DRAWS = 500
LOWEST = 0.05
"""Quantile of the taus by chance: a lower one is called more than chance."""
SAMPLES, SEED = "Samples of LIME and KernelSHAP", "What sampling methods draw"

RANKINGS = (
    ("human_centric", "clip", "iou"),
    ("human_centric", "clip", "auc"),
    ("human_centric", "frame", "auc"),
    ("model_centric", "clip", "deletion"),
    ("model_centric", "clip", "insertion"),
    ("model_centric", "clip", "area_matched_deletion"),
    ("model_centric", "clip", "area_matched_insertion"),
    ("robustness", "clip", "cv"),
)
"""Rankings that rows of variants are looked at in."""

COLUMNS = (
    *("choice", "default", "alternative", "table", "level", "metric", "n", "n_groups"),
    *("tau", "tau_by_chance", "tau_low", "best", "best_after", "flips", "n_flips", "n_pairs"),
    "note",
)


@dataclasses.dataclass(frozen=True)
class Alternative:
    """Another way to settle a choice, and where it would be in the data.

    Attributes
    ----------
    name : str
        "{}" stands for what the pattern's star matched.
    suffix : str
        Pattern (with at most one star, at its end) of the suffix of rows `<method>_<suffix>`.
    levels : mapping of str to str
        Level of the tables -> level that the alternative's scores have.
    family : mapping of str to str
        Method -> family that it is filed under instead.
    run : str
        Name in `alternatives.ALTERNATIVES`, of runs of their own.
    joins : bool
        The clips of that run are added to the study's, instead of standing against them.
    own_clips : bool
        The levels differ in which clips have a score: each ranking is on its own.
    """

    name: str
    suffix: str = ""
    levels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    family: Mapping[str, str] = dataclasses.field(default_factory=dict)
    run: str = ""
    joins: bool = False
    own_clips: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
    """Something that the paper leaves open: what it is, what is done here, what else could be."""

    name: str
    default: str
    alternatives: tuple[Alternative, ...]


CHOICES: tuple[Choice, ...] = (
    Choice(
        "Which clips",
        "clips follow one another, the tail of a sequence is dropped",
        (Alternative("clips that overlap by half", run="half_overlap"),),
    ),
    Choice(
        "How to split",
        "by sequence, into folds stratified by scene",
        (Alternative("by clip, so that training has seen the sequence", run="split_by_clip"),),
    ),
    Choice(
        "Which clips are explained",
        "anomalous clips of the officially masked sequences, balanced by scene",
        (
            Alternative(
                "also the sequences whose masks were added later", run="added_masks", joins=True
            ),
        ),
    ),
    Choice(
        "SmoothGrad's noise",
        "the paper's sigma, independent in each channel, baseline without noise",
        (
            Alternative("sigma {}", suffix="sigma_*"),
            Alternative("noise on the baseline too", suffix="noisy_baseline"),
            Alternative("the same noise in all channels", suffix="grey_noise"),
        ),
    ),
    Choice(
        "Family of GradientSHAP",
        "a gradient method",
        (
            Alternative(
                "a perturbation method, as the paper lists it",
                family={"gradient_shap": "perturbation"},
            ),
        ),
    ),
    Choice(
        "LIME's penalty",
        "the profile's alpha",
        (Alternative("alpha {}", suffix="alpha_*"),),
    ),
    Choice(
        "What fills removed pixels",
        "each frame blurred",
        (
            Alternative("black, in explanations alone", suffix="black"),
            Alternative("a stronger blur, in explanations alone", suffix="strong_blur"),
            Alternative("a stronger blur, in scores too", run="strong_blur"),
            Alternative("blurred over time too, in scores too", run="spacetime_blur"),
        ),
    ),
    Choice(
        "Gradients of three channels",
        "summed with their signs",
        (Alternative("sum of absolute values", suffix="abs_channels"),),
    ),
    Choice(
        "Negative attributions",
        "count as zero in localisation",
        (
            Alternative(
                "absolute values count",
                levels={"clip": "clip_abs", "frame": "frame_abs"},
            ),
            Alternative(
                "keep their sign",
                levels={"clip": "clip_signed", "frame": "frame_signed"},
            ),
        ),
    ),
    Choice(
        "Which frame is scored",
        "the maximum among frames that show the anomaly whole; ties are averaged",
        (
            Alternative(
                "the maximum among all frames with a mask",
                levels={"frame": "frame_any"},
                own_clips=True,
            ),
            Alternative("the first of tied frames", levels={"frame": "frame_first"}),
        ),
    ),
    Choice(
        SAMPLES,
        "the paper's number",
        (Alternative("many more, in complementary pairs", suffix="converged"),),
    ),
    Choice(
        SEED,
        "the run's seed",
        (Alternative("seed {}", suffix="seed_*"),),
    ),
)
"""The choices marked open in the protocol, in its order, and at last the number of samples, which
the paper does not print, and the seed."""


def sensitivity(
    scored: Mapping[str, pd.DataFrame],
    about: pd.DataFrame,
    *,
    elsewhere: pd.DataFrame | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare rankings under every alternative that is in the data.

    Parameters
    ----------
    scored : mapping of str to DataFrame
        Tidy scores by name of the table.
    about : DataFrame
        What the rows are, as from `tables.describe`.
    elsewhere : DataFrame, optional
        Tidy scores of alternatives that are runs of their own, with columns alternative and
        table.
    n_resamples, seed : int
        Of the verdicts on claims, where methods are filed under other families.

    Returns
    -------
    DataFrame
        `COLUMNS`: n clips and n_groups sequences of the ranking under the alternative, the same as
        before except for runs on clips of their own (compared with the study's of the same
        sequences, whichever fold tested them: a split by clip tests some of every fold);
        tau, Kendall's, of the two rankings (1: the same); tau_by_chance, the mean tau of the
        ranking with itself when its sequences are drawn anew (twice, for a run of its own), and
        tau_low, which 19 of 20 draws reach; best and best_after (labels); flips ("A, B; ...": pairs
        whose order turns), their number and that of all pairs; note (`NOT_MEASURED`, what became of
        the claims, or "").
    """
    lines = [
        {"choice": choice.name, "default": choice.default, "note": "", **line}
        for choice in CHOICES
        for alternative in choice.alternatives
        for line in _lines(alternative, scored, about, elsewhere, n_resamples, seed)
        or [{"alternative": alternative.name.format("…"), "note": NOT_MEASURED}]
    ]
    return pd.DataFrame(lines, columns=list(COLUMNS))


def ranking_change(before: pd.DataFrame, after: pd.DataFrame, metric: str) -> dict[str, object]:
    """Compare two rankings of the same methods.

    Parameters
    ----------
    before, after : DataFrame
        Scores: index (clip_id, sequence), a column a method, no NaN. The clips may differ.
    metric : str
        Tells which way is better.

    Returns
    -------
    dict
        n, n_groups (of `after`), tau, tau_by_chance, tau_low, best, best_after (method keys),
        flips (list of pairs), n_pairs.
    """
    first, second = before.mean(), after.mean()
    n_groups = after.index.get_level_values("sequence").nunique()
    pairs = list(itertools.combinations(before.columns, 2))
    turned = [(a, b) for a, b in pairs if (first[a] - first[b]) * (second[a] - second[b]) < 0]
    best = pd.Series.idxmax if direction(metric) == "higher" else pd.Series.idxmin
    drawn = _taus_by_chance(before, None if before.index.isin(after.index).all() else n_groups)
    return {
        "n": len(after),
        "n_groups": n_groups,
        "tau": float(kendalltau(first, second).statistic),
        "tau_by_chance": float(drawn.mean()),
        "tau_low": float(np.quantile(drawn, LOWEST)),
        "best": best(first),
        "best_after": best(second),
        "flips": turned,
        "n_pairs": len(pairs),
    }


def _taus_by_chance(before: pd.DataFrame, n_others: int | None) -> np.ndarray:
    """Taus between a ranking and itself on sequences drawn anew; NaN for one sequence.

    Where an alternative has clips of its own, of `n_others` sequences, both rankings are drawn.
    """
    sums = before.groupby(level="sequence", sort=True).sum().to_numpy()
    counts = before.groupby(level="sequence", sort=True).size().to_numpy()
    if len(sums) < 2:
        return np.full(1, np.nan)
    a, b = np.triu_indices(sums.shape[1], k=1)

    def orders(drawn: np.ndarray) -> np.ndarray:
        means = (drawn @ sums) / (drawn @ counts)[:, None]
        return np.sign(means[:, a] - means[:, b])

    again = orders(resample(len(sums), N_DRAWS, 0))
    if n_others is None:
        return (again * orders(np.ones((1, len(sums))))).mean(axis=1)
    shares = np.full(len(sums), 1 / len(sums))
    other = orders(np.random.default_rng(1).multinomial(n_others, shares, size=N_DRAWS))
    return (again * other).mean(axis=1)


def _lines(
    alternative: Alternative,
    scored: Mapping[str, pd.DataFrame],
    about: pd.DataFrame,
    elsewhere: pd.DataFrame | None,
    n_resamples: int,
    seed: int,
) -> list[dict]:
    if alternative.family:
        return [_relabelled(alternative, scored, about, n_resamples, seed)]
    if alternative.run:
        part = [] if elsewhere is None else elsewhere[elsewhere["alternative"] == alternative.run]
        names = tables.labels_of(about)
        return [_spelled(line, names) for line in _by_run(alternative, scored, about, part)]
    found = _by_rows if alternative.suffix else _by_level
    names = tables.labels_of(about)
    return [_spelled(line, names) for line in found(alternative, scored, about)]


def _methods(about: pd.DataFrame) -> list[str]:
    return about.loc[about["kind"] == "method", "method"].tolist()


def _by_rows(
    alternative: Alternative, scored: Mapping[str, pd.DataFrame], about: pd.DataFrame
) -> Iterator[dict]:
    """Rankings in which every method gives way to its variant, where it has one."""
    methods = _methods(about)
    for suffix in _suffixes(alternative.suffix, about):
        swapped = {m: f"{m}_{suffix}" for m in methods if f"{m}_{suffix}" in set(about["method"])}
        name = alternative.name.format(suffix.removeprefix(alternative.suffix.rstrip("*")))
        for table, level, metric in RANKINGS:
            wide = _wide(scored.get(table), level, metric, [*methods, *swapped.values()])
            if wide is None:
                continue
            after = wide[[swapped.get(m, m) for m in methods]].set_axis(methods, axis=1)
            key = {"alternative": name, "table": table, "level": level, "metric": metric}
            yield key | ranking_change(wide[methods], after, metric)


def _by_run(
    alternative: Alternative,
    scored: Mapping[str, pd.DataFrame],
    about: pd.DataFrame,
    other: pd.DataFrame,
) -> Iterator[dict]:
    """Rankings on the study's clips, and on those of the same sequences of a run beside it."""
    if not len(other):
        return
    methods = _methods(about)
    for table, level, metric in RANKINGS:
        before = _wide(scored.get(table), level, metric, methods)
        after = _wide(other[other["table"] == table], level, metric, methods)
        if before is not None and after is not None:
            if alternative.joins:
                after = pd.concat([before, after])
            else:
                before, after = _same_sequences(before, after)
            if before.empty:
                continue
            if after.index.isin(before.index).all():
                before = before.loc[after.index]  # the study's own clips: then clip by clip
            key = {"alternative": alternative.name, "table": table, "level": level}
            yield key | {"metric": metric} | ranking_change(before, after, metric)


def _same_sequences(before: pd.DataFrame, after: pd.DataFrame) -> tuple[pd.DataFrame, ...]:
    """Clips of the sequences that both have: others would bring another mix of scenes."""
    both = [part.index.get_level_values("sequence") for part in (before, after)]
    return before[both[0].isin(both[1])], after[both[1].isin(both[0])]


def _suffixes(pattern: str, about: pd.DataFrame) -> list[str]:
    """Suffixes of rows `<method>_<suffix>` that match a pattern, in the order of the rows."""
    found = []
    for key in about["method"]:
        for method in _methods(about):
            suffix = key.removeprefix(f"{method}_")
            if suffix != key and fnmatch.fnmatchcase(suffix, pattern):
                found.append(suffix)
    return list(dict.fromkeys(found))


def _by_level(
    alternative: Alternative, scored: Mapping[str, pd.DataFrame], about: pd.DataFrame
) -> Iterator[dict]:
    methods = _methods(about)
    located = [scored[name] for name in ("human_centric", "controls") if name in scored]
    located = pd.concat(located) if located else None
    for level, other in alternative.levels.items():
        for metric in ("iou", "auc"):
            before = _wide(located, level, metric, methods)
            after = _wide(located, other, metric, methods)
            if before is None or after is None:
                continue
            if not alternative.own_clips:
                shared = before.index.intersection(after.index)
                before, after = before.loc[shared], after.loc[shared]
            if before.empty:
                continue
            key = {"table": "human_centric", "level": level, "metric": metric}
            yield {"alternative": alternative.name, **key} | ranking_change(before, after, metric)


def _wide(
    scored: pd.DataFrame | None, level: str, metric: str, methods: list[str]
) -> pd.DataFrame | None:
    """Scores as (clip, sequence) x method, of the clips that have all; None without any."""
    if scored is None:
        return None
    part = scored[(scored["level"] == level) & (scored["metric"] == metric)]
    part = part[part["method"].isin(methods)]
    if not methods or not set(methods) <= set(part["method"]):
        return None
    wide = part.pivot(index=["clip_id", "sequence"], columns="method", values="value").dropna()
    return wide[methods] if len(wide) else None


def _spelled(line: dict, names: Mapping[str, str]) -> dict:
    flips = line["flips"]
    return line | {
        "best": names[line["best"]],
        "best_after": names[line["best_after"]],
        "flips": "; ".join(f"{names[a]}, {names[b]}" for a, b in flips),
        "n_flips": len(flips),
    }


def _relabelled(
    alternative: Alternative,
    scored: Mapping[str, pd.DataFrame],
    about: pd.DataFrame,
    n_resamples: int,
    seed: int,
) -> dict:
    """Which verdicts on families change when a method is filed under another one."""
    families = {GRADIENT, PERTURBATION, BUT_LIME}
    claims = [c for c in CLAIMS
              if any({*x.first, *x.second} & families for x in c.contrasts)]  # fmt: skip
    moved = about["method"].map(alternative.family).fillna(about["family"])
    options = {"n_resamples": n_resamples, "seed": seed, "claims": claims}
    before = verdicts.judge(scored, about, **options)
    after = verdicts.judge(scored, about.assign(family=moved), **options)
    if all((j.contrasts["side"] == verdicts.MISSING).all() for j in before):
        return {"alternative": alternative.name, "note": NOT_MEASURED}
    changed = [
        f"claim {a.claim.number} turns from “{a.verdict}” to “{b.verdict}”"
        for a, b in zip(before, after, strict=True)
        if a.verdict != b.verdict
    ]
    numbers = ", ".join(str(claim.number) for claim in claims)
    note = "; ".join(changed) or f"the verdicts on the claims about families ({numbers}) stay"
    return {"alternative": alternative.name, "note": note}
