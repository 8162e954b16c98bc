"""What does the training recipe owe to each of its parts? One network without each, on a fold.

`python -m benchmarks.ablation -p with_validation=true -p run_dir=runs/tuning -p init_weights=FILE
--out results/ucsd/ablation.csv`, with the study's parameters else, trains in folders inside the
run's; a killed training goes on. All are judged on the validation part, on which the recipe was
tuned: no test score is looked at. Each is one training; intervals leave out what training again
would change, of which the line of another seed gives an idea."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
import typer
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks.auc import bootstrap_auc
from vad_helpers.data.augmentation import Augmentation
from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write
from vad_helpers.run import Run, open_run, params, steps
from vad_helpers.tables import schema, statistics

COLUMNS = schema.STUDY_SCHEMAS["ablation"].columns
PLAIN = {"flip": False, "reverse": False, "contrast": 0.0, "scale": 1.0, "paste": 0.0}
PARTS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "trained again": {"train_seed": 1},
    "random weights to start from": {"init_weights": None},
    "ImageNet weights to start from, all learn": {
        "init_weights": "data/bvlc_googlenet_imagenet_2d_fp16.safetensors",
        "early_lr": 1.0,
    },
    "early stages learn too": {"early_lr": 1.0},
    "8 epochs": {"epochs": 8},
    "nothing pasted": {"augmentation": {"paste": 0.0}},
    "nothing pasted, 8 epochs": {"augmentation": {"paste": 0.0}, "epochs": 8},
    "larger crops": {"augmentation": {"scale": 1.3}},
    "no augmentation": {"augmentation": PLAIN},
    "no overlapping clips": {"train_stride": None},
    "no overlapping clips, no even draw": {"train_stride": None, "epoch_clips": None},
    "no averaging of weights": {"average": 0.0},
    "no label smoothing": {"label_smoothing": 0.0},
}
"""What a network is trained without, or otherwise; of `augmentation` the options that change."""


def main(
    profile: Annotated[str, typer.Option(help="Of the run.")] = "ucsd",
    param: Annotated[list[str], typer.Option("-p", "--param", help="Of that run.")] = [],  # noqa: B006
    part: Annotated[list[str], typer.Option(help="Only these.")] = list(PARTS),  # noqa: B006
    out: Annotated[Path, typer.Option(help="Table that lines go into.")] = Path("ablation.csv"),
) -> None:
    """Train without each part of the recipe, and compare on the validation part."""
    run = open_run(profile, **dict(params.parse_override(text) for text in param))
    steps.check_writable(run)
    if not run.params.with_validation:
        raise InputError("nothing to judge on: give -p with_validation=true, and a run_dir for it")
    for name in part:
        if PARTS[name] and _recipe(without(run, name)) == _recipe(run):
            told = "give the study's parameters (-p init_weights=...), or other parts (--part)"
            raise InputError(f"“{name}” is this run's recipe already; {told}")
    for name in part:
        table = pd.DataFrame([line(run, name)], columns=list(COLUMNS))
        if out.is_file():
            table = pd.concat([pd.read_csv(out), table])
            table = table.drop_duplicates(["recipe", "fold"], keep="last")
        with atomic_write(out) as temporary:
            table.to_csv(temporary, index=False, float_format="%.6g")
    print(table.to_string(index=False))


def without(run: Run, name: str) -> Run:
    """The run without one part of its recipe; the recipe itself is the run."""
    folder = run.path("ablation") / name.replace(" ", "_").replace(",", "")
    values, changes = run.params.dump(), {**PARTS[name], "run_dir": None}
    if "augmentation" in changes:
        changes["augmentation"] = values["augmentation"] | changes["augmentation"]
    # Not by overrides, among which None would keep a value.
    changed = params.checked(values | changes)
    return Run(params=changed, root=run.root, dir=folder) if PARTS[name] else run


def _recipe(run: Run) -> dict[str, Any]:
    varied = {"augmentation": Augmentation(**run.params.augmentation), "run_dir": None}
    # Stages learn slowly only from given weights.
    varied |= {} if run.params.init_weights else {"early_lr": 1.0}
    return run.params.dump() | varied


def line(run: Run, name: str) -> dict[str, Any]:
    """Train one network and the recipe's; score it on the validation part, and its last epoch.

    `threshold` is the p from which on calling clips anomalous gives the best mean of sensitivity
    and specificity there (of equal ones the highest); accuracy is at .5 all the same.
    """
    history, found = (f(without(run, name)) for f in (steps.history, steps.predictions))
    found = found[found["split"] == "val"]
    p, label, sequence = found["p"], found["label"], found["sequence"]
    own = steps.predictions(run).set_index("clip_id").loc[found["clip_id"], "p"]
    right = ((p >= schema.CALLED_FROM) == (label == 1)).astype(float)
    options = {"n_resamples": run.params.n_resamples, "seed": run.params.seed}
    accuracy = statistics.bootstrap_mean(right, sequence, **options)
    auc = bootstrap_auc(p, label, sequence, **options)
    apart = bootstrap_auc(p, label, sequence, minus=own, **options)
    values = {"recipe": name, "fold": run.params.fold, "epochs": len(history)}
    values["best_epoch"] = history.loc[history["chosen"], "epoch"].item()
    normal, anomalous, cut = roc_curve(label, p)
    values["threshold"] = cut[1:][np.argmax((anomalous - normal)[1:])]  # the first calls nothing
    values |= {"accuracy": accuracy["mean"], "auc": auc["auc"], "auc_difference": apart["auc"]}
    for key, interval in {"accuracy": accuracy, "auc": auc, "auc_difference": apart}.items():
        values |= {f"{key}_{end}": interval[end] for end in ("low", "high")}
    for scene, clips in found.groupby("scene"):
        values[f"auc_{scene}"] = roc_auc_score(clips["label"], clips["p"])
    return values | {f"{k}_last_epoch": history[f"val_{k}"].iloc[-1] for k in ("accuracy", "auc")}


if __name__ == "__main__":
    typer.run(main)
