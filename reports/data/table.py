"""A RUN or SWEEP folder -> rows, in the order of the sweep, with everything that a reader may be told of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from baselines.class_history import machine_fault
from metrics.model_identity import model_identity
from metrics.parts.facts import Facts
from metrics.record import RecordError, RunRecord
from metrics.speed.peak import host_peak
from metrics.speed.steady import remedy_of, unsteady_reason
from metrics.speed.trials import Speed, latency_by_length, speed_of
from metrics.typed import part_of
from reports.data.quality import QUALITY, Summary, Validity, summaries_of, validity_of
from reports.data.scale import Ratios, SentenceTiming, Timing, mib, scaled, sentence_timing
from reports.data.source import Cell, Source, load_source

RowStatus = Literal["ok", "invalid", "unsteady", "unchecked", "skipped", "failed", "pending", "running"]


class UnjudgedRow(RecordError):
    """A row has a speed and nothing that says what its audio is worth: it is not printed."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Row:
    """One line of the table. `timing` is None unless the audio is valid (or the weights random, which is said)."""

    label: str
    engine: str
    precision: str
    solver: str
    num_steps: int | None
    status: RowStatus
    reason: str | None
    remedy: str | None
    validity: Validity | None
    is_reference: bool
    timing: Timing | None
    quality: Mapping[str, Summary]
    build_s: float | None
    peak_mib: float | None
    peak_kind: str | None
    device_peak_mib: float | None
    weights_mib: float | None
    cell: Cell
    text_cache_frac: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Table:
    """All rows in the order of the sweep. base_label: the row that `times_base` refers to."""

    source: Source
    rows: tuple[Row, ...]
    base_label: str | None

    @property
    def records(self) -> tuple[RunRecord, ...]:
        return tuple(row.cell.record for row in self.rows if row.cell.record is not None)

    @property
    def timed_rows(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.timing is not None)


def load_table(folder: Path) -> Table:
    """Raises RecordError for a folder that is not a run or a sweep, UnjudgedRow for a speed without a judgement."""
    return table_of(load_source(folder))


def table_of(source: Source) -> Table:
    speeds = {cell.label: _speed(cell) for cell in source.cells}
    base = _base_cell(source, speeds)
    rows = tuple(_row(source, cell, _timing(cell, base, speeds, source)) for cell in source.cells)
    for row in rows:
        require_judgement(row)
    return Table(source=source, rows=rows, base_label=base.label if base else None)


def require_judgement(row: Row) -> None:
    """Raise UnjudgedRow where a speed stands beside neither a quality score nor the reason why there is none."""
    if row.timing is None:
        return
    judged = any(summary.mean is not None or summary.reason for summary in row.quality.values())
    if not judged:
        raise UnjudgedRow(
            f"{row.label}: a speed, but neither a quality score nor a reason why not; score the run again "
            "(quality.enabled=true) before it is reported"
        )


def is_void(row: Row) -> bool:
    """Whether the machine was too slow for its class when the row was timed."""
    return row.cell.record is not None and machine_fault(row.cell.record.environment) is not None


def sentence_timing_of(row: Row, utterance_id: str) -> SentenceTiming | None:
    """None where the row shows no speed, or never spoke the sentence after warm-up."""
    if row.timing is None or row.cell.record is None:
        return None
    trials = [trial for trial in row.cell.record.steady_trials if trial.utterance_id == utterance_id]
    return sentence_timing(trials) if trials else None


def timing_by_length(row: Row) -> dict[str, Timing]:
    """short, medium, long -> the timing of those sentences; empty where the row shows no speed."""
    if row.timing is None or row.cell.record is None:
        return {}
    texts = {utterance.utterance_id: utterance.text for utterance in row.cell.record.utterances}
    speeds = latency_by_length(row.cell.record.trials, texts)
    return {length: scaled(speed, None, Ratios(base=None, upstream=None)) for length, speed in speeds.items()}


def _speed(cell: Cell) -> Speed | None:
    """The speed of a cell that may show one."""
    if cell.record is None or _outcome(cell)[0] != "ok":
        return None
    return speed_of(cell.record.trials)


def _base_cell(source: Source, speeds: Mapping[str, Speed | None]) -> Cell | None:
    """What ratios are taken to: upstream at its most evaluations, else the quality reference where it is a row."""
    upstream = [(speed.evals_per_call, cell) for cell, speed in _upstream(source, speeds)]
    if upstream:
        return max(upstream, key=lambda pair: pair[0])[1]
    return next((cell for cell in source.cells if cell is source.reference and speeds[cell.label]), None)


def _upstream(source: Source, speeds: Mapping[str, Speed | None]) -> list[tuple[Cell, Speed]]:
    found = [(cell, speeds[cell.label]) for cell in source.cells if _name(cell, "engine") == "upstream"]
    return [(cell, speed) for cell, speed in found if speed is not None]


