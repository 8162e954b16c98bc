# ruff: noqa: F401
"""Read tables: schema, statistics, summaries, claims.

`load` reads run folders into a `Study`; the functions here take one and give DataFrames.
"""

from vad_helpers.tables.claims import (
    against,
    against_variants,
    claims,
    comparisons,
    contrasts,
    sensitivity,
)
from vad_helpers.tables.schema import Study, load, read
from vad_helpers.tables.summary import (
    breakdown,
    by_clip,
    compare,
    complete,
    convergence,
    costs,
    finished,
    flatness,
    gaps,
    labels,
    leakage,
    main_rows,
    many_samples,
    methods,
    paper,
    performance,
    rank_stability,
    ranked,
    summary,
    table_one,
    table_two,
    variants,
    wide,
)
