"""What a run is about: its clips, and its network."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from vad_helpers.attribution import METHODS, attribute, baselines, checks
from vad_helpers.data import clips as clip_data
from vad_helpers.data import datasets, ucsd, videos
from vad_helpers.data.augmentation import Augmentation
from vad_helpers.errors import InputError
from vad_helpers.inference.prepared import (
    PRECISIONS,
    Prepared,
    computes_bf16,
    has_openvino,
    prepare,
    resolve_device,
    side_by_side,
)
from vad_helpers.metrics import runtime
from vad_helpers.model import training
from vad_helpers.model import weights as model_weights
from vad_helpers.model.adapter import randomise
from vad_helpers.model.i3d import STAGES, InceptionI3d
from vad_helpers.run import cache, plugins
from vad_helpers.run.cache import Run, key_of, once
from vad_helpers.tables import schema

ENGINE = "torch"
INITIAL_CLIPS = 40  # on which batch norms are measured, where initial weights have none
DIGESTS = {"init_weights": "initial_weights_sha256", "trained_weights": "trained_weights_sha256"}


def check_writable(run: Run) -> None:
    """Refuse to compute with a read-only run: raise InputError that says why."""
    if run.readonly:
        raise InputError(f"{run.dir} can be shown but not computed with: {run.readonly}")


def data_root(run: Run) -> Path:
    """Folder of the dataset: a synthetic one is written; InputError says how to get a real one."""
    p, folder = run.params, run.root / run.params.data_dir
    if p.dataset == "walkway":
        with cache.lock(folder.parent, folder.name):  # runs share their data
            return datasets.write_walkway(folder, seed=p.seed, options=p.walkway)
    if p.dataset == "videos":
        return folder
    if not folder.is_dir():
        told = f"get it with `vad data fetch --dest {folder.parent}`"
        raise InputError(f"no UCSD tree at {folder}; {told}")
    return ucsd.find_root(folder)


@once
def data_key(run: Run) -> str:
    """Key of the dataset's content; InputError if the run's folder was made with another."""
    p = run.params
    folder = data_root(run) if p.dataset == "ucsd" else run.root / p.data_dir
    own = {"labels": p.labels, "masks": p.masks} if p.dataset == "videos" else {}
    found = datasets.content_key(p.dataset, folder, seed=p.seed, options=p.walkway, **own)
    told = f"{folder}, as this version reads it, holds other videos"
    return _as_before(run, "data", found, told, "data_dir")


def _as_before(run: Run, entry: str, found: str, told: str, name: str) -> str:
    """Give the key of an input; refuse another one than the folder was made with."""
    known = cache.manifest_in(run.dir).get(entry) if run.supplied else None
    if known not in (None, found):
        raise InputError(f"{told} than {run.dir} was made with; give those as {name}")
    return found


@once
def sequences(run: Run) -> dict[str, ucsd.Sequence]:
    """Sequences of the dataset by their id ("ped1/Test001"), with the masks that count."""
    if run.params.dataset == "videos":
        return clip_data.by_id(videos.index(data_root(run), **_own_videos(run)))
    found = {}
    for one in ucsd.index(data_root(run)):
        added = one.masks is not None and not one.official_mask
        counts = {"official": one.official_mask, "added": added, "all": one.masks is not None}
        found[one.id] = dataclasses.replace(one, official_mask=counts[run.params.masks])
    return found


def _own_videos(run: Run) -> dict[str, Any]:
    p = run.params
    kept = run.root / "data" / f"{(run.root / p.data_dir).resolve().name}-frames"
    return {"kept": kept, "labels": p.labels, "masks": p.masks}


def data_report(run: Run, *, progress: bool = False) -> ucsd.TreeReport | videos.Report:
    """What is in the dataset, and what is odd about it."""
    if run.params.dataset == "videos":
        return videos.check(data_root(run), **_own_videos(run), progress=progress)
    return ucsd.check(data_root(run), progress=progress)


def _cut(run: Run, stride: int) -> pd.DataFrame:
    names = ("n_frames", "fold", "n_folds", "seed", "split_by", "with_validation")
    options = {name: getattr(run.params, name) for name in names}
    return clip_data.clip_table(sequences(run).values(), stride=stride, **options)


def clips_key(run: Run) -> str:
    """Key of the table of clips."""
    return key_of(run, "clips", data=data_key(run))


@once
def clips(run: Run) -> pd.DataFrame:
    """Table of clips: clip_id, scene, sequence, start, n_frames, label, has_mask, eligible, fold,
    split."""
    if run.readonly:
        return schema.read(run.dir, "clips")
    return cache.load_or_build(run, "clips", clips_key(run), lambda: _cut(run, run.params.stride))


@once
def evaluation(run: Run, *, n_clips: int | None = None) -> pd.DataFrame:
    """Clips that are explained: rows of `clips`, index reset; InputError if there is none.

    `n_clips` chooses fewer, a part of the run's choice; `attrs["shortfall"]`: how many are missing.
    """
    p, table = run.params, clips(run)
    if run.readonly:
        known = cache.manifest_in(run.dir).get("evaluation", [])
        return table.set_index("clip_id", drop=False).loc[known].reset_index(drop=True)
    options = {"seed": p.seed, "max_per_sequence": p.max_per_sequence}
    if p.study_clips is not None and not _unmarked(run):
        table = clip_data.study_clips(table, n_clips=p.study_clips, **options)
    # What cannot be localised can be explained all the same.
    given = table.assign(label=1, eligible=True) if _unmarked(run) else table
    chosen = clip_data.evaluation_clips(given, n_clips=n_clips or p.n_clips, **options)
    if _unmarked(run):
        return table[table["clip_id"].isin(chosen["clip_id"])].reset_index(drop=True)
    if chosen.empty:
        told = "(anomalous, with masks that agree with the frame labels); choose another fold"
        place = f"fold {p.fold} of profile '{p.profile}'"
        raise InputError(f"{place} has no eligible clip {told} or more data")
    return chosen


def _unmarked(run: Run) -> bool:
    return run.params.dataset == "videos" and run.params.masks == "none"


def line_of(run: Run, clip_id: str) -> pd.Series:
    """Line of `clips` of one clip; InputError if there is none, or the run is read-only."""
    check_writable(run)
    table = clips(run)
    found = table[table["clip_id"] == clip_id]
    if found.empty:
        first = table["clip_id"].iloc[0]
        raise InputError(f"no clip '{clip_id}' in {run.path('clips.csv')}; the first is '{first}'")
    return found.iloc[0]


def clip(run: Run, clip_id: str) -> torch.Tensor:
    """One clip as the network sees it: float32 (3, T, H, W), normalised."""
    p, line = run.params, line_of(run, clip_id)
    size = tuple(p.frame_size)
    return clip_data.load_clip(sequences(run), line, size=size, mean=p.mean, std=p.std)


def frames(run: Run, clip_id: str) -> np.ndarray:
    """Grey frames of one clip for showing: float32 (T, H, W) in [0, 1]."""
    return clip(run, clip_id)[0].numpy() * run.params.std + run.params.mean


def mask(run: Run, clip_id: str) -> np.ndarray:
    """Ground-truth mask of one clip: bool (T, H, W); empty in own videos without masks."""
    line, size = line_of(run, clip_id), tuple(run.params.frame_size)
    if _unmarked(run):
        return np.zeros((line["n_frames"], *size), dtype=bool)
    return clip_data.load_mask(sequences(run), line, size=size)


def baseline(run: Run, clip_id: str, name: str | None = None) -> torch.Tensor:
    """What replaces removed pixels of a clip, by default as the run says: float32 (3, T, H, W)."""
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
        seed=p.training_seed,
    )


def torch_device(run: Run) -> str:
    """Device the run computes on: what `device` says, or CUDA where there is one."""
    return str(resolve_device(run.params.device))


def processor(run: Run) -> str:
    """Name of what the run computes on, so that timings of two machines are told apart."""
    facts = runtime.machine()
    if torch_device(run) != "cpu":
        return str(facts["device"])
    return f"{facts['processor']}, {facts['instructions']}, {facts['cores']} cores"


def precision_of(
    run: Run, what: str = "scores", *, usual: str = "bf16", work: str = "forward"
) -> str:
    """Precision that "scores", "training" or "map" are computed in: "fp32" or "bf16".

    "auto" is the faster one for this `work` (see `measured`), but fp32 for a map whose row or
    method has that as the `usual` one. On real clips no mean deletion or insertion score moved by
    more than a thousandth in bf16.
    """
    p = run.params
    given = p.train_precision if what == "training" and p.train_precision != "auto" else p.precision
    if given != "auto":
        return given
    if usual == "fp32":
        return usual
    return quickest(measured(run, "training" if what == "training" else work))[0]


def engine_of(run: Run, precision: str) -> str:
    """Engine of passes without gradients: the faster one, of those that are here."""
    if run.params.precision != "auto" or torch_device(run) != "cpu" or not has_openvino():
        return ENGINE
    return quickest(measured(run, "forward"), [precision])[1]


def quickest(seconds: dict[str, float], precisions: Sequence[str] = PRECISIONS) -> tuple[str, str]:
    """Give the faster of some precisions, and the faster engine at that one, of `time_work`."""
    precision = min(precisions, key=lambda name: seconds.get(name, np.inf))
    other = seconds.get(f"{precision} openvino", np.inf)
    return precision, "openvino" if other < seconds.get(precision, np.inf) else ENGINE


def measured(run: Run, work: str) -> dict[str, float]:
    """Seconds of a unit of work on the run's device: `time_work` on a network of the run's size.

    Measured once a run, kept in the manifest, and obeyed when the run goes on elsewhere.
    """
    with cache.lock(run.dir, "measured"):
        known, p = cache.manifest_in(run.dir).get("measured", {}), run.params
        if "precision" in known:  # a folder from before there was a choice
            return {known["precision"]: 0.0}
        if work in known:
            return known[work]
        n_clips = p.batch_size if work == "training" else p.eval_batch_size
        shape = (n_clips, 1, p.n_frames, *p.frame_size)  # grey, like the videos
        grey = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        clips = grey.repeat(1, 3, 1, 1, 1).to(torch_device(run))
        model = fresh_network(run).to(torch_device(run))
        seconds = time_work(model, work, clips, spec=training_spec(run))
        cache.update(run, measured={work: seconds})
        return seconds


def time_work(
    model: torch.nn.Module, work: str, clips: torch.Tensor, *, spec: training.TrainingSpec
) -> dict[str, float]:
    """Median seconds of a unit of work by "fp32", "bf16", "fp32 openvino", "bf16 openvino".

    `work` is "forward" (a batch of clips), "gradient" (two steps of IG), "occlusion" (a few small
    windows) or "training" (a batch, as `spec` trains). Left out is what cannot win: bf16 where the
    device only emulates it, OpenVINO where it is not installed.
    """
    device = clips.device
    names = [name for name in PRECISIONS if name == "fp32" or computes_bf16(device)]
    if work == "training":
        ways = {n: partial(training.pass_back, model, clips, spec, precision=n) for n in names}
    else:
        ready = {name: prepare(model, precision=name) for name in names}
        if work == "forward" and device.type == "cpu" and has_openvino():
            other = {n: prepare(model, precision=n, engine="openvino") for n in names}
            ready |= {f"{name} openvino": one for name, one in other.items()}
        ways = {name: partial(_unit, one, work, clips) for name, one in ready.items()}
    return {name: round(s, 4) for name, s in side_by_side(ways, device=device).items()}


def _unit(ready: Prepared, work: str, clips: torch.Tensor) -> object:
    options = {"precision": ready.precision, "batch_size": 2}
    if work == "gradient":
        return attribute(ready, clips[0], "ig", n_steps=2, **options)
    if work == "occlusion":
        window = METHODS["occlusion_sp"].settings["window"]
        part = clips[0, :, : 2 * window[0], : 4 * window[1], : 4 * window[2]]  # 32 windows at most
        window = tuple(map(min, window, part.shape[1:]))
        if ready.chain is None:  # it may take whole clips alone
            part, window = clips[0], tuple(-(-n // 2) for n in clips.shape[2:])
        return attribute(ready, part, "occlusion_sp", window=window, stride=window, **options)
    with torch.no_grad():
        return ready(clips)


def check(run: Run) -> None:
    """Look at device, data and weights before anything starts that would fail: InputError if they
    cannot be used or the weights have seen what is tested; a warning if bf16 is only emulated."""
    p, device = run.params, torch_device(run)
    for name in ("precision", "train_precision"):
        if getattr(p, name) == "bf16" and not computes_bf16(device):
            warnings.warn(
                f"{name} is bf16, which this {device} only emulates, many times slower than fp32: "
                "'auto' takes the faster one",
                stacklevel=2,
            )
    if p.dataset != "walkway" and not run.readonly:
        sequences(run)
    if not run.readonly and not is_trained(run):
        if p.trained_weights:
            _given_network(run)
        elif p.init_weights:
            _initialise(run, fresh_network(run))


def fresh_network(run: Run, *, seed: int | None = None) -> torch.nn.Module:
    """Network before training: weights of a seed (None: of training), or as `model` makes it."""
    p = run.params
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(p.training_seed if seed is None else seed)
        if p.model is None:
            return InceptionI3d(num_classes=2, width=p.model_width)
        return plugins.network(p.model, p.model_args, target=p.target_class, root=run.root)[0]


def own_model(run: Run, entry: str = "model") -> dict[str, Any]:
    """What a network of one's own adds to a key, as an `entry`: its address, code and arguments;
    the I3D adds nothing."""
    p = run.params
    if p.model is None:
        return {}
    code = plugins.digest(p.model, root=run.root)
    return {entry: {"model": p.model, "code": code, "args": p.model_args, "target": p.target_class}}


def training_spec(run: Run) -> training.TrainingSpec:
    """Recipe of the run's training."""
    p = run.params
    names = {field.name for field in dataclasses.fields(training.TrainingSpec)} - {"schedule"}
    own = {name: getattr(p, name) for name in names} | {"schedule": p.lr_schedule}
    # What starts at random has nothing worth keeping; an own network has no such stages.
    return training.TrainingSpec(**own | ({} if p.init_weights else {"early_lr": 1.0}))


