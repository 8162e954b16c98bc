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
from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from vad_helpers.metrics.catalog import HIGHER, LOWER, METRICS, direction
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
    paper_csv,
    pivot,
    scores,
    variants,
)

HOLDS, DOES_NOT, UNDECIDED = "holds", "does not hold", "undecided"
AS_CLAIMED, AGAINST, MISSING = "as claimed", "against", "not measured"
ALPHA = 0.05
"""Level that p-values are compared with after the correction."""
GROUPS = {
    "gradient": "gradient methods",
    "perturbation": "perturbation methods",
    "perturbation_but_lime": "perturbation methods but LIME",
    "others": "the other methods",
}
"""Sides that name no methods, beside "blurred" and "black": methods that have a variant with the
black baseline, and these variants."""
ABSOLUTE = {"clip": "clip_abs", "frame": "frame_abs"}
"""Level -> that of the same scores of |E|."""
STATEMENTS = dict(paper_csv("claims")[["claim", "statement"]].to_numpy())
"""Number -> what the paper claims, in our words."""
COMPARISONS = paper_csv("claims_comparisons")
"""What the claims rest on, in their order: claim, table, level, metric, first, second (methods, or
a group), claimed ("higher", "lower": the first side), each (every method of the first side against
every one of the second, instead of the means), decides (others are shown beside)."""
PAIR = ["first", "second"]
PLANNED = paper_csv("planned_comparisons")
"""For the chapters: one line a claim and metric, several methods as their mean."""


def sides(study: Study, first: str, second: str) -> tuple[list[str], list[str]]:
    """Rows on both sides of a comparison; an empty side if one that is named is not there."""
    if first == "blurred":
        black = _variants_with(study, {"baseline": "black"})
        return list(black), list(black.values())
    family = study.rows[study.rows["kind"] == "method"].set_index("row")["family"]

    def members(side: str) -> list[str]:
        if side in GROUPS:
            kept = family.index[family == side.split("_")[0]]
            return [row for row in kept if side != "perturbation_but_lime" or row != "lime"]
        return side.split() if set(side.split()) <= set(family.index) else []

    taken = members(first)
    rest = [row for row in family.index if row not in taken]
    return taken, rest if second == "others" else members(second)


def _variants_with(study: Study, changes: dict[str, object]) -> dict[str, str]:
    """Method's row -> its variant, or reference, with these changes."""
    found: dict[str, str] = {}
    for line in variants(study).itertuples():
        if line.of and line.changes == changes:
            found.setdefault(line.of, line.row)
    return {row: found[row] for row in methods(study) if row in found}


def comparisons(
    study: Study, *, clips: Clips = "all", numbers: Collection[int] = tuple(STATEMENTS)
) -> pd.DataFrame:
    """Every comparison of the paper's claims, or of some: the correction is over these alone.

    Returns
    -------
    DataFrame
        claim; first, second (rows, apart by spaces); table, level, metric; claimed ("higher" or
        "lower": the first side); decides; difference (first - second), low, high (NaN on fewer than
        four sequences), n, n_groups, p; interval ("higher", "lower", "undecided", "" if not
        measured); result ("as claimed", "against", "undecided", "not measured"); n_all_zero (clips
        on which a map of either side has no positive voxel, so that its score is a convention);
        paper_difference, paper_agrees (None where the paper prints no such number); p_holm (over
        what decides, or over what does not; a question of several claims counts once); smallest_p:
        the smallest p_holm that the number of sequences allows beside the other comparisons, NaN
        for what decides nothing.
    """
    kept = set(study.keep(clips=clips).evaluation["clip_id"])
    zero, printed = set(all_zero(study)), _printed()
    tables: dict[tuple[str, str, str], pd.DataFrame] = {}
    lines = []
    for c in COMPARISONS[COMPARISONS["claim"].isin(list(numbers))].itertuples():
        key = c.table, c.level, c.metric
        if key not in tables:
            found = pivot(study, *key)
            tables[key] = found[found.index.get_level_values("clip_id").isin(kept)]
        first, second = sides(study, c.first, c.second)
        singly = [([a], [b]) for a, b in itertools.product(first, second)] if c.each else []
        for a, b in singly or [(first, second)]:
            line = {"claim": c.claim, "first": " ".join(a), "second": " ".join(b)}
            line |= {name: getattr(c, name) for name in ("table", "level", "metric", "claimed")}
            line |= {"decides": c.decides} | _measured(tables[key], a, b, zero, options(study))
            result = {c.claimed: AS_CLAIMED, UNDECIDED: UNDECIDED, "": MISSING}
            line |= {"result": result.get(line["interval"], AGAINST)}
            means = printed.get((c.level, c.metric), {})
            known = a and b and {*a, *b} <= means.keys()
            one, two = (np.mean([means[m] for m in x]) if known else np.nan for x in (a, b))
            agrees = (one > two) == (c.claimed == HIGHER) and one != two if known else None
            lines.append(line | {"paper_difference": one - two, "paper_agrees": agrees})
    return _corrected(pd.DataFrame(lines))


