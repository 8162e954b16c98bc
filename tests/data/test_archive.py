"""The archive becomes a whole tree or nothing, whatever is wrong with it."""

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
fetch = functools.partial(module.fetch, progress=False)


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


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_local_archive_becomes_the_tree(packed, dest, tree):
    root = fetch(dest / "a" / "b", archive=str(packed), sha256=digest(packed).upper())
    assert root == dest / "a" / "b" / ucsd.ROOT_NAME
    assert ucsd.fingerprint(root) == ucsd.fingerprint(tree.root)
    assert names_in(root.parent) == [ucsd.ROOT_NAME]
    assert root.stat().st_mode == dest.stat().st_mode  # open to whoever may read the folder
    assert ucsd.check(root).stray == ()  # nor is the note of its origin


@pytest.mark.parametrize("given", ["archive", "sha256", "both", "neither"])
def test_a_tree_of_the_archive_asked_for_is_returned_at_once(packed, dest, given):
    root = fetch(dest, archive=packed)
    (root / "mark").touch()
    options = {"archive": packed} if given in ("archive", "both") else {}
    options |= {"sha256": digest(packed)} if given in ("sha256", "both") else {}
    dest.chmod(0o555)  # no lock is needed
    assert fetch(dest, **options) == root
    dest.chmod(0o755)
    assert (root / "mark").exists()


@pytest.mark.parametrize("given", ["archive", "sha256"])
def test_a_tree_of_another_archive_is_refused(packed, dest, tmp_path, given):
    fetch(dest, archive=packed)
    other = write_archive(tmp_path / "other.tar.gz")
    options = {"archive": other} if given == "archive" else {"sha256": digest(other)}
    with pytest.raises(InputError, match=f"{digest(packed)}, not .*{digest(other)}"):
        fetch(dest, **options)


def test_a_tree_unpacked_by_hand_will_do_if_it_is_whole_and_its_archive_does_not_matter(
    packed, dest
):
    root = fetch(dest, archive=packed)
    (root / module.ORIGIN_NAME).unlink()
    assert fetch(dest) == root
    with pytest.raises(InputError, match="unknown archive"):
        fetch(dest, archive=packed)
    (root / "UCSDped2" / "Test" / "UCSDped2.m").unlink()
    with pytest.raises(InputError, match="no whole tree.*UCSDped2.m is missing"):
        fetch(dest)


@pytest.mark.parametrize("prefix", ["", "./", "other/", "./other/"])
def test_the_tree_gets_its_name_whatever_the_archive_calls_it(tmp_path, dest, tree, prefix):
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        for scene in ("UCSDped1", "UCSDped2"):
            tar.add(tree.root / scene, arcname=f"{prefix}{scene}")
    root = fetch(dest, archive=tmp_path / "other.tar")
    assert root == dest / ucsd.ROOT_NAME
    assert len(ucsd.index(root)) == 7


@pytest.mark.parametrize(
    ("sha256", "match"), [("0" * 64, "expected 0000"), ("abc", "64 hex digits")]
)
def test_a_wrong_checksum_is_refused(packed, tmp_path, sha256, match):
    with pytest.raises(InputError, match=match):
        fetch(tmp_path / "new", archive=packed, sha256=sha256)
    assert not (tmp_path / "new").exists()


# Header and two blocks of data a file: cut inside either, and exactly between two files.
@pytest.mark.parametrize(
    ("mode", "kept"),
    [*(("w", 512 * n) for n in range(1, 6)), *(("w:gz", kept) for kept in (0, 20, -60, -5, -1))],
)
def test_a_truncated_archive_is_refused(tmp_path, dest, mode, kept):
    path = write_archive(tmp_path / "a.tar", "another", mode=mode)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(InputError, match="cannot be read") as caught:
        fetch(dest, archive=path)
    assert "\n" not in str(caught.value)
    assert names_in(dest) == []


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 0xFF
    path.write_bytes(data)


def test_a_damaged_archive_does_not_pass_for_a_shorter_one(tmp_path, packed, dest):
    path = write_archive(tmp_path / "a.tar", "another", mode="w")
    flip(path, 3 * 512 + 150)  # in the second header's checksum
    with pytest.raises(InputError, match="header is unreadable"):
        fetch(dest, archive=path)
    flip(packed, -6)  # in gzip's own checksum: all members can be read
    with pytest.raises(InputError, match="cannot be read"):
        fetch(dest, archive=packed)
    path.write_text("<html>moved</html>")
    with pytest.raises(InputError, match="no tar archive"):
        fetch(dest, archive=path)
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("UCSDped1/README.txt"))
    with pytest.raises(InputError, match="holds no frame"):
        fetch(dest, archive=path)
    assert names_in(dest) == []


