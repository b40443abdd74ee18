"""What MLflow gets of one record: tags, the numbers that count, the workload, files made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import yaml

from baselines.class_history import machine_fault
from experiments.tracking.runs import Dataset, unix_ms
from experiments.tracking.series import (
    P50,
    PEAK,
    RTF,
    SPEEDUP,
    Point,
    all_numbers,
    quality_columns,
    quality_gaps,
    sample_rows,
    sentence_table,
    speed_columns,
    trial_points,
)
from experiments.tracking.tags import dataset_of, fingerprint, host_tags, params_of, plain
from metrics.record import RunRecord, to_json
from metrics.speed.steady import unsteady_reason
from reports.data.quality import RANDOM_WEIGHTS, validity_of
from reports.words import count, significant

SENTENCES = "sentences.json"
NOT_JUDGED = "Quality not judged."


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """`span_ms`: first and last moment. said: the run in a sentence or two."""

    span_ms: tuple[int, int]
    said: str = ""
    tags: Mapping[str, str | None] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, float] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    texts: Mapping[str, str] = field(default_factory=dict)
    dataset: Dataset | None = None


def measured_of(record: RunRecord, is_reference: bool, speedup: float | None, upstream: str | None) -> Measured:
    """No number without valid audio behind it, and none of a run that failed; its raw samples stay in samples.csv.

    A call that compiled is not the call a user waits for, nor is one of a throttled machine: only its audio counts.
    speedup: times as fast as the row `upstream`.
    """
    doubt, unsteady, fault = _doubt(record), unsteady_reason(record), machine_fault(record.environment)
    is_timed = unsteady is None and fault is None
    summary: dict[str, float] = {}
    if doubt is None:
        summary = {
            **(speed_columns(record, speedup) if is_timed else {}),
            **quality_columns(record, is_reference),
        }
    validity = validity_of(record)[0] if record.status == "ok" else None
    gaps = quality_gaps(record, is_reference) if doubt is None else None
    tags: dict[str, str | None] = {
        "audio.valid": validity,
        "workload": str(record.workload.get("name")),
        "harness.fingerprint": fingerprint(record.workload.get("identity_sha256"), record.config),
        "timing.unsteady": unsteady,
        "quality.gaps": gaps,
        **host_tags(record),
    }
    texts = {
        "config.yaml": yaml.safe_dump(plain(record.config), sort_keys=True),
        "samples.csv": sample_rows(record),
        "scores.json": to_json(all_numbers(record, is_reference, doubt, is_timed)),
    }
    if record.utterances:
        texts[SENTENCES] = to_json(sentence_table(record, doubt is None and is_timed))
        tags["mlflow.loggedArtifacts"] = json.dumps([{"path": SENTENCES, "type": "table"}])
    return Measured(
        span_ms=_span_ms(record),
        said=_said(record, summary, upstream, doubt or unsteady or fault),
        tags=tags,
        params=params_of(record),
        summary=summary,
        points=trial_points(record) if doubt is None and is_timed else (),
        texts=texts,
        dataset=dataset_of(record.workload),
    )


def warnings_in(tags: Mapping[str, str | None], said: Sequence[str]) -> str | None:
    """What a reader has to know before the numbers are believed. said: what the table of this run alone says."""
    found = [*said, *(tags.get(name) for name in ("timing.unsteady", "quality.gaps", "journal.torn"))]
    if not said:
        dirty = "uncommitted changes: the commit alone does not reproduce these numbers"
        found += [tags.get("env.reason"), dirty if tags.get("git.dirty") == "true" else None]
    found.append(RANDOM_WEIGHTS if tags.get("random_weights") else None)
    return "; ".join(text for text in found if text) or None


def _doubt(record: RunRecord) -> str | None:
    """Why no number of the run counts."""
    if record.status != "ok":
        return f"the run {record.status}" if record.status == "failed" else "the run was skipped"
    validity, why = validity_of(record)
    if validity not in ("valid", "random"):
        return f"audio {validity}: {why}"
    return None if sum(trial.audio_s for trial in record.steady_trials) > 0 else "no call was timed after the warm-up"


def _said(record: RunRecord, summary: Mapping[str, float], upstream: str | None, doubt: str | None) -> str:
    if RTF not in summary:
        return f"No time of this run counts: {doubt}." if record.trials else "Spoken once, to be compared with."
    ratio = (
        f", {significant(summary[SPEEDUP])} times as fast as {upstream}"
        if SPEEDUP in summary and record.label != upstream
        else ""
    )
    memory = f", {count(round(summary[PEAK]))} MiB at most" if PEAK in summary else ""
    return f"RTF {significant(summary[RTF])}{ratio}, {significant(summary[P50])} ms a call (median){memory}."


def _span_ms(record: RunRecord) -> tuple[int, int]:
    """First and last moment the record knows of."""
    moments = [unix_ms(record.created)]
    if record.environment.get("started"):
        moments.append(unix_ms(str(record.environment["started"])))
    for trial in record.trials:
        moments += [int(trial.started_unix_s * 1000), int((trial.started_unix_s + trial.wall_s) * 1000)]
    return min(moments), max(moments)
