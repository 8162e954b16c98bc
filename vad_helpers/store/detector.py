"""The detector of a run: trained network, its keys, predictions and performance."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from vad_helpers.data import clips as clip_data
from vad_helpers.data.augmentation import Augmentation
from vad_helpers.errors import InputError
from vad_helpers.inference.prepared import Prepared, prepare
from vad_helpers.metrics import runtime
from vad_helpers.store import experiment
from vad_helpers.store.cache import (
    Run,
    cached,
    file_digest,
    key_of,
    load_or_build,
    read_manifest,
    remember,
)

if TYPE_CHECKING:
    import torch

MODEL_VERSION = 2
PREDICTIONS_VERSION = 2


def model(run: Run, *, progress: bool = False) -> torch.nn.Module:
    """Trained network of the run, in evaluation mode on the CPU; trained first if need be."""
    from vad_helpers.model import weights

    if run.params.trained_weights:
        return _load_trained(run)

    about = training_settings(run)

    def build() -> torch.nn.Module:
        network = _train(run, progress=progress)
        about["fingerprint"] = weights.fingerprint(network)
        _check_as_explained(run, about["fingerprint"])
        return network

    def save(network: torch.nn.Module, path: Path) -> None:
        weights.save(network, path, **_weights_metadata(run))

    return load_or_build(
        run,
        "model.safetensors",
        model_key(run),
        build=build,
        save=save,
        load=lambda path: weights.load(path)[0],
        settings=about,
    )


def _check_as_explained(run: Run, fingerprint: str) -> None:
    """Refuse maps and scores of a network that was lost, if training gives another one now.

    Their keys name what the network was trained with; that gives the same bits on one kind of
    machine, and need not on another.
    """
    before = read_manifest(run).get("model.safetensors", {})
    known = before.get("fingerprint", fingerprint)
    left = [name for name in ("attributions", "scores") if run.path(name).exists()]
    if before.get("key") == model_key(run) and known != fingerprint and left:
        raise InputError(
            f"{run.dir} holds {' and '.join(left)} of a network that is gone, and training gives "
            "another one here: put the old model.safetensors back, or delete "
            f"{' and '.join(left)} there"
        )


def _weights_metadata(run: Run) -> dict[str, Any]:
    """What saved weights say of themselves, beside their width."""
    p = run.params
    return {
        "mean": p.mean,
        "std": p.std,
        "initial_weights": Path(p.init_weights).name if p.init_weights else "none",
        **split_of_weights(run),
    }


def split_of_weights(run: Run) -> dict[str, Any]:
    """Which sequences a network was trained and validated on, and what decided it."""
    p = run.params
    splits = experiment.sequences_by_split(run)
    seen = sorted(splits["train"] + splits["val"])
    origin = {"data": experiment.data_key(run), "fold": p.fold, "n_folds": p.n_folds}
    return {**origin, "seed": p.seed, "sequences_seen": seen}


def _load_trained(run: Run) -> torch.nn.Module:
    from vad_helpers.store import trained

    p = run.params
    path = _weights_file(run, "trained_weights")
    of_run = {"mean": p.mean, "std": p.std, "width": p.model_width}
    # The file first: one that cannot be used must not leave drawn videos behind.
    network, found = trained.load_matching(path, network=of_run)
    trained.check_unseen(path, found, experiment.sequences_by_split(run)["test"])
    return network


def _weights_file(run: Run, name: str) -> Path:
    path = run.root / getattr(run.params, name)
    if not path.is_file():
        raise InputError(f"no weights at {path}; check parameter '{name}'")
    return path


def check_weights(run: Run) -> None:
    """Read the weights that the parameters name, so that unusable ones fail before any work.

    Raises
    ------
    InputError
        If a file is not there, is damaged, holds NaN, is of another architecture, or does not
        belong to this run's split.
    """
    from vad_helpers.model import checkpoints

    _augmentation(run)
    training_spec(run)
    if run.params.init_weights:
        report = checkpoints.initialise(fresh_network(run), _weights_file(run, "init_weights"))
        _check_early_stages(run, report.convolutions_missing)
    if run.params.trained_weights:
        _load_trained(run)


def left_fresh(run: Run) -> list[str]:
    """Convolutions that `init_weights` lacks, so that they start at random; empty without it."""
    from vad_helpers.model import checkpoints

    if not run.params.init_weights:
        return []
    report = checkpoints.initialise(fresh_network(run), _weights_file(run, "init_weights"))
    return list(report.convolutions_missing)


def initial_digest(run: Run) -> str | None:
    """SHA-256 of the file `init_weights`; None without it."""
    if not run.params.init_weights:
        return None
    return file_digest(_weights_file(run, "init_weights"))


def model_key(run: Run) -> str:
    """Key of the trained network."""
    return remember(run, "model_key", lambda: _model_key(run))  # hashes files of weights


def _model_key(run: Run) -> str:
    p = run.params
    if p.trained_weights:
        digest = file_digest(_weights_file(run, "trained_weights"))
        return key_of("model", MODEL_VERSION, clips=experiment.clips_key(run), weights=digest)
    return key_of(
        "model", MODEL_VERSION, clips=experiment.clips_key(run), training=training_settings(run)
    )


def training_settings(run: Run) -> dict[str, Any]:
    """What the trained weights depend on, apart from the clips."""
    p = run.params
    settings = dataclasses.asdict(training_spec(run)) | {
        "seed": p.seed,
        "precision": training_precision(run),
        "width": p.model_width,
        "frame_size": p.frame_size,
        "normalisation": [p.mean, p.std],
        "augmentation": dataclasses.asdict(_augmentation(run)),
        "train_stride": p.train_stride or p.stride,
    }
    if p.init_weights:
        settings["init_weights"] = file_digest(_weights_file(run, "init_weights"))
    return settings


def training_spec(run: Run):
    """Recipe of the run's training, a `vad_helpers.model.recipe.TrainingSpec`."""
    from vad_helpers.model.training import TrainingSpec

    p = run.params
    return TrainingSpec(
        epochs=p.epochs,
        batch_size=p.batch_size,
        lr=p.lr,
        weight_decay=p.weight_decay,
        schedule=p.lr_schedule,
        lr_step=p.lr_step,
        lr_gamma=p.lr_gamma,
        early_end=p.early_end,
        # What starts at random has nothing worth keeping.
        early_lr=p.early_lr if p.init_weights else 1.0,
        average=p.average,
        label_smoothing=p.label_smoothing,
        epoch_clips=p.epoch_clips,
        patience=p.patience,
    )


