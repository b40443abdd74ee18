"""From noise to mel: grids, methods, guidance, reuse, fitted solvers, the sampler."""
