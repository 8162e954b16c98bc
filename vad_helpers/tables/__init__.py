"""Read tables: schema, statistics, summaries, claims."""
