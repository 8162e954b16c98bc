"""Charts of a published study: PNG, with the words for those who do not see them."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from vad_helpers.store import study, tables
from vad_helpers.store.published import Published
from vad_helpers.viz.cost import quality_and_cost
from vad_helpers.viz.figures import fidelity_curves, frame_auc_lines, interval_dots
from vad_helpers.viz.style import FAMILY_COLOURS, WIDTH, png_bytes, styled, subplots

ROW_HEIGHT = 0.26
ALT = {
    "localisation": "Dots with intervals of every row's clip AUC and clip IoU, sequences as small "
    "dots behind them, the paper's values as crosses",
    "motion": "Dots with intervals of every row's AUC over all voxels, and among moving voxels "
    "alone; frame difference is one of the grey reference rows",
    "flatness": "Dots with intervals of every row's deletion on the threshold axis, and at equal "
    "area; the constant map is one of the grey reference rows",
    "curves": "Deletion and insertion curves of every row on the threshold axis, averaged over "
    "clips",
    "frames": "AUC of every row in each frame of a clip, averaged over clips, one line a row",
    "cost": "Clip AUC against seconds a clip on a logarithmic scale, the paper's point of each "
    "method joined to ours",
    "history": "Validation AUC and loss of every fold's training, one line a fold",
}
DOTS = (
    "Large dots: means over clips, with 95 % intervals; small dots: means of single sequences. "
    "Colours: families of methods; grey: reference rows."
)
CAPTIONS = {
    "localisation": f"Localisation at clip level (higher is better). {DOTS} Crosses: the paper.",
    "motion": f"AUC over all voxels, and among moving ones alone (higher is better). {DOTS}",
    "flatness": "Deletion as the paper has it, and at equal area (higher is better). "
    f"{DOTS} Crosses: the paper.",
    "curves": "Mean change of p while the sets of the threshold axis grow, over the clips that all "
    "rows have.",
    "frames": "Where in a clip the maps localise: mean over the clips that all rows have, of those "
    "with an anomaly in that frame.",
    "cost": "Quality and cost. Open marks: the paper, on its GPU, where rows of many more samples "
    "have no place. Seconds depend on the precision of a row's maps, which is named below Table "
    "II.",
    "history": "Training of every fold; its own test part played no role in it.",
}


def pictures(found: Published) -> dict[str, bytes]:
    """Draw every chart that the study has the numbers for: name -> PNG."""
    return {name: png_bytes(draw(found)) for name, draw in CHARTS.items() if has(found, name)}


def has(found: Published, name: str) -> bool:
    """Tell whether there are numbers for a chart."""
    needs = {
        "curves": found.curves,
        "frames": found.frame_auc,
        "cost": found.explanations,
        "history": found.history,
        "flatness": found.model_centric,
    }
    return len(found.human_centric if name not in needs else needs[name]) > 0


def figure(found: Published, name: str) -> str:
    """Write the directive that shows a chart on the results page; "" where there is none."""
    if not has(found, name):
        return ""
    return f"\n```{{figure}} _run/results_{name}.png\n:alt: {ALT[name]}\n\n{CAPTIONS[name]}\n```\n"


def localisation(found: Published) -> Figure:
    """Clip AUC and IoU of every row, the paper's values beside."""
    paper = tables.paper_table(1)
    paper = paper[paper["level"] == "clip"]
    printed = {m: part.set_index("method")["paper"].to_dict()
               for m, part in paper.groupby("metric")}  # fmt: skip
    return _dots(found, "human_centric", ("auc", "iou"), printed)


def motion(found: Published) -> Figure:
    """AUC over all voxels and among moving ones."""
    return _dots(found, "human_centric", ("auc", "motion_auc"), {})


def flatness(found: Published) -> Figure:
    """Deletion on the threshold axis and at equal area."""
    paper = tables.paper_table(2)
    printed = paper[paper["metric"] == "deletion"].set_index("method")["paper"].to_dict()
    metrics = ("deletion", "area_matched_deletion")
    return _dots(found, "model_centric", metrics, {"deletion": printed})


