"""Clocks: wall seconds with the device's queue drained at the boundaries that are asked for."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """`now_s` is monotonic wall time; `sync` waits until the device has finished what was queued."""

    def now_s(self) -> float: ...

    def sync(self) -> None: ...


class HostClock:
    """For devices that run synchronously (CPU)."""

    def now_s(self) -> float:
        return time.perf_counter()

    def sync(self) -> None:
        return None


class CudaClock:
    """Waits for the device before a boundary. Stage boundaries cost a synchronisation each."""

    def __init__(self, device: str):
        self._device = device

    def now_s(self) -> float:
        return time.perf_counter()

    def sync(self) -> None:
        import torch

        torch.cuda.synchronize(self._device)


def make_clock(device_kind: str) -> Clock:
    return HostClock() if device_kind == "cpu" else CudaClock(device_kind)
