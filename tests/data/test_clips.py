"""The table of clips, the folds, the clips that are explained, one clip, and the dataset."""

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vad_helpers.data import clips, ucsd
from vad_helpers.data.augmentation import Augmentation
from vad_helpers.errors import InputError

SIZE = (12, 18)


@pytest.fixture
def sequences(tree):
    return ucsd.index(tree.root)


@pytest.fixture
def table(sequences):
    return clips.clip_table(sequences, n_frames=3, stride=3)


def of(table, sequence):
    return table[table["sequence"] == sequence].reset_index(drop=True)


def test_sequences_are_cut_and_the_tail_is_dropped(table, sequences):
    assert list(of(table, "ped2/Train002")["start"]) == [0, 3]
    assert list(of(table, "ped2/Train002")["clip_id"])[1] == "ped2-Train002-0003"
    overlapping = of(clips.clip_table(sequences, n_frames=4, stride=2), "ped2/Train002")
    assert list(overlapping["start"]) == [0, 2, 4]
    assert clips.clip_table(reversed(sequences), n_frames=3, stride=3).equals(table)


def test_the_list_decides_labels_and_eligible_are_those_whose_official_masks_agree(tree):
    tree.masks("ped1", 3, {2, 3, 4, 5, 6})  # frame 4 now disagrees with the list
    tree.masks("ped1", 5, {1, 3, 4})  # agree, but are no official ones
    table = clips.clip_table(ucsd.index(tree.root), n_frames=3, stride=3)
    for name, labels, has_mask, eligible in (
        ("ped1/Test003", [1, 1], True, [True, False]),
        ("ped1/Test005", [1, 1], True, [False, False]),
        ("ped1/Test006", [0, 1], False, [False, False]),
        ("ped2/Train001", [0, 0], False, [False, False]),
        ("ped2/Test001", [1, 1], True, [True, True]),
        ("ped2/Test002", [0, 0], True, [False, False]),
    ):
        rows = of(table, name)
        assert rows["label"].tolist() == labels, name
        assert rows["has_mask"].tolist() == [has_mask] * 2, name
        assert rows["eligible"].tolist() == eligible, name


def test_split_by_clip_leaves_out_what_lies_across_splits(sequences, table):
    options = {"n_frames": 3, "split_by": "clip", "seed": 1}
    whole = clips.clip_table(sequences, stride=3, **options)
    assert sorted(whole["clip_id"]) == sorted(table["clip_id"])
    assert set(whole["split"]) == {"train", "val", "test"}
    assert np.ptp(whole["fold"].value_counts()) <= 1
    within = clips.clip_table(sequences, stride=1, **options)
    slot = whole.set_index(["sequence", "start"])["split"]
    for row in within.itertuples():
        last = slot[row.sequence].index.max()
        starts = {min(frame // 3 * 3, last) for frame in (row.start, row.start + 2)}
        assert {slot[row.sequence, start] for start in starts} == {row.split}
    assert whole["clip_id"].isin(within["clip_id"]).all() and len(within) > len(whole)
    assert len(within) < len(clips.clip_table(sequences, n_frames=3, stride=1))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"n_frames": 7}, "ped1/Test003 has 6 frames, a clip has 7"),
        ({"fold": 5}, "fold is 5"),
        ({"n_folds": 2}, "at least 3"),
        ({"n_folds": 8}, "7 sequences cannot fill 8 folds"),
        ({"n_frames": 6, "n_folds": 8, "split_by": "clip"}, "7 clips cannot fill 8 folds"),
        ({"split_by": "frame"}, "split_by is 'frame'"),
    ],
)
def test_an_impossible_table_is_refused(sequences, options, match):
    with pytest.raises(InputError, match=match):
        clips.clip_table(sequences, **({"n_frames": 3} | options))


def make_sequences(counts, n_frames=90):
    """Make stand-ins for sequences: `counts` of (scene, kind)."""
    return [
        SimpleNamespace(id=f"{s}/{k.title()}{i:03d}", scene=s, kind=k, number=i, n_frames=n_frames)
        for (s, k), count in counts.items()
        for i in range(1, count + 1)
    ]


