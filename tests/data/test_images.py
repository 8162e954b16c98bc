import errno
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vad_helpers.data import images

GREY = np.random.default_rng(0).integers(0, 256, (12, 18), dtype=np.uint8)


@pytest.mark.parametrize("compression", [None, "packbits", "tiff_lzw"])
def test_lossless_tiff_is_read_back(tmp_path, compression):
    path = tmp_path / "1.tif"
    Image.fromarray(GREY).save(path, compression=compression)
    np.testing.assert_array_equal(images.decode(path), GREY)


def test_jpeg_in_tiff_is_read(tmp_path):
    path = tmp_path / "1.tif"
    smooth = np.tile(np.arange(0, 180, 10, dtype=np.uint8), (12, 1))
    Image.fromarray(smooth).save(path, compression="jpeg", quality=95)
    assert np.abs(np.asarray(images.decode(path), int) - smooth).max() < 10


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_every_mode_becomes_grey(tmp_path, mode):
    path = tmp_path / "1.tif"
    half = np.zeros((12, 18), np.uint8)
    half[:, 9:] = 255
    Image.fromarray(half).convert(mode).save(path)
    picture = images.decode(path)
    assert picture.mode == "L"
    np.testing.assert_array_equal(picture, half)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("content", [b"", b"not a picture", b"II*\x00\x08\x00\x00\x00"])
def test_what_is_no_picture_is_none(tmp_path, content):
    path = tmp_path / "1.tif"
    path.write_bytes(content)
    assert images.decode(path) is None
    assert images.native_size(path) is None


@pytest.mark.parametrize("suffix", ["bmp", "png"])
def test_truncated_picture_is_none_but_keeps_its_size(tmp_path, suffix):
    path = tmp_path / f"1.{suffix}"
    Image.fromarray(GREY).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    assert images.decode(path) is None
    assert images.native_size(path) == (12, 18)


def test_a_picture_of_absurd_size_is_none(tmp_path):
    path = tmp_path / "1.bmp"
    Image.fromarray(GREY).save(path)
    data = bytearray(path.read_bytes())
    data[18:26] = struct.pack("<ii", 60_000, 60_000)  # width and height
    path.write_bytes(data)
    assert images.decode(path) is None


def test_missing_file_is_an_error_of_the_disk(tmp_path):
    with pytest.raises(FileNotFoundError):
        images.decode(tmp_path / "absent.tif")


def test_a_failing_disk_is_not_taken_for_a_damaged_picture(tmp_path, monkeypatch):
    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(images.Image, "open", fail)
    with pytest.raises(OSError, match="Input/output"):
        images.decode(tmp_path / "1.tif")


def packbits_tiff(data, *, height=2, width=4, left_out=()):
    """Build a one-strip TIFF of 8-bit grey, compressed by PackBits."""
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 1, 8),
        (259, 3, 1, 32773),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    tags = [tag for tag in tags if tag[0] not in left_out]
    directory = struct.pack("<H", len(tags))
    for tag in tags:
        directory += struct.pack("<HHII", *tag)
    head = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    return head + data + directory + b"\0\0\0\0"


def test_complete_packbits_is_decoded(tmp_path):
    path = tmp_path / "1.tif"
    # Four literal bytes, a "no operation", the byte 9 four times.
    path.write_bytes(packbits_tiff(bytes([3, 1, 2, 3, 4, 128, 253, 9])))
    np.testing.assert_array_equal(images.decode(path), [[1, 2, 3, 4], [9, 9, 9, 9]])


def test_short_packbits_is_none_and_nothing_is_printed(tmp_path, capfd):
    path = tmp_path / "1.tif"
    path.write_bytes(packbits_tiff(bytes([3, 1, 2, 3, 4, 254, 9])))
    assert images.decode(path) is None
    assert capfd.readouterr().err == ""


def test_packbits_without_a_strip_table_is_none(tmp_path):
    path = tmp_path / "1.tif"
    path.write_bytes(packbits_tiff(bytes([3, 1, 2, 3, 4, 253, 9]), left_out=(273,)))
    assert images.decode(path) is None


@pytest.mark.parametrize(
    ("data", "length"),
    [(b"", 0), (b"\x80", 0), (b"\x02ab", 2), (b"\xff", 0), (b"\xffa", 2), (b"\x81a\x00b", 129)],
)
def test_length_of_packbits(data, length):
    assert images._packbits_length(data) == length


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), runs=st.booleans())
def test_no_valid_packbits_picture_is_called_short(tmp_path_factory, seed, runs):
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, (int(rng.integers(1, 40)), int(rng.integers(1, 40))), np.uint8)
    grey = grey // 128 * 255 if runs else grey
    path = tmp_path_factory.mktemp("packbits") / "1.tif"
    Image.fromarray(grey).save(path, compression="packbits")
    np.testing.assert_array_equal(images.decode(path), grey)


def test_resizing_takes_height_before_width():
    picture = Image.fromarray(GREY)
    assert images.to_array(picture, (6, 9)).shape == (6, 9)
    np.testing.assert_array_equal(images.to_array(picture, None), GREY)


def test_nearest_invents_no_level():
    half = np.zeros((12, 18), np.uint8)
    half[:, 7:] = 255
    picture = Image.fromarray(half)
    assert set(np.unique(images.to_array(picture, (5, 7), nearest=True))) == {0, 255}
    assert len(np.unique(images.to_array(picture, (5, 7)))) > 2
