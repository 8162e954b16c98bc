"""The long computation: clip by clip, resumable, and no finished pair twice."""

import os
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest

from vad_helpers import store
from vad_helpers.errors import InputError
from vad_helpers.model import prediction
from vad_helpers.store import detector, experiment, maps, measuring, scores
from vad_helpers.store.row import TIME_AVERAGE

pytestmark = pytest.mark.filterwarnings("ignore:.*all zero.*")

VARIANTS = {
    "ig_black": {"method": "ig", "baseline": "black", "n_clips": 1},
    "ig_random": {"method": "ig", "weights": "random", "n_clips": 2},
}
FEW = {"methods": ["ig", "lime"], "variants": VARIANTS}


@pytest.fixture
def run(in_project, tmp_path):
    return store.open_run("tiny", **FEW, run_dir=str(tmp_path / "run"))


def trained(folder):
    """A trained network of the run's fold."""
    first = store.open_run("tiny", run_dir=str(folder / "first"))
    store.model(first)
    return str(first.path("model.safetensors"))


def test_every_row_is_scored_and_the_tables_then_only_collect(run, monkeypatch):
    done = []
    measuring.measure(run, after_clip=done.append)
    assert sorted(done) == sorted(store.evaluation(run)["clip_id"])
    assert measuring.pending(run) == {}
    measuring.measure(run, after_clip=lambda _: pytest.fail("nothing was left"))
    monkeypatch.setattr(maps, "_explain", lambda *_, **__: pytest.fail("explained again"))
    for table in scores.MEASURES:
        monkeypatch.setitem(scores.MEASURES, table, lambda *_: pytest.fail("scored again"))
        found = getattr(store, table)(run)
        assert scores.tidy(run, scores.finished(run, table)).equals(found)
        n_clips = found.groupby("method")["clip_id"].nunique()
        assert n_clips["lime"] == n_clips["random"] == 3
        if table == "controls":  # rows on every clip alone
            assert set(n_clips.index) == {
                m for m, row in store.rows(run).items() if row.n_clips is None
            }
        else:
            assert n_clips["ig_black"] == 1 and n_clips["ig_random"] == 2
        if table == "robustness":
            assert n_clips[TIME_AVERAGE] == 3


def test_a_damaged_score_is_not_taken_for_done(run):
    clip_id = store.evaluation(run)["clip_id"][0]
    for table in scores.MEASURES:
        scores.score(run, table, clip_id, "random")
    assert "random" not in measuring.pending(run)[clip_id]
    (path,) = run.path("scores").glob(f"robustness/random-*/{clip_id}.json")
    path.write_text("")
    with pytest.warns(UserWarning, match="is damaged"):
        assert measuring.pending(run)[clip_id]["random"] == ["robustness"]


def test_a_table_without_scores_leaves_the_numbers_of_others_numbers(run):
    clip_id = store.evaluation(run)["clip_id"][0]
    unit = scores.score(run, "robustness", clip_id, "random")
    some, none = scores.tidy(run, [(clip_id, "random", unit)]), scores.tidy(run, [])
    assert none.columns.tolist() == scores.COLUMNS and none.empty
    assert pd.concat([some, none])["value"].dtype == float


def test_clips_with_the_most_rows_come_first(run):
    counts = [len(rows) for rows in measuring.pending(run).values()]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == counts[-1] + 2  # both variants


@pytest.mark.parametrize("n_parts", [1, 2, 3, 5])
def test_parts_share_all_clips_out_and_none_twice(run, n_parts):
    everything = measuring.pending(run)
    parts = [measuring.pending(run, part=(k, n_parts)) for k in range(1, n_parts + 1)]
    listed = [clip_id for part in parts for clip_id in part]
    assert sorted(listed) == sorted(everything) and len(set(listed)) == len(listed)
    assert {clip_id: rows for part in parts for clip_id, rows in part.items()} == everything
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_processes_with_a_part_each_leave_what_one_process_leaves(in_project, tmp_path):
    few = {"methods": ["ig"], "variants": {}, "trained_weights": trained(tmp_path)}
    one, shared = (store.open_run("tiny", **few, run_dir=str(tmp_path / n)) for n in "ab")
    measuring.measure(one)
    own = set(measuring.pending(shared, part=(2, 2)))
    measuring.measure(shared, part=(2, 2))
    # What is scored by now changes nothing about whose the other clips are.
    assert set(measuring.pending(shared)) == set(measuring.pending(shared, part=(1, 2)))
    assert measuring.pending(shared, part=(2, 2)) == {} and own
    measuring.measure(shared, part=(1, 2))
    for table in scores.MEASURES:
        assert getattr(store, table)(shared).equals(getattr(store, table)(one))


@pytest.mark.parametrize("part", [(0, 2), (3, 2), (1, 0)])
def test_a_part_that_is_none_is_refused(run, part):
    with pytest.raises(InputError, match=f"no part {part[0]} of {part[1]}"):
        measuring.pending(run, part=part)


def test_a_part_that_is_none_is_refused_before_anything_is_trained(run, monkeypatch):
    monkeypatch.setattr(detector, "predictions", lambda *_, **__: pytest.fail("trained"))
    with pytest.raises(InputError, match="no part 3 of 2"):
        measuring.measure(run, part=(3, 2))


