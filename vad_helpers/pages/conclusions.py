"""What is concluded from a published study, for its page: verdicts, sensitivity, lessons."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pandas as pd

from vad_helpers import viz
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.pages import pointing, takeaways
from vad_helpers.pages.spelling import count, folded
from vad_helpers.store import rejudged, signs, study, verdicts
from vad_helpers.store.published import Published
from vad_helpers.store.sensitivity import NOT_MEASURED
from vad_helpers.store.verdicts import Judged

STANDS = {True: "yes", False: "no", None: "–"}
CORRECTED = {
    (verdicts.HOLDS, True): ", after Holm's correction too",
    (verdicts.HOLDS, False): " by the intervals; after Holm's correction not every comparison "
    "stands",
    (verdicts.DOES_NOT, True): ", after Holm's correction too",
    (verdicts.DOES_NOT, False): " by the intervals; after Holm's correction no comparison against "
    "it stands",
}
"""Verdict and whether it stands -> how it is said; an undecided one needs no words."""
ICONS = {verdicts.HOLDS: "✓", verdicts.DOES_NOT: "✗", verdicts.UNDECIDED: "?"}


@dataclasses.dataclass(frozen=True)
class Conclusions:
    """What takes long to compute and several fragments need.

    Attributes
    ----------
    judged : list of Judged
        The claims' verdicts.
    varied : DataFrame
        As `study.sensitivities`.
    """

    judged: list[Judged]
    varied: pd.DataFrame


def claims(found: Published, concluded: Conclusions) -> str:
    """The verdicts at a glance, then claim by claim."""
    judged = concluded.judged
    glance = pd.DataFrame({
        "claim": [j.claim.number for j in judged],
        "the paper says": [j.claim.statement for j in judged],
        "verdict here": [f"{ICONS[j.verdict]} {j.verdict}" for j in judged],
        "stands after Holm's correction": [STANDS[j.stands] for j in judged],
    })  # fmt: skip
    parts = [viz.table_html(glance, index=False, wrap=True)]
    return "\n".join([*parts, *(_claim(found, j) for j in judged)])


def _claim(found: Published, judged: Judged) -> str:
    claim, lines = judged.claim, judged.contrasts
    shown = pd.DataFrame({
        "comparison": lines["name"].str.replace(" - ", " − "),
        "metric": [verdicts.metric_name(line) for _, line in lines.iterrows()],
        "claimed": lines["claimed"].map({1: "higher", -1: "lower"}),
        "difference": [viz.spell_difference(line) for _, line in lines.iterrows()],
        "result": lines["side"],
        "decides": lines["required"].map({True: "yes", False: "no"}),
        "p (Holm)": lines["p_holm"].map(lambda p: "–" if pd.isna(p) else f"{p:.2g}"),
        "clips": [
            f"{n}" + (f" ({zero} all-zero)" if zero else "")
            for n, zero in lines[["n", "n_all_zero"]].to_numpy(int)
        ],
        "paper's difference": lines["paper_difference"].map(
            lambda v: "–" if pd.isna(v) else f"{v:+.3g}"),
    })  # fmt: skip
    said = (judged.aside, _floor(judged), _caution(found, judged), judged.paper)
    beside = "".join(f"\n\n{words}" for words in said if words)
    return (
        f"### Claim {claim.number}: {judged.verdict}\n\n{claim.statement}\n\n"
        f"**{judged.verdict.capitalize()}{CORRECTED.get((judged.verdict, judged.stands), '')}.** "
        f"{judged.reason}{beside}\n\n"
        f"*What could make a difference.* {claim.explanation}\n\n"
        + folded(verdicts.counted(len(lines)), viz.table_html(shown, index=False))
    )


def _floor(judged: Judged) -> str:
    """Say so where no data of so few sequences could pass the correction; "" elsewhere."""
    lines = judged.deciding.dropna(subset="p_floor")
    least = lines[lines["p_floor"] >= verdicts.ALPHA]
    if least.empty or judged.verdict == verdicts.UNDECIDED:
        return ""
    n_groups = int(least["n_groups"].min())
    return (
        f"With {n_groups} sequences the corrected p of {verdicts.counted(len(least))} here cannot "
        f"be below {least['p_floor'].min():.2g}, whatever the data: that the claim does not stand "
        "after the correction is no evidence against it."
    )


def _caution(found: Published, judged: Judged) -> str:
    """What must be known of the metric that decides a claim; "" where nothing must."""
    metrics = set(judged.deciding["metric"])
    if metrics == {"cv"}:
        return takeaways.steadiness(found)
    return pointing.leakage(found) if metrics == {"leak"} else ""


def converged_claims(found: Published, concluded: Conclusions) -> str:
    """The claims on methods that sample, with rows of many more samples in their places."""
    table = rejudged.judged_converged(found)
    if table.empty:
        return ""
    size, n_kept = table.iloc[0], rejudged.n_kept(table)
    words = (
        f"Of the {len(table)} claims that take in a method with a row of many more samples, "
        f"{n_kept} keep their verdict with that row in its place{_turned_claims(table)}"
        f". Both verdicts are on the {size['n_clips']} clips of {size['n_groups']} sequences "
        f"that have such rows.{_elsewhere(table, concluded.judged)}"
    )
    return words + _judged_again(table, "at the paper's samples", "with many more samples")


def called_claims(found: Published, concluded: Conclusions) -> str:
    """The claims on the clips alone that the networks call anomalous."""
    table = rejudged.judged_called(found)
    if table.empty:
        return "The networks call all clips anomalous, or none: there is nothing to set apart.\n"
    size, n_kept = table.iloc[0], rejudged.n_kept(table)
    words = (
        f"On the {size['n_clips']} clips of {size['n_groups']} sequences that the networks call "
        f"anomalous, {n_kept} of the {len(table)} claims keep their verdict{_turned_claims(table)}."
        f"{_moved(table)}"
    )
    return words + _judged_again(table, "on all clips", "on those called anomalous")


def absolute_claims(found: Published, concluded: Conclusions) -> str:
    """The claims on localisation, with the size of attributions in place of E+."""
    table = signs.judged_absolute(found)
    if table.empty:
        return ""
    n_kept = rejudged.n_kept(table)
    words = (
        f"Of the {len(table)} claims that localisation alone decides, {n_kept} keep their verdict "
        f"where absolute values count{_turned_claims(table)}.{_moved(table)}"
    )
    return words + _judged_again(table, "positive values count", "absolute values count")


def _turned_claims(table: pd.DataFrame) -> str:
    """List the verdicts that are others after; "" if all stay."""
    turned = table[table["before"] != table["after"]]
    return "".join(
        f"; claim {line.claim} turns from “{line.before}” to “{line.after}”"
        for line in turned.itertuples()
    )


def _moved(table: pd.DataFrame) -> str:
    """Count the deciding comparisons that come out differently: a verdict can stay all the same."""
    n, changed, turned = table[["n_contrasts", "n_changed", "n_turned"]].sum()
    return (
        f" Of their {n} comparisons {changed} come out differently, {turned} of them as the "
        "opposite."
    )


def _judged_again(table: pd.DataFrame, before: str, after: str) -> str:
    shown = pd.DataFrame({
        "claim": table["claim"], "the paper says": table["statement"],
        before: [f"{ICONS[v]} {v}" for v in table["before"]],
        after: [f"{ICONS[v]} {v}" for v in table["after"]],
        "what decides it there": table["reason"],
    })  # fmt: skip
    return f"\n\n{viz.table_html(shown, index=False, wrap=True)}"


def _elsewhere(table: pd.DataFrame, judged: list[Judged]) -> str:
    """Say which verdicts are others on all clips, with nothing swapped."""
    of_all = {j.claim.number: j.verdict for j in judged}
    other = [
        f"claim {line.claim} (“{of_all[line.claim]}”)"
        for line in table.itertuples()
        if of_all.get(line.claim, line.before) != line.before
    ]
    return f" On all clips the verdict is another for {', '.join(other)}." if other else ""


def lessons(found: Published, concluded: Conclusions) -> str:
    """What a user should take from it, in sentences that the data choose."""
    groups = takeaways.lessons(found, concluded.judged, concluded.varied)
    parts = [
        (f"*{title}*\n\n" if title else "") + "\n".join(f"- {line}" for line in lines)
        for title, lines in groups.items()
    ]
    return "\n\n".join(parts) + "\n"


def sensitivity(found: Published, concluded: Conclusions) -> str:
    """Every open choice and alternative in a line, then what each does to every ranking."""
    table = concluded.varied
    is_open = ~table["choice"].isin(takeaways.DRAWS)
    lines = [_choice(part) for _, part in table.groupby(["choice", "alternative"], sort=False)]
    shown = pd.DataFrame(lines)
    of_open = table[is_open]
    measured = of_open.loc[of_open["note"] != NOT_MEASURED, "choice"].nunique()
    words = (
        f"{measured} of {of_open['choice'].nunique()} open choices are measured. Below them stand "
        "the number of samples and what sampling draws, for comparison.\n\n"
    )
    ranked = table[table["tau"].notna()]
    titled = [
        folded(f"{choice}: every ranking", viz.table_html(_rankings(part), index=False, wrap=True))
        for choice, part in ranked.groupby("choice", sort=False)
    ]
    return words + viz.table_html(shown, index=False, wrap=True) + "\n" + "".join(titled)


def _choice(part: pd.DataFrame) -> dict[str, str]:
    """Sum up one alternative: how many rankings have another best, and which turns most."""
    first, ranked = part.iloc[0], part[part["tau"].notna()]
    line = {"open choice": first["choice"], "here": first["default"],
            "alternative": first["alternative"]}  # fmt: skip
    if ranked.empty:
        nothing = dict.fromkeys(("clips", "another best method", "more than redraws"), "–")
        return line | nothing | {"lowest tau (redraws)": first["note"]}
    lowest = ranked.loc[ranked["tau"].idxmin()]
    another = (ranked["best"] != ranked["best_after"]).sum()
    beyond = (ranked["tau"] < ranked["tau_low"]).sum()
    return line | {
        "clips": _span(ranked["n"]),
        "another best method": f"{another} of {len(ranked)} rankings",
        "more than redraws": f"{beyond} of {len(ranked)}",
        "lowest tau (redraws)": f"{_taus(lowest)}: {_ranking_name(lowest)}",
    }


def _span(counts: pd.Series) -> str:
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def _rankings(table: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({
        "alternative": table["alternative"],
        "ranking by": [_ranking_name(line) for _, line in table.iterrows()],
        "clips": table["n"].map(count),
        "Kendall's tau (redraws)": [_taus(line) for _, line in table.iterrows()],
        "best method": [_best(line) for _, line in table.iterrows()],
        "pairs that turn": [_turned(line) for _, line in table.iterrows()],
    })  # fmt: skip


def _ranking_name(line: pd.Series) -> str:
    if pd.isna(line["metric"]):
        return "–"
    several = len(METRICS[line["metric"]].levels) > 1
    return METRICS[line["metric"]].name + (f", {line['level']}" if several else "")


def _taus(line: pd.Series) -> str:
    """Write tau, and what redraws of the sequences give: their mean, and what 19 of 20 reach."""
    if pd.isna(line["tau_low"]):
        return f"{line['tau']:.2f}"
    return f"{line['tau']:.2f} ({line['tau_by_chance']:.2f}, ≥ {line['tau_low']:.2f})"


def _best(line: pd.Series) -> str:
    same = line["best"] == line["best_after"]
    return f"stays {line['best']}" if same else f"{line['best']} → {line['best_after']}"


def _turned(line: pd.Series) -> str:
    share = f"{line['n_flips']:.0f} of {line['n_pairs']:.0f}"
    return share + (f": {line['flips']}" if line["flips"] else "")


def front(found: Published, concluded: Conclusions) -> str:
    """What the front page says of the study; nothing before it is complete."""
    if incomplete(found):
        return ""
    return (
        "## And on the real videos\n\n"
        "The numbers above are of the run that built this copy. The study of the real UCSD videos "
        "is computed once and published beside the source: {doc}`results` has its tables, and the "
        "verdict on each of the paper's claims. What it comes to:\n\n" + lessons(found, concluded)
    )


def incomplete(found: Published) -> str:
    """Say so, if a study is not finished."""
    done = len(study.finished_clips(found))
    wanted = found.settings.get("study_clips") or len(found.clips)
    if done >= wanted and len(found.folds) == int(found.settings["n_folds"]):
        return ""
    return " The study is not complete: these are its numbers so far."


CONCLUDING: dict[str, Callable[[Published, Conclusions], str]] = {
    "claims": claims,
    "called_claims": called_claims,
    "converged_claims": converged_claims,
    "absolute_claims": absolute_claims,
    "sensitivity": sensitivity,
    "lessons": lessons,
    "front": front,
}
