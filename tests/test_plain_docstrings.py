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


@pytest.mark.parametrize(
    ("kind", "lines", "shown"),
    [
        ("module", ["", "Title", "-----", "x"], ["", ".. rubric:: Title", "", "x"]),
        *(("function", same, same) for same in (["", "Parameters", "----------", "x : int"],)),
        *(("module", same, same) for same in (["", "-----"], ["    indented", "-----"])),
    ],
)
def test_headings_of_a_module_alone_become_rubrics(extension, kind, lines, shown):
    found = list(lines)
    extension.process(None, kind, "m", None, None, found)
    assert found == shown
