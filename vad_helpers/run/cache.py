"""The run folder: its parameters, its keys, its locks, and tables that a killed run goes on with.

`manifest.json` holds the parameters, what was measured once (`measured`), the files that are
computed whole (`files`: key and checksum each) and how many lines each table has (`counts`). A key
is a hash of all that an artifact depends on; what has another key is computed again.

Tables of scores grow by (clip, row): the lines of a pair are appended under the folder's lock, those
of `explanations.csv` last, so that a pair counts as done when it stands there with its key. Locks
are the operating system's: a killed process leaves none behind.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from filelock import FileLock

from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write
from vad_helpers.run import params as parameters
from vad_helpers.run.params import Params
from vad_helpers.tables import schema

Value = TypeVar("Value")
Pair = tuple[str, str]

APPENDED = (
    *("human_centric", "model_centric", "robustness", "curves", "frame_auc"),
    "explanations",
)
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
    """A run: its parameters and its folder.

    Attributes
    ----------
    params : Params
    root : Path
        The project's folder; relative paths in the parameters start here.
    dir : Path
        The run's folder.
    supplied : bool
        Whether the folder's manifest supplied the parameters.
    readonly : str
        Why nothing can be computed here; empty if it can.
    memo : dict
        What this handle has looked up already, so that a loop over clips does not list thousands
        of files again.
    """

    params: Params
    root: Path
    dir: Path
    supplied: bool = False
    readonly: str = ""
    memo: dict[Any, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def path(self, name: str) -> Path:
        """Path of a file inside the run's folder."""
        return self.dir / name


def open_run(profile: str = "quick", **overrides: Any) -> Run:
    """Open a run by its profile and overrides, or by its folder; nothing is computed or written.

    Parameters
    ----------
    profile : str
        A name in `params/` or a path to a YAML file.
    **overrides
        Parameters that replace the profile's, see `params.override`. If `run_dir` names a folder
        with a manifest, that supplies all parameters, and the others given must agree with it but
        for `FREE` and `MORE`. Without `run_dir`, the folder is `runs/<profile>/fold-<fold>`, or
        `<alternative>-fold-<fold>` there, and what changed parameters touch is computed again.

    Returns
    -------
    Run
        Read-only if its folder was made elsewhere and lacks its network, or the videos are not
        there.

    Raises
    ------
    InputError
        For an unknown profile or parameter, a value that makes no sense, or one that contradicts
        the folder's manifest.
    """
    root = parameters.project_root()
    folder = overrides.get("run_dir")
    if isinstance(folder, str | Path):
        folder = overrides["run_dir"] = str(folder)
        known = manifest_in(root / folder)
        if "parameters" in known:
            return _open_folder(root, root / folder, known, profile, overrides)
    params = parameters.load(profile, root=root, **overrides)
    name = f"{params.alternative}-" if params.alternative else ""
    folder = params.run_dir or f"runs/{Path(params.profile).stem}/{name}fold-{params.fold}"
    return Run(params=params, root=root, dir=root / folder)


def _open_folder(
    root: Path, folder: Path, known: Mapping[str, Any], profile: str, overrides: Mapping[str, Any]
) -> Run:
    values = known["parameters"]
    params = parameters.checked(parameters.override(values, overrides))
    before = parameters.checked({**values, "run_dir": params.run_dir})
    clashes = [(name, getattr(before, name), getattr(params, name)) for name in overrides]
    if profile != "quick":  # which is every notebook's default
        clashes.append(("profile", Path(before.profile).stem, Path(profile).stem))
    for name, had, asked in clashes:
        grows = name in MORE and had is not None and (asked is None or asked >= had)
        if had != asked and name not in FREE and not grows:
            raise InputError(
                f"{folder} was made with {name} {had}, asked for is {asked}; leave {name} out, or "
                "give another run_dir"
            )
    path = folder / "model.safetensors"
    given = params.trained_weights and (root / params.trained_weights).is_file()
    readonly = ""
    if "files" not in known and (folder / "explanations.csv").is_file():
        readonly = "its tables were made before tables had keys"
    elif known.get("weights_sha256") and not (path.is_file() or given):
        readonly = f"its network is not there ({path})"
    elif params.dataset == "ucsd" and not (root / params.data_dir).is_dir():
        readonly = f"its videos are not there ({root / params.data_dir})"
    return Run(params=params, root=root, dir=folder, supplied=True, readonly=readonly)


def remember(run: Run, name: Any, look_up: Callable[[], Value]) -> Value:
    """Give `look_up()`, evaluated once for this handle."""
    if name not in run.memo:
        run.memo[name] = look_up()
    return run.memo[name]


