"""From listeners' answers to a verdict."""
