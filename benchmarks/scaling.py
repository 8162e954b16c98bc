"""How many workers are worth it? A simulation of `vad measure` on 1 to 1,000 of them.

`python -m benchmarks.scaling --study results/ucsd-earlier` takes the seconds of every map from a
study's `explanations.csv`, adds those of scoring, and hands the units to workers as Dask would:
`benchmarks/results/scaling.csv`, and a chart beside the study's figures. `--validate quick`
measures a small run on one, two and four local workers instead, beside what the simulation, given
the seconds of one, says of them, and what a unit costs that does nothing:
`benchmarks/results/scaling_check.csv`. Nothing else should be running."""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import math
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from distributed import as_completed
from matplotlib.figure import Figure

from vad_helpers import tables, viz
from vad_helpers.files import atomic_write
from vad_helpers.metrics.model_centric import BLOCK_AREAS, MATCHED_AREAS
from vad_helpers.run import cache, cluster, open_run, params, steps
from vad_helpers.run.cache import Run
from vad_helpers.run.rows import TIME_AVERAGE

WORKERS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def simulate(
    seconds: Sequence[float],
    n_workers: int,
    *,
    start: float = 30.0,
    overhead: float = 0.005,
    write: float = 0.02,
    weights_mb: float = 49.0,
    mb_per_s: float = 100.0,
    lives: float = math.inf,
    restart: float = 60.0,
    cores: float = math.inf,
    seed: int = 0,
) -> tuple[float, float, int]:
    """Hand units out in their order, each to the worker that is free first.

    Parameters
    ----------
    seconds : sequence of float
        What the units take.
    n_workers : int
        Workers, that all come at once.
    start : float
        Seconds until a worker can begin; all read the weights (`weights_mb`) from one disk of
        `mb_per_s`, one after the other.
    overhead, write : float
        Seconds of the scheduler and of the client a unit; each does one at a time.
    lives, restart : float
        Mean seconds until a worker dies (exponential), and until another is in its place; its unit
        is handed out again.
    cores : float
        Cores of all workers together: where these are fewer, each takes as much longer.
    seed : int
        Of the deaths.

    Returns
    -------
    tuple of float, float, int
        Hours, efficiency (the units' seconds over the workers' hours), units done again.
    """
    rng, again = random.Random(seed), 0
    slower = max(1.0, n_workers / cores)
    free = [(slower * start + (i + 1) * weights_mb / mb_per_s, i) for i in range(n_workers)]
    death = [lives * rng.expovariate(1.0) for _ in free]
    scheduler, left, ends = 0.0, list(reversed(seconds)), []
    while left:
        now, i = heapq.heappop(free)
        unit = left.pop()
        scheduler = max(scheduler, now) + overhead
        end = scheduler + slower * unit
        if death[i] < end:  # before or within the unit
            left.append(unit)
            again += death[i] > scheduler
            end = max(now, death[i]) + restart
            death[i] = end + lives * rng.expovariate(1.0)
        else:
            ends.append(end)
        heapq.heappush(free, (end, i))
    client = 0.0
    for end in sorted(ends):
        client = max(client, end) + write
    return client / 3600, sum(seconds) / (n_workers * client), again


def durations(folder: Path) -> list[float]:
    """Seconds of a study's units, in the order in which workers get them: map and scores.

    Scoring is not in the tables: as `steps.plan`, all points of all curves, each a forward pass of
    the seconds that LIME took for one. The longest rows come first.
    """
    study, found = tables.load(folder), []
    lime = study.explanations[study.explanations["row"] == "lime"]
    forward = float((lime["seconds"] / lime["model_calls"]).median())
    sizes = len(MATCHED_AREAS) + len(BLOCK_AREAS)
    calls = 2 * (study.params["n_thresholds"] + study.params["area_steps"] + sizes)
    for line in study.explanations.itertuples():
        if line.row != TIME_AVERAGE:
            found.append(line.seconds + calls * forward)
    return sorted(found, reverse=True)


