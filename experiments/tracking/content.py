"""What of a RUN or SWEEP folder goes into MLflow: functions of the stored files only, without MLflow.

The same files give the same content, so that a second sync finds nothing to write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.common.plain import TrackingSettings, as_config
from experiments.tracking.listening import LISTENING, heard_of
from experiments.tracking.measured import NOT_JUDGED, Measured, measured_of, warnings_in
from experiments.tracking.overview import Overview, overview_of
from experiments.tracking.runs import (
    RENDERED_FILES,
    FolderContent,
    RunContent,
    files_of,
    owner_of,
    run_tags,
    settings_of,
    unix_ms,
)
from experiments.tracking.series import BEST_RTF, as_shown
from experiments.tracking.tags import QUALITY_GATE, as_tags, host_tags, quotable, verdict_tags
from metrics.record import RecordError, RunRecord, repeated
from reports.data.source import REFERENCE, SWEEP, Cell, Source, load_source

QUALITY_FILES = tuple(f"{QUALITY_GATE}/{name}" for name in ("verdict.json", "summary.md"))
RUN_FILES = (
    "result.json", "job.json", "journal.jsonl", "log.txt", "error.txt", "telemetry.jsonl",
    "energy/telemetry.jsonl", LISTENING, *RENDERED_FILES, *QUALITY_FILES
)  # fmt: skip
SWEEP_FILES = ("sweep.json", "search.json", *RENDERED_FILES)
SWEEP_STATUS = {"done": "FINISHED", "interrupted": "KILLED"}
# A skipped variant never ran: not FINISHED, or a query for finished runs would find it.
CELL_STATUS = {"ok": "FINISHED", "failed": "FAILED", "skipped": "KILLED"}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Folder:
    """A source with what its table says. shared: the reference run that lies in it and in other folders."""

    source: Source
    overview: Overview
    shared: Cell | None


def load_content(folder: Path) -> FolderContent:
    """Raises metrics.record.RecordError where the folder holds no readable run or sweep."""
    try:
        return _content_of(load_source(folder))
    except RecordError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecordError(f"{folder}: holds what cannot be tracked ({error}); measure it again") from error


def _content_of(source: Source) -> FolderContent:
    cells = [cell for cell in source.cells if cell.state not in ("pending", "running")]
    reference = source.reference
    shared = reference if reference is not None and reference.dir == REFERENCE and reference.record else None
    folder = _Folder(source=source, overview=overview_of(source), shared=shared)
    records = [cell.record for cell in cells if cell.record is not None]
    contents = tuple(_cell_content(folder, cell) for cell in cells)
    if source.kind == "run":
        parent, contents = contents[0], contents[1:]
    else:
        parent = _sweep_content(folder, records[0] if records else None, contents)
    references = (_cell_content(folder, shared),) if shared is not None else ()
    if (twin := repeated(run.run_uuid for run in (parent, *contents, *references))) is not None:
        raise RecordError(f"{source.root}: two of its runs have the id {twin}, and MLflow would hold one of them only")
    return FolderContent(
        folder=source.root,
        parent=parent,
        children=contents,
        settings=_settings(source, records),
        shared=references,
    )


def _settings(source: Source, records: Sequence[RunRecord]) -> TrackingSettings:
    """The `tracking` group as stored with the runs; with the jobs, where no run was made."""
    stored = [as_config(record.config) for record in records]
    stored += [as_config(_job(source, cell).get("config", {})) for cell in source.cells]
    found = next((config["tracking"] for config in stored if config.get("tracking")), None)
    return settings_of(found)


def _job(source: Source, cell: Cell) -> dict[str, Any]:
    path = source.root / cell.dir / "job.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _sweep_content(folder: _Folder, record: RunRecord | None, variants: Sequence[RunContent]) -> RunContent:
    source, overview = folder.source, folder.overview
    sweep = json.loads((source.root / SWEEP).read_text(encoding="utf-8"))
    finished = sweep.get("finished")
    states: list[str] = [cell.state for cell in source.cells]
    summary = {f"cells/{state}": float(states.count(state)) for state in CELL_STATUS}
    if overview.best_rtf is not None:
        summary[BEST_RTF] = as_shown(overview.best_rtf)
    over = source.status in SWEEP_STATUS
    start_ms = unix_ms(source.created)
    last_ms = max([start_ms, *(run.end_ms or start_ms for run in variants)])
    run_uuid = quotable(_parent_uuid(source))
    return RunContent(
        key=".",
        run_uuid=run_uuid,
        name=source.root.name,
        status=SWEEP_STATUS.get(source.status, "RUNNING"),
        start_ms=start_ms,
        end_ms=(unix_ms(finished) if finished else last_ms) if over else None,
        tags=as_tags(
            {
                **run_tags("sweep", "sweep", run_uuid, source.status),
                **(host_tags(record) if record else {}),
                **_overview_tags(overview, states),
                "mlflow.user": owner_of(source.root),
                "sweep.id": source.name,
                "sweep.reference": sweep.get("reference"),
                "sweep.labels": ", ".join(cell.label for cell in source.cells),
                **verdict_tags(source.root),
            }
        ),
        params=_in_common([run.params for run in variants if run.params]) if over else {},
        summary=summary if over else {},
        points=(),
        texts={},
        files=files_of(source.root, SWEEP_FILES),
        dataset=next((run.dataset for run in variants if run.dataset is not None), None),
    )


def _overview_tags(overview: Overview, states: Sequence[str]) -> dict[str, str | None]:
    counted = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    said = [overview.said, f"{len(states)} variants: {counted}.", *(f"- {text}" for text in overview.warnings)]
    return {
        "best.label": overview.best or "none",
        "best.quality": overview.best_quality,
        "warnings": "; ".join(overview.warnings) or None,
        "mlflow.note.content": "\n\n".join(said),
    }


def _in_common(params: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What all variants were measured with."""
    shared = set.intersection(*(set(each.items()) for each in params)) if params else set()
    return dict(sorted(shared))


