"""Does bf16 change a conclusion? Maps and scores in both precisions, on clips of a run.

`python -m benchmarks.precision --profile ucsd -p n_clips=6` measures in two run folders, so that a
killed study goes on where it stopped. Two questions are kept apart: maps of both precisions are
scored by one and the same predictor (bf16), and maps in fp32 by predictors of both precisions.
Of methods that are not measured now, what a file holds already stays.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from benchmarks import bench, machine
from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write
from vad_helpers.inference.prepared import computes_bf16, resolve_device
from vad_helpers.run import cache, open_run, params, steps
from vad_helpers.tables import Study

LIMIT = 0.01
"""A mean score may move by this much; else the method's default stays fp32."""
SCORES = {
    ("human_centric", "clip"): {"iou": "clip_iou", "f1": "clip_f1", "auc": "clip_auc"},
    ("human_centric", "frame"): {"iou": "frame_iou", "f1": "frame_f1", "auc": "frame_auc"},
    ("model_centric", "clip"): {"deletion": "deletion", "insertion": "insertion"},
    ("robustness", "clip"): {"mauc": "mauc", "stdauc": "stdauc", "cv": "cv"},
}
"""Scores of Tables I and II: (table, level) -> metric -> name in the results."""


def main(
    profile: Annotated[str, typer.Option(help="Of the run.")] = "ucsd",
    param: Annotated[list[str], typer.Option("-p", "--param", help="Of that run.")] = [],  # noqa: B006
    scoring_clips: Annotated[int, typer.Option(help="Clips also scored by fp32.")] = 3,
    folder: Annotated[Path, typer.Option(help="Of the two runs.")] = Path("runs/precision"),
    out: Annotated[Path, typer.Option(help="Folder.")] = Path("benchmarks/results/precision"),
) -> None:
    """Compare every method's maps and scores in bf16 with those in fp32."""
    changes = dict(params.parse_override(text) for text in param)
    base = params.load(profile, **changes)
    place = resolve_device(base.device)
    if not computes_bf16(place):
        raise InputError(f"this {place} only emulates bf16; run this where it is computed")
    pairs = {method: [f"{method}_fp32", f"{method}_bf16"] for method in base.methods}
    variants = {row: {"method": m, "precision": row[-4:]} for m in pairs for row in pairs[m]}
    # "auto" leaves the precision to each row, and not that of training.
    trained = base.precision if base.train_precision == "auto" else base.train_precision
    changes |= {"train_precision": trained}
    own = {"run_dir": str(folder / "maps"), "precision": "auto", "variants": variants}
    run = open_run(profile, **{**changes, **own})
    cache.update(run, measured={"precision": "bf16"})  # faster here or not
    in_bf16 = scores(steps.measure(run, rows=list(variants), progress=True))
    own = {"run_dir": str(folder / "scoring"), "precision": "fp32", "n_clips": scoring_clips}
    own["trained_weights"] = str(run.path("model.safetensors"))
    in_fp32 = scores(
        steps.measure(open_run(profile, **{**changes, **own}), rows=base.methods, progress=True)
    )

    lines, clip_ids = [], steps.evaluation(run)["clip_id"].tolist()
    for method, rows in pairs.items():
        fp32, bf16 = (in_bf16.xs(row, level="row") for row in rows)
        again = in_fp32.xs(method, level="row").reindex(fp32.index)
        agreed = {
            clip_id: bench.agreement(*(steps.attribution(run, clip_id, row) for row in rows))
            for clip_id in clip_ids
        }
        found = pd.DataFrame({"fp32": fp32, "bf16": bf16, "scored_in_fp32": again}).reset_index()
        lines.append(found.assign(method=method, agreement=found["clip_id"].map(agreed)))
    device = machine.name(place) if place.type == "cuda" else "cpu"  # the cores do not matter here
    path, result = out / f"{device}.json", summary(pd.concat(lines))
    result = {"device": device, "clips": dict.fromkeys(pairs, clip_ids), **result}
    if path.is_file():  # what was not measured now stays
        before = json.loads(path.read_text(encoding="utf-8"))
        result["clips"] = before["clips"] | result["clips"]
        for name in ("methods", "scores"):
            kept = [line for line in before[name] if line["method"] not in pairs]
            result[name] = kept + result[name]
        result["scoring"] = max(before["scoring"], result["scoring"], key=lambda one: one["clips"])
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(pd.DataFrame(result["methods"]).to_string(index=False))
    print("scoring:", result["scoring"])


def scores(study: Study) -> pd.Series:
    """Scores of Tables I and II by clip_id, row and score, as `SCORES` names them."""
    parts = []
    for (table, level), names in SCORES.items():
        lines = getattr(study, table)
        lines = lines[(lines["level"] == level) & lines["metric"].isin(names)]
        parts.append(lines.assign(score=lines["metric"].map(names)))
    return pd.concat(parts).set_index(["clip_id", "row", "score"])["value"]


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """Mean of every score by method in both precisions, and the largest move.

    Parameters
    ----------
    table : DataFrame
        clip_id, method, score; fp32, bf16: scores of the map in this precision; scored_in_fp32: of
        the fp32 map by the fp32 predictor, NaN where that was not asked; agreement: of both maps.

    Returns
    -------
    dict
        ``limit``; ``methods``, a dict each, with the default that follows; ``scoring``, the same
        of the predictor; ``scores``: all means.
    """
    table = table.assign(by_scoring=table["fp32"] - table["scored_in_fp32"])
    columns = ["fp32", "bf16", "by_scoring"]
    means = table.groupby(["method", "score"], sort=False)[columns].mean()
    means["moved"] = (means["bf16"] - means["fp32"]).abs()
    scoring = means["by_scoring"] = means["by_scoring"].abs()
    methods = []
    for method, part in table.groupby("method", sort=False):
        moved = means.loc[method, "moved"]
        about = {"method": method, "clips": int(part["clip_id"].nunique())}
        about |= {f"agreement_{how}": part["agreement"].agg(how) for how in ("mean", "min")}
        methods.append(about | _largest(moved))
    n_clips = int(table.loc[table["by_scoring"].notna(), "clip_id"].nunique())
    by_score = scoring.set_axis(scoring.index.map(" ".join))
    return {
        "limit": LIMIT,
        "methods": methods,
        "scoring": {"clips": n_clips} | _largest(by_score),
        "scores": means.reset_index().to_dict("records"),
    }


def _largest(moves: pd.Series) -> dict[str, Any]:
    default = "bf16" if moves.max() <= LIMIT else "fp32"
    return {"largest_move": float(moves.max()), "of": moves.idxmax(), "default": default}


if __name__ == "__main__":
    typer.run(main)
