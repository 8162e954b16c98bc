"""The paper's fourteen claims, judged, and every other comparison that a study is asked for.

A claim is about the paper's text; its own printed table sometimes says otherwise. Each has
comparisons that decide it, fixed beforehand. It *holds* if the interval of every one lies on the
claimed side, *does not hold* if one lies on the other side, and is *undecided* otherwise: also
where a comparison is not measured, or on fewer than four sequences. Beside the intervals stands the
p of the sign-flip test, after Holm's correction.

IoU and F1 order clips alike, so that IoU and AUC decide on localisation. A family is compared by
the mean of its methods, clip by clip. "Best" and "worst" mean better or worse than every other
method, each compared singly.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import kendalltau, norm

from vad_helpers.metrics.catalog import HIGHER, LOWER, METRICS, direction
from vad_helpers.tables import statistics, summary
from vad_helpers.tables.schema import Study, packaged

HOLDS, DOES_NOT, UNDECIDED = "holds", "does not hold", "undecided"
AS_CLAIMED, AGAINST, MISSING = "as claimed", "against", "not measured"
ALPHA = 0.05
"""Level that p-values are compared with after the correction."""
DETECTABLE = (norm.ppf(0.975) + norm.ppf(0.8)) / norm.ppf(0.975)
"""Smallest difference found with a power of .8, in halves of an interval of 95 %."""
GROUPS = dict(packaged("paper/groups").to_numpy())
"""Sides that name no methods, beside "blurred" and "black": methods that have a variant with the
black baseline, and these variants."""
STATEMENTS = dict(packaged("paper/claims")[["claim", "statement"]].to_numpy())
"""Number -> what the paper claims, in our words."""
COMPARISONS = packaged("paper/claims_comparisons")
"""What the claims rest on, in their order: claim, table, level, metric, first, second (methods, or
a group), claimed ("higher", "lower": the first side), each (every method of the first side against
every one of the second, instead of the means), decides (others are shown beside)."""
BY_GAIN = ("srg", "srg_blocks")
"""Faithfulness by SRG, beside the paper's own."""
PLANNED = packaged("paper/planned_comparisons")
"""For the chapters: one line a claim and metric, several methods as their mean."""


def sides(study: Study, first: str, second: str) -> tuple[list[str], list[str]]:
    """Rows on both sides of a comparison; an empty side if one that is named is not there."""
    if first == "blurred":
        black = {of: rows[0] for of, rows in _variants_with(study, {"baseline": "black"}).items()}
        return list(black), list(black.values())
    family = study.rows[study.rows["kind"] == "method"].set_index("row")["family"]
    # A claim is about the methods that it knew.
    family = family[family.index.isin(summary.IN_PAPER)]

    def members(side: str) -> list[str]:
        if side in GROUPS:
            kept = family.index[family == side.split("_")[0]]
            return [row for row in kept if side != "perturbation_but_lime" or row != "lime"]
        return side.split() if set(side.split()) <= set(family.index) else []

    taken = members(first)
    rest = [row for row in family.index if row not in taken]
    return taken, rest if second == "others" else members(second)


def _variants_with(study: Study, changes: dict[str, object]) -> dict[str, list[str]]:
    """Method's row -> its variants, or reference, with these changes: several draws, if any."""
    lines = summary.variants(study)
    found = lines.loc[[changes == own for own in lines["changes"]]].groupby("of")["row"].agg(list)
    return {row: found[row] for row in summary.methods(study) if row in found}


def _compared(
    study: Study,
    table: str,
    level: str,
    metric: str,
    pairs: Sequence[tuple[Sequence[str], Sequence[str]]],
    clips: Collection[str] | None = None,
) -> pd.DataFrame:
    """Compare sides whose rows are there: as `statistics.compare`, with label and n_all_zero."""
    part = summary.scores(study, table)
    part = part[(part["level"] == level) & (part["metric"] == metric)]
    part = part if clips is None else part[part["clip_id"].isin(clips)]
    there = set(part["row"])
    pairs = [pair for pair in pairs if all(pair) and {*pair[0], *pair[1]} <= there]
    found = statistics.compare(part, pairs, **summary.options(study))
    defined = part.pivot(index="clip_id", columns="row", values="value").notna()
    flat = pd.MultiIndex.from_product(defined.axes).isin(summary.all_zero(study))
    flat = pd.DataFrame(flat.reshape(defined.shape), *defined.axes)
    rows = [[*a, *b] for a, b in pairs]
    found["n_all_zero"] = [int((defined[r].all(axis=1) & flat[r].any(axis=1)).sum()) for r in rows]
    found.insert(1, "label", found["first"].map(summary.labels(study)))
    return found


