"""An explorer with widgets, for live sessions: ``explore(run)`` as the last line of a cell.

It shows what the explorer of the book's pages shows, and can ask the network too: explain a clip
now, under any baseline, and measure deletion and insertion of the map that is shown. Both run in a
thread of their own, with progress, and can be cancelled. This is the only module that imports
ipywidgets.
"""

from __future__ import annotations

import base64
import html
import io
import threading
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from vad_helpers import store
from vad_helpers.attribution import baselines
from vad_helpers.metrics import human_centric, model_centric
from vad_helpers.store import Run, maps, rows
from vad_helpers.store.scores import predictor
from vad_helpers.viz import overlay
from vad_helpers.viz.figures import fidelity_curves
from vad_helpers.viz.heatmaps import best_frame
from vad_helpers.viz.static_explorer import clip_label
from vad_helpers.viz.style import png_bytes, subplots

PICTURE_WIDTH = 480
Tell = Callable[[int, int], None]


class Cancelled(Exception):
    """The user pressed "Cancel"."""


def explore(run: Run) -> Explorer:
    """Make the explorer of a run.

    Parameters
    ----------
    run : Run
        Maps that it holds are shown; others can be explained from within.

    Returns
    -------
    Explorer
        Shown when it is the last value of a cell.
    """
    return Explorer(run)


