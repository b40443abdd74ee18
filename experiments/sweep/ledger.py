"""sweep.json: which cells a sweep has, what has become of each, attempt by attempt. Rewritten at every change."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

from experiments.common.environment import now_iso
from experiments.common.failure import FailureKind
from metrics.record import SWEEP_SCHEMA_VERSION, RecordError, repeated, write_atomically
from metrics.typed import from_json

SWEEP = "sweep.json"
REQUEST = "request.json"  # of a search, beside its ledger: what it was asked for

AttemptOutcome = Literal["running", "ok", "skipped", "failed", "lost"]
CellState = Literal["pending", "running", "ok", "skipped", "failed"]
SweepStatus = Literal["running", "done", "interrupted"]
LOST: AttemptOutcome = "lost"
_SAVING = threading.Lock()  # of a fleet, cells end side by side


@dataclass(frozen=True, kw_only=True, slots=True)
class Attempt:
    """One worker. failure: its kind. signal: the name of what ended it. lost: the sweep itself ended meanwhile.

    run_id: of the record that it left or was to leave; log_tail: the last lines of log.txt of one that failed.
    """

    run_id: str
    started: str
    outcome: AttemptOutcome = "running"
    took_s: float | None = None
    failure: FailureKind | None = None
    exit_code: int | None = None
    signal: str | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One cell. dir is relative to the sweep's folder. identity: the parts of its cell key
    (experiments.settings.identity).

    The identity is that of the last attempt; None: never started, or what it stands for changed while it ran.
    """

    label: str
    dir: str
    state: CellState
    reason: str | None
    remedy: str | None
    overrides: tuple[str, ...]
    identity: Mapping[str, str] | None = None
    attempts: tuple[Attempt, ...] = ()

    @property
    def is_settled(self) -> bool:
        """Measured, or known to be impossible here: a resumed sweep leaves it alone."""
        return self.state in ("ok", "skipped")


@dataclass(slots=True)
class Ledger:
    """The content of sweep.json; every method that changes it writes it."""

    folder: Path
    sweep_id: str
    entries: list[Entry]
    created: str = field(default_factory=now_iso)
    finished: str | None = None
    status: SweepStatus = "running"
    reference: str | None = None

    def save(self) -> None:
        with _SAVING:
            content = {
                "schema_version": SWEEP_SCHEMA_VERSION,
                "sweep_id": self.sweep_id,
                "created": self.created,
                "finished": self.finished,
                "status": self.status,
                "reference": self.reference,
                "cells": [asdict(entry) for entry in self.entries],
            }
            write_atomically(self.folder / SWEEP, json.dumps(content, indent=1, ensure_ascii=False) + "\n")

    def set_cell(self, index: int, state: CellState, reason: str | None = None, remedy: str | None = None) -> None:
        self.entries[index] = replace(self.entries[index], state=state, reason=reason, remedy=remedy)
        self.save()

    def begin_attempt(self, index: int, attempt: Attempt, identity: Mapping[str, str]) -> None:
        """On disk before the worker starts: whatever it leaves is known by run id and key."""
        entry = self.entries[index]
        self.entries[index] = replace(
            entry, state="running", reason=None, remedy=None, identity=identity, attempts=(*entry.attempts, attempt)
        )
        self.save()

    def end_attempt(self, index: int, attempt: Attempt) -> None:
        """What became of the last attempt. Not written yet: the state of the cell follows at once."""
        entry = self.entries[index]
        self.entries[index] = replace(entry, attempts=(*entry.attempts[:-1], attempt))

    def forget(self, index: int, reason: str | None) -> None:
        """The cell is to be measured again, as the reason says."""
        self.entries[index] = replace(self.entries[index], identity=None, state="pending", reason=reason, remedy=None)

    def give_back(self, index: int) -> None:
        """The machine that measured the cell is lost: the attempt is, and the cell waits for another one."""
        self.entries[index] = _again(self.entries[index])
        self.save()

    def add(self, entry: Entry) -> int:
        """Another cell, for a search that finds its cells on the way; its index."""
        self.entries.append(entry)
        self.save()
        return len(self.entries) - 1

    def set_reference(self, folder: str | None) -> None:
        self.reference = folder
        self.save()

    def start(self) -> None:
        """Begin, or go on: what was running when an earlier attempt died is to be done again."""
        self.status, self.finished = "running", None
        self.entries = [_again(entry) for entry in self.entries]
        self.save()

    def end(self, status: SweepStatus) -> None:
        """done, or interrupted: then the running cell waits for the next attempt."""
        self.status, self.finished = status, now_iso() if status == "done" else None
        self.entries = [_again(entry) for entry in self.entries]
        self.save()

    def count(self, state: CellState) -> int:
        return sum(entry.state == state for entry in self.entries)


def _again(entry: Entry) -> Entry:
    if entry.state != "running":
        return entry
    attempts = tuple(replace(one, outcome=LOST) if one.outcome == "running" else one for one in entry.attempts)
    return replace(entry, state="pending", attempts=attempts)


def new_ledger(folder: Path, labels: Sequence[str], overrides: Sequence[tuple[str, ...]]) -> Ledger:
    entries = [
        Entry(label=label, dir=f"cells/{label}", state="pending", reason=None, remedy=None, overrides=given)
        for label, given in zip(labels, overrides, strict=True)
    ]
    return Ledger(folder=folder, sweep_id=folder.resolve().name, entries=entries)


def load_ledger(folder: Path) -> Ledger:
    """Raises RecordError for a folder that is not a sweep of this schema version, or whose sweep.json is damaged."""
    path = folder / SWEEP
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: no such sweep; give the folder that experiments.sweep left") from None
    except OSError as error:
        raise RecordError(f"{path}: cannot be read ({error.strerror}); give the folder of a sweep") from error
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not a sweep file ({error}); start the sweep again") from error
    if not isinstance(data, dict) or data.get("schema_version") != SWEEP_SCHEMA_VERSION:
        raise RecordError(
            f"{path}: another schema version, this program reads {SWEEP_SCHEMA_VERSION}; start the sweep again"
        )
    try:
        return _ledger_from(folder, data)
    except ValueError as error:
        raise RecordError(f"{path}: damaged sweep file ({error}); start the sweep again") from error


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    """sweep.json."""

    schema_version: int
    sweep_id: str
    cells: tuple[Entry, ...]
    created: str = field(default_factory=now_iso)
    finished: str | None = None
    status: SweepStatus = "running"
    reference: str | None = None


def _ledger_from(folder: Path, data: object) -> Ledger:
    """Raises ValueError for whatever this program has not written."""
    stored = from_json(_Stored, data)
    for entry in stored.cells:
        if Path(entry.dir).is_absolute() or ".." in Path(entry.dir).parts:
            raise ValueError(f"dir {entry.dir} leads out of the sweep")
    for what, keys in (("label", [one.label for one in stored.cells]), ("folder", [one.dir for one in stored.cells])):
        if (twin := repeated(keys)) is not None:
            raise ValueError(f"two cells have the {what} {twin}")
    return Ledger(
        folder=folder, sweep_id=stored.sweep_id, entries=list(stored.cells), created=stored.created,
        finished=stored.finished, status=stored.status, reference=stored.reference,
    )  # fmt: skip
