"""Reading videos of all sorts: each frame once, upright, at its own time, or one line why not.

Frame i has the grey level 20 + 10 i, and a red block in its top left quarter.
"""

import itertools
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from vad_helpers.data import video_file
from vad_helpers.errors import InputError

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'vad-helpers[video]'")

N, SIZE = 12, (48, 64)
EVEN = [i / 25 for i in range(N)]


def picture(i, size=SIZE):
    pixels = np.full((*size, 3), 20 + 10 * i, np.uint8)
    pixels[: size[0] // 2, : size[1] // 2] = 255, 0, 0
    return pixels


def add_sound(file, stream):
    silence = av.AudioFrame.from_ndarray(np.zeros((1, 4000), np.float32), "fltp", "mono")
    silence.sample_rate = 8000
    file.mux([*stream.encode(silence), *stream.encode(None)])


def encode(path, codec="libx264", pix_fmt="yuv420p", *, size=SIZE, times=EVEN, **more):
    """Write N frames; `sound` puts a stream of it first, `options` are the codec's."""
    with av.open(str(path), "w", format=more.get("format"), options=more.get("flags", {})) as file:
        sound = file.add_stream("aac", rate=8000, layout="mono") if more.get("sound") else None
        stream = file.add_stream(codec, rate=25, options=more.get("options", {}))
        stream.height, stream.width, stream.pix_fmt = *size, pix_fmt
        tick = stream.codec_context.time_base = more.get("tick", Fraction(1, 25))
        if sound:
            add_sound(file, sound)
        for i, time in enumerate(times):
            pixels = picture(i, size)
            if pix_fmt in ("argb", "rgba"):
                pixels = np.dstack([pixels, np.full(size, 128, np.uint8)])
            frame = av.VideoFrame.from_ndarray(pixels, "rgba" if pixels.shape[2] == 4 else "rgb24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts, frame.time_base = round(time / tick), tick
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


def read(path, *, tolerance=4, levels=None, n=N, size=SIZE):
    """Read a video; check that each frame is there once, upright and in order; give the facts."""
    video = video_file.look(path)
    frames = list(video_file.frames(video))
    assert video.size == size and len(frames) == len(video.times) == n
    assert all(frame.shape == (*size, 3) and frame.dtype == np.uint8 for frame in frames)
    found = np.array([np.median(frame[size[0] // 2 :, size[1] // 2 :]) for frame in frames])
    np.testing.assert_allclose(found, levels or [20 + 10 * i for i in range(n)], atol=tolerance)
    if levels is None:
        corner = np.median(frames[-1][2 : size[0] // 2 - 4, 2 : size[1] // 2 - 4], axis=(0, 1))
        grey = len({*corner}) == 1
        assert grey or (corner[0] > 225 and corner[1:].max() < 30), corner
    return video


def said(video):
    return "; ".join(video.odd)


@pytest.mark.parametrize(
    "name, codec, pix_fmt, options",
    [
        ("b-frames.mp4", "libx264", "yuv420p", {"bf": "3", "b-adapt": "0"}),
        ("b-frames.avi", "mpeg4", "yuv420p", {"bf": "2"}),
        ("odd.mkv", "libvpx-vp9", "yuv420p", {}),
        ("ten bits.mkv", "ffv1", "yuv420p10le", {}),
        ("grey.avi", "ffv1", "gray", {}),
        ("stream.ts", "libx264", "yuv420p", {"bf": "2"}),
        ("x:y %03d 行人.mp4", "libx264", "yuv420p", {}),
        ("%d.gif", "gif", "rgb8", {}),
    ],
)
def test_frames_of_all_sorts_come_once_in_order_at_their_times(
    tmp_path, name, codec, pix_fmt, options
):
    size = (49, 65) if name == "odd.mkv" else SIZE
    path = encode(tmp_path / name, codec, pix_fmt, size=size, options=options)
    video = read(path, size=size, tolerance={"rgb8": 20}.get(pix_fmt, 6))
    np.testing.assert_allclose(video.times, EVEN, atol=0.002)
    assert video.duration == pytest.approx(N / 25, abs=0.002)


@pytest.mark.parametrize("across, down, turn", [*itertools.product((1, -1), (1, -1), (0, 1))])
def test_turned_and_mirrored_frames_are_put_upright(tmp_path, across, down, turn):
    upright = picture(3)
    stored = upright[::down, ::across]
    stored = stored.swapaxes(0, 1) if turn else stored
    # (a, b, c, d): x' = a x + c y, y' = b x + d y, as the file format has it.
    a, b, c, d = (0, down, across, 0) if turn else (across, 0, 0, down)
    matrix = [a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30]
    path = tmp_path / "turned.mp4"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = *stored.shape[:2], "yuv420p"
        stream.set_display_matrix(matrix)
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(stored), "rgb24")))
        file.mux(stream.encode(None))
    video = video_file.look(path)
    (found,) = video_file.frames(video)
    assert video.size == found.shape[:2] == SIZE
    assert np.abs(found.astype(int) - upright).mean() < 4
    assert ("turned upright" in said(video)) == ((across, down, turn) != (1, 1, 0))


def test_a_variable_frame_rate_and_late_frames_keep_their_times(tmp_path):
    times = [0.1, 0.11, 0.2, *(0.5 + 0.03 * i for i in range(N - 3))]
    path = encode(tmp_path / "v.mkv", times=times, tick=Fraction(1, 1000))
    video = read(path)
    np.testing.assert_allclose(video.times, times, atol=0.0006)
    assert "frame rate varies" in said(video)


def test_an_edit_list_takes_frames_away(tmp_path):
    flags = {"use_editlist": "1", "avoid_negative_ts": "disabled"}
    source = encode(tmp_path / "whole.mp4", options={"bf": "0"})
    with (
        av.open(str(source)) as whole,
        av.open(str(tmp_path / "cut.mp4"), "w", options=flags) as cut,
    ):
        stream = cut.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size:
                shift = round(Fraction(5, 25) / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
                packet.stream = stream
                cut.mux(packet)
    video = read(tmp_path / "cut.mp4", n=N - 5, levels=[20 + 10 * i for i in range(5, N)])
    np.testing.assert_allclose(video.times, EVEN[: N - 5], atol=1e-6)
    assert "header says 12 frames, 7 were decoded" in said(video)


def test_streams_without_time_stamps_and_behind_sound(tmp_path):
    video = read(encode(tmp_path / "raw.h264", format="h264"))
    np.testing.assert_allclose(video.times, EVEN)
    assert "time stamps are missing" in said(video)
    later = [0.2 + time for time in EVEN]
    video = read(encode(tmp_path / "sound.mp4", sound=True, times=later))
    np.testing.assert_allclose(video.times, later, atol=1e-4)


def test_transparent_pixels_are_laid_on_black_or_refused(tmp_path):
    path = encode(tmp_path / "alpha.mov", "qtrle", "argb")
    video = read(path, levels=[(20 + 10 * i) * 128 / 255 for i in range(N)], tolerance=1)
    assert "transparency, laid on black" in said(video)
    encode(tmp_path / "alpha.webm", "libvpx-vp9", "yuva420p")
    with pytest.raises(InputError, match="transparency in a layer"):
        video_file.look(tmp_path / "alpha.webm")


MP4 = {"options": {"bf": "0", "g": "1"}, "flags": {"movflags": "+faststart"}}


@pytest.mark.parametrize(
    "name, codec, pix_fmt, more",
    [("cut.avi", "mjpeg", "yuvj420p", {}), ("cut.mp4", "libx264", "yuv420p", MP4)],
)
def test_of_a_broken_tail_all_that_decodes_is_used(tmp_path, name, codec, pix_fmt, more):
    path = encode(tmp_path / name, codec, pix_fmt, **more)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 8 // 10])
    n = len(video_file.look(path).times)
    assert 2 < n < N
    video = read(path, n=n, levels=[20 + 10 * i for i in range(n)], tolerance=6)
    assert f"the header says 12 frames, {n} were decoded" in said(video)


def test_what_is_no_video_is_one_line(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video at all\n" * 50)
    (tmp_path / "notes.txt").write_text("no video at all\n" * 50)
    encode(tmp_path / "whole.mp4")
    (tmp_path / "list.mp4").write_text("ffconcat version 1.0\nfile whole.mp4\n")
    with av.open(str(tmp_path / "song.mp4"), "w") as file:
        add_sound(file, file.add_stream("aac", rate=8000, layout="mono"))
    for name, words in {
        "gone.mp4": "no video",
        "empty.mp4": "is empty",
        "text.mp4": "cannot be read as a video",
        "notes.txt": "no video that can be decoded",
        "list.mp4": "cannot be read as a video",
        "song.mp4": "no video stream",
    }.items():
        with pytest.raises(InputError, match=words) as caught:
            video_file.look(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def save(folder, names):
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        Image.fromarray(picture(i)).save(folder / name)
    return folder


def test_a_folder_is_read_in_natural_order_without_litter_or_pyav(tmp_path, monkeypatch):
    folder = save(tmp_path / "frames %d", [f"Frame {i + 1}.png" for i in range(N)])
    for litter in ("._Frame 1.png", ".DS_Store", "Thumbs.db", "notes.txt"):
        (folder / litter).write_text("clutter")
    file = encode(tmp_path / "v.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    video = read(folder, tolerance=0)
    assert video.odd == () and video.duration == N / 25
    np.testing.assert_allclose(video_file.look(folder, fps=10).times, np.arange(N) / 10)
    with pytest.raises(InputError, match=r"pip install 'vad-helpers\[video\]'"):
        video_file.look(file)


def test_damaged_turned_deep_and_missing_pictures_of_a_folder(tmp_path):
    folder = save(tmp_path / "frames", [f"{i}.png" for i in range(N)])
    (folder / "5.png").write_bytes((folder / "5.png").read_bytes()[:60])
    (folder / "7.png").unlink()
    deep = picture(3)[..., 2].astype(np.uint16) * 257
    deep[0, 0] = 65535  # a range that is known
    Image.fromarray(deep).save(folder / "3.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture(4)[::-1, ::-1]).save(folder / "4.png", exif=exif)
    levels = [20 + 10 * i for i in (0, 1, 2, 3, 4, 4, 6, 8, 9, 10, 11)]
    video = read(folder, n=N - 1, levels=levels, tolerance=0)
    assert "5.png is damaged: 4.png is shown" in said(video)
    assert "numbers are missing" in said(video)


def test_folders_that_are_no_video_are_one_line(tmp_path):
    with pytest.raises(InputError, match="no pictures"):
        video_file.look(save(tmp_path / "empty", []))
    with pytest.raises(InputError, match=r"1\.png and 01\.png|01\.png and 1\.png"):
        video_file.look(save(tmp_path / "twice", ["1.png", "01.png"]))
    mixed = save(tmp_path / "mixed", ["1.png", "2.png"])
    Image.fromarray(picture(0, (30, 40))).save(mixed / "2.png")
    with pytest.raises(InputError, match="several sizes .1 of 64x48, 1 of 40x30"):
        video_file.look(mixed)
    with pytest.raises(InputError, match="fps is 0"):
        video_file.look(mixed, fps=0)


@pytest.mark.parametrize("encoder", ["libx264", "libvpx-vp9"])
def test_what_is_written_has_the_pictures_at_their_times(tmp_path, monkeypatch, encoder):
    known = video_file._ENCODERS
    monkeypatch.setattr(video_file, "_ENCODERS", {encoder: known[encoder]})
    times = np.array([0, 0.04, 0.5, 0.54, 1.0, *np.arange(1.1, 1.8, 0.1)])
    pictures = [picture(i, (49, 65)) for i in range(N)]
    facts = {"duration": 2.5, "aspect": Fraction(4, 3)}
    path, n = video_file.write(tmp_path / "o: %d", pictures, times, **facts)
    assert n == N and path.name == f"o: %d{known[encoder][0]}"
    video = video_file.look(path)
    np.testing.assert_allclose(video.times, times, atol=0.0006)
    assert video.size == (50, 66)
    assert video.duration == pytest.approx(2.5, abs=0.002)
    for found, given in zip(video_file.frames(video), pictures, strict=True):
        expected = np.pad(given, ((0, 1), (0, 1), (0, 0)), "edge").astype(int)
        assert np.abs(found - expected).mean() < 4
    if encoder == "libx264":  # the index first, so that a browser need not load all
        content = path.read_bytes()
        assert content.index(b"moov") < content.index(b"mdat")
        assert video.aspect == Fraction(4, 3)


def test_ctrl_c_leaves_a_playable_file_and_an_error_none(tmp_path):
    def pictures(error):
        yield from (picture(i) for i in range(5))
        raise error

    path, n = video_file.write(tmp_path / "a", pictures(KeyboardInterrupt), EVEN, duration=0.48)
    read(path, n=5)
    assert n == 5
    with pytest.raises(InputError):
        video_file.write(tmp_path / "b", pictures(InputError("x")), EVEN, duration=0.48)
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp4"]
