# ruff: noqa: F401, I001
"""Read tables: schema, statistics, summaries, claims.

`load` reads run folders into a `Study`; the functions here take one and give DataFrames.
"""

from vad_helpers.tables.claims import against, against_variants, claims, claims_table, comparisons
from vad_helpers.tables.claims import contrasts, sensitivity
from vad_helpers.tables.schema import Study, load, read
from vad_helpers.tables.summary import by_clip, compare, complete, convergence, costs
from vad_helpers.tables.summary import finished, flatness, gaps, labels, leakage, main_rows
from vad_helpers.tables.summary import many_samples, methods, paper, performance, performance_table
from vad_helpers.tables.summary import pivot, rank_stability, ranked, summary, table_one, table_two
from vad_helpers.tables.summary import timed, variants, wide
