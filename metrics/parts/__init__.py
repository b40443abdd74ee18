"""What the open parts of a record hold: where a run was measured, what was built, what was spoken."""
