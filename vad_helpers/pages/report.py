"""What a page on a run includes: banner, tables, checks, one figure, the explorer.

The fragments of the published results (`vad_helpers.pages.results`) are written beside; everything
else that the book is staged with comes from `vad_helpers.pages.bookfiles`.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from vad_helpers import store, viz
from vad_helpers.pages import results
from vad_helpers.pages.spelling import judged_difference
from vad_helpers.store import tables
from vad_helpers.store.cache import Run
from vad_helpers.store.contrasts import PLANNED
from vad_helpers.store.row import REFERENCES
from vad_helpers.viz.style import png_bytes

DATA_WORDS = {
    "walkway": "**Synthetic data** (walkway): made by this project, not the videos of the paper. "
    "The paper's values stand beside for orientation, not for comparison.",
    "ucsd": "**Real data**: the UCSD pedestrian videos that the paper used, under the split and "
    "the choices of this project's protocol.",
    "own": "**Own videos** in UCSD's layout: not the videos of the paper. The paper's values "
    "stand beside for orientation, not for comparison.",
}
MIN_ACCURACY = 0.95
BEAT_RANDOM = ("ig", "lime", "occlusion_lp")


def pages(run: Run) -> dict[str, str | bytes]:
    """Make the tables, checks, figure and explorer of a run, and the fragments of `results`.

    Parameters
    ----------
    run : Run
        A finished run; what is missing is built.

    Returns
    -------
    dict
        File name in `book/_run/` -> content (text, or bytes of a PNG).
    """
    return {
        "banner.md": banner(run),
        "performance.md": viz.table_html(performance(run), index=False),
        "table1.md": viz.table_html(tables.wide(store.table_one(run))),
        "table2.md": viz.table_html(tables.wide(store.table_two(run))),
        "references.md": references(run),
        "contrasts.md": planned(run),
        "checks.md": viz.table_html(checks(run), index=False),
        "figure1.png": figure_one(run),
        "explorer.html": viz.explorer_html(run),
        **results.pages(run.root),
    }


def banner(run: Run) -> str:
    """Say in one admonition what the numbers of this book come from."""
    p = run.params
    clips = store.evaluation(run)
    shortfall = clips.attrs.get("shortfall", 0)
    fewer = f" ({shortfall} fewer than asked for)" if shortfall else ""
    return (
        f"```{{admonition}} What this book was built from\n{DATA_WORDS[store.data_origin(run)]}\n\n"
        f"Profile `{p.profile}`, fold {p.fold}, seed {p.seed}; explained and measured on "
        f"{len(clips)} anomalous clips{fewer} of {clips['sequence'].nunique()} unseen sequences, "
        f"{p.n_frames} frames of {p.frame_size[0]} × {p.frame_size[1]} pixels each. Brackets are "
        "95 % intervals that resample sequences, given this one trained network.\n```\n"
    )


def performance(run: Run) -> pd.DataFrame:
    """The network's clip accuracy and AUC, spelled for reading."""
    found = store.performance(run)
    for name in ("accuracy", "auc"):
        found[name] = found[name].map(lambda v: "undefined" if pd.isna(v) else f"{v:.4f}")
    names = {"val": "validation", "test": "test (unseen sequences)", "all": "both"}
    found = found.replace({"split": names, "scene": names})
    return found.rename(columns={"n_clips": "clips", "n_anomalous": "anomalous", "auc": "ROC AUC"})


def references(run: Run) -> str:
    """Spell methods against reference rows: the table, then what the test could show at best."""
    note = store.floor_note(store.against_references(run))
    return viz.table_html(reference_ranks(run)) + f"\n{note}\n"


def reference_ranks(run: Run) -> pd.DataFrame:
    """Rank of every method by clip AUC, and its difference from every reference row.

    Returns
    -------
    DataFrame of str
        Index methods; columns rank ("–" for a row that has fewer clips than others) and one a
        reference: "+0.120 [+0.080, +0.170] (p 0.31) higher", p after Holm's correction, for
        methods alone.
    """
    found = store.against_references(run)
    names = tables.labels(run)
    found["cell"] = found.apply(judged_difference, axis=1)
    order = found["label"].drop_duplicates()
    cells = found.pivot(index="label", columns="reference", values="cell").loc[order]
    ranks = found.drop_duplicates("reference").set_index("reference")["reference_rank"]
    cells = cells[list(REFERENCES)].rename(
        columns=lambda key: f"{names[key]} (rank {_spell_rank(ranks[key])})"
    )
    rank = found.drop_duplicates("label").set_index("label")["rank"]
    cells.insert(0, "rank", [_spell_rank(rank[label]) for label in order])
    cells.index.name = cells.columns.name = None
    return cells


def _spell_rank(rank: float) -> str:
    return "–" if pd.isna(rank) else f"{rank:.0f}"


def planned(run: Run) -> str:
    """Spell the comparisons that the paper's claims call for, table by table of scores."""
    parts = []
    for table in PLANNED:
        found = store.planned_contrasts(run, table)
        if len(found):
            html = viz.table_html(viz.contrast_table(found), index=False)
            parts.append(f"{html}\n{store.floor_note(found)}\n")
    return "\n".join(parts) or "The methods of this run leave nothing to compare.\n"


def checks(run: Run) -> pd.DataFrame:
    """Check that the run can carry its tables: the network works, the maps are not random.

    Returns
    -------
    DataFrame of str
        check, found, holds ("yes", "no", "not in this run").
    """
    return judged(store.performance(run), store.against_references(run), tables.labels(run))


def judged(accuracy: pd.DataFrame, against: pd.DataFrame, names: Mapping[str, str]) -> pd.DataFrame:
    """Judge scores by the checks; see `checks`.

    Parameters
    ----------
    accuracy : DataFrame
        As `store.performance`.
    against : DataFrame
        As `store.against_references`.
    names : mapping of str to str
        Label of each method, by key.

    Returns
    -------
    DataFrame of str
        As `checks`.
    """
    tested = accuracy[(accuracy["split"] == "test") & (accuracy["scene"] == "all")]
    value = tested["accuracy"].item()
    lines = [(f"clip accuracy on unseen sequences is at least {MIN_ACCURACY:.0%}",
              f"{value:.1%}", "yes" if value >= MIN_ACCURACY else "no")]  # fmt: skip
    random = against[against["reference"] == "random"].set_index("method")
    for key in BEAT_RANDOM:
        check = f"clip AUC of {names.get(key, key)} is above the random map's"
        if key not in random.index:
            lines.append((check, "–", "not in this run"))
            continue
        row = random.loc[key]
        spelled = viz.spell_difference(row)
        lines.append((check, spelled, "yes" if row["low"] > 0 else "no"))
    return pd.DataFrame(lines, columns=["check", "found", "holds"])


def figure_one(run: Run) -> bytes:
    """Draw the counterpart of the paper's Figure 1 as PNG."""
    return png_bytes(viz.figure_one(run), dpi=130, bbox_inches="tight")
