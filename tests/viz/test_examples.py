import types

import numpy as np
import pandas as pd
import pytest
import torch

from vad_helpers.viz import examples

SHAPE = (4, 8, 12)


@pytest.fixture
def run(monkeypatch):
    """A run whose store is made of arrays."""
    mask = np.zeros(SHAPE, dtype=bool)
    mask[2, 2:4, 3:6] = True
    evaluated = pd.DataFrame({"scene": ["ped2", "ped1", "ped1"], "clip_id": ["c", "a", "b"]})
    rows = {
        key: types.SimpleNamespace(key=key, label=key.upper(), kind=kind)
        for key, kind in (("ig", "method"), ("lime", "method"), ("random", "reference"))
    }
    rng = np.random.default_rng(0)
    monkeypatch.setattr(examples.store, "evaluation", lambda run: evaluated)
    monkeypatch.setattr(examples.store, "mask", lambda run, clip_id: mask)
    monkeypatch.setattr(examples.store, "frames", lambda run, clip_id: rng.random(SHAPE))
    monkeypatch.setattr(
        examples.store, "attribution", lambda run, clip_id, row: rng.standard_normal(SHAPE)
    )
    monkeypatch.setattr(examples.store, "clip", lambda run, clip_id: torch.ones(3, *SHAPE))
    monkeypatch.setattr(examples.store, "baseline", lambda run, clip_id: torch.zeros(3, *SHAPE))
    monkeypatch.setattr(
        examples, "predictor", lambda run: lambda batch: batch.mean((1, 2, 3, 4)) * 0.8 + 0.1
    )
    monkeypatch.setattr("vad_helpers.store.row.rows", lambda run: rows)
    return types.SimpleNamespace(params=types.SimpleNamespace(frame_size=[8, 12]))


def test_the_first_evaluated_clip_of_each_scene_is_shown(run):
    assert examples.shown_clips(run) == {"ped1": "a", "ped2": "c"}


def test_figure_one_has_a_block_a_scene_and_a_tile_a_method(run):
    figure = examples.figure_one(run)
    blocks = figure.subfigs
    headings = [block.get_suptitle() for block in blocks]
    assert [text.partition(",")[0] for text in headings] == ["ped1: clip a", "ped2: clip c"]
    assert headings[0].endswith("p(x) = 0.900, p(x_b) = 0.100")
    titles = [ax.get_title() for ax in blocks[0].axes if ax.get_title()]
    assert titles == ["frame 3 and its mask", "IG", "LIME"]
    figure.canvas.draw()


def test_probabilities_are_those_of_the_clip_and_of_its_baseline(run):
    assert examples.probabilities(run, "a") == pytest.approx((0.9, 0.1))