def _timing(cell: Cell, base: Cell | None, speeds: Mapping[str, Speed | None], source: Source) -> Timing | None:
    speed = speeds[cell.label]
    if speed is None or cell.record is None:
        return None
    same_cost = (other for other, its in _upstream(source, speeds) if its.evals_per_call == speed.evals_per_call)
    ratios = Ratios(base=_times(cell, base, speeds), upstream=_times(cell, next(same_cost, None), speeds))
    return scaled(speed, cell.record.first_call_s, ratios)


def _times(cell: Cell, other: Cell | None, speeds: Mapping[str, Speed | None]) -> float | None:
    """A ratio of RTFs is a ratio of speeds only for one model over the same sentences."""
    mine, theirs = speeds[cell.label], speeds[other.label] if other else None
    if mine is None or theirs is None or other is None or _task(cell) != _task(other):
        return None
    return theirs.rtf_ratio / mine.rtf_ratio


def _task(cell: Cell) -> tuple[Any, ...]:
    """What two rows must have in common before their speeds are compared."""
    record = cell.record
    if record is None:
        return ()
    spoken = frozenset(trial.utterance_id for trial in record.steady_trials)
    return _setting(cell, "model", "name"), model_identity(record), record.workload.get("identity_sha256"), spoken


def _row(source: Source, cell: Cell, timing: Timing | None) -> Row:
    record = cell.record
    nothing: Facts = {}
    facts = (record.facts if record else None) or nothing
    status, reason, remedy, validity = _outcome(cell)
    shown = record if record is not None and status == "ok" else None
    peak, kind = _peak_mib(record)
    return Row(
        label=cell.label,
        engine=str(facts.get("name") or _name(cell, "engine")),
        precision=str(facts.get("precision") or _setting(cell, "engine", "precision") or "-"),
        solver=_name(cell, "solver"),
        num_steps=facts.get("steps") or _setting(cell, "solver", "steps"),
        status=status,
        reason=reason,
        remedy=remedy,
        validity=validity,
        is_reference=source.is_reference(cell),
        timing=timing,
        quality=summaries_of(shown, source.is_reference(cell)) if shown else {},
        build_s=record.build_s if record else None,
        peak_mib=peak,
        peak_kind=kind,
        device_peak_mib=mib(record.peak_device_bytes) if record else None,
        weights_mib=mib(facts.get("weights_bytes")),
        text_cache_frac=_hit_rate(cast(TextCache, facts.get("proof") or {})),
        cell=cell,
    )


def _outcome(cell: Cell) -> tuple[RowStatus, str | None, str | None, Validity | None]:
    """Status, reason, remedy, validity. A measured run whose audio cannot be believed is no longer "ok"."""
    if cell.state != "ok" or cell.record is None:
        return cell.state, cell.reason, cell.remedy, None
    if not any(trial.audio_s > 0 for trial in cell.record.steady_trials):
        return "failed", "no steady trial with audio was recorded", "run this cell again", None
    validity, why = validity_of(cell.record)
    if validity == "invalid":
        return "invalid", why, "listen to its audio; its speed means nothing until the audio is right", validity
    if validity == "unchecked":
        return "unchecked", why, "score the run again; a speed is printed only of audio that was checked", validity
    unsteady = unsteady_reason(cell.record)
    if unsteady is not None:
        return "unsteady", unsteady, remedy_of(unsteady), validity
    return "ok", None, None, validity


class TextCache(TypedDict, total=False):
    """What a proof says of the texts that the front end keeps tokenised."""

    text_cache_lookups: int
    text_cache_hits: int


def _hit_rate(proof: TextCache) -> float | None:
    """Share of the front end's texts that were found tokenised; None where the engine keeps none."""
    lookups = proof.get("text_cache_lookups")
    return proof.get("text_cache_hits", 0) / lookups if lookups else None


def _peak_mib(record: RunRecord | None) -> tuple[float | None, str | None]:
    found = None if record is None else host_peak(record)
    return (None, None) if found is None else (mib(found[0]), found[1])


def _setting(cell: Cell, group: str, key: str) -> Any:
    """A key of the run's resolved configuration, None where the run never got that far."""
    return None if cell.record is None else part_of(cell.record.config, group).get(key)


def _name(cell: Cell, group: Literal["engine", "solver"]) -> str:
    """From the configuration; a cell without a record is told apart by its label, ENGINE-SOLVER[-GROUP=VALUE]."""
    name = _setting(cell, group, "name")
    if name is None:
        parts = cell.label.split("-")
        name = parts[0] if group == "engine" else parts[1] if len(parts) > 1 else "-"
    return str(name)


def all_metrics(table: Table) -> tuple[str, ...]:
    """The quality metrics that at least one row has a word about, in the order of the columns."""
    return tuple(metric for metric in QUALITY if any(metric in row.quality for row in table.rows))
