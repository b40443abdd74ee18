"""A blind listening set: clips, loudness, orders, the page."""
