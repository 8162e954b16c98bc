import numpy as np
import pytest

from vad_helpers.viz import heatmaps, style

SHAPE = (6, 8, 10)
GREY = np.random.default_rng(0).random(SHAPE)
MASK = np.zeros(SHAPE, dtype=bool)
for t in range(SHAPE[0]):
    MASK[t, 2:5, t : t + 3] = True
MAPS = {name: np.random.default_rng(i).standard_normal(SHAPE) for i, name in enumerate("abc")}


def axes_of(*shape, **options):
    return style.subplots(*shape, **options)[1]


def titles(axes):
    return [ax.get_title() for ax in np.ravel(axes)]


def test_frame_is_grey_with_a_fixed_scale_and_a_positive_map_starts_at_zero():
    (image,) = heatmaps.frame(axes_of(), GREY[0] * 0.5).images
    assert image.get_cmap().name == "gray" and image.get_clim() == (0, 1)
    (image,) = heatmaps.positive_map(axes_of(), np.full((8, 10), 0.5), MASK[0], label="x").images
    assert image.get_clim()[0] == 0


def test_an_outline_is_absent_where_there_is_none():
    assert len(heatmaps.outline(axes_of(), MASK[0]).collections) == 2
    for mask in (None, np.zeros((4, 4), bool), np.ones((4, 4), bool)):
        assert len(heatmaps.outline(axes_of(), mask).collections) == 0


def test_heatmap_is_centred_at_zero_white_there_red_above_and_blue_below():
    (image,) = heatmaps.heatmap(axes_of(), MAPS["a"][0], limit=2.0).images
    assert image.get_clim() == (-1, 1) and image.norm(0.0) == pytest.approx(0.5)
    assert np.allclose(image.get_array(), MAPS["a"][0] / 2)
    blue, white, red = (image.get_cmap()(at) for at in (0.1, 0.5, 0.9))
    assert min(white[:3]) > 0.95 and red[0] > red[2] and blue[2] > blue[0]


def test_grid_shows_frame_then_maps_each_scaled_by_its_whole_clip():
    values = np.zeros(SHAPE)
    values[0], values[3] = 8.0, 2.0
    axes = axes_of(2, 3)
    heatmaps.heatmap_grid(axes, GREY, MASK, {**MAPS, "lime": np.zeros(SHAPE), "d": values}, t=3)
    assert titles(axes) == ["frame 4 and its mask", "a", "b", "c", "lime", "d"]
    assert [text.get_text() for text in axes[1, 1].texts] == ["all zero"]
    assert np.allclose(axes[1, 2].images[0].get_array(), 0.25)
    with pytest.raises(ValueError, match="2 axes for a frame and 3 maps"):
        heatmaps.heatmap_grid(axes_of(1, 2), GREY, MASK, MAPS, t=3)
    # The colour bar states quantity and normalisation.
    assert "the clip's 99.5% quantile of |E|" in axes[0, 0].figure.axes[-1].get_ylabel()


def test_a_map_scaled_by_its_maximum_is_marked_beside_a_bar_that_states_a_quantile():
    sparse = np.zeros((6, 20, 30))
    sparse[0, 3, 3] = 1.0
    mask = sparse > 0
    axes = heatmaps.heatmap_grid(axes_of(1, 2), sparse, mask, {"lime": sparse}, t=0)
    assert titles(axes)[1] == "lime (max)" and axes[1].images[0].get_array().max() == 1
    axes = heatmaps.time_grid(axes_of(1, 2, squeeze=False), mask, {"lime": sparse})
    assert axes[0, 0].get_ylabel() == "lime (max)" and titles(axes)[0] == "frame 1"


def test_time_slices_average_over_the_rows_of_the_anomaly():
    values = np.zeros(SHAPE)
    values[:, 2:5], values[:, 6:] = 3.0, 100.0
    axes = heatmaps.time_slices(axes_of(1, 3), GREY, MASK, {"a": values})
    shown = axes[1].images[0].get_array()
    assert shown.shape == (SHAPE[0], SHAPE[2]) and np.allclose(shown, 1.0)
    assert not axes[2].axison
    with pytest.raises(ValueError, match="mask is empty"):
        heatmaps.time_slices(axes, GREY, np.zeros(SHAPE, dtype=bool), MAPS)


def test_superpixel_borders_are_drawn_where_labels_change():
    labels = np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0)
    picture = heatmaps.superpixels(axes_of(), np.full((4, 6), 0.5), labels).images[0].get_array()
    coloured = picture[..., 0] != picture[..., 2]
    assert coloured[:, 3].all() and coloured.sum() == 4


def test_frames_to_show_are_that_of_the_largest_mask_or_spread_to_both_ends():
    mask = MASK.copy()
    mask[4, :7] = True
    assert heatmaps.best_frame(mask) == 4
    assert heatmaps.best_frame(np.zeros(SHAPE, dtype=bool)) == 0
    assert heatmaps.spread(16, 4) == [0, 5, 10, 15] and heatmaps.spread(5, 1) == [0]
    strip = heatmaps.frame_strip(axes_of(1, 3), GREY, MASK)
    assert titles(strip) == ["frame 1", "frame 3", "frame 6"]
    assert all(ax.collections for ax in strip)


def test_the_limit_is_a_quantile_of_the_magnitude_or_the_maximum():
    for values, expected in (
        ([-3.0, 3.0], (3.0, False)),
        ([*np.ones(999), 1000.0], (1.0, False)),
        ([-4.0, *np.zeros(999)], (4.0, True)),
        ([0.0, 0.0], (1.0, False)),
    ):
        assert heatmaps.symmetric_limit(np.array(values)) == expected
