"""Lessons on samples and seconds come out either way, as the data say."""

import dataclasses

import pandas as pd
import pytest

from tests import synthetic_study as synthetic
from vad_helpers.pages import spending
from vad_helpers.store import published


@pytest.fixture
def write(tmp_path):
    return lambda means=None, **options: synthetic.write(tmp_path / "ucsd", means, **options)


def test_more_samples_are_advised_only_where_they_change_something(write):
    found = synthetic.moved(write(), "human_centric", ["lime_converged"], "auc", 0.99)
    text = spending.converged(found)
    assert "Sample until two seeds agree" in text and "LIME 0.799 → 0.990, rank 1 → 1" in text
    same = found.human_centric
    lime = same[same["method"] == "lime"].assign(method="lime_converged")
    ks = same[same["method"] == "kernel_shap"].assign(method="kernel_shap_converged")
    rest = same[~same["method"].str.endswith("_converged")]
    tables = {name: getattr(found, name) for name in published.TABLES}
    tables["human_centric"] = pd.concat([rest, lime, ks])
    found = published.Published(folder=found.folder, manifest=found.manifest, **tables)
    assert "the intervals show no change" in spending.converged(found)


def test_the_cheapest_of_the_equally_good_is_named(write):
    assert "none that took less (" in spending.cheapest(write())
    equal = write(synthetic.level_out(synthetic.HOLD))
    text = spending.cheapest(synthetic.moved(equal, "human_centric", ["occlusion_sp"], "auc", 0.51))
    assert text.startswith("**Cost.** GUIDED_BACKPROP (0.") and "is not told apart" in text
    assert "which is ahead by 0.0" in text and " in fp32" not in text


def test_seconds_name_their_precision_where_rows_differ_in_it(write):
    found = write(synthetic.level_out(synthetic.HOLD))
    found = synthetic.moved(found, "human_centric", ["occlusion_sp"], "auc", 0.51)
    cheap = found.explanations["method"].eq("guided_backprop")
    mixed = found.explanations.assign(precision=cheap.map({True: "bf16", False: "fp32"}))
    text = spending.cheapest(dataclasses.replace(found, explanations=mixed))
    assert " s in bf16 a clip)" in text and " s in fp32)" in text


def test_whether_seeds_agree_is_read_from_the_check_and_not_assumed(write):
    found = write()
    assert "was not checked" in spending.converged(found)
    check = pd.DataFrame({
        "fold": 0, "clip_id": "c", "method": "lime", "n_samples": [25, 50],
        "correlation": [0.5, 0.8], "converged": [False, False],
    })  # fmt: skip
    seen = "(LIME 0.800 at 50)"
    for agrees, words in ((False, f"in 0 of 1 checks {seen}: in the others it is not enough. With"),
                          (True, f"in 1 of 1 checks {seen}: it is enough where")):  # fmt: skip
        last = check.assign(converged=[False, agrees])
        checked = dataclasses.replace(found, extras={"convergence": last})
        assert words in spending.converged(checked)
        assert "With few samples: LIME 0.500 at 25." in spending.converged(checked)


def test_every_row_of_many_more_samples_says_how_often_its_seeds_agree(write):
    found = write()
    assert spending.seeds(found, "lime_converged") == ""  # not checked
    check = pd.DataFrame({
        "fold": [0, 0, 0, 1, 0], "clip_id": ["c", "c", "d", "c", "c"],
        "method": ["lime"] * 4 + ["kernel_shap"], "n_samples": [25, 50, 50, 50, 1600],
        "correlation": 0.9, "converged": [False, True, False, True, False],
    })  # fmt: skip
    found = dataclasses.replace(found, extras={"convergence": check})
    assert spending.seeds(found, "lime_converged") == "two seeds agree in 2 of 3 checks"
    assert spending.seeds(found, "kernel_shap_converged") == "two seeds agree in 0 of 1 checks"
    assert spending.seeds(found, "lime") == ""  # its few samples are what the doubling starts from
    alone = check[check["method"] == "lime"]
    found = dataclasses.replace(found, extras={"convergence": alone})
    assert spending.seeds(found, "kernel_shap_converged") == ""
