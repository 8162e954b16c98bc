"""Figures that take an axes and give it back, and what a notebook's page needs around them.

`style` holds the one visual language, `heatmaps` pictures of clips and maps, `learning` charts
of data and training, `figures` charts of scores, `cost` charts of run time, `examples` the clips
that are shown, `page` the words and tables around, `overlay` maps over frames, `static_explorer` a
viewer for pages. Not imported here: `explorer`, the viewer with widgets for live sessions; `charts`
and `gallery`, charts and pictures of a published study; `moving`, the clip of the front page.
"""

from vad_helpers.viz.cost import growth_lines, quality_and_cost
from vad_helpers.viz.examples import figure_one, probabilities, shown_clips
from vad_helpers.viz.figures import (
    fidelity_curves,
    frame_auc_lines,
    gap_dumbbells,
    interval_dots,
    quality_against,
    rank_charts,
    rank_spans,
    time_dots,
)
from vad_helpers.viz.heatmaps import (
    best_frame,
    frame,
    frame_strip,
    heatmap,
    heatmap_grid,
    outline,
    positive_map,
    signed_colour_bar,
    superpixels,
    time_grid,
    time_slices,
)
from vad_helpers.viz.learning import (
    fold_strips,
    probability_histogram,
    roc_curves,
    split_bars,
    training_curves,
)
from vad_helpers.viz.page import (
    best,
    contrast_table,
    data_notice,
    live,
    provenance,
    say,
    spell_difference,
    table,
    table_html,
)
from vad_helpers.viz.static_explorer import explorer_html
from vad_helpers.viz.style import look, ordered, show, styled, subplots, symmetric_limit

__all__ = [
    "best",
    "best_frame",
    "contrast_table",
    "data_notice",
    "explorer_html",
    "fidelity_curves",
    "figure_one",
    "fold_strips",
    "frame",
    "frame_auc_lines",
    "frame_strip",
    "gap_dumbbells",
    "growth_lines",
    "heatmap",
    "heatmap_grid",
    "interval_dots",
    "live",
    "look",
    "ordered",
    "outline",
    "positive_map",
    "probabilities",
    "probability_histogram",
    "provenance",
    "quality_against",
    "quality_and_cost",
    "rank_charts",
    "rank_spans",
    "roc_curves",
    "say",
    "show",
    "shown_clips",
    "signed_colour_bar",
    "spell_difference",
    "split_bars",
    "styled",
    "subplots",
    "superpixels",
    "symmetric_limit",
    "table",
    "table_html",
    "time_dots",
    "time_grid",
    "time_slices",
    "training_curves",
]
