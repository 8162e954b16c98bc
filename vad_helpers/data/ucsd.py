"""UCSD Anomaly Detection Dataset: archive -> tree -> sequences -> frames and masks.

The one door to the dataset; the synthetic walkway is written in the same layout and read through
it too. Two walkways seen by fixed cameras: Ped1 (158 x 238 pixels, people walk towards and away
from the camera) and Ped2 (240 x 360, people walk past it). Anomalies are bicycles, skaters, small
carts, wheelchairs and people off the path.

What this reader knows about the dataset, so that nobody else need:

- The lists of anomalous frames (``.m``) count from 1 and include both ends, an entry may hold
  several ranges, and entry k belongs to TestNNN with NNN = k even if other sequences are absent.
- A frame that cannot be decoded (Ped1 Test017/142.tif) is replaced by its nearest neighbour, for
  dropping it would shift every later label.
- Masks have 1 or 8 bits, and are named ``NNN.bmp`` or ``frameNNN.bmp``.
- Only ten test sequences of Ped1 have official masks; a sequence without masks is not normal.
- ``._*``, ``.DS_Store`` and ``*.m~`` are clutter.

References
----------
V. Mahadevan, W. Li, V. Bhalodia and N. Vasconcelos, "Anomaly Detection in Crowded Scenes",
IEEE Conference on Computer Vision and Pattern Recognition, 2010.
"""

from vad_helpers.data.archive import SHA256, URL, extract, fetch
from vad_helpers.data.layout import ROOT_NAME, find_root
from vad_helpers.data.report import TreeReport, check
from vad_helpers.data.tree import (
    Sequence,
    fingerprint,
    index,
    mask_presence,
    parse_ground_truth,
    read_frames,
    read_masks,
)

__all__ = [
    "ROOT_NAME",
    "SHA256",
    "URL",
    "Sequence",
    "TreeReport",
    "check",
    "extract",
    "fetch",
    "find_root",
    "fingerprint",
    "index",
    "mask_presence",
    "parse_ground_truth",
    "read_frames",
    "read_masks",
]
