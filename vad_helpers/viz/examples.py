"""Clips to show, and the counterpart of the paper's Figure 1."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure

from vad_helpers import store
from vad_helpers.store import Run
from vad_helpers.store.row import methods
from vad_helpers.store.scores import predictor
from vad_helpers.viz.heatmaps import best_frame, heatmap_grid
from vad_helpers.viz.style import DPI, WIDTH, styled

COLUMNS = 3


def shown_clips(run: Run) -> dict[str, str]:
    """Pick one clip of each scene to show: the first of the evaluation set.

    Parameters
    ----------
    run : Run

    Returns
    -------
    dict
        Scene -> clip_id. Chosen before any result is seen, and the same in every chapter.
    """
    return store.evaluation(run).groupby("scene")["clip_id"].first().to_dict()


def probabilities(run: Run, clip_id: str) -> tuple[float, float]:
    """Ask the network about a clip and its baseline, to be read before any of its maps.

    Parameters
    ----------
    run : Run
    clip_id : str

    Returns
    -------
    p_clip, p_baseline : float
        p(x) and p(x_b), in [0, 1]. Where they are nearly equal there is little to explain.
    """
    both = torch.stack([store.clip(run, clip_id), store.baseline(run, clip_id)])
    p_clip, p_baseline = predictor(run)(both)
    return float(p_clip), float(p_baseline)


def figure_one(run: Run) -> Figure:
    """Draw one frame of a clip of each scene under every method, as the paper's Figure 1.

    Parameters
    ----------
    run : Run
        Maps that are missing are explained now.

    Returns
    -------
    Figure
        A block a scene, headed by p(x) and p(x_b): the frame with its mask, then a heatmap a
        method, one colour bar.
    """
    listed = methods(run).values()
    clips = shown_clips(run)
    n_rows = -(-(len(listed) + 1) // COLUMNS)
    height, width = run.params.frame_size
    tile = (WIDTH - 1) / COLUMNS * height / width + 0.25
    with styled():
        figure = Figure((WIDTH, n_rows * tile * len(clips) + 0.3), dpi=DPI, layout="constrained")
        blocks = figure.subfigures(len(clips), 1, squeeze=False)[:, 0]
        for block, (scene, clip_id) in zip(blocks, clips.items(), strict=True):
            maps = {row.label: store.attribution(run, clip_id, row.key) for row in listed}
            mask = store.mask(run, clip_id)
            axes = block.subplots(n_rows, COLUMNS)
            heatmap_grid(axes, store.frames(run, clip_id), mask, maps, t=best_frame(mask))
            p_clip, p_baseline = probabilities(run, clip_id)
            title = f"{scene}: clip {clip_id}, p(x) = {p_clip:.3f}, p(x_b) = {p_baseline:.3f}"
            block.suptitle(title, fontsize=10, x=0.01, ha="left")
    return figure
