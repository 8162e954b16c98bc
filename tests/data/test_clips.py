import numpy as np
import pytest
import torch
from PIL import Image

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


# The table


def test_the_columns_are_those_of_the_contract(table):
    assert tuple(table.columns) == (
        *("clip_id", "scene", "sequence", "start", "n_frames"),
        *("label", "has_mask", "eligible", "fold", "split"),
    )


def test_sequences_are_cut_and_the_tail_is_dropped(table, sequences):
    eight = of(table, "ped2/Train002")
    assert list(eight["start"]) == [0, 3]
    assert list(eight["clip_id"]) == ["ped2-Train002-0000", "ped2-Train002-0003"]
    overlapping = of(clips.clip_table(sequences, n_frames=4, stride=2), "ped2/Train002")
    assert list(overlapping["start"]) == [0, 2, 4]
    assert set(overlapping["n_frames"]) == {4}


def test_one_anomalous_frame_makes_a_clip_anomalous(table):
    assert list(of(table, "ped1/Test003")["label"]) == [1, 1]
    assert list(of(table, "ped1/Test006")["label"]) == [0, 1]
    assert list(of(table, "ped2/Train001")["label"]) == [0, 0]


def test_labels_come_from_the_list_not_from_the_masks(tree):
    tree.masks("ped1", 5, {5, 6})
    rows = of(clips.clip_table(ucsd.index(tree.root), n_frames=2, stride=2), "ped1/Test005")
    assert list(rows["label"]) == [1, 1, 0]


def test_masks_are_a_matter_of_the_sequence(table):
    assert of(table, "ped1/Test005")["has_mask"].all()
    assert not of(table, "ped1/Test006")["has_mask"].any()
    assert not of(table, "ped2/Train001")["has_mask"].any()


def test_eligible_are_anomalous_clips_whose_official_masks_agree(tree):
    tree.masks("ped1", 3, {2, 3, 4, 5, 6})  # frame 4 now disagrees with the list
    table = clips.clip_table(ucsd.index(tree.root), n_frames=3, stride=3)
    assert list(of(table, "ped1/Test003")["eligible"]) == [True, False]
    assert list(of(table, "ped2/Test001")["eligible"]) == [True, True]
    normal, extra, unmasked = "ped2/Test002", "ped1/Test005", "ped1/Test006"
    for name in (normal, extra, unmasked):
        assert not of(table, name)["eligible"].any()


def test_extra_masks_that_agree_are_not_eligible(tree):
    tree.masks("ped1", 5, {1, 3, 4})
    table = clips.clip_table(ucsd.index(tree.root), n_frames=3, stride=3)
    assert not of(table, "ped1/Test005")["eligible"].any()


