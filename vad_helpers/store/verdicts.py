"""Judge the paper's claims on tables of scores: holds, does not hold, or undecided.

A claim *holds* if the interval of every comparison that it requires lies on the claimed side, *does
not hold* if one lies on the other side, and is *undecided* otherwise: also where a comparison is
not measured, or on fewer than four sequences. Intervals resample sequences and are those of single
comparisons; beside them stands
the p of the sign-flip test, after Holm's correction for the comparisons of all claims together.
Secondary comparisons are shown beside, decide nothing, and are corrected in a family of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from vad_helpers.metrics.catalog import METRICS
from vad_helpers.metrics.runtime import alike_timed
from vad_helpers.store import contrasts, tables
from vad_helpers.store.claims import CLAIMS, EQUAL_AREA, WITH_BLACK, WITH_BLUR, Claim, Contrast
from vad_helpers.tables import resampling
from vad_helpers.tables.resampling import (
    FEWEST_GROUPS,
    holm,
    paired_difference,
    sign_flip_test,
)

HOLDS, DOES_NOT, UNDECIDED = "holds", "does not hold", "undecided"
AS_CLAIMED, AGAINST, OPEN, MISSING = "as claimed", "against", "undecided", "not measured"
CHANCE = 0.5
ALPHA = 0.05
"""Level that p-values are compared with after the correction."""
NAMES = {
    "auc_per_second": "AUC above chance a second",
}

COLUMNS = (
    *("claim", "name", "table", "level", "metric", "claimed", "required"),
    *("difference", "low", "high", "n", "n_groups", "p", "p_holm", "p_floor", "side"),
    *("n_all_zero", "paper_difference", "paper_agrees"),
)


@dataclasses.dataclass(frozen=True)
class Judged:
    """A claim, judged.

    Attributes
    ----------
    claim : Claim
    verdict : str
        `HOLDS`, `DOES_NOT` or `UNDECIDED`.
    reason : str
        Which comparisons decided, with their numbers.
    paper : str
        What the paper's own printed means say of the same comparisons; "" where it has none.
    aside : str
        What the secondary comparisons say, "At equal area: ..." first; "" without any.
    contrasts : DataFrame
        `COLUMNS`: differences are first side minus second; p_holm is corrected over what decides,
        or over what does not; n_all_zero counts the clips on which a map of either side has no
        positive voxel, so that its score is a convention; p_floor is the smallest p_holm that its
        number of sequences allows beside the other comparisons, NaN for what decides nothing;
        paper_agrees is None where the paper
        prints no such number.
    """

    claim: Claim
    verdict: str
    reason: str
    paper: str
    aside: str
    contrasts: pd.DataFrame

    @property
    def deciding(self) -> pd.DataFrame:
        """The comparisons that decide."""
        return self.contrasts[self.contrasts["required"].astype(bool)]

    @property
    def stands(self) -> bool | None:
        """Tell whether the p-values, corrected over all claims, say the same as the intervals.

        None for a claim that is undecided; for one that does not hold, one comparison is enough.
        """
        small = self.deciding["p_holm"] < ALPHA
        if self.verdict == UNDECIDED:
            return None
        if self.verdict == HOLDS:
            return bool(small.all())
        return bool((small & (self.deciding["side"] == AGAINST)).any())

    @property
    def at_equal_area(self) -> str:
        """The verdict by the same rule where every map removes the same areas; "" if not asked."""
        equal = self.contrasts[_equal_area(self.contrasts)]
        measured = len(equal) and set(equal["side"]) != {MISSING}
        return _verdict(equal) if measured else ""


def judge(
    scored: Mapping[str, pd.DataFrame],
    about: pd.DataFrame,
    *,
    n_resamples: int = 10000,
    seed: int = 0,
    claims: Sequence[Claim] = CLAIMS,
) -> list[Judged]:
    """Judge claims.

    Parameters
    ----------
    scored : mapping of str to DataFrame
        Tidy scores by name of the table: "human_centric", "model_centric", "robustness", "cost".
    about : DataFrame
        What the rows are, as from `tables.describe`.
    n_resamples, seed : int
        Of the intervals.
    claims : sequence of Claim

    Returns
    -------
    list of Judged
        In the order of the claims.
    """
    wide = _pivoted(scored)
    paper = _paper_means()
    found = [
        line
        for claim in claims
        for contrast in claim.contrasts
        for line in _lines(claim, contrast, wide, about, paper, n_resamples, seed)
    ]
    table = pd.DataFrame(found, columns=list(COLUMNS))
    table["p_holm"] = _corrected(table)
    table["p_floor"] = _floors(table)
    return [_judged(claim, table[table["claim"] == claim.number]) for claim in claims]


def rows_of(claim: Claim, about: pd.DataFrame) -> set[str]:
    """Rows that the deciding comparisons of a claim need."""
    deciding = (contrast for contrast in claim.contrasts if contrast.required)
    return {row for contrast in deciding
            for a, b, _ in _pairs(contrast, about) for row in (*a, *b)}  # fmt: skip


def _corrected(table: pd.DataFrame) -> pd.Series:
    """Holm's p within two families: what decides must not pay for what is shown beside it."""
    required = table["required"].astype(bool)
    return _holm_once(table, required).fillna(_holm_once(table, ~required))


