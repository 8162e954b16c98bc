"""The paper's fourteen claims, judged, and every other comparison that a study is asked for.

A claim is about the paper's text; its own printed table sometimes says otherwise. Each has
comparisons that decide it, fixed beforehand. It *holds* if the interval of every one lies on the
claimed side, *does not hold* if one lies on the other side, and is *undecided* otherwise: also
where a comparison is not measured, or on fewer than four sequences. Beside the intervals stands the
p of the sign-flip test, after Holm's correction for the deciding comparisons of all claims
together; those that decide nothing are a family of their own.

How claims become comparisons: IoU and F1 order clips alike (F1 = 2 IoU / (1 + IoU) on one clip), so
that IoU and AUC decide on localisation. A family is compared by the mean of its methods, clip by
clip. "Best" and "worst" mean better or worse than every other method, each compared singly.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from vad_helpers.metrics.catalog import HIGHER, LOWER, direction
from vad_helpers.tables import statistics
from vad_helpers.tables.schema import SCORED, Study
from vad_helpers.tables.summary import (
    CHANCE,
    Clips,
    all_zero,
    finished,
    labels,
    main_rows,
    many_samples,
    methods,
    options,
    paper,
    pivot,
    scores,
    variants,
)

HOLDS, DOES_NOT, UNDECIDED = "holds", "does not hold", "undecided"
AS_CLAIMED, AGAINST, MISSING = "as claimed", "against", "not measured"
ALPHA = 0.05
"""Level that p-values are compared with after the correction."""
GRADIENT, PERTURBATION = "gradient methods", "perturbation methods"
BUT_LIME, REST = "perturbation methods but LIME", "the other methods"
WITH_BLUR, WITH_BLACK = "methods with the blurred baseline", "the same with the black one"
ABSOLUTE = {"clip": "clip_abs", "frame": "frame_abs"}
"""Level -> that of the same scores of |E|."""
FAITHFUL = ("gap", "deletion", "insertion", "area_matched_deletion")

Side = str | tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One comparison that a claim rests on.

    Attributes
    ----------
    table, level, metric : str
        Which scores.
    first, second : str or tuple of str
        Methods, or one of the groups above.
    claimed : str
        "higher" or "lower": the first side's score, as the claim has it.
    each : bool
        Every method of the first side against every one of the second, instead of the means.
    decides : bool
        Others are shown beside, and never enter the verdict.
    """

    table: str
    level: str
    metric: str
    first: Side
    second: Side
    claimed: str
    each: bool = False
    decides: bool = True


def _located(level: str, first: Side, second: Side, **how: bool) -> list[Comparison]:
    """The first side localises better."""
    return [
        Comparison("human_centric", level, metric, first, second, HIGHER, **how)
        for metric in ("iou", "auc")
    ]


def _faithful(first: Side, second: Side, *, better: bool = True, **how: bool) -> list[Comparison]:
    """The first side is more, or less, faithful; the same at equal area is shown beside."""
    deletion, insertion = (HIGHER, LOWER) if better else (LOWER, HIGHER)
    found = [
        Comparison("model_centric", "clip", "deletion", first, second, deletion, **how),
        Comparison("model_centric", "clip", "insertion", first, second, insertion, **how),
    ]
    return found + [
        dataclasses.replace(c, metric=f"area_matched_{c.metric}", decides=False) for c in found
    ]


def _deleted(first: Side, second: Side) -> list[Comparison]:
    return [c for c in _faithful(first, second, each=True) if c.metric.endswith("deletion")]


def _leaked(level: str, *, decides: bool) -> list[Comparison]:
    return [
        Comparison("human_centric", level, "leak", m, "guided_backprop", LOWER, decides=decides)
        for m in ("ig", "ig_smoothgrad")
    ]


