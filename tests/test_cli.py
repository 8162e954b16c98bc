"""The `vad` command: what it prints, and one clear line with status 2 for bad input."""

import errno
import io
import os
import subprocess
import sys
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from vad_helpers import cli, pipeline, store
from vad_helpers.attribution import METHODS
from vad_helpers.data import walkway
from vad_helpers.errors import InputError
from vad_helpers.model import weights
from vad_helpers.model.i3d import InceptionI3d

SMALL = {"n_train": 5, "n_test": 5, "n_frames": 32, "ped1_size": (48, 64), "ped2_size": (48, 64)}


def vad(capsys, monkeypatch, *arguments):
    """Run the command in this process: (status, output, error output)."""
    monkeypatch.setattr(sys, "argv", ["vad", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    printed = capsys.readouterr()
    return ended.value.code or 0, printed.out, printed.err


@pytest.fixture
def call(capsys, monkeypatch):
    return lambda *arguments: vad(capsys, monkeypatch, *arguments)


@pytest.fixture
def refuse(call):
    """Expect status 2 and one line that holds all of `words`."""

    def refused(*arguments, words):
        status, out, err = call(*arguments)
        assert status == 2, (out, err)
        assert err.startswith("vad: ") and err.count("\n") == 1, err
        assert all(word in err for word in words), err

    return refused


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    return walkway.write(tmp_path_factory.mktemp("small") / "tree", **SMALL)


@pytest.fixture
def archive(tree, tmp_path):
    path = tmp_path / "archive.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        tar.add(tree, arcname="UCSD_Anomaly_Dataset.v1p2")
    return path


def test_every_command_has_help():
    for words in ([], ["data"], ["data", "fetch"], ["data", "check"], ["data", "walkway"]):
        subprocess.run([*_vad(), *words, "--help"], check=True, capture_output=True)
    for name in ("run", "book", "methods", "compare"):
        done = subprocess.run([*_vad(), name, "--help"], check=True, capture_output=True, text=True)
        assert f" {name} [OPTIONS]" in done.stdout


def _vad():
    return [sys.executable, "-c", "from vad_helpers.cli import main; main()"]


def test_fetch_extracts_a_local_archive_and_check_finds_it_usable(call, archive, tmp_path):
    status, out, _ = call("data", "fetch", "--archive", archive, "--dest", tmp_path / "data")
    assert status == 0 and out.strip().endswith("UCSD_Anomaly_Dataset.v1p2")
    status, out, _ = call("data", "check", tmp_path / "data")
    assert status == 0 and "ped1/Test001" in out and "missing" in out


def test_a_wrong_checksum_is_refused_and_nothing_written(refuse, archive, tmp_path):
    dest = tmp_path / "data"
    options = ("--archive", archive, "--sha256", "0" * 64, "--dest", dest)
    refuse("data", "fetch", *options, words=["0000", "archive.tar.gz"])
    assert not dest.exists() or not any(dest.iterdir())


def test_a_truncated_archive_is_refused_and_nothing_written(refuse, archive, tmp_path):
    archive.write_bytes(archive.read_bytes()[:-5000])
    dest = tmp_path / "data"
    refuse("data", "fetch", "--archive", archive, "--dest", dest, words=["archive.tar.gz"])
    assert not list(dest.glob("*"))


def _member(name, kind=tarfile.REGTYPE, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "member",
    [
        _member("UCSDped1/../../escaped.txt"),
        _member("/tmp/escaped.txt"),
        _member("UCSDped1/link", tarfile.SYMTYPE, "/etc/passwd"),
        _member("UCSDped1/link", tarfile.LNKTYPE, "../../x"),
    ],
)
def test_an_unsafe_archive_is_refused_and_nothing_written(refuse, member, tmp_path):
    path, dest = tmp_path / "bad.tar.gz", tmp_path / "data"
    with tarfile.open(path, "w:gz") as tar:
        tar.addfile(member, io.BytesIO(b""))
    refuse("data", "fetch", "--archive", path, "--dest", dest, words=[member.name])
    assert not list(dest.glob("*")) and not (tmp_path / "escaped.txt").exists()


def test_a_tree_without_sequences_is_not_usable(call, refuse, tmp_path):
    refuse("data", "check", tmp_path, words=["UCSDped1"])
    (tmp_path / "UCSDped1" / "Test").mkdir(parents=True)
    status, out, err = call("data", "check", tmp_path)
    assert status == 2 and "sequence" in out + err


def test_a_mask_of_another_size_is_refused_by_name(in_project, call, tmp_path):
    tree = walkway.write(tmp_path / "tree", **SMALL)
    mask = tree / "UCSDped1" / "Test" / "Test001_gt" / "003.bmp"
    Image.fromarray(np.zeros((10, 10), dtype=np.uint8)).save(mask)
    run = store.open_run(
        "tiny", dataset="ucsd", masks="all", data_dir=str(tree), run_dir=str(tmp_path / "run")
    )
    with pytest.raises(InputError, match="003.bmp") as caught:
        store.clips(run)
    assert "\n" not in str(caught.value)
    status, out, err = call("data", "check", tree)
    assert status == 2 and "003.bmp" in out + err


def test_walkway_passes_folder_and_seed_on(call, tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(
        walkway, "write", lambda dest, *, seed: written.append((dest, seed)) or dest
    )
    assert call("data", "walkway", "--dest", tmp_path / "t", "--seed", 3)[0] == 0
    assert written == [(tmp_path / "t", 3)]


def test_a_full_disk_ends_with_one_line_and_nothing_half_written(refuse, tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    dest = tmp_path / "data" / "walk"
    refuse("data", "walkway", "--dest", dest, words=["No space left"])
    assert not any(dest.parent.iterdir())


def test_methods_lists_all_eight_with_citations(call):
    status, out, _ = call("methods")
    assert status == 0
    for key, spec in METHODS.items():
        assert key in out and spec.citation in out


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--profile", "fast"], ["unknown profile 'fast'", "quick"]),
        (["-p", "epoch=3"], ["unknown parameter 'epoch'", "epochs"]),
        (["-p", "epochs=many"], ["epochs", "many", "whole number"]),
        (["-p", "epochs"], ["key=value"]),
        (["-p", "methods=[ig, gradcam]"], ["unknown method 'gradcam'", "lime"]),
        (["-p", "methods=ig"], ["methods", "list"]),
        (["-p", "init_weights=none.pt"], ["none.pt", "init_weights"]),
        (["-p", "trained_weights=none.pt"], ["none.pt", "trained_weights"]),
    ],
)
@pytest.mark.parametrize("command", ["run", "book"])
def test_bad_parameters_are_refused_before_anything_starts(
    in_project, refuse, command, options, words, monkeypatch
):
    monkeypatch.setattr(pipeline, "execute", lambda *a: pytest.fail("a chapter was started"))
    refuse(command, *options, words=words)


def test_a_clip_longer_than_its_sequence_is_refused(in_project, tmp_path):
    run = store.open_run("tiny", n_frames=99, stride=99, run_dir=str(tmp_path / "long"))
    with pytest.raises(InputError, match="32 frames, a clip has 99") as caught:
        store.clips(run)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_bad_input_found_inside_a_chapter_ends_with_one_line(in_project, refuse, tmp_path):
    options = ["run", "--profile", "tiny", "-p", f"run_dir={tmp_path}/long", "-p", "n_frames=99"]
    refuse(*options, words=["32 frames, a clip has 99"])
    assert not (tmp_path / "long" / "notebooks" / "01_data.ipynb").exists()


@pytest.mark.parametrize("kind", ["nan", "architecture", "damaged"])
def test_unusable_weights_are_refused(in_project, tmp_path, kind):
    path = tmp_path / "w.safetensors"
    if kind == "nan":
        state = InceptionI3d(width=0.1).state_dict()
        state["logits.conv3d.weight"][0] = float("nan")
        save_file(state, path)
    elif kind == "architecture":
        save_file({"layer1.weight": torch.zeros(3, 3)}, path)
    else:
        path.write_bytes(b"no weights")
    with pytest.raises(InputError, match="w.safetensors") as caught:
        weights.initialise(InceptionI3d(width=0.1), path)
    assert "\n" not in str(caught.value)


def test_compare_puts_runs_side_by_side_and_refuses_an_empty_folder(
    in_project, call, refuse, tmp_path
):
    run = store.open_run("tiny")
    store.human_centric(run)
    status, out, _ = call("compare", run.dir, run.dir)
    assert status == 0 and "human_centric" in out and "lime" in out
    refuse("compare", tmp_path, words=["holds no scores"])


def test_a_dry_run_lists_steps_and_starts_nothing(in_project, call, tmp_path):
    store.model(store.open_run("tiny"))
    status, out, _ = call("run", "--profile", "tiny", "--dry-run")
    assert status == 0
    for words in ("training", "cached", "maps: occlusion_sp", "of 3 cached", "estimated total"):
        assert words in out, out
    fresh = ["run", "--profile", "tiny", "--dry-run", "-p", f"run_dir={tmp_path}/new"]
    status, out, _ = call(*fresh)
    assert status == 0 and "0 of 3 cached" in out
    assert not (tmp_path / "new" / "model.safetensors").exists()


def test_a_dry_run_without_data_says_what_comes_first(in_project, call):
    status, out, _ = call("run", "--profile", "tiny", "--dry-run", "-p", "data_dir=data/nowhere")
    assert status == 0 and "to do" in out and "once the data are there" in out
