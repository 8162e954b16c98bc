"""What a user should take from a published study: sentences that the data choose.

Each function looks at one question and gives one sentence, or none where the study cannot answer.
Whether a sentence warns or reassures is read from intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vad_helpers.attribution.convergence import AGREEING
from vad_helpers.metrics import statistics
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.metrics.runtime import alike_timed
from vad_helpers.pages import practice
from vad_helpers.pages.spelling import share, with_interval
from vad_helpers.store import (
    faithfulness,
    networks,
    rejudged,
    sensitivity,
    signs,
    study,
    verdicts,
)
from vad_helpers.store.published import Published
from vad_helpers.store.verdicts import Judged

LEAKY = "split_by_clip"
DRAWS = (sensitivity.SAMPLES, sensitivity.SEED)
"""What is drawn: the paper does not print it either, but it is no way to measure."""
FIRM = 0.95
"""Share of resamples in which a method must come first to be called firmly the best."""


def lessons(
    found: Published, judged: Sequence[Judged], varied: pd.DataFrame
) -> dict[str, list[str]]:
    """Say in Markdown sentences what follows from the study, by what they are about.

    Parameters
    ----------
    found : Published
    judged : sequence of Judged
        The claims' verdicts.
    varied : DataFrame
        As `study.sensitivities`.
    """
    localised = ("human_centric", "auc", "localisation at clip level (AUC)")
    deleted = ("model_centric", "area_matched_deletion", "deletion at equal area")
    listed = {
        "": [practice.in_practice(found)],
        "What was explained": [detector(found), explained(found), split(found)],
        "The paper's claims": [claims(judged), equal_area(judged)],
        "Where maps point": [
            *(motion(found), moving(found), learnt(found), signed(found)),
            *(firmest(found, *localised), practice.scenes(found)),
        ],
        "Whether they follow the network": [
            *(flatness(found), beyond_gap(found), firmest(found, *deleted)),
        ],
        "Steadiness, samples, cost, open choices": [
            *(steadiest(found), converged(found), cheapest(found), sensitive(varied)),
        ],
    }
    said = {title: [line for line in lines if line] for title, lines in listed.items()}
    return {title: lines for title, lines in said.items() if lines}


def claims(judged: Sequence[Judged]) -> str:
    """Count the verdicts, and how many of them stand after Holm's correction."""
    counts = pd.Series([j.verdict for j in judged]).value_counts()
    spelled = ((verdicts.HOLDS, "hold"), (verdicts.DOES_NOT, "do not hold"),
               (verdicts.UNDECIDED, "are undecided"))  # fmt: skip
    words = ", ".join(f"{counts.get(verdict, 0)} {words}" for verdict, words in spelled)
    text = f"**Claims.** Of the paper's {len(judged)} claims, on these data {words}."
    standing = [
        f"{sum(bool(j.stands) for j in judged if j.verdict == verdict)} of the "
        f"{counts[verdict]} that {words}"
        for verdict, words in spelled[:2]
        if verdict in counts
    ]
    if not standing:
        return text
    return (
        f"{text} After Holm's correction over the comparisons of all claims, "
        f"{' and '.join(standing)} still stand."
    )


def equal_area(judged: Sequence[Judged]) -> str:
    """Which verdicts on faithfulness become others where every map removes the same areas?"""
    changed = [j for j in judged if j.at_equal_area not in ("", j.verdict)]
    if not changed:
        return ""
    opposite = {verdicts.HOLDS: verdicts.DOES_NOT, verdicts.DOES_NOT: verdicts.HOLDS}
    turned = [j for j in changed if opposite.get(j.verdict) == j.at_equal_area]
    # What turns into its opposite comes first.
    ordered = [*turned, *(j for j in changed if j not in turned)]
    lead = "turns the answer" if turned else "gives other verdicts"
    listed = "; ".join(
        f"claim {j.claim.number}: “{j.verdict}” on the threshold axis, “{j.at_equal_area}” at "
        "equal area"
        for j in ordered
    )
    of = sum(bool(j.at_equal_area) for j in judged)
    return (
        f"**Equal area {lead}** in {len(turned) or len(changed)} of {of} claims on faithfulness. "
        f"By the same rule, {listed}. Do not call a method faithful by the threshold axis alone."
    )


