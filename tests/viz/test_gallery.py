"""Pictures of a study: which clips, and that only finished ones are drawn."""

import io

import pandas as pd
import pytest
from PIL import Image

from vad_helpers import store
from vad_helpers.errors import InputError
from vad_helpers.store import scores
from vad_helpers.viz import gallery

pytestmark = pytest.mark.filterwarnings("ignore:.*all zero.*")


def table(lines):
    return pd.DataFrame(lines, columns=["clip_id", "scene", "auc"])


def test_the_first_of_each_scene_then_the_worst_and_the_best_and_none_twice():
    clips = [("a", "ped2", 0.1), ("b", "ped1", 0.2), ("c", "ped1", 0.9), ("d", "ped2", 0.3),
             ("e", "ped2", 0.5), ("f", "ped1", 0.4)]  # fmt: skip
    found = gallery.chosen(table(clips))
    assert [(name, line.clip_id) for name, line, _ in found] == [
        ("scene-ped1", "b"), ("scene-ped2", "a"), ("worst-1", "d"), ("worst-2", "f"),
        ("best-1", "c"),
    ]  # fmt: skip


def test_few_clips_are_shown_once():
    found = gallery.chosen(table([("a", "ped1", 0.5), ("b", "ped1", 0.4)]))
    assert [(name, line.clip_id) for name, line, _ in found] == [
        ("scene-ped1", "a"), ("worst-1", "b")]  # fmt: skip


@pytest.fixture
def run(in_project):
    return store.open_run("tiny", methods=["ig", "guided_backprop"], n_clips=3)


def test_pictures_show_clips_with_words_for_those_who_do_not_see_them(run):
    store.human_centric(run)
    found = gallery.pictures([run])
    assert 1 <= len(found) <= 3 and all(name.startswith(("scene", "worst")) for name in found)
    for picture in found.values():
        assert Image.open(io.BytesIO(picture.png)).size[0] > 500
        assert "heatmaps of 2 methods" in picture.alt
        assert picture.caption.startswith(picture.clip_id)


def test_the_score_is_the_mean_of_the_methods(run):
    scored = store.human_centric(run)
    part = scored[(scored["level"] == "clip") & (scored["metric"] == "auc")]
    part = part[part["method"].isin(["ig", "guided_backprop"])]
    expected = part.groupby("clip_id")["value"].mean()
    found = gallery.localised(run).set_index("clip_id")["auc"]
    pd.testing.assert_series_equal(found.sort_index(), expected, check_names=False)


def test_a_clip_that_a_method_lacks_is_not_shown(in_project, run, tmp_path):
    store.model(run)
    other = store.open_run("tiny", methods=["ig", "guided_backprop"], n_clips=3,
                           run_dir=str(tmp_path / "half"), trained_weights=str(
                               run.path("model.safetensors")))  # fmt: skip
    first, second = store.evaluation(other)["clip_id"][:2]
    with pytest.raises(InputError, match="no clip is explained and localised"):
        gallery.pictures([other])
    scores.score(other, "human_centric", first, "ig")
    for key in ("ig", "guided_backprop"):
        scores.score(other, "human_centric", second, key)
    assert gallery.localised(other)["clip_id"].tolist() == [second]
