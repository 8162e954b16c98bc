"""What executed chapters tell of themselves."""

import base64
import types

import nbformat
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vad_helpers.pages import chapters
from vad_helpers.pages.chapters import Chapter

PNG = base64.b64encode(b"picture").decode()


def displayed(data, **metadata):
    return new_output("display_data", data=data, metadata=metadata)


@pytest.fixture
def chapter():
    figure = new_code_cell("viz.show(fig)", outputs=[displayed({"image/png": PNG})])
    figure.metadata.update(tags=["key-figure"], mystnb={"image": {"alt": "What is drawn."}})
    other = new_code_cell("viz.show(fig)", outputs=[displayed({"image/png": PNG})])
    said = new_code_cell("viz.say()", outputs=[displayed({"text/markdown": "- It works."})])
    told = {"peak_bytes": 3 * 2**30, "device": "CPU", "versions": ["torch 1", "numpy 2"]}
    foot = new_code_cell("viz.provenance()", outputs=[displayed({"text/html": ""}, vad=told)])
    cells = [
        new_markdown_cell("# A title\n\n**Question.** Why?"),
        new_markdown_cell("## First part\n\ntext"), figure, other,
        new_markdown_cell(chapters.SUMMARY), said,
        new_markdown_cell("## What to try next"), foot,
    ]  # fmt: skip
    papermill = {"start_time": "2026-01-02T03:04:05.6+00:00", "duration": 12.5}
    return Chapter("04_human_centric", new_notebook(cells=cells, metadata={"papermill": papermill}))


@pytest.fixture
def run(monkeypatch):
    made = pd.DataFrame({"seconds": [10.0, 20.0]})
    manifest = {
        "human_centric.csv": {"seconds": 100},
        "convergence/a.csv": {"seconds": 1},
        "convergence/b.csv": {"seconds": 2},
        "clips.csv": {},
    }
    monkeypatch.setattr(chapters.store, "explanations", lambda run: made)
    monkeypatch.setattr(chapters, "read_manifest", lambda run: manifest)
    params = types.SimpleNamespace(profile="quick", n_frames=16, frame_size=(80, 120))
    return types.SimpleNamespace(params=params)


def test_title_time_and_duration_are_read(chapter):
    assert (chapter.title, chapter.started, chapter.seconds) == (
        "A title", "2026-01-02 03:04", 12.5
    )  # fmt: skip
    assert chapter.told["device"] == "CPU"


def test_a_chapter_that_tells_nothing_is_no_error(run):
    silent = Chapter("99_other", new_notebook(cells=[new_markdown_cell("# T")]))
    assert (silent.started, silent.seconds, dict(silent.told)) == ("", None, {})
    assert chapters.summary(silent) == "" and chapters.figures(silent) == []
    assert chapters.cost_line(run, silent) == (
        "**Cost of this page.** Clips of 16 frames of 80 × 120 pixels, profile `quick`."
    )


def test_the_cost_has_data_minutes_and_memory(run, chapter):
    text = chapters.cost_line(run, chapter)
    for words in ("80 × 120", "1.7 min for what", "12 s for this", "3.0 GiB", "on CPU"):
        assert words in text, text


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("04_human_centric", 100), ("03_qualitative_heatmaps", 33), ("01_data", 0), ("x", None)],
)
def test_a_step_counts_its_own_artifacts(run, name, seconds):
    assert chapters.seconds_of_step(run, name) == seconds


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "1.5 min"), (7200, "2.0 h")]
)
def test_times_are_spelled_for_reading(seconds, text):
    assert chapters.spell_seconds(seconds) == text


def test_the_summary_is_the_output_under_its_heading(chapter):
    assert chapters.summary(chapter) == "- It works."


def test_figures_come_with_their_text_and_section(chapter):
    (figure,) = chapters.figures(chapter)
    assert figure == chapters.Figure(b"picture", "What is drawn.", "First part")


def test_the_head_stands_after_the_opening_and_changes_nothing_else(chapter):
    page = chapters.with_head(chapter, "**Cost.**")
    assert page.cells[1].source == "**Cost.**" and page.cells[0] is chapter.page.cells[0]
    assert len(page.cells) == len(chapter.page.cells) + 1
    nbformat.validate(page)
