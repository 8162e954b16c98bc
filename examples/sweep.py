"""Sweep one parameter over runs with papermill, then compare the runs in one table.

Every value gets a run folder of its own, and the chapter brings what it needs: all runs share the
data; `--weights` shares a network too, where the parameter does not change its training.

    python examples/sweep.py epochs 4 12
    python examples/sweep.py baseline blur black --chapter 05_model_centric \
        --weights runs/quick/fold-0/model.safetensors

Afterwards the executed notebooks lie in `notebooks/` of the run folders, and `vad compare` prints
the same table.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from vad_helpers import book, tables
from vad_helpers.run import open_run, params, steps


def sweep(
    name: str,
    values: list[Any],
    *,
    chapter: str,
    profile: str,
    folder: Path,
    weights: str | None = None,
) -> list[Path]:
    """Execute one chapter for every value of one parameter; give the run folders."""
    runs = []
    for value in values:
        overrides = {"run_dir": str(folder / f"{name}-{value}"), name: value}
        if weights is not None:
            overrides["trained_weights"] = weights
        run = open_run(profile, **overrides)
        steps.check(run)  # ends here on a bad value
        notebook = run.root / "notebooks" / f"{chapter}.ipynb"
        book.execute(run, notebook, book.injected(notebook, profile, overrides))
        runs.append(run.dir)
    return runs


def main() -> None:
    """Read the command line, sweep, print the comparison with the first value's run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parameter", help="a parameter of the profile")
    parser.add_argument("values", nargs="+", type=params.read_yaml, help="as in a profile's YAML")
    parser.add_argument("--chapter", default="04_human_centric")
    parser.add_argument("--profile", default="quick")
    parser.add_argument("--folder", type=Path, default=Path("runs/sweep"))
    parser.add_argument("--weights", help="evaluate this model.safetensors instead of training")
    given = vars(parser.parse_args())
    runs = sweep(given.pop("parameter"), given.pop("values"), **given)
    print(tables.compare(runs).to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    main()
