"""The `vad` command: what it prints, and one clear line with status 2 for bad input."""

import errno
import os
import subprocess
import sys
import tarfile
from unittest.mock import Mock

import pytest
from PIL import Image

from vad_helpers import book
from vad_helpers.attribution import METHODS
from vad_helpers.data import walkway
from vad_helpers.run import steps

SMALL = {"n_train": 1, "n_test": 2, "n_frames": 32, "ped1_size": (48, 64), "ped2_size": (48, 64)}


@pytest.fixture
def refuse(vad, monkeypatch):
    """Expect status 2 and one line that holds all of `words`, before any chapter is started."""

    def refused(*arguments, words):
        monkeypatch.setattr(book, "execute", lambda *a: pytest.fail("a chapter was started"))
        status, out, err = vad(*arguments)
        assert status == 2, (out, err)
        assert err.startswith("vad: ") and err.count("\n") == 1, err
        assert all(word in err for word in words), err

    return refused


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    with tarfile.open(folder / "archive.tar.gz", "w:gz") as tar:
        tar.add(walkway.write(folder / "tree", **SMALL), arcname="UCSD_Anomaly_Dataset.v1p2")
    return folder / "archive.tar.gz"


def test_fetch_extracts_a_local_archive_and_check_finds_it_usable(vad, archive, tmp_path):
    status, out, _ = vad("data", "fetch", "--archive", archive, "--dest", tmp_path / "data")
    assert status == 0 and out.strip().endswith("UCSD_Anomaly_Dataset.v1p2")
    status, out, _ = vad("data", "check", tmp_path / "data")
    assert status == 0 and "ped1/Test001" in out and "missing" in out


def test_a_tree_without_sequences_is_neither_usable_nor_run(in_project, refuse, tmp_path):
    tree, options = tmp_path / "tree", ["--profile", "tiny", "-p", "dataset=ucsd"]
    options += ["-p", f"data_dir={tree}", "-p", f"run_dir={tmp_path}/run"]
    refuse("data", "check", tree, words=["tree"])
    for folder, words in (
        ("other", "UCSDped1"),
        ("UCSDped1/Test", "no sequence"),
        ("UCSDped1/Test/Test001", "UCSDped1.m is missing"),
    ):
        (tree / folder).mkdir(parents=True)
        refuse("data", "check", tree, words=[str(tree), words])
        refuse("run", *options, words=[str(tree)])
    assert not (tmp_path / "run").exists()


def test_walkway_writes_the_tree_of_the_seed(vad, tmp_path, monkeypatch):
    written = []
    keep = lambda dest, *, seed: written.append((dest, seed)) or dest  # noqa: E731
    monkeypatch.setattr(walkway, "write", keep)
    assert vad("data", "walkway", "--dest", tmp_path / "t", "--seed", 3)[0] == 0
    assert written == [(tmp_path / "t", 3)]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space is left"), MemoryError()])
def test_a_full_disk_or_memory_ends_with_one_line(refuse, tmp_path, monkeypatch, error):
    monkeypatch.setattr(Image.Image, "save", Mock(side_effect=error))
    dest = tmp_path / "data" / "walk"
    refuse("data", "walkway", "--dest", dest, words=["is left"])
    assert not any(dest.parent.iterdir())


def test_methods_lists_all_with_citations(vad):
    status, out, _ = vad("methods")
    assert status == 0
    for key, spec in METHODS.items():
        assert key in out and spec.citation in out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["-p", "epoch=3"], "epochs"),
        (["-p", "epochs"], "key=value"),
        (["-p", "init_weights=none.pt"], "none.pt"),
        (["-p", "dataset=ucsd", "-p", "data_dir=nowhere"], "vad data fetch"),
    ],
)
@pytest.mark.parametrize("command", ["run", "book", "measure"])
def test_bad_parameters_are_refused(in_project, refuse, command, options, word):
    refuse(command, *options, words=[word])


def test_compare_puts_runs_side_by_side_and_refuses_an_empty_folder(
    measured, copied, vad, refuse, tmp_path
):
    status, out, _ = vad("compare", measured.dir, measured.dir, "--metric", "auc")
    assert status == 0 and "human_centric" in out and "lime" in out and "iou" not in out
    refuse("compare", tmp_path, words=[str(tmp_path)])
    path = copied("attributions") / "human_centric.csv"
    path.write_bytes(path.read_bytes()[:-20])
    refuse("compare", path.parent, words=["human_centric.csv"])


def test_a_dry_run_lists_what_is_left_and_starts_nothing(in_project, vad, tmp_path):
    fresh = ["--profile", "tiny", "--dry-run", "-p", f"run_dir={tmp_path}/new"]
    status, out, _ = vad("run", *fresh)
    assert status == 0 and "occlusion_sp" in out
    assert not (tmp_path / "new" / "model.safetensors").exists()


def test_output_that_cannot_hold_a_paths_letters_is_spelled_out(archive, tmp_path):
    command = [sys.executable, "-c", "from vad_helpers.cli import main; main()", "data", "fetch"]
    command += ["--archive", str(archive), "--dest", str(tmp_path / "práce")]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and "Traceback" not in done.stderr
    assert "pr\\xe1ce" in done.stdout


def test_a_part_of_a_run_is_measured_and_its_convergence(in_project, vad, monkeypatch):
    seen = []
    for name in ("measure", "converge"):
        monkeypatch.setattr(steps, name, lambda run, *, part, progress: seen.append(part))
    assert vad("measure", "--profile", "tiny", "--part", "2/3")[0] == 0 and seen == [(2, 3)] * 2


@pytest.mark.parametrize("part", ["2", "0/2", "3/2", "a/2", "1/", "-1/2", "1/2/3"])
def test_a_part_that_makes_no_sense_is_refused(in_project, refuse, part):
    refuse("measure", "--profile", "tiny", "--part", part, words=[f"'{part}'", "K/N"])
