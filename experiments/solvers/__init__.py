"""Solvers fitted or calibrated to a model."""