def beyond_gap(found: Published) -> str:
    """Do a few scattered voxels lower p by more than the whole baseline does?"""
    table = faithfulness.beyond_gap(found)
    table = table[table["method"].isin(study.methods(found))]
    often = table[table["n_beyond"] > table["n_clips"] / 2]
    if often.empty:
        return ""
    listed = ", ".join(
        f"{line.label} on {line.n_beyond} of {line.n_clips} clips" for line in often.itertuples()
    )
    most = often.loc[(often["deletion"] - often["gap"]).idxmax()]
    return (
        f"**Nor by equal area alone.** There {listed} lower p by more than the whole baseline does "
        f"({most['label']}: by {most['deletion']:.3f}, the baseline by {most['gap']:.3f}). "
        "Scattered voxels make an input unlike any in training, and part of the score is how well "
        "a map finds voxels that upset the network. Read both axes, and both beside the gap."
    )


def explained(found: Published) -> str:
    """How many of the explained clips does the network miss, and what does a blur do to them?"""
    asked = faithfulness.gaps(found)
    if asked.empty:
        return ""
    missed, raised = int((asked["p_clip"] < study.CALLED_FROM).sum()), int((asked["gap"] < 0).sum())
    by_fold = networks.performance(found)
    by_fold = by_fold[by_fold["scene"].eq("both") & by_fold["part"].str.startswith("fold ")]
    weak = by_fold.loc[by_fold["auc_low"] <= verdicts.CHANCE, "part"]
    chance = f"; the network of {' and '.join(weak)} is not shown to beat chance"
    chance = chance if len(weak) else ""
    if not (missed or raised or chance):
        return ""
    return (
        f"**What is explained.** Of {len(asked)} clips, all of which hold an anomaly, the network "
        f"misses {missed} (p below one half), and on {raised} its p rises when the clip is "
        f"blurred{chance}. A map of such a clip has no right decision to explain: read "
        "localisation and deletion on the clips that are called anomalous first."
    )


def detector(found: Published) -> str:
    """Compare the networks with the paper's."""
    table = networks.performance(found).set_index(["part", "scene"])
    name = networks.pooled_name(found)
    if (name, "both") not in table.index:
        return ""
    pooled, paper = table.loc[name, "both"], networks.PAPER_PERFORMANCE
    parts = []
    for name, words in (("accuracy", "accuracy"), ("auc", "AUC")):
        low, high, bar = pooled[f"{name}_low"], pooled[f"{name}_high"], paper[name]
        place = "not told apart from"
        if low > bar or high < bar:
            place = "above" if low > bar else "below"
        parts.append(
            f"{words} {pooled[name]:.3f} [{low:.3f}, {high:.3f}] ({place} the paper's {bar})"
        )
    return (
        f"**The networks.** On sequences they never saw: {' and '.join(parts)}; the paper's split "
        "and class balance are not known."
    )


def split(found: Published) -> str:
    """What is it worth to have seen other clips of the tested sequences?"""
    both = networks.alternative_performance(found).set_index("alternative")
    if LEAKY not in both.index:
        return ""
    seen = both.loc[LEAKY]
    fair = both.loc[[""]].set_index("part").loc[seen["part"]]
    spelled = [
        f"AUC {line['auc']:.3f} [{line['auc_low']:.3f}, {line['auc_high']:.3f}], accuracy "
        f"{line['accuracy']:.3f}"
        for line in (seen, fair)
    ]
    if seen["auc_low"] > fair["auc_high"]:
        advice = "Ask of any figure how the clips were split."
    elif seen["auc_high"] < fair["auc_low"]:
        advice = "Here it did not help."
    else:
        advice = "The intervals overlap: this does not show what it is worth."
    return (
        f"**The split** ({seen['part']}). The same recipe, tested on clips of sequences that it "
        f"has seen: {spelled[0]}; on sequences that it has not seen: {spelled[1]}. {advice}"
    )


def motion(found: Published) -> str:
    """Does plain frame difference localise better than explanations?"""
    return _motion(
        found,
        ("human_centric", "auc"),
        "**Ask for the motion baseline.** Plain frame difference, which never saw the network, "
        "localises better than {n} of {of} methods (clip AUC){rest}. A localisation score alone "
        "does not show that an explanation explains.",
        "**Motion baseline.** Plain frame difference localises better than {n} of {of} methods "
        "(clip AUC){rest}.",
    )


