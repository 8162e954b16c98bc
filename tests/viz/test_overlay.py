"""Pictures of an explained video: where a map lies, what stays as it was, what is said below."""

import numpy as np
import pytest

from vad_helpers.viz import overlay

PICTURE = np.random.default_rng(0).integers(60, 200, (41, 63, 3), dtype=np.uint8)


def change(values, *, limit=1.0):
    return overlay.blend(PICTURE, np.array(values), limit=limit).astype(int) - PICTURE


def test_zero_leaves_the_frame_the_colour_tells_the_sign_and_the_limit_the_strength():
    assert not change(np.zeros((5, 7))).any()
    left, right = change([[2.0, 0, -2.0]])[:, :10], change([[2.0, 0, -2.0]])[:, -10:]
    assert left[..., 0].mean() > left[..., 2].mean() and right[..., 2].mean() > right[..., 0].mean()
    assert np.abs(change([[1.0]], limit=4)).mean() < np.abs(change([[4.0]], limit=4)).mean() / 2
    np.testing.assert_array_equal(change([[40.0]], limit=4), change([[4.0]], limit=4))


def test_a_map_lies_over_the_pixels_it_was_made_of():
    attribution = np.zeros((8, 9))
    attribution[6, 2] = 1  # 41 x 63 pixels: around row 33.3, column 17.5
    weights = np.abs(change(attribution)).sum(axis=2)
    assert np.average(np.arange(41), weights=weights.sum(axis=1)) == pytest.approx(32.8, abs=0.7)
    assert np.average(np.arange(63), weights=weights.sum(axis=0)) == pytest.approx(17, abs=0.7)


def test_the_strongest_region_is_a_box_in_the_frames_pixels():
    attribution = np.zeros((5, 10, 20))
    attribution[3, 4:6, 8:11] = 0.6, 1, 0.6
    attribution[3, 0, 0], attribution[3, 9, 19], attribution[1, 2, 2] = 0.7, 0.4, 0.9
    found = overlay.strongest(attribution, (100, 400))
    assert found == {"frame": 3, "x": 160, "y": 40, "width": 60, "height": 20}
    assert overlay.strongest(-attribution, (100, 400)) is None
    still = np.repeat(attribution[3:4], 7, axis=0)  # the same in all frames: the middle one
    assert overlay.strongest(still, (10, 20))["frame"] == 3


@pytest.mark.parametrize("size", [(41, 63), (240, 320), (359, 641)])
def test_what_is_said_stands_below_and_the_frame_stays_where_it_is(size):
    picture = np.resize(PICTURE, (*size, 3))
    drawn = {}
    for called, limit in (("normal", 0.5), ("normal", 2.0), ("anomalous", 2.0)):
        says = {"called": called, "limit": limit, "over": "one scale for all clips"}
        below = overlay.legend(size[1], ["p = 0.5", "clip 1"], **says)
        drawn[called, limit] = found = overlay.annotated(picture, below)
        assert found.shape[0] % 2 == found.shape[1] % 2 == 0
        assert found.shape[1] == max(size[1] + size[1] % 2, overlay.MIN_WIDTH)
        np.testing.assert_array_equal(found[: size[0], : size[1]], picture)
        np.testing.assert_array_equal(below[-4:], below[-4:, :1].repeat(below.shape[1], 1))
        np.testing.assert_array_equal(below[:, -3:], below[:1, -3:].repeat(len(below), 0))
    texts = list(drawn.values())
    assert (texts[0] != texts[1]).any() and (texts[1] != texts[2]).any()


def test_a_contact_sheet_shows_every_picture_smaller_and_in_order():
    levels = range(20, 250, 30)
    pictures = [overlay.shrunk(np.full((300, 960, 3), level, np.uint8)) for level in levels]
    assert pictures[0].shape == (150, 480, 3)
    sheet = np.asarray(overlay.contact_sheet(pictures))
    step = overlay.TILE_WIDTH + overlay.GAP
    found = [sheet[75 + (i // 4) * (150 + overlay.GAP), i % 4 * step + 9, 0] for i in range(8)]
    assert found == list(levels)
