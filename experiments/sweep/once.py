"""One run on a machine of every host class of a fleet, for verbs that judge a run: a sweep of one cell a class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.common.cli import EXIT_ENVIRONMENT, EXIT_JOB_FAILED, EXIT_OK, note, resume_command
from experiments.common.device_lock import folder_lock
from experiments.common.plain import Config
from experiments.common.sources import code_hash
from experiments.fleet.facts import HostClass
from experiments.fleet.machines import HeadLost
from experiments.measuring.job import RESULT
from experiments.settings.compose import compose_config, compose_run
from experiments.sweep.dispatch import Table
from experiments.sweep.hosts import (
    Fleet,
    composing_for,
    device_of,
    dispatched,
    fleet_of,
    head_lost,
    made_ready,
    refuse_taken,
    save_hosts,
    scored,
)
from experiments.sweep.running import new_sweep

WordsFor = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True)
class Ended:
    """Of one host class. folder: of its run, None where there is none, for which exit_code stands. said: its name, or
    why there is none."""

    host_class: str
    folder: Path | None
    exit_code: int
    said: str


def one_run_a_class(
    words: Sequence[str], words_for: WordsFor, out: Path, command: Sequence[str] | None = None
) -> Iterator[Ended]:
    """What became of each, once nothing is measured any more and the audio is scored.

    words: overrides that every run has. words_for: all overrides of the run on a host class. command: how a worker is
    started, for tests. Raises ConfigError, and what words_for raises, before anything is measured.
    """
    config = compose_config(words)
    device = device_of(words, config)
    refuse_taken(out, "sweep")
    with fleet_of(config, device, command) as fleet:
        hosts = fleet.hosts()
        asked = [(host, words_for(host.host_class)) for host in hosts]
        tables = [_table(host, fleet, own, out) for host, own in asked]
        save_hosts(out, hosts)
        with folder_lock(out):
            code = code_hash()
            for table in tables:
                made_ready(table, fleet, command, code)
                table.sweep.ledger.start()
                table.todo = table.sweep.todo()
            exit_code = _measured(tables, fleet, config, out)
    for table in tables:
        yield _ended(table, out, exit_code)


def _measured(tables: Sequence[Table], fleet: Fleet, config: Config, out: Path) -> int:
    """Measured and scored, as far as there were machines. EXIT_OK, or how it ends for all that have no run to judge."""
    try:
        dispatched(tables, fleet, config)
        scored(tables)
    except HeadLost as lost:
        return head_lost(lost, [table.sweep for table in tables], resume_command("sweep", out))
    finally:
        for table in tables:
            ledger = table.sweep.ledger
            ledger.end("interrupted" if ledger.count("pending") or ledger.count("running") else "done")
    return EXIT_OK


def _table(host: HostClass, fleet: Fleet, words: Sequence[str], out: Path) -> Table:
    with composing_for(host, fleet):
        cell = compose_run(words)
    if host.reason:
        note(f"{host.name}: {host.reason}")
    return Table(host=host, sweep=new_sweep([cell], out / host.name))


def _ended(table: Table, out: Path, exit_code: int) -> Ended:
    (entry,), folder, host = table.sweep.ledger.entries, table.sweep.dir_of(0), table.host
    if exit_code != EXIT_OK:
        return Ended(host.host_class, None, exit_code, f"{host.name}: not judged")
    if entry.state == "pending":
        go_on = resume_command("sweep", out)
        reason = f"{host.name}: no machine of it is left; `{go_on}` makes its run, gate.run={folder} judges it"
        return Ended(host.host_class, None, EXIT_ENVIRONMENT, reason)
    if not (folder / RESULT).is_file():
        return Ended(host.host_class, None, EXIT_JOB_FAILED, f"{host.name}: {entry.reason}")
    return Ended(host.host_class, folder, EXIT_OK, host.name)
