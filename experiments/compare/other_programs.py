"""What other programs take of the cores that this process may use, over any stretch of time.

Ours is this process and all that it started, those that have ended among it. What a hypervisor takes away (steal) is no
program of this machine and not counted.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass

import psutil

SHORTEST_S = 1.0  # the kernel counts in hundredths of a second


@dataclass(frozen=True, kw_only=True, slots=True)
class CpuUse:
    """Seconds since the machine, or the process, began: of all programs on our cores, of ours, and of the clock."""

    all_s: float
    ours_s: float
    at_s: float
    num_cores: int


def cpu_use() -> CpuUse:
    per_core = psutil.cpu_times(percpu=True)
    known = range(len(per_core))
    allowed = getattr(os, "sched_getaffinity", lambda _: known)(0)  # not on every system
    usable = [core for core in allowed if core in known]
    return CpuUse(
        all_s=sum(_busy_s(per_core[core]) for core in usable), ours_s=_ours_s(), at_s=time.monotonic(),
        num_cores=len(usable),
    )  # fmt: skip


def others_frac(before: CpuUse, after: CpuUse) -> float | None:
    """Share of our cores that other programs kept busy between the two, 0 to 1; None where they are too near."""
    cores_s = (after.at_s - before.at_s) * after.num_cores
    if cores_s < SHORTEST_S * after.num_cores:
        return None
    others_s = (after.all_s - before.all_s) - (after.ours_s - before.ours_s)
    return min(1.0, max(0.0, others_s / cores_s))


def _busy_s(core: object) -> float:
    """guest and guest_nice are part of user and nice."""
    return sum(float(getattr(core, name, 0.0)) for name in ("user", "nice", "system", "irq", "softirq"))


def _ours_s() -> float:
    own = psutil.Process()
    total = _spent_s(own)
    for child in own.children(recursive=True):
        try:
            total += _spent_s(child)
        except psutil.NoSuchProcess:  # it ended meanwhile: whoever waits for it has its seconds the next time
            continue
    return total


def _spent_s(process: psutil.Process) -> float:
    """Its own and those of its children that it has waited for."""
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
