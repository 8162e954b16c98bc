"""A tiny project: the real code on a synthetic dataset of seconds, not minutes."""

import contextlib
import os
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml

from vad_helpers import book, cli
from vad_helpers.attribution import METHODS
from vad_helpers.data import archive as archives
from vad_helpers.metrics.catalog import METRICS
from vad_helpers.model.i3d import InceptionI3d
from vad_helpers.run import open_run, steps

ROOT = Path(__file__).parents[1]

SIZES = {"ped1_size": [48, 72], "ped2_size": [60, 90]}
TINY = {
    "data_dir": "data/tiny",
    "walkway": {"n_train": 5, "n_test": 10, "n_frames": 32, **SIZES},
    "frame_size": [40, 60],
    "n_frames": 8,
    "stride": 8,
    "model_width": 0.1,
    "epochs": 1,
    "n_clips": 3,
    "settings": {
        "ig": {"n_steps": 4},
        "ig_smoothgrad": {"n_steps": 3, "n_samples": 2},
        "kernel_shap": {"n_segments": 12},
        "lime": {"n_segments": 12, "alpha": 1.0e-6},
        "occlusion_lp": {"window": [8, 20, 30], "stride": [8, 20, 30]},
        "occlusion_sp": {"window": [4, 20, 20], "stride": [4, 20, 20]},
    },
    "variants": {"lime_converged": {"method": "lime", "n_samples": 60}},
    "precision": "fp32",
    "n_thresholds": 10,
    "area_steps": 5,
    "n_resamples": 200,
    "runtime_repeats": 1,
}


LONG = ("book", "run")
"""Folders whose tests share what takes long to make."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deal tests to processes file by file, but those that share a book or a run to one process."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            room = nodeid.split("/")[1]
            return room if room in LONG else super()._split_scope(nodeid)

    return Scheduling(config, log)


def pytest_collection_modifyitems(items):
    """The longest first, so that all processes end at about the same time."""
    items.sort(key=lambda item: [f"tests/{room}/" not in item.nodeid for room in LONG])


@pytest.fixture(autouse=True)
def fixed_draws():
    """PyTorch draws the same in every test, and its generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def one_thread():
    """Threads only get in one another's way on networks as small as these."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def randomise():
    """Turns a network into one of float64, in evaluation, whose batch norms do something."""

    def randomised(network):
        for part in network.modules():
            if isinstance(part, torch.nn.BatchNorm3d):
                torch.nn.init.normal_(part.running_mean, std=0.3)
                torch.nn.init.uniform_(part.running_var, 0.5, 2)
                torch.nn.init.uniform_(part.weight, 0.5, 2)
                torch.nn.init.normal_(part.bias, std=0.3)
        return network.double().eval()

    return randomised


@pytest.fixture(scope="session")
def ucsd_root(tmp_path_factory):
    """The tree of the archive that VAD_UCSD_ARCHIVE names, unpacked once for all processes."""
    archive = os.environ.get("VAD_UCSD_ARCHIVE")
    if not archive:
        pytest.skip("VAD_UCSD_ARCHIVE names no UCSD archive")
    base = tmp_path_factory.getbasetemp()
    # A process of pytest-xdist has a folder of its own in that of the session.
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    return archives.fetch(shared / "ucsd", archive=archive, progress=False)


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """Folder of a project with the profile `tiny`, shared by tests that only add to it."""
    root = tmp_path_factory.mktemp("project")
    for name in ("params", "notebooks", "book", "examples", "benchmarks", "results"):
        ignore = shutil.ignore_patterns(".ipynb_checkpoints", "*.safetensors", "__pycache__")
        shutil.copytree(ROOT / name, root / name, ignore=ignore)
    for name in ("_config.yml", "_toc.yml", "CITATION.cff"):
        shutil.copy(ROOT / name, root / name)
    quick = yaml.safe_load((ROOT / "params" / "quick.yaml").read_text())
    (root / "params" / "tiny.yaml").write_text(yaml.safe_dump({**quick, **TINY}))
    return root


@pytest.fixture(scope="session")
def caffe_state():
    """Random weights of a 2-D Inception-v1 in Caffe's layout, for an I3D of the tiny project."""
    theirs = {"Conv3d_1a_7x7": "conv1_7x7_s2", "Conv3d_2b_1x1": "conv2_3x3_reduce"}
    theirs["Conv3d_2c_3x3"] = "conv2_3x3"
    branches = {"b0": "1x1", "b1a": "3x3_reduce", "b1b": "3x3"}
    branches |= {"b2a": "5x5_reduce", "b2b": "5x5", "b3b": "pool_proj"}
    for pair in "3a:3b 3b:3c 4a:4b 4b:4c 4c:4d 4d:4e 4e:4f 5a:5b 5b:5c".split():
        other, ours = pair.split(":")
        theirs |= {f"Mixed_{ours}.{k}": f"inception_{other}_{name}" for k, name in branches.items()}
    model = InceptionI3d(width=TINY["model_width"])
    generator, state = torch.Generator().manual_seed(0), {"loss3_classifier.weight": torch.ones(1)}
    for unit, name in theirs.items():
        outputs, inputs, _, *size = model.get_submodule(unit).conv3d.weight.shape
        size = (5, 5) if name.endswith("5x5") else size
        kernel = torch.randn(outputs, inputs, *size, generator=generator)
        state[f"{name}.weight"] = kernel * (2 / kernel[0].numel()) ** 0.5
        state[f"{name}.bias"] = 0.2 * torch.randn(outputs, generator=generator)
    return state


@pytest.fixture(scope="session")
def built_book(tiny_root):
    """Root of the tiny project, whose book was built from chapters executed here, and its run."""
    with contextlib.chdir(tiny_root):
        run = book.execute_all("tiny", {})
        book.build_book("tiny", {})
        book.verify_site()
    return tiny_root, run


@pytest.fixture(scope="session")
def measured(tiny_root):
    """A run of few rows that is measured to its end; tests that change it work on a copy."""
    black = {"method": "ig", "baseline": "black", "n_clips": 1}
    few = {"methods": ["ig", "lime"], "variants": {"lime_converged": None, "ig_black": black}}
    with contextlib.chdir(tiny_root):
        run = open_run("tiny", run_dir="runs/measured", n_clips=2, **few)
        steps.measure(run)
        steps.converge(run)
    return run


@pytest.fixture
def copied(measured, tmp_path):
    """Copies the measured run, without some of it, as to another machine; gives its folder."""

    def copy(*without):
        folder = tmp_path / "copy"
        shutil.copytree(measured.dir, folder, ignore=shutil.ignore_patterns(".locks", *without))
        return folder

    return copy


@pytest.fixture
def published(copied):
    """A copy of a measured run without network, maps and checkpoints: read-only."""
    return copied("*.safetensors", "attributions", "training")


@pytest.fixture(scope="module")
def chromium():
    """A real browser; modules that take it close it before another runs notebooks."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if path is None:
        pytest.skip("no Chromium: install it, or name its program in CHROMIUM")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def vad(capsys, monkeypatch):
    """Run the command in this process: (status, output, error output)."""

    def called(*arguments):
        monkeypatch.setattr(sys, "argv", ["vad", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code or 0, *capsys.readouterr()

    return called


@pytest.fixture
def as_found():
    """What is registered in the test is forgotten, or what it replaced is there again."""
    before = [(known, dict(known)) for known in (METHODS, METRICS)]
    yield
    for known, found in before:
        known.clear()
        known.update(found)


@pytest.fixture
def in_project(tiny_root, monkeypatch):
    """Work inside the tiny project."""
    monkeypatch.chdir(tiny_root)
    return tiny_root
