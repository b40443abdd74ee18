"""The GPU check within a budget: its steps, one process an engine, the wheels that a bare machine lacks."""
