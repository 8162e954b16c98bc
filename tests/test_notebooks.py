"""Rules of the notebooks that need no run: form, parameters, alt texts, length."""

import ast
import re
from pathlib import Path

import nbformat
import papermill
import pytest

from vad_helpers.run import params
from vad_helpers.viz.style import MIN_ALT_WORDS

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
NAMES = [
    "01_data",
    "02_training",
    "03_qualitative_heatmaps",
    "04_human_centric",
    "05_model_centric",
    "06_robustness",
    "07_runtime",
]
MAX_LINES = 15
# Numbers that may be typed: chance, the paper's printed values, the threshold of convergence.
CITED = {".5", ".8886", ".9331", "0.95", "7.9"}


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def path(request):
    return request.param


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def parameter_cells(notebook):
    return [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]


def shows(cell):
    """Calls of `viz.show` in a code cell."""
    return [
        node
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and ast.unparse(node.func) == "viz.show"
    ]


def alt_of(call):
    return next(ast.literal_eval(k.value) for k in call.keywords if k.arg == "alt")


def test_the_chapters_are_those_of_the_design():
    assert [path.stem for path in CHAPTERS] == NAMES


def test_valid_with_numbered_cells_as_nbstripout_leaves_them(notebook):
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == [str(i) for i in range(len(notebook.cells))]


def test_no_outputs_and_no_traces_of_a_run(notebook):
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert all(set(cell.metadata) <= {"tags", "mystnb"} for cell in notebook.cells)


def test_opens_with_title_question_and_needs(notebook):
    title, question, needs = notebook.cells[0].source.split("\n\n")[:3]
    assert re.fullmatch(r"# \S.+", title)
    assert question.startswith("**Question.** ") and question.endswith("?")
    assert needs.startswith("*Needs ") and "Feeds " in needs


def test_one_parameters_cell_right_after_the_opening(notebook):
    (cell,) = parameter_cells(notebook)
    assert notebook.cells[1] is cell


def test_every_parameter_is_typed_commented_and_known(notebook):
    (cell,) = parameter_cells(notebook)
    lines = [line for line in cell.source.splitlines() if not line.startswith("#")]
    assert all(re.match(r"\w+: [\w ]+ = .+  # .+", line) for line in lines)
    names = [line.partition(":")[0] for line in lines]
    assert names[-1] == "overrides"
    assert set(names[:-1]) <= set(params.names())


def test_papermill_recognises_every_parameter(path, notebook):
    (cell,) = parameter_cells(notebook)
    written = [line.partition(":")[0] for line in cell.source.splitlines() if line[0] != "#"]
    assert list(papermill.inspect_notebook(str(path))) == written


def test_the_defaults_are_the_profile_s(notebook):
    (cell,) = parameter_cells(notebook)
    values = {}
    exec(cell.source, {}, values)
    values.pop("__annotations__")
    assert values.pop("profile") == "quick"
    assert values.pop("overrides") == {}
    assert set(values.values()) == {None}


def test_every_parameter_reaches_the_run(notebook):
    (cell,) = parameter_cells(notebook)
    head = notebook.cells[2].source
    for name in re.findall(r"^(\w+):", cell.source, flags=re.MULTILINE):
        assert name in ("profile", "overrides") or f"{name}={name}" in head
    assert "open_run(profile, " in head and "**overrides" in head


def test_cells_are_short(notebook):
    for cell in code_cells(notebook):
        assert len(cell.source.splitlines()) <= MAX_LINES, cell.id


def test_every_figure_has_a_text_for_those_who_do_not_see_it(notebook):
    for cell in code_cells(notebook):
        if "viz.subplots(" not in cell.source:
            assert not shows(cell), cell.id
            continue
        (call,) = shows(cell)  # the book knows one alt text a cell
        alt = alt_of(call)
        assert len(alt.split()) >= MIN_ALT_WORDS, cell.id
        # The book reads the cell's metadata, live sessions the call: keep them equal.
        assert cell.metadata["mystnb"]["image"]["alt"] == alt, cell.id


def test_every_figure_is_followed_by_how_to_read_it(notebook):
    for i, cell in enumerate(notebook.cells):
        if cell.cell_type == "code" and shows(cell):
            after = [c.source for c in notebook.cells[i + 1 : i + 3] if c.cell_type == "markdown"]
            assert any(text.startswith("**How to read it.**") for text in after), cell.id


def test_closes_with_summary_and_outlook(notebook):
    markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    headings = re.findall(r"^## (.+)$", "\n".join(markdown), flags=re.MULTILINE)
    assert headings[-2:] == ["What this run says", "What to try next"]


def prose(notebook):
    """Texts that a reader takes for words about results, cell by cell."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            without_code = re.sub(r"```.*?```|`[^`]*`", "", cell.source, flags=re.DOTALL)
            yield cell.id, without_code
        elif "parameters" not in cell.metadata.get("tags", []):
            yield from ((cell.id, text) for text in strings(cell.source))


def strings(code):
    """String literals of words, the literal parts of f-strings included; no format's `.3f`."""
    found = [
        node.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    return [text for text in found if " " in text]


def typed_numbers(text):
    return re.findall(r"(?<![\w.])\d*\.\d+", text)


def test_the_pattern_finds_decimals_with_and_without_a_leading_digit():
    assert typed_numbers("AUC of .92, not 0.5 or 1.25; v2.0, 1e-3") == [".92", "0.5", "1.25"]
    assert strings("say(f'the mean {x:.3f} is above .92', 'name')") == [
        "the mean ",
        " is above .92",
    ]


def test_no_measured_number_is_typed_into_prose(notebook):
    """Numbers about results come from the run; only cited constants are typed."""
    typed = [(i, n) for i, text in prose(notebook) for n in typed_numbers(text) if n not in CITED]
    assert typed == []


def statements(notebook, kind):
    return [
        (cell.id, node)
        for cell in code_cells(notebook)
        for node in ast.walk(ast.parse(cell.source))
        if isinstance(node, kind)
    ]


def test_chapters_define_nothing(notebook):
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert [i for i, node in statements(notebook, defined) if not short_lambda(node)] == []


def short_lambda(node):
    """A formatter handed to pandas is no logic that a test should have seen."""
    return isinstance(node, ast.Lambda) and len(ast.unparse(node)) <= 70


def test_chapters_write_no_files_and_style_nothing(notebook):
    text = "\n".join(cell.source for cell in code_cells(notebook))
    assert "open(" not in text.replace("open_run(", "")
    assert "plt." not in text and "rcParams" not in text
