"""The benchmark on a subject of a second: its table, its exactness, its growth."""

import json
import math

import numpy as np
import pytest
import torch

import benchmarks
from benchmarks import __main__ as command
from benchmarks import bench, exactness, growth, machine, plain_captum
from vad_helpers.attribution import METHODS
from vad_helpers.errors import InputError
from vad_helpers.model.i3d import InceptionI3d
from vad_helpers.run import experiment
from vad_helpers.tables import paper

SHAPE = (8, 40, 48)
PEAKS = {"fp32": 80.0, "bf16": 300.0}

SETTINGS = {
    "ig": {"n_steps": 3},
    "ig_smoothgrad": {"n_steps": 2, "n_samples": 2, "sigma": 0.2},
    "gradient_shap": {"n_samples": 3},
    "kernel_shap": {"n_samples": 24, "n_segments": 12},
    "lime": {"n_samples": 20, "alpha": 1e-6, "n_segments": 12},
    "occlusion_lp": {"window": (4, 20, 24), "stride": (4, 20, 24)},
    "occlusion_sp": {"window": (4, 14, 16), "stride": (2, 7, 8)},
}


def subject_of_size(shape):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = InceptionI3d(width=0.1)
        torch.nn.init.normal_(network.logits.conv3d.weight, std=0.3)
        coarse = torch.randn(1, 1, 4, 10, 12)
        smooth = torch.nn.functional.interpolate(coarse, size=shape, mode="trilinear")[0]
        clip = 0.6 * smooth + 0.05 * torch.randn(1, *shape)
    return bench.Subject(network.eval(), clip.repeat(3, 1, 1, 1), SETTINGS)


@pytest.fixture(scope="module")
def subject():
    return subject_of_size(SHAPE)


@pytest.mark.slow
def test_every_method_has_a_row_of_consistent_figures_with_its_work(subject, monkeypatch):
    monkeypatch.setattr(bench, "computes_bf16", lambda device: True)
    found = bench.rows(subject, list(plain_captum.METHODS), peaks=PEAKS, repeats=3, slow_repeats=1)
    rows = {row["method"]: row for row in found}
    scoring, whole = rows.pop("scoring"), rows.pop("whole_clip")
    for key in ("captum_fp32_s", "ours_fp32_s", "ours_bf16_s", "ours_auto_s"):
        parts = [row[key] + scoring[key] for row in rows.values()]
        assert min(parts) > scoring[key] > 0 and whole[key] == pytest.approx(sum(parts))
    assert whole["speedup_auto"] == pytest.approx(whole["captum_fp32_s"] / whole["ours_auto_s"])
    assert list(rows) == list(plain_captum.METHODS) and rows.keys() <= METHODS.keys()
    printed = paper().query("metric == 'seconds'").set_index("row")["paper"]
    for method, row in rows.items():
        assert row["paper_s"] == printed[method]
        assert row["repeats"] == (1 if method in bench.SLOW else 3)
        assert METHODS[method].precision == "bf16" or row["auto"].startswith("fp32")
        for whose in ("captum_fp32", "ours_fp32", "ours_bf16"):
            assert len(row[f"{whose}_all_s"]) == row["repeats"]
            assert row[f"{whose}_s"] == np.median(row[f"{whose}_all_s"])
        for precision, peak in PEAKS.items():
            ours = row[f"ours_{precision}_s"]
            assert row[f"speedup_{precision}"] == pytest.approx(row["captum_fp32_s"] / ours)
            assert row[f"peak_share_{precision}"] == pytest.approx(row["ours_gflop"] / ours / peak)
            assert row[f"peak_{precision}_gb"] > 0
        assert row["agreement_fp32"] > 0.999 and row["agreement_bf16"] > 0.5, method
    json.dumps(list(rows.values()))  # no NumPy numbers
    # The work is Captum's where nothing can be saved, and less elsewhere.
    shares = {key: row["ours_gflop"] / row["captum_gflop"] for key, row in rows.items()}
    assert shares.pop("guided_backprop") == pytest.approx(1, abs=1e-6)
    assert all(0.1 < share < 0.9 for share in shares.values())
    forward, backward = bench.network_gflop(subject)
    assert 0 < backward < 2 * forward
    assert rows["lime"]["captum_gflop"] == pytest.approx(20 * forward)
    assert rows["ig"]["captum_gflop"] == pytest.approx(3 * (forward + backward))


def test_where_bf16_is_emulated_only_fp32_is_timed(subject, monkeypatch):
    monkeypatch.setattr(bench, "computes_bf16", lambda device: False)
    monkeypatch.setattr(experiment, "computes_bf16", lambda device: False)
    row, *_ = bench.rows(subject, ["guided_backprop"], peaks=PEAKS, repeats=1, slow_repeats=1)
    assert row["speedup_fp32"] > 0 and not [key for key in row if "bf16" in key]


def test_operations_are_counted_by_the_formula_in_one_thread():
    layer = torch.nn.Conv3d(3, 4, (1, 3, 3), bias=False)
    clips = torch.rand(2, 3, 5, 8, 9, requires_grad=True)
    threads = torch.get_num_threads()
    with bench.FlopCounter() as counter:
        assert torch.get_num_threads() == 1
        out = layer(clips)
        forward = counter.total
        torch.autograd.grad(out.sum(), clips)
    assert forward == 2 * (3 * 3 * 3) * 4 * (2 * 5 * 6 * 7)
    assert counter.total == 2 * forward  # to the input alone
    assert torch.get_num_threads() == threads


