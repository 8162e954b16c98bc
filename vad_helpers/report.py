"""What the book's prose pages include from a run: banner, tables, ranks, and one figure."""

from __future__ import annotations

import io

import pandas as pd

from vad_helpers import store, viz
from vad_helpers.store import tables
from vad_helpers.store.cache import Run
from vad_helpers.store.row import REFERENCES

DATA_WORDS = {
    "walkway": "**Synthetic data** (walkway): made by this project, not the videos of the paper. "
    "The paper's values stand beside for orientation, not for comparison.",
    "ucsd": "**Real data**: the UCSD pedestrian videos that the paper used, under the split and "
    "the choices of this project's protocol.",
}


def pages(run: Run) -> dict[str, str | bytes]:
    """Make every file that the prose pages include.

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
        "references.md": viz.table_html(reference_ranks(run)),
        "figure1.png": figure_one(run),
    }


def banner(run: Run) -> str:
    """Say in one admonition what the numbers of this book come from."""
    p = run.params
    clips = store.evaluation(run)
    shortfall = clips.attrs.get("shortfall", 0)
    fewer = f" ({shortfall} fewer than asked for)" if shortfall else ""
    return (
        f"```{{admonition}} What this book was built from\n{DATA_WORDS[p.dataset]}\n\n"
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


def reference_ranks(run: Run) -> pd.DataFrame:
    """Rank of every method by clip AUC, and its difference from every reference row.

    Returns
    -------
    DataFrame of str
        Index methods; columns rank and one a reference: "+0.12 [0.08, 0.17] higher (rank 5)".
    """
    found = store.against_references(run)
    names = tables.labels(run)
    found["cell"] = found.apply(
        lambda line: (
            f"{line['difference']:+.3f} [{line['low']:+.3f}, {line['high']:+.3f}] {line['verdict']}"
        ),
        axis=1,
    )
    order = found["label"].drop_duplicates()
    cells = found.pivot(index="label", columns="reference", values="cell").loc[order]
    ranks = found.drop_duplicates("reference").set_index("reference")["reference_rank"]
    cells = cells[list(REFERENCES)].rename(
        columns=lambda key: f"{names[key]} (rank {ranks[key]:.0f})"
    )
    rank = found.drop_duplicates("label").set_index("label")["rank"]
    cells.insert(0, "rank", [f"{rank[label]:.0f}" for label in order])
    cells.index.name = cells.columns.name = None
    return cells


def figure_one(run: Run) -> bytes:
    """Draw the counterpart of the paper's Figure 1 as PNG."""
    figure = viz.figure_one(run)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, facecolor="white", bbox_inches="tight")
    return buffer.getvalue()
