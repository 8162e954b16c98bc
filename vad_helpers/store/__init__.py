"""A run's folder: every artifact is loaded if it is there and still valid, else built.

Notebooks see this room only: ``run = store.open_run("quick")``, then ``store.clips(run)``,
``store.model(run)``, ``store.attribution(run, clip_id, "ig")``, ``store.human_centric(run)`` ...
Each call brings what it needs, so any of them works first, alone, after a crash, twice for free.

Inside, one module a concern: `params` (profiles), `cache` (load or build, keys, manifest),
`experiment` (data and clips), `detector` (the network), `trained` (weights that were given),
`origin` (what videos they are), `row` (the rows of the tables), `maps` (explanations), `scores`
(measurements of maps), `convergence` (are sampled maps settled), `tables` (summaries beside the
paper's values), `contrasts` (planned comparisons, firm ranks), `benchmarks` (of `make bench`).
`measuring` does the long computation clip by clip, `comparison` puts runs side by side.

A study of several folds leaves the folder by `gather` and `publish`, and is read by `published` or
taken back by `restore`. `study` makes its tables (`networks` and `faithfulness` some of them),
`claims` has the paper's claims and `verdicts` judges them, `sensitivity` asks what the paper's open
choices change.
"""

from vad_helpers.store.benchmarks import benchmark_growth, benchmark_table, precision_table
from vad_helpers.store.cache import Run, open_run
from vad_helpers.store.contrasts import (
    against_references,
    floor_note,
    planned_contrasts,
    rank_stability,
)
from vad_helpers.store.convergence import convergence_table
from vad_helpers.store.detector import history, model, performance, predictions
from vad_helpers.store.experiment import (
    clip,
    clips,
    data_root,
    evaluation,
    frames,
    mask,
    sequences,
)
from vad_helpers.store.maps import attribution, baseline, explain_all, explanations
from vad_helpers.store.origin import data_origin
from vad_helpers.store.row import Row, rows
from vad_helpers.store.scores import (
    controls,
    curves,
    frame_aucs,
    human_centric,
    model_centric,
    robustness,
    runtime,
)
from vad_helpers.store.tables import (
    labels,
    paper_table,
    summary,
    table_one,
    table_two,
)

__all__ = [
    "Row",
    "Run",
    "against_references",
    "attribution",
    "baseline",
    "benchmark_growth",
    "benchmark_table",
    "precision_table",
    "clip",
    "clips",
    "controls",
    "convergence_table",
    "curves",
    "data_origin",
    "data_root",
    "evaluation",
    "explain_all",
    "explanations",
    "floor_note",
    "frame_aucs",
    "frames",
    "history",
    "human_centric",
    "labels",
    "mask",
    "model",
    "model_centric",
    "open_run",
    "paper_table",
    "performance",
    "planned_contrasts",
    "predictions",
    "rank_stability",
    "robustness",
    "rows",
    "runtime",
    "sequences",
    "summary",
    "table_one",
    "table_two",
]
