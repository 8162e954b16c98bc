# ruff: noqa: F401
"""Figures that take an axes and give it back, and tables for pages.

`style` holds the one visual language, `charts` take DataFrames, `heatmaps` arrays. Not imported
here: `explorer`, the viewers of a run's maps for live sessions and for pages.
"""

from vad_helpers.viz.charts import (
    axis_name,
    fidelity_curves,
    fold_strips,
    frame_auc_lines,
    gap_dumbbells,
    interval_dots,
    probability_histogram,
    quality_against,
    rank_spans,
    roc_curves,
    split_bars,
    tau_grid,
    time_dots,
    training_curves,
)
from vad_helpers.viz.heatmaps import (
    ShownClip,
    best_frame,
    frame,
    frame_strip,
    heatmap,
    heatmap_grid,
    outline,
    positive_map,
    signed_colour_bar,
    superpixels,
    symmetric_limit,
    time_grid,
    time_slices,
)
from vad_helpers.viz.style import (
    live,
    look,
    png_bytes,
    show,
    state,
    styled,
    subplots,
    table,
    table_html,
)
