"""When the next run is due. Pure, but for the real clock, which a test puts another in the place of."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol

MINUTE_S, DAY_S = 60, 86400


class Clock(Protocol):
    """Seconds since 1970, and waiting until one of them."""

    def now_s(self) -> float: ...

    def wait_until(self, unix_s: float) -> None: ...


class RealClock:
    """Waits in pieces, so that a machine that slept or whose clock was set is not late by as much."""

    def now_s(self) -> float:
        return time.time()

    def wait_until(self, unix_s: float) -> None:
        while (left_s := unix_s - time.time()) > 0:
            time.sleep(min(left_s, MINUTE_S))


def next_due_s(now_s: float, every_minutes: int, offset_minutes: int) -> float:
    """The first moment after now_s that lies offset_minutes and a multiple of every_minutes after midnight UTC."""
    every_s, offset_s = every_minutes * MINUTE_S, offset_minutes * MINUTE_S
    return ((now_s - offset_s) // every_s + 1) * every_s + offset_s


def due(clock: Clock, every_minutes: int, offset_minutes: int, first_now: bool) -> Iterator[float]:
    """Each moment at which a run is to begin, after it has come. What a long run has missed is left out."""
    if first_now:
        yield clock.now_s()
    while True:
        moment_s = next_due_s(clock.now_s(), every_minutes, offset_minutes)
        clock.wait_until(moment_s)
        yield moment_s