def key_of(step: str, version: int, **parts: Any) -> str:
    """Hash all that an artifact depends on: "k" and 15 hexadecimal digits, never a number.

    Parameters
    ----------
    step : str
        Name of the step that computes it.
    version : int
        Raised whenever the step's code changes its result.
    **parts
        Settings and keys of what it is computed from; anything JSON can hold.
    """
    text = json.dumps({"step": step, "version": version, **parts}, sort_keys=True, default=list)
    return f"k{hashlib.sha256(text.encode()).hexdigest()[:15]}"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def lock(folder: Path, name: str) -> FileLock:
    """Lock of something in a folder: a second process waits, and then finds it there."""
    (folder / ".locks").mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".locks" / f"{name}.lock")


def manifest_in(folder: Path) -> dict[str, Any]:
    """Read a folder's manifest; empty if there is none.

    Raises
    ------
    InputError
        If it is damaged.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found.get("parameters", {}), dict):
            return found
    except (ValueError, AttributeError):
        pass
    raise InputError(f"{path} is damaged; get it again, or delete {folder} and run it again")


def update(run: Run, **entries: Any) -> None:
    """Write entries of the manifest, and the run's parameters.

    Parameters
    ----------
    run : Run
    **entries
        By name. A dict is merged into the one that is there; None in it removes an item.

    Warns
    -----
    UserWarning
        If the folder was made with other parameters.
    """
    run.dir.mkdir(parents=True, exist_ok=True)
    with lock(run.dir, "manifest"):
        known = manifest_in(run.dir)
        own = json.loads(json.dumps(run.params.dump() | {"run_dir": None}))
        before = known.get("parameters", own)
        changed = [name for name in own if before.get(name) != own[name] and name not in FREE]
        if changed and not set(changed) <= set(MORE):
            told = ", ".join(f"{n} {before.get(n)} -> {own[n]}" for n in changed[:3])
            warnings.warn(
                f"{run.dir} was made with other parameters ({told[:300]}): what depends on them is "
                "computed again, and its old results go",
                stacklevel=2,
            )
        found = known | {"parameters": own}
        for name, entry in entries.items():
            if isinstance(entry, Mapping):
                entry = {**(found.get(name) or {}), **entry}
                entry = {key: value for key, value in entry.items() if value is not None}
            found[name] = entry
        if found != known:
            with atomic_write(run.path("manifest.json")) as temporary:
                text = json.dumps(found, indent=1, sort_keys=True, default=list)
                temporary.write_text(text + "\n", encoding="utf-8")


def load_or_build(run: Run, name: str, key: str, build: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Read a table that is computed whole, or compute and keep it.

    Parameters
    ----------
    run : Run
    name : str
        Of `schema.SCHEMAS`.
    key : str
        From `key_of`.
    build : callable
        () -> DataFrame.

    Returns
    -------
    DataFrame
        As it reads from its file, so that a first and a second call give equal values.

    Warns
    -----
    UserWarning
        If the file is not what was written: it is computed again.
    """
    path = run.path(f"{name}.csv")
    with lock(run.dir, name):
        entry = manifest_in(run.dir).get("files", {}).get(name, {})
        if entry.get("key") == key and path.is_file():
            if file_digest(path) == entry["sha256"]:
                return schema.read(run.dir, name)
            warnings.warn(f"{path} was changed or damaged: computed again", stacklevel=2)
        started = time.perf_counter()
        keep(run, name, key, build(), started=started)
        return schema.read(run.dir, name)


def keep(run: Run, name: str, key: str, table: pd.DataFrame, *, started: float) -> None:
    """Write a table that is computed whole, and enter it in the manifest."""
    # Out of the manifest first: a crash between the two must not leave an old key and a new file.
    update(run, files={name: None}, counts={name: None})
    write_lines(run, name, table[list(schema.SCHEMAS[name].columns)].values.tolist())
    update(
        run,
        files={name: {"key": key, "sha256": file_digest(run.path(f"{name}.csv"))}},
        counts={name: len(table)},
        seconds={name: round(time.perf_counter() - started, 2)},
    )


