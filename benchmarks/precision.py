"""Does bf16 change a conclusion? Maps and scores in both precisions, on clips of a run.

`python -m benchmarks.precision --profile ucsd -p n_clips=6` explains through the run's folder, so
that maps which are there are used, and a killed study goes on where it stopped. Two questions are
kept apart: maps of both precisions are scored by one and the same predictor (bf16), and one and the
same map (fp32) by predictors of both precisions.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer
from tqdm.auto import tqdm
from vad_helpers.store import detector, maps, params, scores
from vad_helpers.store.cache import Run

from benchmarks import bench, machine
from vad_helpers import store
from vad_helpers.files import atomic_write
from vad_helpers.metrics import human_centric, model_centric, robustness

RESULTS = Path("benchmarks/results/precision")
LIMIT = 0.01
"""A mean score may move by this much; else the method's default stays fp32."""


def main(
    profile: Annotated[str, typer.Option(help="Of the run.")] = "ucsd",
    param: Annotated[list[str], typer.Option("-p", "--param", help="Of that run.")] = [],  # noqa: B006
    scoring_clips: Annotated[int, typer.Option(help="Clips also scored by fp32.")] = 3,
    minutes: Annotated[float, typer.Option(help="Start no other map after so many.")] = 1e9,
    out: Annotated[Path | None, typer.Option(help="Default: in benchmarks/results.")] = None,
) -> None:
    """Compare every method's maps and scores in bf16 with those in fp32."""
    runs = both_runs(profile, dict(params.parse_override(text) for text in param))
    detector.warn_of_emulation(runs["bf16"])
    clip_ids = store.evaluation(runs["fp32"])["clip_id"].tolist()
    deadline = time.monotonic() + 60 * minutes
    found = []
    pairs = [(clip_id, method) for method in runs["fp32"].params.methods for clip_id in clip_ids]
    for clip_id, method in tqdm(sorted(pairs, key=lambda p: p[1] in bench.SLOW)):
        if time.monotonic() < deadline:
            found += _compare(runs, clip_id, method, clip_id in clip_ids[:scoring_clips])
    place = torch.device(detector.torch_device(runs["fp32"]))
    device = machine.name(place) if place.type == "cuda" else "cpu"  # the cores do not matter here
    result = {"device": device, "clips": clip_ids, **_summary(pd.DataFrame(found))}
    path = out or RESULTS / f"{device}.json"
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame(result["methods"]).to_string(index=False))
    print("scoring:", result["scoring"])


def both_runs(profile: str, changes: dict[str, Any]) -> dict[str, Run]:
    """The run in both precisions, with one and the same network."""
    trained = detector.training_settings(store.open_run(profile, **changes))["precision"]
    shared = {**changes, "train_precision": trained}
    return {p: store.open_run(profile, **{**shared, "precision": p}) for p in ("fp32", "bf16")}


def _compare(
    runs: dict[str, Run], clip_id: str, method: str, by_fp32: bool
) -> list[dict[str, Any]]:
    """A row for every score; of the fp32 map by the fp32 predictor too, if asked."""
    pair = {p: store.attribution(run, clip_id, method) for p, run in runs.items()}
    scored = {p: _scores(runs["bf16"], clip_id, found, p, method) for p, found in pair.items()}
    again = _scores(runs["fp32"], clip_id, pair["fp32"], "fp32", method) if by_fp32 else {}
    agreed = bench.agreement(pair["fp32"], pair["bf16"])
    return [
        {
            "clip_id": clip_id,
            "method": method,
            "score": name,
            "fp32": scored["fp32"][name],
            "bf16": scored["bf16"][name],
            "scored_in_fp32": again.get(name, np.nan),
            "agreement": agreed,
        }
        for name in scored["fp32"]
    ]


def _scores(
    run: Run, clip_id: str, attribution: np.ndarray, precision: str, method: str
) -> dict[str, float]:
    """Every score of Tables I and II; kept in a file, for the model-centric ones take long."""
    spec = store.rows(run)[method]
    key = maps.row_key(run, spec)
    path = run.path("compared") / f"{method}-{key[:8]}-{precision}" / f"{clip_id}.json"
    if path.is_file():
        return json.loads(path.read_text(encoding="utf-8"))
    n = run.params.n_thresholds
    mask = store.mask(run, clip_id)
    at_clip = human_centric.localization(attribution, mask, n_thresholds=n)
    at_frame = human_centric.frame_localization(attribution, mask, n_thresholds=n)
    fidelity = model_centric.deletion_insertion(
        scores.predictor(run),
        store.clip(run, clip_id),
        store.baseline(run, clip_id),
        attribution,
        n_thresholds=n,
        batch_size=run.params.eval_batch_size,
    )
    steady = robustness.temporal(attribution, mask)
    found = {
        **{f"clip_{name}": at_clip[name] for name in ("iou", "f1", "auc")},
        **{f"frame_{name}": at_frame[name] for name in ("iou", "f1", "auc")},
        **{name: fidelity[name] for name in ("deletion", "insertion")},
        **{name: steady[name] for name in ("mauc", "stdauc", "cv")},
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(found), encoding="utf-8")
    return found


def _summary(table: pd.DataFrame) -> dict[str, Any]:
    """Mean of every score by method in both precisions, and the largest move."""
    table = table.assign(by_scoring=table["fp32"] - table["scored_in_fp32"])
    columns = ["fp32", "bf16", "by_scoring"]
    means = table.groupby(["method", "score"], sort=False)[columns].mean()
    means["moved"] = (means["bf16"] - means["fp32"]).abs()
    scoring = means["by_scoring"] = means["by_scoring"].abs()
    largest = means["moved"].groupby(level="method", sort=False)
    methods = [
        {
            "method": method,
            "clips": int(part["clip_id"].nunique()),
            "agreement_mean": part["agreement"].mean(),
            "agreement_min": part["agreement"].min(),
            "largest_move": largest.max()[method],
            "of": largest.idxmax()[method][1],
            "default": "bf16" if largest.max()[method] <= LIMIT else "fp32",
        }
        for method, part in table.groupby("method", sort=False)
    ]
    decided = {
        "clips": int(table.loc[table["by_scoring"].notna(), "clip_id"].nunique()),
        "largest_move": scoring.max(),
        "of": " ".join(scoring.idxmax()),
        "default": "bf16" if scoring.max() <= LIMIT else "fp32",
    }
    return {
        "limit": LIMIT,
        "methods": methods,
        "scoring": decided,
        "scores": means.reset_index().to_dict("records"),
    }


if __name__ == "__main__":
    typer.run(main)