class Explorer(widgets.VBox):
    """Controls, a picture of one frame under a map, and what is said of it.

    Setting a control's `value` in code does what moving it does.

    Parameters
    ----------
    run : Run

    Attributes
    ----------
    clip, method, baseline : Dropdown
        Which map is shown. A map under another baseline than the run's is explained on demand.
    frame, threshold, opacity : IntSlider
        Frame from 0; threshold i of n, tau = i/n max(E+); opacity in percent.
    outline : Checkbox
    explain_button, measure_button, cancel_button : Button
    progress : IntProgress
        Of what is running, in model calls.
    picture, readout, status, curves : HTML
        `readout` gives the IoU, `status` what became of the last job, `curves` deletion and
        insertion of the map that is shown.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._made: dict[tuple[str, str, str], np.ndarray] = {}
        self._shown: tuple[tuple[str, str, str], np.ndarray | None] | None = None
        self._cancel = threading.Event()
        self._thread: threading.Thread | None = None
        self._make_controls()
        super().__init__(self._rows())
        self._watch()
        self._on_clip()

    # --- the parts --------------------------------------------------------------------------

    def _make_controls(self) -> None:
        run, p = self._run, self._run.params
        clip_ids = store.evaluation(run)["clip_id"]
        self.clip = widgets.Dropdown(
            options=[(clip_label(run, clip_id), clip_id) for clip_id in clip_ids],
            description="Clip",
        )
        labels = [(row.label, key) for key, row in rows(run).items()]
        self.method = widgets.Dropdown(options=labels, description="Map")
        self.baseline = widgets.Dropdown(
            options=baselines.NAMES, value=p.baseline, description="Baseline"
        )
        self.frame = widgets.IntSlider(max=p.n_frames - 1, description="Frame")
        self.play = widgets.Play(max=p.n_frames - 1, interval=250)
        self.threshold = widgets.IntSlider(
            value=round(overlay.FIRST_THRESHOLD * p.n_thresholds),
            max=p.n_thresholds,
            description="Threshold",
        )
        self.opacity = widgets.IntSlider(value=70, max=100, step=5, description="Opacity %")
        self.outline = widgets.Checkbox(value=True, description="Outline of the mask")
        self.explain_button = widgets.Button(description="Explain this clip now")
        self.measure_button = widgets.Button(description="Deletion and insertion")
        self.cancel_button = widgets.Button(description="Cancel", disabled=True)
        self.progress = widgets.IntProgress(description="Progress")
        self.picture, self.readout, self.status, self.curves = (widgets.HTML() for _ in range(4))

    def _rows(self) -> list[widgets.Widget]:
        wide = widgets.Layout(width="auto")
        for button in (self.explain_button, self.measure_button):
            button.layout = wide
        return [
            widgets.HBox([self.clip, self.method, self.baseline]),
            widgets.HBox([self.play, self.frame, self.threshold, self.opacity, self.outline]),
            self.picture,
            self.readout,
            widgets.HBox([self.explain_button, self.measure_button, self.cancel_button]),
            widgets.HBox([self.progress, self.status]),
            self.curves,
        ]

    def _watch(self) -> None:
        widgets.link((self.play, "value"), (self.frame, "value"))
        self.clip.observe(lambda change: self._on_clip(), "value")
        for control in (self.method, self.baseline):
            control.observe(lambda change: self._on_map(), "value")
        for control in (self.frame, self.threshold, self.opacity, self.outline):
            control.observe(lambda change: self._draw(), "value")
        self.explain_button.on_click(lambda button: self._start(self._explain))
        self.measure_button.on_click(lambda button: self._start(self._measure))
        self.cancel_button.on_click(lambda button: self._cancel.set())

    # --- what is shown ----------------------------------------------------------------------

    def _on_clip(self) -> None:
        clip_id = self.clip.value
        self._frames, self._mask = store.frames(self._run, clip_id), store.mask(self._run, clip_id)
        self._look_up()
        self.frame.value = best_frame(self._mask)
        self._draw()

    def _on_map(self) -> None:
        self._look_up()
        self._draw()

    def _look_up(self) -> None:
        """Take the map that is chosen, if it is there; nothing long is started unasked."""
        self.curves.value = ""
        key = self._key()
        found = self._find(key)
        if found is None:
            self.status.value = "Not explained yet under this baseline: press “Explain”."
        else:
            self.status.value = ""
            n = self._run.params.n_thresholds
            self._levels = overlay.to_levels(found, steps=self._steps)
            self._ious = human_centric.iou_curve(found, self._mask, n_thresholds=n)
        self._shown = (key, found)  # last: never drawn before its levels are there

    def _key(self) -> tuple[str, str, str]:
        return self.clip.value, self.method.value, self.baseline.value

    @property
    def _steps(self) -> int:
        return overlay.fit_thresholds(self._run.params.n_thresholds)[1]

    def _find(self, key: tuple[str, str, str]) -> np.ndarray | None:
        """A map made here or kept by the run; None if it has to be explained first."""
        clip_id, name, baseline = key
        row = rows(self._run)[name]
        if key in self._made:
            return self._made[key]
        if row.method is None:  # a reference that needs no network, nor a baseline
            return store.attribution(self._run, clip_id, name)
        if baseline == row.baseline and maps.explained(self._run, clip_id, row):
            return store.attribution(self._run, clip_id, name)
        return None

    def _draw(self) -> None:
        t, (key, attribution) = self.frame.value, self._shown
        grey, mask = self._frames[t], self._mask[t]
        levels = np.zeros(mask.shape, np.uint8) if attribution is None else self._levels[t]
        above = self.threshold.value / self._run.params.n_thresholds * self._steps
        pixels = overlay.blend(
            grey, levels, steps=self._steps, above=above, opacity=self.opacity.value / 100
        )
        if not self.outline.value:
            mask = np.zeros_like(mask)
        pixels = overlay.outlined(pixels, mask, scale=-(-PICTURE_WIDTH // mask.shape[1]))
        name = rows(self._run)[key[1]].label
        alt = f"Frame {t + 1} of the clip, and over it the map of {name}"
        self.picture.value = _image(_png(Image.fromarray(pixels)), alt)
        self.readout.value = "" if attribution is None else self._describe()

    def _describe(self) -> str:
        n, i, curve = self._run.params.n_thresholds, self.threshold.value, self._ious
        if np.isnan(curve).any():
            return "IoU undefined: nothing is marked in this clip."
        best = int(curve.argmax())
        return (
            f"IoU {curve[i]:.3f} at a threshold of {i / n:.2f} of the map's maximum over the clip; "
            f"best over all thresholds: {curve[best]:.3f}, at {best / n:.2f}."
        )

    # --- what takes long --------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until nothing is running.

        Parameters
        ----------
        timeout : float, optional
            Seconds; None waits as long as it takes.

        Returns
        -------
        bool
            False if it still runs.
        """
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _start(self, work: Callable[[tuple[str, str, str], Tell], str]) -> None:
        if not self.wait(0):
            return
        self._cancel.clear()
        self._set_busy(True)
        self._thread = threading.Thread(target=self._do, args=(work, self._key()), daemon=True)
        self._thread.start()

    def _set_busy(self, busy: bool) -> None:
        self.explain_button.disabled = self.measure_button.disabled = busy
        self.cancel_button.disabled = not busy

    def _do(self, work: Callable[..., str], key: tuple[str, str, str]) -> None:
        self.progress.value, self.status.value = 0, "Running …"
        try:
            self.status.value = work(key, self._tell)
        except Cancelled:
            self.status.value = "Cancelled; nothing was kept."
        except Exception as error:  # nobody else would hear of it: this is a thread's end
            self.status.value = f"Failed: {html.escape(str(error))}"
        finally:
            self._set_busy(False)

    def _tell(self, done: int, total: int) -> None:
        """Advance the bar between two batches of model calls; the place where "Cancel" is heard."""
        if self._cancel.is_set():
            raise Cancelled
        self.progress.max, self.progress.value = total, done

    def _explain(self, key: tuple[str, str, str], tell: Tell) -> str:
        clip_id, name, baseline = key
        if rows(self._run)[name].method is None:
            return "This map needs no network: it is there already."
        self._made[key] = maps.explain_now(
            self._run, clip_id, name, baseline=baseline, progress=tell
        )
        if key == self._key():  # another one may have been chosen meanwhile
            self._on_map()
        return "Explained; kept in this session, not in the run."

    def _measure(self, key: tuple[str, str, str], tell: Tell) -> str:
        attribution = self._find(key)
        if attribution is None:
            return "There is no map to measure yet: press “Explain” first."
        clip_id, name, baseline = key
        p = self._run.params
        found = model_centric.deletion_insertion(
            _told(predictor(self._run), tell, total=2 * p.n_thresholds + 4),
            store.clip(self._run, clip_id),
            store.baseline(self._run, clip_id, baseline),
            attribution,
            n_thresholds=p.n_thresholds,
            batch_size=p.eval_batch_size,
        )
        if key == self._key():
            self.curves.value = _image(png_bytes(_curves(found, name)), _spell(found))
        return _spell(found)


