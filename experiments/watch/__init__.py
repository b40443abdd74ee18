"""A small gate on a schedule: run, remembered, told to Prometheus and to whoever is to be told."""
