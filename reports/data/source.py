"""A RUN or SWEEP folder as it lies on disk: which cells there are, what became of them, their records."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from metrics.record import SWEEP_SCHEMA_VERSION, RecordError, RunRecord, load_record, repeated
from metrics.reference import is_compared, says_it_is_the_reference
from reports.commands import typed
from reports.words import without_machine_paths

CellState = Literal["pending", "running", "ok", "skipped", "failed"]
STATES: tuple[CellState, ...] = ("pending", "running", "ok", "skipped", "failed")
RESULT = "result.json"
SWEEP = "sweep.json"
REFERENCE = "reference"  # the name of the row that is none: what quality is compared with
REQUEST = "request.json"  # of a search
UNMEASURED = {
    "pending": ("not measured yet", "finish the sweep with `{}`"),
    "running": (
        "not finished when the report was made",
        "render again when the sweep has ended, or, if it was killed, go on with `{}`",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Cell:
    """One variant. `dir` is relative to the report's source folder ("." for a run folder itself)."""

    label: str
    dir: str
    state: CellState
    reason: str | None
    remedy: str | None
    record: RunRecord | None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Source:
    """A measured folder. `reference` is the run that quality is compared with; it need not be one of the cells."""

    root: Path
    kind: Literal["sweep", "run"]
    name: str
    created: str
    status: str
    cells: tuple[Cell, ...]
    reference: Cell | None

    def path_of(self, cell: Cell, relative: str) -> Path:
        """Where a file named in a cell's record lies."""
        return self.root / cell.dir / relative

    def is_reference(self, cell: Cell) -> bool:
        """Whether a cell is what others are compared with; one that was itself compared with another run is not."""
        if cell.record is None or is_compared(cell.record):
            return False
        return cell is self.reference or says_it_is_the_reference(cell.record)


def load_source(folder: Path) -> Source:
    """Read a RUN or SWEEP folder. Raises RecordError, one line, where it is neither or has another schema version."""
    if (folder / SWEEP).is_file():
        return _load_sweep(folder)
    if (folder / RESULT).is_file():
        return _load_run(folder)
    raise RecordError(f"{folder}: no {RESULT} and no {SWEEP} in it; give the folder that `run` or `sweep` left")


def _load_run(folder: Path) -> Source:
    record = load_record(folder / RESULT)
    cell = _cell(record.label, ".", record.status, record)
    reference = _reference_run(folder)
    if reference is None and says_it_is_the_reference(record):
        reference = cell
    return Source(
        root=folder,
        kind="run",
        name=record.run_id,
        created=record.created,
        status="done",
        cells=(cell,),
        reference=reference,
    )


def _load_sweep(folder: Path) -> Source:
    path = folder / SWEEP
    sweep = _read_json(path)
    version = sweep.get("schema_version")
    if version != SWEEP_SCHEMA_VERSION:
        raise RecordError(
            f"{path}: schema_version {version}, this program reads {SWEEP_SCHEMA_VERSION}; run the sweep again"
        )
    try:
        cells = tuple(_load_cell(folder, entry) for entry in sweep["cells"])
        name, created, status = str(sweep["sweep_id"]), str(sweep["created"]), str(sweep["status"])
    except (KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{path}: damaged sweep file (no {error}); run the sweep again") from error
    for what, keys in (("label", [cell.label for cell in cells]), ("folder", [cell.dir for cell in cells])):
        if (twin := repeated(keys)) is not None:
            raise RecordError(f"{path}: two cells have the {what} {twin}; give each its own")
    for cell in cells:
        if Path(cell.dir).is_absolute() or ".." in Path(cell.dir).parts or cell.label == REFERENCE:
            raise RecordError(f"{path}: a cell {cell.label} in {cell.dir} cannot be told from others; rename it")
    wanted = sweep.get("reference")
    reference = next((cell for cell in cells if cell.dir == wanted), None) or _reference_run(folder)
    return Source(
        root=folder, kind="sweep", name=name, created=created, status=status, cells=cells, reference=reference
    )


class CellEntry(TypedDict, total=False):
    """A cell as sweep.json has it, as far as it is read here."""

    label: str
    dir: str
    state: CellState
    reason: str | None
    remedy: str | None


def _load_cell(folder: Path, entry: CellEntry) -> Cell:
    """A cell whose record cannot be read becomes a failed row: the others keep their report."""
    label, directory, state = str(entry["label"]), str(entry["dir"]), entry["state"]
    path = folder / directory / RESULT
    if path.is_file() and state not in UNMEASURED:
        try:
            return _cell(label, directory, state, load_record(path))
        except RecordError as error:
            reason = str(error).replace(str(path), f"{directory}/{RESULT}")
            return _cell(label, directory, "failed", None, reason, "run this cell again")
    if state in UNMEASURED:
        # As it is typed here and now, absolute paths included: a sweep that goes on is on this machine
        reason, remedy = UNMEASURED[state]
        return replace(_cell(label, directory, state, None, reason), remedy=remedy.format(_resume_command(folder)))
    if state == "ok":
        return _cell(label, directory, "failed", None, f"{directory}/{RESULT} is missing", "run this cell again")
    return _cell(label, directory, state, None, entry.get("reason"), entry.get("remedy"))


def _resume_command(folder: Path) -> str:
    """For a shell in this directory."""
    verb = "optimize" if (folder / REQUEST).is_file() else "sweep"
    return typed(f"experiments.{verb}", f"resume={folder}")


def _cell(
    label: str,
    directory: str,
    state: CellState,
    record: RunRecord | None,
    reason: str | None = None,
    remedy: str | None = None,
) -> Cell:
    if state not in STATES:
        raise TypeError(f"state {state!r} of cell {label}")
    if record is not None:
        state, reason, remedy = record.status, record.reason, record.remedy
    if state != "ok" and not reason:
        reason = "no reason was recorded"
    return Cell(
        label=label,
        dir=directory,
        state=state,
        reason=without_machine_paths(reason),
        remedy=without_machine_paths(remedy),
        record=record,
    )


def _reference_run(folder: Path) -> Cell | None:
    path = folder / "reference" / RESULT
    if not path.is_file():
        return None
    record = load_record(path)
    return _cell(record.label, "reference", record.status, record)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RecordError(f"{path}: not JSON ({error}); run the sweep again") from error
    if not isinstance(data, dict):
        raise RecordError(f"{path}: not a sweep file; run the sweep again")
    return data
