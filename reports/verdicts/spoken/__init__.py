"""A verdict.json in plain words: parts of one sentence, rows of a table, what to do. Standard library only."""
