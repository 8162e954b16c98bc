import dataclasses
import re
import time
from pathlib import Path

import pandas as pd
import pytest

from vad_helpers.store.cache import Run
from vad_helpers.store.params import Params, load, project_root
from vad_helpers.viz import page


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr(page, "display", lambda value, **_: found.append(value))
    return found


@pytest.fixture
def params() -> Params:
    return load("quick", root=project_root(Path(__file__)))


def run_of(params, **changes):
    return Run(params=dataclasses.replace(params, **changes), root=Path("."), dir=Path("runs"))


def test_live_unless_the_batch_says_otherwise(monkeypatch):
    monkeypatch.delenv("VAD_BATCH", raising=False)
    assert page.live() is True
    monkeypatch.setenv("VAD_BATCH", "1")
    assert page.live() is False


def test_notice_says_synthetic(shown, params):
    page.data_notice(run_of(params))
    assert "Synthetic data" in shown[0].data


@pytest.mark.parametrize(
    ("origin", "words"),
    [("ucsd", "Real data"), ("own", "Own videos"), ("walkway", "Synthetic data")],
)
def test_notice_says_what_the_tree_holds_and_not_what_it_is_read_as(
    shown, params, monkeypatch, origin, words
):
    monkeypatch.setattr(page.store, "data_origin", lambda run: origin)
    monkeypatch.setattr(page.store, "sequences", lambda run: dict.fromkeys("abc"))
    run = run_of(params, dataset="ucsd", data_dir="data/ucsd", fold=3)
    page.data_notice(run)
    assert words in shown[0].data
    if origin != "walkway":
        assert "`data/ucsd`" in shown[0].data and "fold 3" in shown[0].data
    assert ("3 of 98 official sequences" in shown[0].data) == (origin == "ucsd")
    kind = page.provenance_table(run, since=0)["provenance"]["data"]
    assert kind.startswith(page.ORIGINS[origin])


def test_sentences_become_a_list_without_empty_ones(shown):
    page.say("one", "", "two")
    assert shown[0].data == "- one\n- two"


def test_table_rounds_dashes_and_hides_its_index(shown):
    page.table(pd.DataFrame({"a": [0.12345, None]}), index=False, digits=2)
    html = shown[0].data
    assert "0.12" in html and "0.123" not in html
    assert "–" in html and "NaN" not in html
    assert "<th>0</th>" not in html
    assert 'tabindex="0"' in html, "a table that scrolls must be reachable by keyboard"


def test_table_has_one_header_line_and_wraps_on_demand(shown):
    frame = pd.DataFrame({"a": ["long"]}, index=pd.Index(["row"], name="name"))
    page.table(frame, wrap=True)
    assert shown[0].data.count("<tr") == 2
    assert "white-space: normal" in shown[0].data


def test_table_of_paired_columns_leaves_the_original_alone(shown):
    columns = pd.MultiIndex.from_tuples([("AUC", "this run"), ("AUC", "paper")], names=["a", "b"])
    frame = pd.DataFrame([["0.5", ""]], index=pd.Index(["IG"], name="label"), columns=columns)
    page.table(frame)
    assert "this run" in shown[0].data and "label" not in shown[0].data
    assert frame.index.name == "label"


def test_table_says_what_its_headers_head(shown):
    page.table(pd.DataFrame({"a": [1, 2]}, index=["x", "y"]))
    html = shown[0].data
    assert '<th scope="col">a</th>' in html
    assert html.count('<th scope="row">') == 2
    assert "<thead>" in html


def test_an_interval_may_go_below_its_mean_and_nothing_else_is_taken_for_one():
    cells = ["0.12 [0.1, 0.2]", "-0.12 [-0.2, -0.1] (2)", "ig [1]", "[0.1, 0.2]"]
    html = page.table_html(pd.DataFrame({"auc": cells}))
    assert '<td class="vad-mean">0.12 <span>[0.1, 0.2]</span></td>' in html
    assert '<td class="vad-mean">-0.12 <span>[-0.2, -0.1]</span> (2)</td>' in html
    assert "<td>ig [1]</td>" in html and "<td>[0.1, 0.2]</td>" in html
    wrapped = page.table_html(pd.DataFrame({"auc": cells}), wrap=True)
    assert wrapped.count("text-align: left") == 4 and "vad-mean" not in wrapped


@pytest.fixture
def summary():
    rows = [
        ("IG", "gradient", "clip", "auc", 0.7, 0.6, 0.8),
        ("LIME", "perturbation", "clip", "auc", 0.6, 0.5, 0.7),
        ("Frame difference", "reference", "clip", "auc", 0.9, None, None),
        ("IG", "gradient", "threshold", "insertion", 0.3, 0.2, 0.4),
        ("LIME", "perturbation", "threshold", "insertion", 0.1, 0.0, 0.2),
        ("IG", "gradient", "threshold", "mean_area", 0.3, 0.2, 0.4),
        ("IG", "gradient", "clip", "cv", None, None, None),
    ]
    columns = ["label", "family", "level", "metric", "mean", "low", "high"]
    return pd.DataFrame(rows, columns=columns).assign(n=8)


