"""Cells handed to the machines of a fleet: one at a time to each, a lost one elsewhere in the same host class.

A thread a machine takes the next cell of its class and has it measured as a sweep on one machine would. Nothing of it
runs where something is timed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from experiments.common.cli import note
from experiments.fleet.facts import HostClass
from experiments.fleet.machines import HeadLost, Machine, MachineLost, Place
from experiments.sweep.cells import Sweep, Watch, measure_cell, stop_reason

LOOK_S = 2.0  # between two looks for machines that have joined
LAST_S = 60.0  # what runs when the head is lost may come to its end: so long its machine stays


@dataclass(slots=True, eq=False)
class Table:
    """The whole table of one host class. todo: indexes of its sweep's cells; empty_since_s: no machine is left."""

    host: HostClass
    sweep: Sweep
    todo: list[int] = field(default_factory=list)
    machines: list[Machine] = field(default_factory=list)
    losses: Counter[int] = field(default_factory=Counter)
    num_running: int = 0
    empty_since_s: float | None = None

    @property
    def is_done(self) -> bool:
        return not self.todo and not self.num_running


class Lines:
    """Who is told of cells of several machines: a line at each start and end."""

    def __init__(self, sweep: Sweep, name: str):
        self._sweep, self._name, self._started_s = sweep, name, time.monotonic()

    def start(self, index: int) -> None:
        self._started_s = time.monotonic()
        self.say(f"{self._place(index)}: started on {self._name}")

    def tick(self, index: int, journal: Path) -> None:
        """What comes back is in the cell's folder."""

    def finish(self, index: int, state: str, reason: str | None) -> None:
        took_s = time.monotonic() - self._started_s
        self.say(f"{self._place(index)}: {state}, {took_s:.1f} s{f' ({reason})' if reason else ''}")

    def say(self, line: str) -> None:
        note(line)

    def _place(self, index: int) -> str:
        return f"{self._sweep.folder.name} [{index + 1}/{len(self._sweep.cells)}] {self._sweep.cells[index].label}"


class Dispatch:
    """All tables at once. join: the machines that have joined since it was last asked, with their tables; raises
    HeadLost."""

    def __init__(
        self, tables: list[Table], losses: int, wait_s: float, join: Callable[[], Iterable[tuple[Table, Machine]]]
    ):
        self._tables, self._losses, self._wait_s, self._join = tables, losses, wait_s, join
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._errors: list[BaseException] = []
        self._is_over = self._is_lost = False

    def run(self) -> None:
        """Until every table is done, or left for later. Raises what a thread met, and HeadLost when what ran has ended
        or its machine must have gone as well; Ctrl-C lets the machines go first."""
        for table in self._tables:
            for machine in list(table.machines):
                self._start(table, machine)
        try:
            while self._goes_on():
                self._look()
        except HeadLost:
            self._last_cells()
            raise
        finally:
            self._end()
        if self._errors:
            raise self._errors[0]

    def _goes_on(self) -> bool:
        """False at the end; else after a while, or when something has changed."""
        with self._changed:
            if not self._errors and not all(table.is_done for table in self._tables):
                self._changed.wait(LOOK_S)
            return not self._errors and not all(table.is_done for table in self._tables)

    def _last_cells(self) -> None:
        """Nothing new is begun; what runs needs no head to come back."""
        with self._changed:
            self._is_over = self._is_lost = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not any(table.num_running for table in self._tables), LAST_S)

    def _start(self, table: Table, machine: Machine) -> None:
        thread = threading.Thread(target=self._serve, args=(table, machine), name=machine.name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _end(self) -> None:
        """What still runs is let go; a cell that comes to no end so is given back."""
        with self._changed:
            self._is_over = True
            running = [machine for table in self._tables if table.num_running for machine in table.machines]
            self._changed.notify_all()
        for machine in running:
            machine.close()
        for thread in self._threads:
            thread.join(0.0 if self._is_lost else None)  # without a head nobody is told that a machine is gone

    def _look(self) -> None:
        """For machines that have joined; a table that has waited too long for one is left for later. Raises
        HeadLost."""
        for table, machine in self._join():
            with self._changed:
                table.empty_since_s = None
                table.machines.append(machine)
            note(f"{table.host.name}: {machine.name} has joined")
            self._start(table, machine)
        now_s = time.monotonic()
        with self._changed:
            for table in self._tables:
                if table.todo and not table.machines:
                    self._wait_for(table, now_s)

    def _wait_for(self, table: Table, now_s: float) -> None:
        if table.empty_since_s is None:
            table.empty_since_s = now_s
            note(f"{table.host.name}: no machine of it is left; waiting for one (Ctrl-C to leave)")
        elif now_s - table.empty_since_s >= self._wait_s:
            note(f"{table.host.name}: none has come in {self._wait_s:g} s: the rest is left for later")
            table.todo.clear()

    def _serve(self, table: Table, machine: Machine) -> None:
        """One machine, cell after cell."""
        lines = Lines(table.sweep, machine.name)
        watch = Watch(lines, {}, Place(machine, table.host, lines.say))
        while (index := self._next(table)) is not None:
            try:
                measure_cell(table.sweep, index, index, watch)
                reason = stop_reason(table.sweep, index)
                self._over(table, index, stop=reason)
            except MachineLost as lost:
                self._lost(table, index, machine, lost)
                return
            except BaseException as error:  # noqa: BLE001 - it is raised again where somebody waits for the threads
                with self._changed:
                    self._errors.append(error)
                    table.num_running -= 1
                    self._changed.notify_all()
                return

    def _next(self, table: Table) -> int | None:
        """The next cell; None when there is none and none can come back."""
        with self._changed:
            while not self._is_over:
                if table.todo:
                    table.num_running += 1
                    return table.todo.pop(0)
                if not table.num_running:
                    return None
                self._changed.wait()
            return None

    def _over(self, table: Table, index: int, stop: str | None) -> None:
        with self._changed:
            table.num_running -= 1
            if stop is not None and table.todo:
                note(f"{table.host.name}: {stop}: the rest is left for later")
                table.todo.clear()
            self._changed.notify_all()

    def _lost(self, table: Table, index: int, machine: Machine, lost: MachineLost) -> None:
        """The cell goes on elsewhere, from its beginning: trials that have come back stay in its folder."""
        with self._changed:
            table.num_running -= 1
            table.machines.remove(machine)
            table.losses[index] += 1
            table.sweep.ledger.give_back(index)
            label = table.sweep.cells[index].label
            if not self._is_over:
                note(f"{table.host.name}: {lost}")
                if table.losses[index] > self._losses:
                    reason = f"its machine was lost {table.losses[index]} times while it ran; last: {lost}"
                    table.sweep.num_failed += 1
                    table.sweep.ledger.set_cell(
                        index, "failed", reason, "see whether it is the cell that ends machines"
                    )
                else:
                    table.todo.insert(0, index)
                    note(f"{table.host.name}: {label} goes on elsewhere in its class")
            self._changed.notify_all()
        if not self._is_over:
            machine.close()
