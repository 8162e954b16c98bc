"""Videos of whatever origin: a file or a folder of frame pictures to frames, and frames to a file.

A frame is uint8 (H, W, 3), upright, red-green-blue from 0 to 255. Frames come in the order in which
they are shown, deeper colours with 8 bits, transparent pixels laid on black. Times are seconds, as
the file's time stamps say; a folder, in natural order (2 before 10), has `fps` frames a second.

Files are read by PyAV (the extra `video`), through a file object: no letter of a name has a
meaning, and a playlist in disguise opens no other file. Nothing else here knows containers.
"""

from __future__ import annotations

import contextlib
import functools
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from vad_helpers.data.frames import Sequence, Size, decode, stand_in
from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write

PICTURES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
TICKS = 90_000
"""Ticks a second of what is written: usual frame rates have a whole number of them a frame."""
_TEXT_ART = ("ansi", "bintext", "xbin", "idf")  # FFmpeg draws text files as pictures
_ENCODERS = {
    "libx264": (".mp4", {"preset": "veryfast", "crf": "18", "bf": "0"}),
    "libvpx-vp9": (".webm", {"deadline": "realtime", "cpu-used": "6", "crf": "24", "b": "0"}),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Video:
    """What a first pass over a video found."""

    path: Path  # the file, or the folder of pictures
    size: Size  # height and width of the upright frames, in pixels
    times: np.ndarray  # float64 (N,), when each frame is shown, in seconds; increasing
    duration: float  # when the last frame ends, in seconds
    aspect: Fraction = Fraction(1)  # width of a pixel divided by its height
    odd: tuple[str, ...] = ()  # lost frames, a lying header, missing time stamps, turned frames


def pyav() -> ModuleType:
    """Import PyAV; InputError where it is not installed."""
    try:
        import av
    except ImportError:
        told = "pip install 'vad-helpers[video]' (only folders of pictures are read without it)"
        raise InputError(f"video files need PyAV: {told}") from None
    return av


def look(path: str | Path, *, fps: float = 25.0) -> Video:
    """Decode a video once, to know its frames before anything long begins.

    `path` is a video file, or a folder of TIFF, PNG, JPEG or BMP pictures, which has `fps` frames a
    second. InputError if it is not there, empty or no video, none of its frames can be decoded, or
    they are of several sizes.
    """
    path, odd, sizes = Path(path), Counter[str](), Counter[Size]()
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"fps is {fps}: give frames a second, more than 0")
    if path.is_dir():
        sizes.update(picture.size[::-1] for picture in _pictures(path, odd))
        n = sizes.total()
        facts = {"times": np.arange(n) / fps, "duration": n / fps}
    else:
        facts = _look_at_file(path, odd, sizes)
    if len(sizes) > 1:
        told = ", ".join(f"{n} of {width}x{height}" for (height, width), n in sizes.items())
        raise InputError(f"{path} has frames of several sizes ({told} pixels): give one size")
    told = tuple(f"{n} {what}" if n else what for what, n in odd.items())
    return Video(path=path, size=next(iter(sizes)), odd=told, **facts)


def _look_at_file(path: Path, odd: Counter[str], sizes: Counter[Size]) -> dict[str, Any]:
    """Give times, duration and aspect; count sizes, and in `odd` what is odd (0: said once)."""
    times, last, frame = [], 0.0, None
    with _opened(path) as (container, stream):
        for frame in _decoded(container, stream, odd):
            matrix = _orientation(frame, odd)
            turned = matrix is not None and matrix[0, 0] == 0
            sizes[(frame.width, frame.height) if turned else (frame.height, frame.width)] += 1
            times.append(frame.time)
            last = float(frame.duration * frame.time_base) if frame.duration else 0.0
            if frame.is_corrupt:
                odd["frames damaged in part, shown as decoded"] += 1
            if any(c.is_alpha for c in frame.format.components):
                odd["frames of a format with transparency, laid on black"] += 1
        if frame is None:
            raise InputError(f"{path}: none of its frames can be decoded; get it again")
        if stream.frames and stream.frames != len(times):
            odd[f"the header says {stream.frames} frames, {len(times)} were decoded"] = 0
        rate = float(stream.average_rate or stream.guessed_rate or 25)
        if None in times or (np.diff(times) <= 0).any():
            odd[f"time stamps are missing or do not increase: {rate:g} frames a second"] = 0
            times, last = np.arange(len(times)) / rate, 1 / rate
        # The clock of MP4 and WebM starts at 0, any other where its first stream does: the sound?
        begin = (container.start_time or 0) / 1e6 if len(container.streams) > 1 else times[0]
        begin = 0.0 if container.format.name.startswith(("mov", "matroska")) else max(begin, 0.0)
        times = np.asarray(times, dtype=float) - min(begin, times[0])
        steps = np.diff(times)
        if len(steps) > 1 and np.ptp(steps) > 0.2 * np.median(steps):
            odd[f"the frame rate varies: {steps.min():.3g} to {steps.max():.3g} s a frame"] = 0
        last = last or (float(np.median(steps)) if len(steps) else 1 / rate)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        aspect = 1 / aspect if turned else aspect
        return {"times": times, "duration": float(times[-1]) + last, "aspect": aspect}


