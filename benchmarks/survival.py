"""What is left when something breaks? Faults on purpose, and the tables afterwards.

`python -m benchmarks.survival --profile quick` measures a run undisturbed, then breaks others and
lets them go on: `benchmarks/results/survival.csv`. A fault is survived if the same command then
ends with the tables of the undisturbed run (run time apart), at once, or after it said in one line
what is to be done. `--only kill --n 10` tries one fault ten times; a run is killed up to 7 times
before it may end. Trials that are in the working folder are not done again. `seconds_lost` is the
mean of what had to be computed twice: after a kill the time since the last finished map, after
damage what going on took longer than with none."""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import psutil
import typer

from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write

COLUMNS = ("fault", "n", "survived", "seconds_lost", "told")
TABLES = ("clips", "predictions", "rows", "human_centric", "model_centric", "robustness")
TABLES += ("curves", "frame_auc", "explanations", "convergence")
DASK = "from distributed.cli import dask_{0}; dask_{0}.main()"
LIMIT = 3600  # seconds that no command takes
KILLS = 7  # of a run, if it does not end before
ROUNDING = 0.005  # of a score whose map was made with fewer clips at once


class Lab:
    """A profile, and the run that nothing happened to."""

    def __init__(self, work: Path, given: list[str]) -> None:
        self.work, self.given = work, given
        self.folder, facts = work / "reference", work / "seconds.json"
        if not facts.is_file():
            spent = []
            for fresh in (True, True, False):  # the first makes the videos, the last does nothing
                if fresh:
                    shutil.rmtree(self.folder, ignore_errors=True)
                started = time.monotonic()
                status, told = self.end(self.start(self.folder))
                spent.append(time.monotonic() - started)
                if status:
                    raise InputError(f"the undisturbed run ends with {told}; give other parameters")
            with atomic_write(facts) as temporary:
                temporary.write_text(json.dumps(spent[1:]))
        self.seconds, self.idle = json.loads(facts.read_text())
        self.expected = tables(self.folder)

    def start(self, folder: Path, *more: str, **options: Any) -> subprocess.Popen:
        """`vad measure` of the profile on a folder, in another process."""
        code = "from vad_helpers.cli import main; main()"
        command = [sys.executable, "-c", code, "measure", *self.given, "-p", f"run_dir={folder}"]
        with (self.work / "log.txt").open("w") as log:
            streams = {"stdout": subprocess.DEVNULL, "stderr": log, "env": environment()}
            return subprocess.Popen([*command, *more], **streams, **options)

    def end(self, process: subprocess.Popen) -> tuple[int, str]:
        """Status, and what a user was told: the last line of `vad`, else the first warning."""
        status = process.wait(LIMIT)
        lines = (self.work / "log.txt").read_text().splitlines()
        said = [line for line in lines if line.startswith("vad: ")][-1:]
        warned = [line.partition("Warning: ")[2] for line in lines if "UserWarning: " in line]
        odd = [line for line in warned if line.startswith("/") or "made" in line]
        told = (said or odd or [""])[0]
        return status, told.replace(f"{self.work.resolve()}/", "")

    def finished(self, folder: Path, *more: str) -> tuple[bool, str, float]:
        """Go on to the end: same tables?, what was told, seconds beyond those of nothing to do."""
        started = time.monotonic()
        status, told = self.end(self.start(folder, *more))
        spent = time.monotonic() - started - self.idle
        return status == 0 and tables(folder) == self.expected, told, max(0.0, spent)

    def copy(self, name: str) -> Path:
        """A copy of the undisturbed run to damage."""
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        return shutil.copytree(self.folder, folder, ignore=shutil.ignore_patterns(".locks"))

    def fresh(self, name: str) -> Path:
        """A folder that no run was in."""
        shutil.rmtree(self.work / name, ignore_errors=True)
        return self.work / name


Trial = tuple[bool, float, str, int]  # survived, seconds lost, told, how often it was broken


def environment() -> dict[str, str]:
    """Of processes that share this machine: one thread each."""
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(["", *sys.path])}


