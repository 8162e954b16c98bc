import matplotlib
import numpy as np
import pytest

from vad_helpers.viz import heatmaps, style

SHAPE = (6, 8, 10)


@pytest.fixture
def mask():
    mask = np.zeros(SHAPE, dtype=bool)
    for t in range(SHAPE[0]):
        mask[t, 2:5, t : t + 3] = True
    return mask


@pytest.fixture
def grey():
    return np.random.default_rng(0).random(SHAPE)


@pytest.fixture
def maps():
    rng = np.random.default_rng(1)
    return {name: rng.standard_normal(SHAPE).astype(np.float32) for name in ("a", "b", "c")}


def titles(axes):
    return [ax.get_title() for ax in np.ravel(axes)]


def test_frame_is_grey_with_a_fixed_scale(grey):
    figure, ax = style.subplots()
    assert heatmaps.frame(ax, grey[0] * 0.5, title="x") is ax
    (image,) = ax.images
    assert image.get_cmap().name == "gray"
    assert image.get_clim() == (0, 1)
    assert ax.get_title() == "x"


@pytest.mark.parametrize("fill", [None, False, True])
def test_no_outline_where_there_is_none(fill):
    figure, ax = style.subplots()
    mask = None if fill is None else np.full((4, 4), fill)
    assert heatmaps.outline(ax, mask) is ax
    assert len(ax.collections) == 0


def test_outline_is_light_on_dark(mask):
    figure, ax = style.subplots()
    heatmaps.outline(ax, mask[0])
    widths = [c.get_linewidth()[0] for c in ax.collections]
    assert widths[0] > widths[1]
    assert np.allclose(ax.collections[1].get_edgecolor()[0], matplotlib.colors.to_rgba("#F0E442"))


def test_heatmap_is_centred_at_zero_and_symmetric(maps):
    figure, ax = style.subplots()
    assert heatmaps.heatmap(ax, maps["a"][0], limit=2.0) is ax
    (image,) = ax.images
    low, high = image.get_clim()
    assert low == -high == -1
    assert image.norm(0.0) == pytest.approx(0.5)
    assert np.allclose(image.get_array(), maps["a"][0] / 2)
    middle = image.get_cmap()(0.5)
    assert min(middle[:3]) > 0.95, "zero must be drawn white"


def test_positive_is_red_and_negative_blue():
    colours = matplotlib.colormaps[style.SIGNED_MAP]
    red, blue = colours(0.9), colours(0.1)
    assert red[0] > red[2]
    assert blue[2] > blue[0]


def test_frame_strip_spans_the_clip(grey, mask):
    figure, axes = style.subplots(1, 3)
    assert heatmaps.frame_strip(axes, grey, mask, title="ped1") is axes
    assert titles(axes)[0] == "ped1, frame 1"
    assert titles(axes)[-1] == f"frame {SHAPE[0]}"
    assert all(ax.collections for ax in axes)


def test_frame_strip_without_mask_or_title(grey):
    figure, axes = style.subplots(1, 2)
    heatmaps.frame_strip(axes, grey)
    assert titles(axes)[0] == "frame 1"
    assert not any(ax.collections for ax in axes)


def test_grid_shows_frame_then_maps_then_nothing(grey, mask, maps):
    figure, axes = style.subplots(2, 3)
    assert heatmaps.heatmap_grid(axes, grey, mask, maps, t=2) is axes
    assert titles(axes) == ["frame 3 and its mask", "a", "b", "c", "", ""]
    assert not axes[1, 2].axison
    figure.canvas.draw()


def test_grid_scales_each_map_by_its_whole_clip(grey, mask):
    values = np.zeros(SHAPE, dtype=np.float32)
    values[0], values[3] = 8.0, 2.0
    figure, axes = style.subplots(1, 2)
    heatmaps.heatmap_grid(axes, grey, mask, {"a": values}, t=3)
    assert np.allclose(axes[1].images[0].get_array(), 0.25)


def test_grid_says_when_a_map_is_zero(grey, mask):
    figure, axes = style.subplots(1, 2)
    heatmaps.heatmap_grid(axes, grey, mask, {"lime": np.zeros(SHAPE)}, t=0)
    assert [text.get_text() for text in axes[1].texts] == ["all zero"]
    assert titles(axes)[1] == "lime"


def test_a_map_scaled_by_its_maximum_is_marked_beside_a_bar_that_states_a_quantile(grey, mask):
    sparse = np.zeros((6, 20, 30))  # one voxel of 3,600, in slices one of 180
    wide, sparse[0, 3, 3] = np.zeros(sparse.shape, dtype=bool), 1.0
    wide[:, 3] = True
    figure, axes = style.subplots(1, 2)
    heatmaps.heatmap_grid(axes, sparse, wide, {"lime": sparse}, t=0)
    assert titles(axes)[1] == "lime (max)"
    assert axes[1].images[0].get_array().max() == 1
    figure, axes = style.subplots(1, 2, squeeze=False)
    heatmaps.time_grid(axes, wide, {"lime": sparse})
    assert axes[0, 0].get_ylabel() == "lime (max)" and titles(axes)[0] == "frame 1"


