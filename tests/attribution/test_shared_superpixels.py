"""Superpixels that were found before, for another method on the same clip."""

import numpy as np
import pytest

from vad_helpers.attribution import attribute, explain, superpixels
from vad_helpers.errors import InputError


def quarters(shape=(4, 10, 12)):
    """Four labels by rows and columns."""
    _, rows, columns = np.indices(shape)
    return 2 * (rows >= shape[1] // 2) + (columns >= shape[2] // 2)


@pytest.mark.parametrize("key", ["lime", "kernel_shap"])
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_given_superpixels_are_used(key, kind, tiny_net, make_clip, small_settings):
    labels = quarters().astype(kind)
    done = attribute(tiny_net, make_clip(), key, segments=labels, **small_settings[key])
    assert done.info["n_segments"] == 4 and done.superpixel_seconds == 0
    values = [np.unique(done.map[labels == one]) for one in range(4)]
    assert [len(one) for one in values] == [1] * 4
    assert len(np.unique(np.concatenate(values))) > 1


@pytest.mark.parametrize("key", ["lime", "kernel_shap"])
def test_given_superpixels_replace_those_that_would_be_found(
    key, tiny_net, make_clip, small_settings
):
    clip = make_clip()
    settings = {**small_settings[key], "compactness": 5.0}
    labels = superpixels.slic(clip, n_segments=settings["n_segments"], compactness=5.0)
    found = explain(tiny_net, clip, key, segments=labels, **settings)
    np.testing.assert_array_equal(found, explain(tiny_net, clip, key, **settings))


@pytest.mark.parametrize("key", ["lime", "kernel_shap"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (quarters((4, 10, 13)), "segments has shape \\(4, 10, 13\\)"),
        (quarters()[0], "segments has shape \\(10, 12\\)"),
        (quarters().astype(float), "float64; give integers \\(4, 10, 12\\)"),
        (quarters() > 0, "bool; give integers"),
        (quarters() + 1, "labels 1 to 4; number them without gaps"),
        (quarters() - 1, "labels -1 to 2"),
        (3 * quarters(), "labels 0 to 9; number them without gaps"),
    ],
)
def test_superpixels_that_do_not_fit_are_refused(key, labels, message, tiny_net, make_clip):
    with pytest.raises(InputError, match=message):
        explain(tiny_net, make_clip(), key, segments=labels)


def test_methods_without_superpixels_do_not_look_at_them(tiny_net, make_clip):
    found, expected = (
        explain(tiny_net, make_clip(), "ig", n_steps=2, segments=labels) for labels in ("?", None)
    )
    np.testing.assert_array_equal(found, expected)