def test_best_names_method_and_reference(summary):
    text = page.best(summary, level="clip", metric="auc")
    assert "best method IG, 0.700 [0.600, 0.800]" in text
    assert "best reference row Frame difference, 0.900." in text
    assert "higher is better" in text


def test_best_compares_no_row_that_has_fewer_clips(summary):
    summary.loc[summary["label"] == "IG", "n"] = 3
    text = page.best(summary, level="clip", metric="auc")
    assert "best method LIME, 0.600" in text
    assert text.endswith("Not compared, for fewer clips: IG.")


def test_best_counts_the_rows_of_fewer_clips_where_they_are_many(summary):
    few = summary[summary["label"] == "IG"].assign(n=2)
    named = pd.concat([summary, *(few.assign(label=f"IG {i}") for i in range(3))])
    text = page.best(named, level="clip", metric="auc")
    assert text.endswith("Not compared, for fewer clips: IG 0, IG 1, IG 2.")
    counted = pd.concat([named, few.assign(label="IG 3")])
    text = page.best(counted, level="clip", metric="auc")
    assert text.endswith("Not compared, for fewer clips: 4 rows of the table.")


def test_best_of_a_cost_is_the_lowest(summary):
    text = page.best(summary, level="threshold", metric="insertion")
    assert "best method LIME, 0.100" in text
    assert "reference" not in text


@pytest.mark.parametrize(
    "level, metric", [("threshold", "mean_area"), ("clip", "cv"), ("clip", "unheard_of")]
)
def test_best_of_nothing_is_silent(summary, level, metric):
    assert page.best(summary, level=level, metric=metric) == ""


def test_comparisons_are_spelled_with_interval_side_and_corrected_p():
    line = {"contrast": "LIME - KernelSHAP", "level": "clip", "metric": "cv", "n": 7}
    line |= {"difference": -0.1, "low": -0.2, "high": -0.05, "p_holm": 0.03125}
    found = pd.DataFrame([
        line | {"verdict": "lower", "better": "a"},
        line | {"verdict": "undecided", "better": "", "high": 0.1},
    ])  # fmt: skip
    text = page.contrast_table(found)
    assert text.iloc[0].tolist() == [
        "LIME − KernelSHAP", "C_v, clip", "-0.100 [-0.200, -0.050]", "lower", "LIME", "0.031", "7",
    ]  # fmt: skip
    assert text.loc[1, "better"] == "–"
    assert page.contrast_table(found[:0]).empty


def test_provenance_holds_what_the_design_asks_for(params):
    table = page.provenance_table(run_of(params), since=time.time() - 5)
    lines = table["provenance"]
    needed = ["profile", "data", "seed", "device", "versions", "wall time", "peak memory"]
    assert set(needed) <= set(lines.index)
    assert lines["profile"] == "quick"
    assert "synthetic" in lines["data"]
    assert re.search(r"torch \d", lines["versions"])
    assert int(re.match(r"(\d+) s", lines["wall time"])[1]) in (5, 6)
    assert "GiB" in lines["peak memory"]
    assert "from random weights" in lines["weights"]


def test_provenance_names_given_weights_without_their_folder(params, monkeypatch):
    monkeypatch.setattr(page.store, "data_origin", lambda run: "ucsd")
    given = run_of(params, trained_weights="some/folder/best.safetensors", dataset="ucsd")
    lines = page.provenance_table(given, since=time.time())["provenance"]
    assert lines["weights"] == "given: best.safetensors"
    assert lines["data"].startswith("UCSD")
    started = run_of(params, init_weights="some/folder/i3d.pt")
    assert "from i3d.pt" in page.provenance_table(started, since=0)["provenance"]["weights"]


def test_provenance_tells_programs_too(params, monkeypatch):
    told = {}
    monkeypatch.setattr(page, "display", lambda value, metadata: told.update(metadata["vad"]))
    page.provenance(run_of(params), since=time.time() - 5)
    assert told["peak_bytes"] > 2**20
    assert told["device"] and any(text.startswith("torch ") for text in told["versions"])


def test_provenance_is_shown_wrapped(shown, params):
    page.provenance(run_of(params), since=time.time())
    assert "white-space: normal" in shown[0].data


def test_memory_is_unknown_where_the_system_does_not_say(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert page._peak_memory(None) == "unknown on this system"


def test_memory_and_name_of_a_gpu(monkeypatch, params):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 3 * 2**30)
    monkeypatch.setattr("torch.cuda.get_device_name", lambda: "Some GPU")
    assert page._peak_memory(2**30).endswith("3.0 GiB on the GPU")
    assert page._device(run_of(params)) == "Some GPU"
    assert page._device(run_of(params, device="cpu")).startswith("CPU")


def test_a_difference_without_an_interval_says_so():
    line = pd.Series({"difference": 0.0224, "low": -0.1, "high": 0.2})
    assert page.spell_difference(line) == "+0.022 [-0.100, +0.200]"
    alone = line.mask(line.index != "difference")
    assert page.spell_difference(alone) == "+0.022 (no interval)"
    assert page.spell_difference(line * float("nan")) == "undefined"