def frames(video: Video) -> Iterator[np.ndarray]:
    """Decode the frames of a video that was looked at, one after the other: uint8 (H, W, 3)."""
    if video.path.is_dir():
        yield from (np.asarray(picture) for picture in _pictures(video.path, Counter()))
        return
    with _opened(video.path) as (container, stream):
        for frame in _decoded(container, stream, Counter()):
            full = {"src_color_range": frame.color_range} if frame.color_range == 2 else {}
            if any(c.is_alpha for c in frame.format.components):
                wide = frame.reformat(format="rgba", **full).to_ndarray().astype(np.uint16)
                pixels = ((wide[..., :3] * wide[..., 3:] + 127) // 255).astype(np.uint8)
            else:
                pixels = frame.reformat(format="rgb24", **full).to_ndarray()
            if (matrix := _orientation(frame, Counter())) is not None:
                pixels = pixels if matrix[0, 0] else pixels.swapaxes(0, 1)
                to_x, to_y = matrix.sum(axis=1)  # -1 where x or y of the upright frame runs back
                pixels = np.ascontiguousarray(pixels[:: int(to_y), :: int(to_x)])
            yield pixels


def write(
    stem: str | Path,
    pictures: Iterable[np.ndarray],
    times: np.ndarray,
    *,
    duration: float,
    aspect: Fraction = Fraction(1),
) -> tuple[Path, int]:
    """Write a video that browsers play: H.264 in MP4, or VP9 in WebM without an encoder for it.

    `pictures` are frames of one size (an odd row or column is repeated), `times`, `duration` and
    `aspect` as of `Video`. Gives the file, which is `stem` and a suffix, and how many pictures are
    in it: a Ctrl-C meanwhile ends it early, and it can be played; an error leaves no file.
    """
    av = pyav()
    if (name := next((n for n in _ENCODERS if n in av.codecs_available), "")) == "":
        raise InputError(f"PyAV has no encoder {' or '.join(_ENCODERS)}: install its wheel")
    suffix, options = _ENCODERS[name]
    ends, n, stream = [*times[1:], duration], 0, None
    path, flags = Path(f"{stem}{suffix}"), {"movflags": "+faststart"} if suffix == ".mp4" else {}
    with (
        atomic_write(path) as temporary,
        av.open(str(temporary.resolve()), "w", format=suffix[1:], options=flags) as container,
    ):
        with contextlib.suppress(KeyboardInterrupt):
            for picture, start, end in zip(pictures, times, ends, strict=False):
                height, width = picture.shape[:2]
                even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), "edge")
                if stream is None:
                    stream = container.add_stream(name, rate=25, options=options)
                    context = stream.codec_context
                    context.height, context.width, context.pix_fmt = *even.shape[:2], "yuv420p"
                    context.time_base = stream.time_base = Fraction(1, TICKS)
                    context.sample_aspect_ratio = aspect  # MP4 alone keeps it
                    context.flags |= 1 << 8  # frames have durations of their own: the last one
                    # BT.709 in video range: browsers guess by the size where nothing is said.
                    context.colorspace = context.color_primaries = context.color_trc = 1
                    context.color_range = 1
                frame = av.VideoFrame.from_ndarray(even, format="rgb24")
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
                frame.pts, frame.time_base = round(start * TICKS), Fraction(1, TICKS)
                frame.duration = max(1, round(end * TICKS) - frame.pts)
                container.mux(stream.encode(frame))
                n += 1
        container.mux(stream.encode(None) if stream else [])
    return path, n


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file for reading: container and the stream of its video."""
    av = pyav()
    if not path.exists():
        raise InputError(f"no video {path}: give a video file or a folder of frame pictures")
    with path.open("rb") as file:
        try:
            options = {"protocol_whitelist": "none"}  # neither other files nor the network
            container = av.open(file, options=options, metadata_errors="replace")
        except (av.error.FFmpegError, OSError) as error:
            told = "it is empty" if not path.stat().st_size else error.strerror
            raise InputError(f"{path} cannot be read as a video ({told}): get it again") from None
        with container:
            cover = av.stream.Disposition.attached_pic  # of a song
            stream = next((s for s in container.streams.video if not s.disposition & cover), None)
            if stream is None:
                raise InputError(f"{path} holds no video stream: give a file with moving pictures")
            if stream.codec_context is None or stream.codec_context.name in _TEXT_ART:
                raise InputError(f"{path} holds no video that can be decoded: convert it to MP4")
            if stream.metadata.get("alpha_mode") == "1":
                told = "keeps its transparency in a layer that is not read: save it without"
                raise InputError(f"{path} {told}")
            yield container, stream


def _decoded(container: Any, stream: Any, odd: Counter[str]) -> Iterator[Any]:
    """Decode what can be, in the order of showing; count in `odd` what cannot."""
    error, packets, flushed = pyav().error.FFmpegError, container.demux(stream), False
    while not flushed:
        try:
            packet = next(packets, None)
        except error:
            odd["break in the file, after which nothing is read"] += 1
            packet = None
        flushed = packet is None or not packet.size  # the demuxer ends with an empty one
        try:
            yield from stream.decode(packet)
        except EOFError:
            return
        except error:
            odd["packets that cannot be decoded"] += 1


def _orientation(frame: Any, odd: Counter[str]) -> np.ndarray | None:
    """Say how a frame is turned or mirrored: A, int (2, 2), takes its (x, y) to the upright one's;
    None if it is upright, or turned by less than a quarter."""
    side = frame.side_data.get("DISPLAYMATRIX")
    if side is None:
        return None
    matrix = np.frombuffer(bytes(side), dtype=np.int32).reshape(3, 3)[:2, :2].T / 2**16
    turned = np.rint(matrix).astype(int)
    if np.abs(turned - matrix).max() > 0.01 or round(abs(np.linalg.det(turned))) != 1:
        odd["frames at a slant, shown as stored"] += 1
        return None
    if (turned == np.eye(2)).all():
        return None
    odd["frames turned upright, as the file asks"] += 1
    return turned


def _pictures(folder: Path, odd: Counter[str]) -> Iterator[Image.Image]:
    """Read a folder's pictures in natural order, upright, mode "RGB", damaged ones replaced."""
    paths: dict[tuple, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in PICTURES and not path.name.startswith("."):
            parts = re.split(r"(\d+)", path.stem.casefold())
            key = tuple(int(part) if part.isdecimal() else part for part in parts)
            if key in paths:
                raise InputError(f"{folder} holds {paths[key].name} and {path.name}: keep one")
            paths[key] = path
    files, numbers = [paths[key] for key in sorted(paths)], [k[-2] for k in sorted(paths) if k[1:]]
    if not files:
        raise InputError(f"{folder} holds no pictures ({', '.join(PICTURES)}): give their folder")
    if len(numbers) == len(files) <= numbers[-1] - numbers[0]:
        odd["numbers are missing between the first and the last picture"] = 0
    name = {"id": str(folder), "scene": "", "kind": "test", "number": 1, "frames": tuple(files)}
    unlabelled = {"masks": None, "anomalous": np.zeros(len(files), bool), "official_mask": False}
    sequence = Sequence(**name, **unlabelled)
    decoded = functools.lru_cache(maxsize=8)(lambda i: decode(files[i]))
    for i, path in enumerate(files):
        j = stand_in(sequence, i, decoded)
        if j != i:
            odd[f"{path.name} is damaged: {files[j].name} is shown"] = 0
        with Image.open(files[j]) as image:
            deep = image.mode == "F" or image.mode.startswith("I")
            yield ImageOps.exif_transpose(decoded(j) if deep else image).convert("RGB")