@once
def model_key(run: Run) -> str:
    """Key of the trained network: all that its weights depend on."""
    own = own_model(run)
    if run.params.trained_weights:
        digest = _weights(run, "trained_weights")
        return key_of(run, "given", clips=clips_key(run), weights=digest, **own)
    start = _weights(run, "init_weights") if run.params.init_weights else None
    precision = precision_of(run, "training")
    return key_of(run, "training", clips=clips_key(run), start=start, precision=precision, **own)


def _weights(run: Run, name: str) -> str:
    """Checksum of a file of weights; where it is not, of the one that the folder was made with."""
    path, entry = run.root / getattr(run.params, name), DIGESTS[name]
    if path.is_file():
        told = f"{path} holds other weights"
        return _as_before(run, entry, cache.file_digest(path), told, name)
    if run.supplied and entry in cache.manifest_in(run.dir):
        return cache.manifest_in(run.dir)[entry]
    raise InputError(f"no weights at {path}; check parameter '{name}'")


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


def network(
    run: Run, weights: str = "trained", *, seed: int | None = None, progress: bool = False
) -> torch.nn.Module:
    """Network with "trained" weights, "random" ones of a seed (by default the training's), or, by
    the name of a stage, random ones from there to the output; in evaluation mode on the CPU.

    It is trained first if need be, or taken from `trained_weights`, and kept in the run's folder.
    InputError if weights cannot be used, or the folder holds results of another network.
    """
    if weights != "trained":
        return _randomised(run, weights, seed)
    check_writable(run)
    path, key = run.path("model.safetensors"), model_key(run)
    own_weights = run.params.trained_weights or run.params.epochs == 0
    if int(os.environ.get("NODE_RANK", 0)) and run.params.num_nodes > 1 and not own_weights:
        if not is_trained(run):
            _train(run, progress=False)  # its share; the first machine has the lock, and saves
    with cache.lock(run.dir, "model"):
        known = cache.manifest_in(run.dir)
        same = known.get("files", {}).get("model", {}).get("key") == key
        before = known.get("weights_sha256") if same else None
        if before and path.is_file():
            own = fresh_network(run) if run.params.model else None
            try:
                model = model_weights.load(path, own)[0]
            except InputError as error:
                warnings.warn(f"{error}; it is made again", stacklevel=2)
            else:
                if model_weights.fingerprint(model) == before:
                    return model
                told = f"{run.dir} was made with; put that back, or delete the folder"
                raise InputError(f"{path} is not the network that {told}")
        model, about, history = (
            _given_network(run) if own_weights else _train(run, progress=progress)
        )
        found = model_weights.fingerprint(model)
        left = [name for name in ("attributions", "explanations.csv") if run.path(name).exists()]
        if before not in (None, found) and left:
            told = f"and another one comes about here: put the old {path.name} back, or delete them"
            kept = " and ".join(left)
            raise InputError(f"{run.dir} holds {kept} of a network that is gone, {told}")
        cache.update(run, files={"model": None})
        model_weights.save(model, path, **about)
        cache.load_or_build(run, "history", key, lambda: history)
        spent = {"training": round(float(history["seconds"].sum()), 2)}
        cache.update(run, files={"model": {"key": key}}, weights_sha256=found, seconds=spent)
        return model


