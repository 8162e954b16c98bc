import pytest

from vad_helpers.data import layout
from vad_helpers.errors import InputError


def test_root_is_found_from_itself_its_parent_and_under_another_name(tree, tmp_path):
    assert layout.find_root(tree.root) == tree.root
    assert layout.find_root(tmp_path) == tree.root
    renamed = tree.root.rename(tmp_path / "v1p1")
    assert layout.find_root(str(tmp_path)) == renamed


def test_the_official_name_wins_over_other_trees(tree, tmp_path):
    (tmp_path / "copy" / "UCSDped2").mkdir(parents=True)
    assert layout.find_root(tmp_path) == tree.root


def test_root_is_not_guessed_among_several(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name / "UCSDped2").mkdir(parents=True)
    with pytest.raises(InputError, match=r"several UCSD trees \(one, two\)"):
        layout.find_root(tmp_path)


@pytest.mark.parametrize("name", ["absent", "empty"])
def test_no_root_is_an_input_error(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=name):
        layout.find_root(tmp_path / name)


def test_files_are_sorted_as_numbers(tmp_path):
    for name in ("10.tif", "9.tif", "frame011.TIFF", "20130227.tif", "x1.tif", "12.txt"):
        (tmp_path / name).touch()
    found = layout.numbered(tmp_path, layout.FRAME)
    assert list(found) == [9, 10, 11]
    assert found[11].name == "frame011.TIFF"


def test_two_files_of_one_number_are_refused(tmp_path):
    for name in ("1.tif", "001.tif"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"001\.tif and 1\.tif share one number"):
        layout.numbered(tmp_path, layout.FRAME)


def test_counting_from_zero_is_refused(tmp_path):
    (tmp_path / "000.tif").touch()
    with pytest.raises(InputError, match="start at 1"):
        layout.numbered(tmp_path, layout.FRAME)


def test_only_numbered_folders_are_sequences(tmp_path):
    side = tmp_path / "UCSDped1" / "Test"
    for name in ("Test010", "Test002", "Test002_gt", "Test3", "Train001"):
        (side / name).mkdir(parents=True)
    (side / "Test004").touch()
    assert list(layout.sequence_folders(tmp_path, "ped1", "test")) == [2, 10]
    assert layout.sequence_folders(tmp_path, "ped1", "train") == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("._001.tif", True), (".DS_Store", True), ("UCSDped1.m~", True), ("001.tif", False)],
)
def test_clutter_is_known_by_name(name, expected):
    assert layout.is_clutter(name) is expected


def test_ten_sequences_of_ped1_and_all_of_ped2_have_official_masks():
    assert sum(layout.official_masks("ped1", n) for n in range(1, 37)) == 10
    assert all(layout.official_masks("ped2", n) for n in range(1, 13))
