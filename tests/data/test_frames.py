"""One picture of any format, and the frames and masks of a sequence."""

import struct

import numpy as np
import pytest
import tifffile
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


SCALED = {
    "1 bit": (Image.fromarray(GREY > 99), np.where(GREY > 99, 255, 0)),
    "palette": (palette(GREY), GREY),
    "opaque": (picture(GREY, "RGBA"), GREY),
    "opaque grey": (picture(GREY, "LA"), GREY),
    "colour": (picture(GREY, "RGB"), GREY),
    "red": (Image.new("RGB", (3, 2), (255, 0, 0)), np.full((2, 3), 76)),  # .299 of it
    "CMYK": (picture(GREY, "CMYK"), GREY),
    "16 bit": (Image.fromarray(GREY.astype(np.uint16) * 257), GREY),
    "big endian": (Image.fromarray(GREY.astype(">u2") * 257), GREY),
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


REFUSED = {
    "8 bits in 16": Image.fromarray(GREY.astype(np.uint16)),
    "12 bits in 16": Image.fromarray(GREY.astype(np.uint16) * 16),
    "32-bit integers": Image.fromarray(GREY.astype(np.int32)),
    "floats up to 255": Image.fromarray(GREY.astype(np.float32)),
    "negative floats": Image.fromarray(GREY.astype(np.float32) / 255 - 0.5),
    "not finite": Image.fromarray(np.where(GREY > 200, np.nan, 0.5).astype(np.float32)),
    "transparent": Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(HALF)]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_ambiguous_is_refused_in_one_line(tmp_path, name):
    REFUSED[name].save(tmp_path / "1.tif")
    for mask in (False, True) if name in ("not finite", "transparent") else (False,):
        with pytest.raises(InputError, match=r"1\.tif is refused") as caught:
            frames.decode(tmp_path / "1.tif", mask=mask)
        assert "\n" not in str(caught.value)


def test_white_as_zero_and_16_bit_colours_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "1.tif", GREY.astype(np.uint16) * 257, photometric="miniswhite")
    with pytest.raises(InputError, match="white as zero"):
        frames.decode(tmp_path / "1.tif")
    tifffile.imwrite(tmp_path / "1.tif", np.ones((4, 5, 3), np.uint16), photometric="rgb")
    with pytest.raises(InputError, match="more than 8 bits a colour"):
        frames.decode(tmp_path / "1.tif", mask=True)


