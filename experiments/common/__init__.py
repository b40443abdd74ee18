"""What every verb shares: the command line, environment, journal, progress, presets, the device lock."""
