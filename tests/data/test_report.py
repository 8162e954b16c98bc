import pandas as pd
import pytest
from PIL import Image

from vad_helpers.data import ucsd
from vad_helpers.errors import InputError


def row(report, sequence):
    return report.table.set_index("sequence").loc[sequence]


def test_one_row_a_sequence_with_its_counts(tree):
    report = ucsd.check(tree.root)
    assert report.usable
    assert list(report.table["sequence"]) == [s.id for s in ucsd.index(tree.root)]
    masked = row(report, "ped1/Test003")
    assert masked.to_dict() == {
        "scene": "ped1",
        "kind": "test",
        "frames": 6,
        "masks": 6,
        "anomalous": 4,
        "mask_anomalous": 4,
        "disagreements": 0,
        "unreadable": 0,
        "size": "12x18",
    }


def test_a_disagreement_of_masks_and_list_is_reported_not_repaired(tree):
    report = ucsd.check(tree.root)
    assert row(report, "ped1/Test005")["disagreements"] == 2
    assert any("ped1/Test005" in line and "2 of 6" in line for line in report.problems)
    assert report.usable


def test_without_masks_nothing_is_said_about_masks(tree):
    unmasked = row(ucsd.check(tree.root), "ped1/Test006")
    assert unmasked["masks"] == 0
    assert unmasked["anomalous"] == 3
    assert pd.isna(unmasked["mask_anomalous"])
    assert pd.isna(unmasked["disagreements"])


def test_unreadable_and_absent_frames_are_counted_and_named(tree):
    folder = tree.folder("ped2", "train", 2)
    (folder / "003.tif").write_bytes(b"broken")
    (folder / "005.tif").unlink()
    report = ucsd.check(tree.root)
    assert row(report, "ped2/Train002")["unreadable"] == 2
    assert report.unreadable == (
        "UCSDped2/Train/Train002/003.tif",
        "UCSDped2/Train/Train002/005.tif (absent)",
    )
    assert report.usable


def test_missing_official_sequences_are_listed(tree):
    assert ucsd.check(tree.root).missing == (
        "UCSDped1/Train 001-034",
        "UCSDped1/Test 001-002, 004, 007-036",
        "UCSDped2/Train 003-016",
        "UCSDped2/Test 003-012",
    )


def test_nothing_is_missing_from_a_complete_tree(writer):
    for scene, kind, count in (
        *(("ped1", "train", 34), ("ped1", "test", 36)),
        *(("ped2", "train", 16), ("ped2", "test", 12)),
    ):
        for number in range(1, count + 1):
            writer.sequence(scene, kind, number, n_frames=1)
    writer.truth("ped1", *["1:1"] * 36)
    writer.truth("ped2", *["1:1"] * 12)
    report = ucsd.check(writer.root)
    assert report.missing == ()
    assert report.problems == []
    assert "missing from the official dataset: none" in report.summary()


def test_clutter_is_counted_and_strays_are_named(tree):
    strays = [
        "notes.txt",
        "UCSDped1/notes.txt",
        "UCSDped1/Test/UCSDped2.m",
        "UCSDped1/Test/Test003/001.jpg",
        "UCSDped1/Test/Test003/20130227.tif",
        "UCSDped1/Test/Test003_gt/001.tif",
        "UCSDped1/Test/Test003/deep/001.tif",
        "UCSDped1/Test/Other/001.tif",
        "UCSDped2/Train/Train001_gt/001.bmp",
        "UCSDped2/Train/Train0001/001.tif",
        "vidf/Test/Test001/001.tif",
    ]
    for name in strays:
        (tree.root / name).parent.mkdir(exist_ok=True, parents=True)
        (tree.root / name).write_text("stray")
    (tree.root / "walkway.json").write_text("{}")  # of a synthetic tree: no stray
    report = ucsd.check(tree.root)
    assert sorted(report.stray) == sorted(strays)
    assert report.clutter == 4
    assert report.usable


def test_the_summary_tells_all_of_it(tree):
    (tree.folder("ped2", "train", 2) / "003.tif").write_bytes(b"broken")
    (tree.root / "notes.txt").write_text("stray")
    text = ucsd.check(tree.root).summary()
    assert "usable" in text.splitlines()[0]
    for part in (
        "ped1: 0 train + 3 test sequences, 18 frames, 10 anomalous",
        "ped2: 2 train + 2 test sequences, 26 frames, 6 anomalous",
        "UCSDped2/Train/Train002/003.tif",
        "UCSDped1/Train 001-034",
        "notes.txt",
        "warning: ped1/Test005",
        "clutter (ignored): 4 files",
    ):
        assert part in text


def test_long_lists_are_cut_in_the_summary_alone(tree):
    for i in range(15):
        (tree.root / f"notes{i:02d}.txt").write_text("stray")
    report = ucsd.check(tree.root)
    assert "notes09.txt, and 5 more" in report.summary()
    assert len(report.stray) == 15


def test_an_error_of_one_sequence_makes_the_tree_unusable_and_hides_no_other(tree):
    (tree.root / "UCSDped1" / "Test" / "Test003_gt" / "006.bmp").unlink()
    Image.new("L", (5, 5)).save(tree.root / "UCSDped2" / "Test" / "Test001_gt" / "frame002.bmp")
    Image.new("L", (5, 5)).save(tree.folder("ped2", "train", 1) / "002.tif")
    for path in tree.folder("ped2", "train", 2).iterdir():
        path.write_bytes(b"broken")
    report = ucsd.check(tree.root)
    assert not report.usable
    assert len(report.errors) == 4
    assert report.problems[:4] == list(report.errors)
    assert row(report, "ped2/Train001")["size"] == "several"
    assert row(report, "ped2/Train002")["size"] == "unknown"
    assert "not usable" in report.summary()
    assert all("\n" not in line for line in report.problems)


def test_a_missing_list_makes_the_tree_unusable(tree):
    (tree.root / "UCSDped1" / "Test" / "UCSDped1.m").unlink()
    report = ucsd.check(tree.root)
    assert not report.usable
    assert "UCSDped1.m is missing" in report.errors[0]


def test_a_tree_without_sequences_is_not_usable(writer):
    (writer.root / "UCSDped1").mkdir()
    report = ucsd.check(writer.root)
    assert not report.usable
    assert "no sequence" in report.problems[0]
    assert "not usable" in report.summary()


def test_folders_without_their_counterpart_are_warned_of(tree):
    tree.folder("ped2", "train", 9).mkdir()
    tree.masks("ped1", 7, {1})
    report = ucsd.check(tree.root)
    assert report.usable
    assert "UCSDped2/Train/Train009 holds no frames" in report.warnings
    assert "UCSDped1/Test/Test007_gt holds masks of a sequence that is absent" in report.warnings


def test_no_tree_at_all_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="neither UCSDped1 nor UCSDped2"):
        ucsd.check(tmp_path)


def test_the_bar_is_shown_only_if_asked(tree, capsys):
    ucsd.check(tree.root)
    assert capsys.readouterr().err == ""
    ucsd.check(tree.root, progress=True)
    assert "checking" in capsys.readouterr().err
