"""Cells measured by other machines, on Ray: what travels there, what comes back while they run, who may join."""
