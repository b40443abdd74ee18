"""The cells of a sweep: what of an earlier run is kept, attempts by policy, when to leave the rest for later."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Protocol

from experiments.common.environment import now_iso
from experiments.common.failure import allowed_retries, signal_name
from experiments.common.plain import Config, as_config
from experiments.measuring.energy import launch_with_energy
from experiments.measuring.job import JOB, RESULT, JobResult, JobSpec, Launcher, new_job, read_job, write_job
from experiments.measuring.running import make_launcher
from experiments.settings.compose import Cell
from experiments.settings.identity import Identity, identity_of
from experiments.settings.reference import is_reference
from experiments.sweep.ledger import Attempt, Entry, Ledger
from metrics.power.figures import GROSS
from metrics.record import RecordError, RunRecord, load_record

NAMED = 3  # so many cells are named beside a reason


@dataclass(slots=True, eq=False)
class Sweep:
    """The cells beside their ledger. command: how a worker is started, for tests. held: the device locks.

    environment, code: those parts of the cell keys, of the machines that measure and what they were sent; None: of here
    and now.
    """

    folder: Path
    cells: list[Cell]
    ledger: Ledger
    command: Sequence[str] | None = None
    config_errors: set[int] = field(default_factory=set)
    num_failed: int = 0
    held: tuple[int, ...] = ()
    references: dict[str, Path] = field(default_factory=dict)  # made or found beside the cells, by reference_key
    environment: str | None = None
    code: str | None = None

    def identity(self, index: int) -> Identity:
        """The cell key as code, weights and the measuring machine are now."""
        return self.identity_of(self.cells[index].config)

    def identity_of(self, config: Config) -> Identity:
        """Of a configuration, on the machine that measures this sweep."""
        found = identity_of(config)
        return replace(found, environment=self.environment or found.environment, code=self.code or found.code)

    def dir_of(self, index: int) -> Path:
        return self.folder / self.ledger.entries[index].dir

    def measured(self) -> Iterator[tuple[int, Cell]]:
        for index, cell in enumerate(self.cells):
            if self.ledger.entries[index].state == "ok":
                yield index, cell

    def todo(self) -> list[int]:
        """What is not settled, in order, but a cell that others are compared with before them."""
        indexes = [index for index, entry in enumerate(self.ledger.entries) if not entry.is_settled]
        return sorted(indexes, key=lambda index: not is_reference(self.cells[index].config))

    def index_of(self, label: str) -> int | None:
        return next((index for index, cell in enumerate(self.cells) if cell.label == label), None)

    def add(self, cell: Cell) -> int:
        """One more cell; its index. Its job is on disk before the ledger names it."""
        entry = Entry(
            label=cell.label, dir=f"cells/{cell.label}", state="pending", reason=None, remedy=None,
            overrides=cell.overrides,
        )  # fmt: skip
        write_job(new_job(self.folder / entry.dir, cell.label, "measure", cell.config))
        self.cells.append(cell)
        return self.ledger.add(entry)


class Told(Protocol):
    """Who hears of cells by their position: experiments.common.progress.Board, or lines of several at once."""

    def start(self, index: int) -> None: ...

    def tick(self, index: int, journal: Path) -> None: ...

    def finish(self, index: int, state: str, reason: str | None) -> None: ...

    def say(self, line: str) -> None: ...


@dataclass(frozen=True, slots=True, eq=False)
class Watch:
    """Who is told, and the device locks by device. elsewhere: the machine of a fleet that measures instead, which has
    locks of its own."""

    board: Told
    locks: Mapping[str, int]
    elsewhere: Callable[[JobSpec, Launcher], JobResult] | None = None

    def launcher(
        self, config: Config, on_tick: Callable[[Path], None] | None, command: Sequence[str] | None
    ) -> Launcher:
        """For a job of this configuration. command: how a worker is started, for tests."""
        if self.elsewhere is not None:
            return replace(make_launcher(None, on_tick, command), elsewhere=self.elsewhere)
        return make_launcher(self.locks[str(config["device"]["kind"])], on_tick, command)


def read_cells(ledger: Ledger) -> list[Cell]:
    """The cells of a stored sweep, with the configurations that it was started with."""
    return [
        Cell(label=entry.label, overrides=entry.overrides, config=_job_of(ledger, entry).config)
        for entry in ledger.entries
    ]


def _job_of(ledger: Ledger, entry: Entry) -> JobSpec:
    folder = ledger.folder / entry.dir
    if not (folder / JOB).is_file():
        raise RecordError(
            f"{folder / JOB}: cell {entry.label} of this sweep is not there; move its folder back, or start the sweep "
            "again"
        )
    return read_job(folder)


def review(sweep: Sweep) -> list[str]:
    """Before anything is measured: keep what is whole and still true, give the rest back. What was decided, in words.

    A cell whose worker had finished when the sweep was killed is kept; one whose code, weights, settings or machine
    have changed, or whose record is damaged, is measured again.
    """
    said, again = [], {}
    for index, entry in enumerate(sweep.ledger.entries):
        if not entry.attempts and entry.state == "pending":
            continue
        if entry.state == "failed":
            continue  # is tried again anyway
        word = _reviewed(sweep, index, entry)
        if word is not None:
            said.append(f"{entry.label}: {word}")
            again[index] = sweep.ledger.entries[index].state == "pending"
    if said:
        sweep.ledger.save()
    return [*_tally(sweep, {index for index, is_again in again.items() if is_again}), *said]


def _tally(sweep: Sweep, named: Collection[int]) -> list[str]:
    """How many cells of a sweep that goes on are kept, and why others are not. named: those with lines of their own."""
    entries = sweep.ledger.entries
    if not any(entry.attempts or entry.is_settled for entry in entries):
        return []
    reasons: dict[str, list[str]] = {}
    for index, entry in enumerate(entries):
        if not entry.is_settled and index not in named:
            reasons.setdefault(_why_not(entry), []).append(entry.label)
    kept = f"{sum(entry.is_settled for entry in entries)} of {len(entries)} cells are kept"
    if named:
        reasons["no longer true or whole, named below"] = ["" for _ in named]
    texts = [f"{len(labels)} {reason}{_labels(labels)}" for reason, labels in reasons.items()]
    return [f"{kept}; {', '.join(texts)}" if texts else kept]


def _why_not(entry: Entry) -> str:
    if entry.state == "failed":
        return "failed before and tried again"
    return "begun and not finished" if entry.attempts else "not begun yet"


def _labels(labels: Sequence[str]) -> str:
    """(a, b, c and 4 more); nothing where they are named elsewhere or many of no interest."""
    shown = [label for label in labels[:NAMED] if label]
    more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    return f" ({', '.join(shown)}{more})" if shown else ""


def _reviewed(sweep: Sweep, index: int, entry: Entry) -> str | None:
    record = _whole_record(sweep.dir_of(index), entry)
    if record is None or record.status == "failed":
        if entry.state == "pending":
            return None  # it never came to an end
        sweep.ledger.forget(index, "its record is missing or damaged: it is measured again")
        return sweep.ledger.entries[index].reason
    if entry.identity is None and entry.state == "pending":
        return None  # given back before, and the sweep ended again before its turn came
    changed = sweep.identity(index).changed_since(entry.identity)
    if changed:
        sweep.ledger.forget(index, f"{', '.join(changed)} changed since it was measured: it is measured again")
        return sweep.ledger.entries[index].reason
    if entry.state != "pending":
        return None
    attempt = replace(entry.attempts[-1], outcome=record.status)
    sweep.ledger.end_attempt(index, attempt)
    sweep.ledger.entries[index] = replace(
        sweep.ledger.entries[index], state=record.status, reason=record.reason, remedy=record.remedy
    )
    return "was finished when the sweep ended: kept"


def _whole_record(folder: Path, entry: Entry) -> RunRecord | None:
    """The record of the entry's last attempt, None where it left none or its audio is not there."""
    try:
        record = load_record(folder / RESULT)
    except RecordError:
        return None
    if not entry.attempts or record.run_id != entry.attempts[-1].run_id:
        return None
    if len(record.cold_starts) < int(as_config(record.config)["measure"]["cold_starts"]):
        return None  # ended between the measurement and the writing of its cold starts
    if as_config(record.config)["measure"].get("energy_busy_s") and not record.scores_of(GROSS):
        return None  # and of its energy
    audio = [folder / utterance.audio_path for utterance in record.utterances]
    return record if all(path.is_file() for path in audio) else None


