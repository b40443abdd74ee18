"""The machines that a verb measures on, class by class: who was asked, who answers, what the folder says of them.

For every verb that `launcher=ray` spreads: a sweep, a search, a gate. Each of them has a folder of its own for every
host class, so that no figure of one class can stand in a ratio with one of another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from engine.contract import ConfigError
from experiments.common.cli import EXIT_ENVIRONMENT, complain, note, report_command, resume_command
from experiments.common.environment import instruction_set
from experiments.common.plain import Config
from experiments.common.processes import module_environment
from experiments.fleet.cluster import HELD_S, START, Cluster, Node, connected
from experiments.fleet.facts import HostClass, chosen, classes_of, environment_of
from experiments.fleet.machines import HeadLost, Machine, MachineLost, Place
from experiments.fleet.travel import PACKAGES
from experiments.measuring.job import JobResult, JobSpec, Launcher
from experiments.measuring.validate import LOCAL, launcher_of
from experiments.settings.compose import COMPOSED_FOR, compose_cells
from experiments.settings.overrides import parse
from experiments.sweep.cells import Sweep, Watch
from experiments.sweep.dispatch import Dispatch, Lines, Table
from experiments.sweep.running import Scores
from metrics.record import RecordError, write_atomically
from metrics.typed import from_json, load_json
from reports.data.fleet import FLEET, FLEET_SCHEMA_VERSION

Elsewhere = Callable[[JobSpec, Launcher], JobResult]
DEVICE_KEYS = ("device", "device.kind")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    """fleet.json."""

    schema_version: int
    hosts: tuple[HostClass, ...]


@dataclass(slots=True, eq=False)
class Fleet:
    """The machines of one sweep. asked: the host classes that it is measured on; refused: nodes that fit none."""

    cluster: Cluster
    asked: list[str]
    machines: list[Machine] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)

    def meet(self) -> list[Machine]:
        """The machines that have joined since, each with what it says of itself."""
        nodes = [
            node for node in self.cluster.nodes()
            if set(node.classes) & set(self.asked) and node.node_id not in {*self.cluster.opened, *self.refused}
        ]  # fmt: skip
        if not nodes:
            return []
        with ThreadPoolExecutor(len(nodes)) as pool:
            met = [machine for machine in pool.map(self._meet, nodes) if machine is not None]
        self.machines += met
        return met

    def _meet(self, node: Node) -> Machine | None:
        machine = self.cluster.reach(node)
        held = threading.Timer(HELD_S, note, (f"{node.name} does not answer yet: another sweep may hold it; waiting",))
        held.start()
        try:
            machine.introduce(node.kinds)
        except MachineLost as lost:
            note(f"{lost}; it takes no part")
            self.refused.add(node.node_id)
            machine.close()
            return None
        finally:
            held.cancel()
        gone = sorted(set(node.classes) & set(self.asked) - set(machine.classes))
        if gone:
            note(f"{node.name} joined as {', '.join(gone)} and is now {', '.join(sorted(machine.classes))}: join again")
            self.refused.add(node.node_id)
            machine.close()
            return None
        return machine

    def hosts(self) -> list[HostClass]:
        return classes_of(
            (name, facts) for one in self.machines for name, facts in one.classes.items() if name in self.asked
        )


@contextmanager
def fleet_of(config: Config, device: str | None, command: Sequence[str] | None) -> Iterator[Fleet]:
    """The machines of the classes that sweep.hosts names, those that answer. device: as chosen() takes it. command: how
    a worker is started, for tests. Raises ConfigError where there is none."""
    with connected(config["launcher"], _packages(command)) as cluster:
        with _answering(config):
            known = sorted({name for node in cluster.nodes() for name in node.classes})
            fleet = Fleet(cluster, chosen(config["sweep"]["hosts"], known, device))
            fleet.meet()
        if not fleet.hosts():
            raise ConfigError("sweep.hosts", ", ".join(fleet.asked), "no machine of it answers", "see fleet status")
        yield fleet


@contextmanager
def fleet_again(
    config: Config, stored: Sequence[HostClass], command: Sequence[str] | None
) -> Iterator[tuple[Fleet, list[HostClass]]]:
    """The machines of stored classes that there are now, and the classes as they are now, in the stored order."""
    with connected(config["launcher"], _packages(command)) as cluster:
        fleet = Fleet(cluster, sorted({host.host_class for host in stored}))
        with _answering(config):
            fleet.meet()
        yield fleet, matched(stored, fleet.hosts())


@contextmanager
def _answering(config: Config) -> Iterator[None]:
    """Before anything has begun a head that is lost is one that is not there. Raises ConfigError."""
    try:
        yield
    except HeadLost as lost:
        address = config["launcher"].get("address")
        raise ConfigError("launcher.address", address, str(lost), f"start one with `{START}`") from lost


def save_hosts(folder: Path, hosts: Sequence[HostClass]) -> None:
    """fleet.json."""
    stored = _Stored(schema_version=FLEET_SCHEMA_VERSION, hosts=tuple(hosts))
    write_atomically(folder / FLEET, json.dumps(asdict(stored), indent=1, ensure_ascii=False) + "\n")


def load_hosts(folder: Path) -> tuple[HostClass, ...]:
    """Raises RecordError."""
    try:
        return from_json(_Stored, load_json(folder / FLEET)).hosts
    except (OSError, ValueError) as error:
        raise RecordError(f"{folder / FLEET}: damaged ({error}); start the sweep again") from error


@contextmanager
def composing_for(host: HostClass, fleet: Fleet) -> Iterator[Sequence[str]]:
    """What is composed meanwhile is for the processor of the class; the flags of that processor."""
    flags = next(one.cpu_flags for one in fleet.machines if is_of(one, host))
    chosen_for = COMPOSED_FOR.set(instruction_set(flags))
    try:
        yield flags
    finally:
        COMPOSED_FOR.reset(chosen_for)


def device_words(host: HostClass, device: str | None) -> list[str]:
    """The override that names the device of the class, where the command line names none."""
    return [] if device else [f"device={host.kind.partition(':')[0]}"]


def made_ready(table: Table, fleet: Fleet, command: Sequence[str] | None, code: str) -> None:
    """Its cells are of the class, and of the code that the machines have been sent."""
    table.sweep.command, table.sweep.environment, table.sweep.code = command, table.host.environment, code
    table.machines = [machine for machine in fleet.machines if is_of(machine, table.host)]


def dispatched(tables: Sequence[Table], fleet: Fleet, config: Config) -> None:
    """The cells of every table's todo, measured or left for later; whoever joins meanwhile takes part."""

    def joined() -> Iterator[tuple[Table, Machine]]:
        for machine in fleet.meet():
            yield from ((table, machine) for table in tables if is_of(machine, table.host))

    settings = config["launcher"]
    Dispatch(list(tables), int(settings["losses"]), float(settings["wait_s"]), joined).run()


