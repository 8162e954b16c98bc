"""Sweep one parameter over runs with papermill, then compare the runs in one table.

Every setting gets a run folder of its own; chapter 4 brings what it needs. Data, and whatever else
does not depend on the setting, is shared or made again only where it must be.

    python examples/sweep.py baseline blur black
    python examples/sweep.py n_clips 4 8 --chapter 05_model_centric --profile quick

Afterwards the executed notebooks lie in the run folders, and `vad compare` prints the same table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import papermill
import yaml

from vad_helpers import pipeline
from vad_helpers.store import comparison


def sweep(name: str, values: list, *, chapter: str, profile: str, folder: Path) -> list[Path]:
    """Execute one chapter for every value of one parameter; give the run folders."""
    runs = []
    for value in values:
        run_dir = folder / f"{name}-{value}"
        overrides = {"run_dir": str(run_dir), name: value}
        pipeline.open_checked(profile, overrides)  # ends here on a bad value, before anything runs
        run_dir.mkdir(parents=True, exist_ok=True)
        with pipeline.batch_mode():
            papermill.execute_notebook(
                f"notebooks/{chapter}.ipynb",
                run_dir / f"{chapter}.ipynb",
                parameters=pipeline.injected(profile, overrides),
                kernel_name="python3",
                progress_bar=False,
            )
        runs.append(run_dir)
    return runs


def main() -> None:
    """Read the command line, sweep, print the comparison with the first value's run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parameter", help="a parameter of the profile")
    parser.add_argument("values", nargs="+", type=yaml.safe_load, help="as in a profile's YAML")
    parser.add_argument("--chapter", default="04_human_centric")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--folder", type=Path, default=Path("runs/sweep"))
    given = parser.parse_args()
    options = {"chapter": given.chapter, "profile": given.profile, "folder": given.folder}
    runs = sweep(given.parameter, given.values, **options)
    print(comparison.spelled(comparison.compare_runs(runs)).to_string())


if __name__ == "__main__":
    main()
