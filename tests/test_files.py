import errno
import os

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


def test_a_changed_folder_appears_whole(tmp_path):
    path = tmp_path / "new" / "results"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("1")
        assert not path.exists()
    with atomic_folder(path) as folder:
        assert (folder / "a").read_text() == "1"
        (folder / "a").unlink()
        (folder / "b").write_text("2")
        assert (path / "a").exists()
    assert [p.name for p in path.iterdir()] == ["b"]
    assert [p.name for p in path.parent.iterdir()] == ["results"]


def test_a_failing_change_leaves_the_folder_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "results"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("1")
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as folder:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt
    replace, calls = os.replace, []

    def refuse_the_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError(errno.EACCES, "refused")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse_the_second)
    with pytest.raises(OSError, match="refused"), atomic_folder(path) as folder:
        (folder / "a").write_text("new")
    assert (path / "a").read_text() == "1" and len(calls) == 3
    calls[:] = ["the first"]
    with pytest.raises(OSError, match="refused"), atomic_folder(tmp_path / "fresh"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["results"]


def test_an_interrupt_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "results"
    with atomic_folder(path) as folder:
        (folder / "a").write_text("1")
    replace, calls = os.replace, []

    def interrupted(source, target):
        replace(source, target)
        calls.append(target)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_folder(path) as folder:
        (folder / "a").write_text("new")
    assert (path / "a").read_text() == "1"
    assert [p.name for p in tmp_path.iterdir()] == ["results"]
