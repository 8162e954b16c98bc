import os
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vad_helpers.data import ucsd
from vad_helpers.errors import InputError


def by_id(tree):
    return {sequence.id: sequence for sequence in ucsd.index(tree.root)}


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
    expected = [
        [(60, 152)],
        [(5, 90), (140, 200)],
        [(1, 3), (7, 7), (9, 9)],
        [],
        [(4, 5)],
        [(1, 2), (4, 4)],
    ]
    assert ucsd.parse_ground_truth(text) == expected


@pytest.mark.parametrize("value", ["[3:1]", "[0:4]", "[a:b]", "[1:2:9]", "[1:2", "[-1:4]", "", ";"])
def test_a_malformed_entry_is_named(value):
    text = f"x.gt_frame = [1:2];\ny.gt_frame = {value}\nz.gt_frame = [3:4];\n"
    with pytest.raises(InputError, match="entry 2") as caught:
        ucsd.parse_ground_truth(text)
    assert "\n" not in str(caught.value)


def test_a_text_without_entries_gives_none():
    assert ucsd.parse_ground_truth("TestVideoFile = {};") == []


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300)), min_size=1, max_size=4),
        max_size=6,
    )
)
def test_what_is_written_is_read_back(drawn):
    entries = [[(first, first + more) for first, more in entry] for entry in drawn]
    text = "T = {};\n"
    for entry in entries:
        text += f"T{{end+1}}.gt_frame = [{', '.join(f'{a}:{b}' for a, b in entry)}];\n"
    assert ucsd.parse_ground_truth(text) == entries


# The index


def test_sequences_come_in_the_documented_order(tree):
    ids = [sequence.id for sequence in ucsd.index(tree.root)]
    assert ids == [
        "ped1/Test003",
        "ped1/Test005",
        "ped1/Test006",
        "ped2/Train001",
        "ped2/Train002",
        "ped2/Test001",
        "ped2/Test002",
    ]


def test_entry_k_belongs_to_test_k_though_sequences_are_absent(tree):
    found = by_id(tree)
    assert found["ped1/Test003"].anomalous.tolist() == [False, True, True, False, True, True]
    assert found["ped1/Test005"].anomalous.tolist() == [True, False, True, True, False, False]
    assert found["ped1/Test006"].anomalous.tolist() == [False] * 3 + [True] * 3


def test_train_sequences_are_normal_and_have_no_masks(tree):
    sequence = by_id(tree)["ped2/Train002"]
    assert (sequence.scene, sequence.kind, sequence.number) == ("ped2", "train", 2)
    assert sequence.n_frames == 8
    assert not sequence.anomalous.any()
    assert sequence.masks is None
    assert not sequence.official_mask


def test_official_and_extra_masks_are_told_apart(tree):
    found = by_id(tree)
    assert found["ped1/Test003"].official_mask
    assert not found["ped1/Test005"].official_mask
    assert found["ped1/Test005"].masks is not None
    assert not found["ped1/Test006"].official_mask
    assert found["ped2/Test001"].official_mask


def test_no_masks_does_not_mean_normal(tree):
    sequence = by_id(tree)["ped1/Test006"]
    assert sequence.masks is None
    assert sequence.anomalous.any()


def test_labels_cannot_be_changed_by_accident(tree):
    with pytest.raises(ValueError, match="read-only"):
        by_id(tree)["ped1/Test003"].anomalous[0] = True


def test_a_parent_folder_will_do(tree):
    assert len(ucsd.index(tree.root.parent)) == 7


def test_an_empty_sequence_folder_is_as_good_as_absent(tree):
    tree.folder("ped1", "test", 4).mkdir()
    assert "ped1/Test004" not in by_id(tree)


def test_a_missing_number_keeps_its_place(tree):
    (tree.folder("ped1", "test", 3) / "002.tif").unlink()
    sequence = by_id(tree)["ped1/Test003"]
    assert sequence.n_frames == 6
    assert sequence.frames[1] is None
    frames = ucsd.read_frames(sequence)
    assert frames[:, 0, 0].tolist() == [10, 10, 30, 40, 50, 60]


def test_a_tree_without_sequences_is_refused(writer):
    (writer.root / "UCSDped1" / "Test" / "Test001").mkdir(parents=True)
    writer.truth("ped1", "1:2")
    with pytest.raises(InputError, match="no sequence"):
        ucsd.index(writer.root)


def test_the_expected_list_is_named_when_missing(tree):
    (tree.root / "UCSDped2" / "Test" / "UCSDped2.m").unlink()
    with pytest.raises(InputError, match=r"UCSDped2\.m is missing"):
        ucsd.index(tree.root)


def test_train_alone_needs_no_list(writer):
    writer.sequence("ped2", "train", 1)
    assert [sequence.id for sequence in ucsd.index(writer.root)] == ["ped2/Train001"]


def test_a_range_beyond_the_sequence_is_refused(tree):
    tree.truth("ped2", "1:7", "")
    with pytest.raises(InputError, match=r"entry 1 names frames 1:7, but Test001 has 6 frames"):
        ucsd.index(tree.root)


def test_a_list_that_is_too_short_is_refused(tree):
    tree.truth("ped2", "1:6")
    with pytest.raises(InputError, match="1 entries, none for Test002"):
        ucsd.index(tree.root)


def test_a_malformed_list_is_named(tree):
    path = tree.truth("ped1", "6:1")
    with pytest.raises(InputError, match="entry 1") as caught:
        ucsd.index(tree.root)
    assert str(path) in str(caught.value)


def test_masks_must_match_frames_one_to_one(tree):
    (tree.root / "UCSDped1" / "Test" / "Test003_gt" / "006.bmp").unlink()
    with pytest.raises(InputError, match=r"Test003_gt holds 5 masks.*6 frames of Test003"):
        ucsd.index(tree.root)


def test_several_errors_are_counted_in_one_line(tree):
    tree.truth("ped1", "6:1")
    tree.truth("ped2", "1:7", "")
    with pytest.raises(InputError, match="1 more problems") as caught:
        ucsd.index(tree.root)
    assert "\n" not in str(caught.value)


# Frames


def test_frames_are_read_in_order(tree):
    frames = ucsd.read_frames(by_id(tree)["ped2/Train002"])
    assert frames.shape == (8, 12, 18)
    assert frames.dtype == np.uint8
    assert frames[:, 5, 5].tolist() == [10, 20, 30, 40, 50, 60, 70, 80]


def test_a_window_of_frames_is_read_and_resized(tree):
    frames = ucsd.read_frames(by_id(tree)["ped2/Train002"], start=3, n_frames=2, size=(6, 7))
    assert frames.shape == (2, 6, 7)
    assert frames[:, 0, 0].tolist() == [40, 50]


@pytest.mark.parametrize("mode", ["1", "RGB", "P"])
def test_frames_of_other_modes_are_read(tree, mode):
    path = tree.folder("ped2", "train", 1) / "004.tif"
    Image.fromarray(np.full((12, 18), 255, np.uint8)).convert(mode).save(path)
    assert ucsd.read_frames(by_id(tree)["ped2/Train001"])[3].min() == 255


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ([4], [10, 20, 30, 30, 50, 60]),
        ([1, 2], [30, 30, 30, 40, 50, 60]),
        ([5, 6], [10, 20, 30, 40, 40, 40]),
        ([2, 3, 4], [10, 10, 10, 50, 50, 60]),
    ],
)
def test_the_nearest_decodable_frame_stands_in(tree, broken, expected):
    for number in broken:
        (tree.folder("ped2", "train", 1) / f"{number:03d}.tif").write_bytes(b"broken")
    frames = ucsd.read_frames(by_id(tree)["ped2/Train001"])
    assert frames[:, 0, 0].tolist() == expected


def test_the_neighbour_may_lie_outside_the_window(tree):
    (tree.folder("ped2", "train", 1) / "004.tif").write_bytes(b"broken")
    frames = ucsd.read_frames(by_id(tree)["ped2/Train001"], start=3, n_frames=1)
    assert frames[0, 0, 0] == 30


def test_no_decodable_frame_is_an_input_error(tree):
    for path in tree.folder("ped2", "train", 1).iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="ped2/Train001: none of its 6 frames"):
        ucsd.read_frames(by_id(tree)["ped2/Train001"])


def test_frames_of_two_sizes_are_refused(tree):
    Image.new("L", (10, 12)).save(tree.folder("ped2", "train", 1) / "003.tif")
    with pytest.raises(InputError, match=r"003\.tif: 12x10 pixels.*12x18"):
        ucsd.read_frames(by_id(tree)["ped2/Train001"], size=(6, 9))


@pytest.mark.parametrize("window", [(0, 7), (6, 1), (-1, 2), (2, 0), (9, None)])
def test_frames_outside_the_sequence_are_refused(tree, window):
    start, n_frames = window
    with pytest.raises(InputError, match="ped2/Train001 has 6 frames"):
        ucsd.read_frames(by_id(tree)["ped2/Train001"], start=start, n_frames=n_frames)