def _augmentation(run: Run) -> Augmentation:
    try:
        return Augmentation(**run.params.augmentation)
    except TypeError:
        known = ", ".join(field.name for field in dataclasses.fields(Augmentation))
        raise InputError(
            f"parameter 'augmentation' is {run.params.augmentation}; its options are {known}"
        ) from None


def scoring_precision(run: Run) -> str:
    """Precision of the probabilities that scores are made of.

    "auto" is bf16: on real clips no mean deletion or insertion score of any method moved by more
    than a thousandth (`benchmarks.precision`).
    """
    wanted = run.params.precision
    return automatic_precision(run, "bf16") if wanted == "auto" else wanted


def training_precision(run: Run) -> str:
    """Precision of training: `train_precision`, else `precision`, else bf16 if the device can."""
    p = run.params
    wanted = p.precision if p.train_precision == "auto" else p.train_precision
    return automatic_precision(run, "bf16") if wanted == "auto" else wanted


def automatic_precision(run: Run, wanted: str) -> str:
    """What "auto" comes to: the precision wanted, but fp32 where bf16 would only be emulated."""
    from vad_helpers.model.prediction import computes_bf16

    return wanted if wanted == "fp32" or computes_bf16(torch_device(run)) else "fp32"


def warn_of_emulation(run: Run) -> None:
    """Warn where bf16 is asked for by name on a device that only emulates it."""
    from vad_helpers.model.prediction import computes_bf16

    device = torch_device(run)
    for name in ("precision", "train_precision"):
        if getattr(run.params, name) == "bf16" and not computes_bf16(device):
            warnings.warn(
                f"{name} is bf16, which this {device} only emulates, many times slower than fp32: "
                f"'auto' takes bf16 where the device computes it, and fp32 here",
                stacklevel=2,
            )


def dataset(run: Run, split: str, *, training: bool = False) -> clip_data.ClipDataset:
    """Torch dataset of one split ("train", "val" or "test"); varied and overlapping to train."""
    p = run.params
    table = experiment.training_clips(run) if training else experiment.clips(run)
    return clip_data.ClipDataset(
        list(experiment.sequences(run).values()),
        table[table["split"] == split],
        size=tuple(p.frame_size),
        mean=p.mean,
        std=p.std,
        augmentation=_augmentation(run) if training else None,
        seed=p.seed,
    )


def fresh_network(run: Run) -> torch.nn.Module:
    """Network with seeded random weights, before any training or loading."""
    import torch

    from vad_helpers.model.i3d import InceptionI3d

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.params.seed)
        return InceptionI3d(num_classes=2, width=run.params.model_width)


def fresh_key(run: Run) -> str:
    """Key of the untrained network; it does not depend on the clips."""
    return key_of("fresh", MODEL_VERSION, width=run.params.model_width, seed=run.params.seed)


def network(run: Run, weights: str = "trained") -> torch.nn.Module:
    """Network with "trained" or "random" weights, in evaluation mode."""
    return model(run) if weights == "trained" else fresh_network(run).eval()


