"""What a Jetson is: its board, release, power mode and clocks, and how to set it up. Standard library only."""
