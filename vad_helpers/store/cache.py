"""Load or build: artifacts of a run, each with a key of all that its value depends on.

`manifest.json` in the run's folder holds one entry an artifact. An artifact is read only if its
entry's key equals the key asked for now; otherwise it is built, written whole, and then entered.
Locks are the operating system's, so that a killed process leaves none behind.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from vad_helpers.files import atomic_write
from vad_helpers.store import params as parameters
from vad_helpers.store.params import Params

Value = TypeVar("Value")


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
    memo : dict
        What this handle has already looked up (index of the data, keys), so that a loop over
        clips does not list thousands of files again.
    """

    params: Params
    root: Path
    dir: Path
    memo: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def path(self, name: str) -> Path:
        """Path of an artifact inside the run's folder."""
        return self.dir / name


def open_run(profile: str = "quick", **overrides: Any) -> Run:
    """Open a run by its profile and overrides; nothing is built or written yet.

    Parameters
    ----------
    profile : str
        A name in `params/` or a path to a YAML file.
    **overrides
        Parameters that replace the profile's values; None keeps them. See `params.Params`, and
        `params.load` for `settings` and `variants`.

    Returns
    -------
    Run

    Raises
    ------
    InputError
        For an unknown profile or parameter, or a value of the wrong type.
    """
    parameters.check_overrides(overrides)
    root = parameters.project_root()
    params = parameters.load(profile, root=root, **overrides)
    folder = params.run_dir or f"runs/{Path(params.profile).stem}/fold-{params.fold}"
    return Run(params=params, root=root, dir=root / folder)


def remember(run: Run, name: str, look_up: Callable[[], Value]) -> Value:
    """Give `look_up()`, evaluated once for this handle."""
    if name not in run.memo:
        run.memo[name] = look_up()
    return run.memo[name]


def key_of(step: str, version: int, **parts: Any) -> str:
    """Hash all that an artifact depends on: 16 hexadecimal digits.

    Parameters
    ----------
    step : str
        Name of the step that builds it.
    version : int
        Raised whenever the step's code changes its result.
    **parts
        Settings and keys of what it is built from; anything JSON can hold.
    """
    text = json.dumps({"step": step, "version": version, **parts}, sort_keys=True, default=list)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_manifest(run: Run) -> dict[str, Any]:
    """Read the run's manifest; an absent or damaged one counts as empty."""
    return manifest_in(run.dir)


def manifest_in(folder: Path) -> dict[str, Any]:
    """Read the manifest of a run's folder; see `read_manifest`."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        warnings.warn(f"{path} is unreadable ({error}): taken for empty", stacklevel=3)
        return {}
    return manifest if isinstance(manifest, dict) else {}


def cached(run: Run, name: str, key: str) -> bool:
    """Tell whether the artifact `name` is there with this key."""
    entry = read_manifest(run).get(name, {})
    return entry.get("key") == key and run.path(name).is_file()


def load_or_build(
    run: Run,
    name: str,
    key: str,
    *,
    build: Callable[[], Value],
    save: Callable[[Value, Path], None],
    load: Callable[[Path], Value],
    settings: Mapping[str, Any] | None = None,
) -> Value:
    """Load an artifact if it is there and valid, else build and keep it.

    Parameters
    ----------
    run : Run
    name : str
        File name inside the run's folder.
    key : str
        From `key_of`.
    build : callable
        () -> value.
    save, load : callable
        (value, path) -> None, and path -> value. `save` gets a temporary path.
    settings : mapping, optional
        What a reader of the manifest should see beside the key.

    Returns
    -------
    value
        As `load` gives it, so that a first and a second call return equal values.
    """
    path = run.path(name)
    run.dir.mkdir(parents=True, exist_ok=True)
    with artifact_lock(run.dir, name):
        if cached(run, name, key):
            try:
                return load(path)
            except Exception as error:  # a damaged file must not end a run that can rebuild it
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                warnings.warn(f"{path} is damaged ({reason}); rebuilding", stacklevel=2)
        started = time.perf_counter()
        value = build()
        seconds = time.perf_counter() - started
        # Out of the manifest before the file changes: a crash between the two must not leave an
        # old key beside a new file.
        enter(run, name, None)
        with atomic_write(path) as temporary:
            save(value, temporary)
        enter(run, name, {"key": key, "seconds": round(seconds, 3), **dict(settings or {})})
        return load(path)


def artifact_lock(folder: Path, name: str) -> FileLock:
    """Lock of one artifact in a folder: a second process waits and then finds it built."""
    locks = folder / ".locks"
    locks.mkdir(parents=True, exist_ok=True)
    return FileLock(locks / f"{name.replace('/', '-')}.lock")


def enter(run: Run, name: str, entry: Mapping[str, Any] | None) -> None:
    """Write one entry of the manifest, or remove it (None)."""
    with artifact_lock(run.dir, "manifest.json"):
        manifest = read_manifest(run)
        if entry is None:
            manifest.pop(name, None)
        else:
            manifest[name] = {
                **entry,
                "written": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            }
        with atomic_write(run.path("manifest.json")) as temporary:
            temporary.write_text(
                json.dumps(manifest, indent=1, sort_keys=True, default=list), encoding="utf-8"
            )
