"""Several runs in one table: pairing, independence, what cannot be compared."""

import json

import numpy as np
import pandas as pd
import pytest

from vad_helpers.errors import InputError
from vad_helpers.store import comparison


def scores(values, *, method="ig", metric="auc", sequence="s{}"):
    """Two clips a sequence; `values` holds one score a clip."""
    lines = [
        (f"c{i}", sequence.format(i // 2), method, "clip", metric, value)
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(lines, columns=list(comparison.COLUMNS))


def write(folder, table, *, data="one", n_frames=16, name="human_centric"):
    folder.mkdir(exist_ok=True)
    table.to_csv(folder / f"{name}.csv", index=False)
    entry = {"clips.csv": {"data": data, "n_frames": n_frames}}
    (folder / "manifest.json").write_text(json.dumps(entry))
    return folder


@pytest.fixture
def first(tmp_path):
    return write(tmp_path / "a", scores([0.1, 0.2, 0.7, 0.8, 0.4, 0.5]))


def test_runs_on_the_same_clips_are_compared_clip_by_clip(first, tmp_path):
    second = write(tmp_path / "b", scores([0.2, 0.3, 0.8, 0.9, 0.5, 0.6]))
    found = comparison.compare_runs([first, second])
    assert found["mean"].tolist() == pytest.approx([0.45, 0.55])
    assert np.isnan(found["difference"][0])
    line = found.iloc[1]
    # Every clip gained .1, so resampling changes nothing: only pairing can see this.
    assert line[["difference", "difference_low", "difference_high"]].tolist() == (
        pytest.approx([0.1] * 3)
    )
    assert (line["n_shared"], line["verdict"]) == (6, "higher")


@pytest.mark.parametrize("other", [{"data": "two"}, {"n_frames": 8}])
def test_equal_names_of_other_clips_are_not_paired(first, tmp_path, other):
    second = write(tmp_path / "b", scores([0.2, 0.3, 0.8, 0.9, 0.5, 0.6]), **other)
    line = comparison.compare_runs([first, second]).iloc[1]
    assert line["n_shared"] == 0 and line["verdict"] == "undecided"
    assert line["difference"] == pytest.approx(0.1)
    assert line["difference_low"] < 0 < line["difference_high"]


def test_without_a_manifest_runs_are_not_paired(first, tmp_path):
    second = write(tmp_path / "b", scores([0.2, 0.3, 0.8, 0.9, 0.5, 0.6]))
    (second / "manifest.json").write_text("{")
    with pytest.warns(UserWarning, match="manifest.json is unreadable"):
        assert comparison.compare_runs([first, second])["n_shared"][1] == 0
    (first / "manifest.json").unlink()
    (second / "manifest.json").unlink()
    assert comparison.compare_runs([first, second])["n_shared"][1] == 0


def test_folds_share_no_clip_and_are_compared_as_samples(first, tmp_path):
    table = scores([0.2, 0.3, 0.8, 0.9]).assign(clip_id=lambda t: "other-" + t["clip_id"])
    line = comparison.compare_runs([first, write(tmp_path / "b", table)]).iloc[1]
    assert line["n_shared"] == 0 and line["difference"] == pytest.approx(0.1)


def test_an_undefined_score_is_left_out_of_both_sides(first, tmp_path):
    second = write(tmp_path / "b", scores([0.2, 0.3, np.nan, 0.9, 0.5, 0.6]))
    line = comparison.compare_runs([first, second]).iloc[1]
    assert (line["n"], line["n_shared"]) == (5, 5)
    assert line["difference"] == pytest.approx(0.1)


def test_a_row_of_one_run_only_has_no_difference(first, tmp_path):
    second = write(tmp_path / "b", scores([0.5] * 6, method="mine"))
    found = comparison.compare_runs([first, second])
    assert found["method"].tolist() == ["ig", "mine"] and found["difference"].isna().all()
    cells = comparison.spelled(found)
    assert cells.iloc[0].tolist() == ["0.450 [0.150, 0.750]", ""]


def test_one_sequence_has_no_interval_and_decides_nothing(tmp_path):
    runs = [write(tmp_path / name, scores([v, v])) for name, v in (("a", 0.5), ("b", 0.9))]
    found = comparison.compare_runs(runs)
    assert found["verdict"][1] == "undecided"
    assert comparison.spelled(found).iloc[0].tolist() == ["0.500", "0.900: +0.400 undecided"]


def test_descriptions_are_shown_only_when_asked_for(tmp_path):
    table = pd.concat([scores([0.5] * 4), scores([7.0] * 4, metric="n_moving")])
    folder = write(tmp_path / "a", table)
    assert set(comparison.compare_runs([folder])["metric"]) == {"auc"}
    assert set(comparison.compare_runs([folder], metrics=["n_moving"])["metric"]) == {"n_moving"}


def test_metrics_and_methods_are_kept_by_name(tmp_path):
    parts = [scores([0.5] * 4, method=m, metric=k) for m in ("ig", "lime") for k in ("auc", "iou")]
    folder = write(tmp_path / "a", pd.concat(parts))
    found = comparison.compare_runs([folder], metrics=["iou"], methods=["lime"])
    assert found[["metric", "method"]].to_numpy().tolist() == [["iou", "lime"]]
    with pytest.raises(InputError, match="no run has scores of mauc"):
        comparison.compare_runs([folder], metrics=["mauc"])


def test_lines_follow_the_catalogue_and_runs_the_order_given(tmp_path):
    parts = [scores([0.5] * 4, metric=k) for k in ("own_metric", "auc", "iou")]
    runs = [write(tmp_path / name, pd.concat(parts)) for name in ("z", "a")]
    cells = comparison.spelled(comparison.compare_runs(runs, metrics=["auc", "own_metric", "iou"]))
    assert cells.index.get_level_values("metric").tolist() == ["iou", "auc", "own_metric"]
    assert cells.columns.tolist() == [str(run) for run in runs]


def test_a_run_given_twice_is_numbered_and_differs_in_nothing(first):
    found = comparison.compare_runs([first, first])
    assert found["run"].tolist() == [str(first), f"{first} (2)"]
    assert found["difference"][1] == 0 and found["verdict"][1] == "undecided"


def test_an_undefined_mean_is_spelled(tmp_path):
    folder = write(tmp_path / "a", scores([np.nan] * 4))
    assert comparison.spelled(comparison.compare_runs([folder])).iloc[0, 0] == "undefined"


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n", "", "clip_id,sequence,level,metric,method,value\nc,s,clip,iou,ig,high\n"]
)
def test_a_damaged_table_is_named(tmp_path, text):
    (tmp_path / "human_centric.csv").write_text(text)
    with pytest.raises(InputError, match="human_centric.csv is no table of scores"):
        comparison.compare_runs([tmp_path])


def test_a_folder_without_scores_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no scores"):
        comparison.compare_runs([tmp_path])