MASKS = {
    "1 bit": Image.fromarray(HALF > 0),
    "8 bit": Image.fromarray(HALF),
    "one of 255": Image.fromarray(HALF // 255),
    "one of 65535": Image.fromarray(HALF.astype(np.uint16) // 255),
    "palette": palette(HALF),
    "dark blue": Image.fromarray(np.stack([0 * HALF, 0 * HALF, HALF // 255], axis=2)),
    "opaque": picture(HALF, "RGBA"),
}


@pytest.mark.parametrize("name", MASKS)
def test_every_level_of_a_mask_but_black_is_the_anomaly(tmp_path, name):
    MASKS[name].save(tmp_path / "1.png")
    found = frames.decode(tmp_path / "1.png", mask=True)
    np.testing.assert_array_equal(np.asarray(found) > 0, HALF > 0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_damaged_picture_is_none_but_a_failing_disk_is_an_error(tmp_path):
    Image.fromarray(GREY).save(tmp_path / "1.bmp")
    Image.fromarray(GREY).save(tmp_path / "1.png")
    bmp, png = ((tmp_path / name).read_bytes() for name in ("1.bmp", "1.png"))
    huge = bmp[:18] + struct.pack("<ii", 60_000, 60_000) + bmp[26:]  # width and height
    for data in (b"", b"not a picture", b"II*\0\x08\0\0\0", bmp[:-60], png[:-60], huge):
        (tmp_path / "damaged").write_bytes(data)
        assert frames.decode(tmp_path / "damaged") is None
    for path, error in ((tmp_path / "absent", FileNotFoundError), (tmp_path, IsADirectoryError)):
        with pytest.raises(error):
            frames.decode(path)


def packbits_tiff(data):
    """Build a one-strip TIFF of 2 x 4 pixels of 8-bit grey, compressed by PackBits."""
    tags = [(256, 3, 4), (257, 3, 2), (258, 3, 8), (259, 3, 32773), (262, 3, 1), (273, 4, 8)]
    tags += [(277, 3, 1), (278, 3, 2), (279, 4, len(data))]
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
    for short in (bytes([3, 1, 2, 3, 4, 254, 9]), whole[:-1]):  # the first: three times only
        path.write_bytes(packbits_tiff(short))
        assert frames.decode(path) is None
    assert capfd.readouterr().err == ""  # libtiff would print there


@pytest.mark.parametrize("levels", [256, 2])  # of two there are long runs
def test_no_valid_packbits_picture_is_called_short(tmp_path, levels):
    rng = np.random.default_rng(0)
    for _ in range(15):
        grey = rng.integers(0, levels, rng.integers(1, 40, 2), np.uint8)
        Image.fromarray(grey).save(tmp_path / "1.tif", compression="packbits")
        np.testing.assert_array_equal(frames.decode(tmp_path / "1.tif"), grey)


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


@pytest.mark.parametrize("absent", [False, True])
def test_the_nearest_intact_frame_stands_in(tree, absent):
    folder = tree.folder("ped2", "train", 1)
    for broken, expected in (
        ([4], [10, 20, 30, 30, 50, 60]),
        ([2, 3, 4], [10, 10, 10, 50, 50, 60]),
        ([1, 2, 5, 6], [30, 30, 30, 40, 40, 40]),
    ):
        tree.sequence("ped2", "train", 1)
        for number in broken:
            (folder / f"{number:03d}.tif").write_bytes(b"broken")
            if absent and number not in (1, 6):  # a sequence is as long as its last number
                (folder / f"{number:03d}.tif").unlink()
        sequence = next(s for s in ucsd.index(tree.root) if s.id == "ped2/Train001")
        assert frames.read_frames(sequence)[:, 0, 0].tolist() == expected
        # The neighbour may lie outside the window.
        i = broken[-1] - 1
        assert frames.read_frames(sequence, start=i, n_frames=1)[0, 0, 0] == expected[i]


def film(n, seed=0, noise=4):
    """Frames of a still scene, with noise and someone who runs along it: uint8 (n, 48, 72)."""
    rng = np.random.default_rng(seed)
    scene = rng.integers(60, 200, (48, 72))
    found = np.stack([scene + rng.integers(-noise, noise + 1, scene.shape) for _ in range(n)])
    for i in range(n):
        found[i, 10:40, 5 * i : 5 * i + 6] = 255
    return found.astype(np.uint8)


def shift(frame):
    """Displace rows, as data with a byte too few do."""
    frame[38:44] = np.roll(frame[38:44], 5, axis=1)


def noise(frame):
    frame[:] = np.random.default_rng(9).integers(0, 256, frame.shape)


def shown(writer, video):
    """Which frame is shown as each frame of a video that is written as a sequence."""
    folder = writer.folder("ped2", "train", 1)
    for i, frame in enumerate(video, start=1):
        Image.fromarray(frame).save(folder / f"{i:03d}.tif")
    (sequence,) = ucsd.index(writer.root)
    found = frames.read_frames(sequence)
    for start in range(len(video)):  # a part shows what the whole shows
        part = frames.read_frames(sequence, start=start, n_frames=min(2, len(video) - start))
        np.testing.assert_array_equal(part, found[start : start + 2])
    return [next(i for i, frame in enumerate(video) if (frame == one).all()) for one in found]


@pytest.mark.parametrize(
    ("n", "spoil", "at", "expected"),
    [
        (6, shift, [3], [0, 1, 2, 2, 4, 5]),
        (6, noise, [3], [0, 1, 2, 2, 4, 5]),
        (6, shift, [1, 4], [0, 0, 2, 3, 3, 5]),
        (6, shift, [0, 5], [0, 1, 2, 3, 4, 5]),  # at an end: no neighbours to ask
        (3, shift, [1], [0, 0, 2]),
        (1, noise, [0], [0]),
    ],
)
def test_a_frame_that_decodes_to_garbage_is_found_by_its_neighbours(writer, n, spoil, at, expected):
    video = film(n)
    for i in at:
        spoil(video[i])
    assert shown(writer, video) == expected


@pytest.mark.parametrize("at", range(1, 6))
def test_cuts_jumps_and_changing_light_are_no_damage(writer, at):
    video = film(6)
    video[at:] = film(6, seed=1)[at:]
    assert shown(writer, video) == list(range(6))
    video = film(6)
    video[at:] //= 2
    assert shown(writer, video) == list(range(6))
    video[at, :, :26] = 0  # somebody large in a single frame
    assert shown(writer, video) == list(range(6))
    for noise in (0, 4):  # a flash
        video = np.clip(
            film(6, noise=noise).astype(int) + 40 * (np.arange(6) == at)[:, None, None], 0, 255
        )
        assert shown(writer, video.astype(np.uint8)) == list(range(6))


def test_neighbours_that_cannot_be_compared_are_left_out(writer):
    video = film(6)
    shift(video[3])
    folder = writer.folder("ped2", "train", 1)
    assert shown(writer, video) == [0, 1, 2, 2, 4, 5]
    (folder / "003.tif").write_bytes(b"broken")
    (sequence,) = ucsd.index(writer.root)
    np.testing.assert_array_equal(frames.read_frames(sequence)[[2, 3]], video[[1, 3]])
    Image.fromarray(video[2]).save(folder / "003.tif")
    Image.fromarray(np.full((48, 72), 99, np.int32)).save(folder / "005.tif")  # its range?
    found = frames.read_frames(sequence, start=3, n_frames=1)
    np.testing.assert_array_equal(found[0], video[3])


def test_frames_that_cannot_be_had_are_refused(tree, sequence):
    folder, train = tree.folder("ped2", "train", 1), sequence("ped2/Train001")
    for start, n_frames in ((0, 7), (6, 1), (-1, 2), (2, 0), (9, None)):
        with pytest.raises(InputError, match="ped2/Train001 has 6 frames"):
            frames.read_frames(train, start=start, n_frames=n_frames)
    with pytest.raises(InputError, match="height, width"):
        frames.read_frames(train, size=(0, 5))
    Image.new("L", (10, 12)).save(folder / "003.tif")
    with pytest.raises(InputError, match=r"003\.tif: 12x10 pixels.*12x18"):
        frames.read_frames(train, size=(6, 9))
    for path in folder.iterdir():
        path.write_bytes(b"broken")
    with pytest.raises(InputError, match="ped2/Train001: none of its 6 frames"):
        frames.read_frames(train)


@pytest.mark.parametrize("name", ["ped1/Test003", "ped2/Test001"])
def test_masks_of_either_depth_and_name_are_read(sequence, name):
    masks = frames.read_masks(sequence(name))
    assert masks.shape == (6, 12, 18) and masks.dtype == bool
    np.testing.assert_array_equal(masks.any(axis=(1, 2)), sequence(name).anomalous)
    np.testing.assert_array_equal(frames.mask_presence(sequence(name)), sequence(name).anomalous)
    expected = np.zeros((12, 18), bool)
    expected[2:5, 6:10] = True
    np.testing.assert_array_equal(masks[5], expected)
    # Resized by the nearest pixel.
    large = frames.read_masks(sequence(name), start=4, n_frames=2, size=(24, 36))
    np.testing.assert_array_equal(large[1], expected.repeat(2, axis=0).repeat(2, axis=1))


def test_masks_that_cannot_be_had_are_refused_not_repeated(tree, sequence):
    with pytest.raises(InputError, match="ped1/Test006 has no masks"):
        frames.read_masks(sequence("ped1/Test006"))
    (tree.folder("ped1", "test", 3) / "001.tif").write_bytes(b"broken")  # the size is known still
    assert frames.read_masks(sequence("ped1/Test003")).any()
    path = tree.folder("ped1", "test", 3, "_gt") / "002.bmp"
    Image.new("L", (17, 12)).save(path)
    with pytest.raises(InputError, match=r"002\.bmp: mask of 12x17 pixels.*12x18"):
        frames.read_masks(sequence("ped1/Test003"), size=(6, 9))
    path.write_bytes(b"broken")
    with pytest.raises(InputError, match=r"002\.bmp cannot be decoded"):
        frames.mask_presence(sequence("ped1/Test003"))
