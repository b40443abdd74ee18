"""What every verb shares: the command line, environment, journal, processes, progress, presets, the device lock."""
