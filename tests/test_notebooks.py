"""Rules of the notebooks that need no run: form, parameters, alt texts, length."""

import ast
import re
from pathlib import Path

import nbformat
import pytest

from vad_helpers import book
from vad_helpers.run import params
from vad_helpers.viz.style import MIN_ALT_WORDS

ROOT = Path(__file__).parents[1]
OF_RUN, OF_STUDY = (book.chapters(ROOT, of=of) for of in ("run", "study"))
CHAPTERS = [*OF_RUN, *OF_STUDY]
# Numbers that may be typed: chance, the paper's printed values, the threshold of convergence.
CITED = {".5", ".8886", ".9331", "0.95", ".95", "7.9"}


def each_of(paths):
    """A fixture that reads every one of these chapters."""

    @pytest.fixture(params=paths, ids=lambda path: path.stem)
    def read(request):
        return nbformat.read(request.param, as_version=4)

    return read


notebook, of_run, of_study = map(each_of, (CHAPTERS, OF_RUN, OF_STUDY))


def shows(cell):
    """Calls of `viz.show` in a code cell."""
    calls = [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Call)]
    return [call for call in calls if ast.unparse(call.func) == "viz.show"]


def test_valid_with_numbered_cells_as_nbstripout_leaves_them(notebook):
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == [str(i) for i in range(len(notebook.cells))]


def test_opens_with_title_question_and_needs_and_closes_with_summary_and_outlook(notebook):
    title, question, needs = notebook.cells[0].source.split("\n\n")[:3]
    assert re.fullmatch(r"# \S.+", title)
    assert question.startswith("**Question.** ") and question.endswith("?")
    assert needs.startswith("*Needs ") and "Feeds " in needs
    markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = re.findall(r"^## (.+)$", "\n".join(markdown), flags=re.MULTILINE)
    assert headings[-2] in ("What this run says", "What this chapter says")
    assert headings[-1] == "What to try next"


def test_every_parameter_is_typed_commented_and_known(notebook):
    cell = notebook.cells[1]
    tagged = ["parameters" in cell.metadata.get("tags", []) for cell in notebook.cells]
    assert tagged[1] and sum(tagged) == 1
    lines = [line for line in cell.source.splitlines() if not line.startswith("#")]
    assert all(re.match(r"\w+: [\w ]+ = .+  # .+", line) for line in lines)
    names = [line.partition(":")[0] for line in lines]
    known = [*params.Params.model_fields, "overrides"]
    of_study = names[0] == "study_dir" and set(names) <= {"study_dir", "detectors_dir", "trial_dir"}
    assert of_study or (names[-1] == known[-1] and set(names) <= set(known))


def test_the_defaults_are_the_profile_s_and_every_parameter_reaches_the_run(of_run):
    (parameters, head), values = (cell.source for cell in of_run.cells[1:3]), {}
    exec(parameters, {}, values)
    values.pop("__annotations__")
    assert (values.pop("profile"), values.pop("overrides")) == ("quick", {})
    assert set(values.values()) == {None}
    assert all(f"{name}={name}" in head for name in values)
    assert "open_run(profile, " in head and "**overrides" in head


def test_every_figure_has_a_text_for_those_who_do_not_see_it(notebook):
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        if "viz.subplots(" not in cell.source:
            assert not shows(cell), cell.id
            continue
        (call,) = shows(cell)  # the book knows one alt text a cell
        alt = next(ast.literal_eval(k.value) for k in call.keywords if k.arg == "alt")
        assert len(alt.split()) >= MIN_ALT_WORDS, cell.id
        # The book reads the cell's metadata, live sessions the call: keep them equal.
        assert cell.metadata["mystnb"]["image"]["alt"] == alt, cell.id


def test_every_figure_is_followed_by_how_to_read_it(notebook):
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and shows(cell):
            after = [c.source for c in notebook.cells[i + 1 : i + 3] if c.cell_type == "markdown"]
            assert any(text.startswith("**How to read it.**") for text in after), cell.id


def test_every_headline_on_the_study_stands_above_its_condition(of_study):
    text = "\n".join(cell.source for cell in of_study.cells)
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:-2]:
        if not section.startswith("The maps, as in the paper's"):
            condition = r"^assert not (study|detectors|tried)\.committed or "
            assert re.search(condition, section, flags=re.MULTILINE), section[:60]


def test_no_measured_number_is_typed_into_prose(notebook):
    """Numbers about results come from the run; only cited constants are typed."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.DOTALL)
            assert set(re.findall(r"(?<![\w.])\d*\.\d+", prose)) <= CITED, cell.id