def test_split_by_clip_deals_slots_and_leaves_out_what_lies_across_splits(sequences):
    options = {"n_frames": 3, "split_by": "clip", "seed": 1}
    whole = clips.clip_table(sequences, stride=3, **options)
    assert sorted(whole["clip_id"]) == sorted(
        clips.clip_table(sequences, n_frames=3, stride=3)["clip_id"]
    )
    assert set(whole["split"]) == {"train", "val", "test"}
    assert whole.groupby("sequence")["split"].nunique().max() > 1
    within = clips.clip_table(sequences, stride=1, **options)
    slot = whole.set_index(["sequence", "start"])["split"]
    for row in within.itertuples():
        last = slot[row.sequence].index.max()
        starts = {min(frame // 3 * 3, last) for frame in (row.start, row.start + 2)}
        assert {slot[row.sequence, start] for start in starts} == {row.split}
    assert whole["clip_id"].isin(within["clip_id"]).all() and len(within) > len(whole)
    assert len(within) < len(clips.clip_table(sequences, n_frames=3, stride=1))


def test_a_sequence_has_one_fold_and_one_split(table, sequences):
    assert (table.groupby("sequence")[["fold", "split"]].nunique() == 1).all(axis=None)
    other = clips.clip_table(sequences, n_frames=3, stride=3, fold=1)
    assert other["fold"].equals(table["fold"])
    assert set(table.loc[table["split"] == "test", "fold"]) == {0}
    assert set(table.loc[table["split"] == "val", "fold"]) == {1}
    assert set(other.loc[other["split"] == "test", "fold"]) == {1}


def test_the_order_of_the_sequences_does_not_matter(table, sequences):
    assert clips.clip_table(reversed(sequences), n_frames=3, stride=3).equals(table)


def test_a_clip_longer_than_a_sequence_is_refused(sequences):
    with pytest.raises(InputError, match=r"ped1/Test003 has 6 frames, a clip has 7"):
        clips.clip_table(sequences, n_frames=7)


@pytest.mark.parametrize("option", ["n_frames", "stride"])
def test_less_than_one_frame_is_refused(sequences, option):
    with pytest.raises(InputError, match=f"{option} is 0"):
        clips.clip_table(sequences, **{option: 0})


def test_a_fold_that_does_not_exist_is_refused(sequences):
    with pytest.raises(InputError, match="fold is 5"):
        clips.clip_table(sequences, n_frames=3, fold=5)


# One clip


def test_black_is_minus_one_and_white_is_one():
    grey = np.array([0, 255, 51], np.uint8).reshape(1, 1, 3)
    clip = clips.normalise(grey)
    assert clip.shape == (3, 1, 1, 3)
    assert clip.dtype == torch.float32
    for channel in clip:
        torch.testing.assert_close(channel.flatten(), torch.tensor([-1.0, 1.0, -0.6]))


def test_mean_and_std_are_of_grey_values_in_zero_to_one():
    clip = clips.normalise(torch.full((2, 3, 4), 255, dtype=torch.uint8), mean=0.2, std=0.4)
    torch.testing.assert_close(clip, torch.full((3, 2, 3, 4), 2.0))


def test_channels_do_not_share_memory():
    clip = clips.normalise(np.zeros((1, 2, 2), np.uint8))
    clip[0] += 1
    assert (clip[1:] == -1).all()


@pytest.mark.parametrize(
    "grey", [np.zeros((2, 3, 4), np.float32), np.zeros((3, 4), np.uint8), np.zeros((3, 4), int)]
)
def test_only_uint8_frames_are_normalised(grey):
    with pytest.raises(ValueError, match="expected uint8"):
        clips.normalise(grey)


def test_a_std_of_zero_is_refused():
    with pytest.raises(ValueError, match="std is 0"):
        clips.normalise(np.zeros((1, 2, 2), np.uint8), std=0)


def test_a_row_is_loaded_as_clip_and_mask(sequences, table):
    known = clips.by_id(sequences)
    row = of(table, "ped1/Test003").iloc[1]
    clip = clips.load_clip(known, row, size=(6, 9))
    assert clip.shape == (3, 3, 6, 9)
    expected = torch.tensor([40.0, 50.0, 60.0]) / 127.5 - 1
    torch.testing.assert_close(clip[0, :, 0, 0], expected)
    mask = clips.load_mask(known, row, size=SIZE)
    assert mask.shape == (3, *SIZE)
    assert mask.dtype == bool
    assert mask.any(axis=(1, 2)).tolist() == [False, True, True]


def test_the_default_size_is_the_protocols(sequences, table):
    known = clips.by_id(sequences)
    row = of(table, "ped1/Test003").iloc[0].to_dict()
    assert clips.load_clip(known, row).shape == (3, 3, 158, 237)
    assert clips.load_mask(known, row).shape == (3, 158, 237)


@pytest.mark.parametrize("load", [clips.load_clip, clips.load_mask])
def test_an_unknown_sequence_is_refused(sequences, load):
    row = {"sequence": "ped9/Test001", "start": 0, "n_frames": 3}
    with pytest.raises(InputError, match="ped9/Test001"):
        load(clips.by_id(sequences), row)


# The dataset


def test_items_are_the_clips_and_labels_of_the_table(sequences, table):
    dataset = clips.ClipDataset(sequences, table, size=(6, 9), mean=0.4, std=0.3)
    known = clips.by_id(sequences)
    assert len(dataset) == len(table)
    np.testing.assert_array_equal(dataset.labels, table["label"])
    for i in range(len(table)):
        clip, label = dataset[i]
        expected = clips.load_clip(known, table.iloc[i], size=(6, 9), mean=0.4, std=0.3)
        torch.testing.assert_close(clip, expected)
        assert label == table["label"][i]
        assert isinstance(label, int)


def test_part_of_a_table_and_a_mapping_will_do(sequences, table):
    part = table[table["start"] == 3].sample(frac=1, random_state=0)
    dataset = clips.ClipDataset(clips.by_id(sequences), part, size=SIZE)
    for i in range(len(part)):
        assert dataset[i][0][0, 0, 0, 0] == pytest.approx(40 / 127.5 - 1)


def test_frames_are_decoded_once(sequences, table, monkeypatch):
    dataset = clips.ClipDataset(sequences, table, size=SIZE)
    monkeypatch.setattr(clips, "read_frames", lambda *_, **__: pytest.fail("decoded again"))
    for i in range(len(dataset)):
        assert torch.equal(dataset[i][0], dataset[i][0])


def test_overlapping_clips_are_cut_at_their_starts(sequences):
    table = of(clips.clip_table(sequences, n_frames=4, stride=2), "ped2/Train002")
    dataset = clips.ClipDataset(sequences, table, size=SIZE)
    grey = (dataset[1][0][0, :, 0, 0] + 1) * 127.5
    torch.testing.assert_close(grey, torch.tensor([30.0, 40.0, 50.0, 60.0]))


def test_an_empty_table_is_refused(sequences, table):
    with pytest.raises(InputError, match="no clips"):
        clips.ClipDataset(sequences, table[:0])


def test_a_table_of_another_tree_is_refused(sequences, table):
    with pytest.raises(InputError, match="not in this tree"):
        clips.ClipDataset(sequences[1:], table)


NOISE_SIZE = (48, 72)


@pytest.fixture
def textured(writer):
    """A tree of five sequences, all the same picture of noise, for augmentations to be seen."""
    noise = np.random.default_rng(0).integers(0, 256, NOISE_SIZE, dtype=np.uint8)
    for number in range(1, 6):
        folder = writer.sequence("ped2", "train", number, n_frames=4)
        for path in folder.iterdir():
            Image.fromarray(noise).save(path)
    return ucsd.index(writer.root)


def augmented(sequences, *, seed=0, **changes):
    table = clips.clip_table(sequences, n_frames=4, stride=4)
    spec = Augmentation(**({"scale": 1.25} | changes))
    return clips.ClipDataset(sequences, table, size=NOISE_SIZE, augmentation=spec, seed=seed)


def test_augmentation_keeps_shape_and_range_and_moves_all_frames_alike(textured):
    dataset = augmented(textured)
    plain = clips.ClipDataset(textured, dataset.table, size=NOISE_SIZE)
    for i in range(len(dataset)):
        clip, _ = dataset[i]
        assert clip.shape == (3, 4, *NOISE_SIZE)
        assert clip.min() >= -1
        assert clip.max() <= 1
        assert all(torch.equal(clip[:, 0], clip[:, t]) for t in range(4))
        assert not torch.equal(clip, plain[i][0])


def test_augmentations_repeat_by_seed_epoch_and_index(textured):
    first, second = augmented(textured, seed=3), augmented(textured, seed=3)
    second.set_epoch(1)
    other_epoch = [second[i][0] for i in range(5)]
    second.set_epoch(0)
    for i in reversed(range(5)):
        assert torch.equal(first[i][0], second[i][0])
        assert not torch.equal(first[i][0], other_epoch[i])
        assert not torch.equal(first[i][0], augmented(textured, seed=4)[i][0])


def test_augmentations_do_not_touch_the_global_generator(textured):
    dataset = augmented(textured)
    state = torch.get_rng_state()
    dataset[0]
    assert torch.equal(torch.get_rng_state(), state)


def test_clips_of_one_epoch_are_moved_differently(textured):
    dataset = augmented(textured)
    assert len({dataset[i][0].sum().item() for i in range(5)}) == 5
    assert torch.equal(dataset[-1][0], dataset[4][0])


def test_flip_mirrors_about_half_of_the_clips(textured):
    plain, flipped = augmented(textured), augmented(textured, flip=True)
    mirrored = 0
    for epoch in range(20):
        for dataset in (plain, flipped):
            dataset.set_epoch(epoch)
        for i in range(5):
            one, two = plain[i][0], flipped[i][0]
            assert torch.equal(one, two) or torch.equal(one.flip(-1), two)
            mirrored += not torch.equal(one, two)
    assert 30 < mirrored < 70


@pytest.mark.parametrize("n_workers", [0, 1])
def test_a_loader_with_lasting_workers_sees_the_epoch(textured, n_workers):
    dataset, expected = augmented(textured), augmented(textured)
    loader = torch.utils.data.DataLoader(
        dataset, batch_size=2, num_workers=n_workers, persistent_workers=n_workers > 0
    )
    for epoch in range(2):
        dataset.set_epoch(epoch)
        expected.set_epoch(epoch)
        batches = list(loader)
        assert [len(labels) for _, labels in batches] == [2, 2, 1]
        found = torch.cat([batch for batch, _ in batches])
        torch.testing.assert_close(found, torch.stack([expected[i][0] for i in range(5)]))


def test_groups_are_scene_and_label(sequences, table):
    dataset = clips.ClipDataset(sequences, table, size=SIZE)
    expected = [f"{row.scene} {row.label}" for row in table.itertuples()]
    assert dataset.groups.tolist() == expected
    assert len(set(expected)) > 2
