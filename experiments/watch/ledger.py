"""watch.jsonl: what became of every run of a watch, a line each, kept before anybody is told."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from metrics.journal_lines import LineWriter
from metrics.record import RecordError, to_json
from metrics.typed import from_json
from metrics.verdict import Outcome

LEDGER = "watch.jsonl"


@dataclass(frozen=True, kw_only=True, slots=True)
class Bound:
    """One gated metric: new run over baseline, with its bounds where the rule has them."""

    metric: str
    outcome: str
    ratio: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """outcome: the gate's, None where it came to none (the run failed). courses: figure -> outcome of its course with
    this run, empty where it is in none. folder: of the run, beside the ledger."""

    baseline: str
    folder: str
    started_unix_s: float
    ended_unix_s: float
    exit_code: int
    outcome: Outcome | None
    host_class: str | None
    findings: tuple[Bound, ...] = ()
    courses: Mapping[str, Outcome] | None = None
    reason: str | None = None


def read_ledger(folder: Path) -> list[Entry]:
    """Empty where there is none. A last line that was torn off is left out; another damage raises RecordError."""
    path = folder / LEDGER
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")
    whole = lines[:-1]  # what follows the last line break was not finished
    try:
        return [from_json(Entry, json.loads(line)) for line in whole if line]
    except ValueError as error:
        raise RecordError(f"{path}: damaged ({error}); move it away, the runs beside it are kept") from error


def append(folder: Path, entry: Entry) -> None:
    """On disk when this returns. Raises OSError."""
    path = folder / LEDGER
    folder.mkdir(parents=True, exist_ok=True)
    whole = path.read_bytes().rpartition(b"\n") if path.is_file() else (b"", b"", b"")
    if whole[2]:  # a line that was torn off when the machine went down
        os.truncate(path, len(whole[0]) + len(whole[1]))
    with LineWriter(path) as writer:
        writer.append(to_json(asdict(entry)))
