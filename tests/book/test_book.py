"""The whole way: chapters through papermill, then the built book, on the tiny project."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
import yaml

from vad_helpers import pipeline
from vad_helpers.store import params

pytestmark = pytest.mark.slow

# Which they are, `test_notebooks_rules` says.
CHAPTERS = [path.stem for path in pipeline.notebooks(Path(__file__).parents[2])]


@pytest.fixture
def book(built_book, monkeypatch):
    """The built book's root and run; the test works inside it."""
    monkeypatch.chdir(built_book[0])
    return built_book


def test_every_chapter_ran_without_error_or_noise(book):
    _, run = book
    for name in CHAPTERS:
        page = nbformat.read(run.dir / "notebooks" / f"{name}.ipynb", as_version=4)
        outputs = [o for c in page.cells if c.cell_type == "code" for o in c.outputs]
        assert outputs, name
        assert not [o for o in outputs if o.output_type == "error"], name
        noise = [o.text for o in outputs if o.output_type == "stream" and o.name == "stderr"]
        assert not noise, (name, noise)


def test_the_site_has_intro_seven_chapters_and_this_runs_tables(book):
    html = book[0] / "_build" / "html"
    for name in CHAPTERS:
        assert (html / "notebooks" / f"{name}.html").is_file()
    assert (html / "book" / "intro.html").is_file()
    tables = (html / "book" / "this_run.html").read_text()
    for word in ("Synthetic data", "Random map", "0.1515", "623.2", "LIME"):
        assert word in tables, word
    for word in ("clip accuracy on unseen sequences", "LIME − KernelSHAP", "sign-flip test"):
        assert word in tables, word


def test_the_page_of_published_results_is_made_of_what_was_published(book):
    page = (book[0] / "_build" / "html" / "book" / "results.html").read_text()
    for word in ("1 of 5 folds", "3 of 3 clips measured", "Claim 14: ", "Kendall", "0.9331"):
        assert word in page, word
    assert "results_localisation.png" in page and "results_scene-" in page
    assert "not in this copy" not in page and "No results are published" not in page


def test_the_build_log_has_no_warning(book):
    log = (book[0] / "_build" / "build.log").read_text()
    assert "build succeeded" in log and not pipeline.warnings_in(log)


def test_every_image_of_every_page_has_alt_text(book):
    html = book[0] / "_build" / "html"
    pages = [p for p in html.rglob("*.html") if "_static" not in p.parts]
    assert len(pages) > 15
    for page in pages:
        for tag in re.findall(r"<img\b[^>]*>", page.read_text()):
            alt = re.search(r'alt="([^"]*)"', tag)
            assert alt, (page.name, tag)
            assert "_images/" not in alt[1] and not re.search(r"[0-9a-f]{20}", alt[1]), (page, tag)


def test_pages_show_one_parameters_cell_with_the_profile_that_ran(book):
    for name in CHAPTERS:
        page = nbformat.read(book[0] / "_build" / "stage" / "notebooks" / f"{name}.ipynb", 4)
        tagged = [c for c in page.cells if "parameters" in " ".join(c.metadata.get("tags", []))]
        assert len(tagged) == 1 and 'profile: str = "tiny"' in tagged[0].source


def test_pages_load_nothing_from_the_network(book):
    html = book[0] / "_build" / "html"
    loads = re.compile(r'<(?:script|img|iframe|link)\b[^>]*(?:src|href)="(https?:)?//[^"]*"[^>]*>')
    for page in html.rglob("*.html"):
        found = [m[0] for m in loads.finditer(page.read_text()) if 'rel="canonical"' not in m[0]]
        assert not found, (page.name, found)


def test_the_quickstart_explains_every_parameter(book):
    text = (book[0] / "book" / "quickstart.md").read_text()
    assert not [name for name in params.names() if f"`{name}`" not in text]


def test_a_chapter_alone_in_a_fresh_run_folder_brings_what_it_needs(book, tmp_path):
    root, _ = book
    run = pipeline.open_checked("tiny", {"run_dir": str(tmp_path / "alone")})
    values = pipeline.injected("tiny", {"run_dir": str(tmp_path / "alone"), "methods": ["ig"]})
    (chapter,) = [c for c in pipeline.notebooks(root) if c.stem == "05_model_centric"]
    assert pipeline.execute(run, chapter, values).is_file()
    assert (tmp_path / "alone" / "model_centric.csv").is_file()
    assert not (tmp_path / "alone" / "human_centric.csv").exists()


def test_a_warning_fails_the_build(book, tmp_path, monkeypatch):
    root, run = book
    broken = tmp_path / "broken"
    for name in ("book", "examples", "notebooks", "params"):
        shutil.copytree(root / name, broken / name)
    for name in ("_config.yml", "_toc.yml"):
        shutil.copy(root / name, broken / name)
    page = broken / "book" / "glossary.md"
    page.write_text(page.read_text() + "\n[nowhere](no-such-page.md)\n")
    monkeypatch.chdir(broken)
    values = yaml.safe_load((broken / "params" / "tiny.yaml").read_text())
    data = root / values["data_dir"]
    with pytest.raises(RuntimeError, match="did not build"):
        pipeline.build_book("tiny", {"run_dir": str(run.dir), "data_dir": str(data)})
