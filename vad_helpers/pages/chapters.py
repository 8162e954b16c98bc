"""What executed chapters tell of themselves: what they cost, showed and concluded.

Read from their notebooks as papermill leaves them: when they ran and for how long, what
`viz.provenance` put into its output's metadata, figures with their texts, closing summaries.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Mapping

import nbformat
from nbformat import NotebookNode

from vad_helpers import store
from vad_helpers.store.cache import Run, read_manifest

SUMMARY = "## What this run says"
KEY_FIGURE = "key-figure"
"""Tag of the cells whose figures stand on the page with all results."""

STEPS = {
    "01_data": ("clips.csv",),
    "02_training": ("model.safetensors", "predictions.csv"),
    "03_qualitative_heatmaps": ("attributions", "convergence/"),
    "04_human_centric": ("human_centric.csv", "controls.csv"),
    "05_model_centric": ("model_centric.csv",),
    "06_robustness": ("robustness.csv",),
    "07_runtime": ("runtime.csv",),
}
"""Chapter -> what it makes, if nobody made it before: entries of the manifest, or their start."""


@dataclasses.dataclass(frozen=True)
class Chapter:
    """One executed chapter.

    Attributes
    ----------
    name : str
        File name without its suffix ("04_human_centric").
    page : NotebookNode
        Its executed notebook.
    """

    name: str
    page: NotebookNode

    @property
    def title(self) -> str:
        """Heading of the page."""
        return self.page.cells[0].source.splitlines()[0].removeprefix("# ")

    @property
    def started(self) -> str:
        """When it was executed, UTC; "" if it does not say."""
        text = str(self.page.metadata.get("papermill", {}).get("start_time") or "")
        return text[:16].replace("T", " ")

    @property
    def seconds(self) -> float | None:
        """How long its execution took; None if it does not say."""
        return self.page.metadata.get("papermill", {}).get("duration")

    @property
    def told(self) -> Mapping[str, object]:
        """What `viz.provenance` knew; empty if the chapter does not show it."""
        for cell in self.page.cells:
            for output in cell.get("outputs", []):
                if "vad" in output.get("metadata", {}):
                    return output.metadata["vad"]
        return {}


@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure of an executed chapter.

    Attributes
    ----------
    png : bytes
    alt : str
        What is drawn, in words.
    heading : str
        The section that it stands in.
    """

    png: bytes
    alt: str
    heading: str


def cost_line(run: Run, chapter: Chapter) -> str:
    """Say what a page cost, for its head: data, minutes, memory.

    Parameters
    ----------
    run : Run
    chapter : Chapter

    Returns
    -------
    str
        Markdown, one paragraph.
    """
    p = run.params
    height, width = p.frame_size
    clips = f"Clips of {p.n_frames} frames of {height} × {width} pixels, profile `{p.profile}`"
    parts = [clips]
    if (made := seconds_of_step(run, chapter.name)) is not None:
        parts.append(f"{spell_seconds(made)} for what this chapter makes, when it is made anew")
    if chapter.seconds is not None:
        parts.append(f"{spell_seconds(chapter.seconds)} for this execution")
    if peak := chapter.told.get("peak_bytes"):
        parts.append(f"{peak / 2**30:.1f} GiB of memory at most")
    if device := chapter.told.get("device"):
        parts.append(f"on {device}")
    return f"**Cost of this page.** {'; '.join(parts)}."


def seconds_of_step(run: Run, chapter: str) -> float | None:
    """Seconds that went into a chapter's own artifacts; None where nothing is recorded."""
    manifest = read_manifest(run)
    names = STEPS.get(chapter, ())
    parts = [
        float(entry.get("seconds", 0))
        for name, entry in manifest.items()
        if any(name == step or (step.endswith("/") and name.startswith(step)) for step in names)
    ]
    if "attributions" in names:
        parts.append(float(store.explanations(run)["seconds"].sum()))
    return sum(parts) if parts else None


def spell_seconds(seconds: float) -> str:
    """Write a time for reading: "48 s", "7.5 min", "3.2 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def summary(chapter: Chapter) -> str:
    """Give the closing sentences of a chapter, Markdown; "" if it has none."""
    heading = ""
    for cell in chapter.page.cells:
        if cell.cell_type == "markdown":
            heading = _last_heading(cell.source) or heading
        elif heading == SUMMARY:
            texts = [output.get("data", {}).get("text/markdown", "") for output in cell.outputs]
            return "\n".join("".join(text) for text in texts if text)
    return ""


def figures(chapter: Chapter) -> list[Figure]:
    """Take the figures of the cells tagged `KEY_FIGURE` out of a chapter, in order."""
    heading, found = "", []
    for cell in chapter.page.cells:
        if cell.cell_type == "markdown":
            heading = _last_heading(cell.source) or heading
        elif KEY_FIGURE in cell.metadata.get("tags", []):
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            pictures = [output.get("data", {}).get("image/png") for output in cell.outputs]
            found += [
                Figure(base64.b64decode(png), alt, heading.lstrip("# ")) for png in pictures if png
            ]
    return found


def with_head(chapter: Chapter, text: str) -> NotebookNode:
    """Give a copy of the notebook with a paragraph of Markdown after its opening."""
    cells = [*chapter.page.cells]
    head = nbformat.v4.new_markdown_cell(text, id="cost")
    return NotebookNode({**chapter.page, "cells": [cells[0], head, *cells[1:]]})


def _last_heading(source: str) -> str:
    headings = [line for line in source.splitlines() if line.startswith("## ")]
    return headings[-1] if headings else ""
