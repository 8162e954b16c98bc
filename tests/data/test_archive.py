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
    """The small tree as a compressed archive, alone in its folder, under a name of its own."""
    path = tmp_path / "archive" / "small.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tree.root, arcname="./other")
    return path


@pytest.fixture
def dest(tmp_path):
    (tmp_path / "dest").mkdir()
    return tmp_path / "dest"


def write_archive(path, *members, mode="w:gz"):
    """Write an archive with one frame and `members`: names, or TarInfo objects."""
    with tarfile.open(path, mode) as tar:
        for member in (FRAME_NAME, *members):
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            data = b"x" * 700 if info.isreg() else b""
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def special(kind, target):
    info = tarfile.TarInfo("special")
    info.type, info.linkname = kind, target
    return info


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def refused(path, dest, match):
    with pytest.raises(InputError, match=match) as caught:
        fetch(dest, archive=path)
    assert "\n" not in str(caught.value)
    assert names_in(dest) == []


def test_a_local_archive_of_the_right_checksum_becomes_the_tree(packed, dest, tree):
    for sha256, match in (("0" * 64, "expected 0000"), ("abc", "64 hex digits")):
        with pytest.raises(InputError, match=match):
            fetch(dest / "a", archive=packed, sha256=sha256)
    assert names_in(dest) == []
    root = fetch(dest / "a" / "b", archive=str(packed), sha256=digest(packed).upper())
    assert root == dest / "a" / "b" / ucsd.ROOT_NAME
    assert ucsd.fingerprint(root) == ucsd.fingerprint(tree.root)
    assert names_in(root.parent) == [ucsd.ROOT_NAME]
    assert root.stat().st_mode == dest.stat().st_mode  # open to whoever may read the folder
    assert ucsd.check(root).stray == ()  # nor is the note of its origin


@pytest.mark.parametrize("given", [["archive"], ["sha256"], ["archive", "sha256"], []])
def test_a_tree_of_the_archive_asked_for_is_returned_and_another_refused(
    packed, dest, tmp_path, given
):
    root = fetch(dest, archive=packed)
    dest.chmod(0o555)  # no lock is needed
    own = {"archive": packed, "sha256": digest(packed)}
    assert fetch(dest, **{name: own[name] for name in given}) == root
    dest.chmod(0o755)
    path = write_archive(tmp_path / "other.tar.gz")
    other = {"archive": path, "sha256": digest(path)}
    if given:
        with pytest.raises(InputError, match=f"{digest(packed)}, not .*{digest(path)}"):
            fetch(dest, **{name: other[name] for name in given})


def test_a_tree_unpacked_by_hand_will_do_if_it_is_whole(packed, dest):
    root = fetch(dest, archive=packed)
    (root / module.ORIGIN_NAME).unlink()
    assert fetch(dest) == root
    with pytest.raises(InputError, match="unknown archive"):
        fetch(dest, archive=packed)
    (root / "UCSDped2" / "Test" / "UCSDped2.m").unlink()
    with pytest.raises(InputError, match="no whole tree.*UCSDped2.m is missing"):
        fetch(dest)


# Header and two blocks of data a file: cut inside either, and exactly between two files.
@pytest.mark.parametrize(
    ("mode", "kept"),
    [*(("w", 512 * n) for n in range(1, 6)), *(("w:gz", kept) for kept in (0, 20, -60, -5, -1))],
)
def test_a_truncated_archive_is_refused(tmp_path, dest, mode, kept):
    path = write_archive(tmp_path / "a.tar", "another", mode=mode)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path, dest, "cannot be read")


def test_a_damaged_archive_does_not_pass_for_a_shorter_one(tmp_path, packed, dest):
    path = write_archive(tmp_path / "a.tar", "another", mode="w")
    # In the second header's checksum; in gzip's own checksum, when all members can be read.
    for file, at, match in ((path, 3 * 512 + 150, "header is"), (packed, -6, "cannot be read")):
        data = bytearray(file.read_bytes())
        data[at] ^= 0xFF
        file.write_bytes(data)
        refused(file, dest, match)
    path.write_text("<html>moved</html>")
    refused(path, dest, "no tar archive")
    with tarfile.open(path, "w") as tar:
        tar.addfile(tarfile.TarInfo("UCSDped1/README.txt"))
    refused(path, dest, "holds no frame")


@pytest.mark.parametrize(
    "member",
    [
        *("../evil", f"{ucsd.ROOT_NAME}/../../evil"),
        *(special(tarfile.SYMTYPE, target) for target in ("/etc/passwd", FRAME_NAME)),
        *(special(kind, FRAME_NAME) for kind in (tarfile.LNKTYPE, tarfile.CHRTYPE)),
    ],
)
def test_an_unsafe_member_is_refused(tmp_path, dest, member):
    refused(write_archive(tmp_path / "a.tar.gz", member), dest, "a member is unsafe")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
def test_a_full_disk_or_an_interruption_leaves_nothing(packed, dest, monkeypatch, error):
    plain = tarfile.TarFile.makefile

    def makefile(self, member, path):
        if member.name.endswith("006.tif"):
            raise error
        return plain(self, member, path)

    monkeypatch.setattr(tarfile.TarFile, "makefile", makefile)
    with pytest.raises(type(error)) as caught:
        fetch(dest, archive=packed)
    assert caught.value is error and names_in(dest) == []


def test_what_a_killed_extraction_left_is_removed_and_what_is_mine_is_kept(packed, dest):
    left = dest / f".{ucsd.ROOT_NAME}.partial-abc" / "tree" / ucsd.ROOT_NAME
    (left / "UCSDped2" / "Train" / "Train001").mkdir(parents=True)
    with pytest.raises(InputError):
        ucsd.index(dest)
    (dest / ucsd.ROOT_NAME).mkdir()
    mine = dest / ucsd.ROOT_NAME / "mine"
    mine.write_text("precious")
    for folder, match in ((dest, "exists already"), (mine, "is a file")):
        with pytest.raises(InputError, match=match):
            fetch(folder, archive=packed)
    assert mine.read_text() == "precious"
    mine.unlink()  # an empty folder is taken
    assert len(ucsd.index(fetch(dest, archive=packed))) == 7
    assert names_in(dest) == [ucsd.ROOT_NAME]


def test_two_processes_get_one_tree(packed, dest):
    with get_context("spawn").Pool(2) as pool:
        roots = pool.map(functools.partial(fetch, archive=packed), [dest] * 2, chunksize=1)
    assert roots == [dest / ucsd.ROOT_NAME] * 2
    assert len(ucsd.index(dest)) == 7 and names_in(dest) == [ucsd.ROOT_NAME]


def test_the_official_archive_is_downloaded_and_kept_if_it_is_right(dest, packed, monkeypatch):
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=packed.parent)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.setenv(name, "127.0.0.1")
        monkeypatch.setattr(module, "URL", f"http://127.0.0.1:{server.server_port}/{packed.name}")
        with pytest.raises(InputError, match="has not the sha256"):
            fetch(dest)
        assert names_in(dest) == []
        monkeypatch.setattr(module, "SHA256", digest(packed))
        assert len(ucsd.index(fetch(dest))) == 7
        assert names_in(dest) == [ucsd.ROOT_NAME, packed.name]
        packed.unlink()
        with pytest.raises(ConnectionError, match="^[^\n]*give the file as archive$"):
            fetch(dest / "other")
        assert names_in(dest / "other") == []
        server.shutdown()
