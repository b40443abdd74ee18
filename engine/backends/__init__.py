"""The builders of engines beside their denoisers: one folder a backend, with `build.py` and `denoiser.py`."""