CLAIMS: dict[int, tuple[str, list[Comparison]]] = {
    1: (
        "Gradient methods localise better than perturbation methods, at clip and at frame level; "
        "LIME at clip level is the exception.",
        _located("clip", GRADIENT, BUT_LIME)
        + _located("frame", GRADIENT, PERTURBATION)
        + _located("clip", "lime", GRADIENT, decides=False),
    ),
    2: ("LIME localises best at clip level.", _located("clip", "lime", REST, each=True)),
    3: (
        "For a user, LIME and IG with SmoothGrad are the best at clip level.",
        _located("clip", ("lime", "ig_smoothgrad"), REST, each=True),
    ),
    4: (
        "IG and IG with SmoothGrad localise best on the frame of the highest attribution.",
        _located("frame", ("ig", "ig_smoothgrad"), REST, each=True),
    ),
    5: (
        "Perturbation methods follow the model's decision more faithfully: higher deletion, lower "
        "insertion.",
        _faithful(PERTURBATION, GRADIENT),
    ),
    6: (
        "Guided Backpropagation is the worst on deletion and on insertion.",
        _faithful("guided_backprop", REST, better=False, each=True),
    ),
    7: (
        "LIME and Occlusion with the large window are clearly the best on deletion.",
        _deleted(("lime", "occlusion_lp"), REST),
    ),
    8: (
        "Gradient methods are steadier over the frames of a clip: lower C_v.",
        [
            Comparison("robustness", "clip", "cv", GRADIENT, PERTURBATION, LOWER),
            # To be steady is worth something only where the mean is no worse.
            Comparison("robustness", "clip", "mauc", GRADIENT, PERTURBATION, HIGHER, decides=False),
        ],
    ),
    9: (
        "KernelSHAP is the least stable method, and poor at localisation.",
        [
            Comparison("robustness", "clip", "cv", "kernel_shap", REST, HIGHER, each=True),
            Comparison("human_centric", "clip", "iou", "kernel_shap", REST, LOWER),
            Comparison("human_centric", "clip", "auc", "kernel_shap", REST, LOWER),
        ],
    ),
    10: (
        "Occlusion covers anomalies better with the large window than with the small one.",
        _located("clip", "occlusion_lp", "occlusion_sp"),
    ),
    11: (
        "LIME concentrates more on the anomaly than KernelSHAP.",
        [
            *_located("clip", "lime", "kernel_shap"),
            Comparison(
                *("human_centric", "clip", "share_in_mask", "lime", "kernel_shap", HIGHER),
                decides=False,
            ),
        ],
    ),
    12: (
        "IG and IG with SmoothGrad leak less onto other objects than Guided Backpropagation.",
        # A flat map leaks little of all that it has; of what it has on moving voxels, its share.
        _leaked("clip", decides=True) + _leaked("moving", decides=False),
    ),
    13: (
        "Guided Backpropagation is the fastest and Occlusion with the small window the slowest; IG "
        "with SmoothGrad costs more than it gives.",
        [
            Comparison("runtime", "clip", "seconds", "guided_backprop", REST, LOWER, each=True),
            Comparison("runtime", "clip", "seconds", "occlusion_sp", REST, HIGHER, each=True),
            Comparison("runtime", "clip", "auc_per_second", "ig", "ig_smoothgrad", HIGHER),
        ],
    ),
    14: (
        "The blurred baseline gives better explanations than the black one.",
        [
            *_located("clip", WITH_BLUR, WITH_BLACK),
            Comparison(
                *("model_centric", "clip", "deletion", WITH_BLUR, WITH_BLACK, HIGHER), decides=False
            ),
        ],
    ),
}
"""Number -> statement in our words, and the comparisons that it rests on."""

PLANNED: dict[str, list[tuple[str, str, Side, Side]]] = {
    "human_centric": [
        ("clip", "auc", GRADIENT, BUT_LIME),
        ("clip", "auc", "lime", REST),
        ("clip", "auc", "lime", "kernel_shap"),
        ("clip", "auc", "occlusion_lp", "occlusion_sp"),
        ("frame", "auc", GRADIENT, PERTURBATION),
        ("frame", "auc", ("ig", "ig_smoothgrad"), REST),
    ],
    "model_centric": [
        ("clip", "deletion", GRADIENT, PERTURBATION),
        ("clip", "deletion", ("lime", "occlusion_lp"), REST),
        ("clip", "deletion", "guided_backprop", REST),
        ("clip", "insertion", GRADIENT, PERTURBATION),
        ("clip", "insertion", "guided_backprop", REST),
    ],
    "robustness": [
        ("clip", "cv", GRADIENT, PERTURBATION),
        ("clip", "cv", "kernel_shap", REST),
    ],
}
"""For the chapters: one line a claim and metric, several methods as their mean."""


def sides(study: Study, first: Side, second: Side) -> tuple[list[str], list[str]]:
    """Rows on both sides of a comparison; an empty side if one that is named is not there."""
    if first == WITH_BLUR:
        black = variants(study)
        black = black[black["changes"].map(lambda changes: changes == {"baseline": "black"})]
        return black["of"].tolist(), black["row"].tolist()
    family = study.rows[study.rows["kind"] == "method"].set_index("row")["family"]

    def members(side: Side) -> list[str]:
        if side in (GRADIENT, PERTURBATION, BUT_LIME):
            kept = family.index[family == side.split()[0]]
            return [row for row in kept if side != BUT_LIME or row != "lime"]
        named = [side] if isinstance(side, str) else list(side)
        return named if set(named) <= set(family.index) else []

    taken = members(first)
    return taken, [m for m in family.index if m not in taken] if second == REST else members(second)


