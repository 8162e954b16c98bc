import base64
import io

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from vad_helpers.attribution import METHODS
from vad_helpers.viz import style

PERTURBATION = {"kernel_shap", "lime", "occlusion_lp", "occlusion_sp"}


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr(style, "display", found.append)
    return found


def test_every_method_has_a_colour_of_its_own():
    colours = [style.look(key).colour for key in METHODS]
    assert len(METHODS) == 8
    assert len(set(colours)) == 8


def test_every_method_has_a_marker_of_its_own():
    assert len({style.look(key).marker for key in METHODS}) == 8


def test_line_style_tells_the_families_apart():
    dashed = {key for key in METHODS if style.look(key).line == "--"}
    assert dashed == PERTURBATION


def test_a_variant_has_the_colour_of_its_method_but_another_line():
    variant, method = style.look("lime_converged"), style.look("lime")
    assert variant.colour == method.colour
    assert variant.line != method.line


def test_a_variant_belongs_to_the_longest_method_name_it_starts_with():
    assert style.parent_of("ig_smoothgrad_low_noise") == "ig_smoothgrad"
    assert style.parent_of("ig_smoothgrad") is None
    assert style.parent_of("mine") is None


def test_an_unknown_row_has_the_colour_of_its_family():
    assert style.look("mine", "gradient").colour == style.FAMILY_COLOURS["gradient"]
    assert style.look("mine").colour == style.look("mine", "nonsense").colour


def test_order_is_fixed_with_variants_after_their_method_and_strangers_last():
    keys = ["mine", "random", "lime_converged", "occlusion_sp", "lime", "ig", "ig"]
    expected = ["ig", "lime", "lime_converged", "occlusion_sp", "random", "mine"]
    assert style.ordered(keys) == expected


def test_limit_is_the_maximum_magnitude_by_default():
    assert style.symmetric_limit(np.array([-3.0, 2.0])) == (3.0, 1)


def test_limit_at_a_quantile_ignores_what_lies_beyond():
    values = np.append(np.ones(999), 1000.0)
    assert style.symmetric_limit(values, quantile=0.99) == (1.0, 0.99)


def test_limit_of_a_sparse_map_is_its_maximum_and_says_so():
    values = np.zeros(1000)
    values[0] = -4.0
    assert style.symmetric_limit(values, quantile=0.9) == (4.0, 1)


def test_limit_of_a_map_of_zeros_is_one():
    assert style.symmetric_limit(np.zeros(5), quantile=0.9) == (1.0, 0.9)


@pytest.mark.parametrize("quantile", [0, -0.1, 1.1])
def test_an_impossible_quantile_is_refused(quantile):
    with pytest.raises(ValueError, match="quantile"):
        style.symmetric_limit(np.ones(3), quantile=quantile)


def test_style_and_subplots_leave_the_global_settings_alone():
    before = dict(matplotlib.rcParams)
    with style.styled():
        assert matplotlib.rcParams["legend.frameon"] is False
    style.subplots(2, 2)
    assert dict(matplotlib.rcParams) == before


def test_subplots_are_white_whatever_the_global_settings():
    with matplotlib.rc_context({"figure.facecolor": "black", "axes.facecolor": "black"}):
        figure, ax = style.subplots()
    assert figure.get_facecolor() == (1, 1, 1, 1)
    assert ax.get_facecolor() == (1, 1, 1, 1)


def test_show_gives_a_white_png_with_its_text(shown):
    figure, _ = style.subplots(width=2, height=1)
    style.show(figure, alt="An empty pair of axes, just for this test")
    data, metadata = shown[0]._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == "An empty pair of axes, just for this test"
    png = data["image/png"]
    raw = base64.b64decode(png) if isinstance(png, str) else png
    picture = Image.open(io.BytesIO(raw)).convert("RGB")
    assert picture.size == (2 * style.DPI, style.DPI)
    assert picture.getpixel((0, 0)) == (255, 255, 255)


def test_a_png_has_the_pixels_an_inch_and_the_margins_asked_for():
    figure, _ = style.subplots(width=2, height=1)
    assert Image.open(io.BytesIO(style.png_bytes(figure, dpi=50))).size == (100, 50)
    empty = Figure((2, 1))
    empty.text(0.5, 0.5, "x")
    assert Image.open(io.BytesIO(style.png_bytes(empty, bbox_inches="tight"))).size[0] < style.DPI


def test_show_refuses_a_text_that_describes_nothing(shown):
    figure, _ = style.subplots()
    with pytest.raises(ValueError, match="at least 6 words"):
        style.show(figure, alt="A figure")
    assert shown == []
