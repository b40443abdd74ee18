"""Power and energy: rails and what they add up to, integration, throttling, lines of tegrastats. No clock, no files."""
