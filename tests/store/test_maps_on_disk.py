"""Maps on a disk that is full."""

import numpy as np
import pytest

from vad_helpers.attribution.spec import Explanation
from vad_helpers.store import maps
from vad_helpers.store.row import Row


def test_a_full_disk_is_an_os_error_and_leaves_no_half_of_a_map(tmp_path, full_disk):
    path = tmp_path / "maps" / "clip.safetensors"
    found = Explanation(np.ones((8, 40, 60)), 1, 0.0, 0.0, 0.0, {})
    row = Row("ig", "IG", "method", "gradient", "ig")
    with full_disk(10_000), pytest.raises(OSError, match="File too large"):
        maps.write_map(path, found, key="k", row=row)
    assert list(path.parent.iterdir()) == []
    maps.write_map(path, found, key="k", row=row)  # the disk was the reason
    np.testing.assert_array_equal(maps.read_map(path)[0], found.map)
