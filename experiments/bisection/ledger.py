"""bisect.jsonl: what a walk was asked, and what became of every comparison, a line each, kept before the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from baselines.paired.walk import Tried
from engine.contract import ConfigError
from experiments.bisection.revisions import Line
from experiments.common.environment import now_iso
from metrics.journal_lines import LineWriter, read_lines
from metrics.record import RecordError, to_json
from metrics.typed import from_json

JOURNAL = "bisect.jsonl"
SCHEMA_VERSION = 1
KINDS = ("start", "tried")


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One comparison that has ended. folder: its name beside the journal; host_class: None where none was measured."""

    tried: Tried
    folder: str
    host_class: str | None
    wall_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Ledger:
    """A walk on the disk. argv: as it was typed, with the commits in the place of the names of revisions."""

    folder: Path
    argv: tuple[str, ...]
    repository: str
    line: Line
    steps: tuple[Step, ...] = ()

    @property
    def tried(self) -> tuple[Tried, ...]:
        return tuple(step.tried for step in self.steps)

    @property
    def host_class(self) -> str | None:
        return next((step.host_class for step in self.steps if step.host_class is not None), None)

    def with_step(self, step: Step) -> Ledger:
        """On the disk when this returns. Raises OSError."""
        _append(self.folder, "tried", asdict(step))
        return replace(self, steps=(*self.steps, step))

    def new_folder(self, commit: str) -> Path:
        """Of the next comparison; one that was broken off keeps its own."""
        name = f"{len(self.steps) + 1:02}-{commit[:9]}"
        number, path = 1, self.folder / name
        while path.exists():
            number += 1
            path = self.folder / f"{name}.{number}"
        return path


def start_ledger(ledger: Ledger) -> Ledger:
    """Raises ConfigError for a folder that holds a walk which came to a comparison's end, OSError."""
    path = ledger.folder / JOURNAL
    if path.exists():
        if load_ledger(ledger.folder).steps:
            remedy = f"go on with resume={ledger.folder}, or choose another folder"
            raise ConfigError("out", ledger.folder, "already holds a walk, and nothing measured is overwritten", remedy)
        path.unlink()
    content = {
        "schema_version": SCHEMA_VERSION, "created": now_iso(), "argv": ledger.argv, "repository": ledger.repository,
        "line": asdict(ledger.line),
    }  # fmt: skip
    _append(ledger.folder, "start", content)
    return ledger


def load_ledger(folder: Path) -> Ledger:
    """Raises RecordError for what is no walk, or is damaged; a torn last line counts as not measured."""
    path = folder / JOURNAL
    if not path.is_file():
        raise RecordError(f"{path}: no such walk; give the folder that experiments.bisection left")
    entries = read_lines(path, KINDS).entries
    try:
        start, *rest = entries
        if start["kind"] != "start" or start["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"its first line is no start of schema {SCHEMA_VERSION}")
        return Ledger(
            folder=folder, argv=tuple(map(str, start["argv"])), repository=str(start["repository"]),
            line=from_json(Line, start["line"]), steps=tuple(from_json(Step, _content(entry)) for entry in rest),
        )  # fmt: skip
    except (ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path}: damaged ({error}); start the walk again") from error


def _content(entry: Mapping[str, object]) -> dict[str, object]:
    if entry["kind"] != "tried":
        raise ValueError(f"a line of kind {entry['kind']}")
    return {key: value for key, value in entry.items() if key != "kind"}


def _append(folder: Path, kind: str, content: Mapping[str, object]) -> None:
    with LineWriter(folder / JOURNAL) as writer:
        writer.append(to_json({"kind": kind, **content}))
