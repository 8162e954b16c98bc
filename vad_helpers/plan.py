"""What a run would do: steps, what is there already, and an estimate of the cost.

The estimate times one clip through the untrained network, forward, backward and in a training step,
on the device the run would use, and multiplies by the counted model calls; the chapter on run time
repeats the fast methods. It leaves out reading the data, drawing figures, and starting kernels.
"""

from __future__ import annotations

import time

import pandas as pd
import torch

from vad_helpers.attribution import occlusion
from vad_helpers.inference.chain import Triple
from vad_helpers.model.recipe import frozen_stages
from vad_helpers.store import convergence, detector, experiment, maps, rows, scores
from vad_helpers.store.cache import Run, cached, remember
from vad_helpers.store.row import Row

KERNEL_SECONDS = 8.0
"""Starting a chapter's kernel, importing PyTorch and drawing, roughly."""


def steps(run: Run) -> pd.DataFrame:
    """List the steps of a run.

    Parameters
    ----------
    run : Run

    Returns
    -------
    DataFrame
        step, state ("cached", "to do", "n of m cached"), model_calls (to do), minutes (estimate).
    """
    forward, backward = seconds_per_clip(run)
    lines = [_data_line(run)]
    if not _data_is_there(run):
        lines.append(("everything else", "to do", None, None))
        return _frame(lines)
    lines += _model_lines(run, forward)
    lines += [_row_line(run, key, forward, backward) for key in rows(run)]
    lines.append(_doubling_line(run, forward))
    lines += _score_lines(run, forward, backward)
    return _frame(lines)


def describe(run: Run) -> str:
    """Spell the plan for a terminal."""
    table = steps(run)
    minutes = table["minutes"].sum() + 7 * KERNEL_SECONDS / 60
    text = table.to_string(index=False, na_rep="", float_format="{:.1f}".format)
    if table["step"].eq("everything else").any():
        text += "\n(the cost of the rest is estimated once the data are there)"
    return f"{text}\nrun folder: {run.dir}\nestimated total: {minutes:.0f} minutes or a little more"


def seconds_per_clip(run: Run) -> tuple[float, float]:
    """Time one clip through the untrained network.

    Returns
    -------
    forward, forward_backward : float
        Seconds, warm.
    """
    device = detector.torch_device(run)
    network = detector.fresh_network(run).eval().to(device)
    shape = (1, 3, run.params.n_frames, *run.params.frame_size)
    clip = torch.zeros(shape, device=device)

    def timed(backward: bool) -> float:
        started = time.perf_counter()
        with torch.set_grad_enabled(backward):
            logits = network(clip.requires_grad_(backward))
            if backward:
                logits.sum().backward()
        float(logits.detach().sum())  # waits for the device
        return time.perf_counter() - started

    timed(False)
    forward = min(timed(False) for _ in range(2))
    return forward, timed(True)


def seconds_per_training_clip(run: Run) -> float:
    """Time a training step: forward, and backward to the weights that the recipe trains.

    Returns
    -------
    float
        Seconds a clip, warm.
    """
    device = torch.device(detector.torch_device(run))
    precision = detector.training_precision(run)
    network = detector.fresh_network(run).train().to(device)
    for stage in frozen_stages(network, detector.training_spec(run)):
        stage.requires_grad_(False).eval()
    p = run.params
    clips = torch.zeros((min(2, p.batch_size), 3, p.n_frames, *p.frame_size), device=device)

    def step() -> float:
        started = time.perf_counter()
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = network(clips)
        logits.float().sum().backward()
        float(logits.detach().sum())  # waits for the device
        return (time.perf_counter() - started) / len(clips)

    step()
    return step()


def _frame(lines: list[tuple]) -> pd.DataFrame:
    table = pd.DataFrame(lines, columns=["step", "state", "model_calls", "minutes"])
    return table.astype({"model_calls": "Int64", "minutes": float})


def _data_is_there(run: Run) -> bool:
    return run.params.dataset == "ucsd" or experiment.walkway_folder(run).is_dir()


def _data_line(run: Run) -> tuple:
    there = _data_is_there(run)
    return ("data", "cached" if there else "to do", None, None if there else 0.7)


