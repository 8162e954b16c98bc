"""A folder of one's own videos as a dataset: files and labels -> sequences, and what is odd.

A folder and its `labels.csv` look as `book/extending.md` says. A video that the table does not name
is normal, and so is one that it names without frames. Masks are found by the video's name, with
`_label` after it or without its leading zeros: `8_label.mat` is that of `08.avi`. Frames are read
once, and kept as grey pictures in a folder that the caller names, by the content of the video: what
reads a tree reads them too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pooch
from PIL import Image
from tqdm.auto import tqdm

from vad_helpers.data import video_file
from vad_helpers.data.frames import VERSION, Report, Sequence, decode, described
from vad_helpers.errors import InputError
from vad_helpers.files import atomic_folder

SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".m4v", ".wmv", ".gif")
SCENE = "videos"
_COLUMNS = "sequence scene kind frames masks anomalous mask_anomalous disagreements".split()


def index(
    root: str | Path,
    *,
    kept: str | Path,
    labels: str = "labels.csv",
    masks: str = "none",
    progress: bool = False,
) -> list[Sequence]:
    """List the videos of a folder as sequences, with the frames of each as pictures.

    Parameters
    ----------
    root : str or Path
        Folder of the videos; or a video file, with labels and masks "none".
    kept : str or Path
        Folder for the frames as pictures, made if need be; what is there is not made again.
    labels : str
        The table of anomalous frames, in `root`; "masks": frames whose mask is not black are
        anomalous; "none": no frame is.
    masks : str
        The folder of masks, in `root` ("." is that itself); "none": there are none.
    progress : bool
        Show a bar while videos are read for the first time.

    Raises
    ------
    InputError
        There is no video; one cannot be read; labels name frames or videos that are not there; or
        masks are not as many, or not as large, as the frames.
    """
    found, errors, _ = _scan(Path(root), Path(kept), labels, masks, progress)
    if errors:
        more = f" (and {len(errors) - 1} more problems in this folder)" if errors[1:] else ""
        raise InputError(errors[0] + more)
    return found


def check(
    root: str | Path,
    *,
    kept: str | Path,
    labels: str = "labels.csv",
    masks: str = "none",
    progress: bool = False,
) -> Report:
    """Read every video, label and mask of a folder, and report; arguments as those of `index`."""
    found, errors, warnings = _scan(Path(root), Path(kept), labels, masks, progress)
    looks = [described(one, "labels") for one in found]
    errors += [line for _, faults, _ in looks for line in faults]
    warnings += [line for _, _, odd in looks for line in odd]
    table = pd.DataFrame([row for row, *_ in looks], columns=_COLUMNS)
    table = table.astype(dict.fromkeys(_COLUMNS[3:], "Int64"))
    return Report(root=Path(root), table=table, errors=tuple(errors), warnings=tuple(warnings))


def fingerprint(root: str | Path, *, labels: str = "labels.csv", masks: str = "none") -> str:
    """Name the content of a folder's videos, labels and masks: 64 hexadecimal digits."""
    root, head = Path(root), f"reader {VERSION} labels {labels} masks {masks}\n"
    digest = hashlib.sha256(head.encode())
    parts = [*_videos(root), root / labels, root / masks]
    for file in dict.fromkeys(file for path in parts for file in _files(path)):
        name = Path(os.path.relpath(file, root)).as_posix()  # labels may lie elsewhere
        digest.update(f"{name} {_digest([file])}\n".encode())
    return digest.hexdigest()


