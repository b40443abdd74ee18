"""A sweep on a fleet (`launcher=ray`): the whole table once for every host class, each in a folder of its own.

fleet.json says which classes there are. Below it every class is an ordinary sweep with its ledger, report and MLflow
runs, so that no figure of one class can stand in a ratio with one of another; beside them lies one overview.
"""

from __future__ import annotations

from collections.abc import Sequence
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
    resume_command,
)
from experiments.common.device_lock import folder_lock
from experiments.common.sources import code_hash
from experiments.fleet.facts import HostClass
from experiments.fleet.machines import HeadLost
from experiments.measuring.running import sync_tracking
from experiments.settings.compose import compose_cells
from experiments.settings.suited import suited
from experiments.sweep.cells import review
from experiments.sweep.dispatch import Table
from experiments.sweep.hosts import (
    Fleet,
    composing_for,
    device_of,
    device_words,
    dispatched,
    fleet_again,
    fleet_of,
    head_lost,
    load_hosts,
    made_ready,
    refuse_taken,
    report,
    save_hosts,
    scored,
)
from experiments.sweep.ledger import REQUEST
from experiments.sweep.running import new_sweep, resumed_sweep, sweep_folder


def run_fleet(argv: Sequence[str], command: Sequence[str] | None = None) -> int:
    """A new sweep. command: how a worker is started, for tests."""
    first = compose_cells(argv)[0]
    folder, device = sweep_folder(first), device_of(argv, first.config)
    refuse_taken(folder, "sweep")
    with fleet_of(first.config, device, command) as fleet:
        tables = [_new_table(host, fleet, argv, device, folder) for host in fleet.hosts()]
        save_hosts(folder, [table.host for table in tables])
        return _run(folder, tables, fleet, command)


def resume_fleet(folder: Path, command: Sequence[str] | None = None) -> int:
    """The sweep of a folder, on the machines of the same classes that there are now."""
    if (folder / REQUEST).is_file():
        raise ConfigError("resume", folder, "is a search", f"use `{resume_command('optimize', folder)}`")
    stored = load_hosts(folder)
    sweeps = [resumed_sweep(folder / host.name, elsewhere=True) for host in stored]
    with fleet_again(sweeps[0].cells[0].config, stored, command) as (fleet, hosts):
        tables = [Table(host=host, sweep=sweep) for host, sweep in zip(hosts, sweeps, strict=True)]
        return _run(folder, tables, fleet, command)


def _new_table(host: HostClass, fleet: Fleet, argv: Sequence[str], device: str | None, folder: Path) -> Table:
    """Composed for the processor and the device of the class."""
    with composing_for(host, fleet) as flags:
        cells = compose_cells([*argv, *device_words(host, device)])
    cells, left_out = suited(cells, flags)
    for line in (*left_out, *([host.reason] if host.reason else [])):
        note(f"{host.name}: {line}")
    return Table(host=host, sweep=new_sweep(cells, folder / host.name))


def _run(folder: Path, tables: list[Table], fleet: Fleet, command: Sequence[str] | None) -> int:
    code = code_hash()  # of what the machines have been sent: an edit made meanwhile is of the next sweep
    with folder_lock(folder):
        for table in tables:
            made_ready(table, fleet, command, code)
            table.sweep.ledger.start()
            for line in review(table.sweep):
                note(f"{table.host.name}: {line}")
            table.todo = table.sweep.todo()
            note(f"{table.host.name}: {len(table.todo)} variants, {len(table.machines)} machines; records in {folder}")
        try:
            dispatched(tables, fleet, tables[0].sweep.cells[0].config)
            num_unscored = scored(tables)
        except KeyboardInterrupt:
            for table in tables:
                table.sweep.ledger.end("interrupted")
            complain(f"interrupted; go on with: {resume_command('sweep', folder)}")
            return EXIT_INTERRUPTED
        except HeadLost as lost:
            return head_lost(lost, [table.sweep for table in tables], resume_command("sweep", folder))
        return _published(folder, tables, num_unscored)


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
