"""The UCSD archive's layout: how its folders and files are named, and what belongs in them.

::

    UCSD_Anomaly_Dataset.v1p2/
      UCSDped1/Train/Train001/001.tif ...       normal frames
      UCSDped1/Test/Test001/001.tif ...         frames, some anomalous
      UCSDped1/Test/Test003_gt/001.bmp ...      pixel masks (or frame001.bmp)
      UCSDped1/Test/UCSDped1.m                  anomalous frames, entry k for TestNNN with NNN = k
      UCSDped2/...                              likewise
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from vad_helpers.errors import InputError

if TYPE_CHECKING:
    from vad_helpers.data.tree import Sequence

ROOT_NAME = "UCSD_Anomaly_Dataset.v1p2"
ORIGIN_NAME = ".archive-sha256"
"""File in a tree's root that says which archive it was extracted from."""
SCENES = {"ped1": "UCSDped1", "ped2": "UCSDped2"}
KINDS = {"train": "Train", "test": "Test"}
N_OFFICIAL = {
    ("ped1", "train"): 34,
    ("ped1", "test"): 36,
    ("ped2", "train"): 16,
    ("ped2", "test"): 12,
}
PED1_FRAMES = 200
PED2_FRAMES = {"train": 2550, "test": 2010}
# The test sequences of Ped1 whose masks came with the dataset; all of Ped2's did.
MASKED_PED1 = frozenset({3, 4, 14, 18, 19, 21, 22, 23, 24, 32})

# Four digits at most: a date in a file name is no frame number.
_FRAME_NAME = r"(?i:(?:frame)?(\d{1,4})\.tiff?)"
FRAME = re.compile(_FRAME_NAME)
MASK = re.compile(r"(?i:(?:frame)?(\d{1,4})\.(?:bmp|png))")
# A member of an archive that holds at least one sequence; the tree may lie in one folder.
FRAME_PATH = re.compile(
    r"(?:\./)?(?:[^/]+/)?UCSDped[12]/(?:Train/Train|Test/Test)\d{3}/" + _FRAME_NAME
)
_CLUTTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})


def is_clutter(name: str) -> bool:
    """Say whether a file is what desktops and editors leave behind (``._*``, ``*.m~``, ...)."""
    return name in _CLUTTER or name.startswith("._") or name.endswith("~")


def truth_path(root: Path, scene: str) -> Path:
    """Give the place of a scene's list of anomalous frames."""
    folder = SCENES[scene]
    return root / folder / KINDS["test"] / f"{folder}.m"


def official_masks(scene: str, number: int) -> bool:
    """Say whether the masks of a test sequence came with the dataset (others are additions)."""
    return scene == "ped2" or number in MASKED_PED1


def is_official(sequences: Iterable[Sequence]) -> bool:
    """Tell whether sequences have the numbers and lengths of the official ones.

    Parameters
    ----------
    sequences : iterable of Sequence
        Those present; some of Ped1's may be missing, and either scene as a whole.

    Returns
    -------
    bool
        All of Ped1's have 200 frames; Ped2's are complete, with 2550 frames for training and
        2010 for testing. False without any.
    """
    sequences = list(sequences)
    numbered = all(s.number <= N_OFFICIAL[s.scene, s.kind] for s in sequences)
    ped1 = [s.n_frames for s in sequences if s.scene == "ped1"]
    ped2 = {kind: [s.n_frames for s in sequences if (s.scene, s.kind) == ("ped2", kind)]
            for kind in PED2_FRAMES}  # fmt: skip
    complete = {kind: sum(lengths) for kind, lengths in ped2.items()} == PED2_FRAMES
    absent = not any(ped2.values())
    return bool(sequences) and numbered and set(ped1) <= {PED1_FRAMES} and (complete or absent)


def sequence_folders(root: Path, scene: str, kind: str) -> dict[int, Path]:
    """Find the folders of sequences on one side of one scene.

    Returns
    -------
    dict of int to Path
        Sequence number to folder, sorted by number.
    """
    side = root / SCENES[scene] / KINDS[kind]
    pattern = re.compile(KINDS[kind] + r"(\d{3})")
    if not side.is_dir():
        return {}
    found = {}
    for folder in side.iterdir():
        match = pattern.fullmatch(folder.name)
        if match and folder.is_dir():
            found[int(match[1])] = folder
    return dict(sorted(found.items()))


def numbered(folder: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Find a folder's files that are named by a number, sorted as numbers.

    Raises
    ------
    InputError
        Two files have one number, or a number is 0 (the dataset counts from 1).
    """
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        match = pattern.fullmatch(file.name)
        if not match:
            continue
        number = int(match[1])
        if number == 0:
            raise InputError(f"{file}: numbers start at 1 in this dataset, rename the files")
        if number in found:
            raise InputError(f"{folder}: {found[number].name} and {file.name} share one number")
        found[number] = file
    return dict(sorted(found.items()))


def find_root(path: str | Path) -> Path:
    """Find the tree's root: the folder that holds ``UCSDped1`` or ``UCSDped2``.

    Parameters
    ----------
    path : str or Path
        The root itself, or the folder it lies in.

    Returns
    -------
    Path
        The root.

    Raises
    ------
    InputError
        There is no such folder, or there are several and none has the official name.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: give the folder that holds {ROOT_NAME}")
    for candidate in (path, path / ROOT_NAME):
        if _is_root(candidate):
            return candidate
    # Names with a dot in front are unfinished extractions.
    inside = [p for p in sorted(path.iterdir()) if not p.name.startswith(".") and _is_root(p)]
    if len(inside) > 1:
        names = ", ".join(p.name for p in inside)
        raise InputError(f"{path} holds several UCSD trees ({names}): give one of them")
    if not inside:
        raise InputError(f"{path} holds neither UCSDped1 nor UCSDped2: give the UCSD tree's folder")
    return inside[0]


def _is_root(path: Path) -> bool:
    return any((path / folder).is_dir() for folder in SCENES.values())
