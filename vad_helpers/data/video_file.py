"""Videos of whatever origin: a file or a folder of frame pictures to frames, and frames to a file.

Conventions
-----------
- A frame is uint8 (H, W, 3), upright, red-green-blue from 0 to 255; frames come in the order in
  which they are shown. Deeper colours are shown with 8 bits; transparent pixels are laid on black.
- Times are seconds from the start of the file, as its time stamps say. A folder of pictures, in
  natural order (2 before 10), has `fps` frames a second.
- Files are read by PyAV (the extra `video`), through a file object: no letter of a name means
  anything, and a playlist in disguise opens no other file. Nothing else here knows containers.
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
"""Ticks a second of what is written: all usual frame rates are whole numbers of them."""
_TEXT_ART = ("ansi", "bintext", "xbin", "idf")  # FFmpeg draws text files as pictures
_ENCODERS = {
    "libx264": (".mp4", {"preset": "veryfast", "crf": "18", "bf": "0"}),  # in the order of showing
    "libvpx-vp9": (".webm", {"deadline": "realtime", "cpu-used": "6", "crf": "24", "b": "0"}),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Video:
    """What a first pass over a video found.

    Attributes
    ----------
    path : Path
        The file, or the folder of pictures.
    size : (int, int)
        Height and width of the upright frames, in pixels.
    times : numpy.ndarray
        float64 (N,), when each frame is shown, in seconds; increasing.
    duration : float
        When the last frame ends, in seconds.
    aspect : Fraction
        Width of a pixel divided by its height.
    odd : tuple of str
        What is odd about it: lost frames, lying headers, missing time stamps, turned frames.
    """

    path: Path
    size: Size
    times: np.ndarray
    duration: float
    aspect: Fraction = Fraction(1)
    odd: tuple[str, ...] = ()


def pyav() -> ModuleType:
    """Import PyAV, quiet; InputError where it is not installed."""
    try:
        import av
    except ImportError:
        raise InputError(
            "video files need PyAV: pip install 'vad-helpers[video]' (folders of pictures are read "
            "without it)"
        ) from None
    return av


def look(path: str | Path, *, fps: float = 25.0) -> Video:
    """Decode a video once, to know its frames before anything long begins.

    Parameters
    ----------
    path : str or Path
        A video file, or a folder of TIFF, PNG, JPEG or BMP pictures.
    fps : float
        Frames a second of a folder of pictures; a file has its own times.

    Raises
    ------
    InputError
        There is no such file, it is empty or no video, none of its frames can be decoded, they are
        of several sizes, or pictures have the same number.
    """
    path = Path(path)
    if not (math.isfinite(fps) and fps > 0):
        raise InputError(f"fps is {fps}: give frames a second, more than 0")
    if path.is_dir():
        odd = Counter[str]()
        sizes = Counter(picture.size[::-1] for picture in _pictures(path, odd))
        _same_size(path, sizes)
        n = sizes.total()
        facts = {"size": next(iter(sizes)), "times": np.arange(n) / fps, "duration": n / fps}
        return Video(path=path, odd=tuple(odd), **facts)
    if not path.exists():
        raise InputError(f"no video {path}: give a video file or a folder of frame pictures")
    if not path.stat().st_size:
        raise InputError(f"{path} is empty: get it again")
    odd, sizes, times, last = Counter[str](), Counter[Size](), [], 0.0
    with _opened(path) as (container, stream):
        for frame in _decoded(container, stream, odd):
            matrix = _orientation(frame, odd)
            size = (frame.height, frame.width)
            sizes[size if matrix is None or matrix[0, 0] else size[::-1]] += 1
            times.append(frame.time)
            last = float(frame.duration * frame.time_base) if frame.duration else 0.0
            if frame.is_corrupt:
                odd["frames damaged in part, shown as decoded"] += 1
            if any(c.is_alpha for c in frame.format.components):
                odd["frames of a format with transparency, laid on black"] += 1
        if not times:
            raise InputError(f"{path}: none of its frames can be decoded; get it again")
        _same_size(path, sizes)
        found, told = len(times), [f"{n} {what}" for what, n in odd.items()]
        if stream.frames and stream.frames != found:
            told.append(f"the header says {stream.frames} frames, {found} were decoded")
        rate = float(stream.average_rate or stream.guessed_rate or fps)
        if None in times or (np.diff(times) <= 0).any():
            told.append(f"time stamps are missing or do not increase: {rate:g} frames a second")
            times, last = np.arange(found) / rate, 1 / rate
        # The clock of MP4 and WebM starts at 0, any other where its first stream does: the sound?
        begin = (container.start_time or 0) / 1e6 if len(container.streams) > 1 else times[0]
        begin = 0.0 if container.format.name.startswith(("mov", "matroska")) else max(begin, 0.0)
        times = np.asarray(times, dtype=float) - min(begin, times[0])
        steps = np.diff(times)
        if found > 2 and np.ptp(steps) > 0.2 * np.median(steps):
            told.append(f"the frame rate varies: {steps.min():.3g} to {steps.max():.3g} s a frame")
        last = last or (float(np.median(steps)) if found > 1 else 1 / rate)
        aspect = stream.sample_aspect_ratio or Fraction(1)
        size = next(iter(sizes))
        turned = size != (frame.height, frame.width)
        facts = {"aspect": 1 / aspect if turned else aspect, "odd": tuple(told)}
        return Video(path=path, size=size, times=times, duration=times[-1] + last, **facts)


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

    Parameters
    ----------
    stem : str or Path
        The file, without the suffix that is added.
    pictures : iterable of numpy.ndarray
        uint8 (H, W, 3) of one size, at most as many as times. An odd row or column is repeated.
    times : numpy.ndarray
        float (N,), seconds, increasing.
    duration : float
        When the last picture ends, in seconds.
    aspect : Fraction
        Width of a pixel divided by its height.

    Returns
    -------
    path : Path
        A Ctrl-C ends the file before its time, playable; an error leaves none.
    n : int
        Pictures written.
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
                even = ((0, height % 2), (0, width % 2), (0, 0))
                frame = av.VideoFrame.from_ndarray(np.pad(picture, even, "edge"), format="rgb24")
                if stream is None:
                    stream = _add_stream(container, name, options, frame, aspect)
                frame = frame.reformat(format="yuv420p", dst_colorspace="ITU709")
                frame.pts, frame.time_base = round(start * TICKS), Fraction(1, TICKS)
                frame.duration = max(1, round(end * TICKS) - frame.pts)
                container.mux(stream.encode(frame))
                n += 1
        container.mux(stream.encode(None) if stream else [])
    return path, n


def _add_stream(container: Any, name: str, options: dict, frame: Any, aspect: Fraction) -> Any:
    stream = container.add_stream(name, rate=25, options=options)
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = frame.width, frame.height, "yuv420p"
    context.time_base = stream.time_base = Fraction(1, TICKS)
    context.sample_aspect_ratio = aspect
    # BT.709 in video range: what browsers assume of some sizes, said for all.
    context.colorspace = context.color_primaries = context.color_trc = context.color_range = 1
    return stream


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file for reading: container and the stream of its video."""
    av = pyav()
    with path.open("rb") as file:
        try:
            options = {"protocol_whitelist": "none"}  # other files, and the network
            container = av.open(file, options=options, metadata_errors="replace")
        except (av.error.FFmpegError, EOFError) as error:
            told = getattr(error, "strerror", None) or str(error)
            raise InputError(
                f"{path} cannot be read as a video ({told}): give another file, or this one again"
            ) from None
        with container:
            picture = av.stream.Disposition.attached_pic  # the cover of a song
            found = [s for s in container.streams.video if not s.disposition & picture]
            stream = next(iter(found), None)
            if stream is None:
                raise InputError(f"{path} holds no video stream: give a file with moving pictures")
            if stream.codec_context is None or stream.codec_context.name in _TEXT_ART:
                raise InputError(f"{path} holds no video that can be decoded: convert it to MP4")
            if stream.metadata.get("alpha_mode") == "1":
                raise InputError(
                    f"{path} keeps its transparency in a layer that is not read: save it without"
                )
            yield container, stream


