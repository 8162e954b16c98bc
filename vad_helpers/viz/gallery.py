"""A few explained clips as pictures, for a published study: a clip a scene, the worst, the best.

One frame of each clip is shown and no more: pictures explain maps, they are no copy of the data.
Clips are taken from those that every method has explained and localised; nothing is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from vad_helpers import store
from vad_helpers.errors import InputError
from vad_helpers.store import Run, maps, scores
from vad_helpers.store.publish import Picture
from vad_helpers.store.row import methods
from vad_helpers.store.study import mean_auc
from vad_helpers.viz.heatmaps import best_frame, heatmap_grid
from vad_helpers.viz.style import WIDTH, png_bytes, styled

COLUMNS = 3
DPI = 100
N_WORST, N_BEST = 2, 1


def pictures(runs: Sequence[Run]) -> dict[str, Picture]:
    """Draw a clip of each scene, then the clips localised worst and best.

    Parameters
    ----------
    runs : sequence of Run
        One a fold.

    Returns
    -------
    dict of str to Picture
        In the order in which they are shown.

    Raises
    ------
    InputError
        If no clip is explained and localised by every method yet.
    """
    table = pd.concat([localised(run).assign(run=i) for i, run in enumerate(runs)])
    if table.empty:
        raise InputError(
            "no clip is explained and localised by every method yet; finish one, or leave the "
            "figures out"
        )
    return {
        name: picture(runs[line.run], line.clip_id, line.scene, why)
        for name, line, why in chosen(table)
    }


def localised(run: Run) -> pd.DataFrame:
    """Clips that every method has explained and localised.

    Returns
    -------
    DataFrame
        clip_id, scene, auc: the mean clip AUC over the methods. In the order of the evaluation set.
    """
    found = scores.tidy(run, scores.finished(run, "human_centric"))
    listed = methods(run)
    auc = mean_auc(found, list(listed)).reset_index()
    table = store.evaluation(run)[["clip_id", "scene"]].merge(auc, on="clip_id")
    there = [all(maps.explained(run, c, row) for row in listed.values()) for c in table["clip_id"]]
    return table[there]


def chosen(table: pd.DataFrame) -> list[tuple[str, pd.Series, str]]:
    """Choose clips: (name of the picture, line of the table, why if not for its score).

    Parameters
    ----------
    table : DataFrame
        scene, auc. The first clip of each scene is taken whatever its score; no clip comes twice.
    """
    table = table.reset_index(drop=True)
    firsts = table.groupby("scene", sort=True).head(1).sort_values("scene")
    found = [(f"scene-{line.scene}", line, f"the first clip of {line.scene}")
             for _, line in firsts.iterrows()]  # fmt: skip
    rest = table.drop(firsts.index).sort_values("auc", kind="stable")
    worst = rest.head(N_WORST)
    best = rest.drop(worst.index).tail(N_BEST)
    for name, part in (("worst", worst), ("best", best.iloc[::-1])):
        found += [(f"{name}-{i}", line, "")
                  for i, (_, line) in enumerate(part.iterrows(), start=1)]  # fmt: skip
    return found


def picture(run: Run, clip_id: str, scene: str, why: str) -> Picture:
    """Draw one frame of a clip under every method.

    How well it is localised beside all clips of a study, only the page can say.
    """
    listed = methods(run)
    mask = store.mask(run, clip_id)
    t = best_frame(mask)
    drawn = _figure(run, clip_id, {row.label: key for key, row in listed.items()}, t)
    return Picture(
        png=png_bytes(drawn, dpi=DPI),
        alt=f"One frame of a clip of {scene} with the outline of the annotated anomaly, and beside "
        f"it the heatmaps of {len(listed)} methods, red where they speak for “anomalous” and blue "
        "where they speak against",
        caption=f"{clip_id}, frame {t + 1}" + (f": {why}." if why else "."),
        clip_id=clip_id,
    )


def _figure(run: Run, clip_id: str, keys: dict[str, str], t: int) -> Figure:
    n_rows = -(-(len(keys) + 1) // COLUMNS)
    height, width = run.params.frame_size
    tile = (WIDTH - 1) / COLUMNS * height / width + 0.25
    with styled():
        figure = Figure((WIDTH, n_rows * tile + 0.1), dpi=DPI, layout="constrained")
        axes = figure.subplots(n_rows, COLUMNS, squeeze=False)
        found = {label: store.attribution(run, clip_id, key) for label, key in keys.items()}
        heatmap_grid(axes, store.frames(run, clip_id), store.mask(run, clip_id), found, t=t)
    return figure
