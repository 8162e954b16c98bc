"""Workers give the tables of one process, whoever dies on the way."""

import contextlib
import json
import os
import stat
import subprocess
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from benchmarks.survival import DASK
from vad_helpers import cli
from vad_helpers.attribution import METHODS
from vad_helpers.errors import InputError
from vad_helpers.run import cache, cluster, open_run, steps

distributed = pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore:.*all-zero.*")

DEADLY = """
import os, pathlib, signal
import torch
from vad_helpers.attribution import MethodSpec

LOG = pathlib.Path(__file__).with_suffix(".log")

def deadly(probability, clip, baseline):
    with LOG.open("a") as stream:
        stream.write(f"{os.getpid()}\\n")
    if len(LOG.read_text().splitlines()) <= DEATHS:
        DIE
    clips = clip[None].clone().requires_grad_()
    return torch.autograd.grad(probability(clips).sum(), clips)[0][0].sum(dim=0)

SPEC = MethodSpec(key="deadly", name="Deadly", family="gradient", uses_baseline=False,
                  attribute=deadly, model_calls=lambda settings, shape, n_segments: 1)
"""
QUEUE = {"kind": "SLURMCluster", "jobs": 1, "cores": 1, "memory": "2GB", "walltime": "00:10:00"}


@pytest.fixture(scope="module")
def local():
    """Two workers on this machine."""
    with cluster.place(workers=2)() as client:
        yield client


@pytest.fixture
def place(local):
    return lambda: contextlib.nullcontext(local)


@pytest.fixture
def appended(monkeypatch):
    """Pairs whose lines are appended by this process, as often as they are."""
    seen, before = [], cache.append

    def append(run, lines):
        seen.extend(tuple(line[:2]) for line in lines.get("explanations", ()))
        before(run, lines)

    monkeypatch.setattr(cache, "append", append)
    return seen


@pytest.fixture
def own(options, tmp_path, request):
    """A run with a method of its own whose first calls end their process."""

    def opened(deaths, die="os.kill(os.getpid(), signal.SIGKILL)"):
        path = tmp_path / "own" / f"deadly_{deaths}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(DEADLY.replace("DEATHS", str(deaths)).replace("DIE", die))
        given = options(tmp_path / f"killed-{deaths}") | {"methods": ["ig", f"{path}:SPEC"]}
        given["variants"] = dict.fromkeys(options("")["variants"])
        return open_run("tiny", **given), path.with_suffix(".log")

    yield opened
    METHODS.pop("deadly", None)


def table(folder, name):
    """Cells of a table, without run time."""
    found = pd.read_csv(folder / f"{name}.csv", dtype=str)
    return found.drop(columns=[c for c in found if c.endswith("seconds")])


@pytest.mark.slow
def test_two_workers_fill_the_tables_of_one_process(
    measured, options, tmp_path, place, appended, capsys
):
    run = open_run("tiny", **options(tmp_path / "spread"))
    study = cluster.measure(run, place)
    for name in (*cache.APPENDED, "convergence", "rows"):
        pd.testing.assert_frame_equal(table(run.dir, name), table(measured.dir, name))
    assert len(appended) == len(set(appended)) == len(study.explanations)
    row = steps.rows(run)["ig"]
    assert all(steps.map_path(run, c, row).is_file() for c in steps.clips_of(run, row))
    assert "http://" in capsys.readouterr().err
    cluster.measure(run, lambda: pytest.fail("nothing is left to do"))


@pytest.mark.slow
def test_a_unit_whose_worker_is_killed_is_done_again_and_no_other_one(own, place, appended):
    run, log = own(1)
    study = cluster.measure(run, place, keep=False)
    calls, of_it = log.read_text().split(), study.explanations["row"] == "deadly"
    assert len(calls) == of_it.sum() + 1 and calls.count(calls[0]) == 1
    assert len(appended) == len(set(appended)) == len(study.explanations) == len(steps.units(run))
    assert not run.path("attributions").exists()


@pytest.mark.slow
def test_a_unit_that_kills_every_worker_is_named_and_costs_no_other(
    own, place, local, appended, monkeypatch
):
    run, log = own(99, "raise MemoryError")
    monkeypatch.setattr(local.cluster.scheduler, "allowed_failures", 1)  # one may hit who waits
    with pytest.raises(RuntimeError, match=r"\A2 units killed .* deadly of .* goes on\Z"):
        cluster.measure(run, place)
    assert len(log.read_text().split()) in (3, 4)  # or the other of the two waits there
    assert len(set(appended)) == len(appended) == len(steps.units(run)) - 2


