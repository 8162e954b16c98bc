"""The tree in UCSD's layout: its root, index, labels, fingerprint and report."""

import hashlib
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from vad_helpers.data import ucsd
from vad_helpers.errors import InputError


def test_root_is_found_and_not_guessed(tree, tmp_path):
    (tmp_path / "copy" / "UCSDped2").mkdir(parents=True)  # the official name wins
    assert ucsd.find_root(tree.root) == ucsd.find_root(tmp_path) == tree.root
    renamed = tree.root.rename(tmp_path / "v1p1")
    with pytest.raises(InputError, match=r"several UCSD trees \(copy, v1p1\)"):
        ucsd.find_root(tmp_path)
    shutil.rmtree(tmp_path / "copy")
    assert ucsd.find_root(str(tmp_path)) == renamed
    for name in ("absent", "v1p1/UCSDped1"):
        with pytest.raises(InputError, match=name):
            ucsd.find_root(tmp_path / name)


def test_ranges_are_read_entry_by_entry():
    for value, expected in {
        "[60:152];": [(60, 152)],
        "[5:90, 140:200];\r": [(5, 90), (140, 200)],
        "[ 1 : 3 7 9:9 ] ; % [8:9]": [(1, 3), (7, 7), (9, 9)],
        "[];\n% x.gt_frame = [1:2];": [],
        "4:5;": [(4, 5)],
        "[1:2,\n   4:4];": [(1, 2), (4, 4)],
    }.items():
        text = f"TestVideoFile = {{}};\nx{{end+1}}.gt_frame={value}\ny.gt_frame = [7:9];\n"
        assert ucsd.parse_ground_truth(text) == [expected, [(7, 9)]]


@pytest.mark.parametrize("value", ["[3:1]", "[0:4]", "[a:b]", "[1:2:9]", "[1:2", "[-1:4]", "", ";"])
def test_a_malformed_entry_is_named(value):
    with pytest.raises(InputError, match="entry 2"):
        ucsd.parse_ground_truth(f"x.gt_frame = [1:2];\ny.gt_frame = {value}\nz.gt_frame = [3:4];")


def test_sequences_come_in_order_with_the_labels_of_their_own_entry_and_their_masks(tree):
    tree.folder("ped1", "test", 4)  # an empty folder is as good as absent
    for name in ("Test3", "Test0005", "Train001"):
        (tree.root / "UCSDped1" / "Test" / name).mkdir()
    found = [
        (s.id, s.number, "".join(map(str, s.anomalous.astype(int))), s.masks and s.official_mask)
        for s in ucsd.index(tree.root.parent)
    ]
    assert found == [
        ("ped1/Test003", 3, "011011", True),
        ("ped1/Test005", 5, "101100", False),
        ("ped1/Test006", 6, "000111", None),  # no masks does not mean normal
        ("ped2/Train001", 1, "000000", None),
        ("ped2/Train002", 2, "00000000", None),
        ("ped2/Test001", 1, "111111", True),
        ("ped2/Test002", 2, "000000", True),
    ]


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
    for name, match in (("1.tif", "share one number"), ("0.tif", "start at 1")):
        (folder / name).write_bytes(b"")
        with pytest.raises(InputError, match=match):
            ucsd.index(writer.root)


SPOILT = {
    r"UCSDped2\.m is missing": lambda tree: tree.truth("ped2").unlink(),
    "entry 1 names frames 1:7, but Test001 has 6": lambda tree: tree.truth("ped2", "1:7", ""),
    "1 entries, none for Test002": lambda tree: tree.truth("ped2", "1:6"),
    r"UCSDped1\.m: entry 1 holds '6:1'": lambda tree: tree.truth("ped1", "6:1"),
    "Test003_gt holds 5 masks.*6 frames of Test003": lambda tree: (
        tree.folder("ped1", "test", 3, "_gt") / "006.bmp"
    ).unlink(),
}


@pytest.mark.parametrize("match", SPOILT)
def test_labels_and_masks_that_do_not_fit_are_refused_and_reported(tree, match):
    SPOILT[match](tree)
    with pytest.raises(InputError, match=match):
        ucsd.index(tree.root)
    report = ucsd.check(tree.root)
    assert not report.usable
    assert len(report.table) > 0  # of the others
    assert pd.Series(report.errors).str.contains(match).any()


