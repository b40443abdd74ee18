"""MLflow as a sink of what lies on disk."""
