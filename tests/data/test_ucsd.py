"""The tree in UCSD's layout: its root, index, labels, fingerprint and report."""

import os
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vad_helpers.data import ucsd
from vad_helpers.errors import InputError


def by_id(tree):
    return {sequence.id: sequence for sequence in ucsd.index(tree.root)}


# The root


def test_root_is_found_from_itself_its_parent_and_under_another_name(tree, tmp_path):
    (tmp_path / "copy" / "UCSDped2").mkdir(parents=True)  # the official name wins
    assert ucsd.find_root(tree.root) == ucsd.find_root(tmp_path) == tree.root
    shutil.rmtree(tmp_path / "copy")
    renamed = tree.root.rename(tmp_path / "v1p1")
    assert ucsd.find_root(str(tmp_path)) == renamed


def test_root_is_not_guessed(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "UCSDped2").mkdir(parents=True)
    with pytest.raises(InputError, match=r"several UCSD trees \(one, two\)"):
        ucsd.find_root(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("absent", "empty"):
        with pytest.raises(InputError, match=name):
            ucsd.find_root(tmp_path / name)


# The list of anomalous frames


def test_ranges_are_read_entry_by_entry():
    text = (
        "TestVideoFile = {};\n"
        "TestVideoFile{end+1}.gt_frame = [60:152];\n"
        "TestVideoFile{end+1}.gt_frame = [5:90, 140:200];\r\n"
        "TestVideoFile{end+1}.gt_frame=[ 1 : 3 7 9:9 ] ; % [8:9]\n"
        "% TestVideoFile{end+1}.gt_frame = [1:2];\n"
        "TestVideoFile{end+1}.gt_frame = [];\n"
        "TestVideoFile{end+1}.gt_frame = 4:5;\n"
        "TestVideoFile{end+1}.gt_frame = [1:2,\n   4:4];\n"
    )
    assert ucsd.parse_ground_truth(text) == [
        [(60, 152)],
        [(5, 90), (140, 200)],
        [(1, 3), (7, 7), (9, 9)],
        [],
        [(4, 5)],
        [(1, 2), (4, 4)],
    ]
    assert ucsd.parse_ground_truth("TestVideoFile = {};") == []


@pytest.mark.parametrize("value", ["[3:1]", "[0:4]", "[a:b]", "[1:2:9]", "[1:2", "[-1:4]", "", ";"])
def test_a_malformed_entry_is_named(value):
    text = f"x.gt_frame = [1:2];\ny.gt_frame = {value}\nz.gt_frame = [3:4];\n"
    with pytest.raises(InputError, match="entry 2"):
        ucsd.parse_ground_truth(text)


# The index


def test_sequences_come_in_order_with_the_labels_of_their_own_entry(tree):
    tree.folder("ped1", "test", 4).mkdir()  # an empty folder is as good as absent
    for name in ("Test3", "Test0005", "Train001"):
        (tree.root / "UCSDped1" / "Test" / name).mkdir()
    found = {}
    for sequence in ucsd.index(tree.root.parent):
        found[sequence.id] = "".join(map(str, sequence.anomalous.astype(int)))
    assert list(found.items()) == [
        ("ped1/Test003", "011011"),
        ("ped1/Test005", "101100"),
        ("ped1/Test006", "000111"),
        ("ped2/Train001", "000000"),
        ("ped2/Train002", "00000000"),
        ("ped2/Test001", "111111"),
        ("ped2/Test002", "000000"),
    ]


def test_a_sequence_says_what_it_is_and_which_masks_it_has(tree):
    found = by_id(tree)
    train = found["ped2/Train002"]
    assert (train.scene, train.kind, train.number, train.n_frames) == ("ped2", "train", 2, 8)
    has_masks = {name for name, s in found.items() if s.masks is not None}
    assert has_masks == {"ped1/Test003", "ped1/Test005", "ped2/Test001", "ped2/Test002"}
    assert {name for name, s in found.items() if s.official_mask} == has_masks - {"ped1/Test005"}
    assert found["ped1/Test006"].anomalous.any()  # no masks does not mean normal
    with pytest.raises(ValueError, match="read-only"):
        found["ped1/Test003"].anomalous[0] = True


def test_files_are_sorted_as_numbers_and_gaps_keep_their_place(writer):
    folder = writer.sequence("ped2", "train", 1, n_frames=11)
    (folder / "010.tif").rename(folder / "frame10.TIFF")
    (folder / "002.tif").unlink()
    for stray in ("20130227.tif", "x1.tif", "12.txt", "._012.tif"):
        (folder / stray).write_bytes(b"")
    (sequence,) = ucsd.index(writer.root)  # and train alone needs no list
    names = [path and path.name for path in sequence.frames]
    assert names[:2] == ["001.tif", None] and names[8:] == ["009.tif", "frame10.TIFF", "011.tif"]
    assert ucsd.read_frames(sequence)[:3, 0, 0].tolist() == [10, 10, 30]


@pytest.mark.parametrize(
    ("name", "match"), [("1.tif", "share one number"), ("0.tif", "start at 1")]
)
def test_numbers_that_cannot_be_are_refused(tree, name, match):
    (tree.folder("ped2", "train", 1) / name).write_bytes(b"")
    with pytest.raises(InputError, match=match):
        ucsd.index(tree.root)


def test_a_tree_without_sequences_is_refused(writer):
    (writer.root / "UCSDped1" / "Test" / "Test001").mkdir(parents=True)
    writer.truth("ped1", "1:2")
    with pytest.raises(InputError, match="no sequence"):
        ucsd.index(writer.root)
    report = ucsd.check(writer.root)
    assert not report.usable and "no sequence" in report.problems[0]
    assert "not usable" in report.summary()


SPOILT = {
    r"UCSDped2\.m is missing": lambda tree: tree.truth("ped2").unlink(),
    "entry 1 names frames 1:7, but Test001 has 6 frames": lambda tree: tree.truth(
        "ped2", "1:7", ""
    ),
    "1 entries, none for Test002": lambda tree: tree.truth("ped2", "1:6"),
    r"UCSDped1\.m: entry 1 holds '6:1'": lambda tree: tree.truth("ped1", "6:1"),
    "Test003_gt holds 5 masks.*6 frames of Test003": lambda tree: (
        tree.root / "UCSDped1" / "Test" / "Test003_gt" / "006.bmp"
    ).unlink(),
}


@pytest.mark.parametrize("match", SPOILT)
def test_labels_and_masks_that_do_not_fit_are_refused_and_reported(tree, match):
    SPOILT[match](tree)
    with pytest.raises(InputError, match=match):
        ucsd.index(tree.root)
    report = ucsd.check(tree.root)
    assert not report.usable
    assert report.table["sequence"].str.startswith("ped").any()  # of the others
    assert pd.Series(report.errors).str.contains(match).any()


# The fingerprint


def test_fingerprint_is_the_same_elsewhere_whenever_and_despite_clutter(tree, tmp_path):
    before = ucsd.fingerprint(tree.root)
    assert len(before) == 64
    copy = tmp_path / "elsewhere" / "tree"
    shutil.copytree(tree.root, copy)
    (copy / "UCSDped1" / ".DS_Store").write_text("more clutter")
    for file in copy.rglob("*.tif"):
        os.utime(file, (1, 1))
    assert ucsd.fingerprint(copy) == before


def test_fingerprint_notices_frames_masks_and_lists(tree):
    def flip(path):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    test = tree.root / "UCSDped1" / "Test"
    seen = {ucsd.fingerprint(tree.root)}
    for change in (
        lambda: tree.sequence("ped2", "train", 3),
        lambda: flip(test / "Test003" / "001.tif"),
        lambda: flip(test / "Test003_gt" / "002.bmp"),
        lambda: tree.masks("ped1", 6, {4, 5, 6}),
        lambda: tree.truth("ped2", "1:5", ""),
        lambda: tree.truth("ped2").unlink(),
    ):
        change()
        seen.add(ucsd.fingerprint(tree.root))
    assert len(seen) == 7


# The official dataset


def official(lengths):
    """Sequences by scene, side and number, of the given lengths."""
    return [
        ucsd.Sequence(f"{scene}/{i}", scene, kind, i, (None,) * n, None, np.zeros(n, bool), False)
        for (scene, kind), counts in lengths.items()
        for i, n in enumerate(counts, start=1)
    ]


PED2 = {("ped2", "train"): [159] * 15 + [165], ("ped2", "test"): [167] * 11 + [173]}
PED1 = {("ped1", "train"): [200] * 34, ("ped1", "test"): [200] * 36}


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [
        (PED1 | PED2, True),
        (PED2, True),
        ({("ped1", "test"): [200] * 33} | PED2, True),
        ({}, False),
        ({("ped1", "test"): [200] * 37}, False),
        ({("ped1", "test"): [200] * 35 + [199]}, False),
        (PED1 | {("ped2", "test"): PED2["ped2", "test"]}, False),
        ({("ped3", "test"): [200]}, False),
    ],
)
def test_official_sequences_are_known_by_numbers_and_lengths(lengths, expected):
    assert ucsd.is_official(official(lengths)) is expected


