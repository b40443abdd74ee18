"""The builders of engines beside their denoisers: one folder a backend, `build.py` needs no torch."""
