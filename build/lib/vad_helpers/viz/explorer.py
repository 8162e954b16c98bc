"""Explorers of a run's maps: one with widgets, for live sessions, and one for pages.

``Explorer(run)``, as the last line of a cell, shows a clip under a map, and explains it now, under
any baseline, where the run has no map. `explorer_html` packs clips and maps, with what is in
`static/`, into HTML that needs no kernel, no network and no other file; without JavaScript, a
contact sheet of the first clip stands in for it.

Conventions
-----------
Shown is E+ = max(E, 0), the part that the metrics count, divided by its maximum over the clip. It
is kept as *levels*, one byte a voxel: 0 where E+ is 0, else 1 + floor(steps * E+ / max). `steps`
is a multiple of the number n of thresholds, so that "E+ >= i/n max" is "level > i * steps/n",
without error: sets and IoU of the levels are those of the map itself. Pages hold masks as bits, and
frames as JPEG, for looking only.
"""

from __future__ import annotations

import base64
import dataclasses
import html
import io
import json
import threading
import zlib
from collections.abc import Iterable
from concurrent.futures import CancelledError
from importlib import resources
from string import Template
from typing import Any, get_args

import matplotlib
import numpy as np
import torch
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from PIL import Image
from scipy import ndimage

from vad_helpers.errors import needs
from vad_helpers.metrics.arrays import threshold_levels
from vad_helpers.metrics.human_centric import iou_curve
from vad_helpers.run import steps
from vad_helpers.run.cache import Run
from vad_helpers.run.params import Baseline
from vad_helpers.run.rows import TIME_AVERAGE, Row
from vad_helpers.viz.heatmaps import ShownClip, best_frame, frame, spread
from vad_helpers.viz.style import CONTOUR, POSITIVE_MAP, png_bytes, styled, subplots

with needs("book"):
    import ipywidgets as widgets

MAX_BYTES = 3_000_000
PICTURE_WIDTH = 480
MIN_STEPS, MAX_STEPS = 50, 254
FIRST_THRESHOLD = 0.1
"""Share of a map's maximum that is left uncoloured at first: all of E+ would cover the frames."""
REFERENCES = ("motion", "random")
"""Reference rows that stand beside the methods: is a map better than plain frame difference?"""
UNIT = "E+ / its maximum over the clip"


