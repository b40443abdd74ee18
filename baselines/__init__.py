"""Stored baselines and the rules that judge a run against them. Needs `metrics` and scipy, not torch."""
