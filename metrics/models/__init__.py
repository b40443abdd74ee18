"""Scores by models: words, speaker, predicted MOS; each in a child process."""
