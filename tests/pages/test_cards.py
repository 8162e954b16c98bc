"""Facts on the cards come from the registry and the run."""

import types

import pandas as pd
import pytest

from vad_helpers.attribution import METHODS
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.pages import cards
from vad_helpers.store.row import Row

PAPER = {"ig": 30, "ig_smoothgrad": 150, "guided_backprop": 1, "gradient_shap": 5,
         "kernel_shap": 25, "lime": 25, "occlusion_lp": 61, "occlusion_sp": 4789}  # fmt: skip


@pytest.fixture
def run(monkeypatch):
    """A run with IG at half the steps, and large windows as the paper's, not timed."""
    settings = {"ig": {"n_steps": 15}, "occlusion_lp": {"window": [10, 52, 78]}}
    rows = {key: Row(key, key, "method", METHODS[key].family, key, value)
            for key, value in settings.items()}  # fmt: skip
    times = pd.DataFrame({"method": ["ig"], "metric": ["seconds"], "value": [0.25]})
    monkeypatch.setattr(cards.store, "rows", lambda run: rows)
    monkeypatch.setattr(cards.store, "runtime", lambda run: times)
    return types.SimpleNamespace(params=types.SimpleNamespace(n_frames=20, frame_size=(158, 237)))


@pytest.mark.parametrize("key", PAPER)
def test_the_paper_s_model_calls(key):
    assert cards.paper_calls(METHODS[key]) == PAPER[key]


def test_every_method_has_a_card():
    assert set(cards.CARDS) == set(METHODS)


def test_facts_tell_the_paper_s_cost_and_this_run_s(run):
    assert cards.method_facts(run, "ig") == (
        "30 forward and backward passes for the paper's clip of 20 × 158 × 237 "
        f"({cards.spell_settings(METHODS['ig'].settings)}). In this run, clips of 20 × 158 × 237: "
        "15, with `n_steps` 15, 0.25 s a clip."
    )


def test_a_setting_that_is_the_paper_s_is_no_change(run):
    text = cards.method_facts(run, "occlusion_lp")
    assert text.endswith("In this run, clips of 20 × 158 × 237: 61.")


def test_an_absent_method_is_said_to_be(run):
    assert cards.method_facts(run, "guided_backprop").endswith(". Not in this run.")


def test_the_table_links_every_method_to_its_card(run):
    table = cards.method_table(run).splitlines()
    assert len(table) == 2 + len(METHODS)
    assert table[2].startswith("| [Integrated Gradients](method-ig) `ig` | gradient | n_steps 30")
    assert table[2].endswith(" | 30 | 15 | 0.25 |")
    assert table[3].endswith("| 150 | – | – |")


def test_the_table_of_metrics_has_ranges_and_directions():
    lines = cards.metric_table().splitlines()[2:]
    assert len(lines) == len(METRICS)
    by_key = dict(zip(METRICS, lines, strict=True))
    assert "| −1 to 1 | lower |" in by_key["insertion"]
    assert "| 0 to ∞ s | lower |" in by_key["seconds"]
    assert "| – |" in by_key["mean_area"]


def test_settings_are_spelled_for_reading():
    assert cards.spell_settings({"window": (1, 2), "sigma": 1.0}) == "`window` 1 × 2, `sigma` 1"
    assert cards.spell_settings({}) == "no settings"
