"""Power, temperatures and throttling beside a measurement: read in the parent, never in the process that is timed."""