def test_grid_refuses_too_few_axes(grey, mask, maps):
    figure, axes = style.subplots(1, 2)
    with pytest.raises(ValueError, match="2 axes for a frame and 3 maps"):
        heatmaps.heatmap_grid(axes, grey, mask, maps, t=0)
    with pytest.raises(ValueError, match="2 axes for a frame and 3 maps"):
        heatmaps.time_slices(axes, grey, mask, maps)


def test_colour_bar_states_quantity_and_normalisation():
    figure, ax = style.subplots()
    bar = heatmaps.signed_colour_bar(ax)
    assert "attribution E / the clip's 99.5% quantile of |E|" in bar.ax.get_ylabel()
    assert bar.extend == "both"
    assert (bar.vmin, bar.vmax) == (-1, 1)


def test_time_grid_has_a_row_a_map(mask, maps):
    figure, axes = style.subplots(3, 2)
    assert heatmaps.time_grid(axes, mask, maps) is axes
    assert titles(axes)[:2] == ["frame 1", "frame 6"]
    assert [row[0].get_ylabel() for row in axes] == ["a", "b", "c"]


def test_time_slices_average_over_the_rows_of_the_anomaly(grey, mask):
    values = np.zeros(SHAPE)
    values[:, 2:5] = 3.0
    values[:, 6:] = 100.0
    figure, axes = style.subplots(1, 3)
    assert heatmaps.time_slices(axes, grey, mask, {"a": values}) is axes
    shown = axes[1].images[0].get_array()
    assert shown.shape == (SHAPE[0], SHAPE[2])
    assert np.allclose(shown, 1.0)
    assert not axes[2].axison


def test_time_slices_need_a_mask(grey, maps):
    figure, axes = style.subplots(2, 2)
    with pytest.raises(ValueError, match="mask is empty"):
        heatmaps.time_slices(axes, grey, np.zeros(SHAPE, dtype=bool), maps)


def test_positive_map_starts_at_zero_and_names_its_unit(mask):
    figure, ax = style.subplots()
    values = np.full((8, 10), 0.5)
    assert heatmaps.positive_map(ax, values, mask[0], label="grey a frame") is ax
    assert ax.images[0].get_clim()[0] == 0
    assert figure.axes[1].get_ylabel() == "grey a frame"


def test_superpixel_borders_are_drawn_where_labels_change():
    labels = np.zeros((4, 6), dtype=int)
    labels[:, 3:] = 1
    figure, ax = style.subplots()
    assert heatmaps.superpixels(ax, np.full((4, 6), 0.5), labels) is ax
    picture = ax.images[0].get_array()
    coloured = picture[..., 0] != picture[..., 2]
    assert coloured[:, 3].all()
    assert coloured.sum() == 4


def test_best_frame_is_that_of_the_largest_mask(mask):
    mask[4, :7] = True
    assert heatmaps.best_frame(mask) == 4
    assert heatmaps.best_frame(np.zeros(SHAPE, dtype=bool)) == 0


def test_spread_includes_both_ends():
    assert heatmaps.spread(16, 4) == [0, 5, 10, 15]
    assert heatmaps.spread(5, 1) == [0]


def test_figure_one_has_a_block_a_clip_and_a_tile_a_map(grey, mask, maps):
    mask[3, 2:7] = True
    clip = {"frames": grey, "mask": mask, "p_clip": 0.9, "p_baseline": 0.1}
    first = heatmaps.ShownClip(label="ped1/Test001", maps=maps, **clip)
    second = heatmaps.ShownClip(label="ped2/Test002", maps={"a": maps["a"]}, **clip)
    figure = heatmaps.figure_one([first, second])
    headings = [block.get_suptitle() for block in figure.subfigs]
    assert headings[0] == "ped1/Test001: p(x) = 0.900, p(x_b) = 0.100"
    assert headings[1].startswith("ped2/Test002")
    shown = [ax.get_title() for ax in figure.subfigs[0].axes if ax.get_title()]
    assert shown == ["frame 4 and its mask", "a", "b", "c"]
    bars = [ax.get_ylabel() for ax in figure.subfigs[1].axes if "quantile" in ax.get_ylabel()]
    assert len(bars) == 1, "every block states how its maps are scaled"
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("values", "quantile", "expected"),
    [
        ([-3.0, 2.0], 1, (3.0, False)),
        ([*np.ones(999), 1000.0], 0.99, (1.0, False)),
        ([-4.0, *np.zeros(999)], 0.9, (4.0, True)),
        ([0.0, 0.0], 0.9, (1.0, False)),
    ],
)
def test_the_limit_is_a_quantile_of_the_magnitude_or_the_maximum(values, quantile, expected):
    assert heatmaps.symmetric_limit(np.array(values), quantile=quantile) == expected


@pytest.mark.parametrize("quantile", [0, -0.1, 1.1])
def test_an_impossible_quantile_is_refused(quantile):
    with pytest.raises(ValueError, match="quantile"):
        heatmaps.symmetric_limit(np.ones(3), quantile=quantile)
