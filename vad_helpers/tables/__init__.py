# ruff: noqa: F401
"""Read tables: schema, statistics, summaries, claims.

`load` reads run folders into a `Study`; the functions here take one and give DataFrames.
"""

from vad_helpers.tables.claims import (
    against,
    against_variants,
    claims,
    claims_table,
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
    performance_table,
    pivot,
    rank_stability,
    ranked,
    summary,
    table_one,
    table_two,
    timed,
    variants,
    wide,
)
from vad_helpers.tables.trial import agreement, judge
