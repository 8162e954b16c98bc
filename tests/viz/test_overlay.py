import matplotlib
import numpy as np
import pytest

from vad_helpers.metrics import human_centric
from vad_helpers.viz import overlay

SHAPE = (4, 6, 8)


def make_clip(**maps):
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[1:, 2:4, 3:6] = True
    return overlay.ShownClip(
        key="a", label="A", frames=rng.random(SHAPE), mask=mask, p_clip=1, p_baseline=0, maps=maps
    )


@pytest.mark.parametrize(
    ("n_thresholds", "expected"),
    [(50, (50, 50)), (25, (25, 50)), (10, (10, 50)), (7, (7, 56)), (254, (254, 254)), (1, (1, 50)),
     (255, (50, 50))],
)  # fmt: skip
def test_steps_are_a_multiple_of_the_thresholds_that_a_byte_holds(n_thresholds, expected):
    n_shown, steps = overlay.fit_thresholds(n_thresholds)
    assert (n_shown, steps) == expected
    assert steps % n_shown == 0 and 50 <= steps <= 254


def test_levels_by_hand():
    values = np.array([-1.0, 0.0, 1e-9, 0.5, 0.99, 1.0, 2.0])
    found = overlay.to_levels(values, steps=4)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, [0, 0, 1, 2, 2, 3, 5])


def test_a_map_without_a_positive_voxel_is_all_zero_levels():
    assert not overlay.to_levels(-np.ones((2, 3)), steps=50).any()


@pytest.mark.parametrize("n_thresholds", [7, 25, 50])
@pytest.mark.parametrize("kind", ["gaussian", "heavy", "stepped"])
def test_sets_of_levels_are_those_of_the_map(kind, n_thresholds):
    values = np.random.default_rng(1).standard_normal(SHAPE).astype(np.float32)
    values = {"gaussian": values, "heavy": values**9, "stepped": np.round(5 * values) / 50}[kind]
    mask = make_clip().mask
    n, steps = overlay.fit_thresholds(n_thresholds)
    levels = overlay.to_levels(values, steps=steps)
    sets = [levels > i * steps / n for i in range(n + 1)]
    found = [(part & mask).sum() / (part | mask).sum() for part in sets]
    np.testing.assert_array_equal(
        found, human_centric.iou_curve(values, mask, n_thresholds=n_thresholds)
    )


def test_the_palette_runs_through_the_perceptual_map_of_the_figures():
    colours = overlay.palette(50)
    assert colours.shape == (51, 3) and colours.dtype == np.uint8
    for i, end in ((0, 0.0), (-1, 1.0)):
        expected = matplotlib.colormaps["viridis"](end)[:3]
        np.testing.assert_allclose(colours[i] / 255, expected, atol=0.5 / 255)


def test_blending_leaves_grey_what_is_not_above_the_level():
    grey = np.full((1, 3), 0.2)
    levels = np.array([[0, 3, 5]], dtype=np.uint8)
    pixels = overlay.blend(grey, levels, steps=4, above=3, opacity=1)
    np.testing.assert_array_equal(pixels[0, :2], [[51] * 3] * 2)
    np.testing.assert_array_equal(pixels[0, 2], overlay.palette(4)[4])


def test_half_opacity_is_half_way_between_frame_and_colour():
    pixels = overlay.blend(np.ones((1, 1)), np.ones((1, 1), np.uint8), steps=4, opacity=0.5)
    np.testing.assert_allclose(pixels[0, 0], 127.5 + overlay.palette(4)[0] / 2, atol=0.5)


def test_the_outline_is_yellow_inside_and_black_around_and_nothing_without_a_mask():
    pixels = np.full((5, 5, 3), 100, dtype=np.uint8)
    mask = np.zeros((5, 5), dtype=bool)
    mask[1:4, 1:4] = True
    large = overlay.outlined(pixels, mask, scale=3)
    assert large.shape == (15, 15, 3)
    yellow, black, plain = [240, 228, 66], [0, 0, 0], [100, 100, 100]
    for y, expected in ((0, plain), (2, black), (3, yellow), (7, plain), (11, yellow), (12, black)):
        np.testing.assert_array_equal(large[y, 7], expected)
    untouched = overlay.outlined(pixels, np.zeros_like(mask), scale=3)
    assert (untouched == 100).all()


def test_the_outline_stays_open_where_the_mask_leaves_the_frame():
    mask = np.zeros((4, 4), dtype=bool)
    mask[:, :2] = True
    large = overlay.outlined(np.full((4, 4, 3), 100, np.uint8), mask, scale=4)
    np.testing.assert_array_equal(large[8, 0], [100] * 3)


def test_the_contact_sheet_has_a_row_a_map_and_says_what_its_colours_are():
    values = np.random.default_rng(2).standard_normal(SHAPE)
    clip = make_clip(ig=values, lime=values)
    labels = {"ig": "Integrated Gradients", "lime": "LIME"}
    figure = overlay.contact_sheet(clip, labels, steps=50, n_moments=3)
    pictures = [ax for ax in figure.axes if ax.images]
    assert len(pictures) == 3 * 3
    assert [ax.get_title() for ax in pictures[:4]] == ["frame 1", "frame 3", "frame 4", ""]
    names = [ax.get_ylabel() for ax in pictures[::3]]
    assert names == ["frames\nand mask", "Integrated\nGradients", "LIME"]
    assert "maximum over the clip" in figure.axes[-1].get_ylabel()
    figure.canvas.draw()
