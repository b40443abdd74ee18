"""Columns about the arithmetic: how much the denoiser does a second, and how far that is from the device's products."""

from __future__ import annotations

from collections.abc import Callable

from metrics.roofline import Roofline, roofline
from reports.columns import Column
from reports.table import Row
from reports.words import ABSENT, significant


def work_columns() -> tuple[Column, ...]:
    """Of rows that show a speed."""
    return (
        _column(
            "gflop_per_s", "GFLOP/s", "arithmetic of the denoise stage over its time", lambda w: w.flop_per_s / 1e9
        ),
        _column(
            "peak_pct",
            "% of GEMM peak",
            "the same over the best matrix product of the row's kind (float32, bfloat16 or int8) measured in "
            "the same process; the rest of the way to the device's floor",
            lambda w: None if w.peak_frac is None else 100 * w.peak_frac,
        ),
        _column("floor_rtf", "floor RTF", "RTF if the denoiser's arithmetic ran at that peak", lambda w: w.floor_rtf),
        _column(
            "gbyte_per_s",
            "GB/s at least",
            "least traffic over the denoise stage's time: every weight and every block's input and output once an "
            "evaluation",
            lambda w: w.bytes_per_s / 1e9,
        ),
    )


def _column(key: str, header: str, what: str, read: Callable[[Roofline], float | None]) -> Column:
    def value(row: Row) -> float | None:
        if row.timing is None or row.cell.record is None:
            return None
        work = roofline(row.cell.record)
        return None if work is None else read(work)

    def text(row: Row) -> str:
        number = value(row)
        return ABSENT if number is None else significant(number)

    return Column(key=key, header=header, help=what, text=text, sort=value)
