"""Records, statistics and scores. Takes arrays and sample rates, never an engine."""