ALL = make_sequences(ucsd.N_OFFICIAL)
strata = st.fixed_dictionaries({stratum: st.integers(0, 20) for stratum in ucsd.N_OFFICIAL})


@settings(deadline=None, max_examples=60)
@given(counts=strata, n_folds=st.integers(3, 7), seed=st.integers(0, 1000))
def test_every_sequence_is_tested_once_and_folds_are_even(counts, n_folds, seed):
    sequences = make_sequences(counts)
    if len(sequences) < n_folds:
        return
    folds = clips.assign_folds(sequences, n_folds=n_folds, seed=seed)
    assert folds.keys() == {s.id for s in sequences}
    for run in range(n_folds):
        splits = {clips.split_of(f, fold=run, n_folds=n_folds): f for f in folds.values()}
        assert splits.keys() == {"train", "val", "test"}
        assert (splits["test"], splits["val"]) == (run, (run + 1) % n_folds)
    groups = [[s for s in sequences if (s.scene, s.kind) == stratum] for stratum in counts]
    for group in [*groups, sequences]:
        sizes = Counter(dict.fromkeys(range(n_folds), 0))
        sizes.update(folds[s.id] for s in group)
        assert max(sizes.values()) - min(sizes.values()) <= 1


def test_a_part_of_the_official_archive_has_the_folds_of_the_whole():
    whole = make_sequences(ucsd.N_OFFICIAL, n_frames=200)
    for s in whole[70:]:
        s.n_frames = {"train": 159, "test": 167}[s.kind] + 6 * (s.number == 1)
    folds = clips.assign_folds(whole)
    part = [s for s in whole if s.scene == "ped2" or (s.kind == "test" and s.number % 10 != 6)]
    assert clips.assign_folds(part) == {s.id: folds[s.id] for s in part}
    # while other videos of the same names are assigned as they are
    for s in part:
        s.n_frames = 90
    assert clips.assign_folds(part) != {s.id: folds[s.id] for s in part}


def test_the_seed_decides_and_neither_order_nor_numbering():
    folds = clips.assign_folds(iter(random.Random(1).sample(ALL, len(ALL))))
    assert folds == clips.assign_folds(ALL) != clips.assign_folds(ALL, seed=1)
    in_order = [folds[f"ped1/Test{i:03d}"] for i in range(1, 37)]
    assert in_order != [(in_order[0] + i) % 5 for i in range(36)]
    with pytest.raises(InputError, match="twice"):
        clips.assign_folds([*ALL, ALL[0]])


def make_table(n_sequences, *, n_clips=5):
    """Make a table with `n_clips` clips for each of `n_sequences` = {scene: count}."""
    rows = [
        (f"{scene}-Test{i:03d}-{20 * c:04d}", scene, f"{scene}/Test{i:03d}", 20 * c)
        for scene, count in n_sequences.items()
        for i in range(count)
        for c in range(n_clips)
    ]
    table = pd.DataFrame(rows, columns=["clip_id", "scene", "sequence", "start"])
    return table.assign(label=1, eligible=True, split="test")


BOTH = make_table({"ped1": 10, "ped2": 12})


@pytest.mark.parametrize(
    ("counts", "options", "by_scene", "most"),
    [
        ({"ped1": 10, "ped2": 12}, {}, [20, 20], 2),
        ({"ped1": 10, "ped2": 12}, {"n_clips": 20}, [10, 10], 1),  # before second clips
        ({"ped1": 2, "ped2": 12}, {"n_clips": 20}, [4, 16], 2),  # the other scene fills up
        ({"ped1": 2, "ped2": 1}, {}, [4, 2], 2),  # too few
        ({"ped1": 4, "ped2": 4}, {"max_per_sequence": 5}, [20, 20], 5),
    ],
)
def test_scenes_are_balanced_and_sequences_take_turns(counts, options, by_scene, most):
    chosen = clips.evaluation_clips(make_table(counts), **options)
    assert chosen["scene"].value_counts().sort_index().tolist() == by_scene
    assert chosen["sequence"].value_counts().max() == most
    assert list(chosen["clip_id"]) == sorted(set(chosen["clip_id"]))
    assert list(chosen.index) == list(range(len(chosen)))
    assert chosen.attrs["shortfall"] == options.get("n_clips", 40) - sum(by_scene)


