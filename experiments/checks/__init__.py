"""The harness measured: overhead, chaos, costs, step errors, the GPU check."""
