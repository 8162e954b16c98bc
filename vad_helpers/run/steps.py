"""The steps of a run: clips, network, maps, scores, convergence; what is there is not redone.

Every (clip, row) is explained and scored once, with its map in memory, and its lines are appended
to all tables together: a process that is killed loses the pair that it was working on. Several
processes on one folder share its clips.
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

from vad_helpers.attribution import METHODS, attribute, baselines, occlusion, superpixels
from vad_helpers.attribution.convergence import converge as double
from vad_helpers.data import clips as clip_data
from vad_helpers.data import ucsd, walkway
from vad_helpers.data.augmentation import Augmentation
from vad_helpers.errors import InputError
from vad_helpers.files import atomic_write
from vad_helpers.inference.prepared import Prepared, computes_bf16, prepare, resolve_device
from vad_helpers.metrics import human_centric, model_centric, references, robustness, runtime
from vad_helpers.model import training
from vad_helpers.model import weights as model_weights
from vad_helpers.model.i3d import STAGES, InceptionI3d
from vad_helpers.run import cache, params
from vad_helpers.run.cache import Pair, Run, key_of, once
from vad_helpers.run.rows import SLOW_CALLS, TIME_AVERAGE, Row, describe, rows_of
from vad_helpers.tables import schema
from vad_helpers.tables.schema import Study

ENGINE = "torch"
DIGESTS = {"init_weights": "initial_weights_sha256", "trained_weights": "trained_weights_sha256"}
PACKAGES = ("vad-helpers", "torch", "captum", "numpy", "scikit-image", "scikit-learn")
SAMPLED = ("kernel_shap", "lime")
FIRST_SAMPLES = 25

# -- Data -----------------------------------------------------------------------------------------


def data_root(run: Run) -> Path:
    """Folder of the dataset's tree; the synthetic one is written when it is missing.

    Raises
    ------
    InputError
        If the real tree is not there; the message says how to get it.
    """
    folder = run.root / run.params.data_dir
    if run.params.dataset == "walkway":
        folder = walkway_folder(run)
        with cache.lock(folder.parent, folder.name):  # runs share their data
            return walkway.write(folder, seed=run.params.seed, **run.params.walkway)
    if not folder.is_dir():
        raise InputError(
            f"no UCSD tree at {folder}; get it with `vad data fetch --dest {folder.parent}`"
        )
    return ucsd.find_root(folder)


def walkway_folder(run: Run) -> Path:
    """Folder of the synthetic tree: its name holds the key of seed and options, so that another
    seed or version is another folder, never a stale one."""
    key = walkway.key(run.params.seed, walkway.WalkwaySpec(**run.params.walkway))
    folder = run.root / run.params.data_dir
    return folder.with_name(f"{folder.name}-{key[:8]}")


@once
def data_key(run: Run) -> str:
    """Key of the dataset's content.

    Raises
    ------
    InputError
        If it is not that of the folder that supplied the parameters.
    """
    if run.params.dataset == "walkway":
        spec = walkway.WalkwaySpec(**run.params.walkway)
        found = f"walkway-{walkway.key(run.params.seed, spec)}"
    else:
        found = f"ucsd-{ucsd.fingerprint(data_root(run))}"
    if run.supplied and cache.manifest_in(run.dir).get("data", found) != found:
        raise InputError(
            f"{run.root / run.params.data_dir} holds other videos than {run.dir} was made with; "
            "give their folder as data_dir"
        )
    return found


@once
def sequences(run: Run) -> dict[str, ucsd.Sequence]:
    """Sequences of the dataset by their id ("ped1/Test001"), with the masks that count."""
    found, masks = ucsd.index(data_root(run)), run.params.masks
    if masks != "official":
        found = [
            dataclasses.replace(
                s, official_mask=s.masks is not None and (masks == "all" or not s.official_mask)
            )
            for s in found
        ]
    return clip_data.by_id(found)


def _cut(run: Run, stride: int) -> pd.DataFrame:
    names = ("n_frames", "fold", "n_folds", "seed", "split_by")
    options = {name: getattr(run.params, name) for name in names}
    return clip_data.clip_table(sequences(run).values(), stride=stride, **options)


@once
def clips(run: Run) -> pd.DataFrame:
    """Table of clips: clip_id, scene, sequence, start, n_frames, label, has_mask, eligible, fold,
    split."""
    if run.readonly:
        return schema.read(run.dir, "clips")
    key = key_of(run, "clips", data=data_key(run))
    return cache.load_or_build(run, "clips", key, lambda: _cut(run, run.params.stride))


@once
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
    p, table = run.params, clips(run)
    if run.readonly:
        known = cache.manifest_in(run.dir).get("evaluation", [])
        return table.set_index("clip_id", drop=False).loc[known].reset_index(drop=True)
    options = {"seed": p.seed, "max_per_sequence": p.max_per_sequence}
    if p.study_clips is not None:
        table = clip_data.study_clips(table, n_clips=p.study_clips, **options)
    chosen = clip_data.evaluation_clips(table, n_clips=n_clips or p.n_clips, **options)
    if chosen.empty:
        raise InputError(
            f"fold {p.fold} of profile '{p.profile}' has no eligible clip (anomalous, with masks "
            "that agree with the frame labels); choose another fold or more data"
        )
    return chosen


def line_of(run: Run, clip_id: str) -> pd.Series:
    """Line of `clips` of one clip.

    Raises
    ------
    InputError
        If there is no such clip, or the run is read-only.
    """
    check_writable(run)
    table = clips(run)
    found = table[table["clip_id"] == clip_id]
    if found.empty:
        first = table["clip_id"].iloc[0]
        raise InputError(f"no clip '{clip_id}' in {run.path('clips.csv')}; the first is '{first}'")
    return found.iloc[0]


def check_writable(run: Run) -> None:
    """Refuse to compute with a read-only run: raise InputError that says why."""
    if run.readonly:
        raise InputError(f"{run.dir} can be shown but not computed with: {run.readonly}")


def clip(run: Run, clip_id: str) -> torch.Tensor:
    """One clip as the network sees it: float32 (3, T, H, W), normalised."""
    p, line = run.params, line_of(run, clip_id)
    size = tuple(p.frame_size)
    return clip_data.load_clip(sequences(run), line, size=size, mean=p.mean, std=p.std)


def frames(run: Run, clip_id: str) -> np.ndarray:
    """Grey frames of one clip for showing: float32 (T, H, W) in [0, 1]."""
    return clip(run, clip_id)[0].numpy() * run.params.std + run.params.mean


def mask(run: Run, clip_id: str) -> np.ndarray:
    """Ground-truth mask of one clip: bool (T, H, W)."""
    line, size = line_of(run, clip_id), tuple(run.params.frame_size)
    return clip_data.load_mask(sequences(run), line, size=size)


def baseline(run: Run, clip_id: str, name: str | None = None) -> torch.Tensor:
    """What replaces removed pixels of a clip: float32 (3, T, H, W)."""
    name = name or run.params.baseline
    return baselines.make(name, clip(run, clip_id), black=run.params.black)


def clip_seed(run: Run, clip_id: str) -> int:
    """Seed of what is drawn for one clip: the run's seed and the clip decide."""
    return zlib.crc32(f"{run.params.seed} {clip_id}".encode())


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


