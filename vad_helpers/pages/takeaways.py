"""What a user should take from a published study: sentences that the data choose.

Each function looks at one question and gives one sentence, or none where the study cannot answer.
Whether a sentence warns or reassures is read from intervals.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from vad_helpers.metrics.catalog import METRICS
from vad_helpers.pages import pointing, practice, spending
from vad_helpers.pages.spelling import share
from vad_helpers.store import (
    faithfulness,
    networks,
    rejudged,
    sensitivity,
    study,
    verdicts,
)
from vad_helpers.store.published import Published
from vad_helpers.store.verdicts import Judged
from vad_helpers.tables.resampling import FEWEST_GROUPS

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
        "What was explained": [
            detector(found),
            trained_again(found),
            recipe(found),
            explained(found),
            split(found),
        ],
        "The paper's claims": [claims(judged), equal_area(judged)],
        "Where maps point": [
            pointing.motion(found),
            pointing.moving(found),
            pointing.centred(found),
            pointing.learnt(found),
            pointing.signed(found),
            firmest(found, *localised),
            practice.scenes(found),
        ],
        "Whether they follow the network": [
            flatness(found),
            beyond_gap(found),
            firmest(found, *deleted),
        ],
        "Steadiness, samples, cost, open choices": [
            steadiest(found),
            spending.converged(found),
            spending.cheapest(found),
            sensitive(varied),
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
    """Do the voxels that a map chooses lower p by more than the whole baseline does?"""
    table = faithfulness.beyond_gap(found)
    often = table[table["method"].isin(study.methods(found))]
    often = often[often["n_beyond"] > often["n_clips"] / 2]
    if often.empty:
        return ""
    listed = ", ".join(
        f"{line.label} on {line.n_beyond} of {line.n_clips} clips" for line in often.itertuples()
    )
    noise = table.loc[table["method"] == "random", "deletion"]
    at_random = f"; as many at random lower it by {noise.iloc[0]:.3f}" if len(noise) else ""
    most = often.loc[(often["deletion"] - often["gap"]).idxmax()]
    return (
        f"**Nor by equal area alone.** Of the clips whose p the baseline lowers, there {listed} "
        f"lower it by more than the whole baseline does ({most['label']}: by "
        f"{most['deletion']:.3f}, the baseline by {most['gap']:.3f}{at_random}). Voxels so chosen "
        "and replaced, a fifth of the clip at most, make an input unlike any in training, and part "
        "of the score is how well a map finds voxels that upset the network. Read both axes, and "
        "both beside the gap."
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
        f"{_where_called(found)}"
    )


def _where_called(found: Published) -> str:
    """How many claims keep their verdict on the clips that are called anomalous."""
    table = rejudged.judged_called(found)
    if table.empty:
        return ""
    return f" There {rejudged.n_kept(table)} of the {len(table)} claims keep their verdict."


def detector(found: Published) -> str:
    """Compare the networks with the paper's."""
    table = networks.performance(found).set_index(["part", "scene"])
    part = networks.mean_name(found)
    if (part, "both") not in table.index:
        return ""
    mean, paper, parts = table.loc[part, "both"], networks.PAPER_PERFORMANCE, []
    for name, words in (("accuracy", "accuracy"), ("auc", "AUC")):
        low, high, bar = mean[f"{name}_low"], mean[f"{name}_high"], paper[name]
        place = "not told apart from"
        if low > bar or high < bar:
            place = "above" if low > bar else "below"
        parts.append(
            f"{words} {mean[name]:.3f} [{low:.3f}, {high:.3f}] ({place} the paper's {bar})"
        )
    return (
        f"**The networks.** On sequences they never saw, {part}: {' and '.join(parts)}; the "
        "paper's split and class balance are not known."
    )