def _told(
    predict: Callable[[torch.Tensor], np.ndarray], tell: Tell, *, total: int
) -> Callable[[torch.Tensor], np.ndarray]:
    """Let a predictor tell how many clips it has seen, of at most `total`."""
    done = 0

    def predict_and_tell(batch: torch.Tensor) -> np.ndarray:
        nonlocal done
        found = predict(batch)
        done += len(batch)
        tell(min(done, total), total)
        return found

    return predict_and_tell


def _spell(found: dict[str, Any]) -> str:
    return (
        f"Deletion {found['deletion']:.3f} (higher is better), insertion {found['insertion']:.3f} "
        f"(lower is better); p(x) = {found['p_clip']:.3f}, p(x_b) = {found['p_baseline']:.3f}."
    )


def _curves(found: dict[str, Any], name: str) -> Figure:
    figure, axes = subplots(1, 2, height=2.6)
    n = len(found["areas"]) - 1
    for ax, side in zip(axes, ("deletion", "insertion"), strict=True):
        fidelity_curves(
            ax,
            {name: found[f"{side}_curve"][None]},
            np.arange(n, -1, -1) / n,
            x_label="threshold on E+ / max E+",
            y_label=f"p(x) - p, {side}",
            legend=False,
        )
        ax.invert_xaxis()
    return figure


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def _image(png: bytes, alt: str) -> str:
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return f'<img alt="{html.escape(alt)}" src="{source}" style="max-width: 100%">'
