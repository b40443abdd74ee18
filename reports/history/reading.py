"""Folders of runs, sweeps and gates, and what is published, as measured variants by time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from baselines.class_history import machine_fault
from metrics.model_identity import model_identity
from metrics.record import RecordError, RunRecord
from metrics.typed import part_of
from reports.data.source import RESULT, SWEEP
from reports.data.table import Row, load_table
from reports.history.figures import FIGURES, figures_of, pace_of
from reports.site.published import Place, places, tables_of

SHORT = 8
# Of an environment: what may make a figure move though the code is the same
TOLD = ("kernel", "python", "power_mode", "threads", "gpu", "driver")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """One variant of one run. task: what must be equal beside host class and variant before two are one course. pace_s:
    of its calibration. setting: versions and settings of the machine. where: the folder as it was given."""

    host_class: str
    variant: str
    task: str
    created: datetime
    run_id: str
    commit: str | None
    is_dirty: bool
    figures: Mapping[str, float]
    pace_s: float | None = None
    setting: Mapping[str, str] = field(default_factory=dict)
    where: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeftOut:
    """What is in no course, and why."""

    where: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    measured: tuple[Measured, ...]
    left_out: tuple[LeftOut, ...]

    def __add__(self, other: Reading) -> Reading:
        return Reading(measured=self.measured + other.measured, left_out=self.left_out + other.left_out)


def read_folders(folders: Sequence[Path]) -> Reading:
    """Every run and sweep in or below the folders; a run that is met twice counts once.

    Raises RecordError for a folder that is none, or that holds none.
    """
    measured: dict[tuple[str, str], Measured] = {}
    left_out: list[LeftOut] = []
    for folder in folders:
        if not folder.is_dir():
            raise RecordError(f"{folder}: no such folder; give one that holds runs, sweeps or gates")
        sources = list(_sources(folder))
        if not sources:
            raise RecordError(f"{folder}: no {RESULT} and no {SWEEP} in it or below; give a folder that holds runs")
        for source in sources:
            read = _read(source, _shown(source, folder))
            measured.update({(one.run_id, one.variant): one for one in read.measured})
            left_out += read.left_out
    return Reading(measured=tuple(measured.values()), left_out=tuple(left_out))


def _sources(folder: Path) -> Iterator[Path]:
    """Folders with a run or a sweep; the cells of a sweep are its own. What is hidden (`.references`, the cache of
    quality references) is the program's, not a run that somebody made."""
    for root, below, files in os.walk(folder):
        below[:] = sorted(name for name in below if not name.startswith("."))
        if SWEEP in files or RESULT in files:
            below.clear()
            yield Path(root)


def _shown(source: Path, folder: Path) -> str:
    return source.relative_to(folder.parent).as_posix() if source != folder else source.name


def _read(source: Path, where: str) -> Reading:
    try:
        table = load_table(source)
    except RecordError as error:
        return Reading(measured=(), left_out=(LeftOut(where=where, reason=str(error)),))
    measured, left_out = [], []
    for row in table.rows:
        one = _measured(row, where)
        if isinstance(one, Measured):
            measured.append(one)
        else:
            left_out.append(LeftOut(where=f"{where}: {row.label}", reason=one))
    return Reading(measured=tuple(measured), left_out=tuple(left_out))


def _measured(row: Row, where: str) -> Measured | str:
    """Why not, where a row has no place in a course."""
    record = row.cell.record
    if record is None or row.timing is None:
        return f"{row.status}: {row.reason or 'no speed'}"
    fault = machine_fault(record.environment)
    if fault is not None:
        return f"the machine was slower than its class when it was timed: {fault}"
    env = record.environment
    return Measured(
        host_class=str(env["host_class"]), variant=row.label, task=_task(record),
        created=datetime.fromisoformat(record.created), run_id=record.run_id,
        commit=env.get("git_commit"), is_dirty=bool(env.get("git_dirty")), figures=figures_of(row),
        pace_s=pace_of(row), setting=_setting(record), where=where,
    )  # fmt: skip


def _task(record: RunRecord) -> str:
    """Model and workload by name, and the hashes of both, short."""
    weights, arch = model_identity(record)
    names = f"{part_of(record.config, 'model').get('name')}, {record.workload.get('name')}"
    hashes = (str(record.workload.get("identity_sha256")), weights, arch)
    return f"{names} ({' '.join(value[:SHORT] for value in hashes)})"


def _setting(record: RunRecord) -> dict[str, str]:
    versions = record.environment.get("versions") or {}
    told = {name: record.environment.get(name) for name in TOLD}
    return {name: str(value) for name, value in {**versions, **told}.items() if value is not None}


def read_published(folder: Path) -> Reading:
    """What reports/published holds: three digits a figure, no calibrations. Raises ValueError for other names."""
    readings = [_published(place) for place in places(folder) if (place.path / "report.md").is_file()]
    return sum(readings, Reading(measured=(), left_out=()))


def _published(place: Place) -> Reading:
    tables = tables_of((place.path / "report.md").read_text("utf-8"))
    facts = {row[0]: row[1] for table in tables if table.header[0] == "measured on" for row in table.rows}
    results = next(table for table in tables if table.header[0] == "variant")
    commit, _, more = facts.get("commit", "").partition(" ")
    measured, left_out = [], []
    for variant, cells in results.by_first().items():
        figures = {f.key: v for f in FIGURES if f.column and (v := _number(cells.get(f.column))) is not None}
        if "rtf" not in figures:
            reason = cells.get("note") or "no speed in the table"
            left_out.append(LeftOut(where=f"{place.path.name}: {variant}", reason=reason))
            continue
        measured.append(Measured(
            host_class=facts["host class"], variant=variant, task=f"{facts['model']}, {facts['workload']}",
            created=datetime.fromisoformat(facts["date"]), run_id=place.path.name, commit=commit or None,
            is_dirty=bool(more), figures=figures, setting={"torch": facts["torch"]}, where=place.path.name,
        ))  # fmt: skip
    return Reading(measured=tuple(measured), left_out=tuple(left_out))


def _number(cell: str | None) -> float | None:
    try:
        return float(cell or "-")
    except ValueError:  # words in the place of a number, or the interval behind it
        return _number(cell.partition(" ")[0]) if cell and " " in cell else None
