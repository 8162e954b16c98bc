"""The steps of a run: clips, network, maps, scores. Each is computed if it is not there.

Every (clip, row) is explained and scored once, with its map in memory, and its lines are appended to
all tables together: a process that is killed loses the pair that it was working on. Several
processes on one folder share its clips, whatever machine they are on.
"""

from __future__ import annotations

import dataclasses
import json
import platform
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Collection
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from filelock import Timeout
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes
from tqdm.auto import tqdm

from vad_helpers.attribution import METHODS, attribute, baselines, superpixels
from vad_helpers.attribution.convergence import converge as double
from vad_helpers.data import clips as clip_data
from vad_helpers.data import ucsd, walkway
from vad_helpers.data.augmentation import Augmentation
from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write
from vad_helpers.inference.prepared import Prepared, computes_bf16, prepare, resolve_device
from vad_helpers.metrics import human_centric, model_centric, references, robustness, runtime
from vad_helpers.model import training, weights
from vad_helpers.model.i3d import STAGES, InceptionI3d
from vad_helpers.run import cache, params
from vad_helpers.run.cache import Pair, Run, key_of, remember
from vad_helpers.run.rows import SLOW_CALLS, TIME_AVERAGE, Row, describe, rows_of
from vad_helpers.tables import schema
from vad_helpers.tables.schema import Study

VERSIONS = {"clips": 2, "model": 2, "predictions": 2, "explanation": 1, "scores": 1, "convergence": 1}
"""Raised whenever a step's code changes its result: what it made before is made again."""
ENGINE = "torch"
PACKAGES = ("vad-helpers", "torch", "captum", "numpy", "scikit-image", "scikit-learn")
SAMPLED = ("kernel_shap", "lime")
FIRST_SAMPLES = 25
Table = list[tuple]


# -- Data -----------------------------------------------------------------------------------------


def data_root(run: Run) -> Path:
    """Folder of the dataset's tree; the synthetic one is written when it is missing.

    Raises
    ------
    InputError
        If the real tree is not there; the message says how to get it.
    """
    folder = run.root / run.params.data_dir
    if run.params.dataset == "ucsd":
        if not folder.is_dir():
            raise InputError(
                f"no UCSD tree at {folder}; get it with `vad data fetch --dest {folder.parent}`"
            )
        return ucsd.find_root(folder)
    folder = walkway_folder(run)
    with cache.lock(folder.parent, folder.name):  # runs share their data
        return walkway.write(folder, seed=run.params.seed, **run.params.walkway)


def walkway_folder(run: Run) -> Path:
    """Folder of the synthetic tree: its name holds the key of seed and options, so that another
    seed or version is another folder, never a stale one."""
    folder = run.root / run.params.data_dir
    key = walkway.key(run.params.seed, walkway.WalkwaySpec(**run.params.walkway))
    return folder.with_name(f"{folder.name}-{key[:8]}")


def data_key(run: Run) -> str:
    """Key of the dataset's content.

    Raises
    ------
    InputError
        If it is not that of a folder that supplied its parameters.
    """

    def look_up() -> str:
        if run.params.dataset == "walkway":
            spec = walkway.WalkwaySpec(**run.params.walkway)
            found = f"walkway-{walkway.key(run.params.seed, spec)}"
        else:
            found = f"ucsd-{ucsd.fingerprint(data_root(run))}"
        known = cache.manifest_in(run.dir).get("data", found) if run.supplied else found
        if known != found:
            raise InputError(
                f"{run.root / run.params.data_dir} holds other videos than {run.dir} was made "
                "with; give their folder as data_dir"
            )
        return found

    return remember(run, "data_key", look_up)


def sequences(run: Run) -> dict[str, ucsd.Sequence]:
    """Sequences of the dataset by their id ("ped1/Test001"), with the masks that count."""

    def look_up() -> dict[str, ucsd.Sequence]:
        found, masks = ucsd.index(data_root(run)), run.params.masks
        if masks != "official":
            counts = [s.masks is not None and (masks == "all" or not s.official_mask) for s in found]
            found = [
                dataclasses.replace(s, official_mask=c) for s, c in zip(found, counts, strict=True)
            ]
        return clip_data.by_id(found)

    return remember(run, "sequences", look_up)


def _cut(run: Run, stride: int) -> pd.DataFrame:
    p = run.params
    return clip_data.clip_table(
        sequences(run).values(), n_frames=p.n_frames, stride=stride, fold=p.fold,
        n_folds=p.n_folds, seed=p.seed, split_by=p.split_by,
    )  # fmt: skip


def clips(run: Run) -> pd.DataFrame:
    """Table of clips: clip_id, scene, sequence, start, n_frames, label, has_mask, eligible, fold,
    split."""

    def look_up() -> pd.DataFrame:
        if run.readonly:
            return schema.read(run.dir, "clips")
        return cache.load_or_build(
            run, "clips", clips_key(run), lambda: _cut(run, run.params.stride)
        )

    return remember(run, "clips", look_up).copy()


def clips_key(run: Run) -> str:
    """Key of the table of clips."""
    p = run.params
    split = [p.fold, p.n_folds, p.seed, p.split_by]
    shape = [p.n_frames, p.stride]
    return key_of(
        "clips", VERSIONS["clips"], data=data_key(run), shape=shape, split=split, masks=p.masks
    )