def comparisons(
    study: Study, *, clips: Clips = "all", numbers: Collection[int] = tuple(CLAIMS)
) -> pd.DataFrame:
    """Every comparison of the paper's claims.

    Parameters
    ----------
    study : Study
    clips
        As `summary.summary`.
    numbers : collection of int
        Of claims; the correction is over these alone.

    Returns
    -------
    DataFrame
        claim, first, second (rows, apart by spaces), table, level, metric, claimed ("higher",
        "lower": the first side), decides, difference (first - second), low, high (NaN on fewer
        than four sequences), n, n_groups, p, interval ("higher", "lower", "undecided"), result ("as
        claimed", "against", "undecided", "not measured"), n_all_zero (clips on which a map of
        either side has no positive voxel, so that its score is a convention), paper_difference,
        paper_agrees (None where the paper prints no such number), p_holm (over what decides, or
        over what does not; a question of several claims counts once) and smallest_p: the smallest
        p_holm that its sequences allow beside the other comparisons; NaN for what decides nothing.
    """
    kept = set(study.keep(clips=clips).evaluation["clip_id"])
    zero = set(all_zero(study))
    printed = _printed()
    tables: dict[tuple[str, str, str], pd.DataFrame] = {}
    lines = []
    for number in numbers:
        for c in CLAIMS[number][1]:
            key = c.table, c.level, c.metric
            if key not in tables:
                found = pivot(study, *key)
                tables[key] = found[found.index.get_level_values("clip_id").isin(kept)]
            first, second = sides(study, c.first, c.second)
            each = itertools.product(first, second) if c.each else []
            for a, b in [([x], [y]) for x, y in each] or [(first, second)]:
                about = {"claim": number, "first": " ".join(a), "second": " ".join(b)}
                about |= {
                    n: getattr(c, n) for n in ("table", "level", "metric", "claimed", "decides")
                }
                means = printed.get((c.level, c.metric), {})
                line = about | _measured(tables[key], a, b, zero, options(study))
                line |= {"paper_difference": np.nan, "paper_agrees": None}
                if a and b and {*a, *b} <= means.keys():
                    one, other = (np.mean([means[row] for row in side]) for side in (a, b))
                    agrees = statistics.interval_sign(one - other, one - other) == c.claimed
                    line |= {"paper_difference": one - other, "paper_agrees": bool(agrees)}
                known = {c.claimed: AS_CLAIMED, UNDECIDED: UNDECIDED, "": MISSING}
                lines.append(line | {"result": known.get(line["interval"], AGAINST)})
    return _corrected(pd.DataFrame(lines))


def _measured(
    table: pd.DataFrame,
    a: list[str],
    b: list[str],
    zero: Collection[tuple[str, str]],
    drawn: dict[str, int],
) -> dict[str, object]:
    """Difference of two sides, with its test; nothing where a row is not there."""
    if not a or not b or not {*a, *b} <= set(table.columns) or table.empty:
        nothing = dict.fromkeys(("difference", "low", "high", "p"), np.nan)
        return nothing | {"n": 0, "n_groups": 0, "interval": "", "n_all_zero": 0}
    first, second = (table[side].to_numpy(float).mean(axis=1) for side in (a, b))
    groups = table.index.get_level_values("sequence")
    found = statistics.paired_difference(first, second, groups, **drawn)
    found.pop("n_undefined")
    if found["n_groups"] < statistics.FEWEST_GROUPS:
        found |= {"low": np.nan, "high": np.nan}
    clips = table.index.get_level_values("clip_id")[~np.isnan(first - second)]
    return found | {
        "p": statistics.sign_flip_test(first - second, groups, seed=drawn["seed"])["p"],
        "interval": statistics.interval_sign(found["low"], found["high"]) if found["n"] else "",
        "n_all_zero": sum(any((clip, row) in zero for row in (*a, *b)) for clip in clips),
    }


