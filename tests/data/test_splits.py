import random
from collections import Counter
from types import SimpleNamespace

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vad_helpers.data import splits
from vad_helpers.errors import InputError


def make_sequences(counts):
    """Make stand-ins for sequences: `counts` of (scene, kind)."""
    return [
        SimpleNamespace(
            id=f"{scene}/{kind.capitalize()}{i:03d}", scene=scene, kind=kind, number=i, n_frames=90
        )
        for (scene, kind), count in counts.items()
        for i in range(1, count + 1)
    ]


OFFICIAL = make_sequences(
    {("ped1", "train"): 34, ("ped1", "test"): 36, ("ped2", "train"): 16, ("ped2", "test"): 12}
)
strata = st.fixed_dictionaries(
    {(scene, kind): st.integers(0, 20) for scene in ("ped1", "ped2") for kind in ("train", "test")}
)


def sizes(folds, sequences, n_folds):
    counts = Counter(folds[sequence.id] for sequence in sequences)
    return [counts[fold] for fold in range(n_folds)]


@settings(deadline=None, max_examples=60)
@given(counts=strata, n_folds=st.integers(3, 7), seed=st.integers(0, 1000))
def test_over_all_runs_every_sequence_is_tested_once_and_never_shared(counts, n_folds, seed):
    sequences = make_sequences(counts)
    if len(sequences) < n_folds:
        return
    folds = splits.assign_folds(sequences, n_folds=n_folds, seed=seed)
    tested = Counter()
    for run in range(n_folds):
        parts = {"train": set(), "val": set(), "test": set()}
        for name, fold in folds.items():
            parts[splits.split_of(fold, fold=run, n_folds=n_folds)].add(name)
        assert all(parts.values())
        assert sum(map(len, parts.values())) == len(sequences)
        assert set.union(*parts.values()) == {sequence.id for sequence in sequences}
        tested.update(parts["test"])
    assert tested == Counter({sequence.id: 1 for sequence in sequences})


@settings(deadline=None, max_examples=60)
@given(counts=strata, n_folds=st.integers(3, 7), seed=st.integers(0, 1000))
def test_folds_are_even_in_each_stratum_and_overall(counts, n_folds, seed):
    sequences = make_sequences(counts)
    if len(sequences) < n_folds:
        return
    folds = splits.assign_folds(sequences, n_folds=n_folds, seed=seed)
    groups = [[s for s in sequences if (s.scene, s.kind) == stratum] for stratum in counts]
    for group in [*groups, sequences]:
        found = sizes(folds, group, n_folds)
        assert max(found) - min(found) <= 1


