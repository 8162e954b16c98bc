"""Clips: the table of them, which train and which are explained, one as a tensor, a dataset.

A clip is T consecutive frames. As a tensor it is float32 (3, T, H, W), grey repeated to three
channels and normalised to (grey / 255 - mean) / std: with mean = std = 0.5 from -1 (black) to 1.

Clips of one sequence share people, light and background, so that sequences, never clips, are
assigned to the folds: run f tests fold f, validates on fold f + 1 and trains on the rest. Over
all runs every sequence is tested once, by a model that never saw it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch

from vad_helpers.data.augmentation import Augmentation, augment, paste
from vad_helpers.data.frames import Sequence, Size, mask_presence, read_frames, read_masks
from vad_helpers.data.ucsd import KINDS, N_OFFICIAL, is_official
from vad_helpers.errors import InputError

Row = Mapping[str, object] | pd.Series
COLUMNS = "clip_id scene sequence start n_frames label has_mask eligible fold split".split()
SIZE = (158, 237)


def clip_table(
    sequences: Iterable[Sequence],
    *,
    n_frames: int = 20,
    stride: int = 20,
    fold: int = 0,
    n_folds: int = 5,
    seed: int = 0,
    split_by: str = "sequence",
    with_validation: bool = True,
) -> pd.DataFrame:
    """Cut sequences into clips and say what each is for.

    Parameters
    ----------
    sequences : iterable of Sequence
        As from `ucsd.index`.
    n_frames, stride : int
        Frames a clip, T, and from one clip's start to the next one's; the end's rest is dropped.
    fold, n_folds, seed : int
        The run: this fold is tested, the next one validates; for the others see `assign_folds`.
    split_by : {"sequence", "clip"}
        With "clip", each sequence is cut into slots of `n_frames`, and these are assigned to
        folds: a network is then tested on sequences that it was trained on, though not on the
        same frames. Clips that touch slots of different splits are left out. This is the split
        that the project argues against, to measure what it is worth.
    with_validation : bool
        False: the fold that validates is trained on like the others, and no clip is "val".

    Returns
    -------
    pandas.DataFrame
        One row a clip, by scene, official side, sequence and start:

        - ``clip_id``: such as ``"ped1-Test001-0040"`` (its first frame, from 0);
        - ``scene``, ``sequence`` (id), ``start`` (from 0), ``n_frames``;
        - ``label``: 1 if at least one of its frames is labelled anomalous, else 0;
        - ``has_mask``: the sequence has masks, official or added;
        - ``eligible``: label 1, official masks, and of the clip's frames those with a non-empty
          mask are those labelled anomalous (localisation is measured on these clips);
        - ``fold``: the fold of the sequence, or of the clip's first slot;
        - ``split``: ``"train"``, ``"val"`` or ``"test"`` in this run.

    Raises
    ------
    InputError
        A sequence is shorter than a clip, `split_by` is unknown, or the folds are impossible.
    """
    sequences = sorted(sequences, key=lambda s: (s.scene, s.kind == "test", s.number))
    for sequence in sequences:
        if sequence.n_frames < n_frames:
            told = f"a clip has {n_frames}: lower n_frames or remove the sequence"
            raise InputError(f"{sequence.id} has {sequence.n_frames} frames, {told}")
    if split_by == "sequence":
        folds = assign_folds(sequences, n_folds=n_folds, seed=seed)
        slots = {name: [assigned] for name, assigned in folds.items()}
    elif split_by == "clip":
        counts = {s.id: s.n_frames // n_frames for s in sequences}
        slots = _assign_slots(counts, n_folds, seed)
    else:
        raise InputError(f"split_by is {split_by!r}: give 'sequence' or 'clip'")
    rows = []
    for sequence in sequences:
        agrees = np.zeros(sequence.n_frames, dtype=bool)
        if sequence.official_mask:
            agrees = mask_presence(sequence) == sequence.anomalous
        folds = slots[sequence.id]
        for start in range(0, sequence.n_frames - n_frames + 1, stride):
            stop = start + n_frames
            # Frames after the last slot belong to that; a sequence of one slot has one fold.
            first, last = (min(i // n_frames, len(folds) - 1) for i in (start, stop - 1))
            touched = folds[first : last + 1]
            splits = {split_of(f, fold=fold, n_folds=n_folds) for f in touched}
            splits = splits if with_validation else {"train" if s == "val" else s for s in splits}
            if len(splits) > 1:
                continue
            clip_id = f"{sequence.id.replace('/', '-')}-{start:04d}"
            row = {"clip_id": clip_id, "scene": sequence.scene, "sequence": sequence.id}
            row |= {"start": start, "n_frames": n_frames, "has_mask": sequence.masks is not None}
            row["label"] = int(sequence.anomalous[start:stop].any())
            row["eligible"] = row["label"] == 1 and bool(agrees[start:stop].all())
            rows.append(row | {"fold": touched[0], "split": splits.pop()})
    return pd.DataFrame(rows, columns=COLUMNS)


def assign_folds(
    sequences: Iterable[Sequence], *, n_folds: int = 5, seed: int = 0
) -> dict[str, int]:
    """Assign sequences to folds, at random within each scene and official side.

    Of the official UCSD videos all are assigned, whether they are there or not: a part of the
    archive has the folds of the whole, so that its networks are fair ones for who has the rest.

    Parameters
    ----------
    sequences : iterable of Sequence
        In any order: the result does not depend on it.
    n_folds, seed : int
        Number of folds, at least 3, or 1, which tests everything and trains on nothing; and the
        seed, at least 0.

    Returns
    -------
    dict of str to int
        Sequence id to fold, 0 to n_folds - 1. Within a scene and side, and overall, the folds'
        sizes differ by 1 at most (those of an incomplete UCSD archive by what it lacks).

    Raises
    ------
    InputError
        Fewer than 3 folds, fewer sequences than folds, or an id that occurs twice.
    """
    sequences = list(sequences)
    present = sorted({sequence.id for sequence in sequences})
    if n_folds == 1:
        return dict.fromkeys(present, 0)
    _check_folds(len(sequences), n_folds, "sequences")
    if len(present) < len(sequences):
        raise InputError("a sequence id occurs twice: give each sequence once")
    strata: dict[tuple[str, str], list[str]] = {}
    if is_official(sequences):
        for (scene, kind), n in N_OFFICIAL.items():
            strata[kind, scene] = [f"{scene}/{KINDS[kind]}{i:03d}" for i in range(1, n + 1)]
    else:
        for sequence in sequences:
            strata.setdefault((sequence.kind, sequence.scene), []).append(sequence.id)
    folds: dict[str, int] = {}
    rng = np.random.default_rng(seed)
    # Test sides sort first: assigned on end, they leave no fold without a test sequence.
    for stratum in sorted(strata):
        for i in rng.permutation(len(strata[stratum])):
            # Each stratum goes on where the last one stopped, so that the folds' totals are even.
            folds[sorted(strata[stratum])[i]] = len(folds) % n_folds
    return {name: folds[name] for name in present}


def _assign_slots(counts: Mapping[str, int], n_folds: int, seed: int) -> dict[str, list[int]]:
    """Assign parts of sequences (`counts` by id) to folds, whose sizes differ by 1 at most."""
    total = sum(counts.values())
    _check_folds(total, n_folds, "clips")
    folds = np.random.default_rng(seed).permutation(np.arange(total) % n_folds)
    names = sorted(counts)
    parts = np.split(folds, np.cumsum([counts[name] for name in names])[:-1])
    return {name: part.tolist() for name, part in zip(names, parts, strict=True)}


def _check_folds(n: int, n_folds: int, what: str) -> None:
    if n_folds < 3:
        raise InputError(f"n_folds is {n_folds}: give at least 3 (test, val, train)")
    if n < n_folds:
        raise InputError(f"{n} {what} cannot fill {n_folds} folds: add {what} or lower n_folds")


def split_of(fold_of_sequence: int, *, fold: int, n_folds: int = 5) -> str:
    """Say what a sequence is for in run `fold`, from 0: "test", "val" (the next fold) or "train".

    InputError if `fold` is outside 0 to n_folds - 1.
    """
    if not 0 <= fold < n_folds:
        raise InputError(f"fold is {fold}: expected 0 to {n_folds - 1} for {n_folds} folds")
    return {(fold + 1) % n_folds: "val", fold: "test"}.get(fold_of_sequence, "train")


def evaluation_clips(
    table: pd.DataFrame, *, n_clips: int = 40, seed: int = 0, max_per_sequence: int = 2
) -> pd.DataFrame:
    """Choose the clips whose explanations are measured.

    Candidates are the anomalous, eligible clips of the test split. Scenes take turns, and
    within a scene every sequence gives one clip before any gives a second; a scene that runs out
    leaves its turns to the others. A smaller `n_clips` gives a part of the same choice.

    Parameters
    ----------
    table : pandas.DataFrame
        As from `clip_table`, in any order. The test rows of several runs may be
        concatenated, to choose among all of them at once.
    n_clips, max_per_sequence : int
        Number of clips wanted, and most clips of one sequence, at least 1.
    seed : int
        Seed, at least 0.

    Returns
    -------
    pandas.DataFrame
        The chosen rows, by sequence and start, index from 0. ``attrs["shortfall"]`` says how many
        clips are missing to `n_clips`, 0 if none.
    """
    wanted = (table["label"] == 1) & table["eligible"] & (table["split"] == "test")
    candidates = table[wanted].sort_values(["scene", "sequence", "start"], ignore_index=True)
    rng = np.random.default_rng(seed)
    scenes = []
    for _, rows in candidates.groupby("scene", sort=True):
        # Each sequence's first clip in random order, then the second ones.
        of_sequence = rows.groupby("sequence", sort=True).indices.values()
        drawn = [rows.index[rng.permutation(i)[:max_per_sequence]] for i in of_sequence]
        scenes.append(_take_turns([drawn[i] for i in rng.permutation(len(drawn))]))
    chosen = sorted(_take_turns(scenes)[:n_clips])
    result = candidates.loc[chosen].reset_index(drop=True)
    result.attrs["shortfall"] = n_clips - len(result)
    return result


def study_clips(table: pd.DataFrame, **options: int) -> pd.DataFrame:
    """Choose the clips of a study over all folds: rows of the table of any fold, as they are there.

    As `evaluation_clips`, with its options, from the sequences of every split: each is tested in
    one of the runs. The choice is the same in all of them.
    """
    chosen = evaluation_clips(table.assign(split="test"), **options)
    return table[table["clip_id"].isin(chosen["clip_id"])]


def _take_turns(queues: Iterable[Iterable[int]]) -> list[int]:
    """Take the first of every queue, then the second of those that have one, and so on."""
    turns = itertools.zip_longest(*queues)
    return [int(item) for turn in turns for item in turn if item is not None]


def by_id(sequences: Iterable[Sequence]) -> dict[str, Sequence]:
    """Arrange sequences by their ids."""
    return {sequence.id: sequence for sequence in sequences}


def normalise(
    grey: np.ndarray | torch.Tensor, *, mean: float = 0.5, std: float = 0.5
) -> torch.Tensor:
    """Turn grey frames into a clip for the model.

    Parameters
    ----------
    grey : numpy.ndarray or torch.Tensor
        uint8 (T, H, W), 0 (black) to 255; ValueError for anything else.
    mean, std : float
        Of grey values in [0, 1].

    Returns
    -------
    torch.Tensor
        float32 (3, T, H, W): (grey / 255 - mean) / std, three times.
    """
    grey = torch.as_tensor(grey)
    if grey.dtype != torch.uint8 or grey.ndim != 3:
        given = f"{grey.dtype} of shape {tuple(grey.shape)}"
        raise ValueError(f"grey frames are {given}: expected uint8 (T, H, W)")
    return _to_clip(grey.float(), mean, std)


def _to_clip(grey: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    clip = (grey / 255 - mean) / std
    return clip.expand(3, *clip.shape).contiguous()


def load_clip(
    sequences_by_id: Mapping[str, Sequence],
    row: Row,
    *,
    size: Size = SIZE,
    mean: float = 0.5,
    std: float = 0.5,
) -> torch.Tensor:
    """Read the clip of one row of the table.

    Parameters
    ----------
    sequences_by_id : mapping of str to Sequence
        As from `by_id`.
    row : mapping or pandas.Series
        With ``sequence``, ``start`` and ``n_frames``.
    size : tuple of int
        (height, width) in pixels, bilinear.
    mean, std : float
        Of grey values in [0, 1], see `normalise`.

    Returns
    -------
    torch.Tensor
        float32 (3, T, H, W).

    Raises
    ------
    InputError
        The sequence is unknown or does not have these frames.
    """
    sequence = _known(sequences_by_id, row["sequence"])
    grey = read_frames(sequence, start=int(row["start"]), n_frames=int(row["n_frames"]), size=size)
    return normalise(grey, mean=mean, std=std)


def load_mask(
    sequences_by_id: Mapping[str, Sequence], row: Row, *, size: Size = SIZE
) -> np.ndarray:
    """Read the pixel mask of one row of the table: bool (T, H, W), True on the anomaly.

    Parameters and errors are those of `load_clip`; resizing takes the nearest pixel.
    """
    sequence = _known(sequences_by_id, row["sequence"])
    return read_masks(sequence, start=int(row["start"]), n_frames=int(row["n_frames"]), size=size)


def _known(sequences_by_id: Mapping[str, Sequence], name: str) -> Sequence:
    if name in sequences_by_id:
        return sequences_by_id[name]
    told = "is not in this tree: build the table of clips from the same tree"
    raise InputError(f"sequence {name!r} {told}")


class ClipDataset(torch.utils.data.Dataset):
    """Clips with labels, for training and for prediction.

    Frames are decoded once, when the dataset is made, and kept as uint8. The draws of an
    augmentation depend on (`seed`, epoch, index) alone, so that a resumed training sees what an
    uninterrupted one would have seen.

    Parameters
    ----------
    sequences_by_id, size, mean, std
        As for `load_clip`.
    table : pandas.DataFrame
        As from `clip_table`, at least one row.
    augmentation : Augmentation, optional
        How clips are varied; default: not at all.
    seed : int
        Seed of the augmentation, at least 0.

    Raises
    ------
    InputError
        The table is empty, or names frames that the sequences do not have.
    """

    def __init__(
        self,
        sequences_by_id: Mapping[str, Sequence],
        table: pd.DataFrame,
        *,
        size: Size = SIZE,
        mean: float = 0.5,
        std: float = 0.5,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        if table.empty:
            raise InputError("the table holds no clips: choose another split, fold or dataset")
        self.table = table.reset_index(drop=True)
        self._mean, self._std = mean, std
        self._augmentation, self._seed = augmentation, seed
        # Shared memory: workers that outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._frames: dict[str, tuple[int, np.ndarray]] = {}  # first frame, frames from there on
        # Masks of the same frames, in bits; and the clips that show the anomaly half of the time.
        self._masks: dict[str, np.ndarray] = {}
        self._pasteable: set[int] = set()
        for name, rows in self.table.groupby("sequence", sort=False):
            start, stop = rows["start"].min(), (rows["start"] + rows["n_frames"]).max()
            window = {"start": int(start), "n_frames": int(stop - start), "size": size}
            self._frames[name] = int(start), read_frames(_known(sequences_by_id, name), **window)
            if not (augmentation and augmentation.paste) or not rows["has_mask"].any():
                continue
            masks = read_masks(_known(sequences_by_id, name), **window).reshape(stop - start, -1)
            self._masks[name] = np.packbits(masks, axis=1)
            for i, first in rows.loc[rows["label"] == 1, "start"].items():
                shows = masks[first - start : first - start + rows["n_frames"][i]].any(axis=1)
                if 2 * shows.sum() >= len(shows):
                    self._pasteable.add(i)

    @property
    def labels(self) -> np.ndarray:
        """Labels of all clips: int64 (N,), 1 anomalous."""
        return self.table["label"].to_numpy(dtype=np.int64)

    @property
    def groups(self) -> np.ndarray:
        """Scene and label of every clip as one name, (N,), for a training that draws evenly:
        else a network learns first how often a scene is anomalous."""
        return (self.table["scene"] + " " + self.table["label"].astype(str)).to_numpy()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins: each has augmentations of its own."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Give a clip, float32 (3, T, H, W), and its label."""
        grey = self._grey(index)  # IndexError ends a loop over the clips
        index %= len(self)
        if self._augmentation is not None:
            # A seed sequence of several numbers: near ones give unrelated draws.
            key = np.random.SeedSequence((self._seed, int(self._epoch), index))
            seed = int(key.generate_state(1, np.uint64)[0]) >> 1
            generator = torch.Generator().manual_seed(seed)
            draws = np.random.default_rng(key.spawn(1)[0]).random(5)
            if draws[0] < self._augmentation.paste:
                grey = self._pasted(index, *draws[1:])
            grey = augment(grey, self._augmentation, generator=generator)
        return _to_clip(grey, self._mean, self._std), int(self.table["label"].iat[index])

    def _grey(self, index: int) -> torch.Tensor:
        row = self.table.iloc[index]
        first, frames = self._frames[row["sequence"]]
        start = row["start"] - first
        return torch.from_numpy(frames[start : start + row["n_frames"]]).float()

    def _pasted(self, index: int, one: float, two: float, x: float, y: float) -> torch.Tensor:
        """Another clip of the same class, see `Augmentation.paste`. All in [0, 1): `one` and `two`
        draw clips, `x` and `y` the move."""
        here = self.table["scene"] == self.table["scene"].iat[index]
        normal, anomalous = (np.flatnonzero(here & (self.table["label"] == k)) for k in (0, 1))
        if not len(normal) or not len(anomalous):
            return self._grey(index)
        other = int(normal[int(one * len(normal))])
        # The shape is drawn from all anomalous clips: of both classes as many are changed.
        shape, donor, background = index, index, other
        if self.table["label"].iat[index] == 0:
            shape, donor, background = int(anomalous[int(two * len(anomalous))]), other, index
        if shape not in self._pasteable:
            return self._grey(index)
        donor, row = self._grey(donor), self.table.iloc[shape]
        start = row["start"] - self._frames[row["sequence"]][0]
        bits = self._masks[row["sequence"]][start : start + row["n_frames"]]
        region = np.unpackbits(bits, axis=1, count=donor[0].numel()).reshape(donor.shape)
        moves = {"right": 2 * x - 1, "down": 2 * y - 1}
        return paste(self._grey(background), donor, torch.from_numpy(region) > 0, **moves)