def comparisons(
    study: Study,
    *,
    clips: summary.Clips = "all",
    numbers: Collection[int] = tuple(STATEMENTS),
    rows: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Every comparison of the paper's claims.

    Parameters
    ----------
    study, clips
    numbers : collection of int
        The claims: the correction is over their comparisons alone.
    rows : mapping of str to str, optional
        Method -> row that is measured in its place, such as a variant of many more samples
        ({"lime": "lime_converged"}). With it, only clips that have all of these rows.

    claim; first, second (methods, apart by spaces); table, level, metric; claimed ("higher" or
    "lower": the first side); decides; difference (first - second), low, high (NaN on fewer than
    four sequences), n, n_groups, p; interval ("higher", "lower", "undecided", "" if not measured);
    result ("as claimed", "against", "undecided", "not measured"); n_all_zero (clips on which a map
    of either side has no positive voxel, so that its score is a convention); paper_difference,
    paper_agrees (None where the paper prints no such number); p_holm (over what decides, or over
    what does not; a question of several claims counts once); smallest_p: the smallest p_holm that
    the number of sequences allows beside the other comparisons, NaN for what decides nothing.
    """
    rows = rows or {}
    chosen = clips if isinstance(clips, str) else tuple(sorted(clips))
    asked = "comparisons", chosen, tuple(sorted(numbers)), tuple(sorted(rows.items()))
    if asked in study.memo:
        return study.memo[asked].copy()
    kept = set(study.keep(clips=clips).evaluation["clip_id"])
    kept &= set(summary.finished(study, [*rows, *rows.values()])) if rows else kept
    printed = summary.paper().pivot(index="row", columns=["level", "metric"], values="paper")
    worth = (printed["clip", "auc"] - summary.CHANCE) / printed["clip", "seconds"]
    printed["clip", "auc_per_second"] = worth
    nothing = dict.fromkeys(("difference", "low", "high", "p"), np.nan)
    nothing |= {"n": 0, "n_groups": 0, "n_all_zero": 0}
    lines = []
    lacking = {*BY_GAIN} - {*study.model_centric["metric"]}  # studies of before have neither
    asked_for = COMPARISONS["claim"].isin(list(numbers)) & ~COMPARISONS["metric"].isin(lacking)
    for c in COMPARISONS[asked_for].itertuples():
        first, second = sides(study, c.first, c.second)
        pairs = [([a], [b]) for a, b in itertools.product(first, second)] if c.each else []
        pairs = pairs or [(first, second)]
        swapped = [[[rows.get(row, row) for row in side] for side in pair] for pair in pairs]
        found = _compared(study, c.table, c.level, c.metric, swapped, kept)
        found = found.set_index(["first", "second"])[[*nothing, "interval"]]
        means = printed.get((c.level, c.metric), printed.iloc[:0, 0])
        for (a, b), pair in zip(pairs, swapped, strict=True):
            line = c._asdict() | {"first": " ".join(a), "second": " ".join(b)}
            line |= {**nothing, "interval": "", "result": MISSING}
            measured = tuple(map(" ".join, pair))
            if measured in found.index and found.loc[measured, "n"]:
                line |= found.loc[measured].to_dict()
                known = {c.claimed: AS_CLAIMED, UNDECIDED: UNDECIDED}
                line["result"] = known.get(line["interval"], AGAINST)
            one, two = (means.reindex(side).mean(skipna=False) for side in (a, b))
            agrees = (one > two) == (c.claimed == HIGHER) and one != two
            line["paper_difference"] = one - two
            line["paper_agrees"] = None if np.isnan(one - two) else agrees
            lines.append(line)
    table = pd.DataFrame(lines).drop(columns=["Index", "each"])
    table.loc[table["n_groups"] < statistics.FEWEST_GROUPS, ["low", "high"]] = np.nan
    study.memo[asked] = _corrected(table)
    return study.memo[asked].copy()


def _corrected(table: pd.DataFrame) -> pd.DataFrame:
    """Add p_holm and smallest_p: what decides must not pay for what is shown beside it."""
    pairs = [" - ".join(sorted(pair)) for pair in table[["first", "second"]].to_numpy()]
    asked = table["table"] + " " + table["level"] + " " + table["metric"] + ": " + pairs
    table = table.assign(p_holm=np.nan, smallest_p=np.nan)
    for decides, family in table.assign(asked=asked).groupby("decides"):
        once = family.drop_duplicates("asked").set_index("asked").astype({"p": float})
        once["p_holm"] = statistics.holm(once["p"])
        for i in np.flatnonzero(once["p"].notna() & decides):
            p = once["p"].to_numpy(copy=True)
            p[i] = statistics.smallest_p(int(once["n_groups"].iloc[i]))
            once.iloc[i, once.columns.get_loc("smallest_p")] = statistics.holm(p)[i]
        corrected = once.loc[family["asked"], ["p_holm", "smallest_p"]]
        table.loc[family.index, corrected.columns] = corrected.to_numpy()
    return table


def claims(study: Study, **options: Any) -> pd.DataFrame:
    """Judge the paper's claims by their `comparisons`, which says what the options are.

    claim, statement; verdict ("holds", "does not hold", "undecided"); stands (whether the corrected
    p say the same as the intervals; of a claim that does not hold, one is enough; None for one that
    is undecided); at_equal_area (the verdict by the same rule where every map removes the same
    areas, "" if not asked); by_srg (likewise, by SRG of voxels and of blocks together); of the
    comparisons that decide: n_comparisons, n_as_claimed, n_against, n_undecided, n_not_measured,
    n_small (corrected p below .05), n_printed (by the paper), n_agree (printed as claimed).
    """
    lines = []
    for number, part in comparisons(study, **options).groupby("claim", sort=False):
        deciding, equal = part[part["decides"]], part[part["metric"].str.startswith("area_matched")]
        verdict, small = _verdict(deciding["result"]), deciding["p_holm"] < ALPHA
        against = small & (deciding["result"] == AGAINST)
        asked = (equal["result"] != MISSING).any()
        line = {"claim": number, "statement": STATEMENTS[number], "verdict": verdict}
        line["stands"] = {HOLDS: bool(small.all()), DOES_NOT: bool(against.any())}.get(verdict)
        line["at_equal_area"] = _verdict(equal["result"]) if asked else ""
        gains = part[part["metric"].isin(BY_GAIN)]["result"]
        line["by_srg"] = _verdict(gains) if (gains != MISSING).any() else ""
        line["n_comparisons"] = len(deciding)
        for result in (AS_CLAIMED, AGAINST, UNDECIDED, MISSING):
            line[f"n_{result.replace(' ', '_')}"] = int((deciding["result"] == result).sum())
        agrees = deciding["paper_agrees"].dropna().astype(bool)
        line |= {"n_small": int(small.sum()), "n_printed": len(agrees), "n_agree": agrees.sum()}
        lines.append(line)
    return pd.DataFrame(lines)


def claims_table(study: Study, *, few: int = 10) -> pd.DataFrame:
    """The claims as a page shows them, each with the one of its comparisons that decides.

    In units of its interval: the clearest against a claim that does not hold, else the weakest for.

    Returns
    -------
    DataFrame
        claim, statement, comparison, paper (difference of the printed values), here (ours, with its
        interval), verdict (says where it rests on at most `few` clips, where the corrected p do not
        confirm it, and if undecided, the smallest true difference whose interval would exclude zero
        in four of five repetitions); "by SRG" (verdict of claims on faithfulness), where the study
        has it.
    """
    named, lines = summary.labels(study), []
    groups = {" ".join(sides(study, name, "")[0]): words for name, words in GROUPS.items()}
    both = (" ".join(side) for side in sides(study, "blurred", "black"))
    groups |= dict(zip(both, ("blurred baseline", "black baseline"), strict=True))
    compared = comparisons(study).query("decides").dropna(subset="low")
    towards = compared["claimed"].map({HIGHER: 1, LOWER: -1})
    compared["reach"] = towards * compared["difference"] / (compared["high"] - compared["low"])
    for judged in claims(study).itertuples():
        part = compared[compared["claim"] == judged.claim]
        if judged.verdict == UNDECIDED:
            part = part[part["result"] != AS_CLAIMED]
        line = {"claim": judged.claim, "statement": judged.statement, "verdict": judged.verdict}
        if len(part):
            c = part.loc[part["reach"].idxmin()]
            words = [_words(side, named, groups) for side in (c["first"], c["second"])]
            metric = METRICS[c["metric"]].name if c["metric"] in METRICS else c["metric"]
            about = f"{metric}, {c['level']}"
            line["comparison"] = f"{words[0]} \u2212 {words[1]} ({about})"
            line["paper"] = c["paper_difference"]
            line["here"] = "{difference:.3f} [{low:.3f}, {high:.3f}]".format(**c)
            line["by SRG"] = judged.by_srg
            line["verdict"] += f" ({c['n']} clips)" if c["n"] <= few else ""
            line["verdict"] += " (not after correction)" if judged.stands is False else ""
            least = DETECTABLE * (c["high"] - c["low"]) / 2
            line["verdict"] += f" (detectable: {least:.3f})" if judged.verdict == UNDECIDED else ""
        lines.append(line)
    columns = ["claim", "statement", "comparison", "paper", "here", "verdict"]
    columns += ["by SRG"] if any(line.get("by SRG") for line in lines) else []
    return pd.DataFrame(lines, columns=columns)


def _words(side: str, named: Mapping[str, str], groups: Mapping[str, str]) -> str:
    """A side for people: its group, or the names of its rows."""
    return groups.get(side) or " and ".join(named.get(row, row) for row in side.split())


def _verdict(results: pd.Series) -> str:
    """The one place where what intervals say becomes what a claim is."""
    if (results == AGAINST).any():
        return DOES_NOT
    return HOLDS if (results == AS_CLAIMED).all() else UNDECIDED


def contrasts(study: Study, table: str, *, clips: summary.Clips = "all") -> pd.DataFrame:
    """Comparisons between methods that the claims call for, as chapters show them (`PLANNED`).

    As `statistics.compare`, with contrast ("LIME - KernelSHAP"); Holm over the lines of the table.
    A comparison with a method that is not there is left out.
    """
    study, parts = study.keep(clips=clips), []
    named = summary.labels(study)
    for c in PLANNED[PLANNED["table"] == table].itertuples():
        words = (_words(side, named, GROUPS) for side in (c.first, c.second))
        found = _compared(study, table, c.level, c.metric, [sides(study, c.first, c.second)])
        parts.append(found.drop(columns="label").assign(contrast=" - ".join(words)))
    parts = [part for part in parts if len(part)] or parts[:1]
    return statistics.corrected(pd.concat(parts, ignore_index=True))


def against(
    study: Study,
    references: Sequence[str],
    table: str,
    metrics: Sequence[str],
    *,
    level: str = "clip",
    rows: Sequence[str] | None = None,
    clips: summary.Clips = "all",
) -> pd.DataFrame:
    """Compare rows (by default the methods) with reference rows, or any others, paired by clip.

    As `statistics.compare`, the reference second, with label (of the first) and n_all_zero (clips
    on which either map has no positive voxel). Holm over all lines.
    """
    rows = summary.methods(study) if rows is None else rows
    pairs = [([row], [other]) for other in references for row in rows]
    study = study.keep(clips=clips)
    parts = [_compared(study, table, level, metric, pairs) for metric in metrics]
    return statistics.corrected(pd.concat(parts, ignore_index=True))


DELETIONS = ("model_centric", "deletion"), ("model_centric", "area_matched_deletion")
VARIED = ("human_centric", "auc"), *DELETIONS
"""What variants are compared on."""


def against_variants(
    study: Study, changes: dict[str, object], *, metrics: Sequence[tuple[str, str]] = VARIED
) -> pd.DataFrame:
    """Compare methods with their variants that change one thing, on the clips that both have.

    `changes` is such as {"baseline": "black"} or {"weights": "random"} (the reference row with
    random weights counts as the variant of its method; of several draws the mean, on the clips that
    have all); `metrics` are pairs (table, metric), at clip level. As `against`, the variant second;
    Holm over the lines of a metric.
    """
    pairs = [([row], others) for row, others in _variants_with(study, changes).items()]
    parts = [_compared(study, table, "clip", metric, pairs) for table, metric in metrics]
    return pd.concat(parts, ignore_index=True)


OPEN = dict(packaged("paper/open_settings").to_numpy())
"""Setting or parameter -> the choice that the paper leaves open, which it settles."""
OPEN_LEVELS = packaged("paper/open_levels")
"""Choices that are settled in scoring: level, and that of the same scores settled differently."""
RANKINGS = list(packaged("paper/open_rankings").itertuples(index=False, name=None))
"""Which rankings are compared: table, level, metric."""


def sensitivity(study: Study) -> pd.DataFrame:
    """Do rankings of the methods depend on what the paper leaves open?

    An alternative is in the data as variants of methods, as scores at another level, or as a run
    beside the folds. Rankings are by the means over the same clips, before and after; runs on clips
    of their own are compared with the study's clips of the same sequences.

    choice; how ("row", "level", "run"); alternative (its setting, level, or name); table, level,
    metric; n clips and n_groups sequences of the ranking under the alternative; tau, Kendall's, of
    the two rankings in [-1, 1] (1: the same); best and best_after (rows); flips ("a b; ...": pairs
    whose order turns).
    """
    asked = []  # choice, how, alternative, ranking, scores before and after
    keys, largest, swaps = summary.methods(study), summary.many_samples(study), {}
    for line in summary.variants(study).itertuples():
        name = next(iter(line.changes), "")
        if len(line.changes) == 1 and name in OPEN and (name != "n_samples" or line.row in largest):
            what = name if name == "n_samples" else f"{name} {line.changes[name]}"
            swaps.setdefault((OPEN[name], what), {})[line.of] = line.row

    def ranked(part: Study, ranking: tuple[str, str, str], rows: list[str]) -> pd.DataFrame:
        return summary.pivot(part, *ranking, rows).reindex(columns=rows).dropna()

    for ((choice, what), swap), ranking in itertools.product(swaps.items(), RANKINGS):
        found = ranked(study, ranking, [*keys, *swap.values()])
        after = found[[swap.get(row, row) for row in keys]].set_axis(keys, axis=1)
        asked.append((choice, "row", what, ranking, found[keys], after))
    for line, metric in itertools.product(OPEN_LEVELS.itertuples(), ("iou", "auc")):
        levels = line.level, line.other
        before, after = (ranked(study, ("human_centric", at, metric), keys) for at in levels)
        if line.other != "frame_any":  # which differs in the clips that have a score at all
            shared = before.index.intersection(after.index)
            before, after = before.loc[shared], after.loc[shared]
        ranking = "human_centric", line.level, metric
        asked.append((line.choice, "level", line.alternative, ranking, before, after))
    for name, run in study.alternatives.items():
        given = {*next(iter(run.manifests.values()))["alternative"]["changes"]} & OPEN.keys()
        for choice, ranking in itertools.product((OPEN[x] for x in given), RANKINGS):
            before, after = (ranked(part, ranking, keys) for part in (study, run))
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
        if not keys or before.empty or after.empty:
            continue
        first, second = before.mean(), after.mean()
        best = "idxmax" if direction(ranking[2]) == HIGHER else "idxmin"
        pairs = itertools.combinations(keys, 2)
        turned = [(a, b) for a, b in pairs if (first[a] - first[b]) * (second[a] - second[b]) < 0]
        flips = "; ".join(f"{a} {b}" for a, b in turned)
        tau, n_groups = kendalltau(first, second).statistic, len(after.groupby(level="sequence"))
        line = choice, how, name, *ranking, len(after), n_groups, float(tau)
        lines.append((*line, getattr(first, best)(), getattr(second, best)(), flips))
    columns = ["choice", "how", "alternative", "table", "level", "metric", "n", "n_groups", "tau"]
    return pd.DataFrame(lines, columns=[*columns, "best", "best_after", "flips"])
