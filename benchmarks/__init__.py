"""Ours beside plain Captum, in one run: `make bench`, or `python -m benchmarks --help`."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd

from benchmarks import machine
from vad_helpers.errors import InputError
from vad_helpers.inference.prepared import resolve_device

COLUMNS = (
    *("device", "method", "captum_fp32_s", "ours_fp32_s", "ours_bf16_s", "ours_auto_s", "auto"),
    *("speedup_fp32", "speedup_bf16", "speedup_auto"),
)


def table(folder: str | Path = "benchmarks/results") -> pd.DataFrame:
    """Read the results in a folder, those of this machine's kind first.

    Returns
    -------
    DataFrame
        Columns of `COLUMNS`, a line a device and method: seconds of one clip by plain Captum and by
        this project, and how many times as fast that is; NaN where something was not timed. `auto`
        is the precision and engine that a run takes of itself. Empty if there are no results.

    Raises
    ------
    InputError
        If a file is damaged.
    """
    own, lines = machine.name(resolve_device("auto")), []
    for path in sorted(Path(folder).glob("*.json"), key=lambda path: (path.stem != own, path.stem)):
        try:
            result = json.loads(path.read_text(encoding="utf-8"))
            lines += [{"device": result["device"], **row} for row in result["rows"]]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{path} is no benchmark result; make it again: make bench") from None
    return pd.DataFrame(lines, columns=list(COLUMNS))