def _randomised(run: Run, weights: str, seed: int | None) -> torch.nn.Module:
    drawn = fresh_network(run, seed=seed)
    if run.params.model is not None:  # it may come trained
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(run.params.training_seed if seed is None else seed)
            randomise(drawn)
    if weights != "random":
        names = [name for name, _ in drawn.named_children()]
        kept = names[: names.index(checks.one_of("weights", weights, names))]
        own = {k: v for k, v in network(run).state_dict().items() if k.split(".")[0] in kept}
        drawn.load_state_dict(own, strict=False)
    return drawn.eval()


def _train(run: Run, *, progress: bool) -> tuple[torch.nn.Module, dict[str, Any], pd.DataFrame]:
    """Train a network: it, what to say of it in its file, its history."""
    p, by_split = run.params, clips(run).groupby("split")["sequence"].unique()
    initial = Path(p.init_weights).name if p.init_weights else "none"
    about = {"mean": p.mean, "std": p.std, "initial_weights": initial, "data": data_key(run)}
    about |= {name: getattr(p, name) for name in ("fold", "n_folds", "seed")}
    seen = sorted({*by_split.get("train", ()), *by_split.get("val", ())})
    about |= {"train_seed": p.training_seed, "sequences_seen": seen}
    model, told = fresh_network(run), {"initial_weights": initial, "left_fresh": []}
    videos = dataset(run, "train", augmented=True)
    if p.init_weights:
        told[DIGESTS["init_weights"]] = _weights(run, "init_weights")
        told["left_fresh"] = list(_initialise(run, model, videos))
    cache.update(run, **told)
    history = training.train(
        model,
        videos,
        dataset(run, "val") if p.with_validation else None,
        training_spec(run),
        checkpoint_dir=run.path("training"),
        device=p.device,
        devices=p.devices,
        num_nodes=p.num_nodes,
        precision=precision_of(run, "training"),
        seed=p.training_seed,
        key=model_key(run),
        metadata=about,
        progress=progress,
    )
    # So that a published file holds the network that was explained.
    model_weights.round_to_half(model)
    return model.cpu().eval(), about, history.rename(columns={"best": "chosen"})


