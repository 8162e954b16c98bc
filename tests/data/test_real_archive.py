"""The reader on a real archive: set VAD_UCSD_ARCHIVE to the path of the .tar.gz to run these."""

import numpy as np
import pandas as pd
import pytest

from vad_helpers.data import clips, ucsd

pytestmark = pytest.mark.slow
# Frames on which the extra masks of Ped1 disagree with the list; the official ones never do.
DISAGREEMENTS = {1: 11, 5: 49, 6: 9, 8: 1, 9: 10, 10: 43, 11: 53, 13: 28, 17: 37}

DAMAGED = (
    *("Test003/080.tif (garbage)", "Test010/065.tif (garbage)", "Test012/107.tif (garbage)"),
    "Test017/142.tif",
)


@pytest.fixture(scope="module")
def sequences(ucsd_root):
    return clips.by_id(ucsd.index(ucsd_root))


def test_sequences_frames_and_labels_are_counted(sequences):
    sides = {side: [] for side in ucsd.N_OFFICIAL}
    for s in sequences.values():
        sides[s.scene, s.kind].append(s)
    assert {side: len(found) for side, found in sides.items()} == ucsd.N_OFFICIAL
    assert [sum(s.n_frames for s in found) for found in sides.values()] == [6800, 7200, 2550, 2010]
    assert [sum(s.anomalous.sum() for s in found) for found in sides.values()] == [0, 4045, 0, 1648]
    assert ucsd.is_official(sequences.values())
    # Entry 29 holds two ranges.
    expected = np.zeros(200, bool)
    expected[0:15] = expected[44:113] = True
    np.testing.assert_array_equal(sequences["ped1/Test029"].anomalous, expected)
    official = [s.scene for s in sequences.values() if s.official_mask]
    assert official == ["ped1"] * 10 + ["ped2"] * 12
    for name in ("ped1/Test003", "ped2/Test006"):
        assert 0.001 < ucsd.read_masks(sequences[name], size=(158, 237)).mean() < 0.2


def test_the_report_names_what_is_odd(ucsd_root, capfd):
    report = ucsd.check(ucsd_root)
    assert report.usable
    assert report.unreadable == tuple(f"UCSDped1/Test/{name}" for name in DAMAGED)
    official = report.table.set_index("sequence")["official"]
    assert (official[[f"ped1/{name[:7]}" for name in DAMAGED]] > 0).all()
    assert report.stray == () == report.missing
    assert report.clutter > 0
    found = report.table[report.table["masks"] > 0].set_index("sequence")["disagreements"]
    assert len(found) == 24 + 12
    expected = {f"ped1/Test{number:03d}": n for number, n in DISAGREEMENTS.items()}
    assert found[found > 0].to_dict() == expected
    assert capfd.readouterr().err == ""


def test_over_five_runs_forty_eligible_clips_are_found_once_each(sequences):
    tables = [clips.clip_table(sequences.values(), fold=fold) for fold in range(5)]
    eligible = tables[0][tables[0]["eligible"]]
    assert eligible["scene"].value_counts().to_dict() == {"ped1": 69, "ped2": 84}
    together = pd.concat([table[table["split"] == "test"] for table in tables])
    assert together["clip_id"].is_unique
    assert len(together) == len(tables[0])
    chosen = clips.evaluation_clips(together)
    assert chosen["scene"].value_counts().to_dict() == {"ped1": 20, "ped2": 20}
    assert set(chosen["clip_id"]) == set(clips.study_clips(tables[0])["clip_id"])
