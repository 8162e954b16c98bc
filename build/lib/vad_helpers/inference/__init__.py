"""How a network runs fast: as a chain of local stages, prepared, recomputed piece by piece."""
