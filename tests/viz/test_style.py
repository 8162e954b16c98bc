import io
import sys

import matplotlib
import pandas as pd
import pytest
from PIL import Image

from vad_helpers.attribution import METHODS
from vad_helpers.errors import InputError
from vad_helpers.viz import style


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr("IPython.display.display", found.append)
    return found


def test_methods_differ_in_colour_and_marker_and_families_in_line():
    looks = {key: style.look(key) for key in METHODS}
    for what in ("color", "marker"):
        assert len({one[what] for one in looks.values()}) == len(METHODS)
    for key, spec in METHODS.items():
        assert (looks[key]["linestyle"] == "--") == (spec.family == "perturbation"), key


def test_a_variant_looks_like_its_method_and_nothing_is_read_out_of_a_name():
    variant, method = style.look("many", of="lime"), style.look("lime")
    assert variant["color"] == method["color"] and variant["linestyle"] != method["linestyle"]
    assert style.look("lime_400") == style.look("mine") == style.look("mine", family="nonsense")
    assert style.look("mine", family="gradient")["color"] == style.FAMILY_COLOURS["gradient"]


def test_figures_neither_change_the_users_settings_nor_depend_on_them():
    def picture():
        before = dict(matplotlib.rcParams)
        figure, ax = style.subplots(width=2, height=1)
        with style.styled():
            assert matplotlib.rcParams["legend.frameon"] is False
            ax.plot([0, 1])
        ax.set_title("p")
        assert dict(matplotlib.rcParams) == before
        return style.png_bytes(figure)

    expected = picture()
    # A dark style, as a user may have it, and TeX, which may not be installed.
    theirs = {"figure.facecolor": "black", "axes.facecolor": "black", "xtick.color": "white"}
    with matplotlib.rc_context(theirs | {"lines.linewidth": 9, "text.usetex": True}):
        assert picture() == expected


def test_show_gives_a_white_png_with_its_text(shown):
    figure, _ = style.subplots(width=2, height=1)
    style.show(figure, alt="An empty pair of axes, just for this test")
    data, metadata = shown[0]._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == "An empty pair of axes, just for this test"
    assert data["image/png"]
    picture = Image.open(io.BytesIO(style.png_bytes(figure))).convert("RGB")
    assert picture.size == (2 * style.DPI, style.DPI)
    assert picture.getpixel((0, 0)) == (255, 255, 255)
    with pytest.raises(ValueError, match="at least 6 words"):
        style.show(figure, alt="A figure")


def test_a_table_rounds_dashes_escapes_heads_its_cells_and_leaves_the_original_alone(shown):
    index = pd.Index(["x", "y"], name="label")
    frame = pd.DataFrame({"a": [0.12345, None], "b": "<b>"}, index=index)
    style.table(frame, digits=2)
    html = shown[0].data
    assert "0.12" in html and "0.123" not in html and "<b>" not in html
    assert "–" in html and "NaN" not in html
    assert '<th scope="col">a</th>' in html and html.count('<th scope="row">') == 2
    assert "label" not in html and html.count("<tr") == 3 and frame.index.name == "label"
    assert '<th scope="row">' not in style.table_html(frame, index=False)


def test_without_jupyter_showing_names_the_extra_and_drawing_goes_on(monkeypatch):
    for name in ("IPython.display", "myst_nb"):
        monkeypatch.setitem(sys.modules, name, None)
    figure, _ = style.subplots(width=2, height=1)
    assert style.png_bytes(figure) and style.table_html(pd.DataFrame({"a": [1]}))
    for ask in (
        lambda: style.show(figure, alt="An empty pair of axes, just for this test"),
        lambda: style.table(pd.DataFrame({"a": [1]})),
        lambda: style.state(n=1),
    ):
        with pytest.raises(InputError, match=r"; pip install 'vad-helpers\[book\]'"):
            ask()


def test_stated_numbers_reach_the_page_by_name(monkeypatch):
    monkeypatch.setenv("VAD_BATCH", "1")
    kept = {}
    monkeypatch.setattr("myst_nb.glue", lambda name, text, display: kept.update({name: text}))
    line = pd.Series({"mean": 0.916, "low": 0.905, "high": 0.931})
    small = {"difference": -0.0131, "low": -0.02, "high": 0.001}
    style.state(line=line, small=small, n=40, share=0.456, name="LIME")
    assert kept == {"line": "0.92 [0.91, 0.93]", "small": "-0.013 [-0.020, 0.001]", "n": "40",
                    "share": "0.46", "name": "LIME"}  # fmt: skip
