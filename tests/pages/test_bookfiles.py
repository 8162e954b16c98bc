"""Files of the staged book, on a run made by hand; the whole is tested with the book."""

import base64
import re
import types

import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from vad_helpers.pages import bookfiles, chapters
from vad_helpers.pages.chapters import Chapter


@pytest.fixture
def executed():
    picture = {"image/png": base64.b64encode(b"png").decode()}
    cell = new_code_cell("", outputs=[new_output("display_data", data=picture)])
    cell.metadata.update(tags=["key-figure"], mystnb={"image": {"alt": "Lines of two methods."}})
    said = new_code_cell("", outputs=[new_output("display_data", data={"text/markdown": "- Yes."})])
    told = {"vad": {"versions": ["torch 2", "numpy 2"], "device": "CPU", "peak_bytes": 2**30}}
    foot = new_output("display_data", data={"text/html": ""}, metadata=told)
    cells = [
        new_markdown_cell("# Is it so?"),
        new_markdown_cell("## Curves"),
        cell,
        new_markdown_cell(chapters.SUMMARY),
        said,
        new_code_cell("", outputs=[foot]),
    ]
    return [Chapter("05_model_centric", new_notebook(cells=cells))]


@pytest.fixture
def run(monkeypatch):
    manifest = {
        "clips.csv": {"key": "abc", "seconds": 1.2, "written": "2026-01-02T03:04:05Z"},
        "model_centric.csv": {"seconds": 100.0},
    }
    made = pd.DataFrame(
        {"method": ["ig", "ig"], "clip_id": ["a", "b"], "model_calls": [30, 30],
         "seconds": [1.5, 2.5], "machine": ["one", "one"]}
    )  # fmt: skip
    for module in (bookfiles, chapters):
        monkeypatch.setattr(module, "read_manifest", lambda run: manifest)
    monkeypatch.setattr(bookfiles.store, "explanations", lambda run: made)
    monkeypatch.setattr(bookfiles.store, "labels", lambda run: {"ig": "IG"})
    rows = {"ig": types.SimpleNamespace(kind="method"), "x": types.SimpleNamespace(kind="variant")}
    monkeypatch.setattr("vad_helpers.store.row.rows", lambda run: rows)
    monkeypatch.setattr(bookfiles.viz, "probabilities", lambda run, clip_id: (0.9, 0.25))
    params = types.SimpleNamespace(profile="quick", n_frames=16, frame_size=(80, 120))
    return types.SimpleNamespace(params=params)


def test_the_moving_clip_can_stand_still(run):
    html = bookfiles.moving(run, "ped1-a")
    assert re.search(
        r'<source media="[^"]*prefers-reduced-motion: reduce[^"]*" srcset="[^"]+png"', html
    )
    assert "<button" in html and 'data-still="../_static/run/clip.png"' in html
    assert (
        "p(anomalous) = 0.900, and 0.250" in html and "16 frames" in html and "1 heatmaps" in html
    )
    assert "\n\n" not in html, "a blank line would end the block of HTML"


def test_all_results_hold_conclusions_and_figures_with_their_texts(executed):
    found = bookfiles.all_results(executed)
    page = found["book/_run/all_results.md"]
    assert "## 1. Is it so?" in page and "- Yes." in page
    assert ":alt: Lines of two methods." in page and "{doc}`../notebooks/05_model_centric`" in page
    assert found["book/_run/figures/05_model_centric-1.png"] == b"png"
    assert "_run/figures/05_model_centric-1.png" in page


def test_the_status_names_chapters_artifacts_maps_and_versions(run, executed):
    text = bookfiles.status(run, executed)
    for words in ("Is it so?", "1.7 min", "1.0 GiB", "clips.csv", "2026-01-02 03:04:05", "abc",
                  "torch 2, numpy 2, on CPU.", "papermill"):  # fmt: skip
        assert words in text, words
    maps = bookfiles.map_table(run)
    assert maps.loc["IG", ["maps", "seconds in all"]].tolist() == [2, 4.0]


def test_the_head_offers_the_clean_notebook(run, executed):
    text = bookfiles.head(run, executed[0])
    assert "**Cost of this page.**" in text
    assert "<../book/_run/notebooks/05_model_centric.ipynb>" in text


def test_a_list_is_numbered():
    assert bookfiles.numbered(["a", "b"]) == "1. a\n2. b\n"
