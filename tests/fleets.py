"""A fleet without Ray: the very servers that Ray's relays start, on this machine, each with one core, locks and a
cache of its own. What Ray adds (who is alive, the way of the lines) is tested on Ray itself."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from experiments.common.environment import fingerprint
from experiments.common.repository import git_state
from experiments.fleet.cluster import Node
from experiments.fleet.machines import Machine, MachineLost
from experiments.fleet.relay import Relay
from reports.commands import ROOT

CPU = {"name": "cpu", "kind": "cpu", "threads": None}
SAID = os.environ.get("F5BENCH_TEST_CORES")  # by tests/conftest.py: a process of `pytest -n` has one of them
ALL_CORES = frozenset(map(int, SAID.split(","))) if SAID else frozenset(os.sched_getaffinity(0))
ONE_CORE = frozenset([min(ALL_CORES)])


@contextmanager
def cores(wanted: Collection[int]) -> Iterator[None]:
    """What is started meanwhile may use these cores alone: its host class says how many."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, wanted)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def class_of(wanted: Collection[int]) -> str:
    with cores(wanted):
        return str(fingerprint(CPU)["host_class"])  # type: ignore[arg-type]


@dataclass
class Pipes:
    """As experiments.fleet.cluster.Cluster. machines: node id -> the cores that it has."""

    folder: Path
    machines: dict[str, Collection[int]]
    environment: Mapping[str, str] = field(default_factory=dict)
    opened: dict[str, Machine] = field(default_factory=dict)
    relays: dict[str, Relay] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)
    busy: list[str] = field(default_factory=list)  # the machines that were given a job, in order
    ray: Any = field(default_factory=SimpleNamespace)

    def nodes(self) -> list[Node]:
        return [
            Node(node_id=name, address="127.0.0.1", classes=(class_of(wanted),))
            for name, wanted in self.machines.items() if name not in self.dead
        ]  # fmt: skip

    def reach(self, node: Node) -> Machine:
        name = node.node_id
        if name not in self.opened:
            own = {
                "F5BENCH_STATE_DIR": str(self.folder / name), "F5BENCH_CACHE": str(self.folder / name / "cache"),
                "PYTHONPATH": str(ROOT), **self.environment,
            }  # fmt: skip
            with cores(self.machines[name]):
                self.relays[name] = Relay(None, own)
            self.opened[name] = Machine(
                name=name,
                talk=lambda line: self._talk(name, line),
                close=lambda: self._close(name),
                git=git_state(ROOT),
            )
        return self.opened[name]

    def _talk(self, name: str, line: str) -> Iterator[str]:
        if '"ask": "job"' in line:
            self.busy.append(name)
        try:
            if name in self.dead:
                raise RuntimeError("switched off")
            yield from self.relays[name].talk(line)
        except RuntimeError as error:
            raise MachineLost(f"{name}: {error}") from error

    def _close(self, name: str) -> None:
        if self.opened.pop(name, None):
            self.relays.pop(name).close()

    def kill(self, name: str) -> None:
        """As a machine that is switched off."""
        self.dead.add(name)
        self.relays[name].close()

    def revive(self, name: str) -> None:
        self.dead.discard(name)
        self._close(name)

    def shut(self) -> None:
        for name in list(self.opened):
            self._close(name)
