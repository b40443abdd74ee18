"""The verbs: run, sweep, score, gate, baseline, tracking, doctor. Each is `python -m experiments.VERB`."""
