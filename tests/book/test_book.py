"""The whole way: chapters through papermill, then the built book, on the tiny project."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest

from vad_helpers import book
from vad_helpers.run import open_run, params

pytestmark = pytest.mark.slow
CHAPTERS = [path.stem for path in book.chapters(Path(__file__).parents[2])]


@pytest.fixture
def built(built_book, monkeypatch):
    """The built book's root and run; the test works inside it."""
    monkeypatch.chdir(built_book[0])
    return built_book


def test_every_chapter_ran_without_error_or_noise(built):
    _, run = built
    for name in CHAPTERS:
        page = nbformat.read(run.dir / "notebooks" / f"{name}.ipynb", as_version=4)
        outputs = [o for c in page.cells if c.cell_type == "code" for o in c.outputs]
        assert outputs, name
        assert not [o for o in outputs if o.output_type == "error"], name
        noise = [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"]
        assert not noise, (name, noise)


def test_the_site_has_every_chapter_and_the_committed_study(built):
    html = built[0] / "_build" / "html"
    for name in CHAPTERS:
        page = (html / "notebooks" / f"{name}.html").read_text()
        (link,) = re.findall(r'href="([^"]*_downloads/[^"]+[.]ipynb)"', page)
        assert '"outputs": []' in (html / "notebooks" / link).resolve().read_text()
    study = (html / "book" / "results.html").read_text()
    assert "Kendall" in study or "tau" in study
    assert study.count("vad-table") >= 6


def test_the_quickstart_explains_every_parameter(built):
    text = (built[0] / "book" / "quickstart.md").read_text()
    assert not [name for name in params.names() if f"`{name}`" not in text]


def test_the_drawing_is_in_the_page_and_named(built):
    page = (built[0] / "_build" / "html" / "book" / "pieces.html").read_text()
    assert 'role="img" aria-labelledby="pieces-title pieces-text"' in page


def test_chapters_show_a_published_fold_without_its_videos(built, published, tmp_path):
    """No other parameter than `run_dir` is needed, and nothing is written into the folder."""
    import papermill

    before = {path: path.stat().st_mtime_ns for path in published.rglob("*")}
    together = nbformat.v4.new_notebook()
    for chapter in ("04_human_centric", "05_model_centric", "06_robustness", "07_runtime"):
        page = nbformat.read(built[0] / "notebooks" / f"{chapter}.ipynb", as_version=4)
        for cell in page.cells:
            if "parameters" in cell.metadata.get("tags", []):
                cell.source += f"\nrun_dir = {str(published)!r}"
            cell.id = f"{chapter}-{cell.id}"
            together.cells.append(cell)
    nbformat.write(together, tmp_path / "in.ipynb")
    with book.batch_mode():
        papermill.execute_notebook(
            tmp_path / "in.ipynb",
            tmp_path / "out.ipynb",
            cwd=built[0],
            kernel_name="python3",
            progress_bar=False,
        )
    assert {path: path.stat().st_mtime_ns for path in published.rglob("*")} == before


def test_a_chapter_alone_in_a_fresh_run_folder_brings_what_it_needs(built, tmp_path):
    root, _ = built
    values = {"run_dir": str(tmp_path / "alone"), "methods": ["ig"], "n_clips": 1}
    (chapter,) = [c for c in book.chapters(root) if c.stem == "05_model_centric"]
    run = open_run("tiny", **values)
    assert book.execute(run, chapter, book.injected(chapter, "tiny", values)).is_file()
    assert (tmp_path / "alone" / "model_centric.csv").is_file()


def test_a_warning_fails_the_build(built, tmp_path, monkeypatch):
    root, run = built
    broken = tmp_path / "broken"
    for name in ("book", "examples", "notebooks", "params", "results"):
        shutil.copytree(root / name, broken / name)
    shutil.copy(root / "_config.yml", broken)
    (broken / "_toc.yml").write_text("format: jb-book\nroot: book/glossary\n")  # one page will do
    page = broken / "book" / "glossary.md"
    page.write_text(page.read_text() + "\n[nowhere](no-such-page.md)\n")
    monkeypatch.chdir(broken)
    with pytest.raises(RuntimeError, match=r"did not build.*\n(.*\n)*.*no-such-page"):
        book.build_book("tiny", {"run_dir": str(run.dir), "data_dir": str(root / "data/tiny")})
