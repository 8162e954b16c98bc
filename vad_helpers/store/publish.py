"""Write finished folds of a study into a published folder; see `vad_helpers.store.published`."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.files import atomic_folder
from vad_helpers.model import weights as model_weights
from vad_helpers.store import convergence, detector, earlier, experiment, gather, replaced, scores
from vad_helpers.store.cache import (
    Run,
    artifact_lock,
    file_digest,
    manifest_in,
    open_run,
    remember,
)
from vad_helpers.store.origin import weights_origin
from vad_helpers.store.published import (
    MANIFEST,
    OPTIONAL,
    SCHEMA,
    TABLES,
    Published,
    exists,
    read,
    read_manifest,
)

PER_FOLD = ("fold", "run_dir", "device", "eval_batch_size", "trained_weights")
"""Parameters in which folds of one study may differ. A fold's entry in the manifest says what its
scores and seconds depend on: network, device, batch size."""
PATHS = ("data_dir", "init_weights")
"""Parameters of which only the file's name is published."""
NETWORK = ("data", "weights_sha256")
"""Of `identity`: what tables that do not come from a fold's own scores stand and fall with."""
PACKAGES = ("vad-helpers", "torch", "captum", "numpy", "scikit-image", "scikit-learn")
MAX_WEIGHTS = 25_000_000
DIGITS, DIGITS_OF_P = "%.6g", "%.9g"


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture for `figures/`: PNG bytes, what is drawn, what to say below, of which clip."""

    png: bytes
    alt: str
    caption: str
    clip_id: str


def run_of(folder: Path, *, profile: str | None = None, overrides: Mapping[str, Any] = {}) -> Run:
    """Open the run that a folder holds.

    Parameters
    ----------
    folder : Path
        Such as `runs/ucsd/fold-0`.
    profile : str, optional
        What the run was made with; by default the name of the folder above.
    overrides : mapping, optional
        Parameters that the run was made with beside those; the fold is read from the folder.

    Raises
    ------
    InputError
        If the folder holds no run, or the profile is not known.
    """
    entry = manifest_in(folder).get("clips.csv", {})
    if "fold" not in entry:
        raise InputError(f"{folder} holds no run with a table of clips; give a run's folder")
    values = {"fold": entry["fold"], **overrides, "run_dir": str(folder.resolve())}
    return open_run(profile or folder.resolve().parent.name, **values)


@contextlib.contextmanager
def _changing(dest: str | Path) -> Iterator[Path]:
    """A copy of a published folder to change, while no other process changes it."""
    dest = Path(dest).resolve()
    with artifact_lock(dest.parent, dest.name), atomic_folder(dest) as folder:
        yield folder


def publish(
    runs: Sequence[Run],
    dest: str | Path,
    *,
    weights: bool = False,
    pictures: Mapping[str, Picture] | None = None,
) -> Published:
    """Write what runs have finished into a published folder, beside the folds that are there.

    Parameters
    ----------
    runs : sequence of Run
        One a fold. What was published of the same folds is replaced; where data, network, precision
        and settings are the same, what a run does not hold of it stays; where the network is, the
        record of its training does. Where the same recipe was trained again, the test predictions
        of the earlier network stay, as a table of their own (`replaced`).
    dest : str or Path
        Such as `results/ucsd`; changed whole or not at all.
    weights : bool
        Also the network of the first run, in float16, as `model-fold<k>.safetensors`.
    pictures : mapping of str to Picture, optional
        By name; they replace all pictures that are there.

    Returns
    -------
    Published
        As it reads afterwards.

    Raises
    ------
    InputError
        If a run has no network, two runs are of one fold, settings differ (also from those of
        folds that stay), or the weights are too large.
    """
    _check_folds(runs)
    new = {run.params.fold: gather.tables(run) for run in runs}
    with _changing(dest) as folder:
        before = read_manifest(folder) if exists(folder) else {"folds": {}}
        figures = _drop_stale(folder, runs, before)
        _keep_replaced(folder, runs, before)
        entries = {}
        for run in runs:
            fold = run.params.fold
            entries[fold], new[fold] = _beside_earlier(run, new[fold], folder, before)
        manifest = _merged_manifest(runs, entries, before) | {"figures": figures}
        for name in TABLES:
            parts = {fold: tables[name] for fold, tables in new.items()}
            path = folder / f"{name}.csv"
            merge = _merged_rows if name == "rows" else _merged
            _write_csv(merge(path, parts), path, name)
        if weights:
            _write_weights(runs[0], folder)
        if pictures is not None:
            manifest["figures"] = _write_pictures(pictures, folder / "figures")
        _write_manifest(folder, manifest)
    return read(dest)


def _beside_earlier(
    run: Run, tables: dict[str, pd.DataFrame], folder: Path, before: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, pd.DataFrame]]:
    """A fold's entry and tables, completed by what still holds of those published before."""
    known = before["folds"].get(str(run.params.fold), {})
    own = identity(run)
    same_network = earlier.agrees(known, {name: own[name] for name in NETWORK})
    if earlier.agrees(known, own) and before["settings"] == shared_settings(run):
        tables = earlier.complete(run, tables, folder, known)
    if same_network:
        tables = earlier.with_history(run, tables, folder)
    tables = earlier.with_costs(run, tables)
    entry = fold_entry(run, tables)
    return earlier.with_training(entry, known) if same_network else entry, tables