def _dots(
    found: Published, table: str, metrics: tuple[str, str], paper: dict[str, dict[str, float]]
) -> Figure:
    summary = study.summary(found, table)
    scored = getattr(found, table)
    n_rows = summary["method"].nunique()
    drawn, axes = subplots(1, len(metrics), height=0.9 + ROW_HEIGHT * n_rows)
    for i, (ax, metric) in enumerate(zip(axes, metrics, strict=True)):
        interval_dots(ax, summary, scored, level="clip", metric=metric, labels=i == 0,
                      paper=paper.get(metric))  # fmt: skip
    return drawn


def curves(found: Published) -> Figure:
    """Deletion and insertion on the threshold axis, averaged over clips."""
    drawn, axes = subplots(1, 2, height=3.4)
    names = study.labels(found)
    for i, (ax, kind) in enumerate(zip(axes, ("deletion", "insertion"), strict=True)):
        lines = study.mean_curves(found, f"threshold_{kind}_curve")
        n_points = len(next(iter(lines.values())))
        better = "higher" if kind == "deletion" else "lower"
        fidelity_curves(
            ax, {key: line[None] for key, line in lines.items()}, np.linspace(1, 0, n_points),
            labels=names, x_label="threshold / maximum of the map",
            y_label=f"{kind}: change of p ({better} is better)", legend=i == 1,
        )  # fmt: skip
        ax.invert_xaxis()
    return drawn


def frames(found: Published) -> Figure:
    """AUC of every frame, averaged over clips."""
    drawn, ax = subplots(height=3.6)
    frame_auc_lines(ax, study.frame_means(found), labels=study.labels(found))
    return drawn


def cost(found: Published) -> Figure:
    """Clip AUC against seconds, the paper's beside."""
    drawn, ax = subplots(height=3.6)
    quality_and_cost(ax, cost_points(found))
    return drawn


def cost_points(found: Published) -> pd.DataFrame:
    """Give label, family, seconds, quality, paper_seconds and paper_quality of every method.

    Rows of many more samples stand beside their methods; the paper has no such point.
    """
    scored = study.scores(found)["cost"]
    seconds = scored[scored["metric"] == "seconds"].groupby("method")["value"].mean()
    part = found.human_centric
    part = part[(part["level"] == "clip") & (part["metric"] == "auc")]
    one, two = tables.paper_table(1), tables.paper_table(2)
    printed = one[(one["level"] == "clip") & (one["metric"] == "auc")].set_index("method")["paper"]
    shown = [*study.methods(found), *study.many_samples(found)]
    about = found.rows[found.rows["method"].isin(shown)].set_index("method")
    points = pd.DataFrame({
        "label": about["label"],
        "family": about["family"],
        "seconds": seconds,
        "quality": part.groupby("method")["value"].mean(),
        "paper_seconds": two[two["metric"] == "seconds"].set_index("method")["paper"],
        "paper_quality": printed,
    })  # fmt: skip
    return points.loc[about.index]


def history(found: Published) -> Figure:
    """Validation AUC and losses by epoch, one line a fold."""
    drawn, axes = subplots(1, 2, width=WIDTH, height=2.8)
    shades = dict(zip(found.folds, list(FAMILY_COLOURS.values()) * 2, strict=False))
    dashes = dict(zip(found.folds, ("-", "--", "-.", ":", (0, (1, 3))) * 2, strict=False))
    with styled():
        for fold, part in found.history.groupby("fold"):
            look = {"color": shades[fold], "linestyle": dashes[fold], "label": f"fold {fold}"}
            axes[0].plot(part["epoch"] + 1, part["val_auc"], **look)
            axes[1].plot(part["epoch"] + 1, part["val_loss"], **look)
            best = part[part["best"].astype(bool)]
            axes[0].plot(best["epoch"] + 1, best["val_auc"], "o", color=shades[fold])
        for ax, name in zip(axes, ("validation AUC (higher is better)",
                                   "validation cross-entropy (nats)"), strict=True):  # fmt: skip
            ax.set_xlabel("epoch (dot: weights kept)")
            ax.set_ylabel(name)
            ax.grid(axis="y")
        axes[1].legend()
    return drawn


CHARTS = {
    "localisation": localisation,
    "motion": motion,
    "flatness": flatness,
    "curves": curves,
    "frames": frames,
    "cost": cost,
    "history": history,
}
