"""Cold starts: what a fresh process costs until its first audio, a number of its own beside the steady state's."""

from __future__ import annotations

from metrics.record import RunRecord
from metrics.speed.trials import tail_of
from metrics.stats import MIN_TRIALS, quantile, quantile_interval
from reports.data.table import Table
from reports.sections.column import interval_text
from reports.words import ABSENT, significant

HEADER = ("variant", "fresh processes", "build s", "first call s", "process to first audio s", "its p95 s", "audio")
EXPLANATION = (
    "Each in a process of its own: median (95 % interval) over the processes. The last but one column starts at the "
    "creation of the process, so it contains the imports."
)


def start_lines(table: Table) -> list[tuple[str, ...]]:
    """The cells of HEADER for every variant that was started cold and whose audio may be believed."""
    return [
        _line(row.label, row.cell.record) for row in table.timed_rows if row.cell.record and row.cell.record.cold_starts
    ]


def _line(label: str, record: RunRecord) -> tuple[str, ...]:
    starts = record.cold_starts
    whole_s = [start.start_s for start in starts]
    tail = tail_of(whole_s, 0.95)
    p95 = f"n too small ({len(starts)} < {MIN_TRIALS[0.95]})" if tail.value_s is None else significant(tail.value_s)
    return (
        label,
        str(len(starts)),
        _median([start.build_s for start in starts]),
        _median([start.first_call_s for start in starts]),
        _median(whole_s),
        p95,
        _sameness(record),
    )


def _median(values_s: list[float]) -> str:
    low_s, high_s = quantile_interval(values_s, 0.5) or (None, None)
    return interval_text(quantile(values_s, 0.5), low_s, high_s)


def _sameness(record: RunRecord) -> str:
    """Whether the cold processes spoke the very audio that was checked."""
    checked = {utterance.audio_sha256 for utterance in record.utterances}
    if not checked:
        return ABSENT
    same = sum(start.audio_sha256 in checked for start in record.cold_starts)
    return "the checked audio, bit by bit" if same == len(record.cold_starts) else f"{same} gave the checked audio"