def trained_again(found: Published) -> str:
    """How far apart are networks of one recipe, seed and fold?"""
    table = networks.trained_again(found)
    if table.empty:
        return ""
    own = table[table["in_study"]].set_index("part")
    listed = "; ".join(
        f"{line.part}: accuracy {line.accuracy:.3f} and AUC {line.auc:.3f}, in the study "
        f"{own.loc[line.part, 'accuracy']:.3f} and {own.loc[line.part, 'auc']:.3f}"
        for line in table[~table["in_study"]].itertuples()
    )
    return (
        "**Trained again.** The same recipe, seed and data, rounded otherwise, gave other networks "
        f"before ({listed}). Intervals are given the study's networks, and leave out what "
        "training again adds."
    )


def recipe(found: Published) -> str:
    """Which parts of the training recipe are shown to matter?"""
    table = found.extras.get("ablation")
    if table is None:
        return ""
    without = table[table["recipe"] != "the recipe"]
    sides = (
        ("shown to cost AUC", without["auc_difference_high"] < 0),
        ("shown to gain it", without["auc_difference_low"] > 0),
    )
    decided = [
        f"{words}: " + ", ".join(
            f"{line.recipe} ({line.auc_difference:+.3f} [{line.auc_difference_low:+.3f}, "
            f"{line.auc_difference_high:+.3f}])" for line in without[side].itertuples()
        )
        for words, side in sides if side.any()
    ]  # fmt: skip
    n_open = len(without) - sum(side.sum() for _, side in sides)
    found_out = "; ".join(decided) or "none is shown to matter"
    return (
        f"**The recipe.** Of {len(without)} changes to it, each trained once and judged on the "
        f"validation part, {found_out}; not told apart from it: {n_open}."
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
    words += f".{_beats_noise(found)}{_knows_nothing(found)}"
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


def _knows_nothing(found: Published) -> str:
    """Which maps that know nothing of the trained network are more faithful than methods?"""
    parts = []
    for row in ("motion", "random_weights"):
        against = study.against_row(found, row, "model_centric", ("area_matched_deletion",))
        behind = list(against.loc[against["better"] == "a", "label"])
        if behind:
            parts.append(f"{study.labels(found)[row]} of {len(behind)} ({', '.join(behind)})")
    if not parts:
        return ""
    return (
        " But maps that know nothing of the trained network are shown to be ahead of methods at "
        f"equal area too: {'; '.join(parts)}."
    )


def firmest(found: Published, table: str, metric: str, what: str) -> str:
    """Which method is best by one metric, and how firmly."""
    firm = study.firm_ranks(found, table, "clip", metric)
    if firm.empty:
        return ""
    first = firm.iloc[0]
    missing = study.unranked(found, table, "clip", metric)
    left_out = f" (not ranked, having too few clips: {', '.join(missing)})" if missing else ""
    at = study.at_samples(found)
    among = f", of the methods{at}" if at else ""
    if pd.isna(first["p_best"]):
        return (
            f"**Best in {what}{among}:** {first['label']} on these clips; one sequence tells no "
            "more."
        )
    if first["p_best"] >= FIRM:
        return (
            f"**Best in {what}{among}:** {first['label']}, first in {share(first['p_best'])} of "
            f"resamples{left_out}."
        )
    others = firm[(firm["rank_low"] <= 1) & (firm["label"] != first["label"])]["label"]
    return (
        f"**No method{at} is firmly the best in {what}:** {first['label']} leads, in "
        f"{share(first['p_best'])} of resamples"
        + (f"; {', '.join(others)} could as well{left_out}." if len(others) else f"{left_out}.")
    )


def sensitive(varied: pd.DataFrame) -> str:
    """Which open choices change the best method of a ranking?"""
    measured = varied[varied["tau"].notna() & ~varied["choice"].isin(DRAWS)]
    if measured.empty or measured["n_groups"].max() < FEWEST_GROUPS:
        return ""
    few = measured["n_groups"] < FEWEST_GROUPS
    measured = measured[~few]
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
    left_out = f" {few.sum()} rankings of fewer than {FEWEST_GROUPS} sequences are left out."
    return (
        f"**Open choices.** Where {n_choices} choices were varied, {words})."
        f"{left_out if few.any() else ''}"
    )