def evaluation(run: Run, *, n_clips: int | None = None) -> pd.DataFrame:
    """Clips that are explained: rows of `clips`, index reset.

    With `study_clips`, only clips of the study are chosen. `n_clips` chooses fewer than the run's;
    they are a part of the run's choice. `attrs["shortfall"]` says how many clips are missing from
    the number asked for.

    Raises
    ------
    InputError
        If there is none.
    """
    p = run.params
    wanted = p.n_clips if n_clips is None else n_clips

    def look_up() -> pd.DataFrame:
        table, options = clips(run), {"seed": p.seed, "max_per_sequence": p.max_per_sequence}
        if run.readonly:
            known = cache.manifest_in(run.dir).get("evaluation", [])
            return table.set_index("clip_id", drop=False).loc[known].reset_index(drop=True)
        if p.study_clips is not None:
            table = clip_data.study_clips(table, n_clips=p.study_clips, **options)
        chosen = clip_data.evaluation_clips(table, n_clips=wanted, **options)
        if chosen.empty:
            raise InputError(
                f"fold {p.fold} of profile '{p.profile}' has no eligible clip (anomalous, with "
                "masks that agree with the frame labels); choose another fold or more data"
            )
        return chosen

    return remember(run, ("evaluation", wanted), look_up).copy()


def _line_of(run: Run, clip_id: str) -> pd.Series:
    _check_writable(run)
    table = clips(run).set_index("clip_id", drop=False)
    if clip_id not in table.index:
        raise InputError(
            f"no clip '{clip_id}' in {run.path('clips.csv')}; the first is '{table.index[0]}'"
        )
    return table.loc[clip_id]


def _check_writable(run: Run) -> None:
    if run.readonly:
        raise InputError(f"{run.dir} can be shown but not computed with: {run.readonly}")


def clip(run: Run, clip_id: str) -> torch.Tensor:
    """One clip as the network sees it: float32 (3, T, H, W), normalised."""
    p = run.params
    return clip_data.load_clip(
        sequences(run), _line_of(run, clip_id), size=tuple(p.frame_size), mean=p.mean, std=p.std
    )


def frames(run: Run, clip_id: str) -> np.ndarray:
    """Grey frames of one clip for showing: float32 (T, H, W) in [0, 1]."""
    return clip(run, clip_id)[0].numpy() * run.params.std + run.params.mean


def mask(run: Run, clip_id: str) -> np.ndarray:
    """Ground-truth mask of one clip: bool (T, H, W)."""
    size = tuple(run.params.frame_size)
    return clip_data.load_mask(sequences(run), _line_of(run, clip_id), size=size)


def baseline(run: Run, clip_id: str, name: str | None = None) -> torch.Tensor:
    """What replaces removed pixels of a clip: float32 (3, T, H, W)."""
    name = name or run.params.baseline
    return baselines.make(name, clip(run, clip_id), black=run.params.black)


def clip_seed(run: Run, clip_id: str) -> int:
    """Seed of what is drawn for one clip: the run's seed and the clip decide."""
    return zlib.crc32(f"{run.params.seed} {clip_id}".encode())


# -- Network --------------------------------------------------------------------------------------


def check(run: Run) -> None:
    """Look at data and weights before anything starts that would fail.

    Raises
    ------
    InputError
        If the videos or weights are not there or cannot be used, the weights have seen what is
        tested, or stages that they lack would be frozen.

    Warns
    -----
    UserWarning
        If bf16 is asked for by name on a device that only emulates it.
    """
    p, device = run.params, torch_device(run)
    for name in ("precision", "train_precision"):
        if getattr(p, name) == "bf16" and not computes_bf16(device):
            warnings.warn(
                f"{name} is bf16, which this {device} only emulates, many times slower than fp32: "
                "'auto' takes bf16 where the device computes it, and fp32 here",
                stacklevel=2,
            )
    if run.readonly:
        return
    training_spec(run)
    if p.dataset == "ucsd":
        sequences(run)
    if _is_trained(run):
        return
    if p.init_weights:
        _initialise(run, fresh_network(run))
    if p.trained_weights:
        _given_network(run)


def training_spec(run: Run) -> training.TrainingSpec:
    """Recipe of the run's training."""
    p = run.params
    return training.TrainingSpec(
        schedule=p.lr_schedule,
        # What starts at random has nothing worth keeping.
        early_lr=p.early_lr if p.init_weights else 1.0,
        **{name: getattr(p, name) for name in (
            "epochs", "batch_size", "lr", "weight_decay", "lr_step", "lr_gamma", "early_end",
            "average", "label_smoothing", "epoch_clips", "patience")},
    )  # fmt: skip


def torch_device(run: Run) -> str:
    """Device the run computes on: what `device` says, or CUDA where there is one."""
    return str(resolve_device(run.params.device))


def processor(run: Run) -> str:
    """Name of what the run computes on, so that timings of two machines are told apart."""
    facts = runtime.machine()
    if torch_device(run) != "cpu":
        return str(facts["device"])
    return f"{facts['processor']}, {facts['instructions']}, {facts['cores']} cores"


def precision_of(run: Run, what: Row | str) -> str:
    """Precision that something is computed in.

    Parameters
    ----------
    run : Run
    what : Row, "scores" or "training"
        "auto" is bf16 for training and scores (on real clips no mean score of any method moved by
        more than a thousandth), and a row's own or its method's for a map; but fp32 on a device
        that only emulates bf16. That is found out once, and kept in the manifest.
    """
    p = run.params
    wanted = p.precision
    if what == "training" and p.train_precision != "auto":
        wanted = p.train_precision
    if wanted != "auto":
        return wanted
    if isinstance(what, Row) and (what.precision or METHODS[what.method].precision) == "fp32":
        return "fp32"
    return _measured_precision(run)


