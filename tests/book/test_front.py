"""What the built book says of its run: front page, heads of chapters, cards, one page, status."""

import re

import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def html(built_book):
    return built_book[0] / "_build" / "html"


def text(html, name):
    return (html / f"{name}.html").read_text(encoding="utf-8")


def test_the_front_page_has_the_clip_the_answer_and_the_headline_table(html):
    page = text(html, "book/intro")
    (source,) = re.findall(r'<img src="([^"]+)" data-still="([^"]+)"', page)
    for name in source:
        assert 0 < (html / "book" / name).stat().st_size <= 1_000_000, name
    for words in ("motion alone", "map that says nothing", "AUC, moving ↑", "Frame difference"):
        assert words in page, words


@pytest.mark.parametrize("name", ["01_data", "04_human_centric", "07_runtime"])
def test_a_chapter_says_what_it_costs_and_can_be_taken_along(html, name):
    page = text(html, f"notebooks/{name}")
    assert "Cost of this page." in page and "GiB of memory" in page and "profile" in page
    (link,) = re.findall(r'href="([^"]*_downloads/[^"]+[.]ipynb)"', page)
    clean = (html / "notebooks" / link).resolve()
    assert clean.name == f"{name}.ipynb" and '"outputs": []' in clean.read_text()


def test_the_cards_have_costs_of_this_run_and_examples_with_their_output(html):
    methods, metrics = text(html, "book/methods"), text(html, "book/metrics")
    assert methods.count("In this run, clips of 8 × 40 × 60") == 8
    assert metrics.count("vad-computed") >= 10 and "iou 0.500, f1 0.667" in metrics


def test_all_results_hold_the_conclusion_of_every_chapter(html):
    page = text(html, "book/all_results")
    assert len(re.findall(r"<h2>", page)) >= 7
    assert page.count("<figure") >= 7


def test_the_status_lists_what_was_made(html):
    page = text(html, "book/status")
    for words in ("model.safetensors", "human_centric.csv", "peak memory", "papermill", "torch"):
        assert words in page, words


def test_the_drawing_is_in_the_page_and_named(html):
    page = text(html, "book/pieces")
    assert 'role="img" aria-labelledby="pieces-title pieces-text"' in page
