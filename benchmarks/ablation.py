"""What does the training recipe owe to each of its parts? One network without each, on fold 0.

`python -m benchmarks.ablation --profile ucsd -p init_weights=FILE --publish-to DIR`, with the
parameters of the study's run, trains in folders inside the run's; networks that are there are used,
a killed training goes on where it stopped. All are judged on the validation part, on which the
recipe was tuned: no test score is looked at. Each is one training; differences from the recipe have
intervals from drawn sequences, which leave out what training again would change.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from sklearn.metrics import roc_auc_score
from vad_helpers.store import detector, params, publish
from vad_helpers.store.cache import Run

from vad_helpers import store
from vad_helpers.errors import InputError
from vad_helpers.tables import statistics

PARTS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "early stages learn too": {"early_lr": 1.0},
    "no overlapping clips": {"train_stride": None},
    "no overlapping clips, no even draw": {"train_stride": None, "epoch_clips": None},
    "no augmentation": {"augmentation": {}},
    "no averaging of weights": {"average": 0.0},
    "no label smoothing": {"label_smoothing": 0.0},
    "random weights to start from": {"init_weights": None},
}


def main(
    profile: Annotated[str, typer.Option(help="Of the run.")] = "ucsd",
    param: Annotated[list[str], typer.Option("-p", "--param", help="Of that run.")] = [],  # noqa: B006
    part: Annotated[list[str], typer.Option(help="Only these; by default all.")] = [],  # noqa: B006
    publish_to: Annotated[Path | None, typer.Option(help="A published folder.")] = None,
) -> None:
    """Train without each part of the recipe, and compare on the validation part."""
    run = store.open_run(profile, **dict(params.parse_override(text) for text in param))
    if publish_to is not None:
        publish.check_settings(publish_to, run)
    check_parts(run, part or PARTS)
    table = pd.DataFrame([line(run, name) for name in part or PARTS])
    print(table.to_string(index=False))
    if publish_to is not None:
        publish.add_tables(publish_to, {"ablation": table}, by=["recipe", "fold"])


def check_parts(run: Run, names: Iterable[str]) -> None:
    """Refuse parts that this run's recipe does not have: without them it would be itself."""
    own = detector.training_settings(run)
    for name in names:
        if PARTS[name] and detector.training_settings(without(run, name)) == own:
            raise InputError(
                f"“{name}” is this run's recipe already ({PARTS[name]}); give the parameters of "
                "the study (-p init_weights=...), or other parts (--part)"
            )


def line(run: Run, name: str) -> dict[str, Any]:
    """Train one network and the recipe's, and score it: accuracy and AUC on the validation part.

    Beside the chosen epoch stands the last one, as training saw it (before weights are rounded).
    """
    trained = without(run, name)
    history = detector.history(trained)
    found, recipe = validated(trained), validated(run)
    options = {"n_resamples": run.params.n_resamples, "seed": run.params.seed}
    right = ((found["p"] >= 0.5) == (found["label"] == 1)).astype(float)
    accuracy = statistics.bootstrap_mean(right, found["sequence"], **options)
    auc = statistics.bootstrap_auc(found["p"], found["label"], found["sequence"], **options)
    beside = recipe.set_index("clip_id").loc[found["clip_id"], "p"]
    change = statistics.paired_auc_difference(
        found["p"], beside, found["label"], found["sequence"], **options
    )
    return {
        "recipe": name,
        "fold": run.params.fold,
        "epochs": len(history),
        "best_epoch": int(history.loc[history["best"], "epoch"].item()),
        "accuracy": accuracy["mean"],
        "accuracy_low": accuracy["low"],
        "accuracy_high": accuracy["high"],
        "auc": auc["auc"],
        "auc_low": auc["low"],
        "auc_high": auc["high"],
        "auc_difference": change["difference"],
        "auc_difference_low": change["low"],
        "auc_difference_high": change["high"],
        **{
            f"auc_{scene}": roc_auc_score(clips["label"], clips["p"])
            for scene, clips in found.groupby("scene")
        },
        "accuracy_last_epoch": history["val_accuracy"].iloc[-1],
        "auc_last_epoch": history["val_auc"].iloc[-1],
    }


def validated(run: Run) -> pd.DataFrame:
    """What a run's network says of the validation part; trained first if need be."""
    found = detector.predictions(run)
    return found[found["split"] == "val"]


def without(run: Run, name: str) -> Run:
    """The run without one part of its recipe; the recipe itself is the run."""
    if not PARTS[name]:
        return run
    folder = run.path("ablation") / name.replace(" ", "_").replace(",", "")
    changed = dataclasses.replace(run.params, **PARTS[name], run_dir=str(folder))
    return Run(changed, run.root, folder)


if __name__ == "__main__":
    typer.run(main)
