"""The step as a TensorRT plan: built, checked, kept, run."""
