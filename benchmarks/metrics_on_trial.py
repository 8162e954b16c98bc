"""Which metrics recover a known order? Planted detectors on real clips; see `benchmarks.planted`.

`python -m benchmarks.metrics_on_trial -p "frame_size=[79, 118]" -p run_dir=runs/trial --out
results/ucsd/metrics_on_trial.csv` scores one clip of each of 20 sequences, whose object covers .3
to 6 % of it, and judges. Scores of a clip are kept in the run's folder, so that a killed trial goes
on; `--part 1/2` and `--part 2/2` share the clips between two processes. `--gated N` asks the run's
network too, about N of these clips, behind a gate through which the object alone reaches it: its
truth is the Integrated Gradients of that, which are zero elsewhere. Network and frames must fit."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer

from benchmarks import planted, verdict
from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write
from vad_helpers.metrics import human_centric
from vad_helpers.run import Run, open_run, params, steps

AREA = (0.003, 0.06)
"""Smallest and largest share of a clip that its object covers."""
GATED = ("truth", "noise", "shift", "delay", "blur", "swap")
"""What takes evidence out of the gate; what the network uses within it nobody knows."""
IG_STEPS = 16


def main(
    profile: Annotated[str, typer.Option(help="Of the run.")] = "ucsd",
    param: Annotated[list[str], typer.Option("-p", "--param", help="Of that run.")] = [],  # noqa: B006
    n_clips: Annotated[int, typer.Option(help="One a sequence.")] = 20,
    gated: Annotated[int, typer.Option(help="Clips for the gated network.")] = 0,
    part: Annotated[str, typer.Option(help="k/n: every n-th clip, from the k-th.")] = "1/1",
    out: Annotated[Path, typer.Option(help="Table to write.")] = Path("metrics_on_trial.csv"),
) -> None:
    """Score the clips that are not scored yet, and judge all that are."""
    run = open_run(profile, **dict(params.parse_override(text) for text in param))
    steps.check_writable(run)
    first, of = map(int, part.split("/"))
    folder, listed = run.path("metrics_on_trial"), list(itertools.islice(eligible(run), n_clips))
    folder.mkdir(parents=True, exist_ok=True)
    todo = [(clip_id, False) for clip_id in listed] + [
        (clip_id, True) for clip_id in listed[:gated]
    ]
    for number, (clip_id, behind_gate) in enumerate(todo, 1):
        path = folder / f"{clip_id}{'-gated' * behind_gate}.csv"
        if path.is_file() or number % of != first % of:
            continue
        started = time.perf_counter()
        scores = (gate if behind_gate else plant)(run, clip_id)
        with atomic_write(path) as temporary:
            scores.assign(clip_id=clip_id).to_csv(temporary, index=False, float_format="%.9g")
        seconds = time.perf_counter() - started
        print(f"[{number}/{len(todo)}] {path.stem}: {seconds:.0f} s", flush=True)
    there = [pd.read_csv(path) for path in sorted(folder.glob("*.csv"))]
    if not there:
        raise InputError("no clip fits: anomalous, with masks on every frame, and room beside")
    table = verdict.judge(pd.concat(there, ignore_index=True))
    with atomic_write(out) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    print(
        table[table["passed"].notna()].drop(columns=["detector", "ladder"]).to_string(index=False)
    )


def eligible(run: Run) -> Iterator[str]:
    """Clips of one sequence after the other, scenes in turns, drawn by the run's seed."""
    table, rng, scenes = steps.clips(run), np.random.default_rng(run.params.seed), []
    for _, part in table[table["eligible"]].groupby("scene"):
        sequences = [own["clip_id"].to_numpy() for _, own in part.groupby("sequence")]
        scenes.append([rng.permutation(sequences[i]) for i in rng.permutation(len(sequences))])
    turns = itertools.chain.from_iterable(itertools.zip_longest(*scenes, fillvalue=()))
    for clip_ids in turns:
        for clip_id in clip_ids:
            mask = steps.mask(run, clip_id)
            if mask.any(axis=(1, 2)).all() and AREA[0] <= mask.mean() <= AREA[1]:
                try:
                    planted.places(*_grey(run, clip_id), mask)
                except InputError:
                    continue
                yield clip_id
                break


def _grey(run: Run, clip_id: str) -> tuple[torch.Tensor, torch.Tensor]:
    return steps.clip(run, clip_id)[:1], steps.baseline(run, clip_id)[:1]


def plant(run: Run, clip_id: str) -> pd.DataFrame:
    """Scores of the planted detectors on one clip."""
    moving = human_centric.moving_voxels(steps.clip(run, clip_id))
    options = {"moving": moving, "seed": steps.clip_seed(run, clip_id)}
    return planted.try_clip(*_grey(run, clip_id), steps.mask(run, clip_id), **options)


def gate(run: Run, clip_id: str) -> pd.DataFrame:
    """Scores of the run's network, to which the object alone gets through."""
    (clip, baseline), mask = _grey(run, clip_id), steps.mask(run, clip_id)
    open_at, predict = torch.from_numpy(mask), steps.predictor(run)
    model, (_, offset) = steps.network(run).eval(), planted.places(clip, baseline, mask)
    device = next(model.parameters()).device

    def behind(batch: torch.Tensor) -> np.ndarray:
        return predict(torch.where(open_at, batch, baseline).expand(-1, 3, -1, -1, -1))

    apart, total = torch.where(open_at, clip - baseline, 0), torch.zeros_like(clip)
    for step in (np.arange(IG_STEPS) + 0.5) / IG_STEPS:
        point = (baseline + float(step) * apart).requires_grad_()
        logits = model(point.expand(3, -1, -1, -1)[None].to(device))
        total += torch.autograd.grad(logits.softmax(dim=1)[0, 1], point)[0] / IG_STEPS
    truth = (apart * total)[0].double().numpy()
    moving, seed = human_centric.moving_voxels(clip), steps.clip_seed(run, clip_id)
    scene = {"clip": clip, "baseline": baseline, "mask": mask, "moving": moving, "seed": seed}
    lines = []
    for (ladder, level), step in planted.ladders(truth, offset, seed=seed).items():
        if ladder in GATED:
            made = step(truth)
            given = planted.score(behind, lambda _, e=made: e, truth=truth, sensitivity=0, **scene)
            lines += [("gated_i3d", ladder, level, name, value) for name, value in given.items()]
    return pd.DataFrame(lines, columns=["detector", "ladder", "level", "metric", "value"])


if __name__ == "__main__":
    typer.run(main)
