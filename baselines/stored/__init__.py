"""Stored baselines and the rule that judges a new run against them."""