def _floors(table: pd.DataFrame) -> pd.Series:
    """The smallest corrected p that each deciding comparison could have, given the others."""
    family = table["required"].astype(bool)
    asked, once = _questions(table, family)
    p = table["p"].where(once).astype(float)
    floors = {}
    for i in p.index[p.notna()]:
        least = resampling.smallest_p(int(table.loc[i, "n_groups"]))
        floors[asked[i]] = holm(p.where(p.index != i, least))[p.index.get_loc(i)]
    return asked.map(floors).where(family).astype(float)


def _questions(table: pd.DataFrame, family: pd.Series) -> tuple[pd.Series, pd.Series]:
    """What each comparison asks, and whether it is the first of a family that asks it."""
    sides = table["name"].str.split(" - ").map(frozenset)
    asked = list(zip(table["table"], table["level"], table["metric"], sides, strict=True))
    asked = pd.Series(asked, index=table.index, dtype=object)
    return asked, family & ~asked.where(family).duplicated()


def _holm_once(table: pd.DataFrame, family: pd.Series) -> pd.Series:
    """Holm's p over a family; a comparison that several claims make counts once."""
    asked, once = _questions(table, family)
    corrected = holm(table["p"].where(once).astype(float))
    by_question = dict(zip(asked[once], corrected[once.to_numpy()], strict=True))
    return asked.map(by_question).where(family).astype(float)


def cost_scores(explanations: pd.DataFrame, localisation: pd.DataFrame) -> pd.DataFrame:
    """Make the scores of the table "cost": seconds a clip, and what a second buys.

    Parameters
    ----------
    explanations : DataFrame
        clip_id, sequence, method, seconds, machine, batch_size. Only the machine and batch size
        with the most lines count: seconds of two do not compare.
    localisation : DataFrame
        Tidy localisation scores.

    Returns
    -------
    DataFrame
        Tidy; metrics seconds, and auc_per_second: the clip AUC above chance, over the method's
        mean seconds.
    """
    if explanations.empty:
        return localisation.iloc[:0]
    timed = alike_timed(explanations)[["clip_id", "sequence", "method", "seconds"]]
    seconds = timed.rename(columns={"seconds": "value"}).assign(metric="seconds")
    part = localisation[(localisation["level"] == "clip") & (localisation["metric"] == "auc")]
    spent = part["method"].map(timed.groupby("method")["seconds"].mean())
    worth = part.assign(value=(part["value"] - CHANCE) / spent, metric="auc_per_second")
    both = pd.concat([seconds, worth[spent.notna()]], ignore_index=True).assign(level="clip")
    return both[["clip_id", "sequence", "method", "level", "metric", "value"]]


Key = tuple[str, str, str]
ALL_ZERO: Key = ("human_centric", "clip", "all_zero")


def _key(contrast: Contrast) -> Key:
    return contrast.table, contrast.level, contrast.metric


def _pivoted(scored: Mapping[str, pd.DataFrame]) -> dict[Key, pd.DataFrame]:
    """(table, level, metric) -> scores as (clip, sequence) x method."""
    return {
        (table, *key): part.pivot(index=["clip_id", "sequence"], columns="method", values="value")
        for table, found in scored.items()
        for key, part in found.groupby(["level", "metric"])
    }


