"""The evaluation as one function of our own, for CPUs with AMX tiles."""
