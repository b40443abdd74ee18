"""What every verb shares: composition, settings, the command line, environment, journal, progress, the device lock."""