def prepared(run: Run, weights: str = "trained", precision: str = "fp32") -> Prepared:
    """The same network made ready for inference on the run's device, once for this handle."""

    def prepare_it() -> Prepared:
        return prepare(network(run, weights).to(torch_device(run)), precision=precision)

    return remember(run, f"prepared {weights} {precision}", prepare_it)


def torch_device(run: Run) -> str:
    """Device the run computes on: what `device` says, or CUDA where there is one."""
    from vad_helpers.model.prediction import resolve_device

    return str(resolve_device(run.params.device))


def machine(run: Run) -> str:
    """Name of what the run computes on, so that timings of two machines are told apart."""
    facts = runtime.machine()
    if torch_device(run) == "cuda":
        return facts["device"]
    return f"{facts['processor']}, {facts['instructions']}, {facts['cores']} cores"


def _train(run: Run, *, progress: bool) -> torch.nn.Module:
    from vad_helpers.model import checkpoints, training, weights

    p = run.params
    network = fresh_network(run)
    if p.init_weights:
        report = checkpoints.initialise(network, run.root / p.init_weights)
        _check_early_stages(run, report.convolutions_missing)
        print(report)
    history = training.train(
        network,
        dataset(run, "train", training=True),
        dataset(run, "val"),
        training_spec(run),
        checkpoint_dir=run.path("training"),
        device=p.device,
        precision=training_precision(run),
        seed=p.seed,
        key=model_key(run),
        metadata=_weights_metadata(run),
        progress=progress,
    )
    load_or_build(
        run,
        "history.csv",
        model_key(run),
        build=lambda: history,
        save=experiment.save_csv,
        load=pd.read_csv,
    )
    weights.round_to_half(network)  # so that a published file holds the network that was explained
    return network.cpu().eval()


def _check_early_stages(run: Run, missing: Iterable[str]) -> None:
    """Refuse to slow down or freeze stages that start at random."""
    from vad_helpers.model.i3d import STAGES

    p = run.params
    early = STAGES[: STAGES.index(p.early_end)]
    fresh = [name for name in missing if name.split(".")[0] in early]
    if fresh and p.early_lr < 1:
        raise InputError(
            f"early_lr is {p.early_lr}, but {p.init_weights} lacks {', '.join(fresh)}, which would "
            f"stay near random: give other weights, early_lr=1, or an earlier early_end"
        )


def history(run: Run) -> pd.DataFrame:
    """Training history, one row an epoch; empty when `trained_weights` were given."""
    if run.params.trained_weights:
        return pd.DataFrame(columns=["epoch", "train_loss", "val_auc"])

    def retrain() -> pd.DataFrame:
        raise InputError(
            f"{run.path('history.csv')} is gone while the model is there; delete "
            f"{run.path('model.safetensors')} to train again"
        )

    if not cached(run, "history.csv", model_key(run)):
        model(run)
    return load_or_build(
        run,
        "history.csv",
        model_key(run),
        build=retrain,
        save=experiment.save_csv,
        load=pd.read_csv,
    )


def predictions(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Probability "anomalous" of every validation and test clip.

    Returns
    -------
    DataFrame
        clip_id, scene, sequence, split, label, p (in [0, 1]).
    """
    from vad_helpers.model import prediction

    p = run.params

    def build() -> pd.DataFrame:
        network = model(run, progress=progress)
        parts = []
        for split in ("val", "test"):
            table = experiment.clips(run)
            part = table.loc[
                table["split"] == split, ["clip_id", "scene", "sequence", "split", "label"]
            ].copy()
            part["p"] = prediction.predict(
                network,
                dataset(run, split),
                batch_size=p.eval_batch_size,
                device=p.device,
                precision=scoring_precision(run),
                progress=progress,
            )
            parts.append(part)
        return pd.concat(parts, ignore_index=True)

    key = key_of(
        "predictions",
        PREDICTIONS_VERSION,
        model=model_key(run),
        # Trained weights that were given say nothing of the frames that this run shows them.
        size=p.frame_size,
        normalisation=[p.mean, p.std],
        precision=scoring_precision(run),
    )
    return load_or_build(
        run, "predictions.csv", key, build=build, save=experiment.save_csv, load=pd.read_csv
    )


def performance(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Clip accuracy (at p >= .5) and ROC AUC on unseen sequences, by scene and pooled.

    Returns
    -------
    DataFrame
        split, scene ("all" when pooled), n_clips, n_anomalous, accuracy, auc.
    """
    from vad_helpers.model import prediction

    names = {"group": "scene", "n": "n_clips"}
    parts = [
        prediction.evaluate(part["p"], part["label"], part["scene"])
        .rename(columns=names)
        .assign(split=split)
        for split, part in predictions(run, progress=progress).groupby("split", sort=False)
    ]
    columns = ["split", "scene", "n_clips", "n_anomalous", "accuracy", "auc"]
    return pd.concat(parts, ignore_index=True)[columns]
