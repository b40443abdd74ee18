"""Latency by length of text: one line for each variant and length, because one figure over a mix says the mix."""

from __future__ import annotations

from metrics.speed.trials import LENGTH_LIMITS_CHARS
from reports.data.table import Table, timing_by_length
from reports.sections.column import p50_text, p95_text, p99_text
from reports.words import significant

HEADER = ("variant", "length", "trials", "RTF", "p50 ms (95 % interval)", "p95 ms", "p99 ms")
EXPLANATION = (
    f"Short: up to {LENGTH_LIMITS_CHARS[0]} characters; long: over {LENGTH_LIMITS_CHARS[1]}. Intervals hold for the "
    "calls of this run; percentiles are printed from 59 and 299 trials on."
)


def length_lines(table: Table) -> list[tuple[str, ...]]:
    """The cells of HEADER for every variant that shows a speed, short before long."""
    return [
        (
            row.label,
            length,
            str(timing.num_trials),
            significant(timing.rtf),
            p50_text(timing),
            p95_text(timing),
            p99_text(timing),
        )
        for row in table.timed_rows
        for length, timing in timing_by_length(row).items()
    ]
