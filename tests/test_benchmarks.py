"""The benchmark on a subject of a second: its table, its exactness, its growth."""

import json
import math
import mmap

import numpy as np
import pytest
import torch
import typer
from typer.testing import CliRunner

from benchmarks import __main__ as command
from benchmarks import bench, exactness, growth, machine, plain_captum
from vad_helpers import store
from vad_helpers.attribution import METHODS
from vad_helpers.inference.prepared import prepare
from vad_helpers.model.i3d import InceptionI3d

APP = typer.Typer()
APP.command()(command.main)
CPU = torch.device("cpu")
SHAPE = (8, 40, 48)
PEAKS = {"fp32": 80.0, "bf16": 300.0}

SUPERPIXELS = {"n_segments": 12}
SETTINGS = {
    "ig": {"n_steps": 3},
    "ig_smoothgrad": {"n_steps": 2, "n_samples": 2, "sigma": 0.2},
    "gradient_shap": {"n_samples": 3},
    "kernel_shap": {"n_samples": 24, **SUPERPIXELS},
    "lime": {"n_samples": 20, "alpha": 1e-6, **SUPERPIXELS},
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


def test_all_methods_have_a_plain_recipe():
    assert set(plain_captum.METHODS) == set(METHODS)


# --- the table -----------------------------------------------------------------------------------

KEYS = {
    *("method", "name", "repeats", "model_calls", "captum_scaled_by", "paper_s"),
    *(
        f"{whose}_{kind}"
        for whose in ("captum_fp32", "ours_fp32", "ours_bf16")
        for kind in ("s", "all_s")
    ),
    *(f"{what}_{p}" for what in ("speedup", "peak_share", "agreement") for p in ("fp32", "bf16")),
    *("ours_gflop", "captum_gflop", "peak_fp32_gb", "peak_bf16_gb"),
}


@pytest.fixture(scope="module")
def table(subject):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "peak_gflops", lambda device: PEAKS)
        patch.setattr(bench, "computes_bf16", lambda device: True)
        rows = bench.rows(subject, list(METHODS), repeats=1, slow_repeats=1, progress=False)
    return {row["method"]: row for row in rows}


@pytest.mark.slow
def test_every_method_has_a_row_in_the_schema(table):
    assert list(table) == list(METHODS)
    for method, row in table.items():
        assert set(row) == KEYS, method
        assert row["name"] == METHODS[method].name and row["repeats"] == 1
        for key in KEYS - {"method", "name"}:
            values = row[key] if isinstance(row[key], list) else [row[key]]
            assert all(math.isfinite(value) and value > 0 for value in values), (method, key)
    json.dumps(list(table.values()))  # no NumPy numbers


@pytest.mark.slow
def test_a_speedup_is_captums_seconds_over_ours(table):
    for row in table.values():
        for precision in ("fp32", "bf16"):
            ratio = row["captum_fp32_s"] / row[f"ours_{precision}_s"]
            assert row[f"speedup_{precision}"] == pytest.approx(ratio)
            rate = row["ours_gflop"] / row[f"ours_{precision}_s"]
            assert row[f"peak_share_{precision}"] == pytest.approx(rate / PEAKS[precision])


def test_where_bf16_is_emulated_only_fp32_is_timed(subject, monkeypatch):
    monkeypatch.setattr(bench, "computes_bf16", lambda device: False)
    monkeypatch.setattr(bench, "peak_gflops", lambda device: {"fp32": 1.0})
    (row,) = bench.rows(subject, ["guided_backprop"], repeats=1, slow_repeats=1, progress=False)
    assert set(row) == {key for key in KEYS if "bf16" not in key}
    assert "ours fp32" in bench.summary(row) and "bf16" not in bench.summary(row)


def test_seconds_are_the_median_of_the_runs_and_scaled_by_the_windows(subject, monkeypatch):
    spent = iter([5.0, 1.0, 0.5, 2.0, 1.0, 0.5, 3.0, 1.5, 0.7])
    clocked = bench._clocked

    def fake(subject, function):
        return clocked(subject, function)[0], next(spent)

    monkeypatch.setattr(bench, "_clocked", fake)
    ours = {precision: prepare(subject.network, precision=precision) for precision in PEAKS}
    row = bench._timed(subject, ours, "occlusion_sp", 3)
    assert row["captum_fp32_all_s"] == [20.0, 8.0, 12.0] and row["captum_fp32_s"] == 12.0
    assert (row["ours_fp32_s"], row["ours_bf16_s"]) == (1.0, 0.5)
    assert row["speedup_fp32"] == 12.0 and row["speedup_bf16"] == 24.0


@pytest.mark.slow
def test_maps_agree_with_captums(table):
    for method, row in table.items():
        assert row["agreement_fp32"] > 0.999, method
        assert row["agreement_bf16"] > 0.5, method