def _printed() -> dict[tuple[str, str], dict[str, float]]:
    """The paper's printed means by (level, metric), and what follows from them for the cost."""
    means = {
        key: dict(part[["row", "paper"]].to_numpy())
        for key, part in paper().groupby(["level", "metric"])
    }
    auc, seconds = means["clip", "auc"], means["clip", "seconds"]
    means["clip", "auc_per_second"] = {row: (auc[row] - CHANCE) / seconds[row] for row in auc}
    return means


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Add p_holm and smallest_p: what decides must not pay for what is shown beside it."""
    pairs = [frozenset(pair) for pair in zip(table["first"], table["second"], strict=True)]
    asked = list(zip(table["table"], table["level"], table["metric"], pairs, strict=True))
    asked = pd.Series(asked, index=table.index, dtype=object)
    table = table.assign(p_holm=np.nan, smallest_p=np.nan)
    for decides in (True, False):
        family = table["decides"] == decides
        once = family & ~asked.where(family).duplicated()
        p = table["p"].where(once)
        holm = dict(zip(asked[once], statistics.holm(p)[once.to_numpy()], strict=True))
        table.loc[family, "p_holm"] = asked[family].map(holm).astype(float)
        for i in p.index[p.notna() & decides]:
            least = p.where(p.index != i, statistics.smallest_p(int(table.loc[i, "n_groups"])))
            same = family & (asked == asked[i])
            table.loc[same, "smallest_p"] = statistics.holm(least)[p.index.get_loc(i)]
    return table


def claims(
    study: Study, *, clips: Clips = "all", numbers: Collection[int] = tuple(CLAIMS)
) -> pd.DataFrame:
    """Judge the paper's claims; parameters as `comparisons`.

    Returns
    -------
    DataFrame
        claim, statement, verdict ("holds", "does not hold", "undecided"), stands (True or False:
        whether the corrected p say the same as the intervals; of a claim that does not hold, one
        is enough; None for one that is undecided), at_equal_area (the verdict by the same rule
        where every map removes the same areas; "" if not asked), and of the comparisons that
        decide: n_comparisons, n_as_claimed, n_against, n_undecided, n_not_measured, n_small (with a
        corrected p below .05), n_printed (by the paper), n_agree (printed as claimed).
    """
    return judged(comparisons(study, clips=clips, numbers=numbers))


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Judge claims by their `comparisons`; see `claims`."""
    lines = []
    for number, part in table.groupby("claim", sort=False):
        deciding, equal = part[part["decides"]], part[part["metric"].str.startswith("area_matched")]
        verdict, small = _verdict(deciding["result"]), deciding["p_holm"] < ALPHA
        counts = deciding["result"].value_counts()
        against = small & (deciding["result"] == AGAINST)
        stands = {HOLDS: bool(small.all()), DOES_NOT: bool(against.any())}.get(verdict)
        asked = len(equal) and not (equal["result"] == MISSING).all()
        results = (AS_CLAIMED, AGAINST, UNDECIDED, MISSING)
        lines.append(
            {"claim": number, "statement": CLAIMS[number][0], "verdict": verdict, "stands": stands}
            | {"at_equal_area": _verdict(equal["result"]) if asked else ""}
            | {"n_comparisons": len(deciding)}
            | {f"n_{name.replace(' ', '_')}": int(counts.get(name, 0)) for name in results}
            | {
                "n_small": int(small.sum()),
                "n_printed": int(deciding["paper_agrees"].notna().sum()),
            }
            | {"n_agree": int((deciding["paper_agrees"] == True).sum())}  # noqa: E712
        )
    return pd.DataFrame(lines)


def _verdict(results: pd.Series) -> str:
    """The one place where what intervals say becomes what a claim is."""
    if (results == AGAINST).any():
        return DOES_NOT
    return HOLDS if (results == AS_CLAIMED).all() else UNDECIDED