def test_captums_small_occlusion_is_timed_on_a_coarser_grid_and_scaled(subject):
    # 3 x 5 x 5 windows and the clip itself, over 2 x 3 x 3 and the clip.
    assert bench.coarse(subject, "occlusion_sp") == ({"stride": (4, 14, 16)}, 76 / 19)
    for method in set(plain_captum.METHODS) - {"occlusion_sp"}:
        assert bench.coarse(subject, method) == ({}, 1)
    full = bench.Subject(subject.network, torch.zeros(3, 20, 158, 237))
    assert bench.coarse(full, "occlusion_sp")[1] == 4789 / (5 * 10 * 15 + 1)


def test_agreement_is_the_rank_correlation_or_none():
    one = np.arange(1, 5).reshape(1, 2, 2)
    assert bench.agreement(one, one**2) == pytest.approx(1)
    assert bench.agreement(one, -one) == pytest.approx(-1)
    assert bench.agreement(one, 0 * one) is bench.agreement(0 * one, one) is None


@pytest.mark.slow
def test_float64_equals_captum_and_float32_is_about_as_good(monkeypatch):
    for method, options in exactness.FEWER.items():  # at full size, which is not run here
        METHODS[method].complete(options, (3, *command.SMALLER))
    subject = subject_of_size((16, 32, 40))  # too few frames at depth make maxima equal
    kinds = [type(module).__name__ for module in subject.stock.modules()]
    assert "SameMaxPool3d" not in kinds and kinds.count("StockMaxPool3d") == 13
    monkeypatch.setattr(exactness, "FEWER", SETTINGS)
    rows = exactness.rows(subject, ["ig", "guided_backprop", "lime", "occlusion_lp"])
    assert len(rows) == 4
    for row in rows:
        assert row["clips"] == (exactness.N_CLIPS if row["method"] == "guided_backprop" else 1)
        # Captum adds up occlusion in float32.
        bound = 1e-6 if row["method"].startswith("occlusion") else 1e-10
        assert 0 <= row["float64"] < bound, row
        assert row["ours_fp32"] < 0.05 and row["captum_fp32"] < 0.05, row
    assert {p.dtype for p in subject.network.parameters()} == {torch.float32}


def test_the_command_writes_one_file_a_machine(tmp_path, monkeypatch, subject, capsys):
    monkeypatch.setattr(command, "random_network", lambda: subject.network)
    monkeypatch.setattr(command, "synthetic_clip", lambda: subject.clip)
    monkeypatch.setattr(command, "SMALLER", (8, 20, 24))
    monkeypatch.setattr(bench, "peak_gflops", lambda device: PEAKS)
    monkeypatch.setattr(growth, "SHARES", {"clips": (1, 2)})
    monkeypatch.setattr(growth, "CHEAP", {"guided_backprop": {}})
    command.main(methods="guided_backprop", repeats=2, device="cpu", out=tmp_path)
    (path,) = tmp_path.iterdir()
    assert path.stem == machine.name(torch.device("cpu")) and path.suffix == ".json"
    assert "\nscoring: captum_fp32 " in capsys.readouterr().out
    found = json.loads(path.read_text(encoding="utf-8"))
    names = [row["method"] for row in found["rows"]]
    assert names == ["guided_backprop", "scoring", "whole_clip"]
    assert found["rows"][0]["repeats"] == 2 and found["peak_gflops"] == PEAKS
    assert [row["method"] for row in found["exactness"]] == ["guided_backprop"]
    (row,), clip = found["growth"], growth.resized(subject.clip, "pixels", 0.5)
    assert (row["axis"], row["sizes"]) == ("clips", [1, 2]) and clip.shape == (3, 8, 28, 34)
    assert row["exponent"] == pytest.approx(math.log2(row["seconds"][1] / row["seconds"][0]))
    assert found["subject"]["shape"] == [3, *SHAPE] and found["processor"]


def test_the_table_of_results_has_this_machine_first(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3 ")
    assert machine.name(torch.device("cuda")) == "nvidia-h100-80gb-hbm3"  # for a file
    assert benchmarks.table(tmp_path).empty
    monkeypatch.setattr(machine, "name", lambda device: "m")
    for name in "amz":
        result = {"device": name, "rows": [{"method": "ig", "captum_fp32_s": 2.0}]}
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    table = benchmarks.table(tmp_path)
    assert list(table["device"]) == ["m", "a", "z"] and set(table["captum_fp32_s"]) == {2.0}
    assert table["ours_bf16_s"].isna().all()
    (tmp_path / "a.json").write_text('{"device": "a"}')
    with pytest.raises(InputError, match="a.json is no benchmark result"):
        benchmarks.table(tmp_path)


def test_peak_memory_is_in_bytes_and_holds_what_was_allocated(monkeypatch):
    ballast = np.ones(8_000_000)  # 64 MB
    assert ballast.nbytes < machine.peak_memory() < 2**40
    monkeypatch.setattr(machine, "resource", None)  # Windows does not tell
    assert np.isnan(machine.peak_memory())
