"""Small trees in the UCSD layout: 12 x 18 pixels, a few frames a sequence."""

import numpy as np
import pytest
from PIL import Image

from vad_helpers.data.ucsd import ROOT_NAME

SIZE = (12, 18)


class TreeWriter:
    """Writes sequences, masks and lists under `root`; frame i (from 1) has grey level 10 i."""

    def __init__(self, root):
        self.root = root
        self.root.mkdir()

    def folder(self, scene, kind, number, suffix=""):
        side = kind.capitalize()
        folder = self.root / f"UCSD{scene}" / side / f"{side}{number:03d}{suffix}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def sequence(self, scene, kind, number, *, n_frames=6):
        folder = self.folder(scene, kind, number)
        for i in range(1, n_frames + 1):
            Image.fromarray(np.full(SIZE, 10 * i, np.uint8)).save(folder / f"{i:03d}.tif")
        return folder

    def masks(self, scene, number, anomalous, *, bits=8, name=""):
        """Mask of frame i in `anomalous`: a 3 x 4 box whose left column is i."""
        folder = self.folder(scene, "test", number, "_gt")
        for i in range(1, 7):
            mask = np.zeros(SIZE, np.uint8)
            if i in anomalous:
                mask[2:5, i : i + 4] = 255
            Image.fromarray(mask > 0 if bits == 1 else mask).save(folder / f"{name}{i:03d}.bmp")

    def truth(self, scene, *entries):
        """Write the `.m` list: one string such as "2:3, 5:6" for each entry."""
        path = self.root / f"UCSD{scene}" / "Test" / f"UCSD{scene}.m"
        lines = [f"TestVideoFile{{end+1}}.gt_frame = [{entry}];" for entry in entries]
        path.write_text("\n".join(["TestVideoFile = {};", *lines]) + "\n")
        return path


@pytest.fixture
def writer(tmp_path):
    """An empty tree to write to."""
    return TreeWriter(tmp_path / ROOT_NAME)


@pytest.fixture
def tree(writer):
    """A partial tree with the dataset's quirks.

    ped1: Test003 (official masks, 1-bit, anomalous 2:3 and 5:6), Test005 (extra masks that
    disagree with the list on frames 1 and 2), Test006 (no masks, anomalous). ped2: Train001,
    Train002, Test001 (official masks, frameNNN.bmp, anomalous 1:6), Test002 (normal).
    """
    for number in (3, 5, 6):
        writer.sequence("ped1", "test", number)
    writer.masks("ped1", 3, {2, 3, 5, 6}, bits=1)
    writer.masks("ped1", 5, {2, 3, 4})
    writer.truth("ped1", "", "1:400", "2:3, 5:6", "", "1:1, 3:4", "4:6")
    writer.sequence("ped2", "train", 1)
    writer.sequence("ped2", "train", 2, n_frames=8)
    writer.sequence("ped2", "test", 1)
    writer.sequence("ped2", "test", 2)
    writer.masks("ped2", 1, {1, 2, 3, 4, 5, 6}, name="frame")
    writer.masks("ped2", 2, set())
    writer.truth("ped2", "1:6", "")
    for clutter in ("._README.txt", ".DS_Store", "UCSDped1/Test/UCSDped1.m~"):
        (writer.root / clutter).write_text("clutter")
    (writer.folder("ped1", "test", 3) / "._001.tif").write_text("clutter")
    return writer
