"""Columns about the arithmetic: how much the denoiser does a second, and how far that is from the device's products."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metrics.speed.roofline import Roofline, best_peaks, roofline
from reports.data.table import Row, Table
from reports.sections.column import Column
from reports.words import ABSENT, significant


def work_columns(table: Table) -> tuple[Column, ...]:
    """Of rows that show a speed."""
    peaks = best_peaks(table.records)

    def column(key: str, header: str, what: str, read: Callable[[Roofline], float | None]) -> Column:
        return _column(key, header, what, read, peaks)

    return (
        column("gflop_per_s", "GFLOP/s", "arithmetic of the denoise stage over its time", lambda w: w.flop_per_s / 1e9),
        column(
            "peak_pct",
            "% of GEMM peak",
            "the same over the best matrix product of the row's kind (float32, bfloat16 or int8) that any process of "
            "this table measured; the rest of the way to the device's floor",
            lambda w: None if w.peak_frac is None else 100 * w.peak_frac,
        ),
        column("floor_rtf", "floor RTF", "RTF if the denoiser's arithmetic ran at that peak", lambda w: w.floor_rtf),
        column(
            "gbyte_per_s",
            "GB/s at least",
            "least traffic over the denoise stage's time: every weight and every block's input and output once an "
            "evaluation",
            lambda w: w.bytes_per_s / 1e9,
        ),
    )


def _column(
    key: str, header: str, what: str, read: Callable[[Roofline], float | None], peaks: Mapping[str, float]
) -> Column:
    def value(row: Row) -> float | None:
        if row.timing is None or row.cell.record is None:
            return None
        work = roofline(row.cell.record, peaks)
        return None if work is None else read(work)

    def text(row: Row) -> str:
        number = value(row)
        return ABSENT if number is None else significant(number)

    return Column(key=key, header=header, help=what, text=text, sort=value)
