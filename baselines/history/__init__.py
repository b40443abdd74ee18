"""One figure over many runs: where it changed, whether it is worse now, and whether that could have been seen."""
