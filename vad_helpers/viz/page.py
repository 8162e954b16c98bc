"""What surrounds the figures of a notebook: which data, what came out, how it came about."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING

import pandas as pd
from IPython.display import HTML, Markdown, display

from vad_helpers import store
from vad_helpers.data.layout import N_OFFICIAL
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.store.tables import complete

if TYPE_CHECKING:
    from vad_helpers.store import Run

ORIGINS = {
    "walkway": "synthetic (walkway)",
    "ucsd": "UCSD",
    "own": "own videos in UCSD's layout",
}
# A number and its interval in a cell: where there is no room, the interval goes below the number.
INTERVAL = re.compile(r"<td>([-+−]?[\d.]+) (\[[^\[\]<]*\])")
MOST_NAMED = 3
"""Rows that a sentence names; more are counted."""
PACKAGES = ("vad-helpers", "torch", "captum", "numpy", "scikit-image", "scikit-learn")
NOTICES = {
    "walkway": "**Synthetic data.** This run uses `walkway`, videos drawn by a program so that "
    "everything works offline in minutes. Its numbers show how the method works; they say nothing "
    "about UCSD.",
    "ucsd": "**Real data.** This run uses the UCSD pedestrian videos in `{data_dir}` ({n} of {of} "
    "official sequences), fold {fold}. The paper's split is not published, so its numbers are a "
    "landmark and not a target.",
    "own": "**Own videos.** This run reads {n} sequences in `{data_dir}` that are in UCSD's layout "
    "but are not the official ones, fold {fold}. The paper has no numbers for them.",
}


def live() -> bool:
    """Tell whether somebody watches: progress bars belong in live sessions alone.

    Returns
    -------
    bool
        False where `VAD_BATCH` is set, as it is when the notebooks run for the book.
    """
    return not os.environ.get("VAD_BATCH")


def data_notice(run: Run) -> None:
    """Say at the top of a chapter what videos it reads: synthetic, UCSD's, or others.

    Parameters
    ----------
    run : Run
    """
    origin = store.data_origin(run)
    # A chapter opens with this: the synthetic videos need not be there yet.
    n = "" if origin == "walkway" else len(store.sequences(run))
    values = {"data_dir": run.params.data_dir, "fold": run.params.fold}
    text = NOTICES[origin].format(n=n, of=sum(N_OFFICIAL.values()), **values)
    display(Markdown(text))


def say(*sentences: str) -> None:
    """Show sentences as a list, for a summary whose numbers are computed.

    Parameters
    ----------
    *sentences : str
        Markdown; empty ones are left out.
    """
    display(Markdown("\n".join(f"- {sentence}" for sentence in sentences if sentence)))


def table(frame: pd.DataFrame, *, index: bool = True, digits: int = 3, wrap: bool = False) -> None:
    """Show a table that scrolls in its own frame where the page is narrow.

    Parameters
    ----------
    frame : DataFrame
        Missing values are shown as dashes.
    index : bool
        Show the row labels.
    digits : int
        Digits after the decimal point, of floats.
    wrap : bool
        Break long cells into lines.
    """
    display(HTML(table_html(frame, index=index, digits=digits, wrap=wrap)))


def table_html(
    frame: pd.DataFrame, *, index: bool = True, digits: int = 3, wrap: bool = False
) -> str:
    """Give a table as HTML; parameters as `table`."""
    # One header line: pandas would give the index's name a line of its own.
    frame = frame.copy()
    frame.index.names = [None] * frame.index.nlevels
    frame.columns.names = [None] * frame.columns.nlevels
    html = frame.to_html(
        index=index,
        border=0,
        na_rep="–",
        classes="vad-table",
        float_format=lambda value: f"{value:.{digits}f}",
    )
    head, body = html.split("<tbody>")
    # Screen readers announce a cell with its headers; pandas does not say what they head.
    head = re.sub(r"<th(?=[ >])", '<th scope="col"', head)
    body = re.sub(r"<th(?=[ >])", '<th scope="row"', body)
    html = f"{head}<tbody>{body}"
    if wrap:
        html = html.replace("<td>", '<td style="white-space: normal; text-align: left">')
    else:
        html = INTERVAL.sub(r'<td class="vad-mean">\1 <span>\2</span>', html)
    return f'<div class="vad-table-frame" tabindex="0">\n{html}\n</div>\n'


def spell_difference(line: pd.Series) -> str:
    """Write a paired difference and its interval, where there is one: "+0.12 [+0.08, +0.17]".

    Parameters
    ----------
    line : Series
        ``difference``, ``low``, ``high``.
    """
    if pd.isna(line["difference"]):
        return "undefined"
    interval = f"[{line['low']:+.3f}, {line['high']:+.3f}]"
    return f"{line['difference']:+.3f} {'(no interval)' if pd.isna(line['low']) else interval}"


def contrast_table(found: pd.DataFrame) -> pd.DataFrame:
    """Spell planned comparisons for reading.

    Parameters
    ----------
    found : DataFrame
        From `store.planned_contrasts`.

    Returns
    -------
    DataFrame of str
        comparison, metric, difference (with its interval), verdict (of the interval), which side
        is better, p after Holm's correction, clips. Empty where nothing was compared.
    """
    if found.empty:
        return pd.DataFrame(columns=["comparison", "metric", "difference", "verdict"])
    difference = found.apply(spell_difference, axis=1)
    sides = [
        dict(zip("ab", name.split(" - "), strict=True)).get(side, "–")
        for name, side in zip(found["contrast"], found["better"], strict=True)
    ]
    metrics = [
        f"{METRICS[metric].name}, {level}"
        for metric, level in zip(found["metric"], found["level"], strict=True)
    ]
    return pd.DataFrame({
        "comparison": found["contrast"].str.replace(" - ", " − "),
        "metric": metrics,
        "difference": difference,
        "verdict": found["verdict"],
        "better": sides,
        "p (Holm)": found["p_holm"].map("{:.2g}".format),
        "clips": found["n"].astype(str),
    })  # fmt: skip


def best(summary: pd.DataFrame, *, level: str, metric: str) -> str:
    """Say which method leads a metric, and how the best reference row does.

    Parameters
    ----------
    summary : DataFrame
        ``label``, ``family``, ``level``, ``metric``, ``mean``, ``low``, ``high``, ``n``.
    level, metric : str

    Returns
    -------
    str
        One sentence in Markdown; empty if the metric has no better side or no value. Rows with
        fewer clips than others are not compared, and named or, if many, counted.
    """
    part = summary[(summary["level"] == level) & (summary["metric"] == metric)]
    fewer = part.loc[~complete(part), "label"]
    part = part[complete(part)].dropna(subset="mean")
    if metric not in METRICS or METRICS[metric].direction is None or part.empty:
        return ""
    part = part.sort_values("mean", ascending=METRICS[metric].direction == "lower")
    is_reference = part["family"] == "reference"
    words = [_spell_best(kind, some) for kind, some in
             (("method", part[~is_reference]), ("reference row", part[is_reference]))]  # fmt: skip
    name = f"{METRICS[metric].name} ({level}, {METRICS[metric].direction} is better)"
    few = ", ".join(fewer) if len(fewer) <= MOST_NAMED else f"{len(fewer)} rows of the table"
    apart = f" Not compared, for fewer clips: {few}." if len(fewer) else ""
    return f"**{name}**: {'; '.join(filter(None, words))}.{apart}"


def _spell_best(kind: str, part: pd.DataFrame) -> str:
    if part.empty:
        return ""
    first = part.iloc[0]
    interval = "" if pd.isna(first["low"]) else f" [{first['low']:.3f}, {first['high']:.3f}]"
    return f"best {kind} {first['label']}, {first['mean']:.3f}{interval}"


def provenance(run: Run, *, since: float) -> None:
    """Show how a page came about, for its foot.

    The output's metadata hold part of it for programs, under "vad": the `attrs` of
    `provenance_table`. The head of a page and the status page of the book are written from it.

    Parameters
    ----------
    run : Run
    since : float
        `time.time()` at the start of the notebook, in seconds.
    """
    made = provenance_table(run, since=since)
    display(HTML(table_html(made, wrap=True)), metadata={"vad": made.attrs})


def provenance_table(run: Run, *, since: float) -> pd.DataFrame:
    """Collect what the provenance strip shows.

    Parameters
    ----------
    run : Run
    since : float
        As `provenance`.

    Returns
    -------
    DataFrame of str
        One column, "provenance"; the index says of what. Its `attrs` hold peak_bytes (None where
        the system does not say), device and versions.
    """
    p = run.params
    told = {"peak_bytes": _peak_resident(), "device": _device(run), "versions": _versions()}
    size = "x".join(map(str, p.frame_size))
    kind = ORIGINS[store.data_origin(run)]
    lines = {
        "profile": p.profile,
        "data": f"{kind}, clips of {p.n_frames} frames, {size} pixels",
        "fold": f"{p.fold} of 0 to {p.n_folds - 1} is tested",
        "weights": _weights(run),
        "seed": str(p.seed),
        "device": told["device"],
        "precision": p.precision,
        "versions": ", ".join([f"Python {platform.python_version()}", *told["versions"]]),
        "wall time": f"{time.time() - since:.0f} s in this notebook; what the run's folder held "
        "already was read, not computed again",
        "peak memory": _peak_memory(told["peak_bytes"]),
    }
    found = pd.DataFrame({"provenance": lines})
    found.attrs = told
    return found


def _weights(run: Run) -> str:
    p = run.params
    if p.trained_weights:
        return f"given: {os.path.basename(p.trained_weights)}"
    start = os.path.basename(p.init_weights) if p.init_weights else "random weights"
    return f"trained in this run for {p.epochs} epochs, from {start}"


def _device(run: Run) -> str:
    import torch

    if torch.cuda.is_available() and not run.params.device.startswith("cpu"):
        return torch.cuda.get_device_name()
    n = torch.get_num_threads()
    return f"CPU ({platform.machine()}, {n} thread{'s' if n > 1 else ''})"


def _versions() -> list[str]:
    return [f"{name} {metadata.version(name)}" for name in PACKAGES]


def _peak_memory(resident: int | None) -> str:
    import torch

    words = [] if resident is None else [f"{resident / 2**30:.1f} GiB"]
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        words.append(f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB on the GPU")
    return ", ".join(words) or "unknown on this system"


def _peak_resident() -> int | None:
    """Bytes; None where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
