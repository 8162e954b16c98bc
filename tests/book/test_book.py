"""The whole way: chapters through papermill, then the built book, on the tiny project."""

import re
import shutil
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from vad_helpers import book
from vad_helpers.run import params

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
CHAPTERS = [path.stem for path in book.chapters(ROOT)]


@pytest.fixture
def built(built_book, monkeypatch):
    """The built book's root and run; the test works inside it."""
    monkeypatch.chdir(built_book[0])
    return built_book


def test_every_chapter_ran_without_noise_and_is_in_the_site_with_the_study(built):
    html = built[0] / "_build" / "html"
    for name in CHAPTERS:
        page = nbformat.read(built[1].dir / "notebooks" / f"{name}.ipynb", as_version=4)
        outputs = [o for c in page.cells if c.cell_type == "code" for o in c.outputs]
        noise = [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"]
        assert outputs and not noise, (name, noise)
        page = (html / "notebooks" / f"{name}.html").read_text()
        (link,) = re.findall(r'href="([^"]*_downloads/[^"]+[.]ipynb)"', page)
        assert '"outputs": []' in (html / "notebooks" / link).resolve().read_text()
    for path in book.chapters(built[0], of="study"):
        assert (html / "notebooks" / f"{path.stem}.html").read_text().count("<img") >= 2


def test_the_quickstart_explains_every_parameter(built):
    text = (built[0] / "book" / "quickstart.md").read_text()
    assert not [name for name in params.Params.model_fields if f"`{name}`" not in text]


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
    options = {"cwd": built[0], "kernel_name": "python3", "progress_bar": False}
    with book.batch_mode():
        papermill.execute_notebook(tmp_path / "in.ipynb", tmp_path / "out.ipynb", **options)
    assert {path: path.stat().st_mtime_ns for path in published.rglob("*")} == before


@pytest.fixture
def changed(built, tmp_path, monkeypatch):
    """A copy of the project to change, and what builds the book of the same run there."""
    root, run = built
    folder = tmp_path / "changed"
    for name in ("benchmarks", "book", "examples", "notebooks", "params", "results"):
        shutil.copytree(root / name, folder / name)
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        shutil.copy(root / name, folder)
    monkeypatch.chdir(folder)
    given = {"run_dir": str(run.dir), "data_dir": str(root / "data/tiny")}
    return folder, lambda: book.build_book("tiny", given)


def test_a_warning_fails_the_build(changed):
    folder, build = changed
    for path in book.chapters(folder, of="study"):  # one page will do
        path.unlink()
    (folder / "_toc.yml").write_text("format: jb-book\nroot: book/glossary\n")
    page = folder / "book" / "glossary.md"
    page.write_text(page.read_text() + "\n[nowhere](no-such-page.md)\n")
    with pytest.raises(RuntimeError, match=r"did not build.*\n(.*\n)*.*no-such-page"):
        build()


def test_a_result_that_contradicts_a_headline_stops_the_build(changed):
    """Frame difference no longer beats every explanation: its AUC is another one by far."""
    folder, build = changed
    (folder / "notebooks" / "08_paper.ipynb").unlink()
    for path in (folder / "results" / "ucsd-earlier").glob("fold-*/human_centric.csv"):
        scores = pd.read_csv(path, dtype=str, keep_default_na=False)
        one = scores[["row", "level", "metric"]].eq(["motion", "clip", "auc"]).all(axis=1)
        scores.loc[one, "value"] = "0.7"
        scores.to_csv(path, index=False, lineterminator="\n")
    with pytest.raises(RuntimeError, match="09_controls failed with AssertionError"):
        build()


def test_readme_and_front_page_say_what_the_tables_say(built):
    root, run = built
    numbers = {}
    for path in book.chapters(root, of="study"):
        numbers |= book.stated(nbformat.read(run.dir / "notebooks" / path.name, as_version=4))
    interval = r"-?\d[.]\d+ \[-?\d[.]\d+, -?\d[.]\d+\]"
    typed = re.findall(interval, (ROOT / "README.md").read_text())
    assert len(typed) >= 3 and set(typed) <= set(numbers.values())
    for page in ("intro", "answers"):
        text = (ROOT / "book" / f"{page}.md").read_text()
        assert not re.findall(interval, text)
        html = (root / "_build" / "html" / "book" / f"{page}.html").read_text()
        for name in re.findall(r"{{ (\w+) }}", text):
            assert numbers[name] in html, name
