"""Networks trained without one part of the recipe, judged on the validation part."""

import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from benchmarks import ablation
from vad_helpers import tables
from vad_helpers.errors import InputError
from vad_helpers.run import open_run, params, steps

GIVEN = ["augmentation={flip: true}", "average=0.5", "epoch_clips=10", "methods=[ig]"]
GIVEN += ["train_stride=4", "label_smoothing=0.1", "epochs=2"]


@pytest.fixture
def run(in_project, tmp_path):
    own = dict(params.parse_override(text) for text in GIVEN)
    return open_run("tiny", run_dir=str(tmp_path / "run"), **own)


def test_each_network_differs_from_the_recipe_in_one_part_and_stays_in_its_folder(run):
    for name, changes in ablation.PARTS.items():
        other = ablation.without(run, name)
        assert other.dir.is_relative_to(run.dir)
        for key in set(vars(run.params)) - {"run_dir"}:
            own = getattr(run.params, key)
            changed = changes.get(key, own)
            merged = own | changed if key == "augmentation" else changed
            assert getattr(other.params, key) == merged


def test_lines_score_the_validation_part_alone_and_are_kept_one_by_one(run, tmp_path):
    out, given = tmp_path / "ablation.csv", [*GIVEN, f"run_dir={run.dir}"]
    ablation.main("tiny", given, ["the recipe", "no averaging of weights"], out)
    network = ablation.without(run, "no averaging of weights").path("model.safetensors")
    written = network.stat().st_mtime_ns
    ablation.main("tiny", given, ["no averaging of weights"], out)
    assert network.stat().st_mtime_ns == written  # nothing is trained twice
    table = tables.read(tmp_path, "ablation").set_index("recipe")
    assert list(table.index) == ["the recipe", "no averaging of weights"]
    assert table.loc["the recipe", "auc_difference"] == 0
    line, other = table.loc["no averaging of weights"], ablation.without(run, table.index[1])
    found, recipe = (steps.predictions(r).query("split == 'val'") for r in (other, run))
    assert line["accuracy"] == pytest.approx(((found["p"] >= 0.5) == found["label"]).mean(), 1e-5)
    assert line["auc_low"] <= line["auc"] <= line["auc_high"]
    apart = line["auc"] - roc_auc_score(recipe["label"], recipe["p"])
    assert line["auc_difference"] == pytest.approx(apart, abs=1e-5)
    assert line["auc_difference_low"] <= line["auc_difference"] <= line["auc_difference_high"]
    cuts = [line["threshold"] - 1e-6, *found["p"]]
    balanced = [balanced_accuracy_score(found["label"], found["p"] >= cut) for cut in cuts]
    assert balanced[0] >= max(balanced) - 1e-9
    epochs = steps.history(other)
    assert line["auc_last_epoch"] == pytest.approx(epochs["val_auc"].iloc[-1], 1e-5)
    assert line["epochs"] == 2 and epochs.loc[line["best_epoch"], "chosen"]


def test_a_part_that_the_recipe_lacks_is_refused_before_anything_is_trained(run, tmp_path):
    given = [*GIVEN, f"run_dir={run.dir}"]
    for part in ("early stages learn too", "random weights to start from", "nothing pasted"):
        with pytest.raises(InputError, match=f"“{part}” is this run's recipe already"):
            ablation.main("tiny", given, ["the recipe", part], tmp_path / "ablation.csv")
    with pytest.raises(InputError, match="with_validation=true"):
        blind = [*given, "with_validation=false", "keep=last"]
        ablation.main("tiny", blind, ["the recipe"], tmp_path / "ablation.csv")
    assert not run.dir.exists()