def _text(name: str, lines: Iterable[Sequence[Any]], *, heading: bool = True) -> str:
    """Lines of a table as CSV: nine digits, which hold every float32, and nothing for NaN."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    if heading:
        writer.writerow(schema.SCHEMAS[name].columns)
    for line in lines:
        writer.writerow([_cell(value) for value in line])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.9g}"
    return value


def append(run: Run, lines: Mapping[str, Sequence[Sequence[Any]]]) -> None:
    """Append lines to tables, under the folder's lock, `explanations` last.

    Parameters
    ----------
    run : Run
    lines : mapping of str to sequence
        By name of the table; cells in the order of its columns.
    """
    order = [*(name for name in lines if name not in APPENDED), *APPENDED]
    with lock(run.dir, "tables"):
        for name in order:
            if not lines.get(name):
                continue
            with run.path(f"{name}.csv").open("a+b") as stream:
                size = stream.tell()
                if size:  # a process that was killed may have left half a line
                    stream.seek(0)
                    end = stream.read().rfind(b"\n") + 1 if not _is_whole(stream, size) else size
                    stream.truncate(end)
                    size = end
                stream.write(_text(name, lines[name], heading=not size).encode())


def _is_whole(stream: io.BufferedRandom, size: int) -> bool:
    stream.seek(size - 1)
    whole = stream.read(1) == b"\n"
    stream.seek(0)
    return whole


def read_lines(run: Run, name: str) -> list[list[str]]:
    """Cells of the whole lines of a table that grows; those that are no lines are left out.

    An unknown heading, which another version wrote, leaves none.
    """
    path, columns = run.path(f"{name}.csv"), list(schema.SCHEMAS[name].columns)
    if not path.is_file():
        return []
    text = path.read_bytes().decode("utf-8", errors="replace")
    whole = text[: text.rfind("\n") + 1]
    heading, *lines = csv.reader(whole.splitlines()) if whole else [[]]
    return [line for line in lines if len(line) == len(columns)] if heading == columns else []


def done(run: Run, keys: Mapping[str, str]) -> set[Pair]:
    """Pairs (clip, row) that stand in `explanations.csv` with the key that their row has now."""
    with lock(run.dir, "tables"):
        return {
            (line[0], line[1])
            for line in read_lines(run, "explanations")
            if keys.get(line[1]) == line[-1]
        }


def arrange(run: Run, keys: Mapping[str, str], pairs: Mapping[Pair, Collection[str]],
            *, finished: bool = False) -> set[Pair]:  # fmt: skip
    """Drop lines of pairs that are not done, or not asked for.

    Parameters
    ----------
    run : Run
    keys : mapping of str to str
        Key that a row's lines must have.
    pairs : mapping of (str, str) to collection of str
        (clip, row) that are asked for, in the order of the tables; the tables that each must
        have lines in.
    finished : bool
        Whether to put lines in that order, too, and to enter their number in the manifest.

    Returns
    -------
    set of (str, str)
        Pairs that are done: their lines are whole in every table.
    """
    place = {pair: i for i, pair in enumerate(pairs)}
    with lock(run.dir, "tables"):
        there = all(run.path(f"{name}.csv").is_file() for name in APPENDED)
        kept: dict[str, dict[Pair, dict[tuple, list[str]]]] = {}
        for name in APPENDED:
            about = schema.SCHEMAS[name]
            columns = list(about.columns)
            unique = [columns.index(column) for column in about.unique]
            clip, row = columns.index("clip_id"), columns.index("row")
            kept[name] = defaultdict(dict)
            for line in read_lines(run, name):
                pair = line[clip], line[row]
                if pair in place and line[-1] == keys[line[row]]:
                    # A pair that a killed process began stands there twice, at last whole.
                    kept[name][pair][tuple(line[i] for i in unique)] = line
        whole = set(kept["explanations"]) if there else set()
        for name in APPENDED[:-1]:
            # All rows have as many scores, and in one clip as many frames with an AUC.
            n = {pair: len(kept[name][pair]) for pair in whole if name in pairs[pair]}
            most: dict[str, int] = defaultdict(lambda least=name != "frame_auc": int(least))
            for (clip_id, _), count in n.items():
                group = clip_id if name == "frame_auc" else ""
                most[group] = max(most[group], count)
            whole -= {p for p, count in n.items() if count < most[p[0] * (name == "frame_auc")]}
        counts = {}
        for name in APPENDED:
            mine = [pair for pair in kept[name] if pair in whole]
            order = sorted(mine, key=place.__getitem__) if finished else mine
            lines = [line for pair in order for line in kept[name][pair].values()]
            write_lines(run, name, lines)
            counts[name] = len(lines) if finished else None
        update(run, counts=counts)
        return whole


def write_lines(run: Run, name: str, lines: Sequence[Sequence[Any]]) -> None:
    """Write a table anew, whole or not at all; one that holds these very lines is left alone."""
    path, content = run.path(f"{name}.csv"), _text(name, lines).encode()
    if not path.is_file() or path.read_bytes() != content:
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