def test_clips_may_be_more_than_the_files_that_may_be_open(copied, monkeypatch):
    resource = pytest.importorskip("resource", reason="only Unix limits the files of a process")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    left = iter([{("clip", (str(i),), ""): f"clip-{i}" for i in range(400)}, {}])
    monkeypatch.setattr(cluster, "_left", lambda *_: next(left))
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, hard))
    try:
        cluster.measure(open_run(run_dir=str(copied())), lambda: pytest.fail("nothing is left"))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_worker_refuses_what_is_not_the_clients(measured, tmp_path, monkeypatch):
    keys = {"ig": steps.score_key(measured, steps.rows(measured)["ig"])}
    about = {"root": str(measured.root), "dir": str(measured.dir), "supplied": False}
    about |= {"parameters": measured.params.dump(), "keep": True, "keys": keys}
    text = lambda **given: json.dumps(about | given, default=list)  # noqa: E731
    run, *_ = cluster._opened(text())
    assert run.params == measured.params and cluster._opened(text())[0] is run
    for given, words in (
        ({"dir": str(tmp_path)}, "does not see"),
        ({"keys": {"ig": "k0"}}, "reads other data, code or weights"),
    ):
        with pytest.raises(InputError, match=words):
            cluster._opened(text(**given))
    two = SimpleNamespace(state=SimpleNamespace(nthreads=2))
    monkeypatch.setattr(distributed, "get_worker", lambda: two)
    with pytest.raises(InputError, match="2 threads; start it with --nthreads 1"):
        cluster.work(text(), ("c", ("ig",), ""))


def test_the_longest_rows_come_first_and_then_clip_by_clip():
    run = open_run("tiny", n_clips=2, settings={"lime": {"n_samples": 600}})
    units = [(clip, (row,), "") for clip in "ab" for row in ("motion", "ig", "lime")]
    found = [unit[0] + unit[1][0] for unit in cluster.ordered(run, [*units, ("b", ("lime",), "k")])]
    assert found == ["blime", "alime", "blime", "aig", "amotion", "big", "bmotion"]


def test_hours_end_at_what_cannot_be_shared_out():
    plan = [("training", "to do", 30.0), ("ig", "2 of 4 done", 60.0), ("lime", "0 of 1 done", 60.0)]
    plan += [("centre", "4 of 4 done", 0.0), ("doubling", "to do", 30.0), ("total", "", 180.0)]
    plan = pd.DataFrame(plan, columns=["step", "state", "minutes"])
    assert [cluster.hours(plan, n) for n in (1, 2, 99)] == [3.0, 1.75, 1.5]
    assert cluster.hours(plan.iloc[[0, 5]], 2) == 0.5


@pytest.fixture
def refused(capsys, monkeypatch, in_project):
    """Expect status 2 and one line with some words of `vad measure`."""

    def call(*arguments, words):
        given = ["vad", "measure", "--profile", "tiny", *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", given)
        monkeypatch.setattr(steps, "begin", lambda *a, **k: pytest.fail("it was started"))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        err = capsys.readouterr().err
        assert ended.value.code == 2 and err.startswith("vad: ") and err.count("\n") == 1, err
        assert words in err, err

    return call


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--workers", 0], "--workers is 0"),
        (["--workers", 2, "--scheduler", "tcp://host:1"], "2 places for workers"),
        (["--workers", 2, "--part", "1/2"], "--part"),
        (["--drop-maps"], "--drop-maps"),
        (["--scheduler", "host"], "tcp://host:8786"),
        (["--jobqueue", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_places_that_make_no_sense_are_refused(refused, arguments, words):
    refused(*arguments, words=words)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "SLURMCluste"}, "did you mean 'SLURMCluster'"),
        ({"kind": "LocalCluster"}, "unknown kind"),
        ({"queues": "a"}, "unknown option of SLURMCluster: 'queues'; did you mean 'queue'"),
        ({"job_cls": "os.system"}, "unknown option"),
        ({"jobs": 0}, "jobs 0"),
        ({"processes": 2}, "unknown option of SLURMCluster: 'processes'"),
        ({"memory": None}, "does not give"),
        ("[", "does not give"),
        ("!!python/object/apply:os.getcwd []", "does not give"),
    ],
)
def test_files_of_batch_systems_with_a_fault_are_refused(refused, tmp_path, change, words):
    path = tmp_path / "queue.yaml"
    given = change if isinstance(change, str) else QUEUE | change
    if isinstance(given, dict):
        given = json.dumps({name: value for name, value in given.items() if value is not None})
    path.write_text(given)
    refused("--jobqueue", path, words=words)