def _initialise(
    run: Run, model: InceptionI3d, videos: clip_data.ClipDataset | None = None
) -> tuple[str, ...]:
    """Load `init_weights`, or only see whether they fit where there are no `videos` to measure
    batch norms on: names of the convolutions that they lack; InputError if stages that would stay
    near random are slowed down or frozen."""
    p = run.params
    _weights(run, "init_weights")  # says what is missing
    path = run.root / p.init_weights
    missing = model_weights.fits(model, path).convolutions_missing
    early = STAGES[: STAGES.index(p.early_end)]
    fresh = [name for name in missing if name.split(".")[0] in early]
    if fresh and p.early_lr < 1:
        told = "would stay near random: give other weights, early_lr=1, or an earlier early_end"
        lacks = f"{p.init_weights} lacks {', '.join(fresh)}"
        raise InputError(f"early_lr is {p.early_lr}, but {lacks}, which {told}")
    if videos is not None:
        # What training will see first.
        rng, spec = np.random.default_rng([p.training_seed, 0]), training_spec(run)
        first = training.draw(rng, len(videos), spec, videos.groups)[:INITIAL_CLIPS]
        model_weights.initialise(model, path, clips=(videos[i][0] for i in first))
    return missing


def _given_network(run: Run) -> tuple[torch.nn.Module, dict[str, Any], pd.DataFrame]:
    """Load `trained_weights`, if they are made for this run's clips and have not seen its test."""
    p = run.params
    if not p.trained_weights:  # an own network as it comes
        about = {"mean": p.mean, "std": p.std}
        return fresh_network(run).eval(), about, schema.read(run.dir / "none", "history")
    path, digest = run.root / p.trained_weights, _weights(run, "trained_weights")
    # The file first: one that cannot be used must not leave drawn videos behind.
    model, found = model_weights.load(path, fresh_network(run) if p.model else None)
    expected = {"mean": p.mean, "std": p.std, "width": 1.0 if p.model else p.model_width}
    for name, value in {**expected, "classes": list(model_weights.CLASSES)}.items():
        if name in found and found[name] != value:  # weights of an own network may not say
            told = f"{value}; give the parameters that it was trained with, or other weights"
            had = f"{path} holds a network with {name} {found[name]}"
            raise InputError(f"{had}, but this run has {told}")
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
    about = {"mean": p.mean, "std": p.std} | found
    about = {name: value for name, value in about.items() if name not in ("width", "num_classes")}
    return model, about, schema.read(run.dir / "none", "history")


