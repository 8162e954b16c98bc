"""Worked examples of the book: run in order, shown with what they print."""

import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import computed  # noqa: E402  (found through the path above)

PAGES = sorted(path for path in (ROOT / "book").glob("*.md") if "```{computed}" in path.read_text())


def examples(text):
    """Code of every example of a page, in order."""
    lines, found = text.splitlines(), []
    for i, line in enumerate(lines):
        if line.strip() == "```{computed}":
            indent = len(line) - len(line.lstrip())
            end = next(j for j in range(i + 1, len(lines)) if lines[j] == " " * indent + "```")
            found.append(textwrap.dedent("\n".join(lines[i + 1 : end])))
    return found


def test_a_failing_example_is_an_error_and_nothing_is_printed_elsewhere(capsys):
    with pytest.raises(ZeroDivisionError):
        computed.printed("print('before')\n1 / 0", {})
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_example_of_the_book_runs_and_prints(page):
    names = {}
    found = examples(page.read_text())
    assert found
    for code in found:
        assert computed.printed(code, names).strip(), code


def test_the_examples_of_the_metrics_are_those_worked_by_hand():
    names = {}
    output = [
        computed.printed(code, names) for code in examples((ROOT / "book/metrics.md").read_text())
    ]
    text = "".join(output)
    assert "iou 0.500, f1 0.667" in text  # two of the four voxels, none beside them
    assert "by hand 0.729\nauc 0.729" in text
    assert "deletion 1.000, insertion 0.000, mean_area 1.000" in text  # the constant map
    assert "deletion 0.451" in text  # (10 * .25 + 41 * .5) / 51
