"""The walkway's folder and key by seed and options, and the clip that stands for videos."""

import numpy as np

from vad_helpers.data import datasets, ucsd

FEW = {"ped1_size": [48, 72], "ped2_size": [48, 72], "n_train": 0, "n_test": 1, "n_frames": 32}


def test_the_walkway_is_written_to_a_folder_named_by_seed_and_options(tmp_path):
    names = {
        datasets.walkway_folder(tmp_path / "small", seed=seed, options=options).name
        for seed, options in ((0, FEW), (1, FEW), (0, {}))
    }
    assert len(names) == 3 and all(name.startswith("small-") for name in names)
    root = datasets.write_walkway(tmp_path / "small", seed=1, options=FEW)
    assert root == datasets.walkway_folder(tmp_path / "small", seed=1, options=FEW)
    assert len(ucsd.index(root)) == 2


def test_the_key_is_that_of_the_content(tree, tmp_path):
    key = datasets.content_key("walkway", tmp_path / "absent", seed=1, options=FEW)
    assert key.startswith("walkway-") and not (tmp_path / "absent").exists()
    assert key != datasets.content_key("walkway", tmp_path / "absent", seed=2, options=FEW)
    key = datasets.content_key("ucsd", tree.root.parent, seed=1, options={})
    assert key == f"ucsd-{ucsd.fingerprint(tree.root)}"


def test_the_example_shows_its_anomaly():
    clip_id, frames, mask = datasets.example_clip()
    assert clip_id.startswith("walkway-ped1-Test001-0")
    assert frames.shape == mask.shape == (16, 120, 180)
    assert frames.dtype == np.uint8 and mask.any(axis=(1, 2)).all()