# -- Where, and how exactly -----------------------------------------------------------------------


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
    """Precision that something is computed in: "fp32" or "bf16".

    "auto" is bf16 for training and scores (on real clips no mean deletion or insertion score of any
    method moved by more than a thousandth), and for a map what its row or method says; but fp32 on
    a device that only emulates bf16. That is found out once, and kept in the manifest.

    Parameters
    ----------
    run : Run
    what : Row, "scores" or "training"
    """
    p = run.params
    given = p.train_precision if what == "training" and p.train_precision != "auto" else p.precision
    if given != "auto":
        return given
    if isinstance(what, Row) and (what.precision or METHODS[what.method].precision) == "fp32":
        return "fp32"
    known = cache.manifest_in(run.dir).get("measured", {}).get("precision")
    if known is None:
        known = "bf16" if computes_bf16(torch_device(run)) else "fp32"
        cache.update(run, measured={"precision": known, "engine": ENGINE})
    return known


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
    if is_trained(run):
        return
    if p.trained_weights:
        _given_network(run)
    elif p.init_weights:
        _initialise(run, fresh_network(run))


# -- Network --------------------------------------------------------------------------------------


def fresh_network(run: Run) -> InceptionI3d:
    """Network with seeded random weights, before any training or loading."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.params.seed)
        return InceptionI3d(num_classes=2, width=run.params.model_width)


def training_spec(run: Run) -> training.TrainingSpec:
    """Recipe of the run's training."""
    p = run.params
    names = {field.name for field in dataclasses.fields(training.TrainingSpec)} - {"schedule"}
    own = {name: getattr(p, name) for name in names} | {"schedule": p.lr_schedule}
    # What starts at random has nothing worth keeping.
    return training.TrainingSpec(**own | ({} if p.init_weights else {"early_lr": 1.0}))


@once
def model_key(run: Run) -> str:
    """Key of the trained network: all that its weights depend on."""
    p, of_clips = run.params, key_of(run, "clips", data=data_key(run))
    if p.trained_weights:
        return key_of(run, "given", clips=of_clips, weights=_digest(run, "trained_weights"))
    start = _digest(run, "init_weights") if p.init_weights else None
    precision = precision_of(run, "training")
    return key_of(run, "training", clips=of_clips, start=start, precision=precision)


def _digest(run: Run, name: str) -> str:
    """Checksum of a file of weights; where it is not, of the one that the folder was made with."""
    path = run.root / getattr(run.params, name)
    known = cache.manifest_in(run.dir).get(DIGESTS[name]) if run.supplied else None
    if not path.is_file():
        if known:
            return known
        raise InputError(f"no weights at {path}; check parameter '{name}'")
    found = cache.file_digest(path)
    if known not in (None, found):
        raise InputError(
            f"{path} holds other weights than {run.dir} was made with; leave {name} out"
        )
    return found


def is_trained(run: Run) -> bool:
    """Whether the network of these parameters is in the run's folder."""
    entry = cache.manifest_in(run.dir).get("files", {}).get("model", {})
    return entry.get("key") == model_key(run) and run.path("model.safetensors").is_file()