def _lines(
    claim: Claim,
    contrast: Contrast,
    wide: Mapping[Key, pd.DataFrame],
    about: pd.DataFrame,
    paper: Mapping[tuple[str, str], Mapping[str, float]],
    n_resamples: int,
    seed: int,
) -> list[dict]:
    if contrast.instead is not None and _key(contrast) not in wide:
        contrast = contrast.instead
    shared = {
        "claim": claim.number,
        **{n: getattr(contrast, n) for n in ("table", "level", "metric", "claimed", "required")},
    }
    found = []
    for a, b, name in _pairs(contrast, about):
        measured = _measured(wide.get(_key(contrast)), a, b, n_resamples, seed)
        measured_on = _clips(wide.get(_key(contrast)), a, b)
        difference = _paper_difference(paper.get((contrast.level, contrast.metric), {}), a, b)
        line = shared | measured | {"name": name, "side": _side(measured, contrast.claimed)}
        line["n_all_zero"] = n_all_zero(wide.get(ALL_ZERO), measured_on, [*a, *b])
        agrees = None if np.isnan(difference) else difference * contrast.claimed > 0
        found.append(line | {"paper_difference": difference, "paper_agrees": agrees})
    return found


def _pairs(contrast: Contrast, about: pd.DataFrame) -> list[tuple[list[str], list[str], str]]:
    """Rows on both sides of every comparison of a contrast, and its name."""
    if contrast.first == (WITH_BLUR,):
        a, b = black_pairs(about)
        return [(a, b, f"{WITH_BLUR} - {WITH_BLACK}")]
    a = contrasts.members(about, contrast.first)
    b = contrasts.members(about, contrast.second, contrast.first)
    names = tables.labels_of(about)
    if contrast.each and a and b:
        return [([x], [y], f"{names[x]} - {names[y]}") for x in a for y in b]
    sides = (contrasts.side_name(about, side) for side in (contrast.first, contrast.second))
    return [(a, b, " - ".join(sides))]


def black_pairs(about: pd.DataFrame) -> tuple[list[str], list[str]]:
    """Methods, and in the same order their variants that differ in a black baseline alone."""
    plain = about[about["kind"] == "method"].set_index("method")
    black = about[(about["kind"] == "variant") & (about["baseline"] == "black")]
    pairs = [
        (line.attribution, line.method)
        for line in black.itertuples()
        if line.attribution in plain.index
        and line.weights == "trained"
        and line.settings == plain.loc[line.attribution, "settings"]
    ]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _measured(
    wide: pd.DataFrame | None, a: list[str], b: list[str], n_resamples: int, seed: int
) -> dict[str, float]:
    missing = wide is None or not a or not b or not {*a, *b} <= set(wide.columns)
    if missing:
        nothing = dict.fromkeys(("difference", "low", "high", "p"), np.nan)
        return {**nothing, "n": 0, "n_groups": 0}
    first, second = wide[a].to_numpy(float).mean(axis=1), wide[b].to_numpy(float).mean(axis=1)
    groups = wide.index.get_level_values("sequence")
    found = paired_difference(first, second, groups, n_resamples=n_resamples, seed=seed)
    found.pop("n_undefined")
    if found["n_groups"] < FEWEST_GROUPS:
        found |= dict.fromkeys(("low", "high"), np.nan)
    return {**found, "p": sign_flip_test(first - second, groups, seed=seed)["p"]}


def n_all_zero(zero: pd.DataFrame | None, clips: pd.Index, rows: Sequence[str]) -> int:
    """Count clips on which the map of any row has no positive voxel.

    Parameters
    ----------
    zero : DataFrame or None
        The metric "all_zero": a line a clip, a column a row. None, or without a row: 0.
    clips : Index
        Those that count, where all rows have them.
    rows : sequence of str
    """
    if zero is None or not set(rows) <= set(zero.columns):
        return 0
    part = zero.loc[clips.intersection(zero.index), list(rows)].dropna()
    return int((part > 0).any(axis=1).sum())


def _clips(wide: pd.DataFrame | None, a: list[str], b: list[str]) -> pd.Index:
    """Clips of a comparison: those on which both sides are defined."""
    if wide is None or not {*a, *b} <= set(wide.columns):
        return pd.Index([])
    return wide[[*a, *b]].dropna().index


def _side(measured: Mapping[str, float], claimed: int) -> str:
    if not measured["n"]:
        return MISSING
    ends = sorted((claimed * measured["low"], claimed * measured["high"]))
    if ends[0] > 0:
        return AS_CLAIMED
    return AGAINST if ends[1] < 0 else OPEN


def _paper_means() -> dict[tuple[str, str], dict[str, float]]:
    """The paper's printed means by (level, metric), and what follows from them for the cost."""
    long = pd.concat([tables.paper_table(1), tables.paper_table(2)])
    means = {
        key: part.set_index("method")["paper"].to_dict()
        for key, part in long.groupby(["level", "metric"])
    }
    auc, seconds = means["clip", "auc"], means["clip", "seconds"]
    means["clip", "auc_per_second"] = {m: (auc[m] - CHANCE) / seconds[m] for m in auc}
    return means