@pytest.mark.slow
def test_work_is_captums_where_nothing_is_saved_and_less_elsewhere(table):
    shares = {key: row["ours_gflop"] / row["captum_gflop"] for key, row in table.items()}
    for method in ("guided_backprop", "lime", "kernel_shap"):
        assert shares.pop(method) == pytest.approx(1, abs=1e-6)
    assert all(0.1 < share < 0.9 for share in shares.values())
    forward, backward = bench._network_gflop(subject_of_size(SHAPE))
    assert 0 < backward < 2 * forward
    assert table["lime"]["captum_gflop"] == pytest.approx(20 * forward)
    assert table["ig"]["captum_gflop"] == pytest.approx(3 * (forward + backward))


def test_operations_are_counted_by_the_formula():
    layer = torch.nn.Conv3d(3, 4, (1, 3, 3), bias=False)
    clips = torch.rand(2, 3, 5, 8, 9, requires_grad=True)
    with bench.FlopCounter() as counter:
        out = layer(clips)
        forward = counter.total
        torch.autograd.grad(out.sum(), clips)
    assert forward == 2 * (3 * 3 * 3) * 4 * (2 * 5 * 6 * 7)
    assert counter.total == 2 * forward  # to the input alone


@pytest.mark.slow
def test_the_papers_seconds_are_those_of_its_table(table):
    paper = store.paper_table(2)
    seconds = paper[paper["metric"] == "seconds"].set_index("method")["paper"]
    assert {key: row["paper_s"] for key, row in table.items()} == seconds.to_dict()


def test_captums_small_occlusion_is_timed_on_a_coarser_grid_and_scaled(subject):
    # 3 x 5 x 5 windows and the clip itself, over 2 x 3 x 3 and the clip.
    assert bench.captum_scale(subject, "occlusion_sp") == 76 / 19
    assert bench.coarse(subject, "occlusion_sp") == {"stride": (4, 14, 16)}
    for method in set(METHODS) - {"occlusion_sp"}:
        assert bench.captum_scale(subject, method) == 1 and bench.coarse(subject, method) == {}
    full = bench.Subject(subject.network, torch.zeros(3, 20, 158, 237))
    n_coarse = 5 * 10 * 15
    assert bench.captum_scale(full, "occlusion_sp") == 4789 / (n_coarse + 1)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1, 2, 3, 4], [1, 4, 9, 16], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3, 4], [2, 2, 2, 2], None),
        ([0, 0, 0, 0], [1, 2, 3, 4], None),
    ],
)
def test_agreement_is_the_rank_correlation_or_none(a, b, expected):
    found = bench.agreement(np.array(a).reshape(1, 2, 2), np.array(b).reshape(1, 2, 2))
    assert found == (None if expected is None else pytest.approx(expected))


# --- exactness -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_float64_equals_captum_and_float32_is_about_as_good(monkeypatch):
    subject = subject_of_size((16, 32, 40))  # too few frames at depth make maxima equal
    monkeypatch.setattr(exactness, "FEWER", SETTINGS)
    rows = exactness.rows(subject, list(METHODS))
    assert [row["method"] for row in rows] == list(METHODS)
    for row in rows:
        assert set(row) == {"method", "clips", "float64", "ours_fp32", "captum_fp32", "ratio"}
        averaged = row["method"] in ("guided_backprop", "gradient_shap")
        assert row["clips"] == (exactness.N_CLIPS if averaged else 1)
        # Captum adds up occlusion in float32.
        bound = 1e-6 if row["method"].startswith("occlusion") else 1e-10
        assert 0 <= row["float64"] < bound, row
        assert row["ours_fp32"] < 0.05 and row["captum_fp32"] < 0.05, row
        if row["captum_fp32"]:
            assert row["ratio"] == pytest.approx(row["ours_fp32"] / row["captum_fp32"])
    assert {p.dtype for p in subject.network.parameters()} == {torch.float32}


def test_the_settings_of_exactness_fit_their_methods_and_clip():
    for method, options in exactness.FEWER.items():
        spec = METHODS[method]
        assert set(options) <= set(spec.settings)
        spec.check({**spec.settings, **options}, (3, *command.SMALLER))


def test_stock_layers_give_the_networks_own_logits(subject):
    clips = subject.clip[None]
    with torch.no_grad():
        torch.testing.assert_close(subject.stock(clips), subject.network(clips))
    kinds = [type(m).__name__ for m in subject.stock.modules()]
    assert "SameMaxPool3d" not in kinds and kinds.count("StockMaxPool3d") == 13


# --- growth --------------------------------------------------------------------------------------


def test_growth_has_an_exponent_an_axis_and_method(subject, monkeypatch):
    shares = {"frames": (0.5, 1.0), "pixels": (0.5, 1.0), "clips": (1, 2)}
    monkeypatch.setattr(growth, "SHARES", shares)
    # In bf16 on AMX, oneDNN (before its pull request 5723) reads past channels whose number is no
    # multiple of 16, as in a network this narrow, and NaN from there spreads.
    rows = growth.rows(subject, precision="fp32")
    assert [(row["axis"], row["method"]) for row in rows] == [
        (axis, method) for axis in shares for method in growth.CHEAP
    ]
    sizes = {"frames": [4, 8], "pixels": [28 * 34, 40 * 48], "clips": [1, 2]}
    for row in rows:
        assert set(row) == {"axis", "method", "sizes", "seconds", "exponent"}
        assert row["sizes"] == sizes[row["axis"]]
        assert all(second > 0 for second in row["seconds"])
        slope = math.log(row["seconds"][1] / row["seconds"][0]) / math.log(
            row["sizes"][1] / row["sizes"][0]
        )
        assert math.isfinite(row["exponent"]) and row["exponent"] == pytest.approx(slope)