def test_only_anomalous_eligible_test_clips_are_chosen():
    good, other = make_table({"ped1": 2}, n_clips=2), make_table({"ped2": 3})
    for change in ({"label": 0}, {"eligible": False}, {"split": "val"}, {"split": "train"}):
        bad = other.assign(**change)
        chosen = clips.evaluation_clips(pd.concat([good, bad]))
        assert set(chosen["clip_id"]) == set(good["clip_id"])
        none = clips.evaluation_clips(bad, n_clips=3)
        assert len(none) == 0 and none.attrs["shortfall"] == 3


def test_the_choice_depends_on_the_seed_not_on_the_order_and_smaller_ones_are_part_of_it():
    first = clips.evaluation_clips(BOTH)
    shuffled = BOTH.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(clips.evaluation_clips(shuffled), first)
    assert not clips.evaluation_clips(BOTH, seed=1).equals(first)
    for n_clips in range(1, 40):
        smaller = set(clips.evaluation_clips(BOTH, n_clips=n_clips)["clip_id"])
        assert len(smaller) == n_clips
        assert smaller < set(first["clip_id"])


def test_a_study_chooses_the_same_clips_in_every_fold_and_from_all_of_them():
    folds, first = BOTH["sequence"].str[-1].astype(int) % 5, clips.study_clips(BOTH)
    assert first["scene"].value_counts().to_dict() == {"ped1": 20, "ped2": 20}
    for fold in range(5):
        table = BOTH.assign(split=[clips.split_of(f, fold=fold) for f in folds])
        chosen = clips.study_clips(table)
        assert chosen["clip_id"].tolist() == first["clip_id"].tolist()
        assert chosen.equals(table.loc[chosen.index])  # rows as they were


def test_black_is_minus_one_and_white_is_one_in_three_channels_of_their_own():
    clip = clips.normalise(np.array([0, 255, 51], np.uint8).reshape(1, 1, 3))
    assert clip.shape == (3, 1, 1, 3) and clip.dtype == torch.float32
    for channel in clip:
        torch.testing.assert_close(channel.flatten(), torch.tensor([-1.0, 1.0, -0.6]))
    white = clips.normalise(torch.full((2, 3, 4), 255, dtype=torch.uint8), mean=0.2, std=0.4)
    torch.testing.assert_close(white, torch.full((3, 2, 3, 4), 2.0))
    clip[0] += 1
    assert torch.equal(clip[1], clip[2]) and not torch.equal(clip[0], clip[1])
    for grey in (np.zeros((2, 3, 4), np.float32), np.zeros((3, 4), np.uint8)):
        with pytest.raises(ValueError, match="expected uint8"):
            clips.normalise(grey)


def test_a_row_is_loaded_as_clip_and_mask(sequences, table):
    known, row = clips.by_id(sequences), of(table, "ped1/Test003").iloc[1]
    clip = clips.load_clip(known, row, size=(6, 9))
    assert clip.shape == (3, 3, 6, 9)
    torch.testing.assert_close(clip[0, :, 0, 0], torch.tensor([40.0, 50.0, 60.0]) / 127.5 - 1)
    mask = clips.load_mask(known, row.to_dict(), size=SIZE)
    assert mask.shape == (3, *SIZE) and mask.dtype == bool
    assert mask.any(axis=(1, 2)).tolist() == [False, True, True]
    assert clips.load_mask(known, row).shape == (3, 158, 237)  # the protocol's size
    with pytest.raises(InputError, match="ped9/Test001"):
        clips.load_clip(known, {"sequence": "ped9/Test001", "start": 0, "n_frames": 3})