def tables(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Cells of a run's tables without run time; a table that is not there is empty."""
    found = {}
    for name in TABLES:
        path = folder / f"{name}.csv"
        text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
        lines = csv.DictReader(text.splitlines())
        found[name] = [{k: v for k, v in one.items() if "seconds" not in str(k)} for one in lines]
    return found


def nearly(found: dict[str, list[dict]], expected: dict[str, list[dict]]) -> bool:
    """Tell whether tables have the same lines, and numbers that differ by rounding at most."""

    def alike(one: str, other: str) -> bool:
        with contextlib.suppress(ValueError):
            pairs = zip(one.split(), other.split(), strict=True)
            return one == other or all(abs(float(a) - float(b)) <= ROUNDING for a, b in pairs)
        return False

    lines = [[line for name in TABLES for line in part[name]] for part in (found, expected)]
    return len(lines[0]) == len(lines[1]) and all(
        a.keys() == b.keys() and all(alike(a[name], b[name]) for name in a)
        for a, b in zip(*lines, strict=True)
    )


def n_done(folder: Path) -> int:
    """Lines of `explanations.csv`."""
    path = folder / "explanations.csv"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def since_last(folder: Path, started: float) -> float:
    """Seconds since the last map was finished, or the process was started."""
    path = folder / "explanations.csv"
    last = path.stat().st_mtime if n_done(folder) > 1 else started
    return time.time() - max(last, started)


def kill(lab: Lab, rng: random.Random, *more: str) -> Trial:
    """SIGKILL at random moments, from the start of the command on; each time the same command."""
    folder, lost, n = lab.fresh("broken"), 0.0, 0
    for _ in range(KILLS):
        process, started = lab.start(folder, *more), time.time()
        moment = rng.uniform(0, 2 * lab.seconds / KILLS)
        while process.poll() is None and time.time() - started < moment:
            time.sleep(0.01)
        if process.poll() is not None:
            break
        lost, n = lost + since_last(folder, started), n + 1
        process.kill()
        process.wait()
    same, told, _ = lab.finished(folder, *more)
    return same, lost, told, n


def _line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def worker(lab: Lab, rng: random.Random) -> Trial:
    """SIGKILL of one of two workers, at a random moment after their first map."""
    folder, started = lab.fresh("broken"), time.time()
    process = lab.start(folder, "--workers", "2")
    asked = rng.uniform(0.1, 0.8) * len(lab.expected["explanations"])
    while process.poll() is None and n_done(folder) - 1 < asked:
        time.sleep(0.01)
    known = psutil.Process(process.pid).children() if process.poll() is None else []
    workers = [one for one in known if "spawn_main" in " ".join(_line(one))]
    if not workers:
        return False, 0.0, "no worker was left to kill", 1
    lost = since_last(folder, started)
    rng.choice(workers).kill()
    status, told = lab.end(process)
    return status == 0 and tables(folder) == lab.expected, lost, told, 1


def client(lab: Lab, rng: random.Random) -> Trial:
    """SIGKILL of the client of two workers; then the same command."""
    return kill(lab, rng, "--workers", "2")


def dask(name: str, *arguments: str) -> subprocess.Popen:
    """A "scheduler" or "worker" of Dask in another process."""
    command = [sys.executable, "-c", DASK.format(name), *arguments, "--no-dashboard"]
    command += ["--nthreads", "1", "--no-nanny"] if name == "worker" else []
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, env=environment(), **quiet)


@contextlib.contextmanager
def cluster(rng: random.Random, n_workers: int) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """A scheduler and workers: its address, and the processes, the scheduler first."""
    port = str(rng.randrange(20000, 60000))
    address = f"tcp://127.0.0.1:{port}"
    processes = [dask("scheduler", "--host", "127.0.0.1", "--port", port)]
    processes += [dask("worker", address) for _ in range(n_workers)]
    try:
        yield address, processes
    finally:
        for one in processes:
            one.kill()
        for one in processes:
            one.wait(60)


def begun(lab: Lab, rng: random.Random, folder: Path, address: str) -> subprocess.Popen:
    """The command on a cluster, after a random number of maps."""
    asked = rng.uniform(0.1, 0.8) * len(lab.expected["explanations"])
    process = lab.start(folder, "--scheduler", address)
    while process.poll() is None and n_done(folder) - 1 < asked:
        time.sleep(0.01)
    return process