@pytest.mark.parametrize(
    ("axis", "share", "size"),
    [
        ("frames", 0.5, (4, 40, 48)),
        ("frames", 1.4, (11, 40, 48)),
        ("frames", 0.01, (2, 40, 48)),
        ("pixels", 0.25, (8, 20, 24)),
        ("pixels", 0.01, (8, 16, 16)),
        ("clips", 4, (8, 40, 48)),
    ],
)
def test_clips_are_resized_along_one_axis(axis, share, size, subject):
    assert tuple(growth.resized(subject.clip, axis, share).shape) == (3, *size)


# --- the machine ---------------------------------------------------------------------------------


def test_machines_are_named_for_files(monkeypatch):
    assert machine.name(CPU) == f"cpu-{torch.get_num_threads()}-cores"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3 ")
    assert machine.name(torch.device("cuda")) == "nvidia-h100-80gb-hbm3"


def test_the_peak_is_that_of_a_product(monkeypatch):
    assert 0 < machine.matmul_gflops(CPU, torch.float32, size=64, repeats=3) < 1e7
    asked = []

    def fake(device, dtype, *, size):
        asked.append((dtype, size))
        return float(len(asked))

    monkeypatch.setattr(machine, "matmul_gflops", fake)
    monkeypatch.setattr(bench, "computes_bf16", lambda device: True)
    assert bench.peak_gflops(CPU) == {"fp32": 1.0, "bf16": 2.0}
    assert asked == [(torch.float32, 3072), (torch.bfloat16, 3072)]


def test_peak_memory_is_that_of_the_call():
    try:
        machine.CLEAR.write_text("5")
    except OSError:
        pytest.skip("the high-water mark of this system cannot be reset")
    # Pages of their own: what earlier tests freed may still be this process's, and be used again.
    # A system that takes idle pages back moves single readings: compare neighbours, five times.
    gains = [
        machine.peak_of(lambda: fresh_pages(4 * 10**8), CPU) - machine.peak_of(lambda: None, CPU)
        for _ in range(5)
    ]
    assert 3.5e8 < np.median(gains) < 6e8, gains


def fresh_pages(n_bytes):
    """Take memory from the system, touch all of it, give it back."""
    with mmap.mmap(-1, n_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as pages:
        for start in range(0, n_bytes, mmap.PAGESIZE):
            pages[start] = 1


def test_without_a_mark_that_can_be_reset_the_largest_so_far_is_given(tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr(machine, "CLEAR", tmp_path / "no" / "such")
    monkeypatch.setattr(machine.runtime, "peak_memory", lambda: 7.0)
    assert machine.peak_of(lambda: called.append(1), CPU) == 7.0 and called == [1]


def test_the_mark_is_read_in_kilobytes(tmp_path, monkeypatch):
    status = tmp_path / "status"
    status.write_text("VmPeak:\t   99 kB\nVmHWM:\t   12 kB\n")
    monkeypatch.setattr(machine, "CLEAR", tmp_path / "clear")
    monkeypatch.setattr(machine, "STATUS", status)
    assert machine.peak_of(lambda: None, CPU) == 12 * 1024


# --- the command ---------------------------------------------------------------------------------


def test_the_command_writes_one_file_a_machine(tmp_path, monkeypatch, subject, capsys):
    monkeypatch.setattr(command, "random_network", lambda: subject.network)
    monkeypatch.setattr(command, "synthetic_clip", lambda: subject.clip)
    monkeypatch.setattr(command, "SMALLER", (8, 20, 24))
    monkeypatch.setattr(bench, "peak_gflops", lambda device: PEAKS)
    monkeypatch.setattr(growth, "SHARES", {"clips": (1, 2)})
    monkeypatch.setattr(growth, "CHEAP", {"guided_backprop": {}})
    result = CliRunner().invoke(
        APP,
        [
            "--methods",
            "guided_backprop",
            "--repeats",
            "2",
            "--device",
            "cpu",
            "--out",
            str(tmp_path),
        ],
    )
    assert result.exit_code == 0, result.output
    (path,) = tmp_path.iterdir()
    assert path.name == f"{machine.name(CPU)}.json" and str(path) in result.output
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [row["method"] for row in found["rows"]] == ["guided_backprop"]
    assert found["rows"][0]["repeats"] == 2 and found["peak_gflops"] == PEAKS
    assert [row["method"] for row in found["exactness"]] == ["guided_backprop"]
    assert [row["axis"] for row in found["growth"]] == ["clips"]
    assert found["subject"]["shape"] == [3, *SHAPE] and "processor" not in found["machine"]
