"""What the study of precisions concludes from scores."""

import json

import pandas as pd
import pytest

from benchmarks import precision
from vad_helpers.inference.prepared import computes_bf16


def scores(moves, *, by_scoring=0.0):
    """Two clips a method; the mean of its AUC moves by what `moves` says, its IoU not at all."""
    lines = [
        (clip, method, score, 0.5, 0.5 + moved * move, 0.5 - moved * by_scoring, agreement)
        for method, move in moves.items()
        for clip, agreement in (("a", 0.99), ("b", 1.0))
        for score, moved in (("clip_iou", 0), ("clip_auc", 1))
    ]
    columns = "clip_id method score fp32 bf16 scored_in_fp32 agreement".split()
    return pd.DataFrame(lines, columns=columns)


def test_a_method_whose_mean_scores_move_stays_in_fp32():
    table = scores({"lime": -0.004, "ig": 0.02})
    found = precision.summary(table)
    methods = {row["method"]: row for row in found["methods"]}
    assert methods["lime"]["default"] == "bf16" and methods["ig"]["default"] == "fp32"
    assert methods["ig"]["largest_move"] == pytest.approx(0.02)
    assert methods["ig"]["of"] == "clip_auc" and methods["ig"]["clips"] == 2
    assert methods["lime"]["agreement_min"] == 0.99
    assert methods["lime"]["agreement_mean"] == pytest.approx(0.995)
    table.loc[(table["clip_id"] == "b") & (table["bf16"] == 0.52), "bf16"] = 0.48  # cancels
    assert precision.summary(table)["methods"][1]["largest_move"] == pytest.approx(0.0)


@pytest.mark.parametrize(("move", "default"), [(0.004, "bf16"), (0.02, "fp32")])
def test_scoring_stays_in_fp32_if_it_alone_moves_a_score(move, default):
    table = scores({"ig": 0.0}, by_scoring=move)
    table.loc[table["clip_id"] == "b", "scored_in_fp32"] = float("nan")  # says nothing of scoring
    found = precision.summary(table)
    expected = {"clips": 1, "largest_move": pytest.approx(move), "of": "ig clip_auc"}
    assert found["scoring"] == expected | {"default": default}
    assert found["methods"][0]["default"] == "bf16"  # the maps are not to blame


@pytest.mark.skipif(not computes_bf16("cpu"), reason="this CPU only emulates bf16")
@pytest.mark.slow
def test_the_study_scores_maps_of_both_precisions_of_one_network(in_project, tmp_path, capsys):
    given = ["methods=[ig, lime]", "n_clips=2", "variants={}", "device=cpu"]
    options = {"scoring_clips": 1, "folder": tmp_path / "runs", "out": tmp_path}
    precision.main("tiny", given, **options)
    found = json.loads((tmp_path / "cpu.json").read_text())
    assert [row["method"] for row in found["methods"]] == ["ig", "lime"]
    assert {row["clips"] for row in found["methods"]} == {2} and found["scoring"]["clips"] == 1
    assert all(0.5 < row["agreement_min"] < 1 for row in found["methods"])
    # No network is asked for localisation.
    assert {r["by_scoring"] for r in found["scores"] if r["score"].startswith("clip")} == {0}
    sums = [(tmp_path / f"runs/{name}/manifest.json").read_text() for name in ("maps", "scoring")]
    assert len({json.loads(text)["weights_sha256"] for text in sums}) == 1
    again = {**options, "folder": tmp_path / "again"}
    precision.main("tiny", ["methods=[lime]", "n_clips=1", *given[2:]], **again)
    both = json.loads((tmp_path / "cpu.json").read_text())
    assert {row["method"]: row["clips"] for row in both["methods"]} == {"ig": 2, "lime": 1}
    assert both["clips"] == {"ig": found["clips"]["ig"], "lime": found["clips"]["lime"][:1]}
    assert [r for r in both["scores"] if r["method"] == "ig"] == [
        r for r in found["scores"] if r["method"] == "ig"
    ]
