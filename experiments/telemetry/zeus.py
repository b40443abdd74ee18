"""The same joules by Zeus (zeus, Apache-2.0), where that is installed: a second opinion on a card, never the figure.

On a Jetson it is not asked: it knows no total of AGX Orin and Thor, and files the rails of the others by another rule.
Both read the card's own counter, so what this finds is a mistake in reading it, not one of the card.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from metrics.parts.environment import PowerSeen
from metrics.power.energy import NoEnergy, PowerSample, integrate_j
from metrics.power.telemetry import Line

WINDOW = "f5bench"
SOURCE = "nvml"  # whose watts it is held against


@dataclass
class Window:
    """By CLOCK_MONOTONIC; joules: what Zeus says of it, once it is over."""

    start_s: float
    end_s: float | None = None
    joules: float | None = None


@contextmanager
def zeus_window(kind: str, source: str) -> Iterator[Window | None]:
    """None where there is no Zeus, or nothing to hold it against. kind: cuda[:INDEX]."""
    try:
        monitoring = importlib.import_module("zeus.monitor") if source == SOURCE else None
    except ImportError:
        monitoring = None
    if monitoring is None:
        yield None
        return
    index = int(kind.partition(":")[2] or 0)
    # No CPU counters, which only root may read, and no waiting for a GPU that this process does not use
    monitor = monitoring.ZeusMonitor(gpu_indices=[index], cpu_indices=[])
    monitor.begin_window(WINDOW, sync_execution=False)
    window = Window(start_s=time.monotonic())
    yield window
    window.end_s = time.monotonic()
    window.joules = float(sum(monitor.end_window(WINDOW, sync_execution=False).gpu_energy.values()))


def beside_zeus(lines: Sequence[Line], window: Window | None) -> PowerSeen:
    """zeus_j, own_j of the same time, and what they differ by; {} where nothing can be held against another.

    lines: the entries of telemetry.jsonl.
    """
    if window is None or window.end_s is None or not window.joules:
        return {}
    samples = [PowerSample(line["t_s"], line["total_w"]) for line in lines[1:] if "total_w" in line]
    try:
        own_j = integrate_j(samples, window.start_s, window.end_s)
    except NoEnergy as error:
        return {"zeus_j": window.joules, "zeus_missing": str(error)}
    return {"zeus_j": window.joules, "own_j": own_j, "zeus_difference_frac": own_j / window.joules - 1}
