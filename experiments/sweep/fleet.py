"""A sweep on a fleet (`launcher=ray`): the whole table once for every host class, each in a folder of its own.

fleet.json says which classes there are. Below it every class is an ordinary sweep with its ledger, report and MLflow
runs, so that no figure of one class can stand in a ratio with one of another; beside them lies one overview.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from engine.contract import ConfigError
from experiments.common.cli import (
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_JOB_FAILED,
    EXIT_OK,
    EXIT_UNEXPECTED,
    EXIT_USAGE,
    complain,
    note,
    report_command,
    resume_command,
)
from experiments.common.device_lock import folder_lock
from experiments.common.environment import instruction_set
from experiments.common.plain import Config
from experiments.common.processes import module_environment
from experiments.common.sources import code_hash
from experiments.fleet.cluster import HELD_S, Cluster, Node, connected
from experiments.fleet.facts import HostClass, chosen, classes_of, environment_of
from experiments.fleet.machines import Machine, MachineLost, Place
from experiments.fleet.travel import PACKAGES
from experiments.measuring.job import JobResult, JobSpec, Launcher
from experiments.measuring.running import sync_tracking
from experiments.measuring.validate import LOCAL, launcher_of
from experiments.settings.compose import COMPOSED_FOR, compose_cells
from experiments.settings.overrides import parse
from experiments.settings.suited import suited
from experiments.sweep.cells import Watch, review
from experiments.sweep.dispatch import Dispatch, Lines, Table
from experiments.sweep.running import Scores, new_sweep, resumed_sweep, sweep_folder
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


def is_fleet(argv: Sequence[str]) -> bool:
    """Whether the overrides, or a preset that they name, ask for other machines."""
    keys = {override.key_or_group.partition(".")[0] for override in parse(argv)}
    return bool(keys & {"launcher", "experiment"}) and launcher_of(compose_cells(argv)[0].config) != LOCAL


def is_fleet_folder(folder: Path) -> bool:
    return (folder / FLEET).is_file()


def run_fleet(argv: Sequence[str], command: Sequence[str] | None = None) -> int:
    """A new sweep. command: how a worker is started, for tests."""
    first = compose_cells(argv)[0]
    folder, device = sweep_folder(first), _device_of(argv, first.config)
    if is_fleet_folder(folder):
        raise ConfigError("out", folder, f"already holds {FLEET}", f"go on with `{resume_command('sweep', folder)}`")
    with connected(first.config["launcher"], _packages(command)) as cluster:
        known = sorted({name for node in cluster.nodes() for name in node.classes})
        fleet = Fleet(cluster, chosen(first.config["sweep"]["hosts"], known, device))
        fleet.meet()
        tables = [_new_table(host, fleet, argv, device, folder) for host in fleet.hosts()]
        if not tables:
            raise ConfigError("sweep.hosts", ", ".join(fleet.asked), "no machine of it answers", "see fleet status")
        stored = _Stored(schema_version=FLEET_SCHEMA_VERSION, hosts=tuple(table.host for table in tables))
        write_atomically(folder / FLEET, json.dumps(asdict(stored), indent=1, ensure_ascii=False) + "\n")
        return _run(folder, tables, fleet, command)


def resume_fleet(folder: Path, command: Sequence[str] | None = None) -> int:
    """The sweep of a folder, on the machines of the same classes that there are now."""
    try:
        stored = from_json(_Stored, load_json(folder / FLEET))
    except (OSError, ValueError) as error:
        raise RecordError(f"{folder / FLEET}: damaged ({error}); start the sweep again") from error
    sweeps = [resumed_sweep(folder / host.name, elsewhere=True) for host in stored.hosts]
    with connected(sweeps[0].cells[0].config["launcher"], _packages(command)) as cluster:
        fleet = Fleet(cluster, sorted({host.host_class for host in stored.hosts}))
        fleet.meet()
        hosts = matched(stored.hosts, fleet.hosts())
        tables = [Table(host=host, sweep=sweep) for host, sweep in zip(hosts, sweeps, strict=True)]
        return _run(folder, tables, fleet, command)


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


def _device_of(argv: Sequence[str], config: Config) -> str | None:
    """The device that the command line names, None where the host class decides."""
    named = [override for override in parse(argv) if override.key_or_group in DEVICE_KEYS]
    if any(override.is_sweep_override() for override in named):
        raise ConfigError("device", "(several values)", "is decided by the host class", "leave it out, see sweep.hosts")
    return str(config["device"]["kind"]) if named else None


def _packages(command: Sequence[str] | None) -> list[str]:
    """Beside ours, the package of a worker of tests."""
    named = "" if command is None else command[-1].partition(".")[0]
    return [] if named in ("", *PACKAGES) else [named]


def _new_table(host: HostClass, fleet: Fleet, argv: Sequence[str], device: str | None, folder: Path) -> Table:
    """Composed for the processor and the device of the class."""
    flags = next(one.cpu_flags for one in fleet.machines if _is_of(one, host))
    chosen_for = COMPOSED_FOR.set(instruction_set(flags))
    try:
        cells = compose_cells([*argv, *([] if device else [f"device={host.kind.partition(':')[0]}"])])
    finally:
        COMPOSED_FOR.reset(chosen_for)
    cells, left_out = suited(cells, flags)
    for line in (*left_out, *([host.reason] if host.reason else [])):
        note(f"{host.name}: {line}")
    return Table(host=host, sweep=new_sweep(cells, folder / host.name))


def _is_of(machine: Machine, host: HostClass) -> bool:
    facts = machine.classes.get(host.host_class)
    return facts is not None and environment_of(facts) == host.environment


def _run(folder: Path, tables: list[Table], fleet: Fleet, command: Sequence[str] | None) -> int:
    code = code_hash()  # of what the machines have been sent: an edit made meanwhile is of the next sweep
    with folder_lock(folder):
        for table in tables:
            table.sweep.command, table.sweep.environment, table.sweep.code = command, table.host.environment, code
            table.machines = [machine for machine in fleet.machines if _is_of(machine, table.host)]
            table.sweep.ledger.start()
            for line in review(table.sweep):
                note(f"{table.host.name}: {line}")
            table.todo = table.sweep.todo()
            note(f"{table.host.name}: {len(table.todo)} variants, {len(table.machines)} machines; records in {folder}")
        try:
            num_unscored = _measured(tables, fleet)
        except KeyboardInterrupt:
            for table in tables:
                table.sweep.ledger.end("interrupted")
            complain(f"interrupted; go on with: {resume_command('sweep', folder)}")
            return EXIT_INTERRUPTED
        return _published(folder, tables, num_unscored)


def _measured(tables: list[Table], fleet: Fleet) -> int:
    """Number of scorings that failed. Scores are computed here, when nothing is timed any more: a machine of the fleet
    may be this one."""

    def joined() -> Iterator[tuple[Table, Machine]]:
        for machine in fleet.meet():
            yield from ((table, machine) for table in tables if _is_of(machine, table.host))

    settings = tables[0].sweep.cells[0].config["launcher"]
    Dispatch(tables, int(settings["losses"]), float(settings["wait_s"]), joined).run()
    num_failed = 0
    for table in tables:
        scores = Scores(table.sweep, Watch(Lines(table.sweep, "this machine"), {}, _reference_maker(table)))
        try:
            scores.catch_up(is_last=True)
        except MachineLost as lost:
            note(f"{table.host.name}: {lost}; its scores are made when the sweep goes on")
            num_failed += 1
        num_failed += scores.num_failed
    return num_failed


def _reference_maker(table: Table) -> Elsewhere:
    """Who speaks a quality reference that is not kept: a machine of the class."""
    if table.machines:
        return Place(table.machines[0], table.host, note)

    def nobody(spec: JobSpec, launcher: Launcher) -> JobResult:
        raise MachineLost(f"no machine is left to speak {spec.folder.name}")

    return nobody


def _published(folder: Path, tables: list[Table], num_unscored: int) -> int:
    """One table a class and the overview on stdout, MLflow, and what became of it all as an exit code."""
    sweeps = [table.sweep for table in tables]
    for sweep in sweeps:
        sweep.ledger.end("interrupted" if sweep.ledger.count("pending") else "done")
    is_reported = report(folder)
    for sweep in sweeps:
        print(sync_tracking(sweep.cells[0].config, sweep.folder), end="")
    num_failed, num_pending = (sum(sweep.ledger.count(state) for sweep in sweeps) for state in ("failed", "pending"))
    if num_failed or num_pending:
        print(f"go on    {resume_command('sweep', folder)}", flush=True)
    if num_failed or num_unscored or (not any(sweep.ledger.count("ok") for sweep in sweeps) and not num_pending):
        misconfigured = sum(len(sweep.config_errors) for sweep in sweeps)
        return EXIT_USAGE if misconfigured == sum(len(sweep.cells) for sweep in sweeps) else EXIT_JOB_FAILED
    if num_pending:
        return EXIT_ENVIRONMENT  # its machines are not there
    return EXIT_OK if is_reported else EXIT_UNEXPECTED


def report(folder: Path) -> bool:
    """The tables of all classes and the overview, made by a process of its own. False, and one line, where it fails."""
    sys.stdout.flush()
    done = subprocess.run(
        [sys.executable, "-m", "reports", str(folder), "--print"], env=module_environment(), check=False
    )
    if done.returncode != 0:
        complain(f"the report failed; everything measured is in {folder}; `{report_command(folder)}`")
    return done.returncode == 0
