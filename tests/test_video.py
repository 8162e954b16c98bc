"""One video through the whole pipeline: what lies in the output folder, and going on."""

import json
import shutil
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from vad_helpers import video
from vad_helpers.data import video_file
from vad_helpers.data.frames import Sequence, read_frames
from vad_helpers.errors import InputError
from vad_helpers.model import weights
from vad_helpers.model.i3d import InceptionI3d

av = pytest.importorskip("av", reason="PyAV is not installed: pip install 'vad-helpers[video]'")

SIZE, N = (54, 81), 25
OPTIONS = {"origin": {"model": "bright"}, "method": "input_x_gradient", "n_frames": 10}
OPTIONS |= {"size": (18, 27)}


class Bright(torch.nn.Module):
    """Calls a clip anomalous where its top right ninth is bright; looks at nothing else."""

    def forward(self, clips):
        score = clips[..., :6, 18:].mean(dim=(1, 2, 3, 4))
        return torch.stack([-4 * score, 4 * score], dim=1)


def picture(i):
    """Grey noise, another in each frame; the top right ninth is bright from frame 15 on."""
    pixels = np.random.default_rng(i).integers(60, 80, (*SIZE, 1), dtype=np.uint8).repeat(3, 2)
    pixels[: SIZE[0] // 3, -SIZE[1] // 3 :] = 220 if i >= 15 else 30
    return pixels


@pytest.fixture
def source(tmp_path):
    times = 0.05 * np.arange(N) + 0.02 * (np.arange(N) % 2)  # a rate that varies
    frames = map(picture, range(N))
    return video_file.write(tmp_path / "walk", frames, times, duration=1.3)[0]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "frames").mkdir()
    for i in range(N):
        Image.fromarray(picture(i)).convert("L").save(tmp_path / "frames" / f"{i + 1}.tif")
    return tmp_path / "frames"


def test_the_overlay_is_the_source_under_its_maps_frame_by_frame(source, tmp_path):
    found = video.explain_video(source, Bright(), out=tmp_path / "out", **OPTIONS)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"maps", *video._OUTPUTS} - {"overlay.webm"}
    before, after = video_file.look(source), video_file.look(tmp_path / "out" / "overlay.mp4")
    np.testing.assert_allclose(after.times, before.times, atol=1e-4)
    assert after.duration == pytest.approx(before.duration, abs=1e-3)
    changes, frames = [], zip(video_file.frames(before), video_file.frames(after), strict=True)
    for given, drawn in frames:
        changes.append(np.abs(drawn[:54, :82].astype(int) - given).mean(axis=2))
    # The network looks at the top right ninth alone; of clips 1 and 3 it is too sure for a slope.
    seen = [np.median(change[:18, 58:]) for change in changes]
    assert min(seen[10:20]) > 30 > 5 > max(*seen[:10], *seen[20:])
    assert np.quantile(np.array(changes)[:, 24:, :50], 0.95) < 12
    own = video.explain_video(source, Bright(), out=tmp_path / "own", scale="clip", **OPTIONS)
    first = next(video_file.frames(video_file.look(own.attrs["files"][0])))
    given = next(video_file.frames(before))
    assert np.median(np.abs(first[:18, 58:82].astype(int) - given[:18, 58:])) > 20
    sheet = Image.open(tmp_path / "out" / "contact_sheet.png")
    assert sheet.width > 3 * 360 and sheet.height > 54
    assert "Frame difference" in (tmp_path / "out" / "explorer.html").read_text(encoding="utf-8")
    assert found.attrs["interrupted"] is False and found.attrs["odd"] == [*before.odd]


