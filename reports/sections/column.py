"""One column of a table: how a row is spelt in it, how it sorts, and how times are spelt in any."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from metrics.stats import MIN_TRIALS
from reports.data.scale import Timing
from reports.data.table import Row
from reports.words import ABSENT, significant


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Column:
    """text: what is printed; sort: the number behind it, None for none."""

    key: str
    header: str
    help: str
    text: Callable[[Row], str]
    sort: Callable[[Row], float | None] | None = None

    @property
    def is_numeric(self) -> bool:
        return self.sort is not None


def p50_text(timing: Timing) -> str:
    return interval_text(timing.p50_ms, timing.p50_low_ms, timing.p50_high_ms)


def p95_text(timing: Timing) -> str:
    if timing.p95_ms is not None:
        return interval_text(timing.p95_ms, timing.p95_low_ms, timing.p95_high_ms)
    return f"n too small ({timing.num_trials} < {MIN_TRIALS[0.95]})"


def p99_text(timing: Timing) -> str:
    if timing.p99_ms is not None:
        return interval_text(timing.p99_ms, timing.p99_low_ms, timing.p99_high_ms)
    return f"n too small ({timing.num_trials} < {MIN_TRIALS[0.99]})"


def interval_text(value: float, low: float | None, high: float | None) -> str:
    """375 (225..600); without the interval where there is none."""
    if low is None or high is None:
        return significant(value)
    return f"{significant(value)} ({significant(low)}..{significant(high)})"


def timed(read: Callable[[Timing], float | None]) -> Callable[[Row], float | None]:
    """Of a row's times; None where it has none."""
    return lambda row: read(row.timing) if row.timing else None


def timed_text(read: Callable[[Timing], str]) -> Callable[[Row], str]:
    """The same as text."""
    return lambda row: read(row.timing) if row.timing else ABSENT


def number_text(
    read: Callable[[Row], float | None], spell: Callable[[float], str] = significant
) -> Callable[[Row], str]:
    """A number as text, where the row has one."""

    def text(row: Row) -> str:
        value = read(row)
        return ABSENT if value is None else spell(value)

    return text
