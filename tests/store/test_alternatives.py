"""Runs beside a study's, in which data or split are settled differently."""

import dataclasses
import re

import pandas as pd
import pytest
import torch

from vad_helpers import pipeline, store
from vad_helpers.data import ucsd
from vad_helpers.errors import InputError
from vad_helpers.model.weights import fingerprint
from vad_helpers.store import (
    alternatives,
    detector,
    experiment,
    maps,
    measuring,
    networks,
    publish,
    published,
    scores,
)
from vad_helpers.store.cache import Run

pytestmark = pytest.mark.filterwarnings("ignore:.*all zero.*")


@pytest.fixture
def run(in_project, tmp_path):
    """A trained run of one method and its variant, nothing explained yet."""
    run = store.open_run("tiny", methods=["ig"], n_clips=2, run_dir=str(tmp_path / "run"))
    store.predictions(run)
    return run


def test_overlap_brings_clips_in_between_which_the_same_network_explains(run):
    other = alternatives.open_alternative(run, "half_overlap")
    assert set(store.clips(other)["start"] % 8) == {0, 4}
    assert other.dir.is_relative_to(run.dir) and other.params.variants == {}
    assert fingerprint(detector.model(other)) == fingerprint(detector.model(run))
    assert set(store.evaluation(other)["sequence"]) <= set(_tested(run))


def test_added_masks_bring_the_clips_that_were_not_eligible_and_no_other(run, monkeypatch):
    found = ucsd.index(store.data_root(run))
    masked = next(s.id for s in found if s.masks is not None)
    index = [
        dataclasses.replace(s, official_mask=s.official_mask and s.id != masked) for s in found
    ]
    monkeypatch.setattr(ucsd, "index", lambda _: index)
    study_run = store.open_run("tiny", masks="official", run_dir=str(run.dir.with_name("own")))
    other = alternatives.open_alternative(study_run, "added_masks")
    everything = store.open_run("tiny", masks="all", run_dir=str(run.dir.with_name("all")))
    before, added, union = (
        store.clips(r).query("eligible") for r in (study_run, other, everything)
    )
    not_official = {s.id for s in index if s.masks is not None and not s.official_mask}
    assert masked in set(added["sequence"]) <= not_official
    assert not_official.isdisjoint(before["sequence"])
    assert set(union["clip_id"]) == set(before["clip_id"]) | set(added["clip_id"])


def test_a_stronger_blur_explains_and_scores_the_study_s_own_clips(run):
    other = alternatives.open_alternative(run, "strong_blur")
    assert other.params.baseline == "strong_blur"
    assert store.evaluation(other)["clip_id"].tolist() == store.evaluation(run)["clip_id"].tolist()
    assert fingerprint(detector.model(other)) == fingerprint(detector.model(run))
    clip_id = store.evaluation(run)["clip_id"].iloc[0]
    assert not torch.equal(store.baseline(other, clip_id), store.baseline(run, clip_id))


def test_split_by_clip_trains_a_network_of_its_own_on_the_tested_sequences(run):
    other = alternatives.open_alternative(run, "split_by_clip")
    assert other.params.trained_weights is None
    seen = detector.split_of_weights(other)["sequences_seen"]
    assert set(_tested(run)) <= set(seen)
    clips = store.clips(other)
    assert clips.groupby("sequence")["split"].nunique().max() > 1
    assert not clips["clip_id"].duplicated().any()


def test_split_by_clip_trains_on_no_frame_that_it_tests(run):
    overlapping = dataclasses.replace(run.params, train_stride=2)
    run = Run(overlapping, run.root, run.dir)
    other = alternatives.open_alternative(run, "split_by_clip")
    trained = experiment.training_clips(other).query("split == 'train'")
    tested = store.clips(other).query("split == 'test'")

    def frames(clips):
        return {(c.sequence, c.start + i) for c in clips.itertuples() for i in range(c.n_frames)}

    assert len(trained) > len(store.clips(other).query("split == 'train'"))
    assert frames(trained).isdisjoint(frames(tested))


