"""The example of a sweep: one run a value, the weights shared, the comparison printed."""

import sys

import pytest
import sweep
import yaml

pytestmark = pytest.mark.slow


def test_a_sweep_runs_every_value_with_the_same_weights_and_compares(
    in_project, measured, tmp_path, monkeypatch, capsys
):
    profile = yaml.safe_load((in_project / "params" / "tiny.yaml").read_text())
    few = tmp_path / "few.yaml"
    few.write_text(yaml.safe_dump({**profile, "methods": ["ig"], "variants": {}}))
    command = ["sweep.py", "n_clips", "1", "2", "--profile", str(few), "--folder", str(tmp_path)]
    weights = ["--weights", str(measured.path("model.safetensors"))]
    monkeypatch.setattr(sys, "argv", [*command, *weights])
    sweep.main()
    out = capsys.readouterr().out
    assert f"{tmp_path}/n_clips-1" in out and f"{tmp_path}/n_clips-2" in out
    assert "human_centric" in out and "ig" in out
    for value in (1, 2):
        run_dir = tmp_path / f"n_clips-{value}"
        assert (run_dir / "notebooks" / "04_human_centric.ipynb").is_file()
        assert not (run_dir / "training").exists()