def _measured_precision(run: Run) -> str:
    def look_up() -> str:
        known = cache.manifest_in(run.dir).get("measured", {}).get("precision")
        if known is None:
            known = "bf16" if computes_bf16(torch_device(run)) else "fp32"
            cache.update(run, measured={"precision": known, "engine": ENGINE})
        return known

    return remember(run, "measured precision", look_up)


def fresh_network(run: Run) -> InceptionI3d:
    """Network with seeded random weights, before any training or loading."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.params.seed)
        return InceptionI3d(num_classes=2, width=run.params.model_width)


def network(run: Run, weights: str = "trained", *, progress: bool = False) -> InceptionI3d:
    """Network with "trained" or "random" weights, in evaluation mode on the CPU.

    It is trained first if need be, or taken from `trained_weights`, and kept in the run's folder.

    Raises
    ------
    InputError
        If weights cannot be used, or the folder holds results of another network.
    """
    return fresh_network(run).eval() if weights == "random" else _trained(run, progress=progress)


def model_key(run: Run) -> str:
    """Key of the trained network: all that its weights depend on."""

    def look_up() -> str:
        p = run.params
        parts: dict[str, Any] = {"clips": clips_key(run)}
        if p.trained_weights:
            parts["weights"] = _digest(run, "trained_weights")
        else:
            parts["training"] = dataclasses.asdict(training_spec(run)) | {
                "seed": p.seed,
                "precision": precision_of(run, "training"),
                "width": p.model_width,
                "frame_size": p.frame_size,
                "normalisation": [p.mean, p.std],
                "augmentation": dataclasses.asdict(Augmentation(**p.augmentation)),
                "train_stride": p.train_stride or p.stride,
                "init_weights": _digest(run, "init_weights") if p.init_weights else None,
            }
        return key_of("model", VERSIONS["model"], **parts)

    return remember(run, "model_key", look_up)


def _digest(run: Run, name: str) -> str:
    """Checksum of a file of weights; where it is not, the one that the folder was made with."""
    path = run.root / getattr(run.params, name)
    known = cache.manifest_in(run.dir).get(f"{name}_sha256") if run.supplied else None
    if not path.is_file():
        if known:
            return known
        raise InputError(f"no weights at {path}; check parameter '{name}'")
    found = cache.file_digest(path)
    if known not in (None, found):
        raise InputError(f"{path} holds other weights than {run.dir} was made with; leave {name} out")
    return found


def _is_trained(run: Run) -> bool:
    entry = cache.manifest_in(run.dir).get("files", {}).get("model", {})
    return entry.get("key") == model_key(run) and run.path("model.safetensors").is_file()


def weights_sha256(run: Run) -> str:
    """Checksum of the trained network's weights; it is trained first if need be."""

    def look_up() -> str:
        if not _is_trained(run):
            _trained(run, progress=False)
        return cache.manifest_in(run.dir)["weights_sha256"]

    return remember(run, "weights_sha256", look_up)


def _trained(run: Run, *, progress: bool) -> InceptionI3d:
    _check_writable(run)
    path, key = run.path("model.safetensors"), model_key(run)
    with cache.lock(run.dir, "model"):
        known = cache.manifest_in(run.dir)
        mine = known.get("files", {}).get("model", {}).get("key") == key
        before = known.get("weights_sha256") if mine else None
        if before and path.is_file():
            try:
                model = weights.load(path)[0]
            except InputError as error:
                warnings.warn(f"{error}; it is made again", stacklevel=3)
            else:
                if weights.fingerprint(model) == before:
                    return model
                raise InputError(
                    f"{path} is not the network that {run.dir} was made with; put that back, or "
                    "delete the folder"
                )
        model, about, history = _new_network(run, progress=progress)
        found = weights.fingerprint(model)
        left = [name for name in ("attributions", "explanations.csv") if run.path(name).exists()]
        if before not in (None, found) and left:
            raise InputError(
                f"{run.dir} holds {' and '.join(left)} of a network that is gone, and another one "
                "comes about here: put the old model.safetensors back, or delete them"
            )
        cache.update(run, files={"model": None})
        weights.save(model, path, **about)
        cache.keep(run, "history", key, history, started=time.perf_counter())
        cache.update(
            run,
            files={"model": {"key": key}},
            weights_sha256=found,
            seconds={"training": round(float(history["seconds"].sum()), 2)},
        )
        return model


def _new_network(run: Run, *, progress: bool) -> tuple[InceptionI3d, dict, pd.DataFrame]:
    """A network that is given or trained now; what to say of it in its file; its history."""
    p = run.params
    if p.trained_weights:
        model, about = _given_network(run)
        cache.update(run, trained_weights_sha256=_digest(run, "trained_weights"))
        return model, about, schema.read(run.dir / "none", "history")
    by_split = clips(run).groupby("split")["sequence"].unique()
    about = {
        "mean": p.mean,
        "std": p.std,
        "initial_weights": Path(p.init_weights).name if p.init_weights else "none",
        "data": data_key(run),
        "fold": p.fold,
        "n_folds": p.n_folds,
        "seed": p.seed,
        "sequences_seen": sorted({*by_split.get("train", ()), *by_split.get("val", ())}),
    }
    model = fresh_network(run)
    report = _initialise(run, model) if p.init_weights else None
    cache.update(
        run,
        initial_weights=about["initial_weights"],
        init_weights_sha256=_digest(run, "init_weights") if report else None,
        left_fresh=list(report.convolutions_missing) if report else [],
    )
    history = training.train(
        model,
        dataset(run, "train", augmented=True),
        dataset(run, "val"),
        training_spec(run),
        checkpoint_dir=run.path("training"),
        device=p.device,
        precision=precision_of(run, "training"),
        seed=p.seed,
        key=model_key(run),
        metadata=about,
        progress=progress,
    )
    weights.round_to_half(model)  # so that a published file holds the network that was explained
    return model.cpu().eval(), about, history.rename(columns={"best": "chosen"})


