"""The step as a few kernels of our own, in Triton."""
