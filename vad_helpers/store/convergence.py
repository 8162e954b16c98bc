"""Are the sampled explanations of a run converged? Two seeds against each other, doubling."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from vad_helpers.attribution.convergence import converge
from vad_helpers.store import experiment, maps
from vad_helpers.store.cache import Run, key_of, load_or_build, remember
from vad_helpers.store.row import Row, rows

CONVERGENCE_VERSION = 1
SAMPLED = ("kernel_shap", "lime")
MOST_SAMPLES = 800
"""Doubling ends here, converged or not: it costs twice this many model calls in the last step."""


def convergence_table(
    run: Run, *, most: int = MOST_SAMPLES, progress: bool = False
) -> pd.DataFrame:
    """Double the samples of LIME and KernelSHAP on a clip of each scene until two seeds agree.

    Parameters
    ----------
    run : Run
    most : int
        Largest number of samples to try.
    progress : bool
        Show a bar.

    Returns
    -------
    DataFrame
        scene, clip_id, method, n_samples, correlation (of the maps of two seeds), converged; one
        line a number tried. Settings are those of the run's own row, `n_samples` aside. Empty if
        the run has neither method.
    """
    first = experiment.evaluation(run).groupby("scene")["clip_id"].first()
    methods = [rows(run)[key] for key in SAMPLED if key in rows(run)]
    units = [(scene, clip_id, row) for scene, clip_id in first.items() for row in methods]
    parts = [
        _one(run, clip_id, row, most).assign(scene=scene, clip_id=clip_id, method=row.key)
        for scene, clip_id, row in tqdm(units, desc="doubling samples", disable=not progress)
    ]
    columns = ["scene", "clip_id", "method", "n_samples", "correlation", "converged"]
    return pd.concat(parts, ignore_index=True)[columns] if parts else pd.DataFrame(columns=columns)


def _one(run: Run, clip_id: str, row: Row, most: int) -> pd.DataFrame:
    key = key_of(
        "convergence", CONVERGENCE_VERSION, map=maps.row_key(run, row), clip=clip_id, most=most
    )
    return load_or_build(
        run,
        f"convergence/{row.key}-{clip_id}.csv",
        key,
        build=lambda: _double(run, clip_id, row, most),
        save=_save_csv,
        load=pd.read_csv,
    )


def _double(run: Run, clip_id: str, row: Row, most: int) -> pd.DataFrame:
    device = experiment.torch_device(run)
    network = remember(
        run, f"network {row.weights}", lambda: experiment.network(run, row.weights).to(device)
    )
    p = run.params
    settings = {name: value for name, value in row.settings.items() if name != "n_samples"}
    return converge(
        network,
        experiment.clip(run, clip_id).to(device),
        row.method,
        most=most,
        seeds=(p.seed, p.seed + 1),
        baseline=row.baseline,
        precision=maps.precision_of(run, row),
        black=p.black,
        batch_size=p.eval_batch_size,
        **settings,
    )


def _save_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)