def _decoded(container: Any, stream: Any, odd: Counter) -> Iterator[Any]:
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


def _orientation(frame: Any, odd: Counter) -> np.ndarray | None:
    """Say how a frame is turned: A, int (2, 2), takes its (x, y) to the upright frame's.

    None if it is upright, or turned by less than a quarter.
    """
    side = frame.side_data.get("DISPLAYMATRIX")
    if side is None:
        return None
    matrix = np.frombuffer(bytes(side), dtype=np.int32).reshape(3, 3)[:2, :2].T / 2**16
    turned = np.rint(matrix).astype(int)
    if not (np.abs(turned).sum(axis=0) == 1).all() or np.abs(turned - matrix).max() > 0.01:
        odd["frames at a slant, shown as stored"] += 1
        return None
    if (turned == np.eye(2)).all():
        return None
    odd["frames turned upright, as the file asks"] += 1
    return turned


def _pictures(folder: Path, odd: Counter) -> Iterator[Image.Image]:
    """Read a folder's pictures in natural order, upright, mode "RGB", damaged ones replaced."""
    names: dict[tuple, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in PICTURES or path.name.startswith("."):
            continue
        parts = re.split(r"(\d+)", path.stem.casefold())
        key = tuple(int(part) if part.isdecimal() else part for part in parts)
        if key in names:
            raise InputError(f"{folder} holds {names[key].name} and {path.name}: keep one of them")
        names[key] = path
    paths = [names[key] for key in sorted(names)]
    if not paths:
        raise InputError(f"{folder} holds no pictures ({', '.join(PICTURES)}): give their folder")
    numbers = [key[-2] for key in sorted(names) if len(key) > 1]
    if len(numbers) == len(paths) and numbers[-1] - numbers[0] >= len(paths):
        odd["numbers are missing between the first and the last picture"] += 1
    unlabelled = {"masks": None, "anomalous": np.zeros(len(paths), bool), "official_mask": False}
    name = {"id": str(folder), "scene": "", "kind": "test", "number": 1}
    sequence = Sequence(frames=tuple(paths), **name, **unlabelled)
    decoded = functools.lru_cache(maxsize=8)(lambda i: decode(paths[i]))
    for i, path in enumerate(paths):
        j = stand_in(sequence, i, decoded)
        if j != i:
            odd[f"{path.name} is damaged: {paths[j].name} is shown"] += 1
        with Image.open(paths[j]) as image:
            deep = image.mode == "F" or image.mode.startswith("I")
            yield ImageOps.exif_transpose(decoded(j) if deep else image).convert("RGB")


def _same_size(path: Path, sizes: Counter[Size]) -> None:
    if len(sizes) > 1:
        told = ", ".join(f"{n} of {width}x{height}" for (height, width), n in sizes.items())
        raise InputError(f"{path} has frames of several sizes ({told} pixels): give one size")