def measure_cells(sweep: Sweep, watch: Watch, after_each: Callable[[], None]) -> None:
    """All that is not settled until the policy says to leave the rest for later. after_each: while nothing is timed."""
    for position, index in enumerate(sweep.todo()):
        measure_cell(sweep, index, position, watch)
        after_each()
        reason = stop_reason(sweep, index)
        if reason is not None:
            watch.board.say(f"{reason}: the rest is left for later")
            break


def stop_reason(sweep: Sweep, index: int) -> str | None:
    """Why nothing more is to be started after this cell, None to go on."""
    if sweep.ledger.entries[index].state != "failed":
        return None
    settings = sweep.cells[index].config["sweep"]
    if settings["fail_fast"]:
        return "sweep.fail_fast=true"
    limit = settings["max_failures"]
    return f"sweep.max_failures={limit}" if limit is not None and sweep.num_failed >= limit else None


def measure_cell(sweep: Sweep, index: int, position: int, watch: Watch) -> RunRecord:
    """One cell, with as many attempts as sweep.retries grants to the kinds of its failures."""
    cell, board = sweep.cells[index], watch.board
    failures: Counter[str] = Counter()
    board.start(position)
    while True:
        result = _attempt(sweep, index, position, watch)
        failure, record = result.failure, result.record
        failures[failure or "none"] += 1
        if failure is None or failures[failure] > allowed_retries(cell.config["sweep"], failure):
            break
        board.say(f"{cell.label}: {failure} ({record.reason}); attempt {failures.total() + 1}")
    if failure == "config":
        sweep.config_errors.add(index)
    sweep.num_failed += record.status == "failed"
    sweep.ledger.set_cell(index, record.status, record.reason, record.remedy)
    board.finish(position, record.status, record.reason)
    return record


