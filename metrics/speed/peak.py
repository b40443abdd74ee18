"""The highest memory of a run's process, by the best reading that its machine has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from metrics.record import RunRecord

PeakKind = Literal["unified", "PSS", "RSS"]


def unified_bytes(record: RunRecord) -> int | None:
    """What MemAvailable lost on a board whose processor and GPU share one memory; None elsewhere."""
    unified = record.environment.get("unified_memory")
    lost = unified.get("lost_bytes") if isinstance(unified, Mapping) else None
    return lost if isinstance(lost, int) and lost > 0 else None


def host_peak(record: RunRecord) -> tuple[int, PeakKind] | None:
    """(bytes, how they were read), None where nobody read any.

    unified: what MemAvailable lost from before the worker was started to its lowest, on a board whose processor and GPU
    share one memory, where PSS misses what the GPU's driver holds. PSS counts shared pages once per sharer, RSS each
    time.
    """
    lost = unified_bytes(record)
    if lost is not None:
        return lost, "unified"
    if record.peak_pss_bytes is not None:
        return record.peak_pss_bytes, "PSS"
    return None if record.peak_rss_bytes is None else (record.peak_rss_bytes, "RSS")
