"""Lessons on where maps point: beside motion, beside a network that has learnt nothing, by sign.

Sentences as in `vad_helpers.pages.takeaways`: chosen by the data, "" where they cannot be said.
"""

from __future__ import annotations

import pandas as pd

from vad_helpers.store import signs, study, verdicts
from vad_helpers.store.published import Published


def motion(found: Published) -> str:
    """Does plain frame difference localise better than explanations?"""
    words = _against_row(
        found,
        "motion",
        ("human_centric", "auc"),
        "**Ask for the motion baseline.** Plain frame difference, which never saw the network, "
        "localises better than {n} of {of} methods (clip AUC){rest}. A localisation score alone "
        "does not show that an explanation explains.",
        "**Motion baseline.** Plain frame difference localises better than {n} of {of} methods "
        "(clip AUC){rest}.",
    )
    overlap = _against_row(
        found, "motion", ("human_centric", "iou"), " By clip IoU it is better than {n}{rest}."
    )
    return words + overlap if words else ""


def centred(found: Published) -> str:
    """Does a bright spot in the middle of every frame localise as well as explanations?"""
    return _against_row(
        found,
        "centre",
        ("human_centric", "auc"),
        "**Ask for a centre prior.** A spot in the middle of every frame, whatever is in it, "
        "localises better than {n} of {of} methods (clip AUC){rest}.",
    )


def moving(found: Published) -> str:
    """Among moving voxels, do explanations tell the anomaly from the walkers?

    Judged by movers, whose change exceeds rounding, on the clips where the methods have such
    scores, with the protocol's rule beside; by that rule alone where they have none, with what is
    known of its weakness.
    """
    by_rule = ("human_centric", "motion_auc")
    if not study.controlled(found):
        caution = _any_change(found, "this is no verdict")
        words = "frame difference is{still} ahead of {{n}} of {{of}} methods{{rest}}." + caution
        head, score = "**Among moving voxels alone,** ", by_rule
    else:
        clips = study.controlled_clips(found)
        words = "frame difference is{still} ahead of {{n}} of {{of}} methods{{rest}}."
        head = (
            f"**Among movers alone** (voxels that change by more than rounding hides; {len(clips)} "
            f"clips of {clips['sequence'].nunique()} sequences), "
        )
        score = ("controls", "mover_auc")
    said = [head + words.format(still=still) for still in (" still", "")]
    found_words = _against_row(found, "motion", score, *said)
    if score == by_rule:
        return found_words
    other = " By the protocol's rule it is ahead of {n} of {of}{rest}."
    return (
        found_words
        + _against_row(found, "motion", by_rule, other)
        + _any_change(found, "that rule takes still voxels in")
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


def _against_row(
    found: Published, row: str, score: tuple[str, str], most: str, otherwise: str | None = None
) -> str:
    """A reference row against the methods, and those that draw enough samples at last.

    `most` is said where the row is ahead of more than half, `otherwise` elsewhere, if given.
    """
    table, metric = score
    against = study.against_row(found, row, table, (metric,))
    more = study.against_row(found, row, table, (metric,), rivals=study.many_samples(found))
    return _control(against, most, otherwise or most, more)


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
        found, "random_weights", "human_centric", ("auc",), rivals=study.many_samples(found)
    )
    ahead = list(sampled.loc[sampled["better"] == "b", "label"])
    too = " too" if n else ""
    more = f" With many more samples, {' and '.join(ahead)} {_is(ahead)}{too}." if ahead else ""
    return (
        f"**{title}.** {n} of {of} methods {beat} to localise better (clip AUC) than Integrated "
        f"Gradients on a network with random weights ({listed}).{_corrected(against)}{more}"
        f"{_own_random(found)}"
    )


def _corrected(against: pd.DataFrame) -> str:
    """Which of the rivals shown to be better still are after the correction."""
    better = against[against["better"] == "b"]
    if better.empty:
        return ""
    kept = list(better.loc[better["p_holm"] < verdicts.ALPHA, "label"])
    return f" After Holm's correction {', '.join(kept) if kept else 'none'} still {_is(kept)}."


def _own_random(found: Published) -> str:
    """How methods stand against themselves on a network with random weights."""
    own = study.against_variants(found, "random")
    own = own[own["metric"] == "auc"]
    if own.empty:
        return ""
    words = {"higher": "better", "lower": "worse", "undecided": "not told apart"}
    zero = own["n_all_zero"].map(lambda n: f" ({n} clips with an all-zero map)" if n else "")
    groups = (own["label"] + zero).groupby(own["verdict"]).agg(", ".join)
    listed = "; ".join(f"{said}: {groups[side]}" for side, said in words.items() if side in groups)
    return f" Against itself on such a network, each on the clips that have both: {listed}."


def _is(labels: list[str]) -> str:
    return "is" if len(labels) <= 1 else "are"


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


def _control(against: pd.DataFrame, most: str, otherwise: str, more: pd.DataFrame) -> str:
    if against.empty:
        return ""
    n, of = int((against["better"] == "a").sum()), len(against)
    behind = against.loc[against["better"] == "b", "label"]
    rest = f", worse than {', '.join(behind)}" if len(behind) else ""
    open_ones = int((against["better"] == "").sum())
    rest += f", not told apart from {open_ones}" if open_ones else ""
    if len(more):
        sides = [(", ".join(more.loc[more["better"] == side, "label"]), words)
                 for side, words in (("b", "worse than"), ("", "not told apart from"))]  # fmt: skip
        said = [f"{words} {labels}" for labels, words in sides if labels]
        rest += " at the paper's samples" + (
            f", {' and '.join(said)}" if said else ", and the rows of many more samples too"
        )
    return (most if n > of / 2 else otherwise).format(n=n, of=of, rest=rest)
