"""Verdicts for people and machines: stored baselines, same-run pairs, quality."""
