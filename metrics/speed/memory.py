"""Memory of this process: resident (RSS), proportional (PSS) and the resident peak since the last reset."""

from __future__ import annotations

import resource
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

_SELF = Path("/proc/self")
_RESET_PEAK = "5"  # the value of clear_refs that resets VmHWM, Linux Documentation/filesystems/proc.rst


@dataclass(frozen=True, kw_only=True, slots=True)
class MemoryReading:
    """rss_bytes counts shared pages in full, pss_bytes their share (None where the system does not tell)."""

    rss_bytes: int
    pss_bytes: int | None
    peak_rss_bytes: int


def read_memory() -> MemoryReading:
    """From /proc where there is one; otherwise psutil and getrusage, whose peak cannot be reset."""
    status = _kib_fields(_SELF / "status")
    rss_bytes = status.get("VmRSS")
    if rss_bytes is None:
        rss_bytes = psutil.Process().memory_info().rss
    peak_bytes = status.get("VmHWM")
    if peak_bytes is None:
        peak_bytes = _peak_by_getrusage()
    return MemoryReading(
        rss_bytes=rss_bytes,
        pss_bytes=_kib_fields(_SELF / "smaps_rollup").get("Pss"),
        peak_rss_bytes=max(peak_bytes, rss_bytes),
    )


def reset_peak() -> bool:
    """Start a new resident peak from what is resident now. False where the system does not permit it."""
    try:
        (_SELF / "clear_refs").write_text(_RESET_PEAK, encoding="ascii")
    except OSError:
        return False
    return True


def _kib_fields(path: Path) -> dict[str, int]:
    """The "Name:  123 kB" lines of a /proc file in bytes; empty where the file cannot be read."""
    try:
        lines = path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return {}
    fields: dict[str, int] = {}
    for line in lines:
        words = line.split()
        if len(words) == 3 and words[2] == "kB" and words[1].isdigit():
            fields[words[0].rstrip(":")] = int(words[1]) * 1024
    return fields


def _peak_by_getrusage() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
