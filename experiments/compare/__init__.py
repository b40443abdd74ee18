"""Two sides in one run, with a verdict: processes, turns, proofs, the session."""
