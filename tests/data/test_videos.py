"""A folder of one's own videos: read once, labelled, masked, or refused in one line."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from vad_helpers.data import clips, video_file, videos
from vad_helpers.data.frames import read_frames, read_masks
from vad_helpers.errors import InputError

N, SIZE = 12, (24, 32)


def picture(t):
    grey = np.full(SIZE, 40 + t, dtype=np.uint8)
    grey[8:12, t : t + 4] = 200
    return grey


@pytest.fixture
def root(tmp_path):
    """Three videos as folders of pictures; an anomaly with masks in the first, from frame 5."""
    root = tmp_path / "mine"
    for name in ("02", "night one", "quiet"):
        (root / name).mkdir(parents=True)
        for t in range(N):
            Image.fromarray(picture(t)).save(root / name / f"f{t + 1}.png")  # unpadded numbers
    masks = np.zeros((N, *SIZE), dtype=np.uint8)
    masks[4:, 8:12, :4] = 1
    (root / "masks").mkdir()
    cells = np.empty((1, N), dtype=object)
    for t in range(N):
        cells[0, t] = masks[t]
    savemat(root / "masks" / "2_label.mat", {"volLabel": cells})
    (root / "labels.csv").write_text("video,first,last\n02,5,12\nnight one,3,4\nnight one,9,9\n")
    return root


def test_videos_are_sequences_with_labels_and_masks(root, tmp_path):
    found = videos.index(root, kept=tmp_path / "kept", masks="masks")
    assert [s.id for s in found] == ["videos/02", "videos/night_one", "videos/quiet"]
    assert [s.kind for s in found] == ["test", "test", "train"]
    assert np.flatnonzero(found[0].anomalous).tolist() == list(range(4, 12))
    assert np.flatnonzero(found[1].anomalous).tolist() == [2, 3, 8]
    assert (read_frames(found[0]) == np.stack([picture(t) for t in range(N)])).all()
    assert read_masks(found[0]).sum() == 8 * 16 and not read_masks(found[0], n_frames=4).any()
    assert found[1].masks is None and not found[1].official_mask
    table = clips.clip_table(found, n_frames=4, stride=4, n_folds=1)
    assert set(table["split"]) == {"test"}
    assert table.loc[table["eligible"], "clip_id"].tolist() == ["videos-02-0004", "videos-02-0008"]


def test_frames_are_read_once_and_again_when_the_video_changes(root, tmp_path):
    kept = tmp_path / "kept"
    videos.index(root, kept=kept)
    written = {path: path.stat().st_mtime_ns for path in kept.rglob("*.png")}
    key = videos.fingerprint(root)
    videos.index(root, kept=kept)
    assert {path: path.stat().st_mtime_ns for path in kept.rglob("*.png")} == written
    Image.fromarray(picture(0)).save(root / "quiet" / "f2.png")
    assert (read_frames(videos.index(root, kept=kept)[2])[1] == picture(0)).all()
    assert videos.fingerprint(root) != key


def test_masks_alone_can_be_the_labels(root, tmp_path):
    found = videos.index(root, kept=tmp_path, labels="masks", masks="masks")
    assert [int(s.anomalous.sum()) for s in found] == [8, 0, 0]
    modes = [{"labels": "masks", "masks": "masks"}, {"labels": "none", "masks": "masks"}]
    assert len({videos.fingerprint(root, **mode) for mode in modes}) == 2


def test_one_video_alone(root, tmp_path):
    pytest.importorskip("av", reason="videos need PyAV")
    pictures = [np.repeat(picture(t)[..., None], 3, axis=2) for t in range(N)]
    path, _ = video_file.write(tmp_path / "one", pictures, np.arange(N) / 25, duration=N / 25)
    (found,) = videos.index(path, kept=tmp_path / "kept", labels="none")
    assert found.id == "videos/one" and found.n_frames == N and not found.anomalous.any()


def test_masks_are_a_folder_of_pictures_too(root, tmp_path):
    folder = root / "masks" / "quiet"
    folder.mkdir()
    for t in range(N):
        Image.fromarray(np.full(SIZE, 9 * (t == 7), dtype=np.uint8)).save(folder / f"{t}.png")
    report = videos.check(root, kept=tmp_path, masks="masks")
    line = report.table.set_index("sequence").loc["videos/quiet"]
    assert line["mask_anomalous"] == 1 and line["anomalous"] == 0 and line["disagreements"] == 1
    assert report.usable and any("disagree on 1 of 12" in told for told in report.warnings)


FAULTS = {
    "a label beyond the end": ("labels.csv", "video,first,last\n02,5,13\n", "which has 12"),
    "a label from 0": ("labels.csv", "video,first,last\n02,0,3\n", "line 2.*from 1"),
    "a label backwards": ("labels.csv", "video,first,last\n02,9,3\n", "line 2"),
    "an unknown video": ("labels.csv", "video,first,last\nnobody,1,2\n", "no video 'nobody'"),
    "other columns": ("labels.csv", "name,from,to\n", "expected video, first, last"),
    "no table": ("labels.csv", None, "write video,first,last"),
    "an unreadable video": ("broken.mp4", "this is text", "broken.mp4"),
    "an empty video": ("empty.avi", "", "empty"),
}


@pytest.mark.parametrize(("name", "text", "told"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_is_one_line_that_names_it(root, tmp_path, name, text, told):
    if name.endswith(("mp4", "avi")):
        pytest.importorskip("av", reason="videos need PyAV")
    (root / name).unlink(missing_ok=True)
    if text is not None:
        (root / name).write_text(text)
    with pytest.raises(InputError, match=rf"\A.*{told}.*\Z"):
        videos.index(root, kept=tmp_path / "kept")
    report = videos.check(root, kept=tmp_path / "kept")
    assert not report.usable and len(report.table) >= 2  # the other videos are still reported


def test_masks_of_another_number_size_or_kind_are_refused(root, tmp_path):
    path = root / "masks" / "2_label.mat"
    for content, told in (
        ({"volLabel": np.zeros((*SIZE, N - 1))}, "11 masks .* 12 frames"),
        ({"volLabel": np.zeros((8, 8, N))}, "8x8 pixels"),
        ({"other": np.zeros(3)}, "expected volLabel"),
    ):
        savemat(path, content)
        with pytest.raises(InputError, match=rf"\A.*{told}.*\Z"):
            videos.index(root, kept=tmp_path / "kept", masks="masks")
    path.write_bytes(b"not MATLAB")
    with pytest.raises(InputError, match="cannot be read"):
        videos.index(root, kept=tmp_path / "kept", masks="masks")


def test_no_folder_no_video_and_two_of_one_name_are_refused(root, tmp_path):
    for folder, told in ((tmp_path / "nowhere", "no folder"), (root / "masks", "holds no video")):
        with pytest.raises(InputError, match=told):
            videos.index(folder, kept=tmp_path / "kept", labels="none")
    shutil.copytree(root / "night one", root / "night+one")
    with pytest.raises(InputError, match="two videos named night_one"):
        videos.index(root, kept=tmp_path / "kept", labels="none")


def test_avenue_is_read_with_its_masks(tmp_path):
    pytest.importorskip("av", reason="videos need PyAV")
    if not (folder := os.environ.get("VAD_AVENUE")):
        pytest.skip("VAD_AVENUE names no folder with the two videos of CUHK Avenue")
    before = sorted(Path(folder).iterdir())
    report = videos.check(folder, kept=tmp_path, labels="masks", masks=".")
    assert report.usable and report.table["frames"].tolist() == [36, 76]
    assert not any(video_file.look(path).odd for path in Path(folder).glob("*.avi"))
    assert report.table["anomalous"].tolist() == [36, 53]
    assert sorted(Path(folder).iterdir()) == before  # nothing is written there
