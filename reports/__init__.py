"""Tables, Markdown, HTML and plots of what was measured, from result.json and sweep.json alone. Works without torch."""

from pathlib import Path

from reports.commands import refuse_misspelt

refuse_misspelt("reports", Path(__file__).parent)
