"""Files that a book is staged with beside its prose, written from the run and its chapters.

`report` has the tables of the run; here are the front page, the facts on the methods' cards, the
page with all results, the status page, and what stands at the head of every chapter.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from importlib import metadata

import pandas as pd

from vad_helpers import store, viz
from vad_helpers.attribution import METHODS
from vad_helpers.pages import cards, chapters, findings
from vad_helpers.pages.chapters import Chapter
from vad_helpers.store.cache import Run, read_manifest
from vad_helpers.store.row import methods
from vad_helpers.viz.moving import moving_clip

CLIP, STILL = "book/_static/run/clip.webp", "book/_static/run/clip.png"
BUILDERS = ("jupyter-book", "sphinx", "myst-nb", "papermill", "matplotlib")


def files(run: Run, executed: Sequence[Chapter]) -> dict[str, str | bytes]:
    """Make every file that pages include, apart from those of `report`.

    Parameters
    ----------
    run : Run
        A finished run; what is missing is built.
    executed : sequence of Chapter
        Its chapters, in order.

    Returns
    -------
    dict
        Path in the staging folder -> content (text, or bytes).
    """
    clip_id = store.evaluation(run)["clip_id"].iloc[0]
    animated, still = moving_clip(run, clip_id)
    found = findings.findings(run)
    return {
        CLIP: animated,
        STILL: still,
        "book/_run/moving.md": moving(run, clip_id),
        "book/_run/headline.md": viz.table_html(findings.headline(run)),
        "book/_run/titles.md": numbered([finding.title for finding in found]),
        "book/_run/findings.md": numbered([f"**{each.title}** {each.evidence}" for each in found]),
        "book/_run/methods.md": cards.method_table(run),
        "book/_run/metrics.md": cards.metric_table(),
        "book/_run/status.md": status(run, executed),
        **{f"book/_run/method-{key}.md": cards.method_facts(run, key) + "\n" for key in METHODS},
        **all_results(executed),
    }


def head(run: Run, chapter: Chapter) -> str:
    """Write what stands at the head of a chapter: its cost, and how to take it along."""
    return (
        f"{chapters.cost_line(run, chapter)}\n\n"
        f"**Take it along.** {{download}}`The notebook without outputs "
        f"<../book/_run/notebooks/{chapter.name}.ipynb>`; the download button of this page gives "
        "it as it was executed. {doc}`../book/quickstart` says how to run it."
    )


def moving(run: Run, clip_id: str) -> str:
    """Write the moving clip as HTML: still where motion is unwanted, and in print.

    Parameters
    ----------
    run : Run
    clip_id : str
        The clip of the picture.

    Returns
    -------
    str
        A `figure` with a button that stops it, for a page in `book/`.
    """
    p_clip, p_baseline = viz.probabilities(run, clip_id)
    n_methods = len(methods(run))
    alt = (
        f"The {run.params.n_frames} frames of one anomalous clip, the anomaly outlined in yellow, "
        f"and beside them the same frames of {n_methods} heatmaps: red where a method says that "
        "the voxel speaks for “anomalous”, blue where it speaks against."
    )
    # Raw HTML is not followed by Sphinx: the files lie in _static, which is copied whole.
    clip, still = (f"../{path.removeprefix('book/')}" for path in (CLIP, STILL))
    return (
        '<figure class="vad-moving">\n<picture>\n'
        f'<source media="print, (prefers-reduced-motion: reduce)" srcset="{still}">\n'
        f'<img src="{clip}" data-still="{still}" alt="{alt}" width="700">\n'
        "</picture>\n"
        '<button type="button" class="vad-pause" hidden>Stop the clip</button>\n'
        f"<figcaption>Clip {clip_id}, the first of the evaluation set, picked before any map was "
        f"seen. The network says p(anomalous) = {p_clip:.3f}, and {p_baseline:.3f} for the "
        "blurred clip. Each map has one scale for all its frames, and not the other maps’ "
        "scale.</figcaption>\n</figure>\n"
    )


def numbered(sentences: Sequence[str]) -> str:
    """Write a numbered list in Markdown."""
    return "\n".join(f"{i}. {text}" for i, text in enumerate(sentences, start=1)) + "\n"


def all_results(executed: Sequence[Chapter]) -> dict[str, str | bytes]:
    """Collect what the chapters conclude and their key figures, for one page that prints well.

    Parameters
    ----------
    executed : sequence of Chapter

    Returns
    -------
    dict
        `book/_run/all_results.md` and the figures beside it.
    """
    found: dict[str, str | bytes] = {}
    parts = []
    for number, chapter in enumerate(executed, start=1):
        parts.append(f"## {number}. {chapter.title}\n\n{chapters.summary(chapter)}\n")
        for i, figure in enumerate(chapters.figures(chapter), start=1):
            name = f"figures/{chapter.name}-{i}.png"
            found[f"book/_run/{name}"] = figure.png
            parts.append(
                f"```{{figure}} _run/{name}\n:alt: {figure.alt}\n\n{figure.heading}\n```\n"
            )
        parts.append(f"More in {{doc}}`../notebooks/{chapter.name}`.\n")
    return {"book/_run/all_results.md": "\n".join(parts), **found}


def status(run: Run, executed: Sequence[Chapter]) -> str:
    """Write what ran, when, how long, on what: chapters, artifacts, maps, versions."""
    return "\n".join(
        [
            "## Chapters\n",
            viz.table_html(chapter_table(run, executed).set_index("chapter")),
            "\n## Artifacts\n",
            "Seconds are those of the making, wherever in this run's history that was.\n",
            viz.table_html(artifact_table(run).set_index("artifact")),
            "\n## Maps\n",
            viz.table_html(map_table(run), digits=1, wrap=True),
            "\n## Software\n",
            f"Book staged {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC with "
            f"{', '.join(f'{name} {metadata.version(name)}' for name in BUILDERS)}. The chapters "
            f"ran with {', '.join(told(executed, 'versions')) or 'versions that they do not tell'}"
            f", on {', '.join(told(executed, 'device')) or 'a device that they do not tell'}.\n",
        ]
    )


def chapter_table(run: Run, executed: Sequence[Chapter]) -> pd.DataFrame:
    """When each chapter was executed, how long it and the making of its artifacts took, memory."""
    lines = []
    for chapter in executed:
        made = chapters.seconds_of_step(run, chapter.name)
        peak = chapter.told.get("peak_bytes")
        lines.append(
            {
                "chapter": chapter.title,
                "executed (UTC)": chapter.started or "–",
                "took": _time(chapter.seconds),
                "its artifacts": _time(made),
                "peak memory": f"{peak / 2**30:.1f} GiB" if peak else "–",
            }
        )
    return pd.DataFrame(lines)


def artifact_table(run: Run) -> pd.DataFrame:
    """Artifacts of the run from its manifest: when made, how long it took, key."""
    lines = [
        {
            "artifact": name,
            "made (UTC)": str(entry.get("written", "–")).rstrip("Z").replace("T", " "),
            "took": _time(entry.get("seconds")),
            "key": entry.get("key", "–"),
        }
        for name, entry in read_manifest(run).items()
    ]
    return pd.DataFrame(lines, columns=["artifact", "made (UTC)", "took", "key"])


def map_table(run: Run) -> pd.DataFrame:
    """Maps of every row that asks a network: how many, model calls, seconds, machine."""
    made = store.explanations(run)
    grouped = made.groupby("method", sort=False)
    found = grouped.agg(
        maps=("clip_id", "size"),
        calls=("model_calls", "mean"),
        seconds=("seconds", "sum"),
        machine=("machine", lambda names: ", ".join(sorted(set(names)))),
    )
    found.index = [store.labels(run)[key] for key in found.index]
    names = {"calls": "model calls a clip", "seconds": "seconds in all"}
    return found.rename(columns=names)


def told(executed: Sequence[Chapter], name: str) -> list[str]:
    """What the chapters' provenance says under one name ("versions", "device"), each once."""
    found: list[str] = []
    for chapter in executed:
        value = chapter.told.get(name, [])
        found += [value] if isinstance(value, str) else value
    return list(dict.fromkeys(found))


def _time(seconds: float | None) -> str:
    return "–" if seconds is None else chapters.spell_seconds(seconds)
