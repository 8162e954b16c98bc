"""What the study of precisions concludes from scores."""

import json
from pathlib import Path

import pandas as pd
import pytest
from vad_helpers.store import detector

from benchmarks import precision
from vad_helpers import store
from vad_helpers.model import prediction


def scores(moves, *, by_scoring=0.0):
    """Two clips a method; the mean of its AUC moves by what `moves` says, its IoU not at all."""
    return pd.DataFrame(
        [
            {
                "clip_id": clip,
                "method": method,
                "score": score,
                "fp32": 0.5,
                "bf16": 0.5 + (move if score == "clip_auc" else 0.0),
                "scored_in_fp32": 0.5 - (by_scoring if score == "clip_auc" else 0.0),
                "agreement": agreement,
            }
            for method, move in moves.items()
            for clip, agreement in (("a", 0.99), ("b", 1.0))
            for score in ("clip_iou", "clip_auc")
        ]
    )


def test_a_method_whose_scores_move_stays_in_fp32():
    found = precision._summary(scores({"lime": -0.004, "ig": 0.02}))
    methods = {row["method"]: row for row in found["methods"]}
    assert methods["lime"]["default"] == "bf16" and methods["ig"]["default"] == "fp32"
    assert methods["ig"]["largest_move"] == pytest.approx(0.02)
    assert methods["ig"]["of"] == "clip_auc" and methods["ig"]["clips"] == 2
    assert methods["lime"]["agreement_min"] == 0.99
    assert methods["lime"]["agreement_mean"] == pytest.approx(0.995)


def test_moves_that_cancel_over_clips_do_not_count():
    table = scores({"ig": 0.02})
    table.loc[(table["clip_id"] == "b") & (table["score"] == "clip_auc"), "bf16"] = 0.48
    assert precision._summary(table)["methods"][0]["largest_move"] == pytest.approx(0.0)


@pytest.mark.parametrize(("move", "default"), [(0.004, "bf16"), (0.02, "fp32")])
def test_scoring_stays_in_fp32_if_it_alone_moves_a_score(move, default):
    found = precision._summary(scores({"ig": 0.0}, by_scoring=move))
    assert found["scoring"]["default"] == default
    assert found["scoring"]["largest_move"] == pytest.approx(move)
    assert found["scoring"]["of"] == "ig clip_auc" and found["scoring"]["clips"] == 2
    assert found["methods"][0]["default"] == "bf16"  # the maps are not to blame


def test_clips_that_were_scored_in_one_precision_alone_say_nothing_of_scoring():
    table = scores({"ig": 0.0}, by_scoring=0.02)
    table.loc[table["clip_id"] == "b", "scored_in_fp32"] = float("nan")
    found = precision._summary(table)["scoring"]
    assert found["clips"] == 1 and found["largest_move"] == pytest.approx(0.02)


def test_the_published_study_allows_what_auto_does(in_project, monkeypatch):
    monkeypatch.setattr(prediction, "computes_bf16", lambda device: True)
    path = Path(__file__).parents[1] / precision.RESULTS / "cpu.json"
    found = json.loads(path.read_text())
    assert found["scoring"]["default"] == "bf16" and found["scoring"]["clips"] >= 3
    run = store.open_run("tiny", precision="auto")
    assert detector.scoring_precision(run) == found["scoring"]["default"]
    assert {row["clips"] for row in found["methods"]} == {6}


def test_both_precisions_explain_one_network(in_project, tmp_path):
    runs = precision.both_runs("tiny", {"run_dir": str(tmp_path / "run")})
    assert {p: run.params.precision for p, run in runs.items()} == {"fp32": "fp32", "bf16": "bf16"}
    assert len({detector.model_key(run) for run in runs.values()}) == 1
    one, other = (detector.model(run).state_dict() for run in runs.values())
    assert all((one[name] == other[name]).all() for name in one)
