"""The verbs, and the rooms that they share. `python -m experiments` lists them, `f5bench VERB` runs one."""

from pathlib import Path

from reports.commands import refuse_misspelt

refuse_misspelt("experiments", Path(__file__).parent)