def test_items_are_the_clips_and_labels_of_the_table(sequences):
    table = clips.clip_table(sequences, n_frames=4, stride=2)  # they overlap
    part, known = table.sample(frac=0.8, random_state=0), clips.by_id(sequences)
    options = {"size": (6, 9), "mean": 0.4, "std": 0.3}
    dataset = clips.ClipDataset(known, part, **options)
    assert len(dataset) == len(part)
    np.testing.assert_array_equal(dataset.labels, part["label"])
    assert dataset.groups.tolist() == [f"{row.scene} {row.label}" for row in part.itertuples()]
    expected = [clips.load_clip(known, row, **options) for _, row in part.iterrows()]
    for sequence in sequences:  # frames are decoded once, at the start
        for path in sequence.frames:
            path.write_bytes(b"")
    for i, clip in enumerate(expected):
        torch.testing.assert_close(dataset[i][0], clip)
        assert dataset[i][1] == part["label"].iloc[i] and isinstance(dataset[i][1], int)
    with pytest.raises(InputError, match="no clips"):
        clips.ClipDataset(known, table[:0])


@pytest.mark.parametrize("n_workers", [0, 1])
def test_augmentations_repeat_by_seed_epoch_and_index_in_lasting_workers_too(
    sequences, table, n_workers
):
    def augmented(*, seed=0, contrast=0.1):
        options = {"augmentation": Augmentation(contrast=contrast), "seed": seed}
        return clips.ClipDataset(clips.by_id(sequences), table[:5], size=SIZE, **options)

    dataset, expected, state = augmented(), augmented(), torch.get_rng_state()
    options = {"num_workers": n_workers, "persistent_workers": n_workers > 0}
    loader = torch.utils.data.DataLoader(dataset, generator=torch.Generator(), **options)
    seen = {augmented(contrast=0.0)[0][0].sum().item(), augmented(seed=4)[0][0].sum().item()}
    for epoch in (0, 1, 0):
        dataset.set_epoch(epoch)
        expected.set_epoch(epoch)
        for i, (found, _) in enumerate(loader):
            assert torch.equal(found[0], expected[i][0])
            seen.add(found.sum().item())
        assert torch.equal(expected[-1][0], found[0])
    assert len(seen) == 2 + 2 * 5
    assert torch.equal(torch.get_rng_state(), state)


def test_pasting_puts_the_anomaly_into_a_normal_clip_and_as_often_a_normal_region(sequences, table):
    known, two = clips.by_id(sequences), table[table["scene"] == "ped2"].reset_index(drop=True)
    options = {"size": (48, 72), "augmentation": Augmentation(paste=1.0)}
    dataset, seen = clips.ClipDataset(known, two, **options), set()
    for epoch in range(30):
        dataset.set_epoch(epoch)
        for i, row in two.iterrows():
            clip, label = dataset[i]
            assert label == row["label"]
            assert torch.equal(clip[0], clip[2])
            levels = (clip[0, 0] + 1) * 127.5  # a first frame is of level 10 or 40
            own, below = 10 * (row["start"] + 1), levels[-1, -1].item()  # no mask reaches there
            others = levels[(levels - below).abs() > 29.9]  # the region, without its seam
            inside = others.mean().item() if len(others) else below
            if label:  # its own region in another clip
                assert inside == pytest.approx(own, abs=0.1)
            else:
                assert below == pytest.approx(own, abs=0.1)
            seen.add((label, round(below), round(inside)))
    assert seen == {(label, a, b) for label in (0, 1) for a in (10, 40) for b in (10, 40)}
    assert len(list(dataset)) == len(two)


def test_pasting_draws_by_its_share_and_leaves_what_has_no_mask_or_no_other_class(sequences, table):
    known, ped2 = clips.by_id(sequences), table["scene"] == "ped2"
    for part, share, expected in (
        (table[ped2], 0.6, 0.3),  # half of the mixtures are of clips with the same grey levels
        (table[ped2].assign(has_mask=False), 1.0, 0),
        (table[~ped2 & (table["sequence"] != "ped1/Test006")], 1.0, 0),  # anomalous alone
    ):
        plain = clips.ClipDataset(known, part, size=SIZE)
        spec = Augmentation(paste=share)
        dataset, changed = clips.ClipDataset(known, part, size=SIZE, augmentation=spec), []
        for epoch in range(60):
            dataset.set_epoch(epoch)
            changed += [not torch.equal(dataset[i][0], plain[i][0]) for i in range(len(part))]
        assert abs(np.mean(changed) - expected) <= (0.07 if expected else 0)