def moving(found: Published) -> str:
    """Among moving voxels, do explanations tell the anomaly from the walkers?

    Judged by movers, whose change exceeds rounding, as soon as the methods have such scores; until
    then by the protocol's rule, with what is known of its weakness.
    """
    if study.controlled(found):
        name, score, caution = "movers", ("controls", "mover_auc"), ""
    else:
        name, score = "moving voxels", ("human_centric", "motion_auc")
        caution = _any_change(found, "this is no verdict yet")
    return _motion(
        found,
        score,
        f"**Among {name} alone,** frame difference is still ahead of {{n}} of {{of}} methods"
        f"{{rest}}.{caution}",
        f"**Among {name} alone,** frame difference is ahead of {{n}} of {{of}} methods{{rest}}."
        f"{caution}",
    )


def _any_change(found: Published, so: str) -> str:
    """Say in how many clips the protocol's rule takes any change for motion, if that is known."""
    shares = study.moving_shares(found).dropna()
    n = shares["stricter"].sum()
    if not n:
        return ""
    return (
        f" In {n} of {len(shares)} clips any change counts as motion, noise of compression "
        f"too: {so}."
    )


def _motion(found: Published, score: tuple[str, str], most: str, otherwise: str) -> str:
    """Frame difference against the methods, and those that draw enough samples at last."""
    table, metric = score
    against = study.against_row(found, "motion", table, (metric,))
    more = study.against_row(found, "motion", table, (metric,), rivals=_sampled(found))
    return _control(against, most, otherwise, more)


def learnt(found: Published) -> str:
    """Which methods localise better than gradients of a network that has learnt nothing?"""
    against = study.against_row(found, "random_weights", "human_centric", ("auc",))
    if against.empty:
        return ""
    sides = (("b", "better"), ("a", "worse"), ("", "not told apart"))
    named = [
        (words, list(against.loc[against["better"] == side, "label"])) for side, words in sides
    ]
    n, of = len(named[0][1]), len(against)
    listed = "; ".join(f"{words}: {', '.join(labels)}" for words, labels in named if labels)
    title = "Ask what a network that has learnt nothing gives" if n <= of / 2 else "What was learnt"
    beat = "is shown" if n == 1 else "are shown"
    sampled = study.against_row(
        found, "random_weights", "human_centric", ("auc",), rivals=_sampled(found)
    )
    ahead = list(sampled.loc[sampled["better"] == "b", "label"])
    too = " too" if n else ""
    more = f" With many more samples, {' and '.join(ahead)} {_is(ahead)}{too}." if ahead else ""
    return (
        f"**{title}.** {n} of {of} methods {beat} to localise better (clip AUC) than Integrated "
        f"Gradients on a network with random weights ({listed}).{more}{_own_random(found)}"
    )


def _own_random(found: Published) -> str:
    """How methods stand against themselves on a network with random weights."""
    own = study.against_variants(found, "random")
    own = own[own["metric"] == "auc"]
    if own.empty:
        return ""
    words = {"higher": "better", "lower": "worse", "undecided": "not told apart"}
    groups = own.groupby("verdict")["label"].agg(", ".join)
    listed = "; ".join(f"{said}: {groups[side]}" for side, said in words.items() if side in groups)
    return f" Against itself on such a network, each on the clips that have both: {listed}."


def _is(labels: list[str]) -> str:
    return "is" if len(labels) == 1 else "are"


def _sampled(found: Published) -> list[str]:
    """Keys that rows of many more samples have, where there are such rows."""
    return [f"{method}{study.CONVERGED}" for method in study.methods(found)]


def signed(found: Published) -> str:
    """What becomes of localisation when the sizes of attributions count, whatever their signs?"""
    table = signs.absolute(found)
    table = table[(table["level"] == "clip") & (table["metric"] == "auc")]
    table = table[table["method"].isin(study.methods(found))]
    if table.empty:
        return ""
    rises, falls = (table["low"] > 0).sum(), (table["high"] < 0).sum()
    most = table.loc[table["difference"].abs().idxmax()]
    text = (
        f"**Signs.** Where absolute values count instead of positive ones, the clip AUC of {rises} "
        f"of {len(table)} methods is shown to rise and that of {falls} to fall, most that of "
        f"{most['label']} ({most['mean']:.3f} → {most['mean_after']:.3f})"
    )
    level = signs.ABSOLUTE["clip"]
    against = study.against_row(found, "random_weights", "human_centric", ("auc",), level=level)
    if against.empty:
        return f"{text}."
    better = list(against.loc[against["better"] == "b", "label"])
    return (
        f"{text}. So treated, {len(better)} of {len(against)} are shown to localise better than "
        "Integrated Gradients on a network with random weights, treated alike"
        + (f" ({', '.join(better)})." if better else ".")
    )


