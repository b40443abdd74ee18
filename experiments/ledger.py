"""sweep.json: which cells a sweep has and what has become of each. Rewritten atomically at every change."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from experiments.environment import now_iso
from metrics.record import SWEEP_SCHEMA_VERSION, RecordError, write_atomically

SWEEP = "sweep.json"

CellState = Literal["pending", "running", "ok", "skipped", "failed"]
SweepStatus = Literal["running", "done", "interrupted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One cell. dir is relative to the sweep's folder."""

    label: str
    dir: str
    state: CellState
    reason: str | None
    remedy: str | None
    overrides: tuple[str, ...]

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

    def set_reference(self, folder: str | None) -> None:
        self.reference = folder
        self.save()

    def start(self) -> None:
        """Begin, or go on: what was running when an earlier attempt died is to be done again."""
        self.status, self.finished = "running", None
        self.entries = [replace(e, state="pending") if e.state == "running" else e for e in self.entries]
        self.save()

    def end(self, status: SweepStatus) -> None:
        """done, or interrupted: then the running cell waits for the next attempt."""
        self.status, self.finished = status, now_iso() if status == "done" else None
        self.entries = [replace(e, state="pending") if e.state == "running" else e for e in self.entries]
        self.save()

    def count(self, state: CellState) -> int:
        return sum(entry.state == state for entry in self.entries)


def new_ledger(folder: Path, labels: Sequence[str], overrides: Sequence[tuple[str, ...]]) -> Ledger:
    entries = [
        Entry(label=label, dir=f"cells/{label}", state="pending", reason=None, remedy=None, overrides=given)
        for label, given in zip(labels, overrides, strict=True)
    ]
    return Ledger(folder=folder, sweep_id=folder.resolve().name, entries=entries)


def load_ledger(folder: Path) -> Ledger:
    """Raises RecordError for a folder that is not a sweep of this schema version."""
    path = folder / SWEEP
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(f"{path}: no such sweep; give the folder that experiments.sweep left") from None
    except (ValueError, NotADirectoryError) as error:
        raise RecordError(f"{path}: not a sweep file ({error}); start the sweep again") from error
    if not isinstance(data, dict) or data.get("schema_version") != SWEEP_SCHEMA_VERSION:
        raise RecordError(
            f"{path}: another schema version, this program reads {SWEEP_SCHEMA_VERSION}; start the sweep again"
        )
    try:
        entries = [Entry(**{**cell, "overrides": tuple(cell["overrides"])}) for cell in data.pop("cells")]
        del data["schema_version"]
        return Ledger(folder=folder, entries=entries, **data)
    except (TypeError, KeyError) as error:
        raise RecordError(f"{path}: damaged sweep file ({error}); start the sweep again") from error