# The report


def row(report, sequence):
    return report.table.set_index("sequence").loc[sequence]


def test_one_row_a_sequence_with_its_counts(tree):
    report = ucsd.check(tree.root)
    assert report.usable
    assert list(report.table["sequence"]) == list(by_id(tree))
    assert row(report, "ped1/Test003").to_dict() == {
        **{"scene": "ped1", "kind": "test", "frames": 6, "masks": 6, "anomalous": 4},
        **{"mask_anomalous": 4, "disagreements": 0, "unreadable": 0, "size": "12x18"},
    }
    # A disagreement of masks and list is reported, not repaired.
    assert row(report, "ped1/Test005")["disagreements"] == 2
    assert any("ped1/Test005" in line and "2 of 6" in line for line in report.problems)
    unmasked = row(report, "ped1/Test006")
    assert (unmasked["masks"], unmasked["anomalous"]) == (0, 3)
    assert pd.isna(unmasked["mask_anomalous"]) and pd.isna(unmasked["disagreements"])


def test_unreadable_and_absent_frames_are_counted_and_named(tree):
    folder = tree.folder("ped2", "train", 2)
    (folder / "003.tif").write_bytes(b"broken")
    (folder / "005.tif").unlink()
    report = ucsd.check(tree.root)
    assert report.usable
    assert row(report, "ped2/Train002")["unreadable"] == 2
    assert report.unreadable == (
        "UCSDped2/Train/Train002/003.tif",
        "UCSDped2/Train/Train002/005.tif (absent)",
    )


