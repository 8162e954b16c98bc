import contextlib
import errno

import pytest

from vad_helpers.files import atomic_folder, atomic_write


def test_content_appears_under_its_name_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with atomic_write(path) as temporary:
        temporary.write_text("a,b")
        assert not path.exists()
        assert temporary.parent == path.parent
        assert temporary.suffix == ".csv"
    assert path.read_text() == "a,b"
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path, error):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(type(error)), atomic_write(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["table.csv"]


def test_files_are_readable_by_others_as_the_umask_says(tmp_path):
    with atomic_write(tmp_path / "shared") as temporary:
        temporary.write_text("x")
    plain = tmp_path / "plain"
    plain.write_text("x")
    assert (tmp_path / "shared").stat().st_mode == plain.stat().st_mode


def test_a_folder_appears_whole_beside_nothing_and_never_over_another(tmp_path):
    path = tmp_path / "new" / "tree"
    for content in ("first", "second"):
        with pytest.raises(OSError) if content == "second" else contextlib.nullcontext():
            with atomic_folder(path) as made:
                (made / content).write_text("x")
        assert [p.name for p in path.iterdir()] == ["first"]
    with pytest.raises(KeyboardInterrupt), atomic_folder(tmp_path / "other"):
        raise KeyboardInterrupt
    assert [p.name for p in path.parent.iterdir()] == ["tree"]
    assert [p.name for p in tmp_path.iterdir()] == ["new"]
    (tmp_path / "plain").mkdir()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode
