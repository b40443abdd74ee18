"""A measurement on a Jetson watched from outside: its board before and after, and samples once a second between.

On any other machine nothing is read and no thread runs. What voids a run is said in one line: another power mode,
clocks that were let go, a throttle, too little voltage. None of it shows in the times alone.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from baselines.class_history import MACHINE
from experiments.jetson.board import is_jetson, read_jetson, state_change
from experiments.jetson.tree import Tree
from experiments.telemetry.backends import choose
from experiments.telemetry.board_state import read_slowed, read_state
from experiments.telemetry.sampler import TELEMETRY, Sampler
from metrics.parts.environment import Environment, PowerSeen
from metrics.power.summary import summary_of
from metrics.power.telemetry import State
from metrics.power.throttling import Slowed, throttling

RUN_HZ = 1.0  # beside timed rounds the slow rate alone


class Watch:
    """What the end of a run is held against."""

    def __init__(self, tree: Tree):
        self._tree = tree
        self._available_bytes: list[int] = []
        self._acted: set[str] = set()
        self.state()
        board = read_jetson(tree)
        self._board = None if board is None else board.content()
        self._before: Slowed = read_slowed(tree)
        self._started_s = time.monotonic()

    def state(self) -> State:
        """For the sampler. What is left of the memory is kept: its lowest is the run's peak; and what throttled, which
        may be over before the end."""
        found = read_state(self._tree)
        self._acted |= set(found.get("throttles", ()))
        if "mem_available_bytes" in found:
            self._available_bytes.append(found["mem_available_bytes"])
        return found

    def memory(self) -> Environment:
        """For a record's environment: what MemAvailable was before the worker was started, its lowest once a second,
        and the difference; {} where it cannot be read."""
        if not self._available_bytes:
            return {}
        before, lowest = self._available_bytes[0], min(self._available_bytes)
        return {"unified_memory": {"before_bytes": before, "lowest_bytes": lowest, "lost_bytes": before - lowest}}

    def fault(self, environment: Mapping[str, object] | None = None) -> str | None:
        """Why the run is void, None where nothing says so. environment: of its record, from its beginning; the board as
        it was when the watch began where there is none."""
        board = self._board if environment is None else environment.get("jetson")
        changed = state_change(board, read_jetson(self._tree)) if isinstance(board, Mapping) else None
        seconds = max(time.monotonic() - self._started_s, 1e-3)
        after = read_slowed(self._tree)
        acted = replace(after, acting=tuple(self._acted.union(after.acting or ())))
        found = throttling(self._before, acted, seconds)
        if changed is not None:
            found.insert(0, f"{changed}: set them again (nvpmodel, then jetson_clocks) and let nothing change them")
        return "while it was measured: " + "; ".join(found) if found else None


def seen_in(folder: Path) -> PowerSeen:
    """The figures of a folder's telemetry.jsonl whose sampler has ended; {} where there is none."""
    path = folder / TELEMETRY
    return summary_of([json.loads(line) for line in path.read_text("utf-8").splitlines()]) if path.is_file() else {}


def watched(environment: Environment, watch: Watch | None, folder: Path) -> Environment:
    """The environment of a record with what was seen of the board; its machine is void where something changed. As it
    was where nobody watched."""
    if watch is None:
        return environment
    fault = watch.fault(environment)
    seen: Environment = {**environment, **watch.memory(), "telemetry": seen_in(folder)}
    return seen if fault is None else {**seen, MACHINE: {"valid": False, "reason": fault}}


@contextmanager
def watching(folder: Path, tree: Tree | None = None) -> Iterator[Watch | None]:
    """None where this is no Jetson."""
    tree = Tree() if tree is None else tree
    if not is_jetson(tree):
        yield None
        return
    watch = Watch(tree)
    with Sampler(folder / TELEMETRY, choose("cuda", tree), watch.state, power_hz=RUN_HZ):
        yield watch