def test_fingerprint_covers_the_content_and_its_reader_but_no_dates_places_and_clutter(
    tree, tmp_path, monkeypatch
):
    copy = shutil.copytree(tree.root, tmp_path / "elsewhere" / "tree")
    (copy / "UCSDped1" / ".DS_Store").write_text("more clutter")
    for file in copy.rglob("*.tif"):
        os.utime(file, (1, 1))
    assert ucsd.fingerprint(copy) == ucsd.fingerprint(tree.root)
    seen = {ucsd.fingerprint(tree.root)}
    for change in (
        lambda: tree.sequence("ped2", "train", 3),
        lambda: (tree.folder("ped1", "test", 3) / "001.tif").write_bytes(b"other"),
        lambda: (tree.folder("ped1", "test", 3, "_gt") / "002.bmp").write_bytes(b"other"),
        lambda: tree.masks("ped1", 6, {4, 5, 6}),
        lambda: tree.truth("ped2", "1:5", ""),
        lambda: tree.truth("ped2").unlink(),
        lambda: monkeypatch.setattr(ucsd, "VERSION", ucsd.VERSION + 1),  # shows other frames
    ):
        change()
        seen.add(ucsd.fingerprint(tree.root))
    assert len(seen) == 8


def test_official_sequences_are_known_by_numbers_and_lengths():
    train, test = ("ped2", "train", [159] * 15 + [165]), ("ped2", "test", [167] * 11 + [173])
    for lengths, expected in (
        ([("ped1", "train", [200] * 34), ("ped1", "test", [200] * 33), train, test], True),
        ([("ped1", "test", [200])], True),
        ([], False),
        ([("ped1", "test", [200] * 37)], False),
        ([("ped1", "test", [200] * 35 + [199])], False),
        ([("ped1", "test", [200]), test], False),
        ([("ped3", "test", [200])], False),
    ):
        sequences = [
            SimpleNamespace(scene=scene, kind=kind, number=i, n_frames=n)
            for scene, kind, counts in lengths
            for i, n in enumerate(counts, start=1)
        ]
        assert ucsd.is_official(sequences) is expected


def test_the_report_counts_and_names_what_is_odd_and_handled(tree):
    folder = tree.folder("ped2", "train", 2)
    (folder / "003.tif").write_bytes(b"broken")
    (folder / "005.tif").unlink()
    report = ucsd.check(tree.root)
    assert report.usable
    table = report.table.set_index("sequence")
    assert list(table.index) == [s.id for s in ucsd.index(tree.root)]
    assert table.loc["ped1/Test003"].to_dict() == {
        **{"scene": "ped1", "kind": "test", "frames": 6, "official": 0, "masks": 6},
        **{"anomalous": 4, "mask_anomalous": 4, "disagreements": 0, "unreadable": 0},
        "size": "12x18",
    }
    # A disagreement of masks and list is reported, not repaired.
    assert table.loc["ped1/Test005", "disagreements"] == 2
    (warning,) = report.warnings
    assert "ped1/Test005" in warning and "2 of 6" in warning
    unmasked = table.loc["ped1/Test006"]
    assert (unmasked["masks"], unmasked["anomalous"]) == (0, 3)
    assert pd.isna(unmasked["mask_anomalous"]) and pd.isna(unmasked["disagreements"])
    assert table.loc["ped2/Train002", "unreadable"] == 2
    assert report.unreadable == (
        "UCSDped2/Train/Train002/003.tif",
        "UCSDped2/Train/Train002/005.tif (absent)",
    )
    assert len(report.missing) == 4
    assert report.missing[1:3] == ("UCSDped1/Test 001-002, 004, 007-036", "UCSDped2/Train 003-016")
    for line in (warning, *report.unreadable, *report.missing, "ped2/Test002"):
        assert line in report.summary()


