"""A small run that is measured once; tests that change it work on a copy."""

import contextlib
import shutil

import pytest

from vad_helpers.run import open_run, steps

FEW = {
    "methods": ["ig", "lime"],
    "n_clips": 2,
    "variants": {
        "lime_converged": None,
        "ig_black": {"method": "ig", "baseline": "black", "n_clips": 1},
    },
}


@pytest.fixture(autouse=True)
def _in_project(tiny_root, monkeypatch):
    monkeypatch.chdir(tiny_root)


@pytest.fixture(scope="session")
def few(tiny_root):
    """A measured run of few rows; not to be changed."""
    with contextlib.chdir(tiny_root):
        run = open_run("tiny", run_dir="runs/few", **FEW)
        steps.measure(run)
        steps.converge(run)
    return run


@pytest.fixture
def copied(few, tmp_path):
    """Copies the measured run, without some of it, as to another machine; gives its folder."""

    def copy(*without):
        folder = tmp_path / "copy"
        shutil.copytree(few.dir, folder, ignore=shutil.ignore_patterns(".locks", *without))
        return folder

    return copy


@pytest.fixture
def weights(few):
    """Path of the measured run's network."""
    return str(few.path("model.safetensors"))