def test_missing_official_sequences_are_listed(tree):
    assert ucsd.check(tree.root).missing == (
        "UCSDped1/Train 001-034",
        "UCSDped1/Test 001-002, 004, 007-036",
        "UCSDped2/Train 003-016",
        "UCSDped2/Test 003-012",
    )


def test_nothing_is_wrong_with_a_complete_tree(writer):
    for (scene, kind), count in ucsd.N_OFFICIAL.items():
        for number in range(1, count + 1):
            writer.sequence(scene, kind, number, n_frames=1)
    writer.truth("ped1", *["1:1"] * 36)
    writer.truth("ped2", *["1:1"] * 12)
    report = ucsd.check(writer.root)
    assert report.missing == () and report.problems == []
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
    for name in ("walkway.json", ucsd.ORIGIN_NAME):  # say where a tree is from: no strays
        (tree.root / name).write_text("{}")
    report = ucsd.check(tree.root)
    assert report.usable
    assert sorted(report.stray) == sorted(strays)
    assert report.clutter == 4
    assert "and 1 more" in report.summary()


def test_an_error_of_one_sequence_makes_the_tree_unusable_and_hides_no_other(tree):
    Image.new("L", (5, 5)).save(tree.root / "UCSDped2" / "Test" / "Test001_gt" / "frame002.bmp")
    Image.new("L", (5, 5)).save(tree.folder("ped2", "train", 1) / "002.tif")
    for path in tree.folder("ped2", "train", 2).iterdir():
        path.write_bytes(b"broken")
    Image.fromarray(np.full((12, 18), 99, np.int32)).save(
        tree.folder("ped1", "test", 3) / "003.tif"
    )
    report = ucsd.check(tree.root)
    assert not report.usable
    assert len(report.errors) == 4 and report.problems[:4] == list(report.errors)
    assert all("\n" not in line for line in report.problems)
    assert row(report, "ped2/Train001")["size"] == "several"
    assert row(report, "ped2/Train002")[["size", "unreadable"]].tolist() == ["unknown", 8]
    assert "003.tif is refused" in report.errors[0]  # its range is not known
    assert row(report, "ped1/Test003")["unreadable"] == 1


def test_folders_without_their_counterpart_are_warned_of(tree):
    tree.folder("ped2", "train", 9).mkdir()
    tree.masks("ped1", 7, {1})
    report = ucsd.check(tree.root)
    assert report.usable
    assert "UCSDped2/Train/Train009 holds no frames" in report.warnings
    assert "UCSDped1/Test/Test007_gt holds masks of a sequence that is absent" in report.warnings
