"""A run goes on from its tables: killed, copied, shared between processes, damaged."""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest

from vad_helpers.attribution import METHODS, register
from vad_helpers.errors import InputError
from vad_helpers.model import weights as model_weights
from vad_helpers.run import cache, open_run, steps
from vad_helpers.tables import schema

pytestmark = pytest.mark.filterwarnings("ignore:.*all-zero.*")

MEASURE = """
import json, sys
from vad_helpers.run import open_run, steps
steps.measure(open_run("tiny", **json.loads(sys.argv[1])))
"""


@pytest.fixture
def counted():
    """Lists the methods that are asked for a map from now on."""
    asked, before = [], dict(METHODS)
    for spec in before.values():

        def attribute(*arguments, _spec=spec, **settings):
            asked.append(_spec.key)
            return _spec.attribute(*arguments, **settings)

        register(dataclasses.replace(spec, attribute=attribute), overwrite=True)
    yield asked
    METHODS.update(before)


def start(given):
    """Measure a run in another process."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", MEASURE, json.dumps(given)], env=environment)


def tables(folder, *names):
    """Cells of tables of a run, by default of those that grow; without run time."""
    found, without = {}, ("seconds", "baseline_seconds", "superpixel_seconds")
    for name in names or cache.APPENDED:
        path = folder / f"{name}.csv"
        lines = csv.DictReader(path.read_text().splitlines() if path.is_file() else [])
        found[name] = [{k: v for k, v in line.items() if k not in without} for line in lines]
    return found


def n_explained(folder):
    """Finished pairs whose map needed a network."""
    path = folder / "explanations.csv"
    if not path.is_file():
        return 0
    lines = path.read_text().rpartition("\n")[0].splitlines()[1:]
    return sum(line.split(",")[5] != "0" for line in lines)


def test_a_finished_run_is_not_computed_again_nor_written(measured, counted):
    before = {path: path.stat().st_mtime_ns for path in measured.dir.glob("*.*")}
    steps.measure(open_run(run_dir=str(measured.dir)))
    steps.converge(open_run(run_dir=str(measured.dir)))
    assert counted == []
    assert {path: path.stat().st_mtime_ns for path in measured.dir.glob("*.*")} == before


@pytest.mark.slow
def test_a_killed_run_goes_on_elsewhere_with_the_same_tables_and_no_pair_twice(
    measured, options, tmp_path, counted
):
    folder = tmp_path / "killed"
    with start(options(folder)) as process:
        deadline = time.monotonic() + 300
        while n_explained(folder) < 2 and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    with (folder / "robustness.csv").open("a") as stream:  # what a kill within a write leaves
        stream.write("ped1-Test")
    elsewhere = tmp_path / "elsewhere"
    ignore = shutil.ignore_patterns("attributions", ".locks", "training")
    shutil.copytree(folder, elsewhere, ignore=ignore)
    finished, total = n_explained(elsewhere), n_explained(measured.dir)
    assert 2 <= finished < total
    steps.measure(open_run(run_dir=str(elsewhere)))
    assert len(counted) == total - finished
    assert tables(elsewhere, "clips", "predictions", "rows") == tables(
        measured.dir, "clips", "predictions", "rows"
    )
    assert tables(elsewhere) == tables(measured.dir)


def test_a_copy_without_maps_makes_only_the_maps_that_are_asked_for(copied, counted):
    folder = copied("attributions")
    run = open_run(run_dir=str(folder))
    before = tables(folder)
    steps.measure(run)
    assert counted == [] and tables(folder) == before
    clip_id = steps.evaluation(run)["clip_id"][0]
    first = steps.attribution(run, clip_id, "ig")
    assert (steps.attribution(run, clip_id, "ig") == first).all() and counted == ["ig"]


def cut(path, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(("human_centric", 0.5), ("curves", 0.97), ("frame_auc", 0), ("frame_auc", 0.5)),
        *(("explanations", 0.5), ("robustness", "gone"), ("curves", "begun twice")),
    ],
)
def test_a_damaged_table_is_completed_from_the_maps(copied, measured, counted, name, damage):
    folder = copied()
    path = folder / f"{name}.csv"
    if damage == "gone":
        path.unlink()
    elif damage == "begun twice":
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([*lines, *lines[1:9]]))
    else:
        cut(path, damage)
    steps.measure(open_run(run_dir=str(folder)))
    assert tables(folder) == tables(measured.dir) and counted == []
    schema.load(folder)


@pytest.mark.parametrize("name", ["human_centric", "curves", "explanations"])
def test_a_changed_digit_of_a_finished_table_is_noticed(copied, measured, counted, name):
    folder = copied()
    path = folder / f"{name}.csv"
    text = path.read_text()
    place = re.search(r",0\.\d", text).end() - 1
    path.write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}")
    for read in (lambda: schema.load(folder), lambda: steps.measure(open_run(run_dir=str(folder)))):
        with pytest.raises(InputError, match=rf"{name}.csv was changed .* delete it"):
            read()
    path.unlink()
    steps.measure(open_run(run_dir=str(folder)))
    assert tables(folder) == tables(measured.dir) and counted == []


def test_damaged_maps_are_explained_again_with_a_warning(copied, counted):
    run = open_run(run_dir=str(copied()))
    clip_id = steps.evaluation(run)["clip_id"][0]
    path = steps.map_path(run, clip_id, steps.rows(run)["ig"])
    before = steps.attribution(run, clip_id, "ig")
    cut(path, 0.5)
    with pytest.warns(UserWarning, match="damaged"):
        after = steps.attribution(run, clip_id, "ig")
    assert (before == after).all() and counted == ["ig"]


def test_damaged_clips_are_cut_again_and_no_other_network_is_trained(copied, measured):
    folder = copied()
    path = folder / "clips.csv"
    text = path.read_text()
    # Every cell is allowed, and one is not what it was.
    path.write_text(text.replace(",1,True,", ",0,True,", 1))
    before = (folder / "model.safetensors").stat().st_mtime_ns
    with pytest.warns(UserWarning, match="clips.csv is gone, changed or damaged"):
        steps.measure(open_run(run_dir=str(folder)))
    assert path.read_text() == text
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    assert tables(folder) == tables(measured.dir)


def test_what_cannot_be_made_again_is_refused_in_one_line(copied):
    folder = copied()
    (folder / "history.csv").write_text("epoch\n")
    with pytest.warns(UserWarning), pytest.raises(InputError, match="history.csv is gone or dam"):
        steps.measure(open_run(run_dir=str(folder)))


def test_a_network_that_is_another_is_refused_and_a_damaged_one_made_again(copied, measured):
    folder = copied()
    path = folder / "model.safetensors"
    good = path.read_bytes()
    before = cache.manifest_in(folder)["weights_sha256"]
    other = steps.fresh_network(measured)
    model_weights.save(other, path)
    with pytest.raises(InputError, match="is not the network that"):
        steps.network(open_run(run_dir=str(folder)))
    path.write_bytes(good[:1000])
    with pytest.warns(UserWarning, match="it is made again"):  # out of `training/`
        steps.network(open_run(run_dir=str(folder)))
    assert cache.manifest_in(folder)["weights_sha256"] == before


def test_scores_of_a_lost_network_are_not_continued_with_another(copied):
    folder = copied("model.safetensors", "training")
    # As if training gave other bits on this machine.
    manifest = (folder / "manifest.json").read_text()
    digest = cache.manifest_in(folder)["weights_sha256"]
    (folder / "manifest.json").write_text(manifest.replace(digest, digest[::-1]))
    run = open_run(run_dir=str(folder))
    assert "network is not there" in run.readonly
    lenient = dataclasses.replace(run, readonly="")
    with pytest.raises(InputError, match="of a network that is gone"):
        steps.network(lenient)
    with pytest.raises(InputError, match="can be shown but not computed with"):
        steps.network(run)


@pytest.mark.slow
def test_processes_share_the_clips_of_a_folder(measured, options, tmp_path):
    folder = tmp_path / "shared"
    processes = [start(options(folder)) for _ in range(2)]
    assert [process.wait(300) for process in processes] == [0, 0]
    assert tables(folder) == tables(measured.dir)


def test_parts_share_all_clips_out_and_rows_may_come_first(measured, options, tmp_path, counted):
    given = options(tmp_path / "parts")
    study = steps.measure(open_run("tiny", **given), rows=["ig", "motion"], part=(2, 2))
    assert study.explanations["clip_id"].nunique() == 1 and counted == ["ig"]
    assert set(study.human_centric["row"]) == {"ig", "motion"}
    assert "explanations" not in study.manifests[0]["counts"]
    steps.measure(open_run("tiny", **given), part=(2, 2))
    n = len(counted)
    steps.measure(open_run("tiny", **given), part=(2, 2))
    assert len(counted) == n
    steps.measure(open_run("tiny", **given), part=(1, 2))
    assert tables(tmp_path / "parts") == tables(measured.dir)
    for wrong in ({"part": (0, 2)}, {"part": (3, 2)}, {"part": (1, 0)}, {"rows": ["x"]}):
        with pytest.raises(InputError, match="there is no part|no row 'x'"):
            steps.measure(open_run("tiny", **given), **wrong)