def _scan(
    root: Path, kept: Path, labels: str, masks: str, progress: bool
) -> tuple[list[Sequence], list[str], list[str]]:
    """Sequences that can be used, what is wrong with the others, and what is odd."""
    if not root.exists():
        raise InputError(f"no folder {root}; give the one that holds the videos as data_dir")
    paths = [path for path in _videos(root) if path != root / masks]
    names = Counter(_name(path) for path in paths)
    if not paths:
        known = ", ".join(SUFFIXES)
        raise InputError(f"{root} holds no video ({known}) and no folder of pictures: give another")
    listed = labels not in ("none", "masks")
    ranges, errors = _labels(root / labels, names) if listed else ({}, [])
    twice = [name for name in names if names[name] > 1]
    errors += [f"{root} holds two videos named {name}: rename one" for name in twice]
    found, warnings = [], []
    for path in tqdm(paths, desc="reading videos", disable=not progress):
        try:
            frames, odd = _kept(kept, path, "frames")
            warnings += [f"{path.name}: {line}" for line in odd]
            anomalous = np.zeros(len(frames), dtype=bool)
            for first, last in ranges.get(_name(path), ()):
                if last > len(frames):
                    told = f"{path.name}, which has {len(frames)}: frames count from 1"
                    raise InputError(f"{root / labels} names frames {first} to {last} of {told}")
                anomalous[first - 1 : last] = True
            drawn = _masks(root / masks, kept, path, frames) if masks != "none" else None
            if labels == "masks" and drawn:
                shown = [decode(mask, mask=True).getbbox() is not None for mask in drawn]
                anomalous = np.array(shown)
            anomalous.flags.writeable = False
        except InputError as error:
            errors.append(str(error))
            continue
        kind = "test" if anomalous.any() else "train"
        number = 1 + sum(one.kind == kind for one in found)
        about = {"scene": SCENE, "kind": kind, "number": number, "frames": frames, "masks": drawn}
        official = {"anomalous": anomalous, "official_mask": drawn is not None}
        found.append(Sequence(id=f"{SCENE}/{_name(path)}", **about, **official))
    return found, errors, warnings


def _name(path: Path) -> str:
    """Name of a video in ids and file names."""
    return re.sub(r"[^\w.-]+", "_", path.name if path.is_dir() else path.stem)


def _videos(root: Path) -> list[Path]:
    """Video files and folders of pictures."""
    if root.is_file():
        return [root]

    def is_video(path: Path) -> bool:
        if path.is_dir():
            return any(f.suffix.lower() in video_file.PICTURES for f in path.iterdir())
        return path.suffix.lower() in SUFFIXES

    return [p for p in sorted(root.iterdir()) if not p.name.startswith(".") and is_video(p)]


def _files(path: Path) -> list[Path]:
    """A file, or all that a folder holds but clutter."""
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return [file for file in found if not file.name.startswith(".")]


def _digest(files: Iterable[Path]) -> str:
    contents = (bytes.fromhex(pooch.file_hash(file)) for file in files)
    return hashlib.sha256(b"".join([f"reader {VERSION}\n".encode(), *contents])).hexdigest()


def _labels(path: Path, names: Iterable[str]) -> tuple[dict[str, list[tuple[int, int]]], list[str]]:
    """Anomalous frames by video, from 1, both ends included; and what is wrong with the table."""
    try:
        table = pd.read_csv(path, dtype=str, skipinitialspace=True).fillna("")
    except FileNotFoundError:
        return {}, [f"no {path}: write video,first,last of the anomalous frames, or labels: none"]
    except (ValueError, pd.errors.ParserError) as error:
        return {}, [f"{path} is no table ({str(error).splitlines()[0]}): video,first,last"]
    if list(table.columns) != ["video", "first", "last"]:
        given = ", ".join(table.columns)
        return {}, [f"{path} has the columns {given}: expected video, first, last"]
    ranges: dict[str, list[tuple[int, int]]] = {}
    errors = []
    for number, (video, first, last) in enumerate(table.itertuples(index=False), start=2):
        name = next((n for n in (_name(Path(video)), _name(Path(f"{video}.x"))) if n in names), "")
        if not name:
            errors.append(f"{path}, line {number}: no video {video!r} in {path.parent}")
        elif first == last == "":
            ranges.setdefault(name, [])
        elif not (first.isdecimal() and last.isdecimal() and 1 <= int(first) <= int(last)):
            told = f"frames {first!r} to {last!r}; expected whole numbers from 1, in order"
            errors.append(f"{path}, line {number}: {told}")
        else:
            ranges.setdefault(name, []).append((int(first), int(last)))
    return ranges, errors


