"""Networks trained without one part of the recipe, judged on the validation part."""

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from vad_helpers.store import detector, publish, published

from benchmarks import ablation
from vad_helpers import store
from vad_helpers.errors import InputError


@pytest.fixture
def run(in_project, tmp_path):
    recipe = {"augmentation": {"flip": True}, "average": 0.5, "epoch_clips": 10}
    recipe |= {"train_stride": 4, "label_smoothing": 0.1}
    return store.open_run("tiny", methods=["ig"], run_dir=str(tmp_path / "run"), **recipe)


def test_each_network_differs_from_the_recipe_in_one_part_and_stays_in_its_folder(run):
    for name, changes in ablation.PARTS.items():
        other = ablation.without(run, name)
        assert other.dir.is_relative_to(run.dir)
        differing = {k for k, v in vars(run.params).items() if getattr(other.params, k) != v}
        expected = {k for k in changes if k not in ("init_weights", "early_lr")}  # not in this run
        assert differing - {"early_lr"} == expected | ({"run_dir"} if changes else set())
    keys = {detector.model_key(ablation.without(run, n)) for n in ("the recipe", "no augmentation")}
    assert len(keys) == 2


def test_a_line_scores_the_validation_part_alone(run):
    line = ablation.line(run, "no averaging of weights")
    other = ablation.without(run, "no averaging of weights")
    found = store.predictions(other)
    found = found[found["split"] == "val"]
    assert line["accuracy"] == pytest.approx(((found["p"] >= 0.5) == found["label"]).mean())
    assert line["auc_low"] <= line["auc"] <= line["auc_high"]
    last = store.history(other).iloc[-1]
    assert line["auc_last_epoch"] == last["val_auc"]
    assert other.params.average == 0 and line["epochs"] == 1 and line["best_epoch"] == 0
    recipe = store.predictions(run)
    recipe = recipe[recipe["split"] == "val"]
    apart = line["auc"] - roc_auc_score(recipe["label"], recipe["p"])
    assert line["auc_difference"] == pytest.approx(apart)
    assert line["auc_difference_low"] <= apart <= line["auc_difference_high"]
    assert ablation.line(run, "the recipe")["auc_difference"] == 0


def test_parts_are_published_one_by_one(run, tmp_path, capsys):
    store.predictions(run)
    dest = tmp_path / "results"
    publish.publish([run], dest)
    given = ["augmentation={flip: true}", "average=0.5", "epoch_clips=10", "methods=[ig]"]
    given += ["train_stride=4", "label_smoothing=0.1"]
    for part in ("the recipe", "no augmentation", "the recipe"):
        ablation.main("tiny", [*given, f"run_dir={run.dir}"], [part], dest)
    table = published.read(dest).extras["ablation"]
    assert table["recipe"].tolist() == ["no augmentation", "the recipe"]
    assert isinstance(table, pd.DataFrame) and table["auc"].between(0, 1).all()
    assert "no augmentation" in capsys.readouterr().out


def test_a_part_that_the_recipe_lacks_is_refused_before_anything_is_trained(run):
    with pytest.raises(InputError, match="“early stages learn too” is this run's recipe already"):
        ablation.check_parts(run, ablation.PARTS)
    ablation.check_parts(run, ["the recipe", "no averaging of weights", "no overlapping clips"])


def test_a_run_of_another_study_is_refused(run, tmp_path):
    store.predictions(run)
    publish.publish([run], tmp_path / "results")
    with pytest.raises(InputError, match="folds of one study differ in nothing"):
        ablation.main("tiny", [f"run_dir={run.dir}"], ["the recipe"], tmp_path / "results")
