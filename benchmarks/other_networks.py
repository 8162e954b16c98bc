"""Does the order of methods hold for other networks? Three small ones, on the synthetic videos.

`python -m benchmarks.other_networks` trains each, explains and scores the same clips, and writes
`results/other_networks.csv`. Runs are kept in `--folder`, so that a killed one goes on. Frames are
smaller than those of the profile, and curves that the table does not show have few steps: two CPU
cores take half an hour."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
from scipy.stats import kendalltau

from benchmarks.auc import bootstrap_auc
from vad_helpers import tables
from vad_helpers.files import atomic_write
from vad_helpers.run import open_run, params, steps
from vad_helpers.tables import Study, statistics
from vad_helpers.tables.summary import options

SIZE = [48, 72]
"""Height and width of a frame."""
NETWORKS = {
    "i3d": {},
    "r2plus1d": {"model": "examples/networks.py:r2plus1d"},
    "video_transformer": {
        "model": "examples/networks.py:video_transformer",
        "model_args": {"size": [16, *SIZE]},
    },
}
SMALLER = {
    "frame_size": SIZE,
    "settings": {  # the profile's windows, on smaller frames
        "occlusion_lp": {"window": [8, 16, 23], "stride": [8, 10, 10]},
        "occlusion_sp": {"window": [4, 7, 10], "stride": [4, 5, 5]},
    },
    "variants": {},
    "n_clips": 16,
    "max_per_sequence": 1,
    "n_thresholds": 5,
    "area_steps": 2,
}
METRICS = (
    ("model_centric", "srg"),
    ("model_centric", "area_matched_deletion"),
    ("model_centric", "area_matched_insertion"),
    ("human_centric", "auc"),
)
COLUMNS = ["network", "row", "metric", "level", "mean", "low", "high", "n_clips", "n_sequences"]


def main(
    profile: Annotated[str, typer.Option(help="Of the runs.")] = "quick",
    param: Annotated[list[str], typer.Option("-p", "--param", help="Of the runs.")] = [],  # noqa: B006
    folder: Annotated[Path, typer.Option(help="Of the runs.")] = Path("runs/other_networks"),
    out: Annotated[Path, typer.Option(help="Table to write.")] = Path("results/other_networks.csv"),
) -> None:
    """Measure what is not measured yet, and write the table."""
    given, studies = dict(params.parse_override(text) for text in param), {}
    for name, own in NETWORKS.items():
        run = open_run(profile, **SMALLER | own | given, run_dir=str(folder.resolve() / name))
        studies[name] = steps.measure(run, progress=True)
        for row, told in steps.left_out(run).items():
            print(f"{name} leaves out {row}: {told}")
    found = pd.concat([means(studies), agreements(studies)], ignore_index=True)
    with atomic_write(out) as temporary:
        found.to_csv(temporary, index=False, float_format="%.4g")
    print(found.to_string(index=False))


def means(studies: Mapping[str, Study]) -> pd.DataFrame:
    """Means over clips of every row, with intervals from resampled sequences, a line a network.

    The row "detector" has the AUC of the network itself, over all clips that it was tested on, and
    its mean gap p(x) - p(baseline) on the clips that are explained: what there is to explain.
    """
    lines = []
    for name, study in studies.items():
        tested = study.predictions[study.predictions["split"] == "test"]
        groups = tested["sequence"]
        own = bootstrap_auc(tested["p"], tested["label"], groups, **options(study))
        ends, n = [own[key] for key in ("auc", "low", "high")], [len(tested), groups.nunique()]
        lines.append((name, "detector", "detection_auc", "test", *ends, *n))
        whole, without = (
            tables.pivot(study, "model_centric", "clip", metric).iloc[:, 0]
            for metric in ("p_clip", "p_baseline")
        )
        groups = whole.index.get_level_values("sequence")
        gap = statistics.paired_difference(whole, without, groups, **options(study)).values()
        lines.append((name, "detector", "gap", "clip", *list(gap)[:5]))
        for table, metric in METRICS:
            found = tables.summary(study, table, metrics=[metric]).query("level == 'clip'")
            columns = ["row", "metric", "level", "mean", "low", "high", "n", "n_groups"]
            lines += [(name, *line) for line in found[columns].itertuples(index=False)]
    return pd.DataFrame(lines, columns=COLUMNS)


def agreements(studies: Mapping[str, Study]) -> pd.DataFrame:
    """Kendall's tau-b between the orders that two networks give the methods that serve both.

    Sequences are drawn anew for both at once: their clips are the same. A line a pair of networks
    and metric, in the columns of `means`: row "tau", network "one and other", 1 is one order.
    """
    lines = []
    for one, other in itertools.combinations(studies, 2):
        for table, metric in METRICS:
            pair = [studies[one], studies[other]]
            rows = [row for row in tables.methods(pair[0]) if row in tables.methods(pair[1])]
            scores = [tables.pivot(study, table, "clip", metric, rows).dropna() for study in pair]
            shared = scores[0].index.intersection(scores[1].index)
            scores = [part.loc[shared] for part in scores]
            tau = kendalltau(*(part.mean() for part in scores)).statistic
            groups = [part.groupby(level="sequence") for part in scores]
            n = groups[0].ngroups
            drawn = statistics.resample(max(1, n), **options(pair[0]))
            sums = [drawn @ part.sum().to_numpy() for part in groups]
            taus = np.array([kendalltau(a, b).statistic for a, b in zip(*sums, strict=True)])
            ends = statistics.percentiles(taus) if n > 1 else (np.nan, np.nan)
            name = f"{one} and {other}"
            lines.append((name, "tau", metric, "clip", tau, *ends, len(shared), n))
    return pd.DataFrame(lines, columns=COLUMNS)


if __name__ == "__main__":
    typer.run(main)
