"""One picture of any format, and the frames and masks of a sequence."""

import errno
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vad_helpers.data import frames, ucsd
from vad_helpers.errors import InputError

GREY = np.random.default_rng(0).integers(0, 256, (12, 18), dtype=np.uint8)
HALF = np.where(np.arange(18) < 9, 0, 255).astype(np.uint8) * np.ones((12, 1), np.uint8)


def picture(array, mode="L"):
    return Image.fromarray(array).convert("RGB").convert(mode)


def palette(array):
    """A picture whose palette turns the levels round: index 0 is white."""
    image = Image.fromarray(255 - array)
    image.putpalette([level for level in range(255, -1, -1) for _ in range(3)])
    return image


# One picture


@pytest.mark.parametrize("compression", [None, "packbits", "tiff_lzw"])
def test_lossless_tiff_is_read_back(tmp_path, compression):
    Image.fromarray(GREY).save(tmp_path / "1.tif", compression=compression)
    np.testing.assert_array_equal(frames.decode(tmp_path / "1.tif"), GREY)


def test_jpeg_in_tiff_is_read(tmp_path):
    smooth = np.tile(np.arange(0, 180, 10, dtype=np.uint8), (12, 1))
    Image.fromarray(smooth).save(tmp_path / "1.tif", compression="jpeg", quality=95)
    assert np.abs(np.asarray(frames.decode(tmp_path / "1.tif"), int) - smooth).max() < 10


SCALED = {
    "1 bit": (Image.fromarray(GREY > 99), np.where(GREY > 99, 255, 0)),
    "palette": (palette(GREY), GREY),
    "opaque": (picture(GREY, "RGBA"), GREY),
    "opaque grey": (picture(GREY, "LA"), GREY),
    "colour": (picture(GREY, "RGB"), GREY),
    "CMYK": (picture(GREY, "CMYK"), GREY),
    "16 bit": (Image.fromarray(GREY.astype(np.uint16) * 257), GREY),
    "16 bit, big endian": (Image.fromarray(GREY.astype(">u2") * 257), GREY),
    "16 bit, rounded": (Image.fromarray(np.array([[128, 129, 65535]], np.uint16)), [[0, 1, 255]]),
    "black in 16 bit": (Image.fromarray(np.zeros((2, 3), np.uint16)), np.zeros((2, 3))),
    "float": (Image.fromarray(GREY.astype(np.float32) / 255), GREY),
    "black in float": (Image.fromarray(np.zeros((2, 3), np.float32)), np.zeros((2, 3))),
}


@pytest.mark.parametrize("name", SCALED)
def test_every_format_of_known_range_becomes_grey_from_0_to_255(tmp_path, name):
    image, expected = SCALED[name]
    image.save(tmp_path / "1.tif")
    found = frames.decode(tmp_path / "1.tif")
    assert found.mode == "L"
    np.testing.assert_array_equal(found, expected)


def test_colours_are_weighed_as_seen(tmp_path):
    Image.new("RGB", (3, 2), (255, 0, 0)).save(tmp_path / "1.tif")
    assert set(np.ravel(frames.decode(tmp_path / "1.tif"))) == {76}  # .299 of red


def transparent():
    image = picture(GREY, "RGBA")
    image.putalpha(Image.fromarray(HALF))
    return image


