"""The trial of metrics on the clips of a run: which clips, what is kept, and the gated network."""

import functools

import pytest

from benchmarks import metrics_on_trial, planted
from vad_helpers import tables
from vad_helpers.run import open_run, steps


@pytest.fixture
def run(in_project, tmp_path):
    return open_run("tiny", run_dir=str(tmp_path / "run"))


def test_clips_are_of_as_many_sequences_scenes_in_turns_and_show_the_object_throughout(run):
    listed = list(metrics_on_trial.eligible(run))
    lines = [steps.line_of(run, clip_id) for clip_id in listed]
    assert listed and listed == list(metrics_on_trial.eligible(run))
    assert len({line["sequence"] for line in lines}) == len(lines)
    assert len({line["scene"] for line in lines[:2]}) == min(2, len(lines))
    for clip_id in listed:
        mask = steps.mask(run, clip_id)
        assert mask.any(axis=(1, 2)).all() and 0.003 <= mask.mean() <= 0.06


def test_clips_are_scored_once_and_judged_together(run, tmp_path, monkeypatch, capsys):
    few = functools.partial(planted.try_clip, detectors=["appearance"], sensitivity=1)
    monkeypatch.setattr(planted, "try_clip", few)
    monkeypatch.setattr(metrics_on_trial, "GATED", ("truth", "noise"))
    out, given = tmp_path / "metrics_on_trial.csv", [f"run_dir={run.dir}"]
    metrics_on_trial.main("tiny", given, n_clips=1, gated=1, part="1/1", out=out)
    first = next(metrics_on_trial.eligible(run))
    assert f"[1/2] {first}: " in (told := capsys.readouterr().out) and "srg" in told
    kept = {path: path.stat().st_mtime_ns for path in run.path("metrics_on_trial").iterdir()}
    assert len(kept) == 2
    table = tables.read(tmp_path, "metrics_on_trial")
    assert set(table["detector"]) == {"appearance", "all", "gated_i3d"}
    assert set(table["metric"]) == set(planted.TRIED)
    own = table[table["detector"] == "appearance"].set_index(["metric", "ladder"])["tau"]
    assert own["srg", "noise"] > 0.9 and own["deletion", "blur"] < 0
    metrics_on_trial.main("tiny", given, n_clips=1, gated=1, part="1/1", out=out)
    assert kept == {path: path.stat().st_mtime_ns for path in kept}  # nothing is scored twice
