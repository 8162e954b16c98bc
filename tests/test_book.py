"""Running chapters, staging and checking the book."""

import json
import os
import sys
import zipfile

import nbformat
import pytest

from vad_helpers import book
from vad_helpers.errors import InputError
from vad_helpers.run import open_run


def notebook(*cells):
    made = nbformat.v4.new_notebook()
    for source, tags in cells:
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": tags, "papermill": {"x": 1}})
        made.cells.append(cell)
    made.metadata.update(papermill={"input_path": "x"}, language_info={"name": "python"})
    return made


def test_injected_values_move_into_the_one_parameters_cell():
    given = 'profile: str = "quick"  # which\nepochs: int = None\noverrides: dict = {}  # other'
    injected = 'profile = "ucsd"\nepochs = 3\noverrides = {"lr": 1}'
    cells = (given, ["parameters"]), (injected, ["injected-parameters"]), ("x = epochs", [])
    page = book.merge_parameters(notebook(*cells))
    wanted = 'profile: str = "ucsd"  # which\nepochs: int = 3\noverrides: dict = {"lr": 1}  # other'
    assert [cell.source for cell in page.cells] == [wanted, "x = epochs"]
    assert "papermill" not in page.metadata
    assert all("papermill" not in cell.metadata for cell in page.cells)


def test_parameters_without_a_line_of_their_own_travel_in_overrides(tmp_path):
    path = tmp_path / "01_x.ipynb"
    nbformat.write(notebook(("profile: str = 1\nepochs: int = 2", ["parameters"])), path)
    given, others = {"profile": "quick", "epochs": 2}, {"overrides": {"lr": 0.1}}
    assert book.injected(path, "quick", {"epochs": 2, "lr": 0.1}) == given | others
    assert book.injected(path, "quick", {}) == {"profile": "quick"}


@pytest.fixture
def one_chapter(in_project, tmp_path, monkeypatch):
    """A project whose only chapter holds the given code."""

    def make(code):
        path = tmp_path / "01_only.ipynb"
        head = 'profile: str = "tiny"\nrun_dir: str = None'
        nbformat.write(notebook((head, ["parameters"]), (code, [])), path)
        monkeypatch.setattr(book, "chapters", lambda root, of="run": [path] * (of == "run"))
        return {"run_dir": str(tmp_path / "run")}

    return make


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("raise RuntimeError('broken')", RuntimeError),
        ("import vad_helpers.errors as e\nraise e.InputError('no such thing')", InputError),
        ("raise PermissionError(13, 'Permission denied')", OSError),
    ],
)
def test_a_failing_chapter_is_told_apart_and_leaves_no_executed_copy(
    one_chapter, tmp_path, code, error
):
    with pytest.raises(error):
        book.execute_all("tiny", one_chapter(code))
    names = {p.name for p in (tmp_path / "run" / "notebooks").iterdir()}
    assert names == {"01_only-failed.ipynb"}


@pytest.mark.slow
def test_a_chapter_runs_in_this_python_whatever_kernels_are_installed(
    one_chapter, tmp_path, monkeypatch
):
    other = tmp_path / "kernels" / "python3" / "kernel.json"
    other.parent.mkdir(parents=True)
    wrong = {"argv": ["/bin/false", "{connection_file}"], "display_name": "x", "language": "python"}
    other.write_text(json.dumps(wrong))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    code = "import os, sys\nprint(sys.executable, os.getcwd(), os.environ['VAD_BATCH'])"
    run = book.execute_all("tiny", one_chapter(code))
    executed = nbformat.read(run.dir / "notebooks" / "01_only.ipynb", as_version=4)
    assert executed.cells[-1].outputs[0].text.split() == [sys.executable, str(run.root), "1"]
    assert os.environ["MPLBACKEND"] == "agg" and "VAD_BATCH" not in os.environ
    assert os.environ["JUPYTER_PATH"] == str(tmp_path)


def test_a_read_only_folder_is_shown_by_chapters_and_not_run(in_project, tmp_path, published):
    with pytest.raises(InputError, match="read-only"):
        book.execute_all("quick", {"run_dir": str(published)})
    assert not (published / "notebooks").exists()