def _drop_stale(
    folder: Path, runs: Sequence[Run], before: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Take away what another network of the same fold left; give the pictures that stay.

    A check of convergence is of maps in one precision with one run's settings, and goes with those
    too. Networks that were replaced stay beside one of their own recipe alone.
    """
    known = {str(run.params.fold): run for run in runs if str(run.params.fold) in before["folds"]}
    asked = [(run.params.fold, before["folds"][fold], identity(run)) for fold, run in known.items()]
    changed = [fold for fold, entry, own in asked if any(entry[n] != own[n] for n in NETWORK)]
    resettled = bool(known) and before["settings"] != shared_settings(runs[0])
    current = convergence.CONVERGENCE_VERSION
    other = [
        fold
        for fold, entry, own in asked
        if resettled
        or not earlier.agrees(entry, own)
        or convergence.version_of(entry.get("code", {})) != current
    ]
    begun_anew = [
        fold
        for fold, entry, _ in asked
        if (resettled or fold in changed) and not _trained_again(known[str(fold)], entry, before)
    ]
    by_name = {"convergence": other, replaced.NAME: begun_anew}
    for name in OPTIONAL:
        path, stale = folder / f"{name}.csv", by_name.get(name, changed)
        if stale and path.is_file():
            table = pd.read_csv(path)
            _write_csv(table[~table["fold"].isin(stale)], path, name)
    for fold in changed:
        (folder / f"model-fold{fold}.safetensors").unlink(missing_ok=True)
    return _drop_pictures(folder, changed, before.get("figures", []))


def _trained_again(run: Run, entry: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Tell whether a run's network is another training of a published fold's recipe."""
    if run.params.trained_weights or entry.get("trained_weights"):
        return False  # nobody knows how a given network was trained
    own = identity(run)
    return (
        entry["weights_sha256"] != own["weights_sha256"]
        and entry["data"] == own["data"]
        and before["settings"] == shared_settings(run)
        and entry.get("initial_weights_sha256") == detector.initial_digest(run)
    )


def _keep_replaced(folder: Path, runs: Sequence[Run], before: Mapping[str, Any]) -> None:
    """Keep what networks predicted whose folds were trained again."""
    path = folder / f"{replaced.NAME}.csv"
    for run in runs:
        entry = before["folds"].get(str(run.params.fold))
        if entry and _trained_again(run, entry, before):
            predictions = pd.read_csv(folder / "predictions.csv")
            new = replaced.lines(predictions, fold=run.params.fold, entry=entry)
            if path.is_file():
                new = earlier.beside(pd.read_csv(path), new, ("clip_id", "weights_sha256"))
            back = new["weights_sha256"] == identity(run)["weights_sha256"]
            _write_csv(new[~back], path, replaced.NAME)


def _drop_pictures(
    folder: Path, changed: Sequence[int], figures: Sequence[dict[str, str]]
) -> list[dict[str, str]]:
    """Delete the pictures of these folds' clips; give the others."""
    if not changed or not figures:
        return list(figures)
    clips = pd.read_csv(folder / "clips.csv")
    stale = set(clips.loc[clips["fold"].isin(changed), "clip_id"])
    for figure in figures:
        if figure["clip_id"] in stale:
            (folder / figure["file"]).unlink(missing_ok=True)
    return [figure for figure in figures if figure["clip_id"] not in stale]


def check_settings(dest: str | Path, run: Run) -> None:
    """Check that a run is of the study that a folder holds.

    Raises
    ------
    InputError
        If nothing is published there, or with other settings than the run's.
    """
    dest = Path(dest)
    _check_same(read_manifest(dest)["settings"], shared_settings(run), dest, run.dir)


def add_tables(
    dest: str | Path, new: Mapping[str, pd.DataFrame], *, by: Sequence[str] = ()
) -> None:
    """Put some of the `OPTIONAL` tables into a published folder, in place of what is there.

    Parameters
    ----------
    dest : str or Path
        Such as `results/ucsd`; changed by all of the tables or by none.
    new : mapping of str to DataFrame
        By name, each one of `published.OPTIONAL`.
    by : sequence of str
        Columns: only lines with the same values in them are replaced, others stay.

    Raises
    ------
    InputError
        If a name is not one of them, or nothing is published there yet.
    """
    for name in new:
        if name not in OPTIONAL:
            raise InputError(f"no table '{name}' to publish; there are {', '.join(OPTIONAL)}")
    with _changing(dest) as folder:
        manifest = read_manifest(folder)
        for name, table in new.items():
            path = folder / f"{name}.csv"
            kept = earlier.beside(pd.read_csv(path), table, by) if by and path.is_file() else table
            _write_csv(kept, path, name)
        _write_manifest(folder, manifest)


def _check_folds(runs: Sequence[Run]) -> None:
    folds = [run.params.fold for run in runs]
    if not runs or len(set(folds)) < len(folds):
        raise InputError(f"runs are of the folds {folds}; give one run a fold")
    first = shared_settings(runs[0])
    for run in runs[1:]:
        _check_same(first, shared_settings(run), runs[0].dir, run.dir)


def _check_same(a: Mapping[str, Any], b: Mapping[str, Any], where: object, other: object) -> None:
    differing = [name for name in {**a, **b} if a.get(name) != b.get(name)]
    if differing:
        name = differing[0]
        more = f" (and {len(differing) - 1} more)" if len(differing) > 1 else ""
        raise InputError(
            f"{where} has {name} {a.get(name)}, {other} has {b.get(name)}{more}; folds of one "
            "study differ in nothing: publish them apart, or all of them again"
        )


def shared_settings(run: Run) -> dict[str, Any]:
    """Parameters that the folds of a study share, without paths of a machine."""
    values = dataclasses.asdict(run.params)
    kept = {name: value for name, value in values.items() if name not in PER_FOLD}
    kept |= {name: _name(values[name]) for name in PATHS if name in kept}
    # As JSON gives them back, so that they compare with what was written before.
    return json.loads(json.dumps({**kept, "profile": Path(run.params.profile).stem}, default=list))


def _name(path: str | None) -> str | None:
    return Path(path).name if path else None


def fold_entry(run: Run, tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """Give the manifest's entry of one fold.

    Parameters
    ----------
    run : Run
    tables : mapping of str to DataFrame
        From `gather.tables`.

    Returns
    -------
    dict
        data (key of its content), weights_sha256, precision (that scores are computed in),
        train_precision (None for weights that were given), initial_weights (name of the file),
        initial_weights_sha256 (None without one), left_fresh (the convolutions that they lack),
        trained_weights, versions, code (as `scores.code_versions`), device, seconds by step,
        batch_size, n_clips, date (UTC).
    """
    p = run.params
    return {
        **identity(run),
        "train_precision": None if p.trained_weights else detector.training_precision(run),
        "initial_weights": _name(p.init_weights),
        "initial_weights_sha256": None if p.trained_weights else detector.initial_digest(run),
        "left_fresh": [] if p.trained_weights else detector.left_fresh(run),
        "trained_weights": _name(p.trained_weights),
        "versions": {"python": platform.python_version()}
        | {name: metadata.version(name) for name in PACKAGES},
        "code": scores.code_versions(run) | {"convergence": convergence.CONVERGENCE_VERSION},
        "device": detector.machine(run),
        "seconds": gather.seconds(run, tables["explanations"]),
        "batch_size": p.eval_batch_size,
        "n_clips": len(tables["clips"]),
        "date": today(),
    }


def today() -> str:
    """Date (UTC), as published."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def identity(run: Run) -> dict[str, str]:
    """What the scores of a fold stand and fall with: its data, its network, their precision."""
    return {
        "data": experiment.data_key(run),
        "weights_sha256": remember(
            run, "fingerprint", lambda: model_weights.fingerprint(detector.model(run))
        ),
        "precision": detector.scoring_precision(run),
    }


def _merged_manifest(
    runs: Sequence[Run], entries: Mapping[int, dict[str, Any]], before: Mapping[str, Any]
) -> dict[str, Any]:
    settings = shared_settings(runs[0])
    staying = {k: e for k, e in before["folds"].items() if int(k) not in entries}
    if staying:
        _check_same(before["settings"], settings, "what is published", runs[0].dir)
    folds = staying | {str(k): entry for k, entry in entries.items()}
    return {
        "schema": SCHEMA,
        "profile": settings["profile"],
        "settings": settings,
        "folds": dict(sorted(folds.items(), key=lambda item: int(item[0]))),
    }


def _merged(path: Path, new: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """Lines of the new folds and of those that stay, fold by fold."""
    parts = dict(new)
    if path.is_file():
        parts |= {k: part for k, part in pd.read_csv(path).groupby("fold") if k not in new}
    filled = [parts[k] for k in sorted(parts) if len(parts[k])]
    return pd.concat(filled, ignore_index=True) if filled else next(iter(new.values()))


def _merged_rows(path: Path, new: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    """All rows that are or were in the tables, as they were described last."""
    before = [pd.read_csv(path)] if path.is_file() else []
    return pd.concat([*new.values(), *before]).drop_duplicates("method")


def _write_csv(table: pd.DataFrame, path: Path, name: str) -> None:
    # Probabilities of nearly 1 keep all digits of a float32: a tie would move an AUC.
    digits = DIGITS_OF_P if name.endswith("predictions") else DIGITS
    table.to_csv(path, index=False, lineterminator="\n", float_format=digits)


def _write_pictures(pictures: Mapping[str, Picture], folder: Path) -> list[dict[str, str]]:
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for name, picture in pictures.items():
        (folder / f"{name}.png").write_bytes(picture.png)
    return [
        {
            "file": f"figures/{name}.png",
            "alt": picture.alt,
            "caption": picture.caption,
            "clip_id": picture.clip_id,
        }
        for name, picture in pictures.items()
    ]


def _write_weights(run: Run, folder: Path) -> None:
    """Write the network of a run in float16, with what a user of it must know."""
    p = run.params
    initial = _name(p.init_weights) or "none"
    about = {
        **detector.split_of_weights(run),
        "initial_weights": initial,
        "initial_weights_origin": weights_origin(initial),
    }
    path = folder / f"model-fold{p.fold}.safetensors"
    model_weights.save(detector.model(run), path, mean=p.mean, std=p.std, half=True, **about)
    written = model_weights.fingerprint(model_weights.load(path)[0])
    if written != identity(run)["weights_sha256"]:
        raise InputError(
            f"the network of {run.dir} is finer than float16 holds, so that a published one would "
            "be another; train it here, or leave --weights out"
        )
    if path.stat().st_size > MAX_WEIGHTS:
        raise InputError(
            f"the network takes {path.stat().st_size} bytes, at most {MAX_WEIGHTS} are published; "
            "leave --weights out"
        )


def _write_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    files = [p for pattern in ("*.csv", "*.safetensors", "figures/*.png")
             for p in sorted(folder.glob(pattern))]  # fmt: skip
    digests = {p.relative_to(folder).as_posix(): file_digest(p) for p in files}
    text = json.dumps({**manifest, "files": digests}, indent=1, default=list)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8", newline="\n")
