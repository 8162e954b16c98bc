"""The reader on a real archive: set VAD_UCSD_ARCHIVE to the path of the .tar.gz to run these."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from vad_helpers.data import clips, splits, ucsd

ARCHIVE = os.environ.get("VAD_UCSD_ARCHIVE")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not ARCHIVE, reason="VAD_UCSD_ARCHIVE names no UCSD archive"),
]


@pytest.fixture(scope="session")
def root(tmp_path_factory):
    return ucsd.fetch(tmp_path_factory.mktemp("ucsd"), archive=Path(ARCHIVE), progress=False)


@pytest.fixture(scope="session")
def sequences(root):
    return clips.by_id(ucsd.index(root))


@pytest.fixture(scope="session")
def report(root):
    return ucsd.check(root)


@pytest.fixture(scope="session")
def tables(sequences):
    return [clips.clip_table(sequences.values(), fold=fold) for fold in range(5)]


def present(sequences, scene, kind):
    return [s for s in sequences.values() if (s.scene, s.kind) == (scene, kind)]


def test_sequences_and_frames_are_counted(sequences):
    train, test = (present(sequences, "ped2", kind) for kind in ("train", "test"))
    assert (len(train), len(test)) == (16, 12)
    assert (sum(s.n_frames for s in train), sum(s.n_frames for s in test)) == (2550, 2010)
    ped1 = present(sequences, "ped1", "test")
    assert len(ped1) >= 33
    assert {s.n_frames for s in ped1} == {200}


def test_anomalous_frames_are_counted(sequences):
    ped2 = sum(s.anomalous.sum() for s in present(sequences, "ped2", "test"))
    assert ped2 == 1648
    absent = {6, 12, 16}
    ped1 = present(sequences, "ped1", "test")
    assert sum(s.anomalous.sum() for s in ped1 if s.number not in absent) == 3705


def test_labels_stay_with_their_sequence_beside_gaps(sequences):
    # Entry 29 holds two ranges, and three sequences before it may be absent.
    expected = np.zeros(200, bool)
    expected[0:15] = expected[44:113] = True
    np.testing.assert_array_equal(sequences["ped1/Test029"].anomalous, expected)


def test_the_undecodable_frame_is_repeated_from_its_neighbour(sequences):
    frames = ucsd.read_frames(sequences["ped1/Test017"])
    assert frames.shape == (200, 158, 238)
    np.testing.assert_array_equal(frames[141], frames[140])
    assert (frames[141] != frames[142]).any()


def test_the_report_names_what_is_odd(report):
    assert report.usable
    assert "UCSDped1/Test/Test017/142.tif" in report.unreadable
    assert report.stray == ()
    assert report.clutter > 0
    text = report.summary()
    assert "Test017/142.tif" in text
    assert "ped2: 16 train + 12 test sequences, 4560 frames, 1648 anomalous" in text


def test_missing_sequences_are_listed_by_name(report, sequences):
    absent = [n for n in range(1, 35) if f"ped1/Train{n:03d}" not in sequences]
    if absent == list(range(1, 35)):
        assert "UCSDped1/Train 001-034" in report.missing
        assert "UCSDped1/Test 006, 012, 016" in report.missing
        assert "ped1: 0 train + 33 test sequences, 6600 frames, 3705" in report.summary()
    else:
        assert not any("ped2" in line for line in report.missing)


def test_official_masks_agree_with_the_list_frame_by_frame(sequences):
    official = [s for s in sequences.values() if s.official_mask]
    assert [s.scene for s in official] == ["ped1"] * 10 + ["ped2"] * 12
    for sequence in official:
        np.testing.assert_array_equal(ucsd.mask_presence(sequence), sequence.anomalous)


def test_masks_are_not_trivial(sequences):
    for name in ("ped1/Test003", "ped2/Test006"):
        masks = ucsd.read_masks(sequences[name], size=(158, 237))
        assert 0.001 < masks.mean() < 0.2


def test_eligible_clips_are_counted(tables):
    eligible = tables[0][tables[0]["eligible"]]
    assert eligible["scene"].value_counts().to_dict() == {"ped1": 69, "ped2": 84}


def test_over_five_runs_forty_clips_are_found_once_each(tables):
    tested = [table[table["split"] == "test"] for table in tables]
    together = pd.concat(tested)
    assert together["clip_id"].is_unique
    assert len(together) == len(tables[0])
    chosen = splits.evaluation_clips(together)
    assert chosen["scene"].value_counts().to_dict() == {"ped1": 20, "ped2": 20}
    assert chosen.attrs["shortfall"] == 0