@pytest.fixture
def executed(in_project, tmp_path, monkeypatch):
    """Writes an executed chapter that says it ran with these parameters."""
    chapter = tmp_path / "01_chapter.ipynb"
    monkeypatch.setattr(book, "chapters", lambda root, of="run": [chapter] * (of == "run"))
    monkeypatch.setattr(book, "write_fragments", lambda *given: None)
    overrides = {"run_dir": str(tmp_path / "run")}

    def write(**parameters):
        page = notebook(("x = 1", []))
        page.metadata["papermill"] = {"parameters": {"profile": "tiny", **overrides, **parameters}}
        copy = tmp_path / "run" / "notebooks" / chapter.name
        copy.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(page, copy)
        return overrides

    return write


def test_chapters_executed_with_the_same_parameters_are_staged(executed):
    overrides = executed(n_clips=2, epochs=1, overrides={"lr": 0.1})
    staged = book.stage(open_run("tiny", **overrides, n_clips=2, lr=0.1))
    page = nbformat.read(staged / "notebooks" / "01_chapter.ipynb", as_version=4)
    assert "{download}" in page.cells[1].source


@pytest.mark.parametrize(
    ("had", "asked"),
    [
        ({"epochs": 3}, {}),
        ({}, {"epochs": 3}),
        ({"overrides": {"lr": 0.1}}, {"lr": 0.2}),
        ({"settings": {"ig": {"n_steps": 9}}}, {}),
        ({"profile": "gone"}, {}),
    ],
)
def test_chapters_executed_with_other_parameters_are_no_book(executed, had, asked):
    overrides = executed(**had)
    with pytest.raises(InputError, match="same parameters first"):
        book.build_book("tiny", {**overrides, **asked})


def test_a_book_without_executed_chapters_says_what_to_run(in_project, tmp_path):
    with pytest.raises(InputError, match="vad run --profile tiny"):
        book.build_book("tiny", {"run_dir": str(tmp_path / "nothing")})


def site(folder, text):
    (folder / "_toc.yml").write_text("root: index\nparts:\n- chapters:\n  - file: a\n")
    html = folder / "_build" / "html"
    html.mkdir(parents=True)
    (html / "index.html").write_text("x" * 3000)
    if text is not None:
        (html / "a.html").write_text(text)
    return folder


@pytest.mark.parametrize("text", [None, "short", "Traceback (most recent call last)" + "x" * 3000])
def test_an_empty_or_erring_site_is_refused(tmp_path, text):
    with pytest.raises(RuntimeError):
        book.verify_site(site(tmp_path, text))


def test_the_zip_holds_the_whole_site_under_one_folder(tmp_path):
    with pytest.raises(RuntimeError, match="make book"):
        book.zip_site(tmp_path)
    root = site(tmp_path, "x" * 3000)
    asset = root / "_build" / "html" / "_static" / "deep" / "a.css"
    asset.parent.mkdir(parents=True)
    asset.write_text("p {}")
    packed = book.zip_site(root)
    with zipfile.ZipFile(packed) as archive:
        names = archive.namelist()
        assert archive.read("book/_static/deep/a.css") == b"p {}"
    assert packed.name == "book.zip" and "book/index.html" in names
    assert all(name.startswith("book/") for name in names)


def test_stated_numbers_are_read_out_of_executed_chapters_that_agree():
    def page(value):
        made = notebook(("x", []), ("y", []))
        data = {"application/papermill.record/text/plain": repr(value)}
        about = {"scrapbook": {"name": "auc"}}
        stated = nbformat.v4.new_output("display_data", data, metadata=about)
        made.cells[0].outputs = [stated, nbformat.v4.new_output("stream", text="z")]
        return made

    assert book.stated(page("0.9"), page("0.9")) == {"auc": "0.9"}
    with pytest.raises(ValueError, match=r"auc is stated as 0\.9 and as 0\.8"):
        book.stated(page("0.9"), page("0.8"))


def test_the_entry_to_cite_is_that_of_the_citation_file(tmp_path):
    about = "title: A, title\nversion: 1.2.0\nlicense: MIT\ndate-released: 2026-11-29\nauthors:\n"
    about += "  - name: The authors\n  - family-names: Noether\n    given-names: Emmy\n"
    (tmp_path / "CITATION.cff").write_text(about)
    entry = book.bibtex(tmp_path)
    assert "title = {{A, title}}" in entry and "year = {2026}" in entry
    assert "author = {{The authors} and Emmy Noether}" in entry