def test_nothing_is_finished_before_it_is_measured(run):
    assert scores.finished(run, "human_centric") == []
    clip_id = next(iter(measuring.pending(run)))
    expected = scores.score(run, "human_centric", clip_id, "ig")
    ((found_id, row, unit),) = scores.finished(run, "human_centric")
    assert (found_id, row) == (clip_id, "ig") and str(unit) == str(expected)
    assert measuring.pending(run)[clip_id]["ig"] == [
        "model_centric",
        "robustness",
        "controls",
    ]
    scores._unit_path(run, "human_centric", clip_id, "ig").write_text("{")
    with pytest.warns(UserWarning, match="is damaged"):
        assert scores.finished(run, "human_centric") == []


def files(folder):
    """Finished files and when they were written; those still being written have other names."""
    patterns = ("attributions/*/[!.]*.safetensors", "scores/*/*/[!.]*.json")
    found = [path for pattern in patterns for path in folder.glob(pattern)]
    return {path: path.stat().st_mtime_ns for path in found}


@pytest.mark.slow
def test_a_killed_computation_goes_on_without_repeating_a_finished_pair(run, in_project):
    store.model(run)
    given = [f"methods={FEW['methods']}", f"variants={VARIANTS}", f"run_dir={run.dir}"]
    options = [word for text in given for word in ("-p", text)]
    start = "from vad_helpers.cli import main; main()"
    command = [sys.executable, "-c", start, "measure", "--profile", "tiny", *options]
    kept, kills = {}, 0
    for wanted in (2, 9, 20):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with subprocess.Popen(command, cwd=in_project, env=environment) as process:
            deadline = time.monotonic() + 300
            while len(files(run.dir)) < wanted and process.poll() is None:
                assert time.monotonic() < deadline
                time.sleep(0.002)
            process.kill()
        kills += process.returncode == -signal.SIGKILL
        found = files(run.dir)
        assert kept.items() <= found.items()  # nothing that was there is written again
        kept = found
    assert kills == 3
    measuring.measure(run)
    found = files(run.dir)
    assert kept.items() <= found.items()
    assert measuring.pending(run) == {}


def test_a_study_of_all_folds_gives_each_run_its_own_clips(in_project, tmp_path):
    found = {}
    for fold in range(5):
        options = {"fold": fold, "study_clips": 6, "run_dir": str(tmp_path / str(fold))}
        one = store.open_run("tiny", n_clips=40, **options)
        try:
            chosen = store.evaluation(one)
        except InputError:  # none of the six clips is in this fold
            continue
        assert set(chosen["fold"]) == {fold} and set(chosen["split"]) == {"test"}
        assert experiment.evaluation(one, n_clips=1)["clip_id"].isin(chosen["clip_id"]).all()
        found[fold] = chosen["clip_id"].tolist()
    everything = [clip_id for ids in found.values() for clip_id in ids]
    assert len(set(everything)) == len(everything) == 6


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"n_clips": 0}, "n_clips 0"),
        ({"n_clips": True}, "n_clips True"),
        ({"weights": "best"}, "weights 'best'"),
        ({"label": 3}, "label 3"),
        ({"seed": -1}, "seed -1"),
        ({"seed": True}, "seed True"),
        ({"precision": "fp8"}, "precision 'fp8'"),
    ],
)
def test_variants_that_make_no_sense_are_refused(in_project, spec, words):
    run = store.open_run("tiny", variants={"x": {"method": "ig", **spec}})
    with pytest.raises(InputError, match=f"variant 'x' has the {words}; give"):
        store.rows(run)


def test_a_variant_s_precision_counts_where_the_run_leaves_it_open(in_project, monkeypatch):
    monkeypatch.setattr(prediction, "computes_bf16", lambda device: True)
    variants = {"fast": {"method": "lime", "precision": "bf16"}}
    for given, expected in (("auto", "bf16"), ("fp32", "fp32")):
        run = store.open_run("tiny", methods=["lime"], variants=variants, precision=given)
        listed = store.rows(run)
        assert maps.precision_of(run, listed["fast"]) == expected
        assert maps.precision_of(run, listed["lime"]) == "fp32"
    assert listed["fast"].label.endswith("(precision bf16)")


def test_a_variant_with_a_seed_draws_anew(in_project, tmp_path):
    variants = {"lime_seed_1": {"method": "lime", "seed": 1}, "lime_again": {"method": "lime"}}
    folder = str(tmp_path / "run")
    run = store.open_run("tiny", methods=["lime"], variants=variants, run_dir=folder)
    assert store.rows(run)["lime_seed_1"].label.endswith("(seed 1)")
    clip_id = store.evaluation(run)["clip_id"][0]
    own, other, again = (
        store.attribution(run, clip_id, row) for row in ("lime", "lime_seed_1", "lime_again")
    )
    assert (own == again).all() and (own != other).any()


def test_labels_of_variants_say_what_differs(run):
    listed = store.rows(run)
    assert listed["ig_black"].label.endswith("(black baseline)")
    assert listed["ig_random"].label.endswith("(random weights)")
