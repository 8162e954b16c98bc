"""What the videos are is told by the tree, whatever the parameters call it."""

import types

import pytest

from vad_helpers import store
from vad_helpers.store import origin

PED2 = {"train": [150] * 15 + [300], "test": [167] * 11 + [173]}


def sequences(scene, kind, lengths, *, first=1):
    return [
        types.SimpleNamespace(scene=scene, kind=kind, number=first + i, n_frames=n)
        for i, n in enumerate(lengths)
    ]


PED2_WHOLE = [s for kind, lengths in PED2.items() for s in sequences("ped2", kind, lengths)]


@pytest.mark.parametrize(
    "present",
    [
        PED2_WHOLE,
        sequences("ped1", "test", [200] * 33),
        sequences("ped1", "train", [200] * 34) + PED2_WHOLE,
    ],
    ids=["ped2", "part of ped1", "both"],
)
def test_official_counts_are_recognised_also_in_part(present):
    assert origin.is_official(present)


@pytest.mark.parametrize(
    "present",
    [
        [],
        sequences("ped1", "test", [200, 180]),
        sequences("ped1", "test", [200], first=37),
        PED2_WHOLE[1:],
        sequences("ped1", "test", [200]) + sequences("ped2", "test", [64] * 12),
    ],
    ids=["none", "another length", "another number", "ped2 in part", "one scene of two"],
)
def test_anything_else_is_not_called_official(present):
    assert not origin.is_official(present)


def test_synthetic_videos_read_as_real_ones_stay_synthetic(in_project):
    run = store.open_run("tiny")
    assert origin.data_origin(run) == "walkway"
    as_real = store.open_run("tiny", dataset="ucsd", data_dir=str(store.data_root(run)))
    assert origin.data_origin(as_real) == "walkway"


def test_a_tree_without_the_mark_and_without_official_counts_is_somebodys_own(in_project, tmp_path):
    source = store.data_root(store.open_run("tiny"))
    for scene in ("UCSDped1", "UCSDped2"):
        (tmp_path / scene).symlink_to(source / scene)
    own = store.open_run("tiny", dataset="ucsd", data_dir=str(tmp_path))
    assert origin.data_origin(own) == "own"
