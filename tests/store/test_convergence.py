"""The doubling table on the tiny project."""

import pytest

from vad_helpers import store
from vad_helpers.store import convergence

pytestmark = pytest.mark.filterwarnings("ignore:.*all zero.*")


@pytest.fixture
def run(in_project):
    return store.open_run("tiny", methods=["ig", "lime"])


def test_doubling_ends_at_the_methods_largest_row(run):
    found = store.convergence_table(run)
    assert set(found["method"]) == {"lime"}
    assert set(found["scene"]) == set(store.evaluation(run)["scene"])
    for _, part in found.groupby("clip_id"):
        tried = part["n_samples"].tolist()
        assert tried == [25, 50][: len(tried)], "its variant has 60 samples"
        assert tried[-1] == 50 or part["converged"].iloc[-1]


def test_the_table_is_built_once(run, monkeypatch):
    first = store.convergence_table(run)
    monkeypatch.setattr(convergence, "converge", lambda *a, **k: pytest.fail("built again"))
    assert store.convergence_table(run).equals(first)


def test_what_there_is_of_the_table_is_handed_out_after_every_clip(run):
    seen = []
    found = store.convergence_table(run, after=lambda table: seen.append(table.copy()))
    assert [part["clip_id"].nunique() for part in seen] == [1, 2]
    assert seen[-1].equals(found) and found.iloc[: len(seen[0])].equals(seen[0])


def test_a_slow_row_is_checked_on_its_own_clips_only(run, monkeypatch):
    monkeypatch.setattr(store.maps, "SLOW_CALLS", 59)
    few = store.open_run("tiny", methods=["ig", "lime"], n_clips_slow=1)
    assert set(store.convergence_table(few)["clip_id"]) == {store.evaluation(few)["clip_id"][0]}


def test_a_run_without_sampled_methods_has_nothing_to_double(in_project):
    found = store.convergence_table(store.open_run("tiny", methods=["ig"], variants={}))
    assert found.empty and "correlation" in found
