"""The run folder: manifest, keys, locks, and tables that a killed run goes on with.

A key is a hash of all that an artifact depends on: what has another key is computed again. Tables
of scores grow by (clip, row): the lines of a pair are appended under the folder's lock, those of
`explanations.csv` last, so that a pair counts as done when it stands there with its key. Locks are
the operating system's: a killed process leaves none behind.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
import io
import json
import time
import tomllib
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from filelock import FileLock
from pooch import file_hash as file_digest

from vad_helpers.errors import InputError
from vad_helpers.files import write_whole
from vad_helpers.tables import schema

Value = TypeVar("Value")
Pair = tuple[str, str]

STEPS = tomllib.loads((resources.files(__package__) / "steps.toml").read_text("utf-8"))
"""What keys are made of: version and parameters of each step."""
APPENDED = (*schema.SCORED, "curves", "frame_auc", "explanations")
"""Tables that grow pair by pair, in the order in which a pair's lines are written."""
FREE = (
    *("run_dir", "data_dir", "device", "init_weights", "trained_weights"),
    *("eval_batch_size", "n_resamples", "runtime_repeats"),
)
"""Parameters that may differ from those that a folder was made with: places, speed, and drawing.
Whether another place holds the same data and weights is told by their content."""
MORE = ("n_clips", "n_clips_slow")
"""Parameters that may grow: the clips before are a part of the larger choice."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A run: its parameters and its folder; `open_run` opens one."""

    params: Any  # `params.Params`
    root: Path  # the project's folder; relative paths in the parameters start here
    dir: Path  # the run's folder
    supplied: bool = False  # the folder's manifest supplied the parameters
    readonly: str = ""  # why nothing can be computed here; empty if it can
    memo: dict = dataclasses.field(default_factory=dict, repr=False, compare=False)  # see `once`

    def path(self, name: str) -> Path:
        """Path of a file inside the run's folder."""
        return self.dir / name

    def facts(self) -> pd.DataFrame:
        """What a reader of a page must know of the run: one column of text."""
        p, known = self.params, manifest_in(self.dir).get("measured", {})
        # What "auto" came to, and with which engine.
        auto = [f"{w} {min(s, key=s.get)}" for w, s in known.items() if isinstance(s, Mapping)]
        found = {
            "profile": p.profile,
            "data": f"{p.dataset}: {p.n_frames} frames of {'x'.join(map(str, p.frame_size))}",
            "tested fold": f"{p.fold} of {p.n_folds}",
            "network": p.model or f"I3D, width {p.model_width:g}",
            "weights": p.trained_weights or f"from {p.init_weights or 'random'}, {p.epochs} epochs",
            "seed": str(p.seed),
            "precision": ", ".join([p.precision, *auto]),
            "read-only": self.readonly or "no",
        }
        return pd.DataFrame({"this run": found})

    def _repr_html_(self) -> str:
        return self.facts().to_html(border=0, classes="vad-table")


def once(look_up: Callable[..., Value]) -> Callable[..., Value]:
    """Evaluate a function of a run once for each handle, so that a loop over clips does not list
    thousands of files again. Rows stand for themselves by their key."""

    @functools.wraps(look_up)
    def found(run: Run, *args: Any, **options: Any) -> Value:
        place = (look_up.__name__, *(getattr(a, "key", a) for a in args), *options.items())
        if place not in run.memo:
            run.memo[place] = look_up(run, *args, **options)
        value = run.memo[place]
        return value.copy() if isinstance(value, pd.DataFrame) else value

    return found


def key_of(run: Run, step: str, **parts: Any) -> str:
    """Hash all that a step of `STEPS` depends on: its parameters, and `parts`, which JSON can hold.

    "k" and 15 hexadecimal digits, so that no reader of a table takes it for a number.
    """
    own = {name: getattr(run.params, name) for name in STEPS[step]["parameters"]}
    text = json.dumps([step, STEPS[step]["version"], own, parts], sort_keys=True, default=list)
    return f"k{hashlib.sha256(text.encode()).hexdigest()[:15]}"


