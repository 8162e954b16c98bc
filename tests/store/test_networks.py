"""How well a study's networks did, against scikit-learn and by fold."""

import dataclasses

import numpy as np
import pandas as pd
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
    assert mean["n_clips"] == len(test)


def test_every_scene_has_a_mean_over_folds(found):
    table = networks.performance(found)
    for scene in ("ped1", "ped2"):
        part = table[table["scene"] == scene].set_index("part")
        folds = part[part.index.str.startswith("fold ")]
        line = part.loc["mean over folds 0, 1"]
        for metric in ("accuracy", "auc"):
            assert line[metric] == pytest.approx(folds[metric].mean())


def test_networks_trained_again_stand_beside_the_study_s_own(found):
    assert networks.trained_again(found).empty
    table = networks.trained_again(synthetic.with_replaced(found, fold=1))
    assert table["network"].tolist() == ["earlier", found.manifest["folds"]["1"]["weights_sha256"]]
    assert table["in_study"].tolist() == [False, True] and set(table["part"]) == {"fold 1"}
    assert table["device"][0] == "elsewhere"
    own = networks.performance(found).set_index(["part", "scene"]).loc["fold 1", "both"]
    assert table["auc"].tolist() == [pytest.approx(1 - own["auc"]), own["auc"]]


def chancy(n_sequences=10):
    """Clips whose labels the probabilities say little of; sequences differ."""
    rng = np.random.default_rng(0)
    table = synthetic.predictions(n_sequences, separation=0.3)
    level = table["sequence"].map(dict(zip(table["sequence"].unique(), rng.random(n_sequences),
                                           strict=True)))  # fmt: skip
    return table.assign(p=(table["p"] + level) / 2)


def test_the_mean_over_folds_draws_sequences_within_each_fold(found):
    found = dataclasses.replace(found, predictions=chancy())
    line = networks.performance(found).set_index(["part", "scene"]).loc[
        "mean over folds 0, 1", "both"]  # fmt: skip
    test = found.predictions[found.predictions["split"] == "test"]
    rng, means = np.random.default_rng(1), []
    for _ in range(400):
        aucs = []
        for _, part in test.groupby("fold"):
            clips = dict(list(part.groupby("sequence")))
            drawn = pd.concat([clips[name] for name in rng.choice(list(clips), len(clips))])
            aucs.append(roc_auc_score(drawn["label"], drawn["p"]))
        means.append(np.mean(aucs))
    by_hand = np.quantile(means, [0.025, 0.975])
    assert (line["auc_low"], line["auc_high"]) == pytest.approx(by_hand, abs=0.03)
    assert line["accuracy_low"] < line["accuracy"] < line["accuracy_high"]


def test_one_fold_has_the_same_auc_and_nearly_the_same_interval_alone_or_as_a_mean(found):
    predictions = chancy()
    found = dataclasses.replace(found, predictions=predictions[predictions["fold"] == 0])
    table = networks.performance(found).set_index(["part", "scene"])
    alone, mean = table.loc["fold 0", "both"], table.loc["mean over folds 0", "both"]
    for name in ("auc", "auc_low", "auc_high", "accuracy", "accuracy_low", "accuracy_high"):
        assert mean[name] == pytest.approx(alone[name], abs=0.03), name
    assert mean["auc"] == pytest.approx(alone["auc"])


def test_a_fold_of_one_class_is_left_out_of_the_mean_and_one_sequence_has_no_interval(found):
    predictions = found.predictions
    normal = predictions["fold"].eq(0)
    one_class = dataclasses.replace(
        found, predictions=predictions[~normal | predictions.label.eq(0)]
    )
    table = networks.performance(one_class).set_index(["part", "scene"])
    mean, other = table.loc["mean over folds 0, 1", "both"], table.loc["fold 1", "both"]
    assert mean["auc"] == pytest.approx(other["auc"]) and not np.isnan(mean["auc_low"])
    first = predictions[predictions["fold"] == 0]["sequence"].iloc[0]
    single = dataclasses.replace(
        found, predictions=predictions[~normal | predictions.sequence.eq(first)]
    )
    line = (
        networks.performance(single)
        .set_index(["part", "scene"])
        .loc["mean over folds 0, 1", "both"]
    )
    assert np.isnan(line["auc_low"]) and not np.isnan(line["auc"])


def test_the_fold_that_the_recipe_was_tuned_on_is_left_out_apart(found):
    table = networks.performance(found).set_index("part")
    rest = table.loc["folds 0, 1 but fold 1"]
    assert rest["auc"] == pytest.approx(table[table["scene"] == "both"].loc["fold 0", "auc"])
    alone = found.predictions[found.predictions["fold"] == 0]
    parts = networks.performance(dataclasses.replace(found, predictions=alone))["part"]
    assert not parts.str.contains("but").any()
