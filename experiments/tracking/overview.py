"""What a table says of its rows together: times upstream, the fastest that lost nothing, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metrics.record import RecordError
from metrics.typed import part_of
from reports.data.context import warnings_of
from reports.data.judged import judged_rows
from reports.data.source import Source
from reports.data.table import Table, UnjudgedRow, is_void, table_of
from reports.sections.verdict import verdict_of

UPSTREAM = "upstream"
KEPT, NOT_JUDGED = "pass", "not judged"


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """speedups: label -> times as fast as upstream, of rows whose speed is valid. best: label of the row that the
    report names the fastest and that lost nothing, as far as anybody judged; None where there is none. best_quality:
    whether that was judged. said: the report's verdict."""

    speedups: Mapping[str, float] = field(default_factory=dict)
    upstream: str | None = None
    best: str | None = None
    best_rtf: float | None = None
    best_quality: str | None = None
    said: str = ""
    warnings: tuple[str, ...] = ()


def overview_of(source: Source) -> Overview:
    try:
        table = table_of(source)
    except UnjudgedRow as error:
        return Overview(said=f"No variant is named the fastest: {error}")
    speedups, upstream = _speedups(table)
    warnings = warnings_of(table)
    try:
        verdict = verdict_of(table)
        kind = None if verdict.best is None else judged_rows(table)[verdict.best.label].kind
    except RecordError as error:
        said = f"No variant is named the fastest: {error}"
        return Overview(speedups=speedups, upstream=upstream, said=said, warnings=warnings)
    return Overview(
        speedups=speedups,
        upstream=upstream,
        best=verdict.best.label if verdict.best else None,
        best_rtf=verdict.best.timing.rtf if verdict.best and verdict.best.timing else None,
        best_quality=None if kind is None else KEPT if kind == "kept" else NOT_JUDGED,
        said=verdict.text,
        warnings=warnings,
    )


def _speedups(table: Table) -> tuple[dict[str, float], str | None]:
    """Against the upstream row of the most evaluations; nothing where the machine voids that."""
    base = next((row for row in table.timed_rows if row.label == table.base_label), None)
    record = base.cell.record if base else None
    if base is None or record is None or is_void(base) or part_of(record.config, "engine").get("name") != UPSTREAM:
        return {}, None
    timed = [row for row in table.timed_rows if not is_void(row)]
    ratios = ((row.label, row.timing.times_base) for row in timed if row.timing is not None)
    return {label: ratio for label, ratio in ratios if ratio is not None}, base.label