@once
def weights_sha256(run: Run) -> str:
    """Checksum of the trained network's weights; it is trained first if need be."""
    if not is_trained(run):
        network(run)
    return cache.manifest_in(run.dir)["weights_sha256"]


def network(run: Run, weights: str = "trained", *, progress: bool = False) -> InceptionI3d:
    """Network with "trained" or "random" weights, in evaluation mode on the CPU.

    It is trained first if need be, or taken from `trained_weights`, and kept in the run's folder.

    Raises
    ------
    InputError
        If weights cannot be used, or the folder holds results of another network.
    """
    if weights == "random":
        return fresh_network(run).eval()
    check_writable(run)
    path, key = run.path("model.safetensors"), model_key(run)
    with cache.lock(run.dir, "model"):
        known = cache.manifest_in(run.dir)
        same = known.get("files", {}).get("model", {}).get("key") == key
        before = known.get("weights_sha256") if same else None
        if before and path.is_file():
            try:
                model = model_weights.load(path)[0]
            except InputError as error:
                warnings.warn(f"{error}; it is made again", stacklevel=2)
            else:
                if model_weights.fingerprint(model) != before:
                    raise InputError(
                        f"{path} is not the network that {run.dir} was made with; put that back, "
                        "or delete the folder"
                    )
                return model
        build = _given_network if run.params.trained_weights else _train
        model, about, history = build(run, progress=progress)
        found = model_weights.fingerprint(model)
        left = [name for name in ("attributions", "explanations.csv") if run.path(name).exists()]
        if before not in (None, found) and left:
            raise InputError(
                f"{run.dir} holds {' and '.join(left)} of a network that is gone, and another one "
                f"comes about here: put the old {path.name} back, or delete them"
            )
        cache.update(run, files={"model": None})
        model_weights.save(model, path, **about)
        cache.keep(run, "history", key, lambda: history)
        spent = {"training": round(float(history["seconds"].sum()), 2)}
        cache.update(run, files={"model": {"key": key}}, weights_sha256=found, seconds=spent)
        return model


def _train(run: Run, *, progress: bool) -> tuple[InceptionI3d, dict[str, Any], pd.DataFrame]:
    """Train a network: it, what to say of it in its file, its history."""
    p, by_split = run.params, clips(run).groupby("split")["sequence"].unique()
    initial = Path(p.init_weights).name if p.init_weights else "none"
    about = {"mean": p.mean, "std": p.std, "initial_weights": initial, "data": data_key(run)}
    about |= {"fold": p.fold, "n_folds": p.n_folds, "seed": p.seed}
    about["sequences_seen"] = sorted({*by_split.get("train", ()), *by_split.get("val", ())})
    model, missing = fresh_network(run), ()
    if p.init_weights:
        missing = _initialise(run, model).convolutions_missing
        cache.update(run, **{DIGESTS["init_weights"]: _digest(run, "init_weights")})
    cache.update(run, initial_weights=initial, left_fresh=list(missing))
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
    model_weights.round_to_half(
        model
    )  # so that a published file holds the network that was explained
    return model.cpu().eval(), about, history.rename(columns={"best": "chosen"})


def _initialise(run: Run, model: InceptionI3d) -> model_weights.LoadReport:
    """Load `init_weights`; refuse to slow down or freeze stages that would stay near random."""
    p = run.params
    _digest(run, "init_weights")  # says what is missing
    report = model_weights.initialise(model, run.root / p.init_weights)
    early = STAGES[: STAGES.index(p.early_end)]
    fresh = [name for name in report.convolutions_missing if name.split(".")[0] in early]
    if fresh and p.early_lr < 1:
        raise InputError(
            f"early_lr is {p.early_lr}, but {p.init_weights} lacks {', '.join(fresh)}, which would "
            "stay near random: give other weights, early_lr=1, or an earlier early_end"
        )
    return report


def _given_network(
    run: Run, *, progress: bool = False
) -> tuple[InceptionI3d, dict[str, Any], pd.DataFrame]:
    """Load `trained_weights`, if they are made for this run's clips and have not seen its test."""
    p = run.params
    path, digest = run.root / p.trained_weights, _digest(run, "trained_weights")
    # The file first: one that cannot be used must not leave drawn videos behind.
    model, found = model_weights.load(path)
    expected = {"mean": p.mean, "std": p.std, "width": p.model_width}
    for name, value in {**expected, "classes": list(model_weights.CLASSES)}.items():
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
    tested = sorted(seen.intersection(table.loc[table["split"] == "test", "sequence"]))
    if tested:
        raise InputError(
            f"{path} (fold {found.get('fold', 'unknown')}) has seen {len(tested)} of the sequences "
            f"that this run tests ({tested[0]}, ...); give weights of this run's fold"
        )
    cache.update(run, **{DIGESTS["trained_weights"]: digest})
    about = {name: value for name, value in found.items() if name not in ("width", "num_classes")}
    return model, about, schema.read(run.dir / "none", "history")


@once
def prepared(run: Run, weights: str = "trained", precision: str = "fp32") -> Prepared:
    """The network made ready for inference on the run's device."""
    return prepare(network(run, weights).to(torch_device(run)), precision=precision)


