"""Published results: a folder of small tables that says all of a study, and is read without it.

A folder such as `results/ucsd` holds tidy CSV tables (`TABLES`, and `OPTIONAL` ones where they were
measured), pictures in `figures/`, perhaps one network, and `manifest.json`: settings, versions,
device and times of every fold, and the checksum of every file. `vad_helpers.store.publish` writes
it; the book's results page is made from what `read` gives, without the videos and the network.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.store.cache import file_digest

SCHEMA = 1
MANIFEST = "manifest.json"

NEEDED = {"profile", "settings", "folds", "files"}

_SCORES = ("fold", "clip_id", "sequence", "method", "level", "metric", "value")

TABLES: dict[str, tuple[str, ...]] = {
    "clips": ("fold", "clip_id", "scene", "sequence", "start", "n_frames", "label"),
    "predictions": ("fold", "clip_id", "scene", "sequence", "split", "label", "p"),
    "history": (
        *("fold", "epoch", "lr", "train_loss", "train_accuracy"),
        *("val_loss", "val_accuracy", "val_auc", "seconds", "best"),
    ),
    "rows": (
        *("method", "label", "kind", "family"),
        *("attribution", "settings", "baseline", "weights"),
    ),
    "human_centric": _SCORES,
    "model_centric": _SCORES,
    "robustness": _SCORES,
    "controls": _SCORES,
    "runtime": (*_SCORES, "source"),
    "explanations": (
        *("fold", "clip_id", "sequence", "method", "seconds", "baseline_seconds"),
        *("superpixel_seconds", "model_calls", "n_segments", "n_nonzero", "all_zero"),
        *("precision", "machine", "batch_size"),
    ),
    "curves": ("fold", "clip_id", "method", "curve", "values"),
    "frame_auc": ("fold", "clip_id", "method", "frame", "auc"),
}
"""Tables of every published folder: name -> columns."""

OPTIONAL = (
    "ablation",
    "convergence",
    "alternatives",
    "alternative_predictions",
    "alternative_runs",
    "replaced_predictions",
)
"""Tables that are read where they are there; their columns are their own."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Published:
    """A study as it was published.

    Attributes
    ----------
    folder : Path
    manifest : dict
        profile, settings, folds (by number: data, weights, versions, device, seconds, n_clips,
        date), figures, files.
    clips : DataFrame
        The evaluation set.
    predictions : DataFrame
        p of every validation and test clip.
    history : DataFrame
        One line a fold and epoch.
    rows : DataFrame
        What every row of the tables is.
    human_centric, model_centric, robustness, controls, runtime : DataFrame
        Tidy scores.
    explanations : DataFrame
        What every map cost and found.
    curves : DataFrame
        Deletion and insertion curves of every map, as texts (`read_curve`).
    frame_auc : DataFrame
        AUC of every frame that has one.
    extras : dict of str to DataFrame
        Tables of `OPTIONAL` that are there.
    memo : dict
        What functions under `once` have computed of it.
    """

    folder: Path
    manifest: dict[str, Any]
    clips: pd.DataFrame
    predictions: pd.DataFrame
    history: pd.DataFrame
    rows: pd.DataFrame
    human_centric: pd.DataFrame
    model_centric: pd.DataFrame
    robustness: pd.DataFrame
    controls: pd.DataFrame
    runtime: pd.DataFrame
    explanations: pd.DataFrame
    curves: pd.DataFrame
    frame_auc: pd.DataFrame
    extras: dict[str, pd.DataFrame] = dataclasses.field(default_factory=dict)
    memo: dict[Any, Any] = dataclasses.field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def folds(self) -> list[int]:
        """Numbers of the folds that are in."""
        return sorted(int(fold) for fold in self.manifest["folds"])

    @property
    def settings(self) -> dict[str, Any]:
        """Parameters that all folds share."""
        return self.manifest["settings"]

    @property
    def figures(self) -> list[dict[str, str]]:
        """Pictures: file (relative to the folder), alt, caption."""
        return self.manifest.get("figures", [])


Make = Callable[..., pd.DataFrame]


def once(make: Make) -> Make:
    """Evaluate a function of a study once for it: page, charts and lessons ask for the same."""

    @functools.wraps(make)
    def look_up(found: Published, *given: str) -> pd.DataFrame:
        key = (make.__module__, make.__name__, *given)
        if key not in found.memo:
            found.memo[key] = make(found, *given)
        return found.memo[key].copy()

    return look_up


def spell_curve(values: np.ndarray) -> str:
    """Write a curve as one text: numbers of four digits, apart by spaces."""
    return " ".join(f"{value:.4g}" for value in values)


def read_curve(text: str) -> np.ndarray:
    """Read what `spell_curve` wrote."""
    return np.array(text.split(), dtype=float)


def exists(folder: Path) -> bool:
    """Tell whether there is anything published in a folder."""
    return (folder / MANIFEST).is_file()


def read(folder: str | Path) -> Published:
    """Read a published folder, every file checked against the manifest.

    Parameters
    ----------
    folder : str or Path
        Such as `results/ucsd`.

    Returns
    -------
    Published

    Raises
    ------
    InputError
        If there is nothing, a file is missing, damaged or changed since it was published, or the
        folder was written by another version of this format.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    for name, digest in manifest["files"].items():
        _check_file(folder / name, digest)
    tables = {name: _read_table(folder, name, columns) for name, columns in TABLES.items()}
    extras = {
        name: _read_csv(folder / f"{name}.csv")
        for name in OPTIONAL
        if (folder / f"{name}.csv").is_file()
    }
    return Published(folder=folder, manifest=manifest, extras=extras, **tables)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a published folder's manifest.

    Raises
    ------
    InputError
        If it is not there, damaged, or of another version of this format.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise InputError(
            f"{folder} holds no published results; write them there with `vad publish`"
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        schema = manifest["schema"]
        if schema == SCHEMA and not NEEDED <= manifest.keys():
            raise KeyError
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path} is damaged; get it again, or publish again") from None
    if schema != SCHEMA:
        raise InputError(
            f"{path} is of format {schema}, this version reads {SCHEMA}; publish again"
        )
    return manifest


def _check_file(path: Path, digest: str) -> None:
    if not path.is_file():
        raise InputError(f"{path} is missing; get it again, or publish again")
    if file_digest(path) != digest:
        raise InputError(
            f"{path} is not what was published (its checksum differs); get it again, or publish "
            "again"
        )


def _read_table(folder: Path, name: str, columns: tuple[str, ...]) -> pd.DataFrame:
    path = folder / f"{name}.csv"
    if not path.is_file():
        raise InputError(f"{path} is missing; get it again, or publish again")
    table = _read_csv(path)
    lacking = [column for column in columns if column not in table]
    if lacking:
        raise InputError(f"{path} lacks the columns {', '.join(lacking)}; publish again")
    table = table[list(columns)].copy()
    text = [name for name in ("attribution", "settings", "source", "values") if name in table]
    return table.assign(
        **{name: table[name].astype(object).fillna("").astype(str) for name in text}
    )


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} is no table ({reason}); publish again") from None