def head_lost(lost: HeadLost, sweeps: Iterable[Sweep], go_on: str) -> int:
    """The exit code; what came back is kept, and said to go on later."""
    for sweep in sweeps:
        sweep.ledger.end("interrupted")
    complain(f"{lost}; what came back is kept; once there is a head again, go on with: {go_on}")
    return EXIT_ENVIRONMENT


def scored(tables: Sequence[Table]) -> int:
    """Number of scorings that failed. Scores are computed here, when nothing is timed any more: a machine of the fleet
    may be this one."""
    num_failed = 0
    for table in tables:
        scores = Scores(table.sweep, scoring_watch(table))
        try:
            scores.catch_up(is_last=True)
        except MachineLost as lost:
            note(f"{table.host.name}: {lost}; its scores are made when the sweep goes on")
            num_failed += 1
        num_failed += scores.num_failed
    return num_failed


def scoring_watch(table: Table) -> Watch:
    """Who is told of scores, and who speaks a quality reference that is not kept."""
    return Watch(Lines(table.sweep, "this machine"), {}, _reference_maker(table))


def refuse_taken(folder: Path, verb: str) -> None:
    """Raises ConfigError for a folder in which the verb has begun something on a fleet."""
    if is_fleet_folder(folder):
        raise ConfigError("out", folder, f"already holds {FLEET}", f"go on with `{resume_command(verb, folder)}`")


def is_fleet(argv: Sequence[str], composed: Callable[[Sequence[str]], Config] | None = None) -> bool:
    """Whether the overrides, or a preset that they name, ask for other machines. composed: how the verb composes one
    configuration of them; None: as a sweep its first cell."""
    keys = {override.key_or_group.partition(".")[0] for override in parse(argv)}
    if not keys & {"launcher", "experiment"}:
        return False
    return launcher_of(composed(argv) if composed else compose_cells(argv)[0].config) != LOCAL


def is_fleet_folder(folder: Path) -> bool:
    return (folder / FLEET).is_file()


def matched(stored: Iterable[HostClass], there: Sequence[HostClass]) -> list[HostClass]:
    """The stored classes as they are now: their machines may have been changed meanwhile, which the review of their
    cells then finds."""
    stored = list(stored)
    kept = {(host.host_class, host.environment) for host in stored}
    changed = [host for host in there if (host.host_class, host.environment) not in kept]
    present = {(host.host_class, host.environment) for host in there}
    now = []
    for host in stored:
        other = next((one for one in changed if one.host_class == host.host_class), None)
        if (host.host_class, host.environment) not in present and other is not None:
            changed.remove(other)
            host = replace(host, environment=other.environment, facts=other.facts, kind=other.kind)
        now.append(host)
    for host in changed:
        note(f"{host.host_class}: a machine there is none that the sweep was started with; it takes no part")
    return now


def device_of(argv: Sequence[str], config: Config) -> str | None:
    """The device that the command line names, None where the host class decides."""
    named = [override for override in parse(argv) if override.key_or_group in DEVICE_KEYS]
    if any(override.is_sweep_override() for override in named):
        raise ConfigError("device", "(several values)", "is decided by the host class", "leave it out, see sweep.hosts")
    return str(config["device"]["kind"]) if named else None


def _packages(command: Sequence[str] | None) -> list[str]:
    """Beside ours, the package of a worker of tests."""
    named = "" if command is None else command[-1].partition(".")[0]
    return [] if named in ("", *PACKAGES) else [named]


def is_of(machine: Machine, host: HostClass) -> bool:
    facts = machine.classes.get(host.host_class)
    return facts is not None and environment_of(facts) == host.environment


def _reference_maker(table: Table) -> Elsewhere:
    """Who speaks a quality reference that is not kept: a machine of the class."""
    if table.machines:
        return Place(table.machines[0], table.host, note)

    def nobody(spec: JobSpec, launcher: Launcher) -> JobResult:
        raise MachineLost(f"no machine is left to speak {spec.folder.name}")

    return nobody


def report(folder: Path) -> bool:
    """The tables of all classes and the overview, made by a process of its own. False, and one line, where it fails."""
    sys.stdout.flush()
    done = subprocess.run(
        [sys.executable, "-m", "reports", str(folder), "--print"], env=module_environment(), check=False
    )
    if done.returncode != 0:
        complain(f"the report failed; everything measured is in {folder}; `{report_command(folder)}`")
    return done.returncode == 0
