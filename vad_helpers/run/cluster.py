"""The maps of a run on many workers, by Dask: on this machine, a cluster of one's own, a queue.

The unit is a row of a clip, one of `steps.joined`. A worker opens the run by its parameters, from
the folder that it shares with the client, and keeps the network and the clip that it saw last. Its
lines come back to the client, which alone appends them to the tables: a worker that dies (without
memory it ends by itself) loses its unit, a client that dies loses what is not appended, and the
same command goes on with the rest.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import logging
import os
import re
import shutil
import socket
import sys
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from ruamel.yaml import YAMLError
from tqdm.auto import tqdm

from vad_helpers.attribution import checks
from vad_helpers.errors import InputError, needs
from vad_helpers.inference.prepared import out_of_memory
from vad_helpers.run import cache, params, steps
from vad_helpers.run.cache import Pair, Run
from vad_helpers.run.rows import SLOW_CALLS, rows_of
from vad_helpers.tables import schema
from vad_helpers.tables.schema import Study

if TYPE_CHECKING:
    from distributed import Client

# Classes of dask_jobqueue that a file may name as its `kind`, and options that no file sets.
KINDS = ("SLURMCluster", "PBSCluster", "LSFCluster", "SGECluster")
OURS = "scheduler scheduler_cls job_cls n_workers processes loop asynchronous silence_logs".split()
RETRIES = 2  # of a unit that failed; Dask counts workers that died on it apart
Unit = tuple[str, tuple[str, ...], str]  # clip, rows, and the key of a doubling, else ""
Place = Callable[[], AbstractContextManager["Client"]]


def place(
    *, workers: int | None = None, scheduler: str | None = None, jobqueue: Path | None = None
) -> Place:
    """Check where workers are to run, and give what opens a client of them; nothing starts yet.

    `workers` are processes on this machine, `scheduler` is the address of a Dask scheduler ("tcp://
    host:8786"), `jobqueue` a file of YAML 1.2 with `kind` (of `KINDS`), `jobs` (so many are kept
    running), and options of that class of dask_jobqueue; all workers have one thread each.
    InputError if not exactly one is given, it makes no sense, or the extra is missing.
    """
    given = [value for value in (workers, scheduler, jobqueue) if value is not None]
    if len(given) != 1:
        raise InputError(f"{len(given)} places for workers; give --workers, --scheduler or a queue")
    with needs("cluster"):
        import distributed
    if scheduler is not None:
        if not (parts := re.fullmatch(r"(?:tcp|tls)://([^:/]+):([0-9]{1,5})", scheduler)):
            raise InputError(f"--scheduler is '{scheduler}'; give an address, tcp://host:8786 say")
        try:  # before a training of hours
            socket.create_connection((parts[1], int(parts[2])), timeout=10).close()
        except (OSError, OverflowError) as error:
            raise InputError(f"no scheduler answers at {scheduler}: {error}; start it") from None
        return functools.partial(_connected, lambda: contextlib.nullcontext(scheduler))
    if jobqueue is not None:
        kind, jobs, options = _read_queue(jobqueue)
        return functools.partial(_connected, lambda: kind(**options), jobs=jobs)
    if workers < 1:
        raise InputError(f"--workers is {workers}; give 1 or more")
    options = {"n_workers": workers, "threads_per_worker": 1, "memory_limit": 0}
    options |= {"dashboard_address": "127.0.0.1:0", "silence_logs": logging.CRITICAL}
    # Ctrl-C on a terminal reaches all processes; the client alone answers it.
    options["preload"] = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
    return functools.partial(_connected, lambda: distributed.LocalCluster(**options))


@contextlib.contextmanager
def _connected(make: Callable[[], Any], *, jobs: int | None = None) -> Iterator[Client]:
    import dask
    from distributed import Client

    # What counts is said in one line.
    for name in ("distributed", "distributed.client", "asyncio", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    # The longest units first, to whoever is free: none waits at a worker that is busy.
    with dask.config.set({"distributed.scheduler.worker-saturation": 1.0}), ExitStack() as opened:
        try:
            made = opened.enter_context(make())
            client = opened.enter_context(Client(made, timeout=20))
            if jobs is not None:
                # Closing a cluster asserts that all of its jobs could be submitted.
                opened.callback(lambda: getattr(made, "_created", set()).clear())
                made.scale(jobs=1)
                made.sync(made.__aenter__)  # until it is submitted; `adapt` would try for ever
                if any(not job.job_id for job in made.workers.values()):
                    raise RuntimeError("a job is refused; submit one with its options by hand")
                made.adapt(minimum_jobs=jobs, maximum_jobs=jobs)  # what ends is submitted again
        except (OSError, ValueError, TypeError, RuntimeError) as error:
            told = [line for line in str(error).splitlines() if line.strip()]
            raise InputError(f"no workers can be had: {(told or ['?'])[-1].strip()}") from error
        yield client


def _read_queue(path: Path) -> tuple[type, int, dict[str, Any]]:
    """Class of dask_jobqueue, number of jobs and options that a file names."""
    with needs("cluster"):
        import dask_jobqueue
    try:
        # YAML 1.2, as of profiles: 1.1 makes a number of seconds of the walltime 04:00:00.
        options = params.read_yaml(Path(path).read_text(encoding="utf-8"))
    except (YAMLError, UnicodeDecodeError):
        options = None
    if not isinstance(options, dict) or not {"kind", "jobs", "cores", "memory"} <= set(options):
        raise InputError(f"{path} does not give kind, jobs, cores and memory as YAML: add them")
    jobs = options.pop("jobs")
    kind = getattr(dask_jobqueue, checks.one_of("kind", options.pop("kind"), KINDS))
    known = {*inspect.signature(kind.__init__).parameters}
    for part in kind.job_cls.__mro__:
        known |= {*inspect.signature(part.__init__).parameters}
    known -= {"self", "args", "kwargs", "job_kwargs", "base_class_kwargs", *OURS}
    for name in options:
        checks.one_of(f"option of {kind.__name__}", name, sorted(known))
    options["processes"] = options["cores"]  # a worker has one thread
    if type(jobs) is not int or jobs < 1:
        raise InputError(f"{path} has jobs {jobs!r}; give a whole number from 1 on")
    if shutil.which(submit := kind.job_cls.submit_command.split()[0]) is None:
        raise InputError(f"there is no {submit} here, which a {kind.__name__} calls")
    return kind, jobs, options


def measure(run: Run, place: Place, *, keep: bool = True, progress: bool = False) -> Study:
    """Train here, then explain, score and double on workers what the tables lack.

    Workers see the folders of the run, of its project and of its data at the same paths. `place`
    opens a Dask client, see `place`, if something is left to do; without `keep`, workers write no
    maps; `progress` shows bars. The tables are those of `steps.measure` and `steps.converge`.
    InputError if no workers can be had, or one reads other data, code or weights; RuntimeError if
    the scheduler is lost, or units killed their workers again and again: the rest stands.
    """
    if run.readonly:
        return schema.load(run.dir)
    keys, pairs, finished = steps.begin(run, progress=progress)
    about = {"root": str(run.root), "dir": str(run.dir), "supplied": run.supplied, "keep": keep}
    text = json.dumps(about | {"parameters": run.params.dump(), "keys": keys}, default=list)
    bar = tqdm(total=len(pairs) - len(finished), desc="measure", unit="map", disable=not progress)
    with ExitStack() as opened, bar:
        # What other processes on this folder work on is waited for; in one order, or two clients
        # would wait for each other.
        names = sorted({*_left(run, keys, pairs).values()})
        with contextlib.suppress(ImportError, ValueError):  # each lock is an open file
            import resource

            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft + len(names), hard))
        for name in names:
            opened.enter_context(cache.lock(run.dir, name))
        if units := ordered(run, _left(run, keys, pairs)):
            client = opened.enter_context(place())
            tqdm.write(f"dashboard of the workers: {client.dashboard_link}", file=sys.stderr)
            _fill(run, client, text, units, bar)
    steps.converge(run)  # nothing is left to double, but to count
    return steps.finish(run, keys, pairs)


def _left(run: Run, keys: dict[str, str], pairs: Collection[Pair]) -> dict[Unit, str]:
    """Units that the tables lack, and the locks by which processes on one folder share them."""
    done, rows, undoubled = cache.done(run, keys), defaultdict(list), steps.undoubled(run)
    for clip_id, row in pairs:
        if (clip_id, row) not in done:
            rows[clip_id].append(row)
    found = {(c, (row,), key): f"converge-{row}-{c}" for (c, row), key in undoubled.items()}
    return found | {(c, one, ""): f"clip-{c}" for c in rows for one in steps.joined(rows[c])}


def ordered(run: Run, units: Collection[Unit]) -> list[Unit]:
    """Units in the order in which workers get them: rows of over `SLOW_CALLS` model calls first,
    the longest before others; then clip by clip."""
    listed, places = rows_of(run.params), list(dict.fromkeys(unit[0] for unit in units))

    def order(unit: Unit) -> tuple[int, int, int]:
        calls = listed[unit[1][0]].model_calls(run.params) * (2 if unit[2] else 1)
        return -calls if calls > SLOW_CALLS else 0, places.index(unit[0]), -calls

    return sorted(units, key=order)


def _fill(run: Run, client: Client, text: str, units: Sequence[Unit], bar: tqdm) -> None:
    """Have units computed, and append their lines as they come."""
    from distributed import CancelledError, KilledWorker, as_completed

    futures, lost = {}, []
    try:
        for i, unit in enumerate(units):
            options = {"priority": -i, "retries": RETRIES, "pure": False}
            futures[client.submit(work, text, unit, **options)] = unit
        for future in as_completed(list(futures)):
            clip_id, rows, key = futures.pop(future)
            try:
                cache.append(run, future.result())
            except KilledWorker:
                lost.append(f"{rows[0]} of {clip_id}")
            bar.update(0 if key else len(rows))
    except (CancelledError, OSError) as error:
        if client.status == "running":
            raise
        told = "is gone; what is in the tables stays, and the same command goes on"
        raise RuntimeError(f"the scheduler of the workers {told}") from error
    finally:
        if futures and client.status == "running":
            client.cancel(list(futures))
    if lost:
        told = f"{len(lost)} units killed their workers, the first is {lost[0]}"
        raise RuntimeError(f"{told}: give workers more memory; the same command goes on")


def work(text: str, unit: Unit) -> dict[str, list[tuple]]:
    """Lines of one unit, computed in a worker; `text` says of which run (JSON)."""
    from distributed import get_worker

    if (n_threads := get_worker().state.nthreads) != 1:
        raise InputError(f"a worker has {n_threads} threads; start it with --nthreads 1")
    clip_id, rows, key = unit
    try:
        run, keys, keep = _opened(text)
        if key:
            return steps.double(run, clip_id, rows[0], key)
        return steps.score(run, clip_id, rows, keys, keep=keep)
    except (MemoryError, RuntimeError) as error:
        if out_of_memory(error):
            # What is left of this process would fail the next units too; another one takes them.
            os._exit(1)
        raise


@functools.lru_cache(maxsize=1)
def _opened(text: str) -> tuple[Run, dict[str, str], bool]:
    """The run that a client means, once a worker; its network and clip stay in its memo."""
    given = json.loads(text)
    root, folder, host = Path(given["root"]), Path(given["dir"]), socket.gethostname()
    if not (folder / "manifest.json").is_file():
        raise InputError(f"{host} does not see {folder}; workers need it at the same path")
    own = params.checked(given["parameters"], root=root)
    run = Run(params=own, root=root, dir=folder, supplied=given["supplied"])
    # Before any key: where the network is not the client's, asking for one would train it.
    if not steps.is_trained(run) or given["keys"] != {
        row: steps.score_key(run, rows_of(own)[row]) for row in given["keys"]
    }:
        raise InputError(f"{host} reads other data, code or weights of {folder} than the client")
    return run, given["keys"], given["keep"]


def hours(plan: pd.DataFrame, n_workers: int) -> float:
    """Hours that what `steps.plan` lists takes with so many workers: the client trains, and no row
    of a clip is shared out."""
    left = plan["state"].str.extract(r"(\d+) of (\d+) done").astype(float)
    units, minutes = (left[1] - left[0]).fillna(0), plan["minutes"]
    shared = minutes[units > 0].sum() + minutes[plan["step"] == "doubling"].sum()
    longest = (minutes / units)[units > 0].max() if (units > 0).any() else 0.0
    alone = minutes[plan["step"] != "total"].sum() - shared
    return float(alone + max(shared / n_workers, longest)) / 60
