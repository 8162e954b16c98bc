"""Data and model of a run: tree, clips, evaluation set, trained network, its performance."""

from __future__ import annotations

import dataclasses
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from vad_helpers.data import clips as clip_data
from vad_helpers.data import splits, ucsd, walkway
from vad_helpers.errors import InputError
from vad_helpers.store.cache import (
    Run,
    artifact_lock,
    key_of,
    load_or_build,
    remember,
)

if TYPE_CHECKING:
    import torch

CLIPS_VERSION = 2


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
    with artifact_lock(folder.parent, folder.name):  # runs share their data
        return walkway.write(folder, seed=run.params.seed, **run.params.walkway)


def check_data(run: Run) -> None:
    """Check the options of the synthetic data, or the real tree, before anything starts.

    Raises
    ------
    InputError
        If the options are not known or in range; if the tree is not there or holds no sequence.
    """
    if run.params.dataset == "walkway":
        _walkway_key(run)
    else:
        sequences(run)


def walkway_folder(run: Run) -> Path:
    """Folder of the synthetic tree: its name holds the key of seed and options, so that another
    seed or version is another folder, never a stale one."""
    folder = run.root / run.params.data_dir
    return folder.with_name(f"{folder.name}-{_walkway_key(run)[:8]}")


def _walkway_key(run: Run) -> str:
    try:
        spec = walkway.WalkwaySpec(**run.params.walkway)
    except TypeError:
        known = ", ".join(field.name for field in dataclasses.fields(walkway.WalkwaySpec))
        raise InputError(
            f"parameter 'walkway' is {run.params.walkway}; its options are {known}"
        ) from None
    return walkway.key(run.params.seed, spec)


def data_key(run: Run) -> str:
    """Key of the dataset's content."""
    if run.params.dataset == "walkway":
        return f"walkway-{_walkway_key(run)}"
    return remember(run, "data_key", lambda: f"ucsd-{ucsd.fingerprint(data_root(run))}")


def sequences(run: Run) -> dict[str, ucsd.Sequence]:
    """Sequences of the dataset by their id ("ped1/Test001")."""

    def look_up() -> dict[str, ucsd.Sequence]:
        found = ucsd.index(data_root(run))
        masks = run.params.masks
        if masks != "official":
            found = [dataclasses.replace(s, official_mask=_counts(s, masks)) for s in found]
        return clip_data.by_id(found)

    return remember(run, "sequences", look_up)


def _counts(sequence: ucsd.Sequence, masks: str) -> bool:
    """Whether a sequence's masks are used, where others than the official ones are."""
    return sequence.masks is not None and (masks == "all" or not sequence.official_mask)


def clips(run: Run) -> pd.DataFrame:
    """Table of clips: clip_id, scene, sequence, start, n_frames, label, has_mask, eligible,
    fold, split."""
    settings = _cut(run, run.params.stride)

    def build() -> pd.DataFrame:
        return clip_data.clip_table(list(sequences(run).values()), **settings)

    def look_up() -> pd.DataFrame:
        return load_or_build(
            run,
            "clips.csv",
            clips_key(run),
            build=build,
            save=save_csv,
            load=pd.read_csv,
            settings=settings | {"data": data_key(run)},
        )

    return remember(run, "clips", look_up).copy()


def sequences_by_split(run: Run) -> dict[str, list[str]]:
    """Ids of the sequences that this run trains on ("train"), validates on and tests.

    A sequence is in several of them if the run splits by clip.
    """
    by_split = clips(run).groupby("split")["sequence"]
    found = {name: sorted(ids.unique()) for name, ids in by_split}
    return {name: found.get(name, []) for name in ("train", "val", "test")}


def training_clips(run: Run) -> pd.DataFrame:
    """Table of the clips that are trained on: as `clips`, but overlapping by `train_stride`."""
    p = run.params
    if p.train_stride in (None, p.stride):
        return clips(run)
    return clip_data.clip_table(list(sequences(run).values()), **_cut(run, p.train_stride))


def _cut(run: Run, stride: int) -> dict[str, int | str]:
    """How sequences are cut into clips, and what is dealt to the folds."""
    p = run.params
    dealt = {"fold": p.fold, "n_folds": p.n_folds, "seed": p.seed, "split_by": p.split_by}
    return {"n_frames": p.n_frames, "stride": stride, **dealt}


def clips_key(run: Run) -> str:
    """Key of the table of clips."""
    p = run.params
    return key_of(
        "clips",
        CLIPS_VERSION,
        data=data_key(run),
        shape=[p.n_frames, p.stride],
        split=[p.fold, p.n_folds, p.seed, *(["clip"] if p.split_by == "clip" else [])],
        masks=p.masks,
    )


def evaluation(run: Run, *, n_clips: int | None = None) -> pd.DataFrame:
    """Clips of the evaluation set: rows of `clips`, index reset.

    With `study_clips`, only clips of the study are chosen. `n_clips` chooses fewer than the run's;
    they are a part of the run's choice.
    `attrs["shortfall"]` says how many clips are missing from the number asked for.
    """
    wanted = run.params.n_clips if n_clips is None else n_clips
    return remember(run, f"evaluation {wanted}", lambda: _evaluation(run, wanted)).copy()


def _evaluation(run: Run, wanted: int) -> pd.DataFrame:
    p = run.params
    table, options = clips(run), {"seed": p.seed, "max_per_sequence": p.max_per_sequence}
    if p.study_clips is not None:
        study = splits.study_clips(table, n_clips=p.study_clips, **options)
        table = table[table["clip_id"].isin(study["clip_id"])]
    chosen = splits.evaluation_clips(table, n_clips=wanted, **options)
    if chosen.empty:
        raise InputError(
            f"fold {p.fold} of profile '{p.profile}' has no eligible clip (anomalous, with masks "
            "that agree with the frame labels); choose another fold or more data"
        )
    return chosen.reset_index(drop=True)


def clip(run: Run, clip_id: str) -> torch.Tensor:
    """One clip as the network sees it: float32 (3, T, H, W), normalised."""
    p = run.params
    return clip_data.load_clip(
        sequences(run), _row(run, clip_id), size=tuple(p.frame_size), mean=p.mean, std=p.std
    )


def frames(run: Run, clip_id: str) -> np.ndarray:
    """Grey frames of one clip for showing: float32 (T, H, W) in [0, 1]."""
    grey = clip(run, clip_id)[0].numpy()
    return grey * run.params.std + run.params.mean


def mask(run: Run, clip_id: str) -> np.ndarray:
    """Ground-truth mask of one clip: bool (T, H, W)."""
    return clip_data.load_mask(
        sequences(run), _row(run, clip_id), size=tuple(run.params.frame_size)
    )


def _row(run: Run, clip_id: str) -> pd.Series:
    table = clips(run).set_index("clip_id", drop=False)
    if clip_id not in table.index:
        raise InputError(
            f"no clip '{clip_id}' in {run.path('clips.csv')}; the first is '{table.index[0]}'"
        )
    return table.loc[clip_id]


def clip_seed(run: Run, clip_id: str) -> int:
    """Seed of what is drawn for one clip: the run's seed and the clip decide."""
    return zlib.crc32(f"{run.params.seed} {clip_id}".encode())


def save_csv(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, index=False)