def test_split_by_clip_never_takes_given_weights_for_its_own(run):
    given = dataclasses.replace(run.params, trained_weights="model.safetensors")
    with pytest.raises(InputError, match="trains a network as the run's.*init_weights"):
        alternatives.open_alternative(Run(given, run.root, run.dir), "split_by_clip")
    both = dataclasses.replace(given, init_weights="start.safetensors")
    other = alternatives.open_alternative(Run(both, run.root, run.dir), "split_by_clip")
    assert other.params.trained_weights is None and other.params.init_weights


def test_chapters_refuse_a_split_by_clip(in_project):
    with pytest.raises(InputError, match="'split_by' is 'clip'.*--alternative split_by_clip"):
        pipeline.open_checked("tiny", {"split_by": "clip"})


def test_an_unknown_alternative_is_refused(run):
    with pytest.raises(InputError, match="no alternative 'x'.*half_overlap"):
        alternatives.open_alternative(run, "x")


def test_only_the_methods_are_measured_and_published_beside_the_study(run, tmp_path, capsys):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    other = alternatives.measure(run, "half_overlap", dest=dest)
    said = capsys.readouterr().out
    assert all(f"half_overlap, {c}" in said for c in store.evaluation(other)["clip_id"])
    measured = {row for _, row, _ in scores.finished(other, "robustness")}
    assert measured == {"ig", *alternatives.BESIDE}
    alternatives.add(other, "half_overlap", dest)  # twice is once
    found = published.read(dest)
    lines = found.extras["alternatives"]
    assert not lines.duplicated(["clip_id", "table", "method", "level", "metric"]).any()
    assert set(lines["table"]) == set(scores.MEASURES) and set(lines["alternative"]) == {
        "half_overlap"
    }
    own, part = networks.alternative_performance(found).to_dict("records")
    tested = store.clips(other)["split"] == "test"
    assert (own["alternative"], part["alternative"]) == ("", "half_overlap")
    assert part["part"] == "fold 0" and part["n_clips"] == tested.sum() > own["n_clips"]
    assert set(found.extras["alternative_predictions"]["alternative"]) == {"half_overlap"}
    (computed,) = found.extras["alternative_runs"].to_dict("records")
    own_entry = found.manifest["folds"]["0"]
    assert computed["weights_sha256"] == own_entry["weights_sha256"]
    assert computed["n_clips"] == lines["clip_id"].nunique() and computed["precision"] == "fp32"


def test_an_alternative_of_another_network_is_refused_before_it_is_measured(
    run, tmp_path, monkeypatch
):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    monkeypatch.setattr(measuring, "measure", lambda *a, **k: pytest.fail("measured"))
    identity = publish.identity(run)
    monkeypatch.setattr(publish, "identity", lambda _: identity | {"weights_sha256": "another"})
    with pytest.raises(InputError, match="'half_overlap' explains another network than fold 0"):
        alternatives.measure(run, "half_overlap", dest=dest)
    with pytest.raises(InputError, match="no published results"):
        alternatives.measure(run, "half_overlap", dest=tmp_path / "none")
    elsewhere = Run(dataclasses.replace(run.params, fold=1), run.root, run.dir)
    monkeypatch.setattr(alternatives, "open_alternative", lambda run, name: run)
    with pytest.raises(InputError, match="fold 1 is not in .*; publish the study's fold first"):
        alternatives.measure(elsewhere, "half_overlap", dest=dest)


def test_the_command_measures_an_alternative_without_the_study(run, tmp_path, monkeypatch, capsys):
    from vad_helpers import cli

    monkeypatch.setattr(pipeline, "open_checked", lambda *_: run)
    dest = tmp_path / "results"
    publish.publish([run], dest)
    cli.measure("tiny", publish_to=dest, alternative=["strong_blur"], study=False)
    assert "strong_blur" in capsys.readouterr().out
    assert scores.finished(run, "human_centric") == []
    found = published.read(dest)
    assert found.human_centric.empty and set(found.extras["alternatives"]["method"]) == {
        "ig",
        *alternatives.BESIDE,
    }
    with pytest.raises(InputError, match="--no-study leaves nothing to measure"):
        cli.measure("tiny", study=False)


