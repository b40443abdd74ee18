"""The timed region that everything shares which times an engine's call.

Two keep their own: a comparison's child, which runs among the packages of another revision and imports nothing of this
one; and services, whose regions are a request's times of arrival, start and end.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from engine.clock import Clock

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class TimedCall(Generic[Result]):
    """What a call returned, its wall seconds, and the CPU seconds of all threads of this process."""

    result: Result
    wall_s: float
    cpu_s: float


def time_call(
    clock: Clock, call: Callable[[], Result], cpu_now_s: Callable[[], float] = time.process_time
) -> TimedCall[Result]:
    """One call: the device's queue is drained at both ends, nothing lies between the readings but the call."""
    clock.sync()
    cpu_before_s, before_s = cpu_now_s(), clock.now_s()
    result = call()
    clock.sync()
    after_s, cpu_after_s = clock.now_s(), cpu_now_s()
    return TimedCall(result, after_s - before_s, cpu_after_s - cpu_before_s)


@contextmanager
def collector_off() -> Iterator[None]:
    """The cyclic garbage collector waits: it runs between warm calls instead. A cold start and a service are left with
    it, as their users are."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