def history(run: Run) -> pd.DataFrame:
    """Training history, one row an epoch; empty when `trained_weights` were given."""
    if run.readonly:
        return schema.read(run.dir, "history")
    weights_sha256(run)

    def lost() -> pd.DataFrame:
        told = f"get it back, or delete {run.path('model.safetensors')} to train again"
        raise InputError(
            f"{run.path('history.csv')} is gone or damaged while the network is there; {told}"
        )

    return cache.load_or_build(run, "history", model_key(run), lost)


@once
def prepared(
    run: Run, weights: str = "trained", precision: str = "fp32", *, seed: int | None = None
) -> Prepared:
    """The network made ready for inference on the run's device, with the faster engine."""
    model = network(run, weights, seed=seed).to(torch_device(run))
    engine = engine_of(run, precision)
    return prepare(model, precision=precision, engine=engine)


@once
def predictor(run: Run) -> Callable[[torch.Tensor], np.ndarray]:
    """Give the network as (N, 3, T, H, W) -> (N,) probability "anomalous"."""
    return probability_of(prepared(run, "trained", precision_of(run)), torch_device(run))


def probability_of(ready: Prepared, device: str = "cpu") -> Callable[[torch.Tensor], np.ndarray]:
    """Give a prepared network as (N, 3, T, H, W) -> (N,) probability "anomalous"."""

    def predict(batch: torch.Tensor) -> np.ndarray:
        with torch.no_grad():
            logits = ready(torch.as_tensor(batch, dtype=torch.float32).to(device))
            return torch.softmax(logits.float(), dim=1)[:, 1].cpu().numpy()

    return predict


