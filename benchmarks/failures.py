"""What do the networks miss? Pictures of the test sequences that are called worst.

`python -m benchmarks.failures --study results/ucsd -p masks=all --out
results/ucsd/figures/failures.png` shows, of each of the eight sequences with the lowest accuracy,
the clip that its network is most wrong about: the frame on which the mask is largest, else the
first."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from vad_helpers import tables, viz
from vad_helpers.run import open_run, params, steps
from vad_helpers.viz import heatmaps, style

SHAPE = (2, 4)
"""Lines and columns of pictures."""


def main(
    study: Annotated[Path, typer.Option(help="Its run folders.")] = Path("results/ucsd"),
    profile: Annotated[str, typer.Option(help="Of a run that reads the videos.")] = "ucsd",
    param: Annotated[list[str], typer.Option("-p", "--param", help="Of that run.")] = [],  # noqa: B006
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("failures.png"),
) -> None:
    """Draw the clips that are called worst, with masks outlined."""
    run = open_run(profile, **dict(params.parse_override(text) for text in param))
    shown = worst(tables.load(study).predictions, n=SHAPE[0] * SHAPE[1])
    figure, axes = style.subplots(*SHAPE, height=3.4)
    for ax, clip in zip(axes.flat, shown.itertuples(), strict=True):
        grey = steps.frames(run, clip.clip_id)
        mask = np.zeros(grey.shape, bool)  # of a normal clip, or one without masks
        if steps.line_of(run, clip.clip_id)["has_mask"]:
            mask = steps.mask(run, clip.clip_id)
        t = heatmaps.best_frame(mask)
        heatmaps.frame(ax, grey[t], mask[t], title=f"{clip.sequence}, p = {clip.p:.2f}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(viz.png_bytes(figure))
    print(shown.to_string(index=False))


def worst(predictions: pd.DataFrame, *, n: int) -> pd.DataFrame:
    """The clip with the most wrong p of each of the `n` test sequences with the lowest accuracy.

    clip_id, sequence, label, p, accuracy (of the sequence, at p >= .5); the worst sequence first.
    """
    tested = predictions[predictions["split"] == "test"]
    off = (tested["p"] - tested["label"]).abs()
    right = ((tested["p"] >= tables.schema.CALLED_FROM) == (tested["label"] == 1)).astype(float)
    tested = tested.assign(off=off, accuracy=right.groupby(tested["sequence"]).transform("mean"))
    one = tested.sort_values("off").drop_duplicates("sequence", keep="last")
    columns = ["clip_id", "sequence", "label", "p", "accuracy"]
    return one.sort_values(["accuracy", "sequence"])[columns].head(n)


if __name__ == "__main__":
    typer.run(main)