@pytest.mark.parametrize(
    "member",
    [
        "../evil",
        f"{ucsd.ROOT_NAME}/../../evil",
        special("link", tarfile.SYMTYPE, "/etc/passwd"),
        special("link", tarfile.SYMTYPE, FRAME_NAME),
        special("link", tarfile.LNKTYPE, FRAME_NAME),
        special("device", tarfile.CHRTYPE),
        special("pipe", tarfile.FIFOTYPE),
    ],
)
def test_an_unsafe_member_is_refused(tmp_path, dest, member):
    path = write_archive(tmp_path / "a.tar.gz", member)
    with pytest.raises(InputError, match="a member is unsafe") as caught:
        fetch(dest, archive=path)
    assert "\n" not in str(caught.value)
    assert names_in(dest) == []
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("member", ["/evil", "\\evil", "..\\evil", "C:/evil"])
def test_an_absolute_member_stays_out_of_tree_and_disk(tmp_path, dest, member):
    root = fetch(dest, archive=write_archive(tmp_path / "a.tar", member, mode="w"))
    assert names_in(dest) == [ucsd.ROOT_NAME]
    assert names_in(root) == [module.ORIGIN_NAME, "UCSDped2"]
    assert not list(tmp_path.rglob("*evil"))


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_full_disk_or_an_interruption_leaves_nothing(packed, dest, monkeypatch, error):
    calls = []
    plain = tarfile.TarFile.makefile

    def makefile(self, *args):
        calls.append(args)
        if len(calls) > 5:
            raise error
        return plain(self, *args)

    monkeypatch.setattr(tarfile.TarFile, "makefile", makefile)
    with pytest.raises(type(error)) as caught:
        fetch(dest, archive=packed)
    assert caught.value is error
    assert names_in(dest) == []


def test_what_a_killed_extraction_left_is_no_tree_and_is_removed(packed, dest):
    left = dest / f".{ucsd.ROOT_NAME}.partial-abc" / "tree" / ucsd.ROOT_NAME
    (left / "UCSDped2" / "Train" / "Train001").mkdir(parents=True)
    with pytest.raises(InputError):
        ucsd.index(dest)
    (dest / ucsd.ROOT_NAME).mkdir()  # an empty folder is taken
    assert len(ucsd.index(fetch(dest, archive=packed))) == 7
    assert names_in(dest) == [ucsd.ROOT_NAME]


def test_something_else_under_the_name_is_not_overwritten(packed, dest):
    (dest / ucsd.ROOT_NAME).mkdir()
    (dest / ucsd.ROOT_NAME / "mine").write_text("precious")
    with pytest.raises(InputError, match="exists already"):
        fetch(dest, archive=packed)
    assert (dest / ucsd.ROOT_NAME / "mine").read_text() == "precious"
    with pytest.raises(InputError, match="is a file"):
        fetch(dest / ucsd.ROOT_NAME / "mine", archive=packed)


def test_two_processes_get_one_tree(packed, dest):
    with get_context("spawn").Pool(2) as pool:
        roots = pool.map(functools.partial(fetch, archive=packed), [dest] * 2, chunksize=1)
    assert roots == [dest / ucsd.ROOT_NAME] * 2
    assert len(ucsd.index(dest)) == 7
    assert names_in(dest) == [ucsd.ROOT_NAME]


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
    assert len(ucsd.index(fetch(dest))) == 7
    assert names_in(dest) == [ucsd.ROOT_NAME, packed.name]


@pytest.mark.usefixtures("server")
def test_a_download_that_is_wrong_or_fails_leaves_nothing(dest, packed, monkeypatch):
    monkeypatch.setattr(module, "SHA256", "0" * 64)
    with pytest.raises(InputError, match="has not the sha256") as caught:
        fetch(dest)
    assert "\n" not in str(caught.value)
    packed.unlink()
    with pytest.raises(ConnectionError, match="give the file as archive") as caught:
        fetch(dest)
    assert "\n" not in str(caught.value)
    assert names_in(dest) == []