def fit_thresholds(n_thresholds: int) -> tuple[int, int]:
    """Give the number of thresholds that can be shown, and the steps of the levels for it.

    `steps` is a multiple of at least `MIN_STEPS`, for smooth colours. More thresholds than a byte
    can tell apart become `MIN_STEPS`.
    """
    n_shown = n_thresholds if n_thresholds <= MAX_STEPS else MIN_STEPS
    return n_shown, n_shown * -(-MIN_STEPS // n_shown)


def to_levels(attribution: np.ndarray, *, steps: int) -> np.ndarray:
    """Turn the signed map of a whole clip into levels: uint8, 0 .. `steps` + 1."""
    return (threshold_levels(np.maximum(attribution, 0), steps) + 1).astype(np.uint8)


def palette(steps: int) -> np.ndarray:
    """Colours of the levels 1 .. steps + 1: uint8 (steps + 1, 3)."""
    colours = matplotlib.colormaps[POSITIVE_MAP](np.linspace(0, 1, steps + 1))
    return (255 * colours[:, :3]).round().astype(np.uint8)


def blend(
    grey: np.ndarray, levels: np.ndarray, *, steps: int, above: float = 0, opacity: float = 0.7
) -> np.ndarray:
    """Lay the colours of levels above `above` over a grey frame: uint8 (H, W, 3).

    `grey` is float (H, W) in [0, 1], `levels` uint8 (H, W) of `steps`, as from `to_levels`;
    `opacity` is in [0, 1], and at 1 the colours are those of the colour bar.
    """
    pixels = np.repeat(255 * np.clip(grey, 0, 1)[..., None], 3, axis=2)
    shown = levels > above
    colours = palette(steps)[levels[shown].astype(int) - 1]
    pixels[shown] = (1 - opacity) * pixels[shown] + opacity * colours
    return pixels.round().astype(np.uint8)


def outlined(pixels: np.ndarray, mask: np.ndarray, *, scale: int) -> np.ndarray:
    """Enlarge a uint8 (H, W, 3) picture and outline a (H, W) mask: yellow inside, black around."""
    large = pixels.repeat(scale, axis=0).repeat(scale, axis=1)
    inside = mask.repeat(scale, axis=0).repeat(scale, axis=1)
    yellow = (255 * np.array(matplotlib.colors.to_rgb(CONTOUR))).round()
    large[inside & ~ndimage.binary_erosion(inside, border_value=1)] = yellow
    large[ndimage.binary_dilation(inside) & ~inside] = 0
    return large


def data_url(pixels: np.ndarray, kind: str, **options: Any) -> str:
    """Give a uint8 picture as the source of an `img`: a file of a `kind` that Pillow writes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format=kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode()}"


def contact_sheet(clip: ShownClip, *, steps: int, n_moments: int = 4) -> Figure:
    """Draw `n_moments` of a clip from left to right, a row for the frames and one for each map."""
    rows: dict[str, Any] = {"frames and mask": np.zeros(clip.mask.shape, dtype=np.uint8)}
    rows |= {name: to_levels(values, steps=steps) for name, values in clip.maps.items()}
    figure, axes = subplots(len(rows), n_moments, height=1.25 * len(rows), squeeze=False)
    for i, (line, (name, levels)) in enumerate(zip(axes, rows.items(), strict=True)):
        for ax, t in zip(line, spread(len(clip.mask), n_moments), strict=True):
            pixels = blend(clip.frames[t], levels[t], steps=steps, above=FIRST_THRESHOLD * steps)
            frame(ax, pixels, clip.mask[t], title="" if i else f"frame {t + 1}")
        line[0].set_ylabel(name.replace(" ", "\n", 1), fontsize=7)
    with styled():
        scale = ScalarMappable(Normalize(0, 1), POSITIVE_MAP)
        figure.colorbar(scale, ax=axes, shrink=0.5, aspect=30, pad=0.01, label=UNIT)
    return figure


def clip_labels(run: Run) -> dict[str, str]:
    """Name the clips of the evaluation set for people: "ped1/Test003, frames 17 to 32"."""
    return {
        line.clip_id: f"{line.sequence}, frames {line.start + 1} to {line.start + line.n_frames}"
        for line in steps.evaluation(run).itertuples()
    }


def held(run: Run, clip_id: str, row: Row) -> bool:
    """Tell whether a map is there without asking a network."""
    return row.method is None or steps.map_path(run, clip_id, row).is_file()


def shown_clip(run: Run, clip_id: str, rows: Iterable[str]) -> ShownClip:
    """Collect one clip of a run for showing, with the maps of `rows`: missing ones are explained.

    Rows are given by their keys; maps have their labels.
    """
    pair = torch.stack([steps.clip(run, clip_id), steps.baseline(run, clip_id)])
    p_clip, p_baseline = steps.predictor(run)(pair).tolist()
    return ShownClip(
        label=clip_labels(run)[clip_id],
        frames=steps.frames(run, clip_id),
        mask=steps.mask(run, clip_id),
        maps={steps.rows(run)[key].label: steps.attribution(run, clip_id, key) for key in rows},
        p_clip=p_clip,
        p_baseline=p_baseline,
    )


def explorer_html(run: Run, *, max_bytes: int = MAX_BYTES) -> str:
    """Make the explorer of a run: one clip of each scene first, then as many others as fit.

    Of the first clip of each scene, missing maps are explained now; other clips are shown with the
    maps that the run holds, if it holds one of a method. See `fragment`.
    """
    evaluated, known = steps.evaluation(run), steps.rows(run)
    rows = {key: row for key, row in known.items() if row.kind == "method"}
    rows |= {key: known[key] for key in REFERENCES}
    firsts = evaluated.groupby("scene")["clip_id"].first().tolist()
    wanted = {c: [k for k in rows if c in steps.clips_of(run, rows[k])] for c in firsts}
    for clip_id in evaluated["clip_id"][~evaluated["clip_id"].isin(firsts)]:
        there = [key for key, row in rows.items() if held(run, clip_id, row)]
        if set(there) - set(REFERENCES):
            wanted[clip_id] = there
    clips = (shown_clip(run, clip_id, keys) for clip_id, keys in wanted.items())
    n, second = run.params.n_thresholds, rows["motion"].label
    return fragment(clips, n_thresholds=n, second=second, max_bytes=max_bytes)


def fragment(
    clips: Iterable[ShownClip], *, n_thresholds: int, second: str = "", max_bytes: int = MAX_BYTES
) -> str:
    """Pack clips into HTML with everything the explorer needs.

    `clips`, at least one, are of one shape. The first comes whatever its size, if need be without
    its last maps; others while the HTML has at most `max_bytes`. `n_thresholds` is n of tau_i = i/n
    max(E+), as the metrics use it; `second` names the map to compare with at first.
    """
    n_shown, n_steps = fit_thresholds(n_thresholds)
    clips = iter(clips)
    first = next(clips)
    sheet = base64.b64encode(png_bytes(contact_sheet(first, steps=n_steps), dpi=80)).decode()
    alt = html.escape(
        "Moments of one clip from left to right: a row for the grey frames with the outline of the "
        "mask, and one for each map laid over them in colour, above a tenth of its maximum: "
        f"{', '.join(first.maps)}."
    )
    data = dict(zip(("n_frames", "height", "width"), first.mask.shape, strict=True))
    data |= {"n_thresholds": n_shown, "steps": n_steps, "palette": palette(n_steps).tolist()}
    data |= {"first_threshold": round(FIRST_THRESHOLD * n_shown)}
    data |= {"contour": CONTOUR, "second": second}
    folder = resources.files("vad_helpers.viz") / "static"
    text = {k: (folder / f"explorer.{k}").read_text("utf-8") for k in ("css", "html", "js")}

    def page(entries: list[dict[str, Any]]) -> str:
        return Template(text["html"]).substitute(
            style=text["css"],
            script=text["js"],
            # "</script>" inside a text would end the element.
            data=json.dumps(data | {"clips": entries}).replace("</", "<\\/"),
            contact=f'<img alt="{alt}" src="data:image/png;base64,{sheet}">',
            unit=UNIT,
        )

    entries = [_packed(first, n_steps)]
    while len(entries[0]["maps"]) > 1 and len(page(entries)) > max_bytes:
        entries[0]["maps"].popitem()
    size = len(page(entries))
    for clip in clips:
        entry = _packed(clip, n_steps)
        size += len(json.dumps(entry)) + 2  # and a comma
        if size > max_bytes:
            break
        entries.append(entry)
    return page(entries)


def _packed(clip: ShownClip, n_steps: int) -> dict[str, Any]:
    """Turn a clip into what the script reads: strings and numbers."""
    pixels = (255 * np.clip(clip.frames, 0, 1)).round().astype(np.uint8)
    below_each_other = pixels.reshape(-1, pixels.shape[2])

    def deflated(values: np.ndarray) -> str:
        return base64.b64encode(zlib.compress(values.tobytes(), level=9)).decode()

    return {
        "label": clip.label,
        "first_frame": best_frame(clip.mask),
        "p_clip": round(clip.p_clip, 6),
        "p_baseline": round(clip.p_baseline, 6),
        "frames": data_url(below_each_other, "jpeg", quality=85),
        "mask": deflated(clip.mask.astype(np.uint8)),
        "maps": {k: deflated(to_levels(values, steps=n_steps)) for k, values in clip.maps.items()},
    }


class Explorer(widgets.VBox):
    """Controls, a picture of one frame under a map, and what is said of it.

    Setting a control's `value` in code does what moving it does. The controls: `clip`, `row` and
    `baseline` (the empty one is the row's own) choose the map; `frame` is from 0, `threshold` i of
    n, tau = i/n max(E+), `opacity` in percent; `outline`, `play`; `explain_button` and
    `cancel_button`. `progress` counts model calls; `picture`, `readout` (the IoU) and `status`
    (what became of the last job) are HTML.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        # The time average has no map of its own.
        self._rows = {key: row for key, row in steps.rows(run).items() if key != TIME_AVERAGE}
        self._n, self._steps = fit_thresholds(run.params.n_thresholds)
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        n_frames, auto = run.params.n_frames, widgets.Layout(width="auto")
        clips = [(label, clip_id) for clip_id, label in clip_labels(run).items()]
        rows = [(row.label, name) for name, row in self._rows.items()]
        baselines = [("the row's own", ""), *((name, name) for name in get_args(Baseline))]
        self.clip = widgets.Dropdown(options=clips, description="Clip")
        self.row = widgets.Dropdown(options=rows, description="Map")
        self.baseline = widgets.Dropdown(options=baselines, description="Baseline")
        self.frame = widgets.IntSlider(max=n_frames - 1, description="Frame")
        self.play = widgets.Play(max=n_frames - 1, interval=250)
        first = round(FIRST_THRESHOLD * self._n)
        self.threshold = widgets.IntSlider(first, max=self._n, description="Threshold")
        self.opacity = widgets.IntSlider(70, max=100, step=5, description="Opacity %")
        self.outline = widgets.Checkbox(True, description="Outline of the mask")
        self.explain_button = widgets.Button(description="Explain this clip now", layout=auto)
        self.cancel_button = widgets.Button(description="Cancel", disabled=True)
        self.progress = widgets.IntProgress(description="Progress")
        self.picture, self.readout, self.status = (widgets.HTML() for _ in range(3))
        sliders = [self.play, self.frame, self.threshold, self.opacity, self.outline]
        job = [self.explain_button, self.cancel_button, self.progress, self.status]
        choice = [self.clip, self.row, self.baseline]
        lines = (choice, sliders, [self.picture], [self.readout], job)
        super().__init__([widgets.HBox(line) for line in lines])
        widgets.link((self.play, "value"), (self.frame, "value"))
        self.clip.observe(lambda change: self._show_clip(), "value")
        for control in (self.row, self.baseline):
            control.observe(lambda change: self._show_map(), "value")
        for control in sliders[1:]:
            control.observe(lambda change: self._draw(), "value")
        self.explain_button.on_click(lambda button: self._start())
        self.cancel_button.on_click(lambda button: self._cancel.set())
        self._show_clip()

    def _show_clip(self) -> None:
        self._frames = steps.frames(self._run, self.clip.value)
        self._mask = steps.mask(self._run, self.clip.value)
        self._show_map()
        self.frame.value = best_frame(self._mask)

    def _choice(self) -> tuple[str, Row]:
        row, baseline = self._rows[self.row.value], self.baseline.value
        if row.method and baseline not in ("", row.baseline):
            # A row of its own: under the same key, it would be taken for the other.
            row = dataclasses.replace(row, key=f"{row.key}_{baseline}", baseline=baseline)
        return self.clip.value, row

    def _show_map(self) -> None:
        """Show the map that is chosen, if it is there; nothing long is started unasked."""
        clip_id, row = self._choice()
        if held(self._run, clip_id, row):
            found = steps.attribution(self._run, clip_id, row)
            ious = iou_curve(found, self._mask, n_thresholds=self._n)
            self._shown, self.status.value = (to_levels(found, steps=self._steps), ious), ""
        else:
            self._shown = np.zeros(self._mask.shape, np.uint8), None
            self.status.value = "Not explained yet under this baseline: press “Explain”."
        self._draw()

    def _draw(self) -> None:
        (levels, ious), t, i, n = self._shown, self.frame.value, self.threshold.value, self._n
        above, opacity = i * self._steps / n, self.opacity.value / 100
        options = {"steps": self._steps, "above": above, "opacity": opacity}
        pixels = blend(self._frames[t], levels[t], **options)
        mask = self._mask[t] & self.outline.value
        pixels = outlined(pixels, mask, scale=-(-PICTURE_WIDTH // mask.shape[1]))
        name = html.escape(self._rows[self.row.value].label)
        alt = f"Frame {t + 1} of the clip, and over it the map of {name}"
        source = data_url(pixels, "png")
        self.picture.value = f'<img alt="{alt}" src="{source}" style="max-width: 100%">'
        if ious is None:
            self.readout.value = ""
        elif np.isnan(ious).any():
            self.readout.value = "IoU undefined: nothing is marked in this clip."
        else:
            best = int(ious.argmax())
            at = f"at a threshold of {i / n:.2f} of the map's maximum over the clip"
            over = f"best over all thresholds: {ious[best]:.3f}, at {best / n:.2f}"
            self.readout.value = f"IoU {ious[i]:.3f} {at}; {over}."

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most `timeout` seconds (None: as long as it takes); False if a job still runs."""
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _start(self) -> None:
        if self.wait(0):
            self._cancel.clear()
            self.explain_button.disabled, self.cancel_button.disabled = True, False
            self._thread = threading.Thread(target=self._explain, args=self._choice(), daemon=True)
            self._thread.start()

    def _explain(self, clip_id: str, row: Row) -> None:
        self.progress.value, self.status.value = 0, "Running …"
        try:
            steps.attribution(self._run, clip_id, row, progress=self._tell)
            if (clip_id, row) == self._choice():  # another one may have been chosen meanwhile
                self._show_map()
            self.status.value = "Explained."
        except CancelledError:
            self.status.value = "Cancelled; nothing was kept."
        except Exception as error:  # nobody else would hear of it: this is a thread's end
            self.status.value = f"Failed: {html.escape(str(error))}"
        finally:
            self.explain_button.disabled, self.cancel_button.disabled = False, True

    def _tell(self, done: int, total: int) -> None:
        """Advance the bar between two batches of model calls; the place where "Cancel" is heard."""
        if self._cancel.is_set():
            raise CancelledError
        self.progress.max, self.progress.value = total, done