def _measured(
    table: pd.DataFrame, a: list[str], b: list[str], zero: set, drawn: dict[str, int]
) -> dict[str, object]:
    """Difference of two sides, with its test; nothing where a row is not there."""
    if not a or not b or not {*a, *b} <= set(table.columns) or table.empty:
        nothing = dict.fromkeys(("difference", "low", "high", "p"), np.nan)
        return nothing | {"n": 0, "n_groups": 0, "interval": "", "n_all_zero": 0}
    first, second = (table[side].to_numpy(float).mean(axis=1) for side in (a, b))
    groups = table.index.get_level_values("sequence")
    found = statistics.paired_difference(first, second, groups, **drawn)
    if found["n_groups"] < statistics.FEWEST_GROUPS:
        found |= {"low": np.nan, "high": np.nan}
    p = statistics.sign_flip_test(first - second, groups, seed=drawn["seed"])["p"]
    interval = statistics.interval_sign(found["low"], found["high"]) if found["n"] else ""
    clips = table.index.get_level_values("clip_id")[~np.isnan(first - second)]
    n_all_zero = sum(any((clip, row) in zero for row in (*a, *b)) for clip in clips)
    found.pop("n_undefined")
    return found | {"p": p, "interval": interval, "n_all_zero": n_all_zero}


def _printed() -> dict[tuple[str, str], dict[str, float]]:
    """The paper's printed means by (level, metric), and what follows from them for the cost."""
    by_metric = paper().groupby(["level", "metric"])
    means = {key: dict(zip(part["row"], part["paper"], strict=True)) for key, part in by_metric}
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
        p = table["p"].where(once).astype(float)
        holm = dict(zip(asked[once], statistics.holm(p)[once.to_numpy()], strict=True))
        table.loc[family, "p_holm"] = asked[family].map(holm).astype(float)
        for i in p.index[p.notna() & decides]:
            least = p.where(p.index != i, statistics.smallest_p(int(table.loc[i, "n_groups"])))
            same = family & (asked == asked[i])
            table.loc[same, "smallest_p"] = statistics.holm(least)[i]
    return table


def claims(
    study: Study, *, clips: Clips = "all", numbers: Collection[int] = tuple(STATEMENTS)
) -> pd.DataFrame:
    """Judge the paper's claims, or some of them, by their `comparisons`.

    Returns
    -------
    DataFrame
        claim, statement; verdict ("holds", "does not hold", "undecided"); stands (whether the
        corrected p say the same as the intervals; of a claim that does not hold, one is enough;
        None for one that is undecided); at_equal_area (the verdict by the same rule where every map
        removes the same areas, "" if not asked); of the comparisons that decide: n_comparisons,
        n_as_claimed, n_against, n_undecided, n_not_measured, n_small (corrected p below .05),
        n_printed (by the paper), n_agree (printed as claimed).
    """
    return judged(comparisons(study, clips=clips, numbers=numbers))


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """Make `claims` of `comparisons`."""
    lines = []
    for number, part in table.groupby("claim", sort=False):
        deciding, equal = part[part["decides"]], part[part["metric"].str.startswith("area_matched")]
        verdict, small = _verdict(deciding["result"]), deciding["p_holm"] < ALPHA
        against = small & (deciding["result"] == AGAINST)
        asked = len(equal) and not (equal["result"] == MISSING).all()
        line = {"claim": number, "statement": STATEMENTS[number], "verdict": verdict}
        line["stands"] = {HOLDS: bool(small.all()), DOES_NOT: bool(against.any())}.get(verdict)
        line |= {"at_equal_area": _verdict(equal["result"]) if asked else ""}
        line |= {"n_comparisons": len(deciding)}
        for result in (AS_CLAIMED, AGAINST, UNDECIDED, MISSING):
            line[f"n_{result.replace(' ', '_')}"] = int((deciding["result"] == result).sum())
        agrees = deciding["paper_agrees"].dropna().astype(bool)
        line |= {"n_small": int(small.sum()), "n_printed": len(agrees), "n_agree": agrees.sum()}
        lines.append(line)
    return pd.DataFrame(lines, columns=list(lines[0]) if lines else ["claim", "verdict"])


