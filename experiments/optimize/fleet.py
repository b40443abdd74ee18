"""A search on a fleet (`launcher=ray`): one for every host class, with a study, a ledger and a front of its own.

It goes in rounds. In each every class measures as many suggestions as it has machines, all classes at once; when
nothing is timed any more their audio is scored here, since a machine of the fleet may be this one, and the samplers are
told. A class of one machine is asked what a search on that machine alone would be.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.common.cli import (
    EXIT_ENVIRONMENT,
    EXIT_INTERRUPTED,
    EXIT_JOB_FAILED,
    EXIT_OK,
    EXIT_UNEXPECTED,
    complain,
    disk_full,
    note,
    resume_command,
)
from experiments.common.device_lock import folder_lock
from experiments.common.plain import Config
from experiments.common.sources import code_hash
from experiments.fleet.facts import HostClass
from experiments.fleet.machines import HeadLost, MachineLost
from experiments.measuring.running import sync_tracking
from experiments.measuring.validate import validate_out
from experiments.optimize.asking import IDLE, Asked, Asking, asking_of, front_lines, scored_figures
from experiments.optimize.request import (
    asked,
    folder_of,
    keep_request,
    new_search,
    resumed_search,
    resumed_words,
    search_folder,
)
from experiments.optimize.study import Search
from experiments.sweep.cells import review, stop_reason
from experiments.sweep.dispatch import Table
from experiments.sweep.hosts import (
    Fleet,
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
    scoring_watch,
)


@dataclass(slots=True, eq=False)
class Part:
    """The search of one host class. stopped: why it ended too early; is_left: for want of machines."""

    table: Table
    asking: Asking
    stopped: str | None = None
    is_left: bool = False

    @property
    def search(self) -> Search:
        return self.asking.search

    def ask(self) -> list[Asked]:
        """The suggestions of a round, those that are not measured yet as the table's todo."""
        if self.stopped is not None:
            return []
        batch, sweep = self.asking.batch(len(self.table.machines)), self.search.sweep
        for one in batch:
            index = sweep.index_of(one.cell.label)
            index = sweep.add(one.cell) if index is None else index
            if not sweep.ledger.entries[index].is_settled and index not in self.table.todo:
                self.table.todo.append(index)
        return batch

    def tell(self, batch: Iterable[Asked]) -> None:
        """What a round found, scored. What the round has left, and what follows it, is asked again when it goes on."""
        for one in batch:
            index = self.search.sweep.index_of(one.cell.label)
            assert index is not None
            self.stopped = self._told(one, index) or stop_reason(self.search.sweep, index)
            if self.stopped is not None:
                return

    def _told(self, one: Asked, index: int) -> str | None:
        """Why it could not be told, None where it was."""
        label = one.cell.label
        if self.search.sweep.ledger.entries[index].state == "pending":
            self.is_left = True
            return f"{label} is left for later"
        try:
            figures = scored_figures(self.search, index, scoring_watch(self.table))
        except MachineLost as lost:
            self.is_left = True
            return f"{label}: what its audio is compared with could not be spoken ({lost})"
        if figures is None:
            return f"{label}: its audio could not be scored"
        self.asking.tell(one, figures)
        return None


def run_fleet_search(argv: Sequence[str], command: Sequence[str] | None = None) -> int:
    """A new search. command: how a worker is started, for tests."""
    _, config = asked(argv)
    folder, device = search_folder(config), device_of(argv, config)
    refuse_taken(folder, "optimize")
    with fleet_of(config, device, command) as fleet:
        validate_out(folder, 0, 0)
        hosts = fleet.hosts()
        searches = [new_search([*argv, *device_words(host, device)], folder / host.name) for host in hosts]
        keep_request(folder, argv)
        save_hosts(folder, hosts)
        for host in hosts:
            if host.reason:
                note(f"{host.name}: {host.reason}")
        return _run(folder, config, list(zip(hosts, searches, strict=True)), fleet, command)


def resume_fleet_search(argv: Sequence[str], command: Sequence[str] | None = None) -> int:
    """The search of resume=DIR, on the machines of the same classes that there are now."""
    folder, words = folder_of(argv), resumed_words(argv)
    _, config = asked(words)
    device = device_of(words, config)
    with fleet_again(config, load_hosts(folder), command) as (fleet, hosts):
        found = [(host, resumed_search(argv, host.name, device_words(host, device))) for host in hosts]
        return _run(folder, config, found, fleet, command)


def _run(
    folder: Path,
    config: Config,
    searches: Sequence[tuple[HostClass, Search]],
    fleet: Fleet,
    command: Sequence[str] | None,
) -> int:
    code, parts = code_hash(), list[Part]()  # of what the machines have been sent
    go_on = resume_command("optimize", folder)
    with folder_lock(folder):
        try:
            for host, search in searches:
                parts.append(_begun(Table(host=host, sweep=search.sweep), search, fleet, command, code))
            _rounds(parts, fleet, config)
        except KeyboardInterrupt:
            for _, search in searches:
                search.sweep.ledger.end("interrupted")
            complain(f"interrupted; go on with: {go_on}")
            return EXIT_INTERRUPTED
        except HeadLost as lost:
            return head_lost(lost, [search.sweep for _, search in searches], go_on)
        except OSError as error:
            return disk_full(error, folder, go_on)
        return _published(folder, parts, go_on)


def _begun(table: Table, search: Search, fleet: Fleet, command: Sequence[str] | None, code: str) -> Part:
    made_ready(table, fleet, command, code)
    search.sweep.ledger.start()
    for line in review(search.sweep):
        note(f"{table.host.name}: {line}")
    asking = asking_of(search, elsewhere=True)
    many = f"at most {max(0, search.wanted - len(search.rows))} variants, {len(table.machines)} machines"
    note(f"{table.host.name}: {many}; records in {table.sweep.folder}")
    return Part(table, asking)


def _rounds(parts: Sequence[Part], fleet: Fleet, config: Config) -> None:
    """Until no class has more to ask."""
    while True:
        batches = [(part, part.ask()) for part in parts]
        if not any(batch for _, batch in batches):
            break
        dispatched([part.table for part in parts], fleet, config)
        for part, batch in batches:
            part.tell(batch)
    for part in parts:
        if part.asking.is_idle:
            note(f"{part.table.host.name}: {IDLE}")


def _published(folder: Path, parts: Sequence[Part], go_on: str) -> int:
    """One table and one front a class, the overview, MLflow, and what became of it all as an exit code."""
    sweeps = [part.search.sweep for part in parts]
    for part in parts:
        part.search.sweep.ledger.end("interrupted" if part.stopped else "done")
    if not all(sweep.cells for sweep in sweeps):
        complain("no suggestion could be measured; search.json of each host class has the reasons")
        return EXIT_JOB_FAILED
    is_reported = report(folder)
    for part in parts:
        print(sync_tracking(part.search.sweep.cells[0].config, part.search.sweep.folder), end="")
        for line in front_lines(part.search):
            print(f"{line} ({part.table.host.name})")
    stopped = [part for part in parts if part.stopped]
    for part in stopped:
        complain(f"{part.table.host.name}: {part.stopped}; go on with: {go_on}")
    if any(not part.is_left for part in stopped):
        return EXIT_JOB_FAILED
    if stopped:
        return EXIT_ENVIRONMENT  # its machines are not there
    if not all(any(row["values"] for row in part.search.rows) for part in parts):
        return EXIT_JOB_FAILED
    return EXIT_OK if is_reported else EXIT_UNEXPECTED
