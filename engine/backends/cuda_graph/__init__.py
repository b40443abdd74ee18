"""The whole solve captured as CUDA graphs."""