def validate(run: Run, n_workers: Sequence[int] = (1, 2, 4)) -> pd.DataFrame:
    """Measure a run anew on so many local workers, beside what `simulate` says.

    workers, measured and simulated (seconds from the workers' start to the last line), ratio,
    speedup (measured, to one worker), overhead_ms (of a unit that does nothing, see `overhead`).
    Durations and start are those of one worker; of the first unit, those of another of its row.
    """
    steps.begin(run)
    taken: dict[int, list[tuple[str, float]]] = {}
    before = cache.append
    for n in n_workers:
        (run.path("explanations.csv")).unlink(missing_ok=True)  # all pairs are to be done again
        (run.path("convergence.csv")).unlink(missing_ok=True)
        if run.path("attributions").exists():
            run.path("attributions").rename(run.path(f"maps-{n}-{time.time():.0f}"))
        taken[n] = [("", time.monotonic())]

        def append(run: Run, lines: dict[str, list[tuple]], kept: list = taken[n]) -> None:
            before(run, lines)
            one = (lines.get("explanations") or lines["convergence"])[0][1]
            kept.append((one + "*" * ("explanations" not in lines), time.monotonic()))

        cache.append = append
        try:
            cluster.measure(run, cluster.place(workers=n))
        finally:
            cache.append = before
    spent = [(b[0], b[1] - a[1]) for a, b in itertools.pairwise(taken[1])]
    first, whole = spent[0]
    alike = [seconds for row, seconds in spent[1:] if row == first]
    seconds = [alike[0] if alike else whole, *(seconds for _, seconds in spent[1:])]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    options = {"start": whole - seconds[0], "weights_mb": 0, "write": 0, "cores": cores}
    lines, alone, extra = [], taken[1][-1][1] - taken[1][0][1], 1000 * overhead(run)
    for n in n_workers:
        measured = taken[n][-1][1] - taken[n][0][1]
        found = simulate(seconds, n, **options)[0] * 3600
        lines.append((n, measured, found, found / measured, alone / measured, extra))
    columns = ["workers", "measured", "simulated", "ratio", "speedup", "overhead_ms"]
    return pd.DataFrame(lines, columns=columns)


def overhead(run: Run, n: int = 200) -> float:
    """Seconds that a unit costs beside its work: its way to a worker and back, and its lines."""
    keys = {row: steps.score_key(run, one) for row, one in steps.rows(run).items()}
    clip_id, row = next(iter(cache.done(run, keys)))
    lines = {name: cache.read_lines(run, name) for name in cache.APPENDED}
    lines = {name: [x for x in lines[name] if row in x and clip_id in x] for name in lines}
    with tempfile.TemporaryDirectory() as folder, cluster.place(workers=1)() as client:
        other = dataclasses.replace(run, dir=Path(folder), memo={})
        client.submit(dict, lines).result()
        started = time.monotonic()
        for future in as_completed([client.submit(dict, lines, pure=False) for _ in range(n)]):
            cache.append(other, future.result())
        return (time.monotonic() - started) / n


def main(
    study: Annotated[Path, typer.Option(help="With explanations.")] = Path("results/ucsd-earlier"),
    out: Annotated[Path, typer.Option(help="Folder of the table.")] = Path("benchmarks/results"),
    lives: Annotated[float, typer.Option(help="Mean hours until a worker dies.")] = 4.0,
    check: Annotated[str, typer.Option("--validate", help="A small profile to measure.")] = "",
    param: Annotated[list[str], typer.Option("-p", "--param", help="Of that run.")] = [],  # noqa: B006
) -> None:
    """Simulate a study on 1 to 1,000 workers, or a small run beside its measurement."""
    if check:
        run = open_run(check, **dict(params.parse_override(text) for text in param))
        return _write(validate(run).round(2), out / "scaling_check.csv")
    seconds, lines = durations(study), []
    for n in WORKERS:
        alone, dying = simulate(seconds, n), simulate(seconds, n, lives=3600 * lives)
        lines.append((n, round(alone[0], 3), round(alone[1], 3), round(dying[0], 3), dying[2]))
    columns = ["workers", "hours", "efficiency", f"hours_dying_each_{lives:g}h", "done_again"]
    print(f"{len(seconds)} units, {sum(seconds) / 3600:.1f} hours, longest {seconds[0]:.0f} s")
    found = pd.DataFrame(lines, columns=columns)
    _write(found, out / "scaling.csv")
    with atomic_write(study / "figures" / "scaling.png") as temporary:
        temporary.write_bytes(viz.png_bytes(chart(seconds, found)))


def chart(seconds: Sequence[float], found: pd.DataFrame) -> Figure:
    """Hours over workers, beside what each thing alone would leave: the work shared out without
    loss, the longest unit, what one scheduler and one client do for all units, and the weights."""
    costs, n = simulate.__kwdefaults__, found["workers"]
    figure, ax = viz.subplots(height=3.6)
    ax.loglog(n, found["hours"], "o-", color="black", label="simulated", zorder=3)
    read = costs["weights_mb"] / costs["mb_per_s"]  # by one worker after the other
    limits = {
        "work shared out without loss": sum(seconds) / n,
        "longest unit": max(seconds) + 0 * n,
        "lines appended by the client": costs["write"] * len(seconds) + 0 * n,
        "scheduler": costs["overhead"] * len(seconds) + 0 * n,
        "start, and weights read from one disk": costs["start"] + read * n,
    }
    looks = ("#0072B2", "--"), ("#D55E00", "-."), ("#009E73", ":"), ("#6E6E6E", (0, (1, 4)))
    looks = (*looks, ("#CC79A7", "-"))
    for (label, spent), (colour, line) in zip(limits.items(), looks, strict=True):
        ax.loglog(n, spent / 3600, color=colour, linestyle=line, label=label)
    ax.set(xlabel="workers", ylabel="hours")
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    return figure


def _write(found: pd.DataFrame, path: Path) -> None:
    with atomic_write(path) as temporary:
        found.to_csv(temporary, index=False)
    print(found.to_string(index=False))


if __name__ == "__main__":
    typer.run(main)
