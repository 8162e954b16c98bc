import json

import pytest

from vad_helpers import store
from vad_helpers.errors import InputError
from vad_helpers.store.benchmarks import COLUMNS, benchmarks
from vad_helpers.store.cache import Run


@pytest.fixture
def run(tmp_path):
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    return Run(params=None, root=tmp_path, dir=tmp_path / "run")


def write(run, device="cpu-2-cores", **more):
    row = {"method": "ig", "captum_fp32_s": 20.0, "ours_fp32_s": 10.0, "speedup_fp32": 2.0}
    growth = {
        "axis": "frames",
        "method": "ig",
        "sizes": [8, 16],
        "seconds": [1.0, 2.0],
        "exponent": 1.0,
    }
    result = {"device": device, "rows": [row], "growth": [growth], **more}
    (run.root / "benchmarks" / "results" / f"{device}.json").write_text(json.dumps(result))


def test_without_results_the_tables_are_empty(run):
    assert store.benchmark_table(run).empty and store.benchmark_growth(run).empty
    assert list(store.benchmark_table(run).columns) == ["device", *COLUMNS.values()]


def test_a_row_a_device_and_method(run):
    write(run)
    write(run, "some-gpu")
    table = store.benchmark_table(run)
    assert list(table.index) == ["ig", "ig"]
    assert list(table["device"]) == ["cpu-2-cores", "some-gpu"]
    assert list(table["speed-up, fp32"]) == [2.0, 2.0]


def test_growth_has_a_line_a_size(run):
    write(run)
    growth = store.benchmark_growth(run)
    assert growth[["axis", "size", "seconds"]].to_numpy().tolist() == [
        ["frames", 8, 1.0],
        ["frames", 16, 2.0],
    ]


def test_a_damaged_result_is_refused_by_name(run):
    (run.root / "benchmarks" / "results" / "broken.json").write_text("{")
    with pytest.raises(InputError, match="broken.json is no benchmark result"):
        benchmarks(run)


def test_precisions_have_a_row_a_method(run):
    assert store.precision_table(run).empty
    folder = run.root / "benchmarks" / "results" / "precision"
    folder.mkdir()
    row = {"method": "ig", "clips": 6, "largest_move": 0.002, "of": "frame_auc", "default": "bf16"}
    (folder / "cpu.json").write_text(json.dumps({"device": "cpu", "methods": [row]}))
    table = store.precision_table(run)
    assert table.loc["ig", ["device", "clips", "default"]].tolist() == ["cpu", 6, "bf16"]
    assert benchmarks(run) == {}  # no result of the benchmark
    (folder / "cpu.json").write_text("[]")
    with pytest.raises(InputError, match="cpu.json is no study of precisions"):
        store.precision_table(run)