def test_frames_that_are_the_official_ones_are_counted(tree, monkeypatch):
    hashes = ucsd.official_hashes()
    assert sum(map(len, hashes.values())) == 18560
    assert (len(hashes["ped1/Test001"]), hashes["ped1/Test001"][0]) == (200, "471f62aa")
    assert ucsd.check(tree.root).table["official"].sum() == 0
    folder = tree.folder("ped2", "train", 1)
    own = [hashlib.sha256((folder / f"{i:03d}.tif").read_bytes()).hexdigest() for i in range(1, 7)]
    own[1:3] = own[2:0:-1]  # two of the six at another place
    monkeypatch.setattr(ucsd, "official_hashes", lambda: {"ped2/Train001": [h[:8] for h in own]})
    (folder / "005.tif").unlink()
    report = ucsd.check(tree.root)
    assert report.usable and report.table["official"].tolist() == [0, 0, 0, 3, 0, 0, 0]
    assert "3 of 44 are byte for byte" in report.summary()


@pytest.mark.parametrize("kind", ["jpg", "PNG", "bmp", "lower case"])
def test_copies_of_other_formats_and_in_lower_case_are_read(tree, kind):
    before = [(s.id, s.masks is None, s.anomalous.tolist()) for s in ucsd.index(tree.root)]
    for path in sorted(tree.root.rglob("*"), reverse=True):  # what is inside first
        if kind == "lower case":
            path.rename(path.with_name(path.name.lower()))
        elif path.suffix == ".tif" and not path.name.startswith("."):
            Image.open(path).save(path.with_suffix(f".{kind}"))
            path.unlink()
    found = ucsd.index(tree.root)
    assert [(s.id, s.masks is None, s.anomalous.tolist()) for s in found] == before
    assert ucsd.read_frames(found[0])[:, 0, 0].tolist() == [10, 20, 30, 40, 50, 60]
    report = ucsd.check(tree.root)
    assert report.usable and not report.stray
    assert len(ucsd.fingerprint(tree.root)) == 64


def test_names_in_two_spellings_are_refused(tree):
    for parts in (["ucsdped1"], ["UCSDped1", "test"], ["UCSDped1", "Test", "test003"]):
        twice = tree.root.joinpath(*parts)
        twice.mkdir()
        with pytest.raises(InputError, match=f"and {parts[-1]}: keep one of them"):
            ucsd.index(tree.root)
        twice.rmdir()


def test_clutter_is_counted_and_strays_are_named(tree):
    test = "UCSDped1/Test"
    strays = {
        *("notes.txt", f"{test}/UCSDped2.m", f"{test}/Test003/001.gif", f"{test}/Other/001.tif"),
        *(f"{test}/Test003_gt/001.tif", f"{test}/Test003/deep/001.tif", f"{test}/Test3/001.tif"),
        *(f"UCSDped2/Train/{name}" for name in ("Train001_gt/001.bmp", "Train001/x1.tif")),
    }
    for name in (*strays, "README.txt", "walkway.json", ucsd.ORIGIN_NAME):  # these are no strays
        (tree.root / name).parent.mkdir(exist_ok=True, parents=True)
        (tree.root / name).write_text("{}")
    report = ucsd.check(tree.root)
    assert report.usable
    assert set(report.stray) == strays
    assert report.clutter == 4


def test_an_error_of_one_sequence_makes_the_tree_unusable_and_hides_no_other(tree):
    Image.new("L", (5, 5)).save(tree.folder("ped2", "test", 1, "_gt") / "frame002.bmp")
    Image.new("L", (5, 5)).save(tree.folder("ped2", "train", 1) / "002.tif")
    for path in tree.folder("ped2", "train", 2).iterdir():
        path.write_bytes(b"broken")
    unknown = Image.fromarray(np.full((12, 18), 99, np.int32))  # its range
    unknown.save(tree.folder("ped1", "test", 3) / "003.tif")
    report = ucsd.check(tree.root)
    assert not report.usable
    assert len(report.errors) == 4 and "003.tif is refused" in report.errors[0]
    assert all("\n" not in line for line in report.errors)
    table = report.table.set_index("sequence")
    assert table.loc["ped2/Train001", "size"] == "several"
    assert table.loc["ped2/Train002", ["size", "unreadable"]].tolist() == ["unknown", 8]
    assert table.loc["ped1/Test003", "unreadable"] == 1