@once
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
    if run.readonly:
        return schema.read(run.dir, "predictions")
    p, precision = run.params, precision_of(run, "scores")
    options = {"batch_size": p.eval_batch_size, "device": p.device, "precision": precision}

    def build() -> pd.DataFrame:
        model, parts = network(run), [dataset(run, split) for split in ("val", "test")]
        asked = [training.predict(model, part, progress=progress, **options) for part in parts]
        return pd.concat([part.table for part in parts]).assign(p=np.concatenate(asked))

    if not is_trained(run):
        network(run, progress=progress)
    # Trained weights that were given say nothing of the frames that this run shows them.
    of_clips = key_of(run, "clips", data=data_key(run))
    key = key_of(run, "predictions", clips=of_clips, model=weights_sha256(run), precision=precision)
    return cache.load_or_build(run, "predictions", key, build)


# -- Maps -----------------------------------------------------------------------------------------


@once
def rows(run: Run) -> dict[str, Row]:
    """All rows of the run's tables by key, in the order of the tables."""
    return rows_of(run.params)


def _row(run: Run, key: str) -> Row:
    if key not in rows(run):
        raise InputError(f"no row '{key}' in this run; there are {', '.join(rows(run))}")
    return rows(run)[key]


def clips_of(run: Run, row: Row) -> list[str]:
    """Clips that a row is evaluated on: all, or fewer for a slow row or a variant that says so.

    The few are chosen as the evaluation set is, so that scenes take turns among them too.
    """
    p = run.params
    slow = p.n_clips_slow if row.model_calls(p) > SLOW_CALLS else None
    n_clips = min(n for n in (p.n_clips, row.n_clips, slow) if n is not None)
    return evaluation(run, n_clips=n_clips)["clip_id"].tolist()


@once
def map_key(run: Run, row: Row) -> str:
    """Key of all that the maps of a row depend on, apart from the clip."""
    p = run.params
    # The data too: a network with random weights brings no key of them along.
    parts = {"data": data_key(run), "seed": p.seed if row.seed is None else row.seed}
    if row.method is None:
        return key_of(run, "map", row=row.key, **parts)
    trained = row.weights == "trained"
    return key_of(
        run,
        "map",
        network=weights_sha256(run) if trained else [p.model_width, p.seed],
        method=[row.method, METHODS[row.method].version, row.all_settings],
        baseline=row.baseline,
        precision=precision_of(run, row),
        **parts,
    )


@once
def score_key(run: Run, row: Row) -> str:
    """Key of all that the scores of a row depend on, apart from the clip."""
    precision = precision_of(run, "scores")
    parts = {"row": row.key, "map": map_key(run, row), "network": weights_sha256(run)}
    return key_of(run, "scores", precision=precision, **parts)


def map_path(run: Run, clip_id: str, row: Row) -> Path:
    """File of one map; the folder may be deleted."""
    folder = f"{row.key}-{map_key(run, row)[:8]}"
    return run.path("attributions") / folder / f"{clip_id}.safetensors"


def attribution(
    run: Run, clip_id: str, row: str | Row, *, progress: bool | Callable[..., object] = False
) -> np.ndarray:
    """Map of one clip and row: signed float32 (T, H, W); explained now if need be.

    Parameters
    ----------
    run : Run
    clip_id : str
    row : str or Row
        Key of one of the run's rows, or a row with a key of its own.
    progress : bool or callable
        Show a bar while the method runs, or tell this; as `attribution.explain`.
    """
    row = row if isinstance(row, Row) else _row(run, row)
    return _explained(run, clip_id, row, progress=progress)[0]


def _explained(
    run: Run, clip_id: str, row: Row, *, progress: bool | Callable[..., object] = False
) -> tuple[np.ndarray, dict[str, Any]]:
    """A map, and the record of how it came about (empty without a network)."""
    p, shape = run.params, (run.params.n_frames, *run.params.frame_size)
    line_of(run, clip_id)  # refuses other clips
    if row.key == TIME_AVERAGE:
        return robustness.time_average(attribution(run, clip_id, "ig", progress=progress)), {}
    if row.method is None:
        make = {
            # Its own stream a clip: one map for all clips would make their scores dependent.
            "random": lambda: references.random_map(shape, seed=clip_seed(run, clip_id)),
            "centre": lambda: references.centre_prior(shape),
            "motion": lambda: references.frame_difference(clip(run, clip_id)),
            "constant": lambda: references.constant_map(shape),
        }
        return make[row.key](), {}
    path = map_path(run, clip_id, row)
    with cache.lock(run.dir, f"map-{path.parent.name}-{clip_id}"):
        if path.is_file():
            try:
                with safe_open(path, framework="numpy") as stream:
                    return stream.get_tensor("attribution"), json.loads(stream.metadata()["record"])
            except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
                warnings.warn(f"{path} is damaged ({error}); explained again", stacklevel=3)
        precision, shared, finding = precision_of(run, row), {}, 0.0
        if METHODS[row.method].superpixels:
            shared["segments"], finding = _superpixels(run, clip_id, row)
        explanation = attribute(
            prepared(run, row.weights, precision),
            clip(run, clip_id),
            row.method,
            baseline=row.baseline,
            precision=precision,
            seed=p.seed if row.seed is None else row.seed,
            black=p.black,
            progress=progress,
            batch_size=p.eval_batch_size,
            **shared,
            **row.settings,
        )
        about = dataclasses.asdict(explanation)
        values = np.ascontiguousarray(about.pop("map"), dtype=np.float32)
        # The seconds are those of an explanation that finds its own superpixels.
        about["seconds"] += finding
        about["superpixel_seconds"] += finding
        about |= {"precision": precision, "engine": ENGINE, "processor": processor(run)}
        about |= {"batch_size": p.eval_batch_size}
        content = to_bytes({"attribution": values}, {"record": json.dumps(about, default=list)})
        # Written by Python, whose error on a full disk is an OSError; the library's own is not.
        with atomic_write(path) as temporary:
            temporary.write_bytes(content)
        return values, about


