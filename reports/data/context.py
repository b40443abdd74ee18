"""What a number is worth nothing without: machine, workload, seconds of reference and of generated audio, commit."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from baselines.class_history import MACHINE
from baselines.paired.selftests import error_sentence, load_errors
from metrics.parts.environment import Environment
from metrics.parts.spoken import Spoken
from metrics.record import RecordError, RunRecord
from metrics.speed.steady import WARM_UP_STEADY
from metrics.typed import part_of
from reports.data.table import Table
from reports.words import listed, plural, significant

BUSY_LOAD_PER_CORE = 0.5
DRIFT_RATIO = 1.10
HASH_DIGITS = 12
VOID = "The machine was not in order"


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """Of the first record of a table; warnings say where the other records differ from it."""

    environment: Environment
    workload: Spoken
    seed: int | None
    model: str | None
    reference_s: float
    generated_s: float
    num_utterances: int

    @property
    def seconds(self) -> str:
        """The two figures that every RTF stands beside."""
        clip = f"reference {self.reference_s:.1f} s" if self.reference_s else "no reference clip"
        return f"{clip}, {self.generated_s:.1f} s generated in {plural(self.num_utterances, 'sentence')}"

    @property
    def commit(self) -> str:
        commit = self.environment.get("git_commit")
        if not commit:
            reason = self.environment.get("git_reason")
            return f"unknown ({reason})" if reason else "unknown"
        return str(commit)[:HASH_DIGITS] + (" with uncommitted changes" if self.environment.get("git_dirty") else "")


def context_of(table: Table) -> Context | None:
    """None where nothing was measured yet."""
    records = sorted((r for r in table.records if r.workload.get("num_utterances")), key=_started)
    if not records:
        return None
    first = records[0]
    reference_s = first.workload.get("reference_s")
    if reference_s is None:
        raise RecordError(f"{first.run_id}: workload.reference_s is missing in its record; run again")
    return Context(
        environment=first.environment,
        workload=first.workload,
        seed=cast("int | None", first.config.get("seed")),
        model=cast("str | None", part_of(first.config, "model").get("name")),
        reference_s=float(reference_s),
        generated_s=_generated_s(records),
        num_utterances=int(first.workload["num_utterances"]),
    )


def caption_of(context: Context) -> tuple[tuple[str, str], ...]:
    """(name, text) pairs: what must match before two tables may be compared, and how good verdicts are."""
    env, workload = context.environment, context.workload
    versions = env.get("versions") or {}
    host_class = str(env.get("host_class", "unknown"))
    lines = [
        ("host class", host_class),
        ("processor", f"{env.get('cpu_model', 'unknown')}, {plural(int(env.get('num_cores') or 0), 'core')}"),
        ("device", " ".join(filter(None, (env.get("device"), env.get("gpu")))) or "unknown"),
        ("threads", str(env.get("threads", "unknown"))),
        ("torch", str(versions.get("torch", "unknown"))),
        ("model", str(context.model or "unknown")),
        ("workload", f"{workload.get('name')}, identity {str(workload.get('identity_sha256'))[:HASH_DIGITS]}"),
        ("audio", context.seconds),
        *_prepared(workload),
        ("seed", str(context.seed)),
        ("date", str(env.get("started", "unknown"))),
        ("commit", context.commit),
        ("same-run verdicts", error_sentence(load_errors(host_class), host_class)),
    ]
    if env.get("power_mode"):
        lines.insert(3, ("power mode", str(env["power_mode"])))
    board = env.get("jetson")
    if board is not None:
        release = f"JetPack {board.get('jetpack') or 'unknown'} (L4T {board.get('l4t') or 'unknown'})"
        lines.insert(1, ("board", f"{board.get('board')}, {release}, clocks {board.get('clocks') or 'unknown'}"))
    return tuple(lines)


def _prepared(workload: Spoken) -> list[tuple[str, str]]:
    """What was done to each voice's clip before any engine got it; nothing for records that do not say."""
    voices = workload.get("voices") or []
    said = [
        f"{voice['id']}: {'; '.join(voice['notes']) or 'as the file is'}; resampled by {voice['resampler']}"
        for voice in voices
    ]
    if not said:
        return []
    spent_ms = 1000 * sum(voice["frontend_s"] for voice in voices)
    return [("voices", f"{'. '.join(said)}. Front end of it all, once a process and in no trial: {spent_ms:.0f} ms")]


