"""Runs beside a study's, in which data or split are settled differently."""

import pytest

from vad_helpers import store
from vad_helpers.errors import InputError
from vad_helpers.model.weights import fingerprint
from vad_helpers.store import alternatives, detector, publish, published, scores, study

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


def test_with_added_masks_clips_are_eligible_that_were_not(run):
    other = alternatives.open_alternative(run, "all_masks")
    added = {s.id for s in store.sequences(other).values() if s.official_mask}
    official = {s.id for s in store.sequences(run).values() if s.official_mask}
    assert other.params.masks == "all" and official <= added


def test_split_by_clip_trains_a_network_of_its_own_on_the_tested_sequences(run):
    other = alternatives.open_alternative(run, "split_by_clip")
    assert other.params.trained_weights is None
    seen = detector.split_of_weights(other)["sequences_seen"]
    assert set(_tested(run)) <= set(seen)
    clips = store.clips(other)
    assert clips.groupby("sequence")["split"].nunique().max() > 1
    assert not clips["clip_id"].duplicated().any()


def test_an_unknown_alternative_is_refused(run):
    with pytest.raises(InputError, match="no alternative 'x'.*half_overlap"):
        alternatives.open_alternative(run, "x")


def test_only_the_methods_are_measured_and_published_beside_the_study(run, tmp_path):
    dest = tmp_path / "results"
    publish.publish([run], dest)
    done = []
    other = alternatives.measure(run, "half_overlap", after_clip=done.append)
    assert sorted(done) == sorted(store.evaluation(other)["clip_id"])
    measured = {row for _, row, _ in scores.finished(other, "robustness")}
    assert measured == {"ig"}
    for _ in range(2):  # twice is once
        alternatives.add(other, "half_overlap", dest)
    found = published.read(dest)
    lines = found.extras["alternatives"]
    assert not lines.duplicated(["clip_id", "table", "method", "level", "metric"]).any()
    assert set(lines["table"]) == set(scores.MEASURES) and set(lines["alternative"]) == {
        "half_overlap"
    }
    part = study.performance(found).iloc[-1]
    tested = store.clips(other)["split"] == "test"
    assert part["part"] == "fold 0, half overlap" and part["n_clips"] == tested.sum()
    assert set(found.extras["alternative_predictions"]["alternative"]) == {"half_overlap"}


def _tested(run):
    clips = store.clips(run)
    return clips.loc[clips["split"] == "test", "sequence"]
