"""Are the sampled explanations of a run converged? Two seeds against each other, doubling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd
from tqdm.auto import tqdm

from vad_helpers.attribution import METHODS
from vad_helpers.attribution.convergence import converge
from vad_helpers.store import detector, experiment, maps
from vad_helpers.store.cache import Run, cached, key_of, load_or_build
from vad_helpers.store.row import Row, rows

CONVERGENCE_VERSION = FIRST_VERSION = 1
SAMPLED = ("kernel_shap", "lime")
START = 25
COLUMNS = ("scene", "clip_id", "method", "n_samples", "correlation", "converged")


def convergence_table(
    run: Run, *, progress: bool = False, after: Callable[[pd.DataFrame], None] | None = None
) -> pd.DataFrame:
    """Double the samples of LIME and KernelSHAP on a clip of each scene until two seeds agree.

    The doubling ends at the largest number of samples that a row of the method has in this run:
    it tells whether that row is converged, and costs at most twice that row's map.

    Parameters
    ----------
    run : Run
    progress : bool
        Show a bar.
    after : callable, optional
        Called with what there is of the table after every clip, to publish it, say.

    Returns
    -------
    DataFrame
        scene, clip_id, method, n_samples, correlation (of the maps of two seeds), converged; one
        line a number tried. The clips are the first of each scene that the largest row has.
        Empty if the run has neither method.
    """
    table = pd.DataFrame(columns=list(COLUMNS))
    for row, scene, clip_id in tqdm(units(run), desc="doubling samples", disable=not progress):
        part = _one(run, clip_id, row).assign(scene=scene, clip_id=clip_id, method=row.method)
        part = part[list(COLUMNS)]
        table = pd.concat([table, part], ignore_index=True) if len(table) else part
        if after is not None:
            after(table)
    return table


def calls_to_do(run: Run) -> int:
    """Model calls that `convergence_table` takes at most, without what is there."""
    found = 0
    for row, _, clip_id in units(run):
        if not cached(run, _file(row, clip_id), _key(run, row, clip_id)):
            found += 2 * _n_samples(row)  # two seeds; smaller numbers are part of the largest
    return found


def version_of(versions: Mapping[str, int]) -> int:
    """Version of the code behind a published check, by those that its fold's entry lists."""
    return versions.get("convergence", FIRST_VERSION)  # the first was not listed yet


def write_missing(run: Run, row: Row, clip_id: str, lines: pd.DataFrame) -> bool:
    """Write a check made elsewhere where the run looks for its own, if it is whole and not there.

    Parameters
    ----------
    run : Run
    row : Row
    clip_id : str
    lines : DataFrame
        Of this row and clip, as in `convergence_table`.

    Returns
    -------
    bool
        Whether it was written.
    """
    lines = lines.sort_values("n_samples")[["n_samples", "correlation", "converged"]]
    last = lines.iloc[-1]
    whole = bool(last["converged"]) or 2 * last["n_samples"] > _n_samples(row)
    if not whole or cached(run, _file(row, clip_id), _key(run, row, clip_id)):
        return False
    _kept(run, row, clip_id, lambda: lines)
    return True


def units(run: Run) -> list[tuple[Row, str, str]]:
    """What is doubled: row, scene, clip_id."""
    largest = [row for key in SAMPLED if (row := _largest(run, key)) is not None]
    return [
        (row, scene, clip_id)
        for row in largest
        for scene, clip_id in _first_clips(run, row).items()
    ]


def _largest(run: Run, method: str) -> Row | None:
    """The row of a method, or of its variants, with the most samples."""
    found = [row for row in rows(run).values() if row.method == method]
    return max(found, key=_n_samples, default=None)


def _n_samples(row: Row) -> int:
    return {**METHODS[row.method].settings, **row.settings}["n_samples"]


def _first_clips(run: Run, row: Row) -> pd.Series:
    """First clip of each scene among those that the row is evaluated on."""
    table = experiment.evaluation(run)
    table = table[table["clip_id"].isin(maps.clips_of(run, row))]
    return table.groupby("scene")["clip_id"].first()


def _one(run: Run, clip_id: str, row: Row) -> pd.DataFrame:
    return _kept(run, row, clip_id, lambda: _double(run, clip_id, row))


def _kept(run: Run, row: Row, clip_id: str, build: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    return load_or_build(
        run,
        _file(row, clip_id),
        _key(run, row, clip_id),
        build=build,
        save=_save_csv,
        load=pd.read_csv,
    )


def _file(row: Row, clip_id: str) -> str:
    return f"convergence/{row.key}-{clip_id}.csv"


def _key(run: Run, row: Row, clip_id: str) -> str:
    return key_of("convergence", CONVERGENCE_VERSION, map=maps.row_key(run, row), clip=clip_id)


def _double(run: Run, clip_id: str, row: Row) -> pd.DataFrame:
    p, precision = run.params, maps.precision_of(run, row)
    settings = {name: value for name, value in row.settings.items() if name != "n_samples"}
    return converge(
        detector.prepared(run, row.weights, precision),
        experiment.clip(run, clip_id),
        row.method,
        start=min(START, _n_samples(row)),
        most=_n_samples(row),
        seeds=(p.seed, p.seed + 1),
        baseline=row.baseline,
        precision=precision,
        black=p.black,
        batch_size=p.eval_batch_size,
        **settings,
    )


def _save_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)
