"""Configurations composed and checked: Hydra's surface, bounds, presets, files as written, a verb's own keys."""