def _superpixels(run: Run, clip_id: str, row: Row) -> tuple[np.ndarray, float]:
    """Superpixels that the rows of a clip share, and the seconds that they took."""
    options = {name: row.all_settings[name] for name in ("n_segments", "compactness")}
    if run.memo.get("superpixels", ("",))[0] != (clip_id, options):
        started = time.perf_counter()
        segments = superpixels.slic(clip(run, clip_id), **options)
        seconds = time.perf_counter() - started
        run.memo["superpixels"] = ((clip_id, options), segments, seconds)
    return run.memo["superpixels"][1:]


# -- Scores ---------------------------------------------------------------------------------------


def units(run: Run) -> dict[Pair, tuple[str, ...]]:
    """All (clip, row) in the order of the tables; the tables that each has lines in."""
    steady = ("robustness", "frame_auc", "explanations")
    of_row = {row.key: set(clips_of(run, row)) for row in rows(run).values()}
    return {
        (clip_id, row): steady if row == TIME_AVERAGE else cache.APPENDED
        for clip_id in evaluation(run)["clip_id"]
        for row in of_row
        if clip_id in of_row[row]
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
    share = _share(part)
    listed = rows_of(run.params)
    wanted = {_row(run, key).key for key in (listed if rows is None else rows)}
    if run.readonly:
        return schema.load(run.dir)
    predictions(run, progress=progress)
    history(run)
    keys, pairs = {key: score_key(run, row) for key, row in listed.items()}, units(run)
    _introduce(run)
    finished = cache.arrange(run, keys, pairs)
    # Clips with the most rows first, so that tables that grow have all of their rows early.
    n_rows = Counter(clip_id for clip_id, _ in pairs)
    mine = [clip_id for clip_id, _ in n_rows.most_common()][share]
    left = {p for p in pairs if p[0] in mine and p[1] in wanted and p not in finished}
    todo = [clip_id for clip_id in mine if any(clip_id == p[0] for p in left)]
    with tqdm(total=len(left), desc="measure", unit="map", disable=not progress) as bar:
        for wait in (False, True):
            for clip_id in list(todo):
                try:
                    claim = cache.lock(run.dir, f"clip-{clip_id}").acquire(blocking=wait)
                except Timeout:
                    continue
                with claim:
                    others = cache.done(run, keys)
                    now = [p[1] for p in pairs if p[0] == clip_id and p in left and p not in others]
                    _measure_clip(run, clip_id, now, keys, bar)
                todo.remove(clip_id)
    if left:
        cache.arrange(run, keys, pairs)
    study = schema.load(run.dir)
    if left:
        spent = float(study.explanations["seconds"].sum())
        cache.update(run, seconds={"explanations": round(spent, 2)})
    return study


def _share(part: tuple[int, int]) -> slice:
    number, n_parts = part
    if not 1 <= number <= n_parts:
        raise InputError(f"there is no part {number} of {n_parts}; give 1/{n_parts} or later ones")
    return slice(number - 1, None, n_parts)


def _introduce(run: Run) -> None:
    """Write what the manifest says of a run, `rows.csv`, and of doubled samples what has ended."""
    p, known = run.params, cache.manifest_in(run.dir)
    alternative = known.get("alternative")
    if p.alternative and not run.supplied:
        usual, own = params.load(p.profile, root=run.root).dump(), p.dump()
        apart = (*cache.FREE, *cache.MORE, "fold", "alternative")
        changes = {
            name: own[name] for name in own if own[name] != usual[name] and name not in apart
        }
        alternative = {"name": p.alternative, "of": f"fold-{p.fold}", "changes": changes}
    with cache.lock(run.dir, "tables"):
        lines, pairs = describe(rows(run)), _doubled(run)
        cache.write_lines(run, "rows", lines)
        ended = _converged(run, pairs)
        doubled = [line for pair in pairs for line in ended.get(pair, [])]
        cache.write_lines(run, "convergence", doubled)
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in PACKAGES}
    methods = sorted({row.method for row in rows(run).values() if row.method})
    cache.update(
        run,
        data=data_key(run),
        evaluation=evaluation(run)["clip_id"].tolist(),
        alternative=alternative,
        counts={"rows": len(lines), "convergence": len(doubled)},
        versions=known.get("versions", versions),
        code={name: version for name, (version, _) in cache.STEPS.items()}
        | {name: METHODS[name].version for name in methods},
        processor=known.get("processor", processor(run)),
    )