def interrupted_after(n, run, name, dest, monkeypatch):
    """Measure an alternative until `n` of its clips are published."""
    done, add = [], alternatives.add

    def add_and_stop(*args):
        add(*args)
        done.append(args)
        if len(done) == n:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(alternatives, "add", add_and_stop)
        alternatives.measure(run, name, dest=dest)


@pytest.fixture
def moved(run, tmp_path, take_network):
    """The run on another machine: its network is there, nothing else is."""

    def opened(**changes):
        folder = take_network(run, tmp_path / "elsewhere")
        params = dataclasses.replace(run.params, run_dir=str(folder), **changes)
        return Run(params, run.root, folder)

    return opened


def test_an_alternative_goes_on_elsewhere_and_repeats_nothing(
    run, moved, tmp_path, monkeypatch, capsys
):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    interrupted_after(1, run, "strong_blur", dest, monkeypatch)
    first = published.read(dest).extras["alternatives"]
    (clip_id,) = set(first["clip_id"])
    explained, plain = [], maps._explain
    monkeypatch.setattr(
        maps, "_explain", lambda r, c, *a, **k: explained.append(c) or plain(r, c, *a, **k)
    )
    alternatives.measure(moved(), "strong_blur", dest=dest)
    assert re.search(r"strong_blur: ([1-9]\d*) scores restored", capsys.readouterr().out)
    assert explained and clip_id not in explained
    found = published.read(dest).extras["alternatives"]
    assert found["clip_id"].nunique() == 2
    keys = ["clip_id", "table", "method", "level", "metric"]
    assert not found.duplicated(keys).any()
    again = found[found["clip_id"] == clip_id].set_index(keys)["value"]
    pd.testing.assert_series_equal(
        again.loc[first.set_index(keys).index], first.set_index(keys)["value"]
    )


def test_an_alternative_computed_otherwise_is_not_taken_back_nor_lost(
    run, moved, tmp_path, monkeypatch, capsys
):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    alternatives.measure(run, "strong_blur", dest=dest)
    before = published.read(dest).extras["alternative_runs"]
    other = moved(area_steps=3)
    capsys.readouterr()
    interrupted_after(1, other, "strong_blur", dest, monkeypatch)
    said = capsys.readouterr().out
    assert "strong_blur: 0 scores restored" in said
    assert f"strong_blur: {dest} keeps its 2 clips, computed otherwise" in said
    pd.testing.assert_frame_equal(published.read(dest).extras["alternative_runs"], before)
    alternatives.measure(other, "strong_blur", dest=dest)
    (after,) = published.read(dest).extras["alternative_runs"].to_dict("records")
    assert after["settings"] != before["settings"].iloc[0] and after["n_clips"] == 2
    assert after["code"] == before["code"].iloc[0]
    monkeypatch.setitem(scores.VERSIONS, "robustness", 99)
    capsys.readouterr()
    with pytest.raises(pytest.fail.Exception, match="measured"):
        monkeypatch.setattr(measuring, "measure", lambda *a, **k: pytest.fail("measured"))
        alternatives.measure(dataclasses.replace(other, memo={}), "strong_blur", dest=dest)
    assert "strong_blur: 0 scores restored" in capsys.readouterr().out


def test_a_clip_that_is_not_finished_is_kept_but_not_counted(run, tmp_path):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    other = alternatives.open_alternative(run, "strong_blur")
    first, second = store.evaluation(other)["clip_id"]
    for row in ("ig", *alternatives.BESIDE):
        scores.score(other, "human_centric", first, row)
    scores.score(other, "human_centric", second, "ig")
    alternatives.add(other, "strong_blur", dest)
    found = published.read(dest).extras
    assert found["alternative_runs"]["n_clips"].tolist() == [0], "one of four tables"
    assert set(found["alternatives"]["clip_id"]) == {first, second}
    for table in scores.MEASURES:
        for row in ("ig", *alternatives.BESIDE):
            scores.score(other, table, first, row)
    alternatives.add(other, "strong_blur", dest)
    assert published.read(dest).extras["alternative_runs"]["n_clips"].tolist() == [1]


def _tested(run):
    clips = store.clips(run)
    return clips.loc[clips["split"] == "test", "sequence"]