def leakage(found: Published) -> str:
    """What the share on other moving objects is of each map, of maps that know nothing too."""
    means = study.summary(found, "human_centric")
    means = means[means["metric"] == "leak"].set_index("method")
    flat = [row for row in ("constant", "random") if row in means.index]
    if not flat:
        return ""
    named = [m for m in study.methods(found) if m in means.index]
    listed = [", ".join(f"{means.loc[row, 'label']} {means.loc[row, 'mean']:.3f}" for row in rows)
              for rows in (named, flat)]  # fmt: skip
    change = _any_change(
        found, "the verdict is on this measure alone, and the leak among movers asks more strictly"
    )
    return (
        f"The share of a map on other moving voxels: {listed[0]}. It is low for maps that know "
        f"nothing too: {listed[1]}.{change}"
    )


def steadiest(found: Published) -> str:
    """Which method is steadiest, and what a map of noise makes of that."""
    best = firmest(found, "robustness", "cv", "stability over frames (C_v)")
    return " ".join(part for part in (best, steadiness(found)) if part)


def steadiness(found: Published) -> str:
    """How many methods are steadier than noise, and on how many C_v should be read."""
    against = study.against_row(found, "random", "robustness", ("cv",))
    if against.empty:
        return ""
    of, better = len(against), against["better"]
    means = study.summary(found, "robustness")
    means = means[(means["metric"] == "mauc") & (means["kind"] == "method")]
    above = means["low"] > verdicts.CHANCE
    others = ", ".join(means.loc[~above, "label"])
    return (
        f"{(better == 'b').sum()} of {of} methods are shown to be steadier (lower C_v) than a map "
        f"of noise, {(better == 'a').sum()} to be less steady. C_v does not ask whether a map "
        f"finds anything: read it only among maps above chance in mAUC, as {above.sum()} of "
        f"{len(means)} methods are shown to be" + (f" (not {others})." if others else ".")
    )


def flatness(found: Published) -> str:
    """Does a constant map win deletion and insertion, and does equal area take that away?"""
    metrics = ("deletion", "insertion", "area_matched_deletion", "area_matched_insertion")
    against = study.against_row(found, "constant", "model_centric", metrics)
    if against.empty:
        return ""
    won = against[against["better"] == "a"]
    wins = won.groupby("metric").size()
    of = against["label"].nunique()
    n, m, a, b = (int(wins.get(metric, 0)) for metric in metrics)
    words = (
        f"a constant map, which says nothing, beats {n} of {of} methods on deletion and {m} on "
        f"insertion; at equal area {a} and {b}"
    )
    if len(won):
        kept = (won["p_holm"] < verdicts.ALPHA).sum()
        words += f" ({kept} of these {len(won)} after Holm's correction)"
    words += f".{_beats_noise(found)}"
    if min(n, m) > of / 2 and max(a, b) < min(n, m):
        return (
            f"**Do not rank by deletion and insertion on the threshold axis alone:** {words} "
            "Compare at equal area too."
        )
    return f"**Flat maps.** On the threshold axis {words}"


def _beats_noise(found: Published) -> str:
    """How many methods are more faithful than a map of noise, on either axis."""
    metrics = ("deletion", "area_matched_deletion")
    against = study.against_row(found, "random", "model_centric", metrics)
    if against.empty:
        return ""
    better = against[against["better"] == "b"].groupby("metric")["label"].agg(list)
    spelled = []
    for metric, axis in zip(metrics, ("on the threshold axis", "at equal area"), strict=True):
        names = better.get(metric, [])
        listed = f" ({', '.join(names)})" if 0 < len(names) <= 3 else ""
        spelled.append(f"{len(names)}{listed} {axis}")
    return (
        f" Of {against['label'].nunique()} methods, those shown to beat a map of noise on "
        f"deletion number {' and '.join(spelled)}."
    )