def official(**lengths):
    """The real archive's sequences, by their lengths."""
    ped2 = {"train": 2550 // 16, "test": 2010 // 12}
    found = [SimpleNamespace(**vars(s)) for s in OFFICIAL]
    for s in found:
        s.n_frames = 200 if s.scene == "ped1" else ped2[s.kind]
    for kind, total in (("train", 2550), ("test", 2010)):
        side = [s for s in found if (s.scene, s.kind) == ("ped2", kind)]
        side[0].n_frames += total - sum(s.n_frames for s in side)
    return found


def test_a_part_of_the_official_archive_has_the_folds_of_the_whole():
    whole = official()
    folds = splits.assign_folds(whole)
    part = [s for s in whole if not s.id.startswith("ped1/Train") and s.number not in (6, 16)]
    part = [s for s in part if s.scene == "ped1"] + [s for s in whole if s.scene == "ped2"]
    assert 30 < len(part) < len(whole)
    assert splits.assign_folds(part) == {s.id: folds[s.id] for s in part}
    # while other videos of the same names are dealt as they are
    other = [SimpleNamespace(**{**vars(s), "n_frames": 90}) for s in part]
    assert splits.assign_folds(other) != splits.assign_folds(part)


def test_the_order_of_the_input_does_not_matter():
    shuffled = OFFICIAL.copy()
    random.Random(1).shuffle(shuffled)
    assert splits.assign_folds(iter(shuffled)) == splits.assign_folds(OFFICIAL)


def test_the_seed_decides():
    assert splits.assign_folds(OFFICIAL, seed=1) == splits.assign_folds(OFFICIAL, seed=1)
    assert splits.assign_folds(OFFICIAL, seed=1) != splits.assign_folds(OFFICIAL, seed=2)


def test_folds_do_not_follow_the_numbering():
    folds = splits.assign_folds(OFFICIAL)
    in_order = [folds[f"ped1/Test{i:03d}"] for i in range(1, 37)]
    assert in_order != [(in_order[0] + i) % 5 for i in range(36)]


@pytest.mark.parametrize("n_folds", [0, 2])
def test_too_few_folds_are_refused(n_folds):
    with pytest.raises(InputError, match="at least 3"):
        splits.assign_folds(OFFICIAL, n_folds=n_folds)


def test_fewer_sequences_than_folds_are_refused():
    with pytest.raises(InputError, match="4 sequences cannot fill 5 folds"):
        splits.assign_folds(OFFICIAL[:4])


def test_an_id_that_occurs_twice_is_refused():
    with pytest.raises(InputError, match="twice"):
        splits.assign_folds([*OFFICIAL, OFFICIAL[0]])


def test_a_run_tests_its_fold_and_validates_on_the_next():
    assert [splits.split_of(f, fold=1) for f in range(5)] == [
        "train",
        "test",
        "val",
        "train",
        "train",
    ]
    assert splits.split_of(0, fold=4) == "val"


@pytest.mark.parametrize(("given_fold", "run"), [(5, 0), (-1, 0), (0, 5), (0, -1)])
def test_a_fold_that_does_not_exist_is_refused(given_fold, run):
    with pytest.raises(InputError, match="expected 0 to 4"):
        splits.split_of(given_fold, fold=run)


# The clips that are explained


def make_table(n_sequences, *, clips=5, **columns):
    """Make a table with `clips` clips for each of `n_sequences` = {scene: count}."""
    rows = [
        {
            "clip_id": f"{scene}-Test{i:03d}-{20 * c:04d}",
            "scene": scene,
            "sequence": f"{scene}/Test{i:03d}",
            "start": 20 * c,
            "label": 1,
            "eligible": True,
            "split": "test",
        }
        for scene, count in n_sequences.items()
        for i in range(count)
        for c in range(clips)
    ]
    return pd.DataFrame(rows).assign(**columns)


def test_forty_clips_are_half_of_each_scene_and_two_a_sequence_at_most():
    chosen = splits.evaluation_clips(make_table({"ped1": 10, "ped2": 12}))
    assert chosen["scene"].value_counts().to_dict() == {"ped1": 20, "ped2": 20}
    assert chosen["sequence"].value_counts().max() == 2
    assert chosen["clip_id"].is_unique
    assert chosen.attrs["shortfall"] == 0
    assert list(chosen.index) == list(range(40))


def test_sequences_come_before_second_clips():
    chosen = splits.evaluation_clips(make_table({"ped1": 10, "ped2": 12}), n_clips=20)
    assert chosen["sequence"].is_unique
    assert chosen["scene"].value_counts().to_dict() == {"ped1": 10, "ped2": 10}


def test_a_study_chooses_the_same_clips_in_every_fold_and_from_all_of_them():
    table = make_table({"ped1": 10, "ped2": 12})
    table["fold"] = table["sequence"].str[-1].astype(int) % 5
    found = []
    for fold in range(5):
        split = [splits.split_of(f, fold=fold) for f in table["fold"]]
        chosen = splits.study_clips(table.assign(split=split))
        found.append(chosen["clip_id"].tolist())
        assert set(chosen["split"]) == {"train", "val", "test"}  # rows as they were
        assert chosen["scene"].value_counts().to_dict() == {"ped1": 20, "ped2": 20}
    assert all(ids == found[0] for ids in found)


def test_the_other_scene_fills_up_when_one_is_exhausted():
    chosen = splits.evaluation_clips(make_table({"ped1": 2, "ped2": 12}), n_clips=20)
    assert chosen["scene"].value_counts().to_dict() == {"ped1": 4, "ped2": 16}


def test_fewer_clips_than_wanted_are_counted():
    chosen = splits.evaluation_clips(make_table({"ped1": 2, "ped2": 1}), n_clips=40)
    assert len(chosen) == 6
    assert chosen.attrs["shortfall"] == 34


def test_only_anomalous_eligible_test_clips_are_chosen():
    good = make_table({"ped1": 2}, clips=2)
    bad = [
        make_table({"ped2": 3}, label=0),
        make_table({"ped2": 3}, eligible=False),
        make_table({"ped2": 3}, split="val"),
        make_table({"ped2": 3}, split="train"),
    ]
    chosen = splits.evaluation_clips(pd.concat([good, *bad]))
    assert set(chosen["clip_id"]) == set(good["clip_id"])


def test_none_available_is_an_empty_table_with_its_columns():
    table = make_table({"ped1": 2}, label=0)
    chosen = splits.evaluation_clips(table, n_clips=3)
    assert list(chosen.columns) == list(table.columns)
    assert len(chosen) == 0
    assert chosen.attrs["shortfall"] == 3


def test_the_choice_depends_on_the_seed_not_on_the_order():
    table = make_table({"ped1": 10, "ped2": 12})
    first = splits.evaluation_clips(table)
    shuffled = table.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(splits.evaluation_clips(shuffled), first)
    assert not splits.evaluation_clips(table, seed=1).equals(first)


def test_a_smaller_set_is_part_of_a_larger_one():
    table = make_table({"ped1": 3, "ped2": 12})
    larger = set(splits.evaluation_clips(table, n_clips=25)["clip_id"])
    for n_clips in range(1, 25):
        smaller = set(splits.evaluation_clips(table, n_clips=n_clips)["clip_id"])
        assert len(smaller) == n_clips
        assert smaller < larger


def test_rows_come_by_sequence_and_start():
    chosen = splits.evaluation_clips(make_table({"ped1": 4, "ped2": 4}), max_per_sequence=5)
    assert list(chosen["clip_id"]) == sorted(chosen["clip_id"])
    assert len(chosen) == 40


@pytest.mark.parametrize("option", ["n_clips", "max_per_sequence"])
def test_less_than_one_is_refused(option):
    with pytest.raises(InputError, match=f"{option} is 0"):
        splits.evaluation_clips(make_table({"ped1": 1}), **{option: 0})


# Slots


@given(counts=st.dictionaries(st.text(max_size=3), st.integers(1, 9), min_size=5, max_size=9))
def test_slots_are_dealt_evenly_whatever_sequence_they_are_of(counts):
    dealt = splits.deal_slots(counts, n_folds=5, seed=3)
    assert {name: len(part) for name, part in dealt.items()} == counts
    n_of_fold = Counter(fold for part in dealt.values() for fold in part)
    assert max(n_of_fold.values()) - min(n_of_fold[fold] for fold in range(5)) <= 1
    assert dealt == splits.deal_slots(dict(reversed(counts.items())), n_folds=5, seed=3)


def test_too_few_slots_or_folds_are_refused():
    with pytest.raises(InputError, match="4 clips cannot fill 5 folds"):
        splits.deal_slots({"a": 3, "b": 1}, n_folds=5)
    with pytest.raises(InputError, match="n_folds is 2"):
        splits.deal_slots({"a": 30}, n_folds=2)
