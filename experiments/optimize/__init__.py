"""A search instead of a grid: its space, its study, its verb."""