def _control(against: pd.DataFrame, most: str, otherwise: str, more: pd.DataFrame) -> str:
    if against.empty:
        return ""
    n, of = int((against["better"] == "a").sum()), len(against)
    behind = against.loc[against["better"] == "b", "label"]
    rest = f", worse than {', '.join(behind)}" if len(behind) else ""
    open_ones = int((against["better"] == "").sum())
    rest += f", not told apart from {open_ones}" if open_ones else ""
    if len(more):
        behind = ", ".join(more.loc[more["better"] != "a", "label"])
        rest += " at the paper's samples" + (
            f", but is not shown to be ahead of {behind}"
            if behind
            else ", and than the rows of many more samples too"
        )
    return (most if n > of / 2 else otherwise).format(n=n, of=of, rest=rest)


def firmest(found: Published, table: str, metric: str, what: str) -> str:
    """Which method is best by one metric, and how firmly."""
    firm = study.firm_ranks(found, table, "clip", metric)
    if firm.empty:
        return ""
    first = firm.iloc[0]
    missing = study.unranked(found, table, "clip", metric)
    left_out = f" (not ranked, having too few clips: {', '.join(missing)})" if missing else ""
    if pd.isna(first["p_best"]):
        return f"**Best in {what}:** {first['label']} on these clips; one sequence tells no more."
    if first["p_best"] >= FIRM:
        return (
            f"**Best in {what}:** {first['label']}, first in {share(first['p_best'])} of "
            f"resamples{left_out}."
        )
    others = firm[(firm["rank_low"] <= 1) & (firm["label"] != first["label"])]["label"]
    return (
        f"**No method is firmly the best in {what}:** {first['label']} leads, in "
        f"{share(first['p_best'])} of resamples"
        + (f"; {', '.join(others)} could as well{left_out}." if len(others) else f"{left_out}.")
    )


def converged(found: Published) -> str:
    """Do LIME and KernelSHAP change when they draw many more samples, and are these enough?"""
    table = rejudged.convergence(found)
    table = table[table["metric"] == "auc"]
    if table.empty:
        return ""
    parts, moved = [], False
    for line in table.itertuples():
        changed = statistics.verdict(line.low, line.high) != statistics.UNDECIDED
        moved |= changed
        parts.append(
            f"{line.label} {line.mean:.3f} → {line.mean_after:.3f}, rank {line.rank:.0f} → "
            f"{line.rank_after:.0f}" + ("" if changed else " (undecided)")
        )
    advice = (
        "Sample until two seeds agree before you read such a map."
        if moved
        else "On these clips the intervals show no change."
    )
    return (
        "**Samples.** Clip AUC from the paper's number of samples to many more: "
        f"{'; '.join(parts)}. {enough(found)} {advice}"
    )


def enough(found: Published) -> str:
    """Whether two seeds agree at the larger number, where that was measured."""
    checked = found.extras.get("convergence")
    if checked is None or checked.empty:
        return "Whether two seeds agree there was not checked."
    drawn = checked.groupby(["fold", "clip_id", "method"])["n_samples"]
    first, last = checked.loc[drawn.idxmin()], checked.loc[drawn.idxmax()]
    agreeing = int(last["converged"].astype(bool).sum())
    seen = _correlations(found, last)
    words = (
        f"Two seeds agree there (their maps correlate by {AGREEING} or more) in {agreeing} of "
        f"{len(last)} checks ({seen})"
    )
    enough = "it is enough where it was checked"
    if agreeing < len(last):
        enough = "in the others it is not enough"
    return f"{words}: {enough}. With few samples: {_correlations(found, first)}."


def _correlations(found: Published, checked: pd.DataFrame) -> str:
    """Write how two seeds' maps correlate, and at which number of samples, method by method."""
    return "; ".join(
        f"{study.labels(found).get(method, method)} "
        + ", ".join(f"{line.correlation:.3f} at {line.n_samples}" for line in part.itertuples())
        for method, part in checked.groupby("method")
    )


