"""Results of `make bench`, where the project's folder has them: ours beside plain Captum."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd

from vad_helpers.errors import InputError
from vad_helpers.store.cache import Run

COLUMNS = {
    "captum_fp32_s": "plain Captum (s)",
    "ours_fp32_s": "ours, fp32 (s)",
    "ours_bf16_s": "ours, bf16 (s)",
    "paper_s": "the paper's GPU (s)",
    "speedup_fp32": "speed-up, fp32",
    "speedup_bf16": "speed-up, bf16",
    "agreement_bf16": "rank agreement, bf16",
    "captum_gflop": "plain GFLOP",
    "ours_gflop": "our GFLOP",
    "peak_share_bf16": "share of peak, bf16",
    "peak_fp32_gb": "memory, fp32 (GB)",
}
"""Columns to show, of those in a result."""


PRECISION_COLUMNS = {
    "device": "device",
    "clips": "clips",
    "agreement_mean": "rank agreement",
    "agreement_min": "worst clip",
    "largest_move": "largest move of a score",
    "of": "which",
    "default": "default",
}


def benchmarks(run: Run) -> dict[str, dict[str, Any]]:
    """Read every result in `benchmarks/results`, by device; empty if there is none.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    found = {}
    for path in sorted((run.root / "benchmarks" / "results").glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            found[result["device"]] = result
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is no benchmark result; make it again: make bench") from None
    return found


def benchmark_table(run: Run) -> pd.DataFrame:
    """One row a device and method: the columns of `COLUMNS`, spelled for reading."""
    rows = [
        {"device": device, **row}
        for device, result in benchmarks(run).items()
        for row in result["rows"]
    ]
    table = pd.DataFrame(rows, columns=["device", "method", *COLUMNS])
    return table.rename(columns=COLUMNS).set_index("method")


def precision_table(run: Run) -> pd.DataFrame:
    """What bf16 changes on real clips: one row a device and method; empty if it was not studied.

    Returns
    -------
    DataFrame
        By method: device, clips, rank agreement of the maps (mean and worst clip), the largest
        move of a mean score of Tables I and II, of which score, and the default that follows.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    rows = []
    for path in sorted((run.root / "benchmarks" / "results" / "precision").glob("*.json")):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            rows += [{"device": result["device"], **row} for row in result["methods"]]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is no study of precisions; make it again") from None
    table = pd.DataFrame(rows, columns=["method", *PRECISION_COLUMNS])
    return table.rename(columns=PRECISION_COLUMNS).set_index("method")


def benchmark_growth(run: Run) -> pd.DataFrame:
    """Seconds by size: device, axis, method, size, seconds, exponent (1: proportional)."""
    lines = [
        (device, row["axis"], row["method"], size, seconds, row["exponent"])
        for device, result in benchmarks(run).items()
        for row in result.get("growth", [])
        for size, seconds in zip(row["sizes"], row["seconds"], strict=True)
    ]
    return pd.DataFrame(lines, columns=["device", "axis", "method", "size", "seconds", "exponent"])