def predictions(run: Run, *, progress: bool = False) -> pd.DataFrame:
    """Probability "anomalous" of every validation and test clip: clip_id, scene, sequence, split,
    label, p (in [0, 1])."""
    if run.readonly:
        return schema.read(run.dir, "predictions")
    precision = precision_of(run)

    def build() -> pd.DataFrame:
        options = {"batch_size": run.params.eval_batch_size, "device": run.params.device}
        options |= {"precision": precision, "progress": progress}
        splits = set(clips(run)["split"])
        there = [split for split in ("val", "test") if split in splits]
        model, parts = network(run), [dataset(run, split) for split in there]
        asked = [training.predict(model, part, **options) for part in parts]
        return pd.concat([part.table for part in parts]).assign(p=np.concatenate(asked))

    if not is_trained(run):
        network(run, progress=progress)
    # Trained weights that were given say nothing of the frames that this run shows them.
    parts = {"clips": clips_key(run), "model": weights_sha256(run), "precision": precision}
    key = key_of(run, "predictions", **parts, **own_model(run, "own"))
    return cache.load_or_build(run, "predictions", key, build)


@dataclasses.dataclass(frozen=True)
class Example:
    """One clip and network for the visible cells of a page."""

    model: torch.nn.Module  # in evaluation mode
    clip: torch.Tensor  # float32 (3, T, H, W)
    baseline: torch.Tensor  # float32 (3, T, H, W)
    frames: np.ndarray  # float32 (T, H, W), grey values in [0, 1], for showing
    mask: np.ndarray  # bool (T, H, W)
    predict: Callable[[torch.Tensor], np.ndarray]  # (N, 3, T, H, W) -> (N,) p of "anomalous"
    clip_id: str
    label: str  # which clip and network, for people


def example(run: Run) -> Example:
    """Give the first clip that is explained, and the network; of a read-only run, a walkway clip
    drawn in memory, and a small network with seeded random weights."""
    if not run.readonly:
        clip_id = evaluation(run)["clip_id"].iloc[0]
        own = [look(run, clip_id) for look in (clip, baseline, frames, mask)]
        label = f"{clip_id}, this run's network"
        return Example(network(run), *own, predictor(run), clip_id, label)
    clip_id, grey, areas = datasets.example_clip()
    video = clip_data.normalise(grey)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = InceptionI3d(num_classes=2, width=0.25).eval()
    own = (video, baselines.make("blur", video), grey.astype(np.float32) / 255, areas)
    label = "synthetic clip, network with random weights"
    return Example(model, *own, probability_of(prepare(model)), clip_id, label)