@pytest.mark.parametrize("size", [(0, 5), (5,), (4, -1)])
def test_an_impossible_size_is_refused(tree, size):
    with pytest.raises(InputError, match="height, width"):
        ucsd.read_frames(by_id(tree)["ped2/Train001"], size=size)


# Masks


@pytest.mark.parametrize("name", ["ped1/Test003", "ped2/Test001"])
def test_masks_of_either_depth_and_name_are_read(tree, name):
    sequence = by_id(tree)[name]
    masks = ucsd.read_masks(sequence)
    assert masks.shape == (6, 12, 18)
    assert masks.dtype == bool
    np.testing.assert_array_equal(masks.any(axis=(1, 2)), sequence.anomalous)
    expected = np.zeros((12, 18), bool)
    expected[2:5, 6:10] = True
    np.testing.assert_array_equal(masks[5], expected)


def test_a_window_of_masks_is_read_and_resized(tree):
    masks = ucsd.read_masks(by_id(tree)["ped1/Test003"], start=1, n_frames=3, size=(24, 36))
    assert masks.shape == (3, 24, 36)
    assert masks.sum(axis=(1, 2)).tolist() == [48, 48, 0]


def test_presence_agrees_with_the_masks(tree):
    for sequence in ucsd.index(tree.root):
        if sequence.masks is not None:
            masks = ucsd.read_masks(sequence)
            np.testing.assert_array_equal(ucsd.mask_presence(sequence), masks.any(axis=(1, 2)))


def test_a_sequence_without_masks_says_so(tree):
    with pytest.raises(InputError, match="ped1/Test006 has no masks"):
        ucsd.read_masks(by_id(tree)["ped1/Test006"])


def test_a_mask_of_another_size_is_refused(tree):
    path = tree.root / "UCSDped1" / "Test" / "Test003_gt" / "002.bmp"
    Image.new("L", (17, 12)).save(path)
    with pytest.raises(InputError, match=r"002\.bmp: mask of 12x17 pixels.*12x18"):
        ucsd.read_masks(by_id(tree)["ped1/Test003"], size=(6, 9))


def test_a_broken_mask_is_refused_not_repeated(tree):
    path = tree.root / "UCSDped1" / "Test" / "Test003_gt" / "002.bmp"
    path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"002\.bmp cannot be decoded"):
        ucsd.read_masks(by_id(tree)["ped1/Test003"])


def test_masks_are_read_though_the_first_frame_is_broken(tree):
    (tree.folder("ped1", "test", 3) / "001.tif").write_bytes(b"broken")
    assert ucsd.read_masks(by_id(tree)["ped1/Test003"]).any()


# The fingerprint


def test_fingerprint_is_the_same_elsewhere_and_ignores_clutter(tree, tmp_path):
    before = ucsd.fingerprint(tree.root)
    assert len(before) == 64
    copy = tmp_path / "elsewhere" / "tree"
    shutil.copytree(tree.root, copy)
    (copy / "UCSDped1" / ".DS_Store").write_text("more clutter")
    assert ucsd.fingerprint(copy) == before


def test_fingerprint_notices_frames_masks_and_lists(tree):
    seen = {ucsd.fingerprint(tree.root)}
    tree.sequence("ped2", "train", 3)
    seen.add(ucsd.fingerprint(tree.root))
    (tree.folder("ped2", "train", 3) / "001.tif").write_bytes(b"another size")
    seen.add(ucsd.fingerprint(tree.root))
    tree.masks("ped1", 6, {4, 5, 6})
    seen.add(ucsd.fingerprint(tree.root))
    tree.truth("ped2", "1:5", "")
    seen.add(ucsd.fingerprint(tree.root))
    assert len(seen) == 5


def test_fingerprint_notices_an_edited_picture_of_the_same_size(tree):
    for folder, name in (("Test003", "001.tif"), ("Test003_gt", "002.bmp")):
        before = ucsd.fingerprint(tree.root)
        path = tree.root / "UCSDped1" / "Test" / folder / name
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
        assert ucsd.fingerprint(tree.root) != before


def test_fingerprint_does_not_mind_dates(tree):
    before = ucsd.fingerprint(tree.root)
    for file in tree.root.rglob("*.tif"):
        os.utime(file, (1, 1))
    assert ucsd.fingerprint(tree.root) == before


def test_fingerprint_does_without_a_list(writer):
    before = ucsd.fingerprint(writer.sequence("ped2", "train", 1).parents[2])
    writer.truth("ped2")
    assert ucsd.fingerprint(writer.root) != before