def scheduler(lab: Lab, rng: random.Random) -> Trial:
    """SIGKILL of a Dask scheduler with two workers; then the same command with another one."""
    folder, started = lab.fresh("broken"), time.time()
    with cluster(rng, 2) as (address, processes):
        process = begun(lab, rng, folder, address)
        lost = since_last(folder, started)
        processes[0].kill()
        status, told = lab.end(process)
    if status != 1 or not told.startswith("vad: "):
        return False, lost, told or "nothing was told", 1
    with cluster(rng, 2) as (address, _):
        status, _ = lab.end(lab.start(folder, "--scheduler", address))
    return status == 0 and tables(folder) == lab.expected, lost, told, 1


def memory(lab: Lab, rng: random.Random) -> Trial:
    """One worker gets no more memory than half of what it has, and another one comes. The first may
    end, hang in the closing of its process (CPython waits there for a thread that never starts), or
    go on with fewer clips at once, which rounds otherwise."""
    folder, started = lab.fresh("broken"), time.time()
    with cluster(rng, 1) as (address, processes):
        process = begun(lab, rng, folder, address)
        lost = since_last(folder, started)
        worker = psutil.Process(processes[1].pid)
        worker.rlimit(psutil.RLIMIT_AS, (worker.memory_info().vms // 2,) * 2)
        processes.append(dask("worker", address))
        status, told = lab.end(process)
    if status and "memory" in told:
        status = lab.end(lab.start(folder))[0]
    return status == 0 and nearly(tables(folder), lab.expected), lost, told, 1


def full_disk(lab: Lab, rng: random.Random) -> Trial:
    """A disk that is full at a random moment (tmpfs); without one, a limit to any file's size."""
    folder, size = lab.fresh("broken"), sum(f.stat().st_size for f in lab.folder.rglob("*.*"))
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={int(size * rng.uniform(0.2, 0.9))}"]
    done = subprocess.run([*mount, "tmpfs", folder], capture_output=True)
    try:
        if done.returncode == 0:
            status, told = lab.end(lab.start(folder))
            if status != 2 or not told:
                return False, 0.0, told or "nothing was told", 1
            subprocess.run(["mount", "-o", "remount,size=1G", folder], check=True)
        else:
            most = (lab.folder / "human_centric.csv").stat().st_size
            limit = int(most * rng.uniform(0.2, 0.9))
            # The network is larger than any table.
            given = lab.copy("broken")
            for name in TABLES[3:]:
                (given / f"{name}.csv").unlink()

            def little() -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

            status, told = lab.end(lab.start(folder, preexec_fn=little))
            told += " (a limit to the size of a file: no tmpfs can be mounted)"
            if status != 2:
                return False, 0.0, told, 1
        same, _, seconds = lab.finished(folder)
        return same, 0.0, told, 1
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", folder], check=True)


def two(lab: Lab, rng: random.Random) -> Trial:
    """Two commands on one folder at once."""
    folder = lab.fresh("broken")
    other = lab.start(folder)
    statuses = [lab.end(lab.start(folder))[0], other.wait(LIMIT)]
    return statuses == [0, 0] and tables(folder) == lab.expected, 0.0, "", 1


def damaged(lab: Lab, damage: Callable[[Path], Path]) -> Trial:
    """Damage a finished run and go on; delete the damaged file if a line says that."""
    folder = lab.copy("broken")
    path = damage(folder)
    same, told, seconds = lab.finished(folder)
    if told.startswith("vad: ") and path.name in told:
        path.unlink()
        same, _, seconds = lab.finished(folder)
    return same, seconds, told, 1


def zeros(lab: Lab, rng: random.Random) -> Trial:
    """A table with 64 bytes of zeros in its midst."""

    def damage(folder: Path) -> Path:
        path = folder / f"{rng.choice(TABLES[3:9])}.csv"
        content = bytearray(path.read_bytes())
        at = rng.randrange(len(content) // 4, len(content) - 64)
        content[at : at + 64] = bytes(64)
        path.write_bytes(content)
        return path

    return damaged(lab, damage)


def digit(lab: Lab, rng: random.Random) -> Trial:
    """A table in which one digit of a score is another."""

    def damage(folder: Path) -> Path:
        path = folder / "human_centric.csv"
        lines = path.read_text().splitlines(keepends=True)
        for i in rng.sample(range(1, len(lines)), len(lines) - 1):
            cells = lines[i].split(",")
            if cells[5].startswith("0.") and cells[5][2:3].isdigit():
                cells[5] = f"0.{(int(cells[5][2]) + 1) % 10}{cells[5][3:]}"
                lines[i] = ",".join(cells)
                break
        path.write_text("".join(lines))
        return path

    return damaged(lab, damage)


def cut_line(lab: Lab, rng: random.Random) -> Trial:
    """A table whose last line is cut."""

    def damage(folder: Path) -> Path:
        path = folder / f"{rng.choice(TABLES[3:9])}.csv"
        path.write_bytes(path.read_bytes()[: -rng.randrange(2, 20)])
        return path

    return damaged(lab, damage)


def cut_map(lab: Lab, rng: random.Random) -> Trial:
    """A map whose file is cut, and the tables that it is wanted for gone."""

    def damage(folder: Path) -> Path:
        (folder / "explanations.csv").unlink()
        path = rng.choice(sorted((folder / "attributions").rglob("*.safetensors")))
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return damaged(lab, damage)


def cut_network(lab: Lab, rng: random.Random) -> Trial:
    """A network whose file is cut, and a table that it is wanted for gone."""

    def damage(folder: Path) -> Path:
        (folder / "explanations.csv").unlink()
        shutil.rmtree(folder / "attributions")
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[: rng.randrange(1, path.stat().st_size)])
        return path

    return damaged(lab, damage)


def clock(lab: Lab, rng: random.Random) -> Trial:
    """A clock that was set back: all files are from tomorrow, a table's lines are missing."""

    def damage(folder: Path) -> Path:
        path = folder / "explanations.csv"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join(lines[: rng.randrange(1, len(lines))]))
        for file in folder.rglob("*"):
            os.utime(file, (time.time() + 86400,) * 2)
        return path

    return damaged(lab, damage)


FAULTS = {one.__name__: one for one in (kill, worker, client, scheduler, memory)}
FAULTS |= {one.__name__: one for one in (full_disk, two, zeros, digit, cut_line)}
FAULTS |= {one.__name__: one for one in (cut_map, cut_network, clock)}


def main(
    profile: Annotated[str, typer.Option(help="A small one.")] = "quick",
    param: Annotated[list[str], typer.Option("-p", "--param", help="Of the run.")] = [],  # noqa: B006
    only: Annotated[list[str], typer.Option(help="These faults; repeatable.")] = [],  # noqa: B006
    n: Annotated[int, typer.Option(help="Trials of `kill`.")] = 100,
    n_other: Annotated[int, typer.Option(help="Trials of each other fault.")] = 3,
    work: Annotated[Path, typer.Option(help="Folder of the trials.")] = Path("runs/survival"),
    out: Annotated[Path, typer.Option(help="Table.")] = Path("benchmarks/results/survival.csv"),
) -> None:
    """Break runs, let them go on, and count what was survived."""
    if unknown := set(only) - set(FAULTS):
        raise typer.BadParameter(f"{unknown.pop()} is no fault; there are {', '.join(FAULTS)}")
    work.mkdir(parents=True, exist_ok=True)
    lab = Lab(work, ["--profile", profile, *(word for one in param for word in ("-p", one))])
    for name in only or FAULTS:
        broken, left = 0, n if name == "kill" else n_other
        for i in itertools.count():
            path = work / "trials" / f"{name}-{i:03}.json"
            if broken >= left:
                break
            if not path.is_file():
                found = FAULTS[name](lab, random.Random(f"{name} {i}"))
                with atomic_write(path) as temporary:
                    temporary.write_text(json.dumps(found))
                print(name, i, *found, flush=True)
            broken += json.loads(path.read_text())[3]
    found = summary(work / "trials")
    with atomic_write(out) as temporary:
        found.to_csv(temporary, index=False)
    print(found.to_string(index=False))


def summary(folder: Path) -> pd.DataFrame:
    """Trials in a folder by fault: how often something was broken and survived, mean seconds_lost,
    what the last one was told."""
    lines = []
    for name in FAULTS:
        trials = [json.loads(path.read_text()) for path in sorted(folder.glob(f"{name}-*.json"))]
        if trials:
            n, survived = sum(one[3] for one in trials), sum(one[3] for one in trials if one[0])
            lost = sum(one[1] for one in trials) / max(1, n)
            told = next((one[2] for one in reversed(trials) if one[2]), "")
            lines.append((name, n, survived, round(lost, 1), told))
    return pd.DataFrame(lines, columns=list(COLUMNS))


if __name__ == "__main__":
    typer.run(main)