def _kept(kept: Path, path: Path, what: str) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Frames of a video, or masks, as pictures in a folder of `kept`, and what was odd."""
    folder = kept / f"{_name(path)}-{what}-{_digest(_files(path))[:16]}"
    about = folder / "video.json"
    if not about.is_file():
        try:
            with atomic_folder(folder) as part:
                odd, n = [], 0
                if what == "frames":
                    video = video_file.look(path)
                    odd, pictures = list(video.odd), video_file.frames(video)
                else:
                    pictures = _drawn(path)
                for n, picture in enumerate(pictures, start=1):
                    grey = Image.fromarray(picture).convert("L")
                    grey.save(part / f"{n:06d}.png", compress_level=1)
                text = json.dumps({"n": n, "odd": odd})
                (part / about.name).write_text(text, encoding="utf-8")
        except OSError:
            if not about.is_file():  # else another process was faster
                raise
    told = json.loads(about.read_text(encoding="utf-8"))
    frames = tuple(folder / f"{i:06d}.png" for i in range(1, told["n"] + 1))
    return frames, tuple(told["odd"])


def _masks(
    folder: Path, kept: Path, path: Path, frames: tuple[Path, ...]
) -> tuple[Path, ...] | None:
    """Masks of a video, one a frame; None if it has none."""
    if not folder.is_dir():
        raise InputError(f"no folder of masks {folder}; give masks: none, or the folder's name")
    short = re.sub(r"^0+(?=\d)", "", _name(path))
    wanted = {f"{name}{end}" for name in (_name(path), short) for end in ("", "_label")}
    there = [p for p in sorted(folder.iterdir()) if _name(p) in wanted and p != path]
    there = [p for p in there if p.is_dir() or p.suffix.lower() == ".mat"]
    if len(there) > 1:
        raise InputError(f"{folder} holds {' and '.join(p.name for p in there)}: keep one of them")
    if not there:
        return None
    found, _ = _kept(kept, there[0], "masks")
    with Image.open(frames[0]) as frame, Image.open(found[0]) as mask:
        sizes = [f"{height}x{width}" for width, height in (mask.size, frame.size)]
    if len(found) != len(frames) or sizes[0] != sizes[1]:
        told = f"but {path.name} has {len(frames)} frames of {sizes[1]}"
        raise InputError(f"{there[0]} holds {len(found)} masks of {sizes[0]} pixels, {told}")
    return found


def _drawn(path: Path) -> list[np.ndarray]:
    """Masks of a file or folder: uint8 (H, W) each, 0 or 255, all of one size."""
    if path.is_dir():
        video = video_file.look(path)
        found = [picture.any(axis=2) for picture in video_file.frames(video)]
    else:
        from scipy.io import loadmat

        try:
            content = loadmat(path)
        except Exception as error:  # a damaged file can raise nearly anything
            told = type(error).__name__
            raise InputError(f"{path} cannot be read ({told}): save it as MATLAB 7, -v7") from error
        if "volLabel" not in content:
            given = ", ".join(name for name in content if not name.startswith("__"))
            told = f"{given or 'nothing'}: expected volLabel, a mask a frame"
            raise InputError(f"{path} holds {told}")
        value = content["volLabel"]
        cells = value.ravel() if value.dtype == object else np.moveaxis(np.atleast_3d(value), 2, 0)
        found = [np.asarray(cell) != 0 for cell in cells]
        shapes = {mask.shape for mask in found}
        if len(shapes) != 1 or len(next(iter(shapes))) != 2:
            raise InputError(f"{path} holds masks of shapes {sorted(shapes)}: give one (H, W) each")
    return [np.where(mask, 255, 0).astype(np.uint8) for mask in found]