def changed(study: Study, how: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Comparisons before and after one thing is settled differently.

    Parameters
    ----------
    study : Study
    how : {"hits", "samples", "absolute", "refiled"}
        Clips that the network calls anomalous alone; rows of many more samples in their methods'
        place (claims on methods alone, clips that have both); |E| located in place of E+ (claims on
        localisation alone); GradientSHAP as a perturbation method (claims on families).

    Returns
    -------
    before, after : DataFrame
        As `comparisons`; empty where it is not measured.

    Raises
    ------
    ValueError
        For another change.
    """
    before, after, numbers, clips = study, study, list(CLAIMS), "all"
    if how == "hits":
        clips = "hits"
    elif how == "samples":
        swaps = many_samples(study)
        before = study.keep(clips=finished(study, [*swaps, *swaps.values()]) if swaps else [])
        replaced = {
            name: getattr(before, name)[lambda t: ~t["row"].isin(swaps.values())].assign(
                row=lambda t: t["row"].replace(swaps)
            )
            for name in (*SCORED, "explanations")
        }
        after = dataclasses.replace(before, **replaced)
        wanted = {n: _rows(study, n) for n in CLAIMS}
        numbers = [n for n, rows in wanted.items()
                   if rows & set(swaps.values()) and rows <= set(methods(study))]  # fmt: skip
    elif how == "absolute":
        located, back = study.human_centric, {other: level for level, other in ABSOLUTE.items()}
        other = located[located["level"].isin(back)]
        same = located[located["level"].isin(ABSOLUTE) & located["clip_id"].isin(other["clip_id"])]
        before = dataclasses.replace(study, human_centric=same)
        other = other.assign(level=other["level"].map(back))
        after = dataclasses.replace(study, human_centric=other)
        numbers = [
            n for n, (_, listed) in CLAIMS.items()
            if {c.metric for c in listed if c.decides} <= {"iou", "auc"}
        ]  # fmt: skip
    elif how == "refiled":
        moved = study.rows["family"].mask(study.rows["of"] == "gradient_shap", "perturbation")
        after = dataclasses.replace(study, rows=study.rows.assign(family=moved))
        families = {GRADIENT, PERTURBATION, BUT_LIME}
        numbers = [n for n, (_, listed) in CLAIMS.items()
                   if any({c.first, c.second} & families for c in listed)]  # fmt: skip
    else:
        raise ValueError(f"how is {how!r}; expected hits, samples, absolute or refiled")
    found = comparisons(before, numbers=numbers), comparisons(after, numbers=numbers, clips=clips)
    measured = all((part["result"] != MISSING).any() for part in found)
    return found if measured else tuple(part.iloc[:0] for part in found)


def _rows(study: Study, number: int) -> set[str]:
    """Rows that the deciding comparisons of a claim need."""
    deciding = [c for c in CLAIMS[number][1] if c.decides]
    return {row for c in deciding for side in sides(study, c.first, c.second) for row in side}


def claims_again(study: Study, how: str) -> pd.DataFrame:
    """Do the verdicts stay where one thing is settled differently? `how` as in `changed`.

    Returns
    -------
    DataFrame
        claim, statement, before and after (verdicts), n_comparisons (that decide), n_changed (of
        them: with another result), n_turned (of these: from one side to the other), n and n_groups
        (most clips and sequences after).
    """
    before, after = changed(study, how)
    table = (
        judged(before)[["claim", "statement", "verdict"]]
        if len(before)
        else pd.DataFrame(columns=["claim", "statement", "verdict"])
    )
    table = table.rename(columns={"verdict": "before"})
    if before.empty:
        return table
    pairs = pd.DataFrame({"claim": before["claim"], "a": before["result"], "b": after["result"]})
    pairs = pairs[before["decides"]]
    turned = pairs.apply(lambda pair: {pair["a"], pair["b"]} == {AS_CLAIMED, AGAINST}, axis=1)
    pairs = pairs.assign(changed=pairs["a"] != pairs["b"], turned=turned)
    counts = pairs.groupby("claim", sort=False)[["changed", "turned"]].sum().to_numpy(int)
    return table.assign(
        after=judged(after)["verdict"],
        n_comparisons=pairs.groupby("claim", sort=False).size().to_numpy(),
        n_changed=counts[:, 0],
        n_turned=counts[:, 1],
        n=after["n"].max(),
        n_groups=after["n_groups"].max(),
    )


def contrasts(study: Study, table: str, *, clips: Clips = "all") -> pd.DataFrame:
    """Comparisons between methods that the paper's claims call for (`PLANNED`), as the chapters do.

    Returns
    -------
    DataFrame
        As `statistics.compare`, with contrast ("LIME - KernelSHAP"); Holm over the lines of the
        table. A comparison with a method that is not there is left out.
    """
    study = study.keep(clips=clips)
    named = labels(study)
    parts, names = [], []
    for level, metric, first, second in PLANNED[table]:
        pair = sides(study, first, second)
        if all(pair):
            scored = scores(study, table)
            scored = scored[(scored["level"] == level) & (scored["metric"] == metric)]
            parts.append(statistics.compare(scored, [pair], **options(study)))
            spelled = [s if isinstance(s, str) else " and ".join(named[m] for m in s)
                       for s in (first, second)]  # fmt: skip
            names.append(" - ".join(named.get(side, side) for side in spelled))
    found = _together(parts)
    found.insert(0, "contrast", names)
    return found


def _together(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Join comparisons into one family for the correction."""
    if not parts:
        return statistics.compare(pd.DataFrame(columns=list(statistics.SCORE_COLUMNS)), [])
    found = pd.concat(parts, ignore_index=True)
    least = found["n_groups"].map(statistics.smallest_p) * found["p"].notna().sum()
    return found.assign(p_holm=statistics.holm(found["p"]), smallest_p=np.minimum(1, least))


def against(
    study: Study,
    references: Sequence[str],
    table: str,
    metrics: Sequence[str],
    *,
    level: str = "clip",
    rows: Sequence[str] | None = None,
    clips: Clips = "all",
) -> pd.DataFrame:
    """Compare rows with reference rows, or any others, paired by clip.

    Parameters
    ----------
    study : Study
    references : sequence of str
        Rows that the others are compared with.
    table, metrics, level, clips
        Of the scores.
    rows : sequence of str, optional
        By default the methods.

    Returns
    -------
    DataFrame
        As `statistics.compare`, with row, label and reference for first and second: differences
        are row minus reference. Holm over all lines.
    """
    scored = scores(study.keep(clips=clips), table)
    scored = scored[(scored["level"] == level) & scored["metric"].isin(metrics)]
    there = set(scored["row"])
    rows = [row for row in (methods(study) if rows is None else rows) if row in there]
    pairs = [([row], [other]) for other in references if other in there for row in rows]
    found = statistics.compare(scored, pairs, **options(study))
    found = found.rename(columns={"first": "row", "second": "reference"})
    found.insert(1, "label", found["row"].map(labels(study)))
    return found.replace({"better": {"first": "row", "second": "reference"}})


def against_variants(
    study: Study,
    changes: dict[str, object],
    *,
    metrics: Sequence[tuple[str, str]] = (
        ("human_centric", "auc"),
        ("model_centric", "deletion"),
        ("model_centric", "area_matched_deletion"),
    ),
) -> pd.DataFrame:
    """Compare every method with its variant that changes one thing, on the clips that both have.

    Parameters
    ----------
    study : Study
    changes : dict
        Such as {"baseline": "black"} or {"weights": "random"}; the reference row with random
        weights counts as the variant of its method.
    metrics : sequence of (table, metric)
        At clip level.

    Returns
    -------
    DataFrame
        As `statistics.compare`, with row, label and variant for first and second, and n_all_zero
        (clips of the comparison on which either map has no positive voxel). Holm over the lines of
        a metric.
    """
    known = variants(study)
    known = known[known["changes"].map(lambda given: given == changes)]
    pairs = dict(known[["of", "row"]].to_numpy())
    for line in study.rows[study.rows["kind"] == "reference"].itertuples():
        if line.of in methods(study) and json.loads(line.settings) == changes:
            pairs.setdefault(line.of, line.row)
    zero, parts = all_zero(study), []
    for table, metric in metrics:
        scored = scores(study, table)
        scored = scored[(scored["level"] == "clip") & (scored["metric"] == metric)]
        there = set(scored["row"])
        asked = [([row], [pairs[row]]) for row in methods(study) if {row, pairs.get(row)} <= there]
        found = statistics.compare(scored, asked, **options(study))
        n_all_zero = []
        for row, variant in zip(found["first"], found["second"], strict=True):
            both = pivot(study, table, "clip", metric, [row, variant]).dropna()
            clips = both.index.get_level_values("clip_id")
            n_all_zero.append(sum(((c, row) in zero) or ((c, variant) in zero) for c in clips))
        parts.append(found.assign(n_all_zero=n_all_zero))
    joined = pd.concat(parts, ignore_index=True)
    joined = joined.rename(columns={"first": "row", "second": "variant"})
    joined.insert(1, "label", joined["row"].map(labels(study)))
    return joined.replace({"better": {"first": "row", "second": "variant"}})


def _change(before: pd.Series, after: pd.Series, drawn: dict[str, int]) -> dict[str, float]:
    """Means on the clips that both have, and how they change; {} without such clips."""
    both = pd.DataFrame({"mean": before, "mean_after": after}).dropna()
    if both.empty:
        return {}
    groups = both.index.get_level_values("sequence")
    paired = statistics.paired_difference(both["mean_after"], both["mean"], groups, **drawn)
    paired.pop("n_undefined")
    return both.mean().to_dict() | paired


CHANGES = ["row", "label", "level", "metric", "mean", "mean_after", "difference", "low", "high", "n",
           "n_groups"]  # fmt: skip


def absolute(study: Study) -> pd.DataFrame:
    """Localisation by |E| beside localisation by E+, of the main rows.

    Returns
    -------
    DataFrame
        row, label, level, metric, mean (of E+) and mean_after (of |E|) over the clips that have
        both, difference (after - before) with low and high, n, n_groups.
    """
    lines = []
    for (level, other), metric in itertools.product(ABSOLUTE.items(), ("auc", "iou")):
        sizes = pivot(study, "human_centric", other, metric)
        for row, scored in pivot(study, "human_centric", level, metric, main_rows(study)).items():
            if row in sizes and (line := _change(scored, sizes[row], options(study))):
                about = {"row": row, "label": labels(study)[row], "level": level, "metric": metric}
                lines.append(about | line)
    return pd.DataFrame(lines, columns=CHANGES)


def converged(study: Study) -> pd.DataFrame:
    """Does the place of a method change where it draws many more samples?

    Returns
    -------
    DataFrame
        As `absolute`: mean and rank at the method's own samples, mean_after and rank_after with
        many more; ranks are among the methods over the clips that all have, the other such rows in
        their methods' places too.
    """
    swaps, lines = many_samples(study), []
    for table, metric in (("human_centric", "auc"), ("human_centric", "iou"),
                          ("model_centric", "deletion"), ("robustness", "cv")):  # fmt: skip
        found = pivot(study, table, "clip", metric, [*methods(study), *swaps]).dropna()
        plain = found.drop(columns=list(swaps), errors="ignore")
        after = found.drop(columns=list(swaps.values()), errors="ignore").rename(columns=swaps)
        ascending = direction(metric) == "lower"
        ranks = [part.mean().rank(ascending=ascending, method="min") for part in (plain, after)]
        for row in methods(study):
            if row in swaps.values() and {row} <= set(plain) & set(after):
                about = {"row": row, "label": labels(study)[row], "level": "clip", "metric": metric}
                about |= {"rank": ranks[0][row], "rank_after": ranks[1][row]}
                lines.append(about | _change(plain[row], after[row], options(study)))
    return pd.DataFrame(lines, columns=[*CHANGES, "rank", "rank_after"])


def other_baseline(study: Study, name: str) -> pd.DataFrame:
    """Faithfulness where maps and scores fill with another baseline, beside the study's own.

    Parameters
    ----------
    study : Study
    name : str
        Of `Study.alternatives`.

    Returns
    -------
    DataFrame
        As `absolute`, of the metrics gap (p(x) - p(x_b)), deletion, insertion and
        area_matched_deletion: mean of the study, mean_after of the alternative, on shared clips.
    """

    def measured(part: Study, metric: str) -> pd.DataFrame:
        if metric != "gap":
            return pivot(part, "model_centric", "clip", metric)
        both = (pivot(part, "model_centric", "clip", p) for p in ("p_clip", "p_baseline"))
        return next(both) - next(both)

    lines = []
    for metric in FAITHFUL if name in study.alternatives else ():
        own, other = (measured(part, metric) for part in (study, study.alternatives[name]))
        for row in main_rows(study):
            if (
                row in own
                and row in other
                and (line := _change(own[row], other[row], options(study)))
            ):
                about = {"row": row, "label": labels(study)[row], "level": "clip", "metric": metric}
                lines.append(about | line)
    return pd.DataFrame(lines, columns=CHANGES)


OPEN = {
    "stride": "Which clips",
    "split_by": "How to split",
    "masks": "Which clips are explained",
    **dict.fromkeys(("sigma", "noisy_baseline", "noise"), "SmoothGrad's noise"),
    "alpha": "LIME's penalty",
    "baseline": "What fills removed pixels",
    "channels": "Gradients of three channels",
    "n_samples": "Samples of LIME and KernelSHAP",
    "seed": "What sampling methods draw",
}
"""Setting or parameter -> the choice that the paper leaves open, which it settles."""
OPEN_LEVELS = (
    ("Negative attributions", {"clip": "clip_abs", "frame": "frame_abs"}),
    ("Negative attributions", {"clip": "clip_signed", "frame": "frame_signed"}),
    ("Which frame is scored", {"frame": "frame_any"}),
    ("Which frame is scored", {"frame": "frame_first"}),
)
"""Choices that are settled in scoring: level -> level of the same scores, settled differently."""
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
N_DRAWS, LOWEST = 500, 0.05


def sensitivity(study: Study) -> pd.DataFrame:
    """Do rankings of the methods depend on what the paper leaves open?

    An alternative is in the data as variants of methods, as scores at another level, or as a run
    beside the folds. Rankings are by the means over the same clips, before and after; runs on clips
    of their own are compared with the study's clips of the same sequences.

    Returns
    -------
    DataFrame
        choice, how ("row", "level", "run"), alternative (its settings), table, level, metric, n
        clips and n_groups sequences of the ranking under the alternative; tau, Kendall's, of the
        two rankings (1: the same); tau_by_chance, the mean tau of the ranking with itself when its
        sequences are drawn anew (twice, for a run on other clips), and tau_low, which 19 of 20
        draws reach; best and best_after (rows); flips ("a b; ...": pairs whose order turns),
        n_flips, n_pairs.
    """
    keys, lines = methods(study), []

    def note(choice: str, how: str, name: str, ranking: tuple, before, after) -> None:
        if len(before) and len(after):
            about = dict(zip(("table", "level", "metric"), ranking, strict=True))
            change = ranking_change(before[keys], after[keys], ranking[2])
            lines.append({"choice": choice, "how": how, "alternative": name} | about | change)

    for name, swaps in _alternative_rows(study).items():
        for ranking in RANKINGS:
            found = pivot(study, *ranking, [*keys, *swaps.values()])
            if {*keys, *swaps.values()} <= set(found):
                found = found.dropna()
                after = found[[swaps.get(m, m) for m in keys]].set_axis(keys, axis=1)
                choice = OPEN[next(part for part in OPEN if name.startswith(part))]
                note(choice, "row", name, ranking, found, after)
    for choice, levels in OPEN_LEVELS:
        for (level, other), metric in itertools.product(levels.items(), ("iou", "auc")):
            before = pivot(study, "human_centric", level, metric, keys).dropna()
            after = pivot(study, "human_centric", other, metric, keys).dropna()
            if {*keys} <= set(before) & set(after):
                if other != "frame_any":  # which differs in the clips that have a score at all
                    shared = before.index.intersection(after.index)
                    before, after = before.loc[shared], after.loc[shared]
                name = " ".join(levels.values())
                note(choice, "level", name, ("human_centric", level, metric), before, after)
    for name, run in study.alternatives.items():
        changes = next(iter(run.manifests.values()))["alternative"].get("changes", {})
        choice = next((OPEN[part] for part in OPEN if part in changes), None)
        for ranking in RANKINGS if choice else ():
            before, after = (pivot(part, *ranking, keys) for part in (study, run))
            if not {*keys} <= set(before) & set(after):
                continue
            before, after = before.dropna(), after.dropna()
            if "masks" in changes:  # more clips, beside the study's
                after = pd.concat([before, after])
            else:
                homes = [part.index.get_level_values("sequence") for part in (before, after)]
                before, after = before[homes[0].isin(homes[1])], after[homes[1].isin(homes[0])]
            if after.index.isin(before.index).all():
                before = before.loc[after.index]  # the study's own clips: then clip by clip
            note(choice, "run", name, ranking, before, after)
    return pd.DataFrame(lines)


def _alternative_rows(study: Study) -> dict[str, dict[str, str]]:
    """Alternatives that variants settle: name, such as "sigma 0.1" -> method's row -> variant."""
    found: dict[str, dict[str, str]] = {}
    largest = many_samples(study)
    for line in variants(study).itertuples():
        changes = line.changes
        if len(changes) == 1 and (name := next(iter(changes))) in OPEN:
            if name == "n_samples":
                if line.row in largest:
                    found.setdefault(name, {})[line.of] = line.row
            else:
                found.setdefault(f"{name} {changes[name]}", {})[line.of] = line.row
    return found


def ranking_change(before: pd.DataFrame, after: pd.DataFrame, metric: str) -> dict[str, object]:
    """Compare two rankings of the same methods; see `sensitivity`.

    Parameters
    ----------
    before, after : DataFrame
        Scores: index (clip_id, sequence), a column a method, no NaN. The clips may differ.
    metric : str
        Tells which way is better.

    Returns
    -------
    dict
        From n to n_pairs as in `sensitivity`.
    """
    first, second = before.mean(), after.mean()
    n_groups = after.index.get_level_values("sequence").nunique()
    pairs = list(itertools.combinations(before.columns, 2))
    turned = [(a, b) for a, b in pairs if (first[a] - first[b]) * (second[a] - second[b]) < 0]
    best = pd.Series.idxmax if direction(metric) == HIGHER else pd.Series.idxmin
    drawn = _taus_by_chance(before, None if before.index.isin(after.index).all() else n_groups)
    return {
        "n": len(after),
        "n_groups": n_groups,
        "tau": float(kendalltau(first, second).statistic),
        "tau_by_chance": float(drawn.mean()),
        "tau_low": float(np.quantile(drawn, LOWEST)),
        "best": best(first),
        "best_after": best(second),
        "flips": "; ".join(f"{a} {b}" for a, b in turned),
        "n_flips": len(turned),
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

    again, other = orders(statistics.resample(len(sums), N_DRAWS, 0)), np.ones((1, len(sums)))
    if n_others is not None:
        shares = np.full(len(sums), 1 / len(sums))
        other = np.random.default_rng(1).multinomial(n_others, shares, size=N_DRAWS)
    return (again * orders(other)).mean(axis=1)
