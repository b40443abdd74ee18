"""Weights and vocabularies: where they come from, that they fit, and their hash."""