def _verdict(results: pd.Series) -> str:
    """The one place where what intervals say becomes what a claim is."""
    if (results == AGAINST).any():
        return DOES_NOT
    return HOLDS if (results == AS_CLAIMED).all() else UNDECIDED


def settled(study: Study, how: str) -> tuple[Study, Study, list[int]]:
    """The study before and after one thing is settled differently, and the claims it can change.

    Parameters
    ----------
    study : Study
    how : str
        "samples": rows of many more samples in their methods' place, on clips that have both
        (claims on methods alone). "absolute": |E| located in place of E+ (on localisation alone).
        "refiled": GradientSHAP as a perturbation method (on families). Or one of
        `Study.alternatives` (no claim).

    Raises
    ------
    ValueError
        For another change.
    """
    deciding = COMPARISONS[COMPARISONS["decides"]]
    if how in study.alternatives:
        return study, study.alternatives[how], []
    if how == "samples":
        swaps = many_samples(study)
        before = study.keep(clips=finished(study, [*swaps, *swaps.values()]) if swaps else [])
        swapped = {}
        for name in (*SCORED, "explanations"):
            table = getattr(before, name)
            table = table[~table["row"].isin(swaps.values())]
            swapped[name] = table.assign(row=table["row"].replace(swaps))
        needed = [{*a, *b} for a, b in (sides(study, *pair) for pair in deciding[PAIR].to_numpy())]
        by_claim = (
            pd.Series(needed, deciding["claim"]).groupby(level=0).agg(lambda x: set.union(*x))
        )
        fits = [rows & {*swaps.values()} and rows <= {*methods(study)} for rows in by_claim]
        numbers = by_claim.index[np.array(fits, dtype=bool)].tolist()
        return before, dataclasses.replace(before, **swapped), numbers
    if how == "absolute":
        located, back = study.human_centric, {other: level for level, other in ABSOLUTE.items()}
        other = located[located["level"].isin(back)]
        same = located[located["level"].isin(ABSOLUTE) & located["clip_id"].isin(other["clip_id"])]
        fits = deciding["metric"].isin(["iou", "auc"]).groupby(deciding["claim"]).all()
        after = dataclasses.replace(study, human_centric=other.replace({"level": back}))
        return dataclasses.replace(study, human_centric=same), after, fits.index[fits].tolist()
    if how == "refiled":
        moved = study.rows["family"].mask(study.rows["of"] == "gradient_shap", "perturbation")
        families = COMPARISONS[PAIR].isin([name for name in GROUPS if name != "others"])
        numbers = COMPARISONS.loc[families.any(axis=1), "claim"].unique().tolist()
        return study, dataclasses.replace(study, rows=study.rows.assign(family=moved)), numbers
    known = ", ".join(("samples", "absolute", "refiled", *study.alternatives))
    raise ValueError(f"how is {how!r}; expected one of {known}")


def claims_again(study: Study, how: str) -> pd.DataFrame:
    """Do the verdicts stay where one thing is `settled` differently, or on "hits" alone?

    Returns
    -------
    DataFrame
        claim, statement, before and after (verdicts), n_comparisons (that decide), n_changed (of
        them: with another result), n_turned (of these: from one side to the other), n and n_groups
        (most clips and sequences after). Empty where it is not measured.
    """
    columns = ["claim", "statement", "before", "after", "n_comparisons", "n_changed", "n_turned"]
    columns += ["n", "n_groups"]
    pair, numbers, clips = (study, study), list(STATEMENTS), "hits"
    if how != "hits":
        *pair, numbers = settled(study, how)
        clips = "all"
    if not numbers:
        return pd.DataFrame(columns=columns)
    before = comparisons(pair[0], numbers=numbers)
    after = comparisons(pair[1], numbers=numbers, clips=clips)
    if any((part["result"] == MISSING).all() for part in (before, after)):
        return pd.DataFrame(columns=columns)
    table = judged(before).rename(columns={"verdict": "before"})
    both = before.assign(after=after["result"])[before["decides"]]
    both["n_changed"] = both["result"] != both["after"]
    both["n_turned"] = both["n_changed"] & ~both[["result", "after"]].isin(
        [UNDECIDED, MISSING]
    ).any(axis=1)
    counts = both.groupby("claim")[["n_changed", "n_turned"]].sum().reset_index()
    table = table.merge(counts, on="claim").assign(after=judged(after)["verdict"])
    return table.assign(n=after["n"].max(), n_groups=after["n_groups"].max())[columns]


