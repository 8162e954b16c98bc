"""The book's Sphinx extensions: plain docstrings become correct pages, examples run and print."""

import textwrap
from pathlib import Path

import computed
import plain_docstrings
import pytest

PAGES = (Path(__file__).parents[1] / "book").glob("*.md")
COMPUTED = sorted(path for path in PAGES if "```{computed}" in path.read_text())


@pytest.mark.parametrize(
    ("plain", "escaped"),
    [
        ("the mean of |S_i| there", r"the mean of \|S_i\| there"),
        ("|dI/dt| and |E|", r"\|dI/dt\| and \|E\|"),
        ("f(x, **settings) -> map", r"f(x, \*\*settings) -> map"),
        ("axis : str | None", "axis : str | None"),
        ("code ``a |= |b|`` stays", "code ``a |= |b|`` stays"),
        ("code `f(**x)` stays", "code `f(**x)` stays"),
        ("**bold** stays", "**bold** stays"),
        ("2 ** 3", "2 ** 3"),
        (">>> f(**x) | |y|", ">>> f(**x) | |y|"),
        (r"already \|x\|", r"already \|x\|"),
    ],
)
def test_escapes_what_rst_would_misread_and_nothing_else(plain, escaped):
    assert plain_docstrings.escape(plain) == escaped


def test_headings_of_a_module_alone_become_rubrics():
    heading, rubric = ["", "Title", "-----", "x"], ["", ".. rubric:: Title", "", "x"]
    for kind, given, shown in (
        ("module", heading, rubric),
        ("function", heading, heading),
        ("module", ["", "-----"], ["", "-----"]),
        ("module", ["    indented", "-----"], ["    indented", "-----"]),
    ):
        found = list(given)
        plain_docstrings.process(None, kind, "m", None, None, found)
        assert found == shown


def test_a_failing_example_is_an_error_and_nothing_is_printed_elsewhere(capsys):
    with pytest.raises(ZeroDivisionError):
        computed.printed("print('before')\n1 / 0", {})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("page", COMPUTED, ids=lambda path: path.stem)
def test_every_example_of_the_book_runs_and_those_of_the_metrics_are_worked_by_hand(page):
    lines, names, output = page.read_text().splitlines(), {}, ""
    for i, line in enumerate(lines):
        if line.strip() == "```{computed}":
            indent = len(line) - len(line.lstrip())
            end = lines.index(" " * indent + "```", i)
            code = textwrap.dedent("\n".join(lines[i + 1 : end]))
            printed = computed.printed(code, names)
            assert printed.strip(), code
            output += printed
    assert output
    if page.stem == "metrics":
        assert "iou 0.500, f1 0.667" in output  # two of the four voxels, none beside them
        assert "by hand 0.729\nauc 0.729" in output
        assert "deletion 1.000, insertion 0.000, mean_area 1.000" in output  # the constant map
        assert "deletion 0.451" in output  # (10 * .25 + 41 * .5) / 51