def _cell_content(folder: _Folder, cell: Cell) -> RunContent:
    """A cell that left no record becomes a run with its tags and whatever files it left."""
    source, record, place = folder.source, cell.record, folder.source.root / cell.dir
    own = _measured(folder, cell)
    outcome = {"harness.label": cell.label, "harness.reason": cell.reason, "harness.remedy": cell.remedy}
    outcome["skipped"] = cell.reason if cell.state == "skipped" else None
    is_shared = cell is folder.shared
    heard, run_uuid = heard_of(place), quotable(_run_uuid(source, cell))
    kind = "reference" if is_shared else "measure"
    verdicts = verdict_tags(place, record.run_id if record else None)
    tags = {
        **run_tags(kind, "run", run_uuid, cell.state),
        **outcome,
        **own.tags,
        **verdicts,
        **({"env.valid": "false"} if own.tags.get("env.valid") == "false" else {}),
        **heard.tags,
        "mlflow.user": owner_of(place if place.is_dir() else source.root),
        "reference.run_uuid": _reference_uuid(folder, cell),
    }
    tags["warnings"] = warnings_in(tags, folder.overview.warnings if source.kind == "run" and not is_shared else ())
    tags["mlflow.note.content"] = _note(cell, own, tags)
    return RunContent(
        key=cell.dir,
        run_uuid=run_uuid,
        former_uuid=quotable(f"{_parent_uuid(source)}/{cell.label}/{record.run_id}") if is_shared and record else None,
        name=f"reference {cell.label}" if is_shared else cell.label,
        status=CELL_STATUS[cell.state],
        start_ms=own.span_ms[0],
        end_ms=own.span_ms[1],
        tags=as_tags(tags),
        params=own.params,
        summary={**own.summary, **heard.summary},
        points=own.points,
        texts=own.texts,
        files=files_of(place, RUN_FILES),
        dataset=own.dataset,
    )


def _measured(folder: _Folder, cell: Cell) -> Measured:
    if cell.record is None:
        moment_ms = unix_ms(folder.source.created)
        return Measured(span_ms=(moment_ms, moment_ms))
    overview = folder.overview
    return measured_of(
        cell.record, folder.source.is_reference(cell), overview.speedups.get(cell.label), overview.upstream
    )


def _note(cell: Cell, own: Measured, tags: Mapping[str, str | None]) -> str:
    """The verdict in words, for MLflow's description of the run."""
    if cell.state != "ok":
        return f"{cell.state}: {cell.reason}" + (f"; {cell.remedy}" if cell.remedy else "")
    judged = tags.get("quality.verdict")
    quality = f"Quality gate: {judged}." if judged else NOT_JUDGED if own.summary else ""
    return "\n\n".join(text for text in (f"{own.said} {quality}".strip(), tags.get("warnings")) if text)


def _reference_uuid(folder: _Folder, cell: Cell) -> str | None:
    """Which run this one was compared with: the `harness.run_uuid` of another run of the experiment."""
    reference = folder.shared or folder.source.reference
    if reference is None or reference is cell or cell.record is None:
        return None
    return quotable(_run_uuid(folder.source, reference))


def _parent_uuid(source: Source) -> str:
    """A sweep is named by its folder, which another machine may use as well: the second it began tells them apart."""
    return source.name if source.kind == "run" else f"{source.name} {source.created}"


def _run_uuid(source: Source, cell: Cell) -> str:
    """A reference that is a copy out of the cache keeps the run id of all its copies: they are one run."""
    run_id = cell.record.run_id if cell.record is not None else _job(source, cell).get("run_id")
    return str(run_id) if run_id is not None else f"{_parent_uuid(source)}/{cell.label}/none"