def lock(folder: Path, name: str) -> FileLock:
    """Lock of something in a folder, made if need be: a second process waits, and then finds it."""
    return FileLock(folder / ".locks" / f"{name}.lock")


def manifest_in(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest; {} if there is none. Raise InputError if it is damaged."""
    path = folder / "manifest.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if all(isinstance(found.get(name, {}), dict) for name in ("parameters", "files", "counts")):
            return found
    except (ValueError, AttributeError):
        pass
    raise InputError(f"{path} is damaged; get it again, or delete {folder} and run it again")


def update(run: Run, **entries: Any) -> None:
    """Write entries of the manifest, and the run's parameters; warn if those were others.

    A dict is merged into the one that is there; None in it removes an item.
    """
    with lock(run.dir, "manifest"):
        known = manifest_in(run.dir)
        own = json.loads(json.dumps(run.params.dump() | {"run_dir": None}))
        before = known.get("parameters", own)
        changed = [name for name in own if before.get(name) != own[name] and name not in FREE]
        if set(changed) - set(MORE):
            told = "; ".join(f"{n} {before.get(n)} -> {own[n]}" for n in changed)
            warnings.warn(
                f"{run.dir} was made with other parameters ({told[:300]}): what depends on them is "
                "computed again in its place",
                stacklevel=2,
            )
        found = known | {"parameters": own}
        for name, entry in entries.items():
            if isinstance(entry, Mapping):
                entry = {**(found.get(name) or {}), **entry}
                entry = {key: value for key, value in entry.items() if value is not None}
            found[name] = entry
        if found != known:
            text = json.dumps(found, indent=1, default=list)  # in order: it is that of rows
            write_whole(run.path("manifest.json"), text + "\n")


def load_or_build(run: Run, name: str, key: str, build: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Read a table that is computed whole (`schema.SCHEMAS`), or compute and keep it.

    It is computed again under another key; and, with a warning, if its file is not what was
    written. What is given is read from the file, so that a first and a second call are equal.
    """
    path = run.path(f"{name}.csv")
    with lock(run.dir, name):
        entry = manifest_in(run.dir).get("files", {}).get(name, {})
        if entry.get("key") == key:
            if path.is_file() and file_digest(path) == entry.get("sha256"):
                return schema.read(run.dir, name)
            warnings.warn(f"{path} is gone, changed or damaged: computed again", stacklevel=2)
        started = time.perf_counter()
        lines = build()[list(schema.SCHEMAS[name].columns)].values.tolist()
        # Out of the manifest first: a crash in between must not leave an old key and a new file.
        update(run, files={name: None}, counts={name: None})
        write_lines(run, name, lines)
        entry = {"key": key, "sha256": file_digest(path)}
        spent = round(time.perf_counter() - started, 2)
        update(run, files={name: entry}, counts={name: len(lines)}, seconds={name: spent})
        return schema.read(run.dir, name)


def _as_csv(name: str, lines: Sequence[Sequence[Any]], *, heading: bool = True) -> bytes:
    """Lines of a table: nine digits, which hold every float32, and nothing for NaN."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerows([schema.SCHEMAS[name].columns] if heading else [])
    for line in lines:
        cells = [f"{cell:.9g}" if isinstance(cell, float | np.floating) else cell for cell in line]
        writer.writerow(["" if cell == "nan" else cell for cell in cells])
    return stream.getvalue().encode()


def write_lines(run: Run, name: str, lines: Sequence[Sequence[Any]]) -> None:
    """Write a table anew, whole or not at all; one that holds these very lines is left alone."""
    path, content = run.path(f"{name}.csv"), _as_csv(name, lines)
    if not path.is_file() or path.read_bytes() != content:
        write_whole(path, content)


def append(run: Run, lines: Mapping[str, Sequence[Sequence[Any]]]) -> None:
    """Append lines to tables (by name, cells in the order of its columns), `explanations` last."""
    with lock(run.dir, "tables"):
        for name in sorted(lines, key=lambda name: name == "explanations"):
            with run.path(f"{name}.csv").open("a+b") as stream:
                tail = stream.seek(max(0, stream.seek(0, io.SEEK_END) - 2**16))
                # Of the last line, a process that was killed may have left half.
                whole = tail + stream.read().rfind(b"\n") + 1
                stream.truncate(whole)
                stream.write(_as_csv(name, lines[name], heading=not whole))


def read_lines(run: Run, name: str) -> list[list[str]]:
    """Cells of the whole lines of a table that grows; none under another version's heading."""
    path, columns = run.path(f"{name}.csv"), list(schema.SCHEMAS[name].columns)
    text = path.read_bytes().decode("utf-8", errors="replace") if path.is_file() else ""
    whole = text[: text.rfind("\n") + 1]
    heading, *lines = csv.reader(whole.splitlines()) if whole else [[]]
    return [line for line in lines if len(line) == len(columns)] if heading == columns else []


def done(run: Run, keys: Mapping[str, str]) -> set[Pair]:
    """Pairs (clip, row) that stand in `explanations.csv` with the key that their row has now."""
    with lock(run.dir, "tables"):
        lines = read_lines(run, "explanations")
    return {(line[0], line[1]) for line in lines if keys.get(line[1]) == line[-1]}


def arrange(run: Run, keys: Mapping[str, str], pairs: Mapping[Pair, Collection[str]]) -> set[Pair]:
    """Drop lines of pairs that are not done, or not asked for; give those that are done.

    `keys` has the key that a row's lines must have, `pairs` the (clip, row) that are asked for and
    the tables that each must have lines in. Where all are done, lines are put in their order,
    whatever order they were computed in, and the manifest has their counts and digests. InputError
    if a table has the lines that were counted, but not their digest.
    """
    with lock(run.dir, "tables"):
        manifest = manifest_in(run.dir)
        known, counts = manifest.get("files", {}), manifest.get("counts", {})
        there = all(run.path(f"{name}.csv").is_file() for name in APPENDED)
        kept: dict[str, dict[Pair, dict[tuple, list[str]]]] = {}
        for name in APPENDED:
            about, kept[name] = schema.SCHEMAS[name], defaultdict(dict)
            unique = [list(about.columns).index(column) for column in about.unique]
            found, path = read_lines(run, name), run.path(f"{name}.csv")
            if name in known and len(found) == counts.get(name):
                if file_digest(path) != known[name].get("sha256"):
                    raise InputError(f"{path} was changed since its run wrote it; {schema.AGAIN}")
            for line in found:
                clip_id, row, *_ = place = tuple(line[i] for i in unique)
                if (clip_id, row) in pairs and line[-1] == keys[row]:
                    # A pair that a killed process began stands there twice, at last whole.
                    kept[name][clip_id, row][place] = line
        whole = set(kept["explanations"]) if there else set()
        for name in APPENDED[:-1]:
            n = {pair: len(kept[name][pair]) for pair in whole if name in pairs[pair]}
            most = max([1, *n.values()])  # of scores and curves, all pairs have as many
            for pair, count in n.items():
                counted = kept["robustness"][pair].get((*pair, "clip", "n_frames"), ("",) * 6)[5]
                if count < most if name != "frame_auc" else str(count) != counted:
                    whole.discard(pair)
        finished = whole == set(pairs)
        lines = {
            name: [
                line
                for pair in (pairs if finished else kept[name])
                if pair in whole
                for line in kept[name][pair].values()
            ]
            for name in APPENDED
        }
        files = {n: {"sha256": hashlib.sha256(_as_csv(n, lines[n])).hexdigest()} for n in lines}
        if not finished or any(known.get(name) != files[name] for name in files):
            # Out of the manifest first: a crash in between must not leave old digests, new files.
            update(run, files=dict.fromkeys(lines), counts=dict.fromkeys(lines))
        for name in lines:
            write_lines(run, name, lines[name])
        if finished:
            update(run, files=files, counts={name: len(lines[name]) for name in lines})
        return whole
