"""The same-run rule, on pairs of turns in blocks of fresh processes."""
