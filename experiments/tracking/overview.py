"""What a table says of its rows together: times upstream, the fastest that lost nothing, warnings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from experiments.tracking.tags import quality_verdict
from reports.data.context import warnings_of
from reports.data.source import Source
from reports.data.table import Row, Table, UnjudgedRow, table_of
from reports.sections.notes import is_void
from reports.words import listed, significant

UPSTREAM = "upstream"
KEPT = ("pass", "warn")
NOT_JUDGED = "not judged"


@dataclass(frozen=True, kw_only=True, slots=True)
class Overview:
    """speedups: label -> times as fast as upstream, of rows whose speed is valid. best: label of the fastest row that
    lost nothing that was judged, None where there is none; best_quality: its verdict. said: all that in a sentence."""

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
    rows = [row for row in table.timed_rows if row.validity == "valid" and not is_void(row)]
    judged = {row.label: quality_verdict(source.root / row.cell.dir, _run_id(row)) for row in rows}
    verdicts = {label: verdict or NOT_JUDGED for label, verdict in judged.items()}
    speedups, upstream = _speedups(table)
    best = _best(rows, verdicts)
    return Overview(
        speedups=speedups,
        upstream=upstream,
        best=best.label if best else None,
        best_rtf=_rtf(best) if best else None,
        best_quality=verdicts[best.label] if best else None,
        said=_said(rows, best, verdicts, speedups, upstream),
        warnings=warnings_of(table),
    )


def _speedups(table: Table) -> tuple[dict[str, float], str | None]:
    """Against the upstream row of the most evaluations; nothing where the machine voids that."""
    base = next((row for row in table.timed_rows if row.label == table.base_label), None)
    record = base.cell.record if base else None
    if base is None or record is None or is_void(base) or (record.config.get("engine") or {}).get("name") != UPSTREAM:
        return {}, None
    timed = [row for row in table.timed_rows if not is_void(row)]
    ratios = ((row.label, row.timing.times_base) for row in timed if row.timing is not None)
    return {label: ratio for label, ratio in ratios if ratio is not None}, base.label


def _best(rows: list[Row], verdicts: Mapping[str, str]) -> Row | None:
    """Where any row was judged, only those that passed: what nobody judged may have lost anything."""
    was_judged = any(word != NOT_JUDGED for word in verdicts.values())
    pool = [row for row in rows if verdicts[row.label] in KEPT] if was_judged else rows
    return min(pool, key=_rtf, default=None)


def _said(
    rows: list[Row], best: Row | None, verdicts: Mapping[str, str], speedups: Mapping[str, float], upstream: str | None
) -> str:
    if not rows:
        return "No variant has a speed that counts."
    if best is None:
        found = [f"{row.label} ({verdicts[row.label]})" for row in sorted(rows, key=_rtf)]
        return f"No variant is known to have lost nothing: {listed(found)}."
    ratio = f", {significant(speedups[best.label])} times as fast as {upstream}" if best.label in speedups else ""
    speed = f"{best.label}, RTF {significant(_rtf(best))}{ratio}"
    if verdicts[best.label] == NOT_JUDGED:
        return f"Fastest: {speed}. Quality not judged: `f5bench quality-gate` on two runs judges it."
    faster = [f"{row.label} ({verdicts[row.label]})" for row in sorted(rows, key=_rtf) if _rtf(row) < _rtf(best)]
    return f"Fastest that lost nothing that was judged: {speed}." + (
        f" Faster, but not known to be as good: {listed(faster)}." if faster else ""
    )


def _run_id(row: Row) -> str | None:
    return row.cell.record.run_id if row.cell.record else None


def _rtf(row: Row) -> float:
    return row.timing.rtf if row.timing else float("inf")
