"""Probabilities of a run are found again by other code, which notices what was changed."""

import ast
import contextlib
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from benchmarks import recheck
from vad_helpers.data import clips, ucsd
from vad_helpers.model import weights
from vad_helpers.run import experiment, open_run, steps


@pytest.fixture(scope="module")
def study(tiny_root, tmp_path_factory):
    """Options of a run on the synthetic videos, with its network in float16 as it is published."""
    folder = tmp_path_factory.mktemp("recheck")
    half = folder / "half.safetensors"
    with contextlib.chdir(tiny_root):
        # Not 5/6 of the videos' size, at which many levels end in a half that may go either way.
        own = {"run_dir": str(folder / "run"), "methods": ["ig"], "frame_size": [41, 61]}
        run = open_run("tiny", **own)
        steps.predictions(run)
    weights.save(steps.network(run), half, half=True)
    return {"tree": experiment.data_root(run), "results": run.dir, "weights": half}


def ask(**options):
    app = typer.Typer()
    app.command()(recheck.main)
    return CliRunner().invoke(app, [t for k, v in options.items() for t in (f"--{k}", str(v))])


def test_a_run_is_found_again(study):
    told = ask(**study)
    assert told.exit_code == 0 and told.output.endswith("agrees\n")
    largest = float(re.search(r"largest ([\d.]+)", told.output)[1])
    assert largest < 1e-3  # some levels are halves still
    found = pd.read_csv(study["results"] / "predictions.csv").query("split == 'test'")
    assert found["p"].max() - found["p"].min() > 1e-3  # agreement says something
    right = ((found["p"] >= 0.5) == found["label"]).sum()
    auc = f"AUC {roc_auc_score(found['label'], found['p']):.4f}"
    for line in told.output.splitlines()[-3:-1]:
        assert f"({right} right)" in line and auc in line


def flip(n):
    """Call `n` clips wrongly that are called rightly."""

    def change(table):
        right = table[(table["split"] == "test") & ((table["p"] >= 0.5) == table["label"])]
        table.loc[right.index[:n], "p"] = 1 - right["p"][:n]

    return change


def shift(table):
    table["p"] = (table["p"] - 0.02).abs()


def swap(table):
    first = table.groupby("label").head(1).index
    table.loc[first, "label"] = 1 - table.loc[first, "label"]


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("predictions", flip(1), "agrees"),
        ("predictions", flip(2), r"differs: \d+ clips are right here, \d+ as published"),
        ("predictions", shift, "differs: the median difference is 0.02"),
        ("predictions", swap, "differs: 2 labels of predictions.csv"),
        ("clips", swap, "differs: 2 labels of clips.csv"),
    ],
)
def test_what_was_changed_is_noticed(study, tmp_path, name, change, says):
    folder = shutil.copytree(study["results"], tmp_path / "run")
    table = pd.read_csv(folder / f"{name}.csv")
    change(table)
    table.to_csv(folder / f"{name}.csv", index=False)
    told = ask(**study | {"results": folder})
    assert re.search(says, told.output)
    assert told.exit_code == (0 if says == "agrees" else 1)


def test_frames_are_those_of_the_package_a_damaged_one_as_well(study, tmp_path):
    tree = shutil.copytree(study["tree"], tmp_path / "tree")
    for number in (1, 12, 13):
        damaged = tree / f"UCSDped2/Test/Test003/{number:03d}.tif"
        damaged.write_bytes(damaged.read_bytes()[:500])
    by_id = clips.by_id(ucsd.index(tree))
    for start in (0, 8):
        clip = {"scene": "ped2", "sequence": "ped2/Test003", "start": start, "n_frames": 8}
        for size in ((41, 61), (60, 90)):
            expected = clips.load_clip(by_id, clip, size=size, mean=0, std=1)[0] * 255
            found = recheck.read_grey(tree, clip, size)
            np.testing.assert_allclose(found, expected, atol=1.01)  # where halves are rounded
            assert (found - expected).abs().mean() < 0.01


def test_ranges_count_from_one_and_include_both_ends(tmp_path):
    path = tmp_path / "UCSDped1/Test/UCSDped1.m"
    path.parent.mkdir(parents=True)
    lines = ["TestVideoFile = {};", *("TestVideoFile{end+1}.gt_frame = [%s];",) * 2]
    path.write_text("\n".join(lines) % ("60:152", "5:90, 140:200"))
    ranges = recheck.anomalous_ranges(tmp_path)
    assert ranges == {"ped1/Test001": [(60, 152)], "ped1/Test002": [(5, 90), (140, 200)]}
    # From 0: frames 5 to 90 are 4 to 89.
    for start, label in {0: 0, 1: 1, 89: 1, 90: 0, 135: 0, 136: 1}.items():
        clip = {"sequence": "ped1/Test002", "start": start, "n_frames": 4}
        assert recheck.label_of(clip, ranges) == label
    assert recheck.label_of(clip | {"sequence": "ped1/Train002"}, ranges) == 0
    assert recheck.label_of(clip | {"sequence": "ped1/Test003"}, ranges) is None


def test_nothing_of_this_package_is_used_but_the_network():
    nodes = ast.walk(ast.parse(Path(recheck.__file__).read_text(encoding="utf-8")))
    names = {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert {n for n in names if n.startswith("vad")} == {"vad_helpers.model.i3d"}