def test_the_table_and_the_settings_say_what_was_found(folder, tmp_path):
    found = video.explain_video(folder, Bright(), out=tmp_path / "out", fps=10, **OPTIONS)
    table = pd.read_csv(tmp_path / "out" / "clips.csv")
    pd.testing.assert_frame_equal(table, found, check_dtype=False)
    assert list(table.columns) == video.COLUMNS
    # The last clip is moved back, so that no frame is left over.
    assert table[["first_frame", "last_frame"]].values.tolist() == [[0, 9], [10, 19], [15, 24]]
    np.testing.assert_allclose(table[["start_s", "end_s"]], [[0, 1], [1, 2], [1.5, 2.5]])
    assert table["called"].tolist() == ["normal", "normal", "anomalous"]
    paths = tuple(folder / f"{i + 1}.tif" for i in range(N))
    marks = {"masks": None, "anomalous": np.zeros(N, bool), "official_mask": False}
    sequence = Sequence(id="s", scene="", kind="test", number=1, frames=paths, **marks)
    for row in table.itertuples():
        grey = read_frames(sequence, start=row.first_frame, n_frames=10, size=(18, 27))
        clip = torch.from_numpy(grey).float().expand(3, -1, -1, -1) / 127.5 - 1
        p = torch.softmax(Bright()(clip[None]), dim=1)[0, 1]
        assert row.p == pytest.approx(float(p), abs=1e-6)
    last = table.iloc[-1]
    assert (last.region_x, last.region_y, last.region_width, last.region_height) == (54, 0, 27, 18)
    assert 15 <= last.region_frame <= 24 and not table["all_zero"].any()
    told = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert told["origin"] == OPTIONS["origin"] and told["settings"] == {"channels": "sum"}
    assert told["video"]["frames"] == N and told["video"]["height_width"] == list(SIZE)
    assert told["seed"] == 0 and "torch" in told["versions"] and told["precision"] == "fp32"


def count_explained(monkeypatch, *, stop_at=None):
    """Count explanations; the one with the number `stop_at` is interrupted by Ctrl-C."""
    seen, original = [], video.attribute

    def counted(*args, **options):
        seen.append(args)
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        return original(*args, **options)

    monkeypatch.setattr(video, "attribute", counted)
    return seen