def changes(
    study: Study,
    how: str,
    table: str,
    metrics: Sequence[str],
    *,
    level: str = "clip",
) -> pd.DataFrame:
    """How scores of the main rows change where one thing is `settled` differently.

    Returns
    -------
    DataFrame
        row, label, level, metric, mean and mean_after over the clips that have both, difference
        (after - before) with low and high, n, n_groups; rank and rank_after among the methods, over
        the clips that all have. Rows without such clips are left out.
    """
    before, after, _ = settled(study, how)
    lines = []
    for metric in metrics:
        one, two = (pivot(part, table, level, metric, main_rows(part)) for part in (before, after))
        keys = [row for row in methods(study) if row in one and row in two]
        shared = one[keys].dropna().index.intersection(two[keys].dropna().index)
        ascending = direction(metric) == LOWER if metric in METRICS else False
        means = (part.loc[shared, keys].mean() for part in (one, two))
        ranks = [mean.rank(ascending=ascending, method="min") for mean in means]
        for row in (row for row in one if row in two):
            both = pd.DataFrame({"mean": one[row], "mean_after": two[row]}).dropna()
            if both.empty:
                continue
            groups = both.index.get_level_values("sequence")
            pair = both["mean_after"], both["mean"], groups
            found = statistics.paired_difference(*pair, **options(study))
            line = {"row": row, "label": labels(study)[row], "level": level, "metric": metric}
            line |= both.mean().to_dict() | found
            lines.append(line | {"rank": ranks[0].get(row), "rank_after": ranks[1].get(row)})
    columns = ["row", "label", "level", "metric", "mean", "mean_after", "difference", "low", "high"]
    return pd.DataFrame(lines, columns=[*columns, "n", "n_groups", "rank", "rank_after"])


def contrasts(study: Study, table: str, *, clips: Clips = "all") -> pd.DataFrame:
    """Comparisons between methods that the claims call for, as chapters show them (`PLANNED`).

    Returns
    -------
    DataFrame
        As `statistics.compare`, with contrast ("LIME - KernelSHAP"); Holm over the lines of the
        table. A comparison with a method that is not there is left out.
    """
    scored, named, parts = scores(study.keep(clips=clips), table), labels(study), []
    for c in PLANNED[PLANNED["table"] == table].itertuples():
        rows = sides(study, c.first, c.second)
        if all(rows):
            part = scored[(scored["level"] == c.level) & (scored["metric"] == c.metric)]
            found = statistics.compare(part, [rows], **options(study))
            words = [
                GROUPS.get(side) or " and ".join(named[m] for m in side.split())
                for side in (c.first, c.second)
            ]
            parts.append(found.assign(contrast=" - ".join(words)))
    return statistics.corrected(pd.concat(parts, ignore_index=True)) if parts else pd.DataFrame()


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
    """Compare rows (by default the methods) with reference rows, or any others, paired by clip.

    Returns
    -------
    DataFrame
        As `statistics.compare`, the reference second, with label (of the first) and n_all_zero
        (clips on which either map has no positive voxel). Holm over all lines.
    """
    rows = methods(study) if rows is None else rows
    pairs = [(row, other) for other in references for row in rows]
    return _paired(study.keep(clips=clips), pairs, [(table, metric) for metric in metrics], level)


def against_variants(
    study: Study,
    changes: dict[str, object],
    *,
    metrics: Sequence[tuple[str, str]] = (
        *(("human_centric", "auc"), ("model_centric", "deletion")),
        ("model_centric", "area_matched_deletion"),
    ),
) -> pd.DataFrame:
    """Compare methods with their variants that change one thing, on the clips that both have.

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
        As `against`, the variant second; Holm over the lines of a metric.
    """
    pairs = list(_variants_with(study, changes).items())
    parts = [_paired(study, pairs, [metric], "clip") for metric in metrics]
    return pd.concat(parts, ignore_index=True)