def _initialise(run: Run, model: InceptionI3d) -> weights.LoadReport:
    """Load `init_weights`; refuse to slow down or freeze stages that would stay near random."""
    p = run.params
    _digest(run, "init_weights")  # says what is missing
    report = weights.initialise(model, run.root / p.init_weights)
    early = STAGES[: STAGES.index(p.early_end)]
    fresh = [name for name in report.convolutions_missing if name.split(".")[0] in early]
    if fresh and p.early_lr < 1:
        raise InputError(
            f"early_lr is {p.early_lr}, but {p.init_weights} lacks {', '.join(fresh)}, which would "
            "stay near random: give other weights, early_lr=1, or an earlier early_end"
        )
    return report


def _given_network(run: Run) -> tuple[InceptionI3d, dict[str, Any]]:
    """Load `trained_weights`, if they are made for this run's clips and have not seen its test."""
    p = run.params
    path = run.root / p.trained_weights
    _digest(run, "trained_weights")
    # The file first: one that cannot be used must not leave drawn videos behind.
    model, found = weights.load(path)
    expected = {"mean": p.mean, "std": p.std, "width": p.model_width}
    for name, value in {**expected, "classes": list(weights.CLASSES)}.items():
        if found[name] != value:
            raise InputError(
                f"{path} holds a network with {name} {found[name]}, but this run has {value}; "
                "give the parameters that it was trained with, or other weights"
            )
    try:
        seen = set(json.loads(found.get("sequences_seen", "[]")))
    except (TypeError, ValueError):
        raise InputError(f"{path} has damaged metadata, sequences_seen: save it again") from None
    table = clips(run)
    tested = seen.intersection(table.loc[table["split"] == "test", "sequence"])
    if tested and p.split_by == "sequence":
        raise InputError(
            f"{path} (fold {found.get('fold', 'unknown')}) has seen {len(tested)} of the sequences "
            f"that this run tests ({min(tested)}, ...); give weights of this run's fold"
        )
    return model, {k: v for k, v in found.items() if k not in ("width", "num_classes")}


def dataset(run: Run, split: str, *, augmented: bool = False) -> clip_data.ClipDataset:
    """Torch dataset of "train", "val" or "test"; to train, varied and cut by `train_stride`."""
    p = run.params
    overlapping = augmented and p.train_stride not in (None, p.stride)
    table = _cut(run, p.train_stride) if overlapping else clips(run)
    return clip_data.ClipDataset(
        sequences(run),
        table[table["split"] == split],
        size=tuple(p.frame_size),
        mean=p.mean,
        std=p.std,
        augmentation=Augmentation(**p.augmentation) if augmented else None,
        seed=p.seed,
    )


def prepared(run: Run, weights: str = "trained", precision: str = "fp32") -> Prepared:
    """The network made ready for inference on the run's device, once for this handle."""
    return remember(
        run,
        ("prepared", weights, precision),
        lambda: prepare(network(run, weights).to(torch_device(run)), precision=precision),
    )


