"""One visual language for figures and tables: sizes, colours, looks of rows, how to show.

Colours are those of Okabe and Ito, which people with colour vision deficiencies can tell apart:
cool ones for gradient methods, warm ones for perturbation methods, greys for the reference rows;
methods beyond the paper have Paul Tol's muted ones.
Line style and marker repeat the distinction. Signed maps use a diverging scale centred at zero.
Figures are drawn from Matplotlib's own defaults: a user's `matplotlibrc` changes nothing.
"""

from __future__ import annotations

import io
import os
import re
import tomllib
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure

from vad_helpers.errors import needs

DPI = 110
WIDTH = 7.8
"""Width of a figure in inches: with `DPI`, the width of the book's text."""
MIN_ALT_WORDS = 6

SIGNED_MAP = "RdBu_r"
POSITIVE_MAP = "viridis"
CONTOUR = "#F0E442"
GREY = "#6E6E6E"
FAMILY_COLOURS = {"gradient": "#0072B2", "perturbation": "#D55E00", "reference": GREY}
CLASS_COLOURS = {"normal": "#56B4E9", "anomalous": "#D55E00"}

_STATIC = Path(__file__).with_name("static")
# A number and its interval in a cell: where there is no room, the interval goes below the number.
_INTERVAL = re.compile(r"<td>([-+−]?[\d.]+) (\[[^\[\]<]*\])")
_LOOKS = tomllib.loads((_STATIC / "looks.toml").read_text("utf-8"))


def look(row: str, *, family: str = "", of: str = "") -> dict[str, Any]:
    """Give colour, line style and marker of a row, as `Axes.plot` takes them.

    `family` ("gradient", "perturbation", "reference") colours a row not known here. A variant has
    the colour of the method that it is `of`, and a dotted line.
    """
    if row in _LOOKS:
        colour, line, marker = _LOOKS[row]
    elif of in _LOOKS:
        colour, line, marker = _LOOKS[of][0], (0, (1, 1)), "."
    else:
        colour, line, marker = FAMILY_COLOURS.get(family, GREY), "-.", "p"
    marker = tuple(marker) if isinstance(marker, list) else marker  # which Matplotlib cannot read
    return {"color": colour, "linestyle": line, "marker": marker}


def styled() -> AbstractContextManager[None]:
    """Make artists in the style of the figures within this context; nothing stays changed."""
    # "default" keeps the backend, which notebooks need.
    return matplotlib.style.context(["default", _STATIC / "figures.mplstyle"])


def subplots(
    n_rows: int = 1,
    n_columns: int = 1,
    *,
    width: float = WIDTH,
    height: float = 3.2,
    **options: Any,
) -> tuple[Figure, Any]:
    """Make a white figure and its axes, apart from pyplot's list of open figures.

    Width and height are in inches; `options` go to `Figure.subplots`, as ``sharex=True``.
    """
    with styled():
        figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
        return figure, figure.subplots(n_rows, n_columns, **options)


def show(figure: Figure, *, alt: str) -> None:
    """Show a figure in a notebook, with a text for those who do not see it.

    The picture is a PNG on white whatever the backend, and carries its text in a live notebook and
    in nbconvert's pages; the book takes it from the cell's metadata (`mystnb`, `image`, `alt`).
    `alt` says what is drawn (axes, marks, colours), not what comes out, which differs from run to
    run; ValueError if it is too short to describe a figure.
    """
    if len(alt.split()) < MIN_ALT_WORDS:
        words = f"describe what is drawn in at least {MIN_ALT_WORDS} words"
        raise ValueError(f"alt is {alt!r}; {words}")
    with needs("book"):
        from IPython.display import Image, display
    display(Image(data=png_bytes(figure), format="png", alt=alt))


def png_bytes(figure: Figure, *, dpi: int = DPI) -> bytes:
    """Render a figure as a PNG on white, whatever the backend; `dpi` is in pixels an inch."""
    stream = io.BytesIO()
    with styled():  # ticks and texts are completed only when they are drawn
        figure.savefig(stream, format="png", dpi=dpi, facecolor="white", edgecolor="none")
    return stream.getvalue()


def table(frame: pd.DataFrame, *, index: bool = True, digits: int = 3, wrap: bool = False) -> None:
    """Show a table that scrolls in its own frame where the page is narrow; see `table_html`."""
    with needs("book"):
        from IPython.display import HTML, display
    display(HTML(table_html(frame, index=index, digits=digits, wrap=wrap)))


def table_html(
    frame: pd.DataFrame, *, index: bool = True, digits: int = 3, wrap: bool = False
) -> str:
    """Give a table as HTML that scrolls, is reached by keyboard and tells what its headers head.

    Missing values are dashes, floats have `digits` after the point, `index` shows the row labels,
    and `wrap` breaks long cells into lines. An interval behind a number, as in "0.5 [0.4, 0.6]",
    goes below it where there is no room beside it.
    """
    # One header line: pandas would give the index's name a line of its own.
    frame = frame.rename_axis(index=[None] * frame.index.nlevels)
    frame.columns = frame.columns.set_names([None] * frame.columns.nlevels)
    html = frame.to_html(
        index=index,
        border=0,
        na_rep="–",
        classes="vad-table",
        float_format=lambda value: f"{value:.{digits}f}",
    )
    # Screen readers announce a cell with its headers; pandas does not say what they head.
    head, body = html.split("<tbody>")
    head = re.sub(r"<th(?=[ >])", '<th scope="col"', head)
    body = re.sub(r"<th(?=[ >])", '<th scope="row"', body)
    if wrap:
        body = body.replace("<td>", '<td style="white-space: normal; text-align: left">')
    else:
        body = _INTERVAL.sub(r'<td class="vad-mean">\1 <span>\2</span>', body)
    return f'<div class="vad-table-frame" tabindex="0">\n{head}<tbody>{body}\n</div>\n'


def state(**numbers: Any) -> None:
    """Give the prose its numbers: `{{ name }}` in a page's text becomes what has that name here.

    A line with mean (or difference), low and high reads "0.92 [0.91, 0.93]", with three digits
    below a tenth; a float has two digits after the point; the rest is as it is. Pages beside the
    notebooks may use the same names. A live session shows the numbers: its text keeps the braces.
    """
    with needs("book"):
        from IPython.display import display
        from myst_nb import glue  # brings Sphinx along: pages alone need it

    told = {}
    for name, given in numbers.items():
        if isinstance(given, pd.Series | dict):
            centre = given["mean"] if "mean" in given else given["difference"]
            digits = 2 if abs(centre) >= 0.1 else 3
            ends = f"[{given['low']:.{digits}f}, {given['high']:.{digits}f}]"
            given = f"{centre:.{digits}f} {ends}"
        told[name] = f"{given:.2f}" if isinstance(given, float) else str(given)
        if "nan" in told[name].split():
            raise ValueError(f"{name} is {told[name]}: a sentence would state what is not there")
        glue(name, told[name], display=False)
    if live():
        display(told)


def live() -> bool:
    """Tell whether somebody watches: progress bars belong in live sessions alone.

    False where `VAD_BATCH` is set, as it is when the notebooks run for the book.
    """
    return not os.environ.get("VAD_BATCH")