def _clips(records: list[RunRecord]) -> list[str]:
    """What was found wrong with the clips, once each."""
    voices = [voice for record in records for voice in record.workload.get("voices") or ()]
    return list(dict.fromkeys(text for voice in voices for text in voice["warnings"]))


def warnings_of(table: Table) -> tuple[str, ...]:
    """What a careful reader would want to know before believing the table; empty when there is nothing to say."""
    records = sorted(table.records, key=_started)
    if not records:
        return ("Nothing was measured yet.",)
    found = [*_machine(table), _unfinished(table), _busy(records[0]), _dirty(records), *_differences(records)]
    found += [_drift(table), _never_steady(table), *_clips(records)]
    return tuple(warning for warning in found if warning)


def _machine(table: Table) -> list[str]:
    """Rows that their machine voids, first of all; then why it was not asked."""
    states = {row.label: row.cell.record.environment.get(MACHINE) or {} for row in table.timed_rows if row.cell.record}
    void = [f"{label}: {state['reason']}" for label, state in states.items() if state.get("valid") is False]
    unasked = sorted({str(state["reason"]) for state in states.values() if state and state.get("valid") is None})
    found = (
        [f"{VOID} (env.valid=false): {listed(void, most=3)}. No speed of it is a result; run again."] if void else []
    )
    if unasked:
        found.append(f"Nothing says that the machine was as fast as it usually is: {listed(unasked, most=2)}.")
    return found


def _unfinished(table: Table) -> str | None:
    if table.source.status == "done":
        return None
    missing = [row.label for row in table.rows if row.status in ("pending", "running")]
    return f"The sweep is {table.source.status}: {len(missing)} of {len(table.rows)} variants are not measured."


def _busy(first: RunRecord) -> str | None:
    """Only the first cell is asked: what later cells see is the load of the sweep itself."""
    load, cores = first.environment.get("load_1min"), first.environment.get("num_cores")
    if load is None or not cores or load <= BUSY_LOAD_PER_CORE * cores:
        return None
    return (
        f"The machine was busy when the measurement began (load {load:.1f} on {plural(int(cores), 'core')}): "
        "other programs may be in these times."
    )


def _dirty(records: list[RunRecord]) -> str | None:
    if not any(record.environment.get("git_dirty") for record in records):
        return None
    return "The working tree had uncommitted changes: the commit alone does not reproduce these numbers."


def _differences(records: list[RunRecord]) -> list[str]:
    """Rows that may not be compared with one another."""
    checks: tuple[tuple[str, Callable[[RunRecord], object]], ...] = (
        ("host class", lambda r: r.environment.get("host_class")),
        ("workload identity", lambda r: str(r.workload.get("identity_sha256"))[:HASH_DIGITS]),
        ("number of threads", lambda r: r.environment.get("threads")),
        ("torch", lambda r: (r.environment.get("versions") or {}).get("torch")),
        ("commit", lambda r: str(r.environment.get("git_commit"))[:HASH_DIGITS]),
    )
    found = []
    for name, value_of in checks:
        values = sorted({str(value_of(record)) for record in records if record.status == "ok"})
        if len(values) > 1:
            found.append(f"The rows differ in {name} ({listed(values)}): do not compare them with one another.")
    return found


def _never_steady(table: Table) -> str | None:
    """Rows whose warm-up ended by its limit."""
    labels = [
        row.label
        for row in table.timed_rows
        if row.cell.record and any(score.value == 0.0 for score in row.cell.record.scores_of(WARM_UP_STEADY))
    ]
    if not labels:
        return None
    return f"No steady state came within the warm-up of {listed(labels)}: their times still moved when timing began."


def _drift(table: Table) -> str | None:
    """The calibration workload is the same in every run: where its time moves, the machine moved."""
    medians = {}
    for row in table.timed_rows:
        record = row.cell.record
        times_s = [t.calibration_s for t in record.steady_trials if t.calibration_s] if record else []
        if times_s:
            medians[row.label] = statistics.median(times_s)
    if len(medians) < 2 or max(medians.values()) <= DRIFT_RATIO * min(medians.values()):
        return None
    slow, fast = max(medians, key=lambda label: medians[label]), min(medians, key=lambda label: medians[label])
    times = significant(medians[slow] / medians[fast])
    return (
        f"The machine itself changed during the sweep: the calibration workload took {times} times as long in {slow} "
        f"as in {fast}."
    )


def _started(record: RunRecord) -> str:
    return str(record.environment.get("started") or record.created)


def _generated_s(records: list[RunRecord]) -> float:
    return next((float(seconds) for r in records if (seconds := r.workload.get("generated_s"))), 0.0)