def predictor(run: Run, weights: str = "trained") -> Callable[[torch.Tensor], np.ndarray]:
    """Give the network as (N, 3, T, H, W) -> (N,) probability "anomalous"."""
    ready, device = prepared(run, weights, precision_of(run, "scores")), torch_device(run)

    def predict(batch: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            logits = ready(torch.as_tensor(batch, dtype=torch.float32).to(device))
            return torch.softmax(logits.float(), dim=1)[:, 1].cpu().numpy()

    return predict


def history(run: Run) -> pd.DataFrame:
    """Training history, one row an epoch; empty when `trained_weights` were given."""
    if run.readonly:
        return schema.read(run.dir, "history")
    weights_sha256(run)

    def lost() -> pd.DataFrame:
        raise InputError(
            f"{run.path('history.csv')} is gone or damaged while the network is there; get it "
            f"back, or delete {run.path('model.safetensors')} to train again"
        )

    return cache.load_or_build(run, "history", model_key(run), lost)


def predictions(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Probability "anomalous" of every validation and test clip.

    Returns
    -------
    DataFrame
        clip_id, scene, sequence, split, label, p (in [0, 1]).
    """
    p = run.params
    if run.readonly:
        return schema.read(run.dir, "predictions")

    def build() -> pd.DataFrame:
        model, parts = network(run, progress=progress), []
        for split in ("val", "test"):
            part = dataset(run, split)
            found = training.predict(
                model, part, batch_size=p.eval_batch_size, device=p.device,
                precision=precision_of(run, "scores"), progress=progress,
            )  # fmt: skip
            parts.append(part.table.assign(p=found.astype(float)))
        return pd.concat(parts, ignore_index=True)

    if not _is_trained(run):
        network(run, progress=progress)
    key = key_of(
        "predictions",
        VERSIONS["predictions"],
        clips=clips_key(run),
        model=weights_sha256(run),
        # Trained weights that were given say nothing of the frames that this run shows them.
        size=p.frame_size,
        normalisation=[p.mean, p.std],
        precision=precision_of(run, "scores"),
    )
    return cache.load_or_build(run, "predictions", key, build)


# -- Maps -----------------------------------------------------------------------------------------


def rows(run: Run) -> dict[str, Row]:
    """All rows of the run's tables by key, in the order of the tables."""
    return rows_of(run.params)


def _row(run: Run, key: str) -> Row:
    table = rows(run)
    if key not in table:
        raise InputError(f"no row '{key}' in this run; there are {', '.join(table)}")
    return table[key]


def clips_of(run: Run, row: Row) -> list[str]:
    """Clips that a row is evaluated on: all, or fewer for a slow row or a variant that says so.

    The few are chosen as the evaluation set is, so that scenes take turns among them too.
    """
    p = run.params
    n_clips = [p.n_clips, row.n_clips]
    if row.model_calls(p) > SLOW_CALLS:
        n_clips.append(p.n_clips_slow)
    return evaluation(run, n_clips=min(n for n in n_clips if n is not None))["clip_id"].tolist()


def map_key(run: Run, row: Row) -> str:
    """Key of all that the maps of a row depend on, apart from the clip."""

    def look_up() -> str:
        p = run.params
        # The clip itself: a network with random weights brings no key of the data along.
        shared = {
            "data": data_key(run),
            "clip": [p.n_frames, p.stride],
            "size": p.frame_size,
            "normalisation": [p.mean, p.std],
            "seed": p.seed if row.seed is None else row.seed,
        }
        if row.method is None:
            return key_of("reference", VERSIONS["explanation"], row=row.key, **shared)
        trained = row.weights == "trained"
        fresh = {"width": p.model_width, "seed": p.seed}
        return key_of(
            "explanation",
            VERSIONS["explanation"],
            model=weights_sha256(run) if trained else fresh,
            method=row.method,
            method_version=METHODS[row.method].version,
            settings=row.all_settings,
            baseline=row.baseline,
            precision=precision_of(run, row),
            **shared,
        )

    return remember(run, ("map_key", row.key), look_up)


def score_key(run: Run, row: Row) -> str:
    """Key of all that the scores of a row depend on, apart from the clip."""
    p = run.params
    return key_of(
        "scores",
        VERSIONS["scores"],
        row=row.key,
        map=map_key(run, row),
        thresholds=p.n_thresholds,
        steps=p.area_steps,
        model=weights_sha256(run),
        baseline=p.baseline,
        seed=p.seed,
        precision=precision_of(run, "scores"),
    )


def attribution(run: Run, clip_id: str, row: str, *, progress: bool = False) -> np.ndarray:
    """Map of one clip and row: signed float32 (T, H, W); explained now if need be.

    Parameters
    ----------
    run : Run
    clip_id : str
    row : str
        Key of a row.
    progress : bool
        Show a bar while the method runs.
    """
    return _explained(run, clip_id, _row(run, row), progress=progress)[0]


def map_path(run: Run, clip_id: str, row: Row) -> Path:
    """File of one map; the folder may be deleted."""
    folder = f"{row.key}-{map_key(run, row)[:8]}"
    return run.path("attributions") / folder / f"{clip_id}.safetensors"


def _explained(
    run: Run, clip_id: str, row: Row, *, progress: bool = False
) -> tuple[np.ndarray, dict[str, Any]]:
    """A map, and the record of how it came about; kept, and made if it is not there."""
    if row.key == TIME_AVERAGE:
        return robustness.time_average(attribution(run, clip_id, "ig", progress=progress)), {}
    if row.method is None:
        return _reference_map(run, clip_id, row.key), {}
    path = map_path(run, clip_id, row)
    # Asked for twice, by two processes: the second waits and then finds it.
    with cache.lock(run.dir, f"map-{path.parent.name}-{clip_id}"):
        found = _read_map(path)
        if found is not None:
            return found
        precision, options = precision_of(run, row), {}
        if METHODS[row.method].superpixels:
            options["segments"], seconds = _superpixels(run, clip_id, row)
        explanation = attribute(
            prepared(run, row.weights, precision),
            clip(run, clip_id),
            row.method,
            baseline=row.baseline,
            precision=precision,
            seed=run.params.seed if row.seed is None else row.seed,
            black=run.params.black,
            progress=progress,
            batch_size=run.params.eval_batch_size,
            **options,
            **row.settings,
        )
        about = dataclasses.asdict(explanation)
        values = np.ascontiguousarray(about.pop("map"), dtype=np.float32)
        if options:  # the seconds are those of an explanation that finds its own
            about |= {"seconds": about["seconds"] + seconds, "superpixel_seconds": seconds}
        about |= {"precision": precision, "engine": ENGINE, "processor": processor(run)}
        about |= {"batch_size": run.params.eval_batch_size, "settings": row.all_settings}
        content = to_bytes({"attribution": values}, {"record": json.dumps(about, default=list)})
        # Written by Python, whose error on a full disk is an OSError; the library's own is not.
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return values, about


def _superpixels(run: Run, clip_id: str, row: Row) -> tuple[np.ndarray, float]:
    """Superpixels that the rows of a clip share, and the seconds that they took."""
    options = {name: row.all_settings[name] for name in ("n_segments", "compactness")}
    if run.memo.get("superpixels", (None,))[0] != (clip_id, options):
        started = time.perf_counter()
        segments = superpixels.slic(clip(run, clip_id), **options)
        seconds = time.perf_counter() - started
        run.memo["superpixels"] = ((clip_id, options), segments, seconds)
    return run.memo["superpixels"][1:]


def _reference_map(run: Run, clip_id: str, key: str) -> np.ndarray:
    shape = (run.params.n_frames, *run.params.frame_size)
    if key == "random":
        # Its own stream a clip: one map for all clips would make their scores dependent.
        return references.random_map(shape, seed=clip_seed(run, clip_id))
    if key == "motion":
        return references.frame_difference(clip(run, clip_id))
    return {"centre": references.centre_prior, "constant": references.constant_map}[key](shape)


def _read_map(path: Path) -> tuple[np.ndarray, dict[str, Any]] | None:
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="numpy") as stream:
            return stream.get_tensor("attribution"), json.loads(stream.metadata()["record"])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        warnings.warn(f"{path} is damaged ({error}); explained again", stacklevel=4)
        return None


# -- Scores ---------------------------------------------------------------------------------------


def units(run: Run) -> dict[Pair, tuple[str, ...]]:
    """All (clip, row) in the order of the tables; the tables that each has lines in."""
    steady = ("robustness", "frame_auc", "explanations")
    clips_by_row = {row.key: set(clips_of(run, row)) for row in rows(run).values()}
    return {
        (clip_id, row): steady if row == TIME_AVERAGE else cache.APPENDED
        for clip_id in evaluation(run)["clip_id"]
        for row in clips_by_row
        if clip_id in clips_by_row[row]
    }


def measure(
    run: Run,
    *,
    rows: Collection[str] | None = None,
    part: tuple[int, int] = (1, 1),
    progress: bool = False,
) -> Study:
    """Train, then explain and score every (clip, row) that the tables lack.

    Processes that call this on one folder share its clips: each takes one that no other works on,
    and in the end waits for those that others took. A read-only run is read as it is.

    Parameters
    ----------
    run : Run
    rows : collection of str, optional
        Keys of the rows to measure; all by default.
    part : (int, int)
        (k, n): of the clips, the k-th of n parts alone.
    progress : bool
        Show bars.

    Returns
    -------
    Study
        Tables of the run.

    Raises
    ------
    InputError
        If there is no such part or row.
    """
    if not 1 <= part[0] <= part[1]:
        raise InputError(f"there is no part {part[0]} of {part[1]}; give 1/{part[1]} or later ones")
    listed = rows_of(run.params)
    wanted = {_row(run, key).key for key in (listed if rows is None else rows)}
    if run.readonly:
        return schema.load(run.dir)
    predictions(run, progress=progress)
    history(run)
    keys, pairs = {key: score_key(run, row) for key, row in listed.items()}, units(run)
    _introduce(run, listed)
    finished = cache.arrange(run, keys, pairs, finished=_all_done(run, keys, pairs))
    n_rows = Counter(clip_id for clip_id, _ in pairs)
    # Clips with the most rows first, so that a table that grows has all of its rows early.
    mine = [clip_id for clip_id, _ in n_rows.most_common()][part[0] - 1 :: part[1]]
    asked = {pair for pair in pairs if pair[0] in mine and pair[1] in wanted}
    todo = [clip_id for clip_id in mine if any(p[0] == clip_id for p in asked - finished)]
    total = len(asked - finished)
    with tqdm(total=total, desc="measure", unit="map", disable=not progress) as bar:
        for wait in (False, True):
            for clip_id in list(todo):
                try:
                    claim = cache.lock(run.dir, f"clip-{clip_id}").acquire(blocking=wait)
                except Timeout:
                    continue
                with claim:
                    left = asked - cache.done(run, keys)
                    _measure_clip(run, clip_id, [r for c, r in pairs if (c, r) in left and c == clip_id],
                                  keys, bar)  # fmt: skip
                todo.remove(clip_id)
    if total and _all_done(run, keys, pairs):
        cache.arrange(run, keys, pairs, finished=True)
        spent = pd.to_numeric(pd.Series([l[2] for l in cache.read_lines(run, "explanations")]))
        cache.update(run, seconds={"explanations": round(float(spent.sum()), 2)})
    return schema.load(run.dir)


def _all_done(run: Run, keys: dict[str, str], pairs: Collection[Pair]) -> bool:
    return set(pairs) <= cache.done(run, keys)


def _introduce(run: Run, listed: dict[str, Row]) -> None:
    """Write what the manifest and `rows.csv` say of a run."""
    p, known = run.params, cache.manifest_in(run.dir)
    alternative = known.get("alternative") if run.supplied else None
    if p.alternative and alternative is None:
        usual = params.load(p.profile, root=run.root)
        given = {n: v for n, v in p.dump().items() if v != usual.dump()[n]}
        apart = (*cache.FREE, *cache.MORE, "fold", "alternative")
        changes = {name: value for name, value in given.items() if name not in apart}
        alternative = {"name": p.alternative, "of": f"fold-{p.fold}", "changes": changes}
    table = describe(listed)
    cache.write_lines(run, "rows", table)
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in PACKAGES}
    code = VERSIONS | {row.method: METHODS[row.method].version for row in listed.values() if row.method}
    cache.update(
        run,
        data=data_key(run),
        evaluation=evaluation(run)["clip_id"].tolist(),
        alternative=alternative,
        counts={"rows": len(table)},
        versions=known.get("versions", versions),
        code=code,
        processor=known.get("processor", processor(run)),
    )


