"""Clips: the table of them, one as a tensor, and a dataset of them for training.

A clip is T consecutive frames. As a tensor it is float32 (3, T, H, W), grey repeated to three
channels and normalised to (grey / 255 - mean) / std: with mean = std = 0.5 from -1 (black) to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch

from vad_helpers.data.augmentation import Augmentation, augment
from vad_helpers.data.splits import assign_folds, deal_slots, split_of
from vad_helpers.data.tree import Sequence, mask_presence, read_frames, read_masks
from vad_helpers.errors import InputError

COLUMNS = (
    "clip_id",
    "scene",
    "sequence",
    "start",
    "n_frames",
    "label",
    "has_mask",
    "eligible",
    "fold",
    "split",
)
SIZE = (158, 237)
N_CHANNELS = 3


def by_id(sequences: Iterable[Sequence]) -> dict[str, Sequence]:
    """Arrange sequences by their ids."""
    return {sequence.id: sequence for sequence in sequences}


def clip_table(
    sequences: Iterable[Sequence],
    *,
    n_frames: int = 20,
    stride: int = 20,
    fold: int = 0,
    n_folds: int = 5,
    seed: int = 0,
    split_by: str = "sequence",
) -> pd.DataFrame:
    """Cut sequences into clips and say what each is for.

    Parameters
    ----------
    sequences : iterable of Sequence
        As from `ucsd.index`.
    n_frames : int
        Frames a clip, T.
    stride : int
        Frames from one clip's start to the next one's; what is left at the end is dropped.
    fold : int
        The run: this fold is tested, the next one validates.
    n_folds, seed : int
        How sequences are dealt to folds, see `splits.assign_folds`.
    split_by : {"sequence", "clip"}
        With "clip", each sequence is cut into slots of `n_frames`, and these are dealt, see
        `splits.deal_slots`: a network is then tested on sequences that it was trained on, though
        not on the same frames. Clips that touch slots of different splits are left out.

    Returns
    -------
    pandas.DataFrame
        One row a clip, by scene, official side, sequence and start:

        - ``clip_id``: such as ``"ped1-Test001-0040"`` (its first frame, from 0);
        - ``scene``, ``sequence`` (id), ``start`` (from 0), ``n_frames``;
        - ``label``: 1 if the ``.m`` list calls at least one of its frames anomalous, else 0;
        - ``has_mask``: the sequence has masks, official or added;
        - ``eligible``: label 1, official masks, and on every frame of the clip the mask is
          non-empty exactly where the ``.m`` list says anomalous (localisation is measured on
          these);
        - ``fold``: the fold of the sequence, or of the clip's first slot;
        - ``split``: ``"train"``, ``"val"`` or ``"test"`` in this run.

    Raises
    ------
    InputError
        A sequence is shorter than a clip, `n_frames` or `stride` is below 1, or the folds are
        impossible.
    """
    order = {"train": 0, "test": 1}
    sequences = sorted(sequences, key=lambda s: (s.scene, order[s.kind], s.number))
    _check_lengths(sequences, n_frames, stride)
    if split_by == "sequence":
        folds = assign_folds(sequences, n_folds=n_folds, seed=seed)
        slots = {name: [dealt] for name, dealt in folds.items()}
    else:
        counts = {s.id: s.n_frames // n_frames for s in sequences}
        slots = deal_slots(counts, n_folds=n_folds, seed=seed)
    rows = []
    for sequence in sequences:
        for row in _clips(sequence, n_frames, stride):
            folds = _folds_of(row, slots[sequence.id])
            found = {split_of(dealt, fold=fold, n_folds=n_folds) for dealt in folds}
            if len(found) == 1:
                rows.append(row | {"fold": folds[0], "split": found.pop()})
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _folds_of(row: Mapping[str, int], slots: list[int]) -> list[int]:
    """Folds of the slots that a clip touches; frames after the last slot belong to that."""
    ends = (row["start"], row["start"] + row["n_frames"] - 1)
    first, last = (min(frame // row["n_frames"], len(slots) - 1) for frame in ends)
    return slots[first : last + 1]


def _check_lengths(sequences: list[Sequence], n_frames: int, stride: int) -> None:
    for name, value in (("n_frames", n_frames), ("stride", stride)):
        if value < 1:
            raise InputError(f"{name} is {value}: give at least 1 frame")
    for sequence in sequences:
        if sequence.n_frames < n_frames:
            raise InputError(
                f"{sequence.id} has {sequence.n_frames} frames, a clip has {n_frames}: lower "
                f"n_frames or remove the sequence"
            )


def _clips(sequence: Sequence, n_frames: int, stride: int) -> list[dict[str, object]]:
    agrees = np.zeros(sequence.n_frames, dtype=bool)
    if sequence.official_mask:
        agrees = mask_presence(sequence) == sequence.anomalous
    rows = []
    for start in range(0, sequence.n_frames - n_frames + 1, stride):
        clip = slice(start, start + n_frames)
        label = int(sequence.anomalous[clip].any())
        rows.append(
            {
                "clip_id": f"{sequence.id.replace('/', '-')}-{start:04d}",
                "scene": sequence.scene,
                "sequence": sequence.id,
                "start": start,
                "n_frames": n_frames,
                "label": label,
                "has_mask": sequence.masks is not None,
                "eligible": label == 1 and bool(agrees[clip].all()),
            }
        )
    return rows


def normalise(
    grey: np.ndarray | torch.Tensor, *, mean: float = 0.5, std: float = 0.5
) -> torch.Tensor:
    """Turn grey frames into a clip for the model.

    Parameters
    ----------
    grey : numpy.ndarray or torch.Tensor
        uint8 (T, H, W), 0 (black) to 255.
    mean, std : float
        Of grey values in [0, 1].

    Returns
    -------
    torch.Tensor
        float32 (3, T, H, W): (grey / 255 - mean) / std, three times.

    Raises
    ------
    ValueError
        `grey` is not a three-dimensional uint8 array, or `std` is not positive.
    """
    grey = torch.as_tensor(grey)
    if grey.dtype != torch.uint8 or grey.ndim != 3:
        raise ValueError(
            f"grey frames are {grey.dtype} of shape {tuple(grey.shape)}: expected uint8 (T, H, W)"
        )
    return _to_clip(grey.float(), mean, std)


def _to_clip(grey: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    if not std > 0:
        raise ValueError(f"std is {std}: expected a positive number")
    clip = (grey / 255 - mean) / std
    return clip.expand(N_CHANNELS, *clip.shape).contiguous()


def load_clip(
    sequences_by_id: Mapping[str, Sequence],
    row: Mapping[str, object] | pd.Series,
    *,
    size: tuple[int, int] = SIZE,
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
    sequence = _known(sequences_by_id, row)
    grey = read_frames(sequence, start=int(row["start"]), n_frames=int(row["n_frames"]), size=size)
    return normalise(grey, mean=mean, std=std)


def load_mask(
    sequences_by_id: Mapping[str, Sequence],
    row: Mapping[str, object] | pd.Series,
    *,
    size: tuple[int, int] = SIZE,
) -> np.ndarray:
    """Read the pixel mask of one row of the table.

    Parameters
    ----------
    sequences_by_id, row, size
        As for `load_clip`; resizing takes the nearest pixel.

    Returns
    -------
    numpy.ndarray
        bool (T, H, W), True on the anomaly.

    Raises
    ------
    InputError
        The sequence is unknown, has no masks, or does not have these frames.
    """
    sequence = _known(sequences_by_id, row)
    return read_masks(sequence, start=int(row["start"]), n_frames=int(row["n_frames"]), size=size)


def _known(
    sequences_by_id: Mapping[str, Sequence], row: Mapping[str, object] | pd.Series
) -> Sequence:
    try:
        return sequences_by_id[row["sequence"]]
    except KeyError:
        raise InputError(
            f"sequence {row['sequence']!r} is not in this tree: build the table of clips from the "
            f"same tree"
        ) from None


class ClipDataset(torch.utils.data.Dataset):
    """Clips with labels, for training and for prediction.

    Frames are decoded once, when the dataset is made, and kept as uint8. The draws of an
    augmentation depend on (`seed`, epoch, index) alone, so that a resumed training sees what an
    uninterrupted one would have seen.

    Parameters
    ----------
    sequences : iterable of Sequence or mapping of str to Sequence
        At least the sequences in `table`.
    table : pandas.DataFrame
        As from `clip_table`, at least one row.
    size : tuple of int
        (height, width) in pixels.
    mean, std : float
        Of grey values in [0, 1], see `normalise`.
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
        sequences: Iterable[Sequence] | Mapping[str, Sequence],
        table: pd.DataFrame,
        *,
        size: tuple[int, int] = SIZE,
        mean: float = 0.5,
        std: float = 0.5,
        augmentation: Augmentation | None = None,
        seed: int = 0,
    ) -> None:
        if table.empty:
            raise InputError("the table holds no clips: choose another split, fold or dataset")
        known = sequences if isinstance(sequences, Mapping) else by_id(sequences)
        self.table = table.reset_index(drop=True)
        self._mean, self._std = mean, std
        self._augmentation, self._seed = augmentation, seed
        # Shared memory: workers that outlive an epoch see the next one.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self._spans = {
            name: _Span(_known(known, rows.iloc[0]), rows, size)
            for name, rows in self.table.groupby("sequence", sort=False)
        }

    @property
    def labels(self) -> np.ndarray:
        """Labels of all clips: int64 (N,), 1 anomalous."""
        return self.table["label"].to_numpy(dtype=np.int64)

    @property
    def groups(self) -> np.ndarray:
        """Scene and label of every clip as one name, (N,), for a training that draws evenly.

        Otherwise a network learns first how often a scene is anomalous.
        """
        return (self.table["scene"] + " " + self.table["label"].astype(str)).to_numpy()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch begins: each has augmentations of its own."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Give a clip, float32 (3, T, H, W), and its label."""
        row = self.table.iloc[index]
        grey = torch.from_numpy(self._spans[row["sequence"]].cut(row)).float()
        if self._augmentation is not None:
            generator = _generator(self._seed, int(self._epoch), index % len(self))
            grey = augment(grey, self._augmentation, generator=generator)
        return _to_clip(grey, self._mean, self._std), int(row["label"])


class _Span:
    """The decoded frames of one sequence, from its first clip's start to its last one's end."""

    def __init__(self, sequence: Sequence, rows: pd.DataFrame, size: tuple[int, int]) -> None:
        self._start = int(rows["start"].min())
        stop = int((rows["start"] + rows["n_frames"]).max())
        self._frames = read_frames(
            sequence, start=self._start, n_frames=stop - self._start, size=size
        )

    def cut(self, row: pd.Series) -> np.ndarray:
        start = row["start"] - self._start
        return self._frames[start : start + row["n_frames"]]


def _generator(*key: int) -> torch.Generator:
    """Make a generator from several numbers, so that near ones give unrelated draws."""
    state = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0])
    return torch.Generator().manual_seed(state >> 1)
