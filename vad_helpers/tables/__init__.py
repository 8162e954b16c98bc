"""Read tables: schema, statistics, summaries, claims.

`load` reads run folders into a `Study`; the functions here take one and give DataFrames.
"""

from vad_helpers.tables.claims import (
    absolute,
    against,
    against_variants,
    changed,
    claims,
    claims_again,
    comparisons,
    contrasts,
    converged,
    other_baseline,
    sensitivity,
)
from vad_helpers.tables.schema import Study, load, read
from vad_helpers.tables.summary import (
    beyond_gap,
    breakdown,
    by_clip,
    compare,
    complete,
    convergence,
    costs,
    finished,
    flatness,
    frame_means,
    gaps,
    labels,
    leakage,
    main_rows,
    many_samples,
    mean_curves,
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
