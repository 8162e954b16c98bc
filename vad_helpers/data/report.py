"""Look at every picture of a UCSD tree, and say what is there, missing or odd."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from vad_helpers.data import images
from vad_helpers.data.layout import (
    FRAME,
    KINDS,
    MASK,
    N_OFFICIAL,
    ORIGIN_NAME,
    SCENES,
    find_root,
    is_clutter,
    sequence_folders,
    truth_path,
)
from vad_helpers.data.tree import Sequence, mask_presence, scan
from vad_helpers.errors import InputError

_COLUMNS = {
    "sequence": "str",
    "scene": "str",
    "kind": "str",
    "frames": "int64",
    "masks": "int64",
    "anomalous": "int64",
    "mask_anomalous": "Int64",
    "disagreements": "Int64",
    "unreadable": "int64",
    "size": "str",
}


@dataclass(frozen=True, eq=False)
class TreeReport:
    """What `check` found in a tree.

    Attributes
    ----------
    root : Path
        Root of the tree.
    table : pandas.DataFrame
        One row a sequence: ``sequence``, ``scene``, ``kind`` ("train" or "test"), counts of
        ``frames``, ``masks``, ``anomalous`` frames (by the ``.m`` list), ``mask_anomalous``
        frames (mask not empty), ``disagreements`` (frames where the two differ) and
        ``unreadable`` frames (missing ones included), and ``size`` ("height x width", pixels).
        Where there are no masks, ``mask_anomalous`` and ``disagreements`` are NA.
    errors : tuple of str
        What makes the tree unusable, one line each.
    warnings : tuple of str
        What is odd, but handled, one line each.
    unreadable : tuple of str
        Frames that are missing or cannot be decoded, as paths below the root.
    stray : tuple of str
        Files that belong neither to the dataset nor to known clutter, as paths below the root.
    clutter : int
        Number of files that desktops and editors left (``._*``, ``.DS_Store``, ``*.m~``).
    missing : tuple of str
        Official sequences that are absent, such as ``"UCSDped1/Train 001-034"``.
    """

    root: Path
    table: pd.DataFrame
    errors: tuple[str, ...]
    warnings: tuple[str, ...]
    unreadable: tuple[str, ...]
    stray: tuple[str, ...]
    clutter: int
    missing: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """True if no error was found and at least one sequence can be read."""
        return not self.errors and len(self.table) > 0

    @property
    def problems(self) -> list[str]:
        """Everything that is wrong or odd, one line each, errors first."""
        lines = [*self.errors, *self.warnings]
        lines += [f"{name} is unreadable: its neighbour stands in" for name in self.unreadable]
        lines += [f"{name} is missing" for name in self.missing]
        return lines + [f"{name} does not belong to the dataset: ignored" for name in self.stray]

    def summary(self) -> str:
        """Write the report as text: totals by scene, one row a sequence, what is odd."""
        verdict = "usable" if self.usable else "not usable"
        lines = [f"UCSD tree {self.root}: {verdict}"]
        lines += [_totals(self.table, scene) for scene in SCENES]
        if len(self.table):
            lines += ["", self.table.astype(object).fillna("-").to_string(index=False), ""]
        lines += [f"error: {line}" for line in self.errors]
        lines += [f"warning: {line}" for line in self.warnings]
        lines.append(f"unreadable frames (nearest neighbour repeated): {_listed(self.unreadable)}")
        lines.append(f"missing from the official dataset: {_listed(self.missing, most=None)}")
        lines.append(f"stray files (ignored): {_listed(self.stray)}")
        lines.append(f"known clutter (ignored): {self.clutter} files")
        return "\n".join(lines)


def _totals(table: pd.DataFrame, scene: str) -> str:
    rows = table[table["scene"] == scene]
    n_train, n_test = ((rows["kind"] == kind).sum() for kind in KINDS)
    return (
        f"{scene}: {n_train} train + {n_test} test sequences, {rows['frames'].sum()} frames, "
        f"{rows['anomalous'].sum()} anomalous by the .m list, masks for "
        f"{(rows['masks'] > 0).sum()} sequences"
    )


def _listed(names: tuple[str, ...], *, most: int | None = 10) -> str:
    shown = ", ".join(names[:most])
    if most is not None and len(names) > most:
        shown += f", and {len(names) - most} more"
    return shown or "none"


def check(root: str | Path, *, progress: bool = False) -> TreeReport:
    """Decode every frame and mask of a tree and compare the masks with the ``.m`` lists.

    Parameters
    ----------
    root : str or Path
        Root of the tree, or the folder it lies in.
    progress : bool
        Show a progress bar.

    Returns
    -------
    TreeReport
        Its ``usable`` tells whether the tree can be worked with, its ``summary()`` reads well.

    Raises
    ------
    InputError
        There is no such folder, or nothing in it looks like the dataset.
    """
    root = find_root(root)
    sequences, errors = scan(root)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        looks = pool.map(lambda sequence: _look(sequence, root), sequences)
        bar = tqdm(
            looks, total=len(sequences), desc="checking", unit=" sequences", disable=not progress
        )
        found = list(bar)
    if not sequences and not errors:
        errors = ["no sequence: expected frames such as UCSDped2/Test/Test001/001.tif"]
    stray, clutter = _other_files(root)
    return TreeReport(
        root=root,
        table=_table([look.row for look in found]),
        errors=(*errors, *(line for look in found for line in look.errors)),
        warnings=(*(line for look in found for line in look.warnings), *_empty_folders(root)),
        unreadable=tuple(name for look in found for name in look.unreadable),
        stray=stray,
        clutter=clutter,
        missing=_missing(sequences),
    )


@dataclass(frozen=True)
class _Look:
    """What one sequence adds to the report."""

    row: dict[str, object]
    errors: list[str]
    warnings: list[str]
    unreadable: list[str]


def _look(sequence: Sequence, root: Path) -> _Look:
    errors: list[str] = []
    warnings: list[str] = []
    sizes, unreadable = _decode_all(sequence, root)
    if not sizes:
        errors.append(f"{sequence.id}: none of its {sequence.n_frames} frames can be decoded")
    elif len(sizes) > 1:
        errors.append(f"{sequence.id}: frames of several sizes ({', '.join(sizes)})")
    row = {
        "sequence": sequence.id,
        "scene": sequence.scene,
        "kind": sequence.kind,
        "frames": sequence.n_frames,
        "masks": len(sequence.masks or ()),
        "anomalous": int(sequence.anomalous.sum()),
        "mask_anomalous": None,
        "disagreements": None,
        "unreadable": len(unreadable),
        "size": sizes[0] if len(sizes) == 1 else "several" if sizes else "unknown",
    }
    if sequence.masks is not None:
        try:
            presence = mask_presence(sequence)
        except InputError as error:
            errors.append(str(error))
        else:
            differing = int(np.sum(presence != sequence.anomalous))
            row["mask_anomalous"], row["disagreements"] = int(presence.sum()), differing
            if differing:
                warnings.append(
                    f"{sequence.id}: masks and .m list disagree on {differing} of "
                    f"{sequence.n_frames} frames"
                )
    return _Look(row, errors, warnings, unreadable)


def _decode_all(sequence: Sequence, root: Path) -> tuple[list[str], list[str]]:
    """Decode the frames: their sizes as text, and the names of those that cannot be had."""
    folder = next(path for path in sequence.frames if path is not None).parent
    sizes: set[str] = set()
    unreadable = []
    for number, path in enumerate(sequence.frames, start=1):
        picture = None if path is None else images.decode(path)
        if picture is not None:
            sizes.add(f"{picture.height}x{picture.width}")
        else:
            name = path or folder / f"{number:03d}.tif (absent)"
            unreadable.append(name.relative_to(root).as_posix())
    return sorted(sizes), unreadable


def _table(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


def _empty_folders(root: Path) -> list[str]:
    """Find sequences' folders without frames, and masks' folders without a sequence."""
    lines = []
    for scene in SCENES:
        for kind in KINDS:
            folders = sequence_folders(root, scene, kind).values()
            empty = [folder for folder in folders if not _holds(folder)]
            lines += [f"{folder.relative_to(root).as_posix()} holds no frames" for folder in empty]
        for folder in sorted(truth_path(root, scene).parent.glob("Test[0-9][0-9][0-9]_gt")):
            if not folder.with_name(folder.name.removesuffix("_gt")).is_dir():
                name = folder.relative_to(root).as_posix()
                lines.append(f"{name} holds masks of a sequence that is absent")
    return lines


def _holds(folder: Path) -> bool:
    return any(FRAME.fullmatch(file.name) for file in folder.iterdir())


def _other_files(root: Path) -> tuple[tuple[str, ...], int]:
    """List the files that are not the dataset's, and count the known clutter."""
    stray, clutter = [], 0
    for file in sorted(path for path in root.rglob("*") if path.is_file()):
        if is_clutter(file.name):
            clutter += 1
        elif not _belongs(file.relative_to(root)):
            stray.append(file.relative_to(root).as_posix())
    return tuple(stray), clutter


