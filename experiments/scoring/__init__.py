"""From the audio that was timed to scores: files read back, models asked, the quality reference, the scale."""
