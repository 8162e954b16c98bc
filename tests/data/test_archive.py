import errno
import functools
import hashlib
import http.server
import io
import tarfile
import threading
from multiprocessing import get_context

import pytest

from vad_helpers.data import archive as module
from vad_helpers.data import ucsd
from vad_helpers.errors import InputError

FRAME_NAME = f"{ucsd.ROOT_NAME}/UCSDped2/Train/Train001/001.tif"


@pytest.fixture
def packed(tree, tmp_path):
    """The small tree as a compressed archive, alone in its folder."""
    path = tmp_path / "archive" / "small.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tree.root, arcname=ucsd.ROOT_NAME)
    return path


@pytest.fixture
def dest(tmp_path):
    folder = tmp_path / "dest"
    folder.mkdir()
    return folder


def write_archive(path, *members, mode="w:gz"):
    """Write an archive with one frame and `members`: names, or TarInfo objects."""
    with tarfile.open(path, mode) as tar:
        for member in (FRAME_NAME, *members):
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            data = b"x" * 700 if info.isreg() else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def special(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_nothing_in(folder):
    assert [path.name for path in folder.iterdir()] == []


def one_line(caught):
    return "\n" not in str(caught.value)


def test_a_local_archive_becomes_the_tree(packed, dest, tree):
    root = ucsd.fetch(dest, archive=packed, sha256=digest(packed).upper(), progress=False)
    assert root == dest / ucsd.ROOT_NAME
    assert ucsd.fingerprint(root) == ucsd.fingerprint(tree.root)
    assert [path.name for path in dest.iterdir()] == [ucsd.ROOT_NAME]


def test_the_tree_is_open_to_whoever_may_read_the_folder(packed, dest):
    root = ucsd.extract(packed, dest, progress=False)
    assert root.stat().st_mode == dest.stat().st_mode


@pytest.mark.parametrize("given", ["archive", "sha256", "both", "neither"])
def test_a_tree_of_the_archive_asked_for_is_returned_at_once(packed, dest, monkeypatch, given):
    root = ucsd.fetch(dest, archive=packed, progress=False)
    (root / "mark").touch()
    monkeypatch.setattr(module, "_download", lambda *_: pytest.fail("downloaded"))
    options = {"archive": packed} if given in ("archive", "both") else {}
    options |= {"sha256": digest(packed)} if given in ("sha256", "both") else {}
    assert ucsd.fetch(dest, **options, progress=False) == root
    assert (root / "mark").exists()


def test_a_given_archive_is_looked_at_even_if_a_tree_is_there(packed, dest):
    ucsd.fetch(dest, archive=packed, progress=False)
    with pytest.raises(InputError, match="does not exist"):
        ucsd.fetch(dest, archive=packed.with_name("absent"), progress=False)
    with pytest.raises(InputError, match="expected 0000"):
        ucsd.fetch(dest, archive=packed, sha256="0" * 64, progress=False)


@pytest.mark.parametrize("given", ["archive", "sha256"])
def test_a_tree_of_another_archive_is_refused(packed, dest, tmp_path, given):
    ucsd.fetch(dest, archive=packed, progress=False)
    other = write_archive(tmp_path / "other.tar.gz")
    options = {"archive": other} if given == "archive" else {"sha256": digest(other)}
    with pytest.raises(InputError, match=f"{digest(packed)}, not .*{digest(other)}") as caught:
        ucsd.fetch(dest, **options, progress=False)
    assert one_line(caught) and "remove it" in str(caught.value)


def test_a_tree_unpacked_by_hand_will_do_unless_its_archive_matters(packed, dest):
    root = ucsd.fetch(dest, archive=packed, progress=False)
    (root / module.ORIGIN_NAME).unlink()
    assert ucsd.fetch(dest, progress=False) == root
    with pytest.raises(InputError, match="unknown archive"):
        ucsd.fetch(dest, archive=packed, progress=False)


def test_half_a_tree_that_was_unpacked_by_hand_is_refused_before_a_download(dest, monkeypatch):
    folder = dest / ucsd.ROOT_NAME / "UCSDped2" / "Test" / "Test001"
    folder.mkdir(parents=True)
    (folder / "001.tif").write_bytes(b"x")  # its list of anomalous frames is not there yet
    monkeypatch.setattr(module, "_download", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(InputError, match="no whole tree.*UCSDped2.m is missing") as caught:
        ucsd.fetch(dest, progress=False)
    assert one_line(caught)


def test_the_note_of_the_archive_is_no_stray_file(packed, dest):
    report = ucsd.check(ucsd.fetch(dest, archive=packed, progress=False))
    assert report.stray == ()


def test_folders_are_made(packed, tmp_path):
    root = ucsd.fetch(tmp_path / "a" / "b", archive=str(packed), progress=False)
    assert ucsd.index(root)


@pytest.mark.parametrize("prefix", ["", "./", "other/", "./other/"])
def test_the_tree_gets_its_name_whatever_the_archive_calls_it(tmp_path, dest, tree, prefix):
    path = tmp_path / "other.tar"
    with tarfile.open(path, "w") as tar:
        for scene in ("UCSDped1", "UCSDped2"):
            tar.add(tree.root / scene, arcname=f"{prefix}{scene}")
    root = ucsd.extract(path, dest, progress=False)
    assert root == dest / ucsd.ROOT_NAME
    assert len(ucsd.index(root)) == 7


def test_bars_are_shown_only_if_asked(packed, tmp_path, capsys):
    ucsd.fetch(tmp_path / "silent", archive=packed, progress=False)
    assert capsys.readouterr().err == ""
    ucsd.fetch(tmp_path / "loud", archive=packed, progress=True)
    assert "extracting" in capsys.readouterr().err


def test_a_wrong_checksum_is_refused(packed, dest):
    with pytest.raises(InputError, match="expected 0000") as caught:
        ucsd.fetch(dest, archive=packed, sha256="0" * 64, progress=False)
    assert one_line(caught)
    assert_nothing_in(dest)


def test_what_is_no_checksum_is_refused(packed, dest):
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        ucsd.fetch(dest, archive=packed, sha256="abc", progress=False)


@pytest.mark.parametrize("use", [ucsd.extract, lambda a, d: ucsd.fetch(d, archive=a)])
def test_a_missing_archive_is_refused(tmp_path, use):
    with pytest.raises(InputError, match="does not exist"):
        use(tmp_path / "absent.tar.gz", tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


@pytest.mark.parametrize("kept", [0, 20, 0.3, 0.9, -1, -5])
def test_a_truncated_compressed_archive_is_refused(packed, dest, kept):
    data = packed.read_bytes()
    packed.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
    with pytest.raises(InputError, match="cannot be read") as caught:
        ucsd.fetch(dest, archive=packed, progress=False)
    assert one_line(caught)
    assert_nothing_in(dest)


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 4, 5])
def test_a_truncated_plain_archive_is_refused(tmp_path, dest, n_blocks):
    # Header and two blocks of data a file: cut inside either, and exactly between two files.
    path = write_archive(tmp_path / "a.tar", "another", mode="w")
    path.write_bytes(path.read_bytes()[: 512 * n_blocks])
    with pytest.raises(InputError, match="cannot be read"):
        ucsd.extract(path, dest, progress=False)
    assert_nothing_in(dest)


def test_a_damaged_header_does_not_pass_for_the_end(tmp_path, dest):
    path = write_archive(tmp_path / "a.tar", "another", mode="w")
    data = bytearray(path.read_bytes())
    data[3 * 512 + 150] ^= 0xFF  # in the second header's checksum
    path.write_bytes(data)
    with pytest.raises(InputError, match="header is unreadable"):
        ucsd.extract(path, dest, progress=False)
    assert_nothing_in(dest)


def test_a_flipped_bit_is_refused(packed, dest):
    data = bytearray(packed.read_bytes())
    data[-6] ^= 1  # in gzip's own checksum: all members can be read
    packed.write_bytes(data)
    with pytest.raises(InputError, match="cannot be read"):
        ucsd.extract(packed, dest, progress=False)
    assert_nothing_in(dest)


def test_what_is_no_archive_is_refused(tmp_path, dest):
    path = tmp_path / "a.tar.gz"
    path.write_text("<html>moved</html>")
    with pytest.raises(InputError, match="no tar archive"):
        ucsd.extract(path, dest, progress=False)
    assert_nothing_in(dest)


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        ("../evil", "leads out"),
        (f"{ucsd.ROOT_NAME}/../../evil", "leads out"),
        ("..\\evil", "leads out"),
        ("/evil", "absolute path"),
        ("\\evil", "absolute path"),
        ("C:/evil", "absolute path"),
        (special("link", tarfile.SYMTYPE, "/etc/passwd"), "is a link"),
        (special("link", tarfile.SYMTYPE, FRAME_NAME), "is a link"),
        (special("link", tarfile.LNKTYPE, FRAME_NAME), "is a link"),
        (special("device", tarfile.CHRTYPE), "neither a file nor a folder"),
        (special("pipe", tarfile.FIFOTYPE), "neither a file nor a folder"),
    ],
)
def test_an_unsafe_member_is_refused_before_anything_is_written(
    tmp_path, dest, monkeypatch, member, reason
):
    path = write_archive(tmp_path / "a.tar.gz", member)
    monkeypatch.setattr(module, "_write", lambda *_: pytest.fail("something was written"))
    with pytest.raises(InputError, match=reason) as caught:
        ucsd.fetch(dest, archive=path, progress=False)
    assert one_line(caught)
    assert_nothing_in(dest)
    assert not (tmp_path / "evil").exists()