def _paper_difference(means: Mapping[str, float], a: list[str], b: list[str]) -> float:
    if not a or not b or not {*a, *b} <= means.keys():
        return np.nan
    return float(np.mean([means[m] for m in a]) - np.mean([means[m] for m in b]))


def _judged(claim: Claim, found: pd.DataFrame) -> Judged:
    found = found.reset_index(drop=True)
    decides = found["required"].astype(bool)
    required = found[decides]
    said = (_verdict(required), _reason(required), _paper_says(required), _aside(found[~decides]))
    return Judged(claim, *said, found)


def _verdict(lines: pd.DataFrame) -> str:
    sides = set(lines["side"])
    if AGAINST in sides:
        return DOES_NOT
    return HOLDS if sides == {AS_CLAIMED} else UNDECIDED


def _equal_area(lines: pd.DataFrame) -> pd.Series:
    return lines["metric"].str.startswith(EQUAL_AREA).astype(bool)


def _aside(secondary: pd.DataFrame) -> str:
    """Say what comparisons show that do not decide: first those at equal area, then the others."""
    equal = secondary[_equal_area(secondary)]
    others = secondary.drop(equal.index)
    others = others[others["side"] != MISSING]
    words = []
    if len(equal):
        missing = set(equal["side"]) == {MISSING}
        said = "" if missing else f"the same rule says “{_verdict(equal)}”. "
        words.append(f"At equal area: {said}{'not measured.' if missing else _reason(equal)}")
    if len(others):
        spelled = [
            f"{spell_contrast(line)}, {resampling.verdict(line['low'], line['high'])}"
            for _, line in others.iterrows()
        ]
        words.append(f"Beside it, deciding nothing: {'; '.join(spelled)}.")
    return " ".join(words)


def _reason(required: pd.DataFrame) -> str:
    """Count the comparisons by side; name those that stand in the way, strongest first."""
    if set(required["side"]) == {MISSING}:
        return "Not measured."
    counts = required["side"].value_counts()
    words = [f"{counts[side]} {side}" for side in (AS_CLAIMED, AGAINST, OPEN, MISSING)
             if side in counts]  # fmt: skip
    text = f"Of {counted(len(required))}: {', '.join(words)}."
    against = required[required["side"] == AGAINST]
    shown = against if len(against) else required[required["side"] == OPEN]
    strongest = shown.reindex(shown["difference"].abs().sort_values(ascending=False).index)
    heading = "Against" if len(against) else "Undecided"
    return text + _listed(heading, [spell_contrast(line) for _, line in strongest.iterrows()])


def counted(n: int) -> str:
    """Write a number of comparisons."""
    return f"{n} comparison" + ("" if n == 1 else "s")


def _paper_says(required: pd.DataFrame) -> str:
    printed = required[required["paper_agrees"].notna()]
    if printed.empty:
        return ""
    agreeing = printed["paper_agrees"].astype(bool)
    of = counted(len(printed))
    text = f"The paper's own table agrees in {agreeing.sum()} of {of}."
    against = [
        f"{contrast_name(line)}: {line['paper_difference']:+.3g}"
        for _, line in printed[~agreeing].iterrows()
    ]
    return text + _listed("Against its text", against)


def _listed(heading: str, items: Sequence[str], most: int = 3) -> str:
    if not items:
        return ""
    more = f"; and {len(items) - most} more" if len(items) > most else ""
    return f" {heading}: {'; '.join(items[:most])}{more}."


def spell_contrast(line: pd.Series) -> str:
    """Write one comparison: "LIME − KernelSHAP, AUC, clip: +0.12 [+0.08, +0.17]"."""
    interval = "no interval"
    if not np.isnan(line["low"]):
        interval = f"[{line['low']:+.3g}, {line['high']:+.3g}]"
    return f"{contrast_name(line)}: {line['difference']:+.3g} {interval}"


def contrast_name(line: pd.Series) -> str:
    """Write what a comparison compares, and by which metric."""
    return f"{line['name'].replace(' - ', ' − ')}, {metric_name(line)}"


def metric_name(line: pd.Series) -> str:
    """Write the metric of a comparison, with its level where there are two."""
    metric = line["metric"]
    known = METRICS.get(metric)
    name = known.name if known else NAMES.get(metric, metric)
    return f"{name}, {line['level']}" if known and len(known.levels) > 1 else name
