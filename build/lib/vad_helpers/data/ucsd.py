"""UCSD Anomaly Detection Dataset: tree -> sequences with labels, and what is odd about a tree.

What it shows, and its known faults: `book/data_card.md`. The synthetic walkway has this layout too.

::

    UCSD_Anomaly_Dataset.v1p2/
      UCSDped1/Train/Train001/001.tif ...       normal frames
      UCSDped1/Test/Test001/001.tif ...         frames, some anomalous
      UCSDped1/Test/Test003_gt/001.bmp ...      pixel masks (or frame001.bmp)
      UCSDped1/Test/UCSDped1.m                  anomalous frames, entry k for TestNNN with NNN = k
      UCSDped2/...                              likewise

What this reader knows about the dataset, so that nobody else need:

- The lists of anomalous frames (``.m``) count from 1 and include both ends, an entry may hold
  several ranges, and entry k belongs to TestNNN with NNN = k even if other sequences are absent.
- Four frames of Ped1 are damaged, one so that it cannot be decoded. Each is replaced by its nearest
  neighbour, for dropping it would shift every later label.
- Masks have 1 or 8 bits, and are named ``NNN.bmp`` or ``frameNNN.bmp``.
- Only ten test sequences of Ped1 have official masks; a sequence without masks is not normal.
- Copies have frames as JPEG, PNG or BMP, and names in lower case: these are read all the same.

References
----------
V. Mahadevan, W. Li, V. Bhalodia and N. Vasconcelos, "Anomaly Detection in Crowded Scenes",
IEEE Conference on Computer Vision and Pattern Recognition, 2010.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import itertools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
from tqdm.contrib.concurrent import thread_map

from vad_helpers.data.frames import VERSION, Report, Sequence, decoder, described, stand_in
from vad_helpers.data.frames import read_frames as read_frames  # for who reads a tree
from vad_helpers.data.frames import read_masks as read_masks
from vad_helpers.errors import InputError

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
"""Number of sequences by scene and side, in the order in which a tree is read."""
# The test sequences of Ped1 whose masks came with the dataset; all of Ped2's did.
MASKED_PED1 = frozenset({3, 4, 14, 18, 19, 21, 22, 23, 24, 32})

# Four digits at most: a date in a file name is no frame number.
_FRAME = r"(?:frame)?(\d{1,4})\.(?:tiff?|jpe?g|png|bmp)"
_MASK = r"(?:frame)?(\d{1,4})\.(?:bmp|png)"  # no JPEG, which makes black pixels nearly black
FRAME_PATH = re.compile(r"UCSDped[12]/(?:Train/Train|Test/Test)\d{3}/" + _FRAME, re.IGNORECASE)
"""Path of a frame below the root."""
# All paths below the root that the layout foresees; the two others say where a tree comes from:
# which archive, or which synthetic options.
_LAYOUT = re.compile(
    rf"{FRAME_PATH.pattern}|UCSDped[12]/Test/Test\d{{3}}_gt/{_MASK}|(UCSDped[12])/Test/\3\.m"
    rf"|README[^/]*|{re.escape(ORIGIN_NAME)}|walkway\.json",
    re.IGNORECASE,
)
_CLUTTER = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\._.*|.*~", re.IGNORECASE)
_EXPECTED = "expected frames such as UCSDped2/Test/Test001/001.tif (or .jpg, .png, .bmp)"

_COUNTS = "frames official masks anomalous mask_anomalous disagreements unreadable".split()

Ranges = list[tuple[int, int]]


def find_root(path: str | Path) -> Path:
    """Find the tree's root: the folder that holds ``UCSDped1`` or ``UCSDped2``.

    `path` is the root itself, or the folder it lies in. InputError if there is no such folder, or
    there are several and none has the official name.
    """

    def is_root(folder: Path) -> bool:
        return any(_below(folder, name).is_dir() for name in SCENES.values())

    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder: give the folder that holds {ROOT_NAME}")
    for candidate in (path, path / ROOT_NAME):
        if is_root(candidate):
            return candidate
    # Names with a dot in front are unfinished extractions.
    inside = [p for p in sorted(path.iterdir()) if not p.name.startswith(".") and is_root(p)]
    if len(inside) > 1:
        names = ", ".join(p.name for p in inside)
        raise InputError(f"{path} holds several UCSD trees ({names}): give one of them")
    if not inside:
        raise InputError(f"{path} holds neither UCSDped1 nor UCSDped2: give the UCSD tree's folder")
    return inside[0]


def index(root: str | Path) -> list[Sequence]:
    """List the sequences of a tree, complete or partial.

    Parameters
    ----------
    root : str or Path
        Root of the tree, or the folder it lies in.

    Returns
    -------
    list of Sequence
        Ped1 train, Ped1 test, Ped2 train, Ped2 test, each by number. No picture is decoded.

    Raises
    ------
    InputError
        The tree holds no sequence; a ``.m`` list is missing, malformed, too short, or names
        frames that its sequence does not have; the masks of a sequence do not match its frames.
    """
    root = find_root(root)
    sequences, errors = _scan(root)
    if errors:
        more = f" (and {len(errors) - 1} more problems in this tree)" if len(errors) > 1 else ""
        raise InputError(errors[0] + more)
    if not sequences:
        raise InputError(f"{root} holds no sequence: {_EXPECTED}")
    return sequences


def _scan(root: Path) -> tuple[list[Sequence], list[str]]:
    """List the sequences at `root` that can be used, and say what is wrong with the others."""
    sequences: list[Sequence] = []
    errors: list[str] = []
    for scene, kind in N_OFFICIAL:
        folders = _sequence_folders(root, scene, kind)
        entries = None
        if kind == "test" and folders:
            path = _truth_path(root, scene)
            if not path.is_file():
                errors.append(f"{path} is missing: it lists the anomalous frames of test sequences")
                continue
            try:
                entries = parse_ground_truth(path.read_text(encoding="latin-1"))
            except InputError as error:
                errors.append(f"{path}: {error}")
                continue
        for number, folder in folders.items():
            try:
                sequence = _sequence(folder, scene, kind, number, entries)
                sequences += [sequence] if sequence else []
            except InputError as error:
                errors.append(str(error))
    return sequences, errors


def _below(folder: Path, *names: str) -> Path:
    """Path below a folder, in the spelling that stands there; InputError if there are two."""
    for name in names:
        there = [] if not folder.is_dir() else os.listdir(folder)
        there = [found for found in there if found.lower() == name.lower()] or [name]
        if len(there) > 1:
            raise InputError(f"{folder} holds {' and '.join(sorted(there))}: keep one of them")
        folder = folder / there[0]
    return folder


def _truth_path(root: Path, scene: str) -> Path:
    return _below(root, SCENES[scene], KINDS["test"], f"{SCENES[scene]}.m")


def _sequence_folders(root: Path, scene: str, kind: str) -> dict[int, Path]:
    """Find the folders of sequences on one side of one scene, by number and sorted."""
    found = _numbered(_below(root, SCENES[scene], KINDS[kind]), KINDS[kind] + r"(\d{3})")
    return {number: folder for number, folder in found.items() if folder.is_dir()}


def _numbered(folder: Path, pattern: str) -> dict[int, Path]:
    """Find what is in a folder and named by a number, sorted as numbers; {} without folder."""
    found: dict[int, Path] = {}
    for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
        match = re.fullmatch(pattern, name, re.IGNORECASE)
        if not match:
            continue
        number = int(match[1])
        if number == 0:
            raise InputError(f"{folder / name}: numbers start at 1 in this dataset: rename it")
        if number in found:
            pair = f"{found[number].name} and {name}"
            raise InputError(f"{folder}: two names share one number, {pair}: keep one of them")
        found[number] = folder / name
    return dict(sorted(found.items()))


def parse_ground_truth(text: str) -> list[Ranges]:
    """Read a ``.m`` list of anomalous frames.

    Parameters
    ----------
    text : str
        MATLAB lines such as ``TestVideoFile{end+1}.gt_frame = [5:90, 140:200];``. Single frames,
        several ranges an entry, empty brackets and comments are understood.

    Returns
    -------
    list of list of (int, int)
        One list an entry, in order (entry k, from 1, belongs to sequence TestNNN with NNN = k):
        its ranges, 1-based, both ends included.

    Raises
    ------
    InputError
        An entry is malformed.
    """
    text = re.sub(r"%.*", "", text)
    # A value without brackets is legal MATLAB; its end is the semicolon or the line's.
    values = re.findall(r"gt_frame\s*=[^\S\n]*(\[[^\]]*\]|[^;\n]*)", text)
    entries = []
    for entry, value in enumerate(values, start=1):
        inside = value[1:-1] if value.startswith("[") and value.endswith("]") else value
        tokens = re.sub(r"\s*:\s*", ":", inside).replace(",", " ").replace(";", " ").split()
        ranges = []
        for token in tokens:
            match = re.fullmatch(r"(\d+)(?::(\d+))?", token)
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
            if not 1 <= first <= last:
                told = "expected ranges first:last of frames counted from 1"
                raise InputError(f"entry {entry} holds {token!r}: {told}")
            ranges.append((first, last))
        if not ranges and not value.startswith("["):
            raise InputError(f"entry {entry} is empty: expected ranges such as [60:152]")
        entries.append(ranges)
    return entries


def _sequence(
    folder: Path, scene: str, kind: str, number: int, entries: list[Ranges] | None
) -> Sequence | None:
    """Describe the sequence in `folder`; None if it holds no frames."""
    found = _numbered(folder, _FRAME)
    if not found:
        return None
    n_frames = max(found)
    masks, labels = None, np.zeros(n_frames, dtype=bool)
    if entries is not None:
        masks_folder = _below(folder.parent, f"{folder.name}_gt")
        if masks_folder.is_dir():
            files = _numbered(masks_folder, _MASK)
            if list(files) != list(range(1, n_frames + 1)):
                told = f"each of the {n_frames} frames of {folder.name}, with the same numbers"
                given = f"{masks_folder} holds {len(files)} masks (.bmp or .png)"
                raise InputError(f"{given}, expected one for {told}")
            masks = tuple(files.values())
        path = _below(folder.parent, f"{SCENES[scene]}.m")
        if number > len(entries):
            told = f"none for {folder.name}: expected entry {number} for it"
            raise InputError(f"{path} has {len(entries)} entries, {told}")
        for first, last in entries[number - 1]:
            if last > n_frames:
                told = f"frames {first}:{last}, but {folder.name} has {n_frames} frames"
                raise InputError(f"{path}: entry {number} names {told}")
            labels[first - 1 : last] = True
    labels.flags.writeable = False
    return Sequence(
        id=f"{scene}/{KINDS[kind]}{number:03d}",
        scene=scene,
        kind=kind,
        number=number,
        frames=tuple(found.get(i) for i in range(1, n_frames + 1)),
        masks=masks,
        anomalous=labels,
        official_mask=masks is not None and (scene == "ped2" or number in MASKED_PED1),
    )


def is_official(sequences: Iterable[Sequence]) -> bool:
    """Tell whether sequences have the numbers and lengths of the official ones.

    All of Ped1's have 200 frames, and some may be missing; Ped2's are complete, with 2550 frames
    for training and 2010 for testing, or all missing. False without any sequence.
    """
    sequences = list(sequences)
    if not sequences or any(s.number > N_OFFICIAL.get((s.scene, s.kind), 0) for s in sequences):
        return False
    ped1, ped2 = ([s for s in sequences if s.scene == scene] for scene in SCENES)
    lengths = [sum(s.n_frames for s in ped2 if s.kind == kind) for kind in KINDS]
    return all(s.n_frames == 200 for s in ped1) and lengths in ([2550, 2010], [0, 0])


def fingerprint(root: str | Path) -> str:
    """Name the content of a tree by 64 hexadecimal digits, to tell it from another's.

    Covers the names and the whole content of frames, masks and ``.m`` lists, and `frames.VERSION`;
    nothing else, so that it is the same wherever the tree is and whenever it was unpacked. `root`
    is the tree's, or the folder it lies in. InputError if there is no tree, or two of its files
    share one number.
    """
    root, files = find_root(root), []
    for scene, kind in N_OFFICIAL:
        for folder in _sequence_folders(root, scene, kind).values():
            masks = _numbered(_below(folder.parent, f"{folder.name}_gt"), _MASK)
            own = (*_numbered(folder, _FRAME).values(), *masks.values())
            files += [(file.relative_to(root).as_posix(), file) for file in own]
        if kind == "test" and _truth_path(root, scene).is_file():
            files.append((scene, _truth_path(root, scene)))
    digest = hashlib.sha256(f"reader {VERSION}\n".encode())
    for name, file in files:
        digest.update(f"{name} {pooch.file_hash(file)}\n".encode())
    return digest.hexdigest()


@functools.cache
def official_hashes() -> dict[str, list[str]]:
    """Give the first 8 hexadecimal digits of the SHA-256 of every official frame file, in order,
    by sequence id; they come from the Git LFS pointers of a public copy of the official files."""
    packed = resources.files("vad_helpers.data").joinpath("official_frames.txt.gz").read_bytes()
    lines = gzip.decompress(packed).decode().splitlines()[1:]
    return {name: re.findall(".{8}", digits) for name, digits in map(str.split, lines)}


@dataclass(frozen=True, eq=False, kw_only=True)
class TreeReport(Report):
    """What `check` found in the tree at `root`.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a sequence: ``sequence``, ``scene``, ``kind`` ("train" or "test"), counts of
        ``frames``, ``official`` frames (byte for byte those of the dataset; others are
        recompressed or changed, not unusable), ``masks``, ``anomalous`` frames (by the ``.m``
        list), ``mask_anomalous`` frames (mask not empty), ``disagreements`` (of the two) and
        ``unreadable`` frames (missing and garbage included), and ``size`` ("height x width",
        pixels). Counts are Int64; without masks, those of masks and disagreements are NA.
    errors, warnings : tuple of str
        What makes the tree unusable, and what is odd, but handled, one line each.
    unreadable : tuple of str
        Frames that their nearest neighbour stands in for, as paths below the root: those that
        cannot be decoded, are ``(absent)``, or decode to ``(garbage)``.
    stray : tuple of str
        Files that belong neither to the dataset nor to known clutter, as paths below the root.
    clutter : int
        Number of files that desktops and editors left (``._*``, ``.DS_Store``, ``*.m~``).
    missing : tuple of str
        Official sequences that are absent, such as ``"UCSDped1/Train 001-034"``.
    """

    unreadable: tuple[str, ...]
    stray: tuple[str, ...]
    clutter: int
    missing: tuple[str, ...]

    def summary(self) -> str:
        """Write the report as text: totals by scene, one row a sequence, what is odd."""

        def listed(names: tuple[str, ...]) -> str:
            more = f", and {len(names) - 10} more" if len(names) > 10 else ""
            return (", ".join(names[:10]) or "none") + more

        totals = []
        for scene in SCENES:
            rows = self.table[self.table["scene"] == scene]
            n_train, n_test = ((rows["kind"] == kind).sum() for kind in KINDS)
            totals.append(
                f"{scene}: {n_train} train + {n_test} test sequences, {rows['frames'].sum()} "
                f"frames, {rows['anomalous'].sum()} anomalous by the .m list, masks for "
                f"{(rows['masks'] > 0).sum()} sequences"
            )
        same, n = self.table["official"].sum(), self.table["frames"].sum()
        return "\n".join(
            [
                super().summary(what="UCSD tree", totals=totals),
                f"official frames: {same} of {n} are byte for byte those of the dataset (any other "
                f"is recompressed or changed, which does not make it unusable)",
                f"unreadable frames (nearest neighbour repeated): {listed(self.unreadable)}",
                f"missing from the official dataset: {', '.join(self.missing) or 'none'}",
                f"stray files (ignored): {listed(self.stray)}",
                f"known clutter (ignored): {self.clutter} files",
            ]
        )


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
    sequences, errors = _scan(root)
    options = {"desc": "checking", "unit": " sequences", "disable": not progress}
    options["max_workers"] = os.cpu_count()
    looks = thread_map(functools.partial(_look, root=root), sequences, **options)
    errors += [line for _, faults, _, _ in looks for line in faults]
    if not errors and not any(sequence.kind == "test" for sequence in sequences):
        errors = [f"no sequence to test on: {_EXPECTED}"]
    files = sorted(path for path in root.rglob("*") if path.is_file())
    kept = [file for file in files if not _CLUTTER.fullmatch(file.name)]
    names = [file.relative_to(root).as_posix() for file in kept]
    columns = ["sequence", "scene", "kind", *_COUNTS, "size"]
    table = pd.DataFrame([row for row, *_ in looks], columns=columns)
    return TreeReport(
        root=root,
        table=table.astype(dict.fromkeys(_COUNTS, "Int64")),
        errors=tuple(errors),
        warnings=tuple(line for _, _, odd, _ in looks for line in odd),
        unreadable=tuple(name for *_, lost in looks for name in lost),
        stray=tuple(name for name in names if not _LAYOUT.fullmatch(name)),
        clutter=len(files) - len(kept),
        missing=_missing(sequences),
    )


def _look(sequence: Sequence, root: Path) -> tuple[dict, list[str], list[str], list[str]]:
    """Give one sequence's row of the table, errors, warnings and unreadable frames."""
    errors, unreadable, refusals, sizes = [], [], [], set()
    folder = next(path for path in sequence.frames if path is not None).parent
    decoded = decoder(sequence)
    for i, path in enumerate(sequence.frames):
        name = (path or folder / f"{i + 1:03d}.tif (absent)").relative_to(root).as_posix()
        try:
            if stand_in(sequence, i, decoded) == i:
                picture = decoded(i)
                sizes.add(f"{picture.height}x{picture.width}")
            else:
                unreadable.append(name if decoded(i) is None else f"{name} (garbage)")
        except InputError as error:
            refusals.append(str(error))
            unreadable.append(name)
    hashes = zip(sequence.frames, official_hashes().get(sequence.id, ()), strict=False)
    official = [hashlib.sha256(p.read_bytes()).hexdigest().startswith(h) for p, h in hashes if p]
    if refusals:
        more = f" (and {len(refusals) - 1} more frames)" if len(refusals) > 1 else ""
        errors.append(refusals[0] + more)
    if len(sizes) > 1:
        errors.append(f"{sequence.id}: frames of several sizes ({', '.join(sorted(sizes))})")
    row, faults, warnings = described(sequence, ".m list", compare=not refusals)
    row |= {"official": sum(official), "unreadable": len(unreadable)}
    row["size"] = "several" if len(sizes) > 1 else next(iter(sizes), "unknown")
    return row, errors + faults, warnings, unreadable


def _missing(sequences: list[Sequence]) -> tuple[str, ...]:
    """Name the official sequences that are absent, such as ``"UCSDped1/Test 001-003, 007"``."""
    present = {(s.scene, s.kind, s.number) for s in sequences}
    lines = []
    for (scene, kind), n in N_OFFICIAL.items():
        absent = [i for i in range(1, n + 1) if (scene, kind, i) not in present]
        texts = []
        # Along a run of numbers, the difference to their place stays the same.
        for _, run in itertools.groupby(enumerate(absent), lambda item: item[1] - item[0]):
            numbers = [f"{number:03d}" for _, number in run]
            texts.append(numbers[0] if len(numbers) == 1 else f"{numbers[0]}-{numbers[-1]}")
        lines += [f"{SCENES[scene]}/{KINDS[kind]} {', '.join(texts)}"] if texts else []
    return tuple(lines)