def test_an_archive_without_sequences_is_refused(tmp_path, dest):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("UCSDped1/README.txt"))
    with pytest.raises(InputError, match="holds no frame"):
        ucsd.extract(path, dest, progress=False)
    assert_nothing_in(dest)


def fail_at(monkeypatch, error, n_files=5):
    """Let the extraction fail when it has written some files."""
    calls = []
    plain = tarfile.TarFile.makefile

    def makefile(self, *args):
        calls.append(args)
        if len(calls) > n_files:
            raise error
        return plain(self, *args)

    monkeypatch.setattr(tarfile.TarFile, "makefile", makefile)


def test_a_full_disk_is_an_oserror_and_leaves_nothing(packed, dest, monkeypatch):
    fail_at(monkeypatch, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(OSError, match="No space left") as caught:
        ucsd.fetch(dest, archive=packed, progress=False)
    assert caught.value.errno == errno.ENOSPC
    assert_nothing_in(dest)


def test_an_interruption_leaves_no_tree(packed, dest, monkeypatch):
    fail_at(monkeypatch, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        ucsd.fetch(dest, archive=packed, progress=False)
    assert_nothing_in(dest)


def test_what_a_killed_extraction_left_is_no_tree_and_is_removed(packed, dest):
    left = dest / f".{ucsd.ROOT_NAME}.partial-abc" / "tree" / ucsd.ROOT_NAME
    (left / "UCSDped2" / "Train" / "Train001").mkdir(parents=True)
    with pytest.raises(InputError):
        ucsd.index(dest)
    root = ucsd.fetch(dest, archive=packed, progress=False)
    assert len(ucsd.index(root)) == 7
    assert [path.name for path in dest.iterdir()] == [ucsd.ROOT_NAME]


def test_something_else_under_the_name_is_not_overwritten(packed, dest):
    (dest / ucsd.ROOT_NAME).mkdir()
    (dest / ucsd.ROOT_NAME / "mine").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        ucsd.fetch(dest, archive=packed, progress=False)
    assert (dest / ucsd.ROOT_NAME / "mine").read_text() == "precious"


def test_an_empty_folder_under_the_name_is_taken(packed, dest):
    (dest / ucsd.ROOT_NAME).mkdir()
    assert ucsd.index(ucsd.fetch(dest, archive=packed, progress=False))


def test_a_file_is_no_destination(packed, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file"):
        ucsd.fetch(tmp_path / "file", archive=packed, progress=False)


def test_two_processes_get_one_tree(packed, dest):
    with get_context("spawn").Pool(2) as pool:
        fetch = functools.partial(ucsd.fetch, archive=packed, progress=False)
        roots = pool.map(fetch, [dest] * 2, chunksize=1)
    assert roots == [dest / ucsd.ROOT_NAME] * 2
    assert len(ucsd.index(dest)) == 7
    assert [path.name for path in dest.iterdir()] == [ucsd.ROOT_NAME]


def test_the_tree_another_process_made_meanwhile_is_taken(packed, dest, monkeypatch):
    plain = module._check_file

    def slowly(*args):
        monkeypatch.setattr(module, "_check_file", plain)
        ucsd.extract(packed, dest, progress=False)
        return plain(*args)

    monkeypatch.setattr(module, "_check_file", slowly)
    monkeypatch.setattr(module, "_download", lambda *_: pytest.fail("downloaded"))
    assert ucsd.fetch(dest, archive=packed, progress=False) == dest / ucsd.ROOT_NAME


# The download


@pytest.fixture
def server(packed, monkeypatch):
    """Serve the small archive on this machine in place of the official one."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=packed.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(module, "URL", f"http://127.0.0.1:{running.server_port}/{packed.name}")
        monkeypatch.setattr(module, "SHA256", digest(packed))
        yield
        running.shutdown()
        thread.join()


@pytest.mark.usefixtures("server")
def test_without_archive_the_official_one_is_downloaded_and_kept(dest, packed):
    root = ucsd.fetch(dest, progress=False)
    assert len(ucsd.index(root)) == 7
    assert sorted(path.name for path in dest.iterdir()) == [ucsd.ROOT_NAME, packed.name]


@pytest.mark.usefixtures("server")
def test_a_download_with_a_wrong_checksum_is_refused_and_removed(dest, monkeypatch):
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(InputError, match="has not the sha256") as caught:
        ucsd.fetch(dest, progress=False)
    assert one_line(caught)
    assert_nothing_in(dest)


@pytest.mark.usefixtures("server")
def test_a_failed_download_says_what_to_do_instead(dest, packed):
    packed.unlink()
    with pytest.raises(ConnectionError, match="give the file as archive") as caught:
        ucsd.fetch(dest, progress=False)
    assert one_line(caught)
    assert_nothing_in(dest)


def test_a_full_disk_during_the_download_is_not_called_a_network_error(dest, monkeypatch):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.pooch, "retrieve", fail)
    with pytest.raises(OSError, match="No space left") as caught:
        ucsd.fetch(dest, progress=False)
    assert not isinstance(caught.value, ConnectionError)
    assert_nothing_in(dest)


def test_the_official_archive_is_the_documented_one():
    assert ucsd.URL.endswith("UCSD_Anomaly_Dataset.tar.gz")
    assert ucsd.SHA256 == "2329af326951f5097fdd114c50e853957d3e569493a49d22fc082a9fd791915b"