def _measure_clip(
    run: Run, clip_id: str, left: list[str], keys: dict[str, str], bar: tqdm
) -> None:
    """Explain and score some rows of one clip."""
    listed = rows(run)
    for key in left:
        # The time-averaged map is scored with the map that it is made of, while that is there.
        group = [key] if key != "ig" or TIME_AVERAGE not in left else ["ig", TIME_AVERAGE]
        if key == TIME_AVERAGE and "ig" in left:
            continue
        bar.set_postfix_str(f"{clip_id} {key}")
        lines: dict[str, Table] = {name: [] for name in cache.APPENDED}
        values, about = _explained(run, clip_id, listed[key])
        for row in group:
            if row != key:
                values, about = robustness.time_average(values), {}
            for name, part in _score(run, clip_id, listed[row], values, about).items():
                lines[name] += [(*line, keys[row]) for line in part]
        cache.append(run, lines)
        bar.update(len(group))


def _score(
    run: Run, clip_id: str, row: Row, values: np.ndarray, about: dict[str, Any]
) -> dict[str, Table]:
    """Lines of all tables for one map, without their key."""
    p, scene = run.params, _scene(run, clip_id)
    truth, n = scene["mask"], p.n_thresholds
    found: dict[str, Table] = {}

    def enter(table: str, level: str, scores: dict[str, Any]) -> None:
        for metric, value in scores.items():
            line = (clip_id, scene["sequence"], row.key, level, metric, float(value))
            found.setdefault(table, []).append(line)

    enter("robustness", "clip", robustness.temporal(values, truth))
    aucs = robustness.frame_aucs(values, truth)
    found["frame_auc"] = [(clip_id, row.key, t, auc) for t, auc in enumerate(aucs) if auc == auc]
    info = about.get("info", {})
    found["explanations"] = [
        (
            *(clip_id, row.key),
            *(about.get(k, 0) for k in ("seconds", "baseline_seconds", "superpixel_seconds")),
            about.get("model_calls", 0),
            *(info.get(k) for k in ("n_segments", "n_nonzero")),
            not values.any(),
            *(about.get(k) for k in ("precision", "engine", "processor", "batch_size")),
        )
    ]
    if row.key == TIME_AVERAGE:
        return found

    def peak(values: np.ndarray, **options: str) -> dict[str, float]:
        scores = human_centric.frame_localization(values, truth, n_thresholds=n, **options)
        return {name: scores[name] for name in human_centric.KEYS}

    changing = human_centric.motion_localization(values, truth, scene["changing"])
    moving = human_centric.motion_localization(values, truth, scene["moving"])
    signed = human_centric.signed_aucs(values, truth)
    concentration = human_centric.concentration(values, truth)
    of_clip = human_centric.localization(values, truth, n_thresholds=n) | {
        "motion_auc": changing["auc"],
        "n_moving": changing["n_moving"],
        "n_anomalous_moving": changing["n_anomalous_moving"],
        "share_in_mask": concentration["share_in_mask"],
        "leak": changing["leak"],
        "all_zero": human_centric.is_all_zero(values),
    }
    of_moving = {
        "auc": moving["auc"],
        "leak": moving["leak_moving"],
        "n_moving": moving["n_moving"],
        "n_anomalous": moving["n_anomalous_moving"],
    }
    for level, scores in {
        "clip": of_clip,
        "frame": human_centric.frame_localization(values, truth, n_thresholds=n),
        "moving": of_moving,
        # What the paper leaves open, settled differently: for the sensitivity of the rankings.
        "clip_abs": human_centric.localization(np.abs(values), truth, n_thresholds=n),
        "frame_abs": peak(np.abs(values)),
        "frame_any": peak(values, frames="masked"),
        "frame_first": peak(values, ties="first"),
        "clip_signed": {"auc": signed["clip"]},
        "frame_signed": {"auc": signed["frame"]},
    }.items():
        enter("human_centric", level, scores)

    curves = model_centric.both_axes(
        scene["predict"],
        scene["clip"],
        scene["baseline"],
        values,
        n_thresholds=n,
        n_steps=p.area_steps,
        batch_size=p.eval_batch_size,
        # Its own draw a clip: ties broken alike in all clips would make their scores dependent.
        seed=clip_seed(run, clip_id),
    )
    scores = {**curves["area"], **curves["threshold"], **curves["shared"]}
    enter("model_centric", "clip", {k: v for k, v in scores.items() if np.ndim(v) == 0})
    found["curves"] = [
        (clip_id, row.key, f"{axis}_{name}", " ".join(f"{v:.4g}" for v in line))
        for axis in ("threshold", "area")
        for name, line in curves[axis].items()
        if np.ndim(line)
    ]
    return found


