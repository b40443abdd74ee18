"""What of a RUN or SWEEP folder goes into MLflow: functions of the stored files only, without MLflow.

The same files give the same content, so that a second sync finds nothing to write.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from baselines.class_history import machine_fault
from experiments.tracking.listening import LISTENING, heard_of
from experiments.tracking.runs import (
    RENDERED_FILES,
    FolderContent,
    RunContent,
    default_settings,
    files_of,
    run_tags,
    unix_ms,
)
from experiments.tracking.series import (
    Point,
    quality_summary,
    sample_rows,
    sentence_table,
    speed_summary,
    trial_points,
)
from experiments.tracking.tags import (
    QUALITY_GATE,
    as_tags,
    fingerprint,
    host_tags,
    params_of,
    plain,
    quotable,
    verdict_tags,
)
from metrics.record import RecordError, RunRecord, repeated, to_json
from metrics.speed.steady import unsteady_reason
from reports.data.quality import validity_of
from reports.data.source import SWEEP, Cell, Source, load_source

SENTENCES = "sentences.json"
QUALITY_FILES = tuple(f"{QUALITY_GATE}/{name}" for name in ("verdict.json", "summary.md"))
RUN_FILES = (
    "result.json", "job.json", "journal.jsonl", "log.txt", "error.txt", LISTENING, *RENDERED_FILES, *QUALITY_FILES
)  # fmt: skip
SWEEP_FILES = ("sweep.json", "search.json", *RENDERED_FILES)
SWEEP_STATUS = {"done": "FINISHED", "interrupted": "KILLED"}
# A skipped variant never ran: not FINISHED, or a query for finished runs would find it.
CELL_STATUS = {"ok": "FINISHED", "failed": "FAILED", "skipped": "KILLED"}


def load_content(folder: Path) -> FolderContent:
    """Raises metrics.record.RecordError where the folder holds no readable run or sweep."""
    try:
        return _content_of(load_source(folder))
    except RecordError:
        raise
    except (ValueError, KeyError) as error:
        raise RecordError(f"{folder}: holds what cannot be tracked ({error}); measure it again") from error


def _content_of(source: Source) -> FolderContent:
    cells = [cell for cell in source.cells if cell.state not in ("pending", "running")]
    if source.reference is not None and source.reference.dir == "reference" and _has_news(source.reference):
        cells.append(source.reference)
    records = [cell.record for cell in cells if cell.record is not None]
    if source.kind == "run":
        parent, children = _cell_content(source, cells[0]), cells[1:]
    else:
        parent, children = _sweep_content(source, records[0] if records else None), cells
    contents = tuple(_cell_content(source, cell) for cell in children)
    if (twin := repeated(run.run_uuid for run in (parent, *contents))) is not None:
        raise RecordError(f"{source.root}: two of its runs have the id {twin}, and MLflow would hold one of them only")
    return FolderContent(
        folder=source.root,
        parent=parent,
        children=contents,
        settings=_settings(source, records),
    )


def _has_news(reference: Cell) -> bool:
    """A quality reference is spoken once and kept, and nobody scores it: it would be a child without a figure."""
    return reference.record is None or reference.state != "ok" or bool(reference.record.scores)


def _settings(source: Source, records: Sequence[RunRecord]) -> dict[str, Any]:
    """The `tracking` group as stored with the runs; with the jobs, where no run was made."""
    stored: list[Mapping[str, Any]] = [record.config for record in records]
    stored += [_job(source, cell).get("config", {}) for cell in source.cells]
    settings: Mapping[str, Any] = next((config["tracking"] for config in stored if config.get("tracking")), {})
    return {**default_settings(), **settings}


def _job(source: Source, cell: Cell) -> dict[str, Any]:
    path = source.root / cell.dir / "job.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _sweep_content(source: Source, record: RunRecord | None) -> RunContent:
    sweep = json.loads((source.root / SWEEP).read_text(encoding="utf-8"))
    finished = sweep.get("finished")
    states: list[str] = [cell.state for cell in source.cells]
    counts = {f"cells/{state}": float(states.count(state)) for state in CELL_STATUS}
    over = source.status in SWEEP_STATUS
    start_ms = unix_ms(source.created)
    last_ms = max([start_ms, *(_span_ms(cell.record)[1] for cell in source.cells if cell.record is not None)])
    run_uuid = quotable(_parent_uuid(source))
    tags = {**run_tags("sweep", "experiments.sweep", run_uuid, source.status), **(host_tags(record) if record else {})}
    tags.update({"sweep.id": source.name, "sweep.reference": sweep.get("reference")})
    return RunContent(
        key=".",
        run_uuid=run_uuid,
        name=source.root.name,
        status=SWEEP_STATUS.get(source.status, "RUNNING"),
        start_ms=start_ms,
        end_ms=(unix_ms(finished) if finished else last_ms) if over else None,
        tags=as_tags({**tags, **verdict_tags(source.root)}),
        params={},
        summary=counts if over else {},
        points=(),
        texts={},
        files=files_of(source.root, SWEEP_FILES),
    )


def _cell_content(source: Source, cell: Cell) -> RunContent:
    """A cell that left no record becomes a run with its tags and whatever files it left."""
    record, folder = cell.record, source.root / cell.dir
    own = _of_record(record, source.is_reference(cell)) if record is not None else _Part.of_nothing(source)
    outcome = {"harness.label": cell.label, "harness.reason": cell.reason, "harness.remedy": cell.remedy}
    if cell.state != "ok":
        outcome["mlflow.note.content"] = f"{cell.state}: {cell.reason}" + (f"; {cell.remedy}" if cell.remedy else "")
    if cell.state == "skipped":
        outcome["skipped"] = cell.reason
    run_uuid = quotable(_run_uuid(source, cell))
    heard = heard_of(folder)
    kind = "reference" if cell.dir == "reference" else "measure"
    return RunContent(
        key=cell.dir,
        run_uuid=run_uuid,
        name=cell.label,
        status=CELL_STATUS[cell.state],
        start_ms=own.span_ms[0],
        end_ms=own.span_ms[1],
        tags=as_tags(
            {
                **run_tags(kind, "experiments.run", run_uuid, cell.state),
                **outcome,
                **own.tags,
                **verdict_tags(folder),
                **({"env.valid": "false"} if own.tags.get("env.valid") == "false" else {}),
                **heard.tags,
            }
        ),
        params=params_of(record) if record is not None else {},
        summary={**own.summary, **heard.summary},
        points=own.points,
        texts=own.texts,
        files=files_of(folder, RUN_FILES),
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Part:
    """What only a record can give to a run."""

    span_ms: tuple[int, int]
    tags: Mapping[str, str | None]
    summary: Mapping[str, float]
    points: tuple[Point, ...]
    texts: Mapping[str, str]

    @classmethod
    def of_nothing(cls, source: Source) -> _Part:
        moment_ms = unix_ms(source.created)
        return cls(span_ms=(moment_ms, moment_ms), tags={}, summary={}, points=(), texts={})


def _of_record(record: RunRecord, is_reference: bool) -> _Part:
    validity = validity_of(record)[0]
    tags = {"audio.valid": validity if record.status == "ok" else None, "workload": str(record.workload.get("name"))}
    tags.update(
        {"harness.fingerprint": fingerprint(record.workload.get("identity_sha256"), record.config), **host_tags(record)}
    )
    texts = {"config.yaml": yaml.safe_dump(plain(record.config), sort_keys=True), "samples.csv": sample_rows(record)}
    # No number without valid audio behind it, and none of a run that failed; its raw samples stay in samples.csv.
    generated_s = sum(trial.audio_s for trial in record.steady_trials)
    countable = record.status == "ok" and validity in ("valid", "random") and generated_s > 0
    summary: dict[str, float] = {}
    unsteady = unsteady_reason(record)
    tags["timing.unsteady"] = unsteady
    is_timed = unsteady is None and machine_fault(record.environment) is None
    if countable:
        quality, tags["quality.gaps"] = quality_summary(record, is_reference)
        # A call that compiled is not the call a user waits for, nor is one of a throttled machine: the audio counts
        summary = {**(speed_summary(record) if is_timed else {}), **quality}
    if record.utterances:
        texts[SENTENCES] = to_json(sentence_table(record, countable))
        tags["mlflow.loggedArtifacts"] = json.dumps([{"path": SENTENCES, "type": "table"}])
    points = trial_points(record) if countable and is_timed else ()
    return _Part(span_ms=_span_ms(record), tags=tags, summary=summary, points=points, texts=texts)


def _span_ms(record: RunRecord) -> tuple[int, int]:
    """First and last moment the record knows of."""
    moments = [unix_ms(record.created)]
    if record.environment.get("started"):
        moments.append(unix_ms(str(record.environment["started"])))
    for trial in record.trials:
        moments += [int(trial.started_unix_s * 1000), int((trial.started_unix_s + trial.wall_s) * 1000)]
    return min(moments), max(moments)


def _parent_uuid(source: Source) -> str:
    """A sweep is named by its folder, which another machine may use as well: the second it began tells them apart."""
    return source.name if source.kind == "run" else f"{source.name} {source.created}"


def _run_uuid(source: Source, cell: Cell) -> str:
    """A reference may be a copy out of the cache, with the run id of all its copies: each parent has its own."""
    run_id = cell.record.run_id if cell.record is not None else _job(source, cell).get("run_id")
    if run_id is None or cell.dir == "reference":
        return f"{_parent_uuid(source)}/{cell.label}/{run_id or 'none'}"
    return str(run_id)
