"""An explorer of a run's maps that is one piece of HTML: no kernel, no network, no other file.

`explorer_html` collects as many clips as fit, and `fragment` packs them with the script and the
style in `static/` into HTML that stands in a page of the book, in a notebook's output or in a file
of its own. Without JavaScript, a contact sheet of the first clip is shown.

Maps are packed as the levels of `overlay`, so that the script's sets and IoU are those of
`metrics.human_centric` at the same thresholds; masks as bits; frames as JPEG, for looking only.
"""

from __future__ import annotations

import base64
import html
import io
import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from string import Template
from typing import Any

import numpy as np
from PIL import Image

from vad_helpers import store
from vad_helpers.store import Run, maps, rows
from vad_helpers.viz import overlay
from vad_helpers.viz.examples import probabilities, shown_clips
from vad_helpers.viz.heatmaps import best_frame
from vad_helpers.viz.overlay import ShownClip
from vad_helpers.viz.style import CONTOUR, png_bytes

MAX_BYTES = 3_000_000
REFERENCES = ("motion", "random")
"""Reference rows that stand beside the methods: is a map better than plain frame difference?"""
JPEG_QUALITY = 85
SHEET_DPI = 80
SHEET_ALT = (
    "Moments of one clip from left to right: a row for the grey frames with the outline of the "
    "mask, and one for each map laid over them in colour, above a tenth of its maximum: {maps}."
)


def explorer_html(run: Run, *, max_bytes: int = MAX_BYTES) -> str:
    """Make the explorer of a run: one clip of each scene first, then as many others as fit.

    Parameters
    ----------
    run : Run
        Maps that are missing are explained now.
    max_bytes : int
        Of the HTML. The first clip stays whatever its size, with the maps that fit.

    Returns
    -------
    str
        HTML, see `fragment`.
    """
    n_thresholds, steps = overlay.fit_thresholds(run.params.n_thresholds)
    labels = store.labels(run)
    order = dict.fromkeys([*shown_clips(run).values(), *store.evaluation(run)["clip_id"]])
    clips = (shown_clip(run, clip_id) for clip_id in order)
    return _fitting(clips, labels, n_thresholds=n_thresholds, steps=steps, max_bytes=max_bytes)


def shown_clip(run: Run, clip_id: str) -> ShownClip:
    """Collect one clip of a run for showing: the maps of its methods, then of `REFERENCES`."""
    row_keys = [
        row.key
        for row in rows(run).values()
        if (row.kind == "method" or row.key in REFERENCES) and clip_id in maps.clips_of(run, row)
    ]
    # Frame difference is what a map has to beat: it goes last if bytes are short.
    row_keys.sort(key=lambda key: REFERENCES.index(key) if key in REFERENCES else -1)
    p_clip, p_baseline = probabilities(run, clip_id)
    return ShownClip(
        key=clip_id,
        label=clip_label(run, clip_id),
        frames=store.frames(run, clip_id),
        mask=store.mask(run, clip_id),
        p_clip=p_clip,
        p_baseline=p_baseline,
        maps={key: store.attribution(run, clip_id, key) for key in row_keys},
    )


def clip_label(run: Run, clip_id: str) -> str:
    """Name a clip of the evaluation set for people: "ped1/Test003, frames 17 to 32"."""
    line = store.evaluation(run).set_index("clip_id").loc[clip_id]
    first = int(line["start"]) + 1
    return f"{line['sequence']}, frames {first} to {first + int(line['n_frames']) - 1}"


def fragment(
    clips: Sequence[ShownClip], labels: Mapping[str, str], *, n_thresholds: int, steps: int
) -> str:
    """Pack clips into HTML with everything the explorer needs.

    Parameters
    ----------
    clips : sequence of ShownClip
        At least one; all of one shape.
    labels : mapping of str to str
        Names of the maps for people, by key.
    n_thresholds : int
        n of tau_i = i/n max(E+), as the metrics use it.
    steps : int
        Of the levels: a multiple of `n_thresholds`, see `overlay.fit_thresholds`.

    Returns
    -------
    str
    """
    entries = [pack_clip(clip, steps=steps) for clip in clips]
    sheet = contact_image(clips[0], labels, steps=steps)
    shape = clips[0].mask.shape
    return _page(entries, sheet, labels, shape=shape, n_thresholds=n_thresholds, steps=steps)