def _measure_clip(run: Run, clip_id: str, left: list[str], keys: dict[str, str], bar: tqdm) -> None:
    """Explain and score some rows of one clip."""
    # The time-averaged map is scored with the map that it is made of, while that is there.
    together = {"ig", TIME_AVERAGE} <= set(left)
    for key in left:
        if key == TIME_AVERAGE and together:
            continue
        bar.set_postfix_str(f"{clip_id} {key}")
        values, about = _explained(run, clip_id, rows(run)[key])
        scored = {key: _score(run, clip_id, key, values, about)}
        if key == "ig" and together:
            average = robustness.time_average(values)
            scored[TIME_AVERAGE] = _score(run, clip_id, TIME_AVERAGE, average, {})
        lines = {
            name: [(*line, keys[row]) for row, found in scored.items() for line in found[name]]
            for name in cache.APPENDED
        }
        cache.append(run, lines)
        bar.update(len(scored))


def _score(
    run: Run, clip_id: str, row: str, values: np.ndarray, about: dict[str, Any]
) -> dict[str, list[tuple]]:
    """Lines of all tables for one map, without their key."""
    p, scene = run.params, _scene(run, clip_id)
    truth, info = scene["mask"], about.get("info", {})
    found: dict[str, list[tuple]] = {name: [] for name in cache.APPENDED}

    def enter(table: str, level: str, scores: dict[str, Any]) -> None:
        for metric, value in scores.items():
            line = (clip_id, scene["sequence"], row, level, metric, float(value))
            found[table].append(line)

    enter("robustness", "clip", robustness.temporal(values, truth))
    aucs = enumerate(robustness.frame_aucs(values, truth))
    found["frame_auc"] = [(clip_id, row, frame, auc) for frame, auc in aucs if not np.isnan(auc)]
    seconds = ("seconds", "baseline_seconds", "superpixel_seconds", "model_calls")
    found["explanations"] = [
        (
            *(clip_id, row, *(about.get(name, 0) for name in seconds)),
            *(info.get(name) for name in ("n_segments", "n_nonzero")),
            not values.any(),
            *(about.get(name) for name in ("precision", "engine", "processor", "batch_size")),
        )
    ]
    if row == TIME_AVERAGE:
        return found

    def localize(values: np.ndarray, **options: str) -> dict[str, float]:
        """Of the whole clip; with options, of the frame at its peak."""
        n = {"n_thresholds": p.n_thresholds}
        if not options:
            return human_centric.localization(values, truth, **n)
        scores = human_centric.frame_localization(values, truth, **n, **options)
        return {name: scores[name] for name in human_centric.KEYS}

    changing, moving = (
        human_centric.motion_localization(values, truth, scene[name])
        for name in ("changing", "moving")
    )
    signed = human_centric.signed_aucs(values, truth)
    of_clip = localize(values) | {
        "motion_auc": changing["auc"],
        **{name: changing[name] for name in ("n_moving", "n_anomalous_moving", "leak")},
        "share_in_mask": human_centric.concentration(values, truth)["share_in_mask"],
        "all_zero": human_centric.is_all_zero(values),
    }
    of_frame = human_centric.frame_localization(values, truth, n_thresholds=p.n_thresholds)
    of_moving = {"auc": moving["auc"], "leak": moving["leak_moving"]}
    of_moving |= {"n_moving": moving["n_moving"], "n_anomalous": moving["n_anomalous_moving"]}
    for level, scores in {
        "clip": of_clip,
        "frame": of_frame,
        "moving": of_moving,
        # What the paper leaves open, settled differently: for the sensitivity of the rankings.
        "clip_abs": localize(np.abs(values)),
        "frame_abs": localize(np.abs(values), frames="visible"),
        "frame_any": localize(values, frames="masked"),
        "frame_first": localize(values, ties="first"),
        "clip_signed": {"auc": signed["clip"]},
        "frame_signed": {"auc": signed["frame"]},
    }.items():
        enter("human_centric", level, scores)

    axes = model_centric.both_axes(
        predictor(run),
        scene["clip"],
        scene["baseline"],
        values,
        n_thresholds=p.n_thresholds,
        n_steps=p.area_steps,
        batch_size=p.eval_batch_size,
        # Its own draw a clip: ties broken alike in all clips would make their scores dependent.
        seed=clip_seed(run, clip_id),
    )
    scores = {**axes["area"], **axes["threshold"], **axes["shared"]}
    enter("model_centric", "clip", {name: v for name, v in scores.items() if np.ndim(v) == 0})
    found["curves"] = [
        (clip_id, row, f"{axis}_{name}", " ".join(f"{value:.4g}" for value in line))
        for axis in ("threshold", "area")
        for name, line in axes[axis].items()
        if np.ndim(line)
    ]
    return found


