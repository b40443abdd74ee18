"""Denoiser backends: `bind(constants) -> velocity(x, t_index)`."""