def pack_clip(clip: ShownClip, *, steps: int) -> dict[str, Any]:
    """Turn a clip into what the script reads: strings and numbers."""
    levels = {key: overlay.to_levels(values, steps=steps) for key, values in clip.maps.items()}
    return {
        "key": clip.key,
        "label": clip.label,
        "first_frame": best_frame(clip.mask),
        "p_clip": round(clip.p_clip, 6),
        "p_baseline": round(clip.p_baseline, 6),
        "frames": f"data:image/jpeg;base64,{_jpeg(clip.frames)}",
        "mask": deflated(clip.mask.astype(np.uint8)),
        "maps": {key: deflated(values) for key, values in levels.items()},
    }


def deflated(values: np.ndarray) -> str:
    """Bytes of an array of uint8, deflated, in base64."""
    return base64.b64encode(zlib.compress(values.tobytes(), level=9)).decode()


def contact_image(clip: ShownClip, labels: Mapping[str, str], *, steps: int) -> str:
    """The contact sheet of a clip as an element of HTML that holds its pixels."""
    figure = overlay.contact_sheet(clip, labels, steps=steps)
    text = base64.b64encode(png_bytes(figure, dpi=SHEET_DPI)).decode()
    alt = html.escape(SHEET_ALT.format(maps=", ".join(labels[key] for key in clip.maps)))
    return f'<img alt="{alt}" src="data:image/png;base64,{text}">'


def _jpeg(frames: np.ndarray) -> str:
    """All frames below each other as one JPEG in base64."""
    pixels = (255 * np.clip(frames, 0, 1)).round().astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels.reshape(-1, pixels.shape[2])).save(
        stream, format="JPEG", quality=JPEG_QUALITY
    )
    return base64.b64encode(stream.getvalue()).decode()


def _fitting(
    clips: Iterable[ShownClip],
    labels: Mapping[str, str],
    *,
    n_thresholds: int,
    steps: int,
    max_bytes: int,
) -> str:
    """Pack the first clip, if need be without its last maps, and others while they fit."""
    options = {"n_thresholds": n_thresholds, "steps": steps}
    clips = iter(clips)
    first = next(clips)
    entry, sheet = pack_clip(first, steps=steps), contact_image(first, labels, steps=steps)
    empty = len(_page([], sheet, labels, shape=first.mask.shape, **options))
    while len(entry["maps"]) > 1 and empty + _size(entry) > max_bytes:
        entry["maps"].popitem()
    entries, size = [entry], empty + _size(entry)
    for clip in clips:
        entry = pack_clip(clip, steps=steps)
        size += _size(entry)
        if size > max_bytes:
            break
        entries.append(entry)
    return _page(entries, sheet, labels, shape=first.mask.shape, **options)


def _size(entry: Mapping[str, Any]) -> int:
    return len(json.dumps(entry)) + 2  # and a comma


def _page(
    entries: Sequence[Mapping[str, Any]],
    sheet: str,
    labels: Mapping[str, str],
    *,
    shape: tuple[int, int, int],
    n_thresholds: int,
    steps: int,
) -> str:
    n_frames, height, width = shape
    data = {
        "n_frames": n_frames,
        "height": height,
        "width": width,
        "n_thresholds": n_thresholds,
        "steps": steps,
        "first_threshold": round(overlay.FIRST_THRESHOLD * n_thresholds),
        "contour": CONTOUR,
        "palette": overlay.palette(steps).tolist(),
        "labels": dict(labels),
        "clips": list(entries),
    }
    folder = resources.files("vad_helpers.viz") / "static"
    parts = {name: (folder / f"explorer.{name}").read_text("utf-8") for name in ("css", "js")}
    return Template((folder / "explorer.html").read_text("utf-8")).substitute(
        style=parts["css"],
        script=parts["js"],
        # "</script>" inside a text would end the element.
        data=json.dumps(data).replace("</", "<\\/"),
        contact=sheet,
        unit=overlay.UNIT,
    )
