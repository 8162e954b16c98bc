"""One video, explained: cut into clips, scored, explained, and drawn again under its maps.

The output folder is described in `book/your_video.md`. A file in its `maps/` is named by the key of
all that a clip's map depends on, the pixels included: an interrupted run goes on from there. In
memory are one clip and a map or two: the video is decoded to be looked at, explained and drawn.
"""

from __future__ import annotations

import collections
import contextlib
import csv
import functools
import hashlib
import importlib.util
import json
import platform
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm.auto import tqdm

from vad_helpers.attribution import METHODS, attribute, baselines, checks
from vad_helpers.data import clips, video_file
from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write, write_whole
from vad_helpers.inference.prepared import Model, Prepared, prepare
from vad_helpers.metrics import references
from vad_helpers.viz import heatmaps, overlay

COLUMNS = (
    "clip first_frame last_frame start_s end_s p p_baseline called region_frame region_x region_y "
    "region_width region_height all_zero"
).split()
MOST_TILES = 400
REFERENCE = "Frame difference"
_OVERLAYS = ("overlay.mp4", "overlay.webm")
_OUTPUTS = (*_OVERLAYS, "contact_sheet.png", "clips.csv", "settings.json", "explorer.html")


def explain_video(
    path: str | Path,
    model: Model,
    *,
    out: str | Path,
    origin: Mapping[str, Any],
    mean: float = 0.5,
    std: float = 0.5,
    method: str = "lime",
    settings: Mapping[str, Any] | None = None,
    n_frames: int = 20,
    stride: int | None = None,
    size: tuple[int, int] = clips.SIZE,
    seed: int = 0,
    fps: float = 25.0,
    precision: str = "fp32",
    target: int = 1,
    scale: str = "video",
    progress: bool = False,
) -> pd.DataFrame:
    """Explain a video clip by clip; maps that stand in `out` under the same key are used again.

    Parameters
    ----------
    path : str or Path
        A video file or a folder of frame pictures; of the latter, `fps` are shown a second.
    model : torch.nn.Module or callable
        (N, 3, T, H, W), three times grey, normalised by `mean` and `std`, to (N, classes) logits.
    out : str or Path
        Folder for the results, neither inside the source nor over it.
    origin : mapping
        What tells this model from any other, such as its file's digest: a part of the maps' key.
    method, settings, seed, precision, target
        As for `attribution.explain`.
    n_frames, stride, size
        Frames a clip; from one clip's start to the next one's (at most, by default, as many); and
        (height, width) that the network sees.
    scale : {"video", "clip"}
        Whether one colour scale holds for all clips, or each has its own.
    progress : bool
        Whether to show a bar.

    Returns
    -------
    pandas.DataFrame
        The lines of `clips.csv`. `attrs`: `odd` (what is odd about the video), `files` (written),
        `n_clips` (of the whole video), `interrupted` (by Ctrl-C: what is done was drawn).

    Raises
    ------
    InputError
        The video cannot be used or is shorter than a clip, or an argument is not as described.
    """
    spec = METHODS[checks.one_of("method", method, METHODS)]
    checks.one_of("scale", scale, ("video", "clip"))
    stride = n_frames if stride is None else stride
    if min(stride, *size) < 1 or stride > n_frames:
        raise InputError(f"{n_frames} frames, stride {stride}, size {size}: 1 <= stride <= frames")
    settings = spec.complete(settings or {}, (3, n_frames, *size))
    path, out = Path(path), Path(out)
    here, there = path.resolve(), out.resolve()
    if there.is_relative_to(here) or here in [there / name for name in _OUTPUTS]:
        raise InputError(f"{out} lies in or over the source {path}: give another folder with --out")
    video = video_file.look(path, fps=fps)
    n, odd = len(video.times), [*video.odd]
    if n < n_frames:
        raise InputError(f"{path} has {n} frames, a clip has {n_frames}: give a longer video")
    starts = [*range(0, n - n_frames, stride), n - n_frames]
    stops = [*video.times[1:].tolist(), video.duration]
    ready, seen = prepare(model, precision=precision), _clips(video, starts, n_frames, size)
    asked = {"origin": dict(origin), "method": method, "settings": settings, "seed": seed}
    asked |= {"mean": mean, "std": std, "baseline": "blur", "target": target, "size": list(size)}
    asked |= {"precision": precision, "versions": _versions() | {method: spec.version}}
    facts = {"name": path.name, "frames": n, "height_width": video.size, "odd": odd}
    facts |= {"first_frame_s": video.times[0], "seconds": video.duration}
    told = asked | {"n_frames": n_frames, "stride": stride, "n_clips": len(starts), "scale": scale}
    told |= {"device": str(ready.device), "video": facts}
    write_whole(out / "settings.json", json.dumps(told, indent=1) + "\n")
    rows: list[dict[str, Any]] = []
    with (
        (out / "clips.csv").open("w", newline="", encoding="utf-8") as stream,
        tqdm(total=len(starts), unit="clip", desc=spec.name, disable=not progress) as bar,
        contextlib.suppress(KeyboardInterrupt),
    ):
        table = csv.DictWriter(stream, COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        for start, grey in zip(starts, seen, strict=True):
            file = _explained(ready, asked, out / "maps", grey)
            found, last = _load(file), start + n_frames - 1
            row = {"clip": len(rows) + 1, "first_frame": start, "last_frame": last}
            row |= {"file": file, "method": spec.name}
            row |= {"start_s": float(video.times[start]), "end_s": stops[last]}
            row |= dict(zip(("p", "p_baseline"), found["p"].tolist(), strict=True))
            row |= {"called": "anomalous" if row["p"] >= 0.5 else "normal"}
            row |= {"all_zero": not found["map"].any()}
            row["limit"] = 0 if row["all_zero"] else heatmaps.symmetric_limit(found["map"])[0]
            for name, value in (overlay.strongest(found["map"], video.size) or {}).items():
                row[f"region_{name}"] = value + start * (name == "frame")
            table.writerow(row)
            stream.flush()
            rows.append(row)
            bar.update()
    found = pd.DataFrame(rows, columns=COLUMNS)
    options = {"name": spec.name, "n": len(starts), "scale": scale, "progress": progress}
    files, whole = _draw(video, rows, out, **options) if rows else ([], False)
    if files and files[0].name not in _OVERLAYS:
        odd.append("no overlay: it needs PyAV; pip install 'vad-helpers[video]'")
    found.attrs = {"odd": odd, "files": files, "n_clips": len(starts)}
    found.attrs["interrupted"] = not whole or len(rows) < len(starts)
    return found


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("vad-helpers", "torch", "captum", "numpy", "pillow", "av"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _explained(ready: Prepared, asked: Mapping[str, Any], folder: Path, grey: np.ndarray) -> Path:
    """Explain a clip, uint8 (T, h, w), unless its map is there already; give the map's file."""
    key = json.dumps(asked, sort_keys=True, default=list).encode() + grey.tobytes()
    file = folder / f"{hashlib.sha256(key).hexdigest()[:24]}.npz"
    with contextlib.suppress(OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        if {"map", "grey", "p"} <= _load(file).keys():  # else it is damaged, and made again
            return file
    options = {name: asked[name] for name in ("seed", "precision", "target", "baseline")}
    options["black"] = (0 - asked["mean"]) / asked["std"]
    clip = clips.normalise(grey, mean=asked["mean"], std=asked["std"])
    blurred = baselines.make(asked["baseline"], clip, black=options["black"])
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # of a map of zeros
        found = attribute(ready, clip, asked["method"], **options, **asked["settings"])
    with torch.no_grad():
        pair = torch.stack([clip, blurred]).to(*ready.placement(clip))
        p = torch.softmax(ready(pair).float(), dim=1)[:, asked["target"]].cpu().numpy()
    with atomic_write(file) as temporary:
        np.savez_compressed(temporary, map=found.map, grey=grey, p=p)
    return file


def _load(file: Path) -> dict[str, np.ndarray]:
    """Read what `_explained` wrote: `map`, `grey`, and `p` of clip and baseline."""
    with np.load(file) as arrays:
        return dict(arrays)


def _clips(
    video: video_file.Video, starts: list[int], n_frames: int, size: tuple[int, int]
) -> Iterator[np.ndarray]:
    """Give each clip as grey frames for the network, uint8 (T, h, w), resized as the package's."""
    window: collections.deque[np.ndarray] = collections.deque(maxlen=n_frames)
    lasts = {start + n_frames - 1 for start in starts}
    for i, pixels in enumerate(video_file.frames(video)):
        grey = Image.fromarray(pixels).convert("L")
        window.append(np.asarray(grey.resize(size[::-1], Image.Resampling.BILINEAR)))
        if i in lasts:
            yield np.stack(window)


def _shown(row: Mapping[str, Any]) -> heatmaps.ShownClip:
    found = _load(row["file"])
    return heatmaps.ShownClip(
        label="clip {clip}, {start_s:.2f} to {end_s:.2f} s, called {called}".format(**row),
        frames=found["grey"] / 255,
        mask=np.zeros(found["grey"].shape, dtype=bool),
        maps={row["method"]: found["map"], REFERENCE: references.frame_difference(found["grey"])},
        p_clip=row["p"],
        p_baseline=row["p_baseline"],
    )


def _draw(
    video: video_file.Video,
    rows: list[dict[str, Any]],
    out: Path,
    *,
    name: str,
    n: int,
    scale: str,
    progress: bool,
) -> tuple[list[Path], bool]:
    """Draw the clips that are done, of `n`; give the files, and whether all frames were drawn."""
    largest = max(row["limit"] for row in rows)
    limits = [(largest if scale == "video" else row["limit"]) or 1.0 for row in rows]
    over = "one scale for all clips" if scale == "video" else "each clip has its own scale"
    ends = np.array([row["last_frame"] for row in rows]) + 1
    chosen = heatmaps.spread(len(rows), min(len(rows), MOST_TILES))
    tiles: dict[int, np.ndarray] = {}
    load = functools.lru_cache(maxsize=2)(lambda k: _load(rows[k]["file"])["map"])

    @functools.lru_cache(maxsize=2)
    def below(k: int) -> np.ndarray:
        row, zero = rows[k], "; its map is zero" * rows[k]["all_zero"]
        lines = [f"p(anomalous) = {row['p']:.3f}: called {row['called']}{zero}"]
        lines += [f"clip {k + 1} of {n}, {row['start_s']:.2f} to {row['end_s']:.2f} s, {name}"]
        says = {"called": row["called"], "limit": limits[k], "over": over}
        return overlay.legend(video.size[1], lines, **says)

    def drawn(picture: np.ndarray, i: int, k: int) -> np.ndarray:
        attribution = load(k)[i - rows[k]["first_frame"]]
        return overlay.annotated(overlay.blend(picture, attribution, limit=limits[k]), below(k))

    def pictures() -> Iterator[np.ndarray]:
        options = {"total": int(ends[-1]), "unit": "frame", "disable": not progress}
        for i, picture in enumerate(tqdm(video_file.frames(video), desc="Overlay", **options)):
            for k in chosen:
                middle = (rows[k]["first_frame"] + rows[k]["last_frame"]) // 2
                if i == rows[k].get("region_frame", middle):
                    tiles[k] = overlay.shrunk(drawn(picture, i, k))
            if i == ends[-1]:
                return
            yield drawn(picture, i, int(np.searchsorted(ends, i, side="right")))

    files, every = [], pictures()
    if video.path.is_dir() and importlib.util.find_spec("av") is None:
        n_drawn = sum(1 for _ in every)
    else:
        options = {"duration": video.duration, "aspect": video.aspect}
        file, n_drawn = video_file.write(out / "overlay", every, video.times, **options)
        for other in {out / name for name in _OVERLAYS} - {file}:
            other.unlink(missing_ok=True)
        files.append(file)
    if tiles:  # else Ctrl-C came at once
        files.append(out / "contact_sheet.png")
        with atomic_write(files[-1]) as temporary:
            overlay.contact_sheet([tiles[k] for k in sorted(tiles)]).save(temporary)
    try:
        from vad_helpers.viz import explorer  # of the extra `book`: the rest stands without it
    except InputError:
        return files, n_drawn == ends[-1]
    likeliest = sorted(rows, key=lambda row: -row["p"])  # all that three megabytes hold
    page = explorer.fragment(map(_shown, likeliest), n_thresholds=50, second=REFERENCE)
    head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Clips and maps</title>'
    write_whole(out / "explorer.html", f"{head}{page}\n")
    return [*files, out / "explorer.html"], n_drawn == ends[-1]
