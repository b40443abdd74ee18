"""Speed, memory, steadiness and load as functions of raw trials and requests."""