def _paired(
    study: Study, pairs: Sequence[tuple[str, str]], metrics: Sequence[tuple[str, str]], level: str
) -> pd.DataFrame:
    """Compare rows in pairs, where both are there, as one family."""
    zero, parts = set(all_zero(study)), []
    for table, metric in metrics:
        part = scores(study, table)
        part = part[(part["level"] == level) & (part["metric"] == metric)]
        there = set(part["row"])
        asked = [([a], [b]) for a, b in pairs if a in there and b in there]
        found = statistics.compare(part, asked, **options(study))
        defined = part.dropna(subset="value").groupby("row")["clip_id"].agg(set)
        both = [(a, b, defined[a] & defined[b]) for (a,), (b,) in asked]
        flagged = [sum((c, a) in zero or (c, b) in zero for c in clips) for a, b, clips in both]
        parts.append(found.assign(n_all_zero=flagged))
    found = statistics.corrected(pd.concat(parts, ignore_index=True))
    found.insert(1, "label", found["first"].map(labels(study)))
    return found


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
        choice; how ("row", "level", "run"); alternative (its setting, level, or name); table,
        level, metric; n clips and n_groups sequences of the ranking under the alternative; tau,
        Kendall's, of the two rankings (1: the same); tau_by_chance, the mean tau of the ranking
        with itself when its sequences are drawn anew (twice, for a run on other clips), and
        tau_low, which 19 of 20 draws reach; best and best_after (rows); flips ("a b; ...": pairs
        whose order turns), n_flips, n_pairs.
    """
    keys, asked = methods(study), []  # choice, how, alternative, ranking, scores before and after
    largest, swaps = many_samples(study), {}
    for line in variants(study).itertuples():
        name = next(iter(line.changes), "")
        if len(line.changes) == 1 and name in OPEN and (name != "n_samples" or line.row in largest):
            what = name if name == "n_samples" else f"{name} {line.changes[name]}"
            swaps.setdefault((OPEN[name], what), {})[line.of] = line.row
    for (choice, what), swap in swaps.items():
        for ranking in RANKINGS:
            found = pivot(study, *ranking, [*keys, *swap.values()])
            if {*keys, *swap.values()} <= set(found):
                found = found.dropna()
                after = found[[swap.get(m, m) for m in keys]].set_axis(keys, axis=1)
                asked.append((choice, "row", what, ranking, found, after))
    for choice, levels in OPEN_LEVELS:
        for (level, other), metric in itertools.product(levels.items(), ("iou", "auc")):
            pair = [
                pivot(study, "human_centric", at, metric, keys).dropna() for at in (level, other)
            ]
            if other != "frame_any":  # which differs in the clips that have a score at all
                shared = pair[0].index.intersection(pair[1].index)
                pair = [part.loc[shared] for part in pair]
            ranking = "human_centric", level, metric
            asked.append((choice, "level", " ".join(levels.values()), ranking, *pair))
    for name, run in study.alternatives.items():
        given = {*next(iter(run.manifests.values()))["alternative"]["changes"]} & OPEN.keys()
        for choice, ranking in itertools.product((OPEN[x] for x in given), RANKINGS):
            before, after = (pivot(part, *ranking, keys).dropna() for part in (study, run))
            if "masks" in given:  # more clips, beside the study's
                after = pd.concat([before, after])
            else:
                homes = [part.index.get_level_values("sequence") for part in (before, after)]
                before, after = before[homes[0].isin(homes[1])], after[homes[1].isin(homes[0])]
            if after.index.isin(before.index).all():
                before = before.loc[after.index]  # the study's own clips: then clip by clip
            asked.append((choice, "run", name, ranking, before, after))
    lines = []
    for choice, how, name, ranking, before, after in asked:
        measured = {*keys} <= set(before.columns) & set(after.columns)
        if measured and keys and len(before) and len(after):
            line = {"choice": choice, "how": how, "alternative": name}
            line |= dict(zip(("table", "level", "metric"), ranking, strict=True))
            lines.append(line | ranking_change(before[keys], after[keys], ranking[2]))
    return pd.DataFrame(lines)


def ranking_change(before: pd.DataFrame, after: pd.DataFrame, metric: str) -> dict[str, object]:
    """Compare two rankings of the same methods: n to n_pairs of `sensitivity`.

    Parameters
    ----------
    before, after : DataFrame
        Scores: index (clip_id, sequence), a column a method, no NaN. The clips may differ.
    metric : str
        Tells which way is better.
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
