# ruff: noqa: F401, I001
"""Figures that take an axes and give it back, and tables for pages.

`style` holds the one visual language, `charts` take DataFrames, `heatmaps` arrays. Not imported
here: `explorer`, the viewers of a run's maps for live sessions and for pages.
"""

from vad_helpers.viz.charts import axis_name, fidelity_curves, fold_strips, frame_auc_lines
from vad_helpers.viz.charts import gap_dumbbells, interval_dots, probability_histogram
from vad_helpers.viz.charts import quality_against, rank_spans, roc_curves, split_bars, tau_grid
from vad_helpers.viz.charts import time_dots, training_curves
from vad_helpers.viz.heatmaps import ShownClip, best_frame, frame, frame_strip, heatmap
from vad_helpers.viz.heatmaps import heatmap_grid, outline, positive_map, signed_colour_bar
from vad_helpers.viz.heatmaps import superpixels, symmetric_limit, time_grid, time_slices
from vad_helpers.viz.style import live, look, png_bytes, show, state, styled, subplots, table
from vad_helpers.viz.style import table_html