REFUSED = {
    "8 bits in 16": Image.fromarray(GREY.astype(np.uint16)),
    "12 bits in 16": Image.fromarray(GREY.astype(np.uint16) * 16),
    "32-bit integers": Image.fromarray(GREY.astype(np.int32)),
    "floats up to 255": Image.fromarray(GREY.astype(np.float32)),
    "negative floats": Image.fromarray(GREY.astype(np.float32) / 255 - 0.5),
    "not finite": Image.fromarray(np.where(GREY > 200, np.nan, 0.5).astype(np.float32)),
    "transparent": transparent(),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_ambiguous_is_refused_in_one_line(tmp_path, name):
    REFUSED[name].save(tmp_path / "1.tif")
    with pytest.raises(InputError, match=r"1\.tif is refused") as caught:
        frames.decode(tmp_path / "1.tif")
    assert "\n" not in str(caught.value)


def test_white_as_zero_in_16_bits_is_refused(tmp_path):
    Image.fromarray(GREY.astype(np.uint16) * 257).save(tmp_path / "1.tif", tiffinfo={262: 0})
    data = (tmp_path / "1.tif").read_bytes()
    entry = struct.pack("<HHI", 262, 3, 1)
    at = data.index(entry) + len(entry)
    (tmp_path / "1.tif").write_bytes(data[:at] + b"\0\0" + data[at + 2 :])
    with pytest.raises(InputError, match="white as zero"):
        frames.decode(tmp_path / "1.tif")


MASKS = {
    "1 bit": Image.fromarray(HALF > 0),
    "8 bit": Image.fromarray(HALF),
    "one of 255": Image.fromarray(HALF // 255),
    "one of 65535": Image.fromarray(HALF.astype(np.uint16) // 255),
    "white of 65535": Image.fromarray(HALF.astype(np.uint16) * 257),
    "palette": palette(HALF),
    "dark blue": Image.merge(
        "RGB", [Image.new("L", (18, 12))] * 2 + [Image.fromarray(HALF // 255)]
    ),
    "opaque": picture(HALF, "RGBA"),
}


@pytest.mark.parametrize("name", MASKS)
def test_every_level_of_a_mask_but_black_is_the_anomaly(tmp_path, name):
    MASKS[name].save(tmp_path / "1.png")
    np.testing.assert_array_equal(
        np.asarray(frames.decode(tmp_path / "1.png", mask=True)) > 0, HALF > 0
    )


@pytest.mark.parametrize("name", ["not finite", "transparent"])
def test_a_mask_of_unknown_levels_is_refused(tmp_path, name):
    REFUSED[name].save(tmp_path / "1.tif")
    with pytest.raises(InputError, match="refused"):
        frames.decode(tmp_path / "1.tif", mask=True)


def test_a_mask_of_16_bit_colours_is_refused(tmp_path):
    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + b"\0\1" * 3)
    png = chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    with pytest.raises(InputError, match="more than 8 bits a colour"):
        frames.decode(tmp_path / "1.png", mask=True)


def damaged(tmp_path, name):
    if name in ("bmp", "png"):
        Image.fromarray(GREY).save(tmp_path / f"1.{name}")
        data = (tmp_path / f"1.{name}").read_bytes()[:-60]
    elif name == "absurd size":
        Image.fromarray(GREY).save(tmp_path / "1.bmp")
        data = bytearray((tmp_path / "1.bmp").read_bytes())
        data[18:26] = struct.pack("<ii", 60_000, 60_000)  # width and height
    else:
        data = {"empty": b"", "text": b"not a picture", "head": b"II*\x00\x08\x00\x00\x00"}[name]
    path = tmp_path / "damaged"
    path.write_bytes(data)
    return path


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("name", ["empty", "text", "head", "bmp", "png", "absurd size"])
def test_a_damaged_picture_is_none(tmp_path, name):
    assert frames.decode(damaged(tmp_path, name)) is None


def test_a_failing_disk_is_not_taken_for_a_damaged_picture(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError):
        frames.decode(tmp_path / "absent.tif")

    def fail(path):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(OSError, match="Input/output"):
        frames.decode(tmp_path / "1.tif")


def packbits_tiff(data, *, left_out=()):
    """Build a one-strip TIFF of 2 x 4 pixels of 8-bit grey, compressed by PackBits."""
    tags = [(256, 3, 4), (257, 3, 2), (258, 3, 8), (259, 3, 32773), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 3, 2), (279, 4, len(data))]
    tags = [tag for tag in tags if tag[0] not in left_out]
    directory = struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    return struct.pack("<2sHI", b"II", 42, 8 + len(data)) + data + directory + b"\0\0\0\0"


def test_packbits_is_decoded_if_it_is_complete(tmp_path, capfd):
    path = tmp_path / "1.tif"
    # Four literal bytes, a "no operation", the byte 9 four times.
    whole = bytes([3, 1, 2, 3, 4, 128, 253, 9])
    path.write_bytes(packbits_tiff(whole))
    np.testing.assert_array_equal(frames.decode(path), [[1, 2, 3, 4], [9, 9, 9, 9]])
    for content in (
        packbits_tiff(bytes([3, 1, 2, 3, 4, 254, 9])),  # three times only
        packbits_tiff(whole[:-1]),
    ):
        path.write_bytes(content)
        assert frames.decode(path) is None
    assert capfd.readouterr().err == ""  # libtiff would print there
    path.write_bytes(packbits_tiff(whole, left_out=(273,)))
    assert frames.decode(path) is None


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), runs=st.booleans())
def test_no_valid_packbits_picture_is_called_short(tmp_path_factory, seed, runs):
    rng = np.random.default_rng(seed)
    grey = rng.integers(0, 256, rng.integers(1, 40, 2), np.uint8)
    grey = grey // 128 * 255 if runs else grey
    path = tmp_path_factory.mktemp("packbits") / "1.tif"
    Image.fromarray(grey).save(path, compression="packbits")
    np.testing.assert_array_equal(frames.decode(path), grey)


# The frames of a sequence


@pytest.fixture
def sequence(tree):
    """Give a sequence of the small tree by its id."""
    return {s.id: s for s in ucsd.index(tree.root)}.__getitem__


def test_frames_are_read_in_order_and_resized(sequence):
    found = frames.read_frames(sequence("ped2/Train002"))
    assert found.shape == (8, 12, 18) and found.dtype == np.uint8
    assert found[:, 5, 5].tolist() == [10, 20, 30, 40, 50, 60, 70, 80]
    window = frames.read_frames(sequence("ped2/Train002"), start=3, n_frames=2, size=(6, 7))
    assert window.shape == (2, 6, 7)
    assert window[:, 0, 0].tolist() == [40, 50]


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ([4], [10, 20, 30, 30, 50, 60]),
        ([1, 2], [30, 30, 30, 40, 50, 60]),
        ([5, 6], [10, 20, 30, 40, 40, 40]),
        ([2, 3, 4], [10, 10, 10, 50, 50, 60]),
    ],
)
@pytest.mark.parametrize("absent", [False, True])
def test_the_nearest_intact_frame_stands_in(tree, broken, expected, absent):
    for number in broken:
        path = tree.folder("ped2", "train", 1) / f"{number:03d}.tif"
        path.write_bytes(b"broken")
        if absent and number not in (1, 6):  # a sequence is as long as its last number
            path.unlink()
    sequence = next(s for s in ucsd.index(tree.root) if s.id == "ped2/Train001")
    assert frames.read_frames(sequence)[:, 0, 0].tolist() == expected
    # The neighbour may lie outside the window.
    i = broken[-1] - 1
    assert frames.read_frames(sequence, start=i, n_frames=1)[0, 0, 0] == expected[i]