def cheapest(found: Published) -> str:
    """Which method is cheapest among those not told apart from the best by clip AUC?"""
    cost = verdicts.cost_scores(found.explanations, found.human_centric)
    seconds = cost[cost["metric"] == "seconds"].groupby("method")["value"].mean()
    # On the clips that they share: a method with few clips may have the easy ones.
    wide = study.ranked_scores(found, "human_centric", "clip", "auc")
    keys = [m for m in wide.columns if m in seconds.index]
    if wide.empty or not keys:
        return ""
    wide = wide[keys]
    best = wide.mean().idxmax()
    equal = [m for m in keys if m == best or not _behind(wide, m, best, found)["low"] > 0]
    cheap = seconds[equal].idxmin()
    names, spent = study.labels(found), {m: _spent(found, m, seconds[m]) for m in keys}
    if cheap == best:
        return (
            f"**Cost.** {names[best]} has the highest clip AUC, and nothing cheaper "
            f"({spent[best]} a clip) comes as close as the intervals can tell."
            f"{_references(found, seconds)}"
        )
    behind = _behind(wide, cheap, best, found)
    ahead = with_interval(behind["difference"], behind["low"], behind["high"], digits=3)
    return (
        f"**Cost.** {names[cheap]} ({spent[cheap]} a clip) is not told apart by clip AUC "
        f"from {names[best]} ({spent[best]}), which is ahead by {ahead}."
        f"{_learnt_nothing(found, cheap, names)}{_references(found, seconds)}"
    )


def _learnt_nothing(found: Published, method: str, names: dict[str, str]) -> str:
    """Say so where a method is not shown to beat gradients of a network with random weights."""
    against = study.against_row(found, "random_weights", "human_centric", ("auc",), rivals=[method])
    if against.empty or against["better"].iloc[0] == "b":
        return ""
    return (
        f" But {names[method]} is not shown to localise better than Integrated Gradients on a "
        "network with random weights either: cheap is not enough."
    )


def _references(found: Published, seconds: pd.Series) -> str:
    """What more samples cost and reach, and the motion baseline, which costs next to nothing."""
    means = study.summary(found, "human_centric")
    means = means[(means["level"] == "clip") & (means["metric"] == "auc")].set_index("method")
    reached = [
        f"{means.loc[m, 'label']} reaches {means.loc[m, 'mean']:.3f} in "
        f"{_spent(found, m, seconds[m])}"
        for m in _sampled(found)
        if m in means.index and m in seconds.index
    ]
    if "motion" in means.index:
        motion = means.loc["motion"]
        reached.append(f"{motion['label']}, which asks no network, reaches {motion['mean']:.3f}")
    return f" {'; '.join(reached)}." if reached else ""


def _behind(wide: pd.DataFrame, method: str, best: str, found: Published) -> dict[str, float]:
    """By how much a method is behind the best one."""
    groups = wide.index.get_level_values("sequence")
    return statistics.paired_difference(wide[best], wide[method], groups, **study.options(found))


def _spent(found: Published, method: str, seconds: float) -> str:
    """Write seconds, with the precision of the maps where rows differ in it."""
    timed = alike_timed(found.explanations)
    timed = timed[timed["method"].isin(study.main_rows(found))]
    known = timed["precision"].dropna()
    if known.nunique() < 2 or not timed["method"].eq(method).any():
        return f"{seconds:.3g} s"
    return f"{seconds:.3g} s in {' and '.join(sorted(set(known[timed['method'] == method])))}"


def sensitive(varied: pd.DataFrame) -> str:
    """Which open choices change the best method of a ranking?"""
    measured = varied[varied["tau"].notna() & ~varied["choice"].isin(DRAWS)]
    if measured.empty:
        return ""
    changed = measured[measured["best"] != measured["best_after"]]
    firmly = changed[changed["tau"] < changed["tau_low"]]
    lowest = measured.loc[measured["tau"].idxmin()]
    words = (
        f"another method is best in {len(changed)} of {len(measured)} rankings, and in "
        f"{len(firmly)} of these the order turns more than in 19 of 20 redraws of the sequences. "
        "It turns most under "
        f"“{lowest['alternative']}” ({lowest['choice'].lower()}, "
        f"{METRICS[lowest['metric']].name}, {lowest['level']} level: "
        f"Kendall's tau {lowest['tau']:.2f}"
    )
    if not np.isnan(lowest["tau_by_chance"]):
        words += f"; redraws of the sequences: {lowest['tau_by_chance']:.2f} on average"
    n_choices = measured["choice"].nunique()
    return f"**Open choices.** Where {n_choices} choices were varied, {words})."