def _scene(run: Run, clip_id: str) -> dict[str, Any]:
    """What all maps of a clip are scored with; of the last clip, in memory."""
    if run.memo.get("scene", {}).get("clip_id") != clip_id:
        video, grey_step = clip(run, clip_id), 1 / 255 / run.params.std
        run.memo["scene"] = {
            "clip_id": clip_id,
            "sequence": line_of(run, clip_id)["sequence"],
            "clip": video,
            "mask": mask(run, clip_id),
            "baseline": baseline(run, clip_id),
            # Any change where a clip mostly stands still; and more than rounding of grey values.
            "changing": human_centric.moving_voxels(video),
            "moving": human_centric.moving_voxels(video, step=grey_step),
        }
    return run.memo["scene"]


# -- Convergence ----------------------------------------------------------------------------------


def converge(run: Run, *, part: tuple[int, int] = (1, 1), progress: bool = False) -> pd.DataFrame:
    """Double the samples of LIME and KernelSHAP on a clip of each scene until two seeds agree.

    The doubling ends at the largest number of samples that a row of the method has in this run: it
    tells whether that row is converged, and costs at most twice that row's map.

    Parameters
    ----------
    run : Run
    part : (int, int)
        (k, n): of the clips and rows, the k-th of n parts alone.
    progress : bool
        Show a bar.

    Returns
    -------
    DataFrame
        clip_id, row, n_samples, correlation (of the maps of two seeds), converged, key; one line a
        number tried. The clips are the first of each scene that the row has. Empty if the run has
        neither method.
    """
    if run.readonly:
        return schema.read(run.dir, "convergence")
    p, pairs = run.params, _doubled(run)
    mine = list(pairs.items())[_share(part)]
    for (clip_id, _), (row, key) in tqdm(mine, desc="doubling samples", disable=not progress):
        with cache.lock(run.dir, f"converge-{row.key}-{clip_id}"):
            if (clip_id, row.key) in _converged(run, pairs):
                continue
            most, precision = row.all_settings["n_samples"], precision_of(run, row)
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
                **{name: value for name, value in row.settings.items() if name != "n_samples"},
            )
            tried = found[["n_samples", "correlation", "converged"]].itertuples(index=False)
            cache.append(run, {"convergence": [(clip_id, row.key, *t, key) for t in tried]})
    _introduce(run)
    return schema.read(run.dir, "convergence")


def _doubled(run: Run) -> dict[Pair, tuple[Row, str]]:
    """(clip, row) whose samples are doubled, the row, and its key: of each sampled method its row
    of most samples, on the first of its clips of each scene."""
    found, table = {}, evaluation(run)
    for method in SAMPLED:
        own = [row for row in rows(run).values() if row.method == method]
        for row in sorted(own, key=lambda row: -row.all_settings["n_samples"])[:1]:
            its = table[table["clip_id"].isin(clips_of(run, row))]
            key = key_of(run, "convergence", map=map_key(run, row))
            found |= {(c, row.key): (row, key) for c in its.groupby("scene")["clip_id"].first()}
    return found


def _converged(run: Run, pairs: dict[Pair, tuple[Row, str]]) -> dict[Pair, list[list[str]]]:
    """Lines of those pairs whose doubling has ended."""
    found: dict[Pair, dict[int, list[str]]] = {}
    for line in cache.read_lines(run, "convergence"):
        pair = line[0], line[1]
        if pair in pairs and line[-1] == pairs[pair][1]:
            found.setdefault(pair, {})[int(line[2])] = line
    return {
        pair: [tried[n] for n in sorted(tried)]
        for pair, tried in found.items()
        if tried[max(tried)][4] == "True"
        or 2 * max(tried) > pairs[pair][0].all_settings["n_samples"]
    }


# -- What is left to do ---------------------------------------------------------------------------