def test_frames_that_cannot_be_had_are_refused(tree, sequence):
    folder, train = tree.folder("ped2", "train", 1), sequence("ped2/Train001")
    Image.new("L", (10, 12)).save(folder / "003.tif")
    with pytest.raises(InputError, match=r"003\.tif: 12x10 pixels.*12x18"):
        frames.read_frames(train, size=(6, 9))
    REFUSED["32-bit integers"].save(folder / "003.tif")
    with pytest.raises(InputError, match=r"003\.tif is refused"):
        frames.read_frames(train)
    for path in folder.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="ped2/Train001: none of its 6 frames"):
        frames.read_frames(train)


@pytest.mark.parametrize("window", [(0, 7), (6, 1), (-1, 2), (2, 0), (9, None)])
def test_frames_outside_the_sequence_are_refused(sequence, window):
    with pytest.raises(InputError, match="ped2/Train001 has 6 frames"):
        frames.read_frames(sequence("ped2/Train001"), start=window[0], n_frames=window[1])


@pytest.mark.parametrize("size", [(0, 5), (5,), (4, -1)])
def test_an_impossible_size_is_refused(sequence, size):
    with pytest.raises(InputError, match="height, width"):
        frames.read_frames(sequence("ped2/Train001"), size=size)


# Its masks


@pytest.mark.parametrize("name", ["ped1/Test003", "ped2/Test001"])
def test_masks_of_either_depth_and_name_are_read(sequence, name):
    masks = frames.read_masks(sequence(name))
    assert masks.shape == (6, 12, 18) and masks.dtype == bool
    np.testing.assert_array_equal(masks.any(axis=(1, 2)), sequence(name).anomalous)
    np.testing.assert_array_equal(frames.mask_presence(sequence(name)), sequence(name).anomalous)
    expected = np.zeros((12, 18), bool)
    expected[2:5, 6:10] = True
    np.testing.assert_array_equal(masks[5], expected)


def test_masks_are_resized_by_the_nearest_pixel(sequence):
    masks = frames.read_masks(sequence("ped1/Test003"), start=1, n_frames=3, size=(24, 36))
    assert masks.shape == (3, 24, 36)
    assert masks.sum(axis=(1, 2)).tolist() == [48, 48, 0]


def test_masks_that_cannot_be_had_are_refused_not_repeated(tree, sequence):
    with pytest.raises(InputError, match="ped1/Test006 has no masks"):
        frames.read_masks(sequence("ped1/Test006"))
    (tree.folder("ped1", "test", 3) / "001.tif").write_bytes(b"broken")  # the size is known still
    assert frames.read_masks(sequence("ped1/Test003")).any()
    path = tree.root / "UCSDped1" / "Test" / "Test003_gt" / "002.bmp"
    Image.new("L", (17, 12)).save(path)
    with pytest.raises(InputError, match=r"002\.bmp: mask of 12x17 pixels.*12x18"):
        frames.read_masks(sequence("ped1/Test003"), size=(6, 9))
    path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"002\.bmp cannot be decoded"):
        frames.mask_presence(sequence("ped1/Test003"))