def _model_lines(run: Run, forward: float) -> list[tuple]:
    p = run.params
    counts = experiment.clips(run)["split"].value_counts()
    lines = []
    if p.trained_weights or cached(run, "model.safetensors", detector.model_key(run)):
        lines.append(("training", "cached", None, None))
    else:
        drawn = p.epoch_clips or int((experiment.training_clips(run)["split"] == "train").sum())
        calls, validation = p.epochs * drawn, p.epochs * int(counts.get("val", 0))
        seconds = calls * seconds_per_training_clip(run) + validation * forward
        lines.append(("training", "to do", calls + validation, seconds / 60))
    if run.path("predictions.csv").is_file():
        lines.append(("predictions", "there, checked when run", None, None))
    else:
        asked = int(counts.get("val", 0) + counts.get("test", 0))
        lines.append(("predictions", "to do", asked, asked * forward / 60))
    return lines


def _doubling_line(run: Run, forward: float) -> tuple:
    calls = convergence.calls_to_do(run)
    return ("doubling of samples", "to do, at most" if calls else "cached",
            calls or None, calls * forward / 60 or None)  # fmt: skip


def _row_line(run: Run, key: str, forward: float, backward: float) -> tuple:
    row = rows(run)[key]
    if row.method is None:
        return (f"maps: {key}", "no network", None, None)
    n_clips = len(maps.clips_of(run, row))
    missing = _n_missing(run, row)
    calls = missing * maps.expected_calls(run, row)
    state = f"{n_clips - missing} of {n_clips} cached"
    seconds = calls * _seconds_per_call(run, row, forward, backward)
    return (f"maps: {key}", state, calls, seconds / 60)


def _seconds_per_call(run: Run, row: Row, forward: float, backward: float) -> float:
    spec = maps.METHODS[row.method]
    settings = {**spec.settings, **row.settings}
    if {"window", "stride"} <= settings.keys():  # recomputes only what a window reaches
        return min(forward, window_seconds(run, settings["window"], settings["stride"]))
    return backward if spec.family == "gradient" else forward


def window_seconds(run: Run, window: Triple, stride: Triple) -> float:
    """Time one window of an occlusion through the untrained network: seconds, warm."""

    def look() -> float:
        network = detector.prepared(run, "random", detector.scoring_precision(run))
        clip = torch.zeros((3, run.params.n_frames, *run.params.frame_size))
        clip = clip.to(detector.torch_device(run))
        return occlusion.seconds_per_window(network, clip, tuple(window), tuple(stride))

    return remember(run, f"window seconds {window} {stride}", look)


def _timing_cost(run: Run, forward: float, backward: float) -> tuple[int, float]:
    """Model calls and seconds of the chapter on run time: a warm-up and repeats of what it times.

    The other rows are timed when they are explained; those explained under other conditions, on
    another machine say, are explained once more.
    """
    recorded = maps.explanations(run, finished=True)
    calls, seconds = 0, 0.0
    for row in rows(run).values():
        if row.kind not in ("method", "variant"):
            continue
        if not maps.is_timed(run, row) and _n_missing(run, row):
            continue
        n = scores.times_to_explain(run, row, recorded) * maps.expected_calls(run, row)
        calls, seconds = calls + n, seconds + n * _seconds_per_call(run, row, forward, backward)
    return calls, seconds


def _n_missing(run: Run, row: Row) -> int:
    """Count the clips that a row is not explained on yet."""
    return sum(not maps.explained(run, clip_id, row) for clip_id in maps.clips_of(run, row))


def _score_lines(run: Run, forward: float, backward: float) -> list[tuple]:
    p = run.params
    # Two curves on each axis; equal sets are evaluated once, so this is the most there can be.
    curves = 2 * (p.n_thresholds + p.area_steps)
    lines = []
    for name in scores.MEASURES:
        units = scores.units(run, name)
        missing = sum(not scores.is_scored(run, name, *unit) for unit in units)
        state = f"{len(units) - missing} of {len(units)} cached"
        calls = missing * curves if name == "model_centric" else None
        seconds = missing * 0.3 if calls is None else calls * forward
        lines.append((f"scores: {name}", state, calls, seconds / 60))
    return [*lines, _runtime_line(run, forward, backward)]


def _runtime_line(run: Run, forward: float, backward: float) -> tuple:
    if cached(run, "runtime.csv", scores.table_key(run, "runtime")):
        return ("scores: runtime", "cached", None, None)
    calls, seconds = _timing_cost(run, forward, backward)
    return ("scores: runtime", "to do", calls, seconds / 60)