def test_without_the_extra_one_line_says_how_to_get_it(refused, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    refused("--workers", 2, words="pip install 'vad-helpers[cluster]'")


MEASURE = """
import json, sys
from vad_helpers.run import cluster, open_run
cluster.measure(open_run("tiny", **json.loads(sys.argv[1])), cluster.place(scheduler=sys.argv[2]))
"""


@pytest.fixture
def hosts(tmp_path):
    """Starts Python programs on two hosts (network namespaces) with homes of their own."""
    names, processes = [f"vad-{os.getpid()}-{k}" for k in (1, 2)], []
    ip = partial(subprocess.run, capture_output=True, check=True)

    def start(k, code, *words, **options):
        own = {n: text for n, text in os.environ.items() if not n.startswith("XDG_")}
        own |= {"HOME": str(tmp_path / f"home-{k}"), "OMP_NUM_THREADS": "1"}
        Path(own["HOME"]).mkdir(exist_ok=True)
        command = ["ip", "netns", "exec", names[k - 1], sys.executable, "-c", code, *words]
        processes.append(subprocess.Popen(command, env=own, **options))
        return processes[-1]

    with contextlib.ExitStack() as opened:
        try:
            for name in names:
                ip(["ip", "netns", "add", name])
                opened.callback(ip, ["ip", "netns", "delete", name])
            cable = f"link add vad0 netns {names[0]} type veth peer name vad0 netns {names[1]}"
            ip(["ip", *cable.split()])
            for k, name in enumerate(names, 1):
                own = f"addr add 10.77.0.{k}/24 dev vad0"
                for rest in (own, "link set vad0 up", "link set lo up"):
                    ip(["ip", "-n", name, *rest.split()])
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces here: {error}")
        yield start
        for one in processes:
            one.terminate()
        for one in processes:
            one.wait(60)


@pytest.mark.slow
def test_two_hosts_that_share_a_folder_alone_give_the_same_tables(
    measured, options, hosts, tmp_path
):
    address, folder = "tcp://10.77.0.1:8786", tmp_path / "hosts"
    hosts(1, DASK.format("scheduler"), "--host", "10.77.0.1", "--no-dashboard")
    for k in (1, 2):
        log = (tmp_path / f"worker-{k}.log").open("w")
        hosts(k, DASK.format("worker"), address, "--nthreads", "1", "--no-dashboard", stderr=log)
    given = json.dumps(options(folder))
    assert hosts(1, MEASURE, given, address, cwd=measured.root).wait(600) == 0
    for name in (*cache.APPENDED, "convergence", "rows"):
        pd.testing.assert_frame_equal(table(folder, name), table(measured.dir, name))
    for k in (1, 2):  # both took part
        assert "Starting established connection" in (tmp_path / f"worker-{k}.log").read_text()


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """Gives a file of options, and a stand-in for `sbatch` that does what it is told."""

    def made(submit):
        for name, lines in {"sbatch": submit, "scancel": 'kill "$@"'}.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{lines}\n")
            path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        path = tmp_path / "queue.yaml"
        path.write_text(json.dumps(QUEUE | {"interface": "lo"}))
        return path

    return made


@pytest.mark.slow
def test_jobs_of_a_batch_system_measure_too(measured, options, tmp_path, queue):
    given = options(tmp_path / "queued") | {"methods": ["ig"]}
    given["variants"] = dict.fromkeys(given["variants"])
    run, job = open_run("tiny", **given), f"{tmp_path}/job.$$"
    path = queue(f'cp "$1" {job}; sh {job} >/dev/null 2>&1 & echo "job $!"')
    cluster.measure(run, cluster.place(jobqueue=path))
    found, expected = (table(folder, "human_centric") for folder in (run.dir, measured.dir))
    expected = expected[expected["row"].isin(steps.rows(run))].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)


@pytest.mark.slow
def test_a_job_that_is_refused_is_told_instead_of_waited_for(queue):
    place = cluster.place(jobqueue=queue("echo no such account >&2; exit 1"))
    with pytest.raises(InputError, match="a job is refused"), place():
        pytest.fail("there are workers")


def test_a_batch_system_that_is_elsewhere_is_named(refused, tmp_path, monkeypatch):
    path = tmp_path / "queue.yaml"
    path.write_text(json.dumps(QUEUE))
    monkeypatch.setenv("PATH", str(tmp_path))
    refused("--jobqueue", path, words="no sbatch")
    refused("--scheduler", "tcp://127.0.0.1:1", words="no scheduler answers")
