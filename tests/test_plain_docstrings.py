"""The book's Sphinx extension: docstrings written as plain text become correct pages."""

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).parents[1] / "book" / "_ext" / "plain_docstrings.py"


@pytest.fixture(scope="module")
def extension():
    spec = importlib.util.spec_from_file_location("plain_docstrings", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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
def test_escapes_what_rst_would_misread_and_nothing_else(extension, plain, escaped):
    assert extension.escape(plain) == escaped


def test_headings_of_a_module_become_rubrics(extension):
    lines = ["Title.", "", "Conventions", "-----------", "Text."]
    extension.process(None, "module", "m", None, None, lines)
    assert lines == ["Title.", "", ".. rubric:: Conventions", "", "Text."]


def test_sections_of_a_function_are_left_to_numpydoc(extension):
    lines = ["Title.", "", "Parameters", "----------", "x : int"]
    extension.process(None, "function", "f", None, None, lines)
    assert lines == ["Title.", "", "Parameters", "----------", "x : int"]


def test_a_rule_that_underlines_nothing_stays(extension):
    assert extension.rubrics(["", "-----"]) == ["", "-----"]
    assert extension.rubrics(["    indented", "-----"]) == ["    indented", "-----"]