@pytest.mark.slow
def test_ctrl_c_leaves_what_is_done_and_the_same_command_goes_on(source, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        count_explained(patch, stop_at=3)
        found = video.explain_video(source, Bright(), out=out, **OPTIONS)
    assert found.attrs["interrupted"] and len(found) == 2
    assert len(pd.read_csv(out / "clips.csv")) == 2
    assert len(video_file.look(out / "overlay.mp4").times) == 20
    seen = count_explained(monkeypatch)
    found = video.explain_video(source, Bright(), out=out, **OPTIONS)
    assert len(seen) == 1 and len(found) == 3 and not found.attrs["interrupted"]
    assert len(video_file.look(out / "overlay.mp4").times) == N
    for change in ({"origin": {"model": "other"}}, {"method": "smoothgrad"}, {"size": (20, 30)}):
        seen.clear()
        video.explain_video(source, Bright(), out=out, **{**OPTIONS, **change})
        assert len(seen) == 3, change


def test_a_map_of_zeros_is_said_and_leaves_the_video_as_it_was(source, tmp_path):
    flat = lambda clips: 0 * clips.mean(dim=(2, 3, 4))[:, :2] + torch.tensor([0.0, 1.0])  # noqa: E731
    found = video.explain_video(source, flat, out=tmp_path / "out", **OPTIONS)
    assert found["all_zero"].all() and found["region_x"].isna().all()
    frames = (video_file.frames(video_file.look(p)) for p in (source, found.attrs["files"][0]))
    for given, drawn in zip(*frames, strict=True):
        assert np.abs(drawn[:54, :82].astype(int) - given).mean() < 6


def test_without_pyav_a_folder_gets_all_but_the_overlay(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(video.importlib.util, "find_spec", lambda name: None)
    found = video.explain_video(folder, Bright(), out=tmp_path / "out", **OPTIONS)
    names = ["contact_sheet.png", "explorer.html"]
    assert [file.name for file in found.attrs["files"]] == names
    assert "pip install 'vad-helpers[video]'" in found.attrs["odd"][-1]


def test_memory_holds_one_frame_in_colour_however_long_the_video(folder, tmp_path, monkeypatch):
    class Frame(np.ndarray):
        pass

    alive, most, original = weakref.WeakValueDictionary(), [], video_file.frames

    def watched(given):
        for pixels in original(given):
            alive[len(most)] = frame = pixels.view(Frame)
            most.append(len(alive))
            yield frame

    monkeypatch.setattr(video_file, "frames", watched)
    video.explain_video(folder, Bright(), out=tmp_path / "out", **OPTIONS)
    assert len(most) > 2 * N - 10 and max(most) <= 3


def test_arguments_that_cannot_be_used_are_one_line(source, folder, tmp_path):
    out = tmp_path / "out"
    for path, changed, words in (
        (folder, {"out": folder / "inside"}, "in or over the source"),
        (folder, {"out": folder}, "in or over the source"),
        (source, {"n_frames": 26}, "25 frames, a clip has 26"),
        (source, {"stride": 11}, "stride"),
        (source, {"method": "limes"}, "did you mean 'lime'"),
        (source, {"settings": {"n": 1}}, "unknown setting"),
    ):
        with pytest.raises(InputError, match=words):
            video.explain_video(path, Bright(), **{"out": out, **OPTIONS, **changed})
    shutil.copy(source, tmp_path / "overlay.mp4")
    with pytest.raises(InputError, match="in or over the source"):
        video.explain_video(tmp_path / "overlay.mp4", Bright(), out=tmp_path, **OPTIONS)
    assert not out.exists() and not (folder / "inside").exists()


@pytest.fixture
def command(source, tmp_path, vad, monkeypatch):
    """Run `vad explain` on the video with a small network: (status, output, error output)."""
    weights.save(InceptionI3d(width=0.1), tmp_path / "net.safetensors")
    monkeypatch.chdir(tmp_path)

    usual = ["explain", source.name, "--weights", "net.safetensors"]
    return lambda *more: vad(*usual, *more, "--frames", "10", "--size", "40x60")


@pytest.mark.slow
def test_the_command_explains_says_what_it_found_and_goes_on(command, tmp_path, monkeypatch):
    options = ["--method", "lime", "-s", "n_samples=4", "-s", "n_segments=6"]
    with monkeypatch.context() as patch:
        count_explained(patch, stop_at=2)
        status, _, err = command(*options)
    assert status == 130 and "1 of 3 clips" in err
    status, out, _ = command(*options)
    assert status == 0 and "frame rate varies" in out and out.count("normal") in range(4)
    told = json.loads((tmp_path / "walk-explained" / "settings.json").read_text())
    assert told["settings"]["n_samples"] == 4 and len(told["origin"]["sha256"]) == 64
    for bad in (["--method", "x"], ["-s", "n"], ["--weights", "no.safetensors"], ["--fps", "0"]):
        status, _, err = command(*options, *bad)
        assert status == 2 and err.count("\n") == 1, (bad, err)


def test_a_browser_plays_the_overlay(source, tmp_path, chromium):
    video.explain_video(source, Bright(), out=tmp_path / "out", **OPTIONS)
    html = '<!doctype html><title>t</title><video muted src="overlay.mp4"></video>'
    (tmp_path / "out" / "page.html").write_text(html)
    page = chromium.new_page()
    page.goto((tmp_path / "out" / "page.html").as_uri())
    played = page.evaluate(
        "async () => { const v = document.querySelector('video'); await v.play();"
        " await new Promise(done => v.onended = done);"
        " return [v.duration, v.videoWidth, v.videoHeight, v.readyState, v.currentTime]; }"
    )
    page.close()
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        height = sheet.height - 8
    assert played == [pytest.approx(1.3, abs=0.01), 360, height, 4, pytest.approx(1.3, abs=0.01)]
