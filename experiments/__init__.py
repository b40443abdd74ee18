"""The verbs: run, sweep, score, gate, baseline, tracking, doctor. Each is `python -m experiments.VERB`."""

from pathlib import Path

from reports.commands import refuse_misspelt

refuse_misspelt("experiments", Path(__file__).parent)