def plan(run: Run) -> pd.DataFrame:
    """List the steps of a run, and estimate what is left of them; nothing is trained or explained.

    One clip is timed through the untrained network, forward, backward and in a training step, on
    the device that the run would use, and multiplied by the counted model calls. Reading data,
    drawing figures and starting kernels are left out.

    Returns
    -------
    DataFrame
        step, state ("done", "to do", "n of m done", "read-only"), model_calls (to do), minutes
        (an estimate); the last line is the total.
    """
    lines: list[tuple[str, str, int, float]] = []
    p, there = run.params, run.params.dataset == "ucsd" or walkway_folder(run).is_dir()
    if run.readonly:
        lines.append(("everything", "read-only", 0, 0.0))
    else:
        lines.append(("data", "done" if there else "to do", 0, 0.0 if there else 40.0))
    if there and not run.readonly:
        forward, backward = _seconds_per_clip(run)
        split, trained = clips(run)["split"].value_counts(), is_trained(run)
        if trained:
            lines.append(("training", "done", 0, 0.0))
        else:
            drawn = p.epoch_clips or len(dataset(run, "train", augmented=True))
            n, n_val = p.epochs * drawn, p.epochs * int(split.get("val", 0))
            seconds = n * _seconds_per_training_clip(run) + n_val * forward
            lines.append(("training", "to do", n + n_val, seconds))
        asked = 0 if run.path("predictions.csv").is_file() and trained else int(split.sum())
        asked -= int(split.get("train", 0)) if asked else 0
        lines.append(("predictions", "to do" if asked else "done", asked, asked * forward))
        keys = {key: score_key(run, row) for key, row in rows(run).items()} if trained else {}
        finished, pairs = cache.done(run, keys), units(run)
        # Two curves on each axis; equal sets are asked once, so this is the most there can be.
        curves = 2 * (p.n_thresholds + p.area_steps)
        for key, row in rows(run).items():
            mine = [pair for pair in pairs if pair[1] == key]
            left = [pair for pair in mine if pair not in finished]
            made = [
                c for c, _ in left if trained and row.method and map_path(run, c, row).is_file()
            ]
            calls = (len(left) - len(made)) * row.model_calls(p)
            per_call = backward if row.family == "gradient" or row.method == "ig" else forward
            if {"window", "stride"} <= row.all_settings.keys():  # recomputes what a window reaches
                per_call = min(forward, _seconds_per_window(run, row))
            scoring = len(left) * curves * (key != TIME_AVERAGE)
            state = f"{len(mine) - len(left)} of {len(mine)} done"
            seconds = calls * per_call + scoring * forward + 0.3 * len(left)
            lines.append((key, state, calls + scoring, seconds))
        pairs = _doubled(run) if trained else {}
        left = [row for pair, (row, _) in pairs.items() if pair not in _converged(run, pairs)]
        calls = sum(2 * row.all_settings["n_samples"] for row in left)  # two seeds
        lines.append(("doubling of samples", "to do" if calls else "done", calls, calls * forward))
    table = pd.DataFrame(lines, columns=["step", "state", "model_calls", "minutes"])
    table["minutes"] = (table["minutes"] / 60).round(1)
    total = ("total", "", table["model_calls"].sum(), table["minutes"].sum().round(1))
    table.loc[len(table)] = total
    return table


def _timed(work: Callable[[], torch.Tensor], *, repeats: int) -> float:
    """Seconds of some work, warm: the least of some repeats."""
    seconds = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        float(work().detach().sum())  # waits for the device
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])


def _seconds_per_clip(run: Run) -> tuple[float, float]:
    """Seconds of a clip through the untrained network: forward; forward and backward."""
    device = torch_device(run)
    model = fresh_network(run).eval().to(device)
    video = torch.zeros((1, 3, run.params.n_frames, *run.params.frame_size), device=device)

    def backward() -> torch.Tensor:
        return torch.autograd.grad(model(video.requires_grad_()).sum(), video)[0]

    with torch.no_grad():
        forward = _timed(lambda: model(video), repeats=2)
    return forward, _timed(backward, repeats=1)


def _seconds_per_training_clip(run: Run) -> float:
    """Seconds of a clip in a training step, backward to the weights that the recipe trains."""
    p, device = run.params, torch.device(torch_device(run))
    model, bf16 = fresh_network(run).train().to(device), precision_of(run, "training") == "bf16"
    for stage in training_spec(run).frozen_stages(model):
        stage.requires_grad_(False).eval()
    videos = torch.zeros((min(2, p.batch_size), 3, p.n_frames, *p.frame_size), device=device)

    def step() -> torch.Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            logits = model(videos)
        logits.float().sum().backward()
        return logits

    return _timed(step, repeats=1) / len(videos)


@once
def _seconds_per_window(run: Run, row: Row) -> float:
    """Seconds of one window of an occlusion through the untrained network."""
    ready = prepared(run, "random", precision_of(run, "scores"))
    video = torch.zeros((3, run.params.n_frames, *run.params.frame_size))
    window, stride = (tuple(row.all_settings[name]) for name in ("window", "stride"))
    return occlusion.seconds_per_window(ready, video.to(torch_device(run)), window, stride)


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
    frames : ndarray of float32, (T, H, W)
        Grey values in [0, 1], for showing.
    mask : ndarray of bool, (T, H, W)
    predict : callable
        (N, 3, T, H, W) -> (N,) probability "anomalous".
    clip_id, label : str
        Which clip; which clip and network, for people.
    """

    model: InceptionI3d
    clip: torch.Tensor
    baseline: torch.Tensor
    frames: np.ndarray
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
        own = [look(run, clip_id) for look in (clip, baseline, frames, mask)]
        label = f"{clip_id}, this run's network"
        return Example(network(run), *own, predictor(run), clip_id, label)
    spec, n_frames = walkway.WalkwaySpec(), 16
    footage = walkway.film(spec, walkway.open_scene(spec, "ped1"), "test", 1)
    # Where most of the anomaly is in sight.
    areas = np.convolve(footage.masks.sum(axis=(1, 2)), np.ones(n_frames), mode="valid")
    shown = slice(int(areas.argmax()), int(areas.argmax()) + n_frames)
    video = clip_data.normalise(footage.frames[shown])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = InceptionI3d(num_classes=2, width=0.25).eval()
    ready = prepare(model)

    def predict(batch: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            return torch.softmax(ready(batch), dim=1)[:, 1].numpy()

    grey = footage.frames[shown].astype(np.float32) / 255
    own = (video, baselines.make("blur", video), grey, footage.masks[shown], predict)
    clip_id = f"walkway-ped1-Test001-{shown.start:04d}"
    return Example(model, *own, clip_id, "synthetic clip, network with random weights")
