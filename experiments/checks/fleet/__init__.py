"""A fleet on this machine: Ray nodes as machines, killed at random moments, and timed with cells that only wait."""
