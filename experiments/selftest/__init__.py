"""How often a verdict is wrong here: replayed, live, stored baselines, planted faults."""
