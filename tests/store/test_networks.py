"""How well a study's networks did, against scikit-learn and by fold."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests import synthetic_study as synthetic
from vad_helpers.store import networks


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return synthetic.write(tmp_path_factory.mktemp("study"))


def test_performance_is_that_of_the_test_parts_alone(found):
    table = networks.performance(found).set_index(["part", "scene"])
    test = found.predictions[found.predictions["split"] == "test"]
    for fold, part in test.groupby("fold"):
        line = table.loc[f"fold {fold}", "both"]
        assert line["auc"] == pytest.approx(roc_auc_score(part["label"], part["p"]))
        assert line["accuracy"] == pytest.approx(((part["p"] >= 0.5) == part["label"]).mean())
        assert line["n_clips"] == len(part) and line["n_anomalous"] == part["label"].sum()
    pooled = table.loc["folds 0, 1", "both"]
    assert pooled["n_clips"] == len(test)
    assert pooled["auc_low"] <= pooled["auc"] <= pooled["auc_high"]
    mean = table.loc["mean over folds 0, 1", "both"]
    assert mean["auc"] == pytest.approx(table.loc[["fold 0", "fold 1"]].loc[
        (slice(None), "both"), "auc"].mean())  # fmt: skip
    assert np.isnan(mean["auc_low"])


def test_the_fold_that_the_recipe_was_tuned_on_is_left_out_apart(found):
    table = networks.performance(found).set_index("part")
    rest = table.loc["folds 0, 1 but 1"]
    assert rest["auc"] == pytest.approx(table[table["scene"] == "both"].loc["fold 0", "auc"])
    alone = found.predictions[found.predictions["fold"] == 0]
    parts = networks.performance(dataclasses.replace(found, predictions=alone))["part"]
    assert not parts.str.contains("but").any()