def _attempt(sweep: Sweep, index: int, position: int, watch: Watch) -> JobResult:
    cell = sweep.cells[index]
    spec = new_job(sweep.dir_of(index), cell.label, "measure", cell.config)
    before, started_s = sweep.identity(index), time.monotonic()
    attempt = Attempt(run_id=spec.run_id, started=now_iso())
    (spec.folder / RESULT).unlink(missing_ok=True)  # before the ledger speaks of a new key
    sweep.ledger.begin_attempt(index, attempt, asdict(before))
    launcher = watch.launcher(cell.config, lambda journal: watch.board.tick(position, journal), sweep.command)
    result = launch_with_energy(spec, launcher)
    code = result.exit_code
    attempt = replace(
        attempt,
        outcome=result.record.status,
        took_s=round(time.monotonic() - started_s, 3),
        failure=result.failure,
        exit_code=code,
        signal=signal_name(-code) if code is not None and code < 0 else None,
        log_tail=result.log_tail if result.failure else (),
    )
    sweep.ledger.end_attempt(index, attempt)
    changed = sweep.identity(index).changed_since(asdict(before))
    if changed:
        entry = sweep.ledger.entries[index]
        sweep.ledger.entries[index] = replace(entry, identity=None)
        word = f"{', '.join(changed)} changed while it was measured; it is measured again when the sweep goes on"
        watch.board.say(f"{cell.label}: {word}")
    return result