def _belongs(path: Path) -> bool:
    """Say whether a path below the root is one that the dataset's layout foresees."""
    *folders, name = path.parts
    if not folders:
        # The two others say where a tree comes from: which archive, or which synthetic options.
        return name.upper().startswith("README") or name in (ORIGIN_NAME, "walkway.json")
    if folders[0] not in SCENES.values() or len(folders) < 2:
        return False
    side, inside = folders[1], folders[2:]
    if not inside:
        return side == KINDS["test"] and name == f"{folders[0]}.m"
    if side not in KINDS.values() or len(inside) > 1 or not inside[0].startswith(side):
        return False
    number = inside[0].removeprefix(side)
    is_mask = side == KINDS["test"] and number.endswith("_gt")
    number = number.removesuffix("_gt") if is_mask else number
    pattern = MASK if is_mask else FRAME
    return len(number) == 3 and number.isdecimal() and bool(pattern.fullmatch(name))


def _missing(sequences: list[Sequence]) -> tuple[str, ...]:
    present = {(s.scene, s.kind, s.number) for s in sequences}
    lines = []
    for (scene, kind), n_official in N_OFFICIAL.items():
        absent = [n for n in range(1, n_official + 1) if (scene, kind, n) not in present]
        if absent:
            lines.append(f"{SCENES[scene]}/{KINDS[kind]} {_number_ranges(absent)}")
    return tuple(lines)


def _number_ranges(numbers: Iterable[int]) -> str:
    """Write sorted numbers as ``"001-005, 007"``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = (f"{r[0]:03d}" if len(r) == 1 else f"{r[0]:03d}-{r[-1]:03d}" for r in runs)
    return ", ".join(texts)