def _scene(run: Run, clip_id: str) -> dict[str, Any]:
    """What all maps of a clip are scored with; of the last clip, in memory."""
    if run.memo.get("scene", {}).get("clip_id") != clip_id:
        video = clip(run, clip_id)
        run.memo["scene"] = {
            "clip_id": clip_id,
            "sequence": _line_of(run, clip_id)["sequence"],
            "clip": video,
            "mask": mask(run, clip_id),
            "baseline": baseline(run, clip_id),
            # Any change at all; and what rounding to whole grey values does not explain.
            "changing": human_centric.moving_voxels(video),
            "moving": human_centric.moving_voxels(video, step=1 / 255 / run.params.std),
            "predict": predictor(run),
        }
    return run.memo["scene"]


def converge(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Double the samples of LIME and KernelSHAP on a clip of each scene until two seeds agree.

    The doubling ends at the largest number of samples that a row of the method has in this run: it
    tells whether that row is converged, and costs at most twice that row's map.

    Returns
    -------
    DataFrame
        clip_id, row, n_samples, correlation (of the maps of two seeds), converged, key; one line a
        number tried. The clips are the first of each scene that the row has. Empty if the run has
        neither method.
    """
    if run.readonly:
        return schema.read(run.dir, "convergence")
    p, pairs = run.params, convergence_units(run)
    for (clip_id, _), row in tqdm(pairs.items(), desc="doubling samples", disable=not progress):
        key = key_of("convergence", VERSIONS["convergence"], map=map_key(run, row))
        with cache.lock(run.dir, f"converge-{row.key}-{clip_id}"):
            if (clip_id, row.key) not in unconverged(run):
                continue
            most, precision = row.all_settings["n_samples"], precision_of(run, row)
            settings = {name: v for name, v in row.settings.items() if name != "n_samples"}
            found = double(
                prepared(run, row.weights, precision),
                clip(run, clip_id),
                row.method,
                start=min(FIRST_SAMPLES, most),
                most=most,
                seeds=(p.seed, p.seed + 1),
                baseline=row.baseline,
                precision=precision,
                black=p.black,
                batch_size=p.eval_batch_size,
                **settings,
            )
            tried = found[["n_samples", "correlation", "converged"]].itertuples(index=False)
            cache.append(run, {"convergence": [(clip_id, row.key, *t, key) for t in tried]})
    with cache.lock(run.dir, "tables"):
        place = {pair: i for i, pair in enumerate(pairs)}
        lines = [x for x in cache.read_lines(run, "convergence") if _is_current(run, x, pairs)]
        lines.sort(key=lambda x: (place[x[0], x[1]], int(x[2])))
        cache.write_lines(run, "convergence", lines)
        cache.update(run, counts={"convergence": len(lines)})
    return schema.read(run.dir, "convergence")


def convergence_units(run: Run) -> dict[Pair, Row]:
    """(clip, row) whose samples are doubled: of each sampled method its row of most samples, on
    the first of its clips of each scene."""
    found, table = {}, evaluation(run)
    for method in SAMPLED:
        own = [row for row in rows(run).values() if row.method == method]
        if own:
            row = max(own, key=lambda row: row.all_settings["n_samples"])
            its = table[table["clip_id"].isin(clips_of(run, row))]
            found |= {(c, row.key): row for c in its.groupby("scene")["clip_id"].first()}
    return found


def _is_current(run: Run, line: list[str], pairs: dict[Pair, Row]) -> bool:
    row = pairs.get((line[0], line[1]))
    version = VERSIONS["convergence"]
    return row is not None and line[-1] == key_of("convergence", version, map=map_key(run, row))


def unconverged(run: Run) -> dict[Pair, Row]:
    """Those of `convergence_units` whose doubling has not ended."""
    pairs = convergence_units(run)
    ended = {
        (line[0], line[1])
        for line in cache.read_lines(run, "convergence")
        if _is_current(run, line, pairs)
        and (line[4] == "True" or 2 * int(line[2]) > pairs[line[0], line[1]].all_settings["n_samples"])
    }
    return {pair: row for pair, row in pairs.items() if pair not in ended}


# -- One clip for a page --------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Example:
    """One clip and network for the visible cells of a page.

    Attributes
    ----------
    model : InceptionI3d
        In evaluation mode.
    clip, baseline : Tensor
        float32 (3, T, H, W).
    mask : ndarray of bool, (T, H, W)
    predict : callable
        (N, 3, T, H, W) -> (N,) probability "anomalous".
    clip_id, label : str
        Which clip; which clip and network, for people.
    """

    model: InceptionI3d
    clip: torch.Tensor
    baseline: torch.Tensor
    mask: np.ndarray
    predict: Callable[[torch.Tensor], np.ndarray]
    clip_id: str
    label: str


def example(run: Run) -> Example:
    """Give the first clip that is explained, and the network; of a read-only run, stand-ins.

    Those are a walkway clip, drawn in memory, and a small network with seeded random weights.
    """
    if not run.readonly:
        clip_id = evaluation(run)["clip_id"].iloc[0]
        model = network(run)
        options = (clip(run, clip_id), baseline(run, clip_id), mask(run, clip_id))
        return Example(model, *options, predictor(run), clip_id, f"{clip_id}, this run's network")
    spec = walkway.WalkwaySpec(n_frames=48)
    scene = walkway.open_scene(spec, "ped1")
    footage = walkway.film(spec, scene, "test", 1)
    # Where most of the anomaly is in sight.
    areas = np.convolve(footage.masks.sum(axis=(1, 2)), np.ones(16), mode="valid")
    shown = slice(int(areas.argmax()), int(areas.argmax()) + 16)
    video = clip_data.normalise(footage.frames[shown])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = InceptionI3d(num_classes=2, width=0.25).eval()
    ready = prepare(model)

    def predict(batch: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return torch.softmax(ready(batch), dim=1)[:, 1].numpy()

    return Example(
        model, video, baselines.make("blur", video), footage.masks[shown], predict,
        f"walkway-ped1-Test001-{shown.start:04d}", "synthetic clip, network with random weights",
    )  # fmt: skip
