"""A small service that keeps a model loaded."""
