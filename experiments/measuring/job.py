"""One variant in a fresh worker process: what it is told, how it is started, watched and ended, what it leaves.

A worker that dies hard costs its own run and nothing else: its journalled trials become a record with status failed.
"""

from __future__ import annotations

import json
import signal
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

from experiments.common.environment import fingerprint, now_iso
from experiments.common.failure import FailureKind, by_signal, kind_of_error, kind_of_exit, log_tail, oom_kills
from experiments.common.journal import JOURNAL, Ending, Journal, Start, read_journal, set_aside
from experiments.common.plain import Config, as_config
from experiments.common.processes import ProcessSpec, run_watched, worker_environment
from experiments.measuring.machine_check import checked, history_folder
from experiments.telemetry.watch import seen_in, watching
from metrics.journal_lines import torn_text
from metrics.parts.spoken import Spoken
from metrics.power.figures import BETTER
from metrics.record import RecordError, RunRecord, RunStatus, Score, load_record, save_record, write_atomically
from metrics.speed.steady import STEADY_COUNTERS, WARM_UP_STEADY, counters_score, warm_up_score
from metrics.stored_config import todays
from metrics.typed import from_json, load_json

JOB, RESULT, LOG, ERROR = "job.json", "result.json", "log.txt", "error.txt"
DETERMINISM = "audio_repeats_identical"
# scores that come of the measurement, not of the audio
MEASURED = (DETERMINISM, WARM_UP_STEADY, STEADY_COUNTERS, *BETTER)

_SIGNAL_REMEDIES: Mapping[int, str] = {
    signal.SIGKILL: "the kernel does that when memory runs out: try a smaller model or fewer threads; see log.txt",
    signal.SIGINT: "interrupted: run it again",
}

JobKind = Literal["measure", "reference", "cold", "energy"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    """job.json."""

    run_id: str
    label: str
    kind: JobKind
    config: Mapping[str, object]


@dataclass(frozen=True, kw_only=True, slots=True)
class JobSpec:
    """What job.json holds, and the folder that it lies in."""

    folder: Path
    run_id: str
    label: str
    kind: JobKind
    config: Config


@dataclass(frozen=True, kw_only=True, slots=True)
class JobResult:
    """record: as in result.json. failure: the kind, None unless it failed. exit_code: as _run_worker has it."""

    record: RunRecord
    failure: FailureKind | None
    exit_code: int | None
    log_tail: tuple[str, ...]

    @property
    def is_config_error(self) -> bool:
        """Failed because of a setting that only the build could see."""
        return self.failure == "config"


@dataclass(frozen=True, kw_only=True, slots=True)
class Launcher:
    """How workers are started. lock: a descriptor they inherit. on_tick: called with the journal twice a second.

    machines: where the history of calibrations lies; None asks nothing of the machine (workers of tests).
    elsewhere: carries the whole job out on another machine (experiments.fleet); the folder is filled from there.
    """

    lock: int | None = None
    on_tick: Callable[[Path], None] | None = None
    command: tuple[str, ...] = (sys.executable, "-m", "experiments.measuring.worker")
    machines: Callable[[], Path] | None = history_folder
    elsewhere: Callable[[JobSpec, Launcher], JobResult] | None = None


def new_job(folder: Path, label: str, kind: JobKind, config: Config) -> JobSpec:
    run_id = f"{time.strftime('%Y%m%d-%H%M%S')}-{label}-{uuid.uuid4().hex[:6]}"
    return JobSpec(folder=folder, run_id=run_id, label=label, kind=kind, config=config)


def write_job(spec: JobSpec) -> None:
    content = {"run_id": spec.run_id, "label": spec.label, "kind": spec.kind, "config": spec.config}
    write_atomically(spec.folder / JOB, json.dumps(content, allow_nan=False, indent=1, ensure_ascii=False) + "\n")


def read_job(folder: Path) -> JobSpec:
    """Raises RecordError for a folder without a readable job.json."""
    path = folder / JOB
    try:
        stored = from_json(_Stored, load_json(path))
    except FileNotFoundError:
        raise RecordError(f"{path}: no such job; `python -m experiments.run` writes it") from None
    except (OSError, ValueError) as error:
        raise RecordError(f"{path}: damaged job file ({error}); start the run again") from error
    return JobSpec(
        folder=folder,
        run_id=stored.run_id,
        label=stored.label,
        kind=stored.kind,
        config=as_config(todays(stored.config)),
    )


def launch(spec: JobSpec, launcher: Launcher) -> JobResult:
    """Run the job in a fresh process and return its record, whatever became of it. Ctrl-C ends the worker first."""
    if launcher.elsewhere is not None:
        return launcher.elsewhere(spec, launcher)
    for name in (RESULT, ERROR, LOG):
        (spec.folder / name).unlink(missing_ok=True)
    set_aside(spec.folder / JOURNAL)
    write_job(spec)
    num_oom_kills = oom_kills()
    is_judged = spec.kind == "measure" and launcher.machines is not None
    with watching(spec.folder) if is_judged else nullcontext() as watch:
        ended = _run_worker(spec, launcher, limit_s(spec.config))
    num_oom_kills = oom_kills() - num_oom_kills
    has_died = not (spec.folder / RESULT).is_file()
    if has_died:
        save_record(_died_record(spec, ended), spec.folder / RESULT)
    record, tail = load_record(spec.folder / RESULT), log_tail(spec.folder / LOG)
    if spec.kind == "measure" and record.status == "ok" and launcher.machines is not None:
        fault = None
        if watch is not None:
            fault = watch.fault(record.environment)
            telemetry = seen_in(spec.folder)
            record = replace(record, environment={**record.environment, **watch.memory(), "telemetry": telemetry})
        record = checked(record, launcher.machines(), fault)
        save_record(record, spec.folder / RESULT)
    failure: FailureKind | None = None
    if has_died:
        failure = kind_of_exit(ended, num_oom_kills, "\n".join(tail))
    elif record.status == "failed":
        end = read_journal(spec.folder / JOURNAL).end
        failure = kind_of_error(str(end and end.get("error")), record.reason or "")
    return JobResult(record=record, failure=failure, exit_code=ended, log_tail=tail)


def limit_s(config: Config) -> float:
    """When a worker is ended from outside: the loop's own limit, and time to build, to write, to finish a call."""
    return float(config["measure"]["time_limit_s"]) + float(config["sweep"]["grace_s"])


def compose_record(spec: JobSpec, journal: Journal, end: Ending) -> RunRecord:
    """The record that a journal amounts to."""
    nothing: Start = {}
    start, end = journal.start or nothing, _with_torn(journal, end)
    workload: Spoken = start.get("workload") or {"name": spec.config["workload"]["name"], "utterances": []}
    if journal.utterances:
        workload = {**workload, "generated_s": sum(u.num_samples / u.sample_rate_hz for u in journal.utterances)}
    status: RunStatus = end["status"]
    return RunRecord(
        run_id=spec.run_id,
        created=start.get("created") or now_iso(),
        status=status,
        reason=end["reason"],
        remedy=end["remedy"],
        label=spec.label,
        config=spec.config,
        facts=journal.facts,
        environment=start.get("environment") or fingerprint(spec.config["device"]),
        workload=workload,
        build_s=journal.build_s,
        first_call_s=journal.first_call_s,
        peak_rss_bytes=journal.memory.get("peak_rss_bytes"),
        peak_pss_bytes=journal.memory.get("peak_pss_bytes"),
        peak_device_bytes=journal.memory.get("peak_device_bytes"),
        utterances=journal.utterances,
        trials=journal.trials,
        scores=(*_determinism(journal, status), *_steadiness(journal, status)),
        calibrations=journal.calibrations,
        cold_starts=() if journal.cold is None else (journal.cold,),
    )


def _with_torn(journal: Journal, end: Ending) -> Ending:
    """Torn lines are named; a run that ended well while one of its lines is torn has lost something."""
    if not journal.torn:
        return end
    lost = f"{JOURNAL}: {torn_text(journal.torn)}"
    if end["status"] == "ok":
        return {**end, "status": "failed", "reason": lost, "remedy": "check the disk, then run this variant again"}
    return {**end, "reason": f"{end['reason']}; {lost}"}


def _determinism(journal: Journal, status: RunStatus) -> tuple[Score, ...]:
    """Whether every repeat gave the same bits."""
    if status != "ok" or journal.identical is None:
        return ()
    differing = sorted(name for name, same in journal.identical.items() if not same)
    few = not journal.identical
    return (
        Score(
            metric=DETERMINISM,
            utterance_id=None,
            value=None if few else 0.0 if differing else 1.0,
            status="too_few" if few else "ok",
            reason="one round has no repeats" if few else f"differs: {', '.join(differing)}" if differing else None,
            better="higher",
        ),
    )


def _steadiness(journal: Journal, status: RunStatus) -> tuple[Score, ...]:
    """How warm-up ended, and whether the engine's counters stood still while timed; as far as either is known."""
    if status != "ok" or journal.warm_up is None or journal.counters is None:
        return ()
    warm_up, counters = journal.warm_up, journal.counters
    found = (
        warm_up_score(warm_up["is_steady"], warm_up["num_rounds"], warm_up["slope_frac"]),
        counters_score(counters["before"], counters["after"]),
    )
    return tuple(score for score in found if score is not None)


def _run_worker(spec: JobSpec, launcher: Launcher, end_after_s: float) -> int | None:
    """As run_watched has it; of a run that is interrupted the record stays."""
    worker = ProcessSpec(
        command=[*launcher.command, str(spec.folder), "--watch-parent"],
        environment=worker_environment(spec.config),
        log=spec.folder / LOG,
        end_after_s=end_after_s,
        lock=launcher.lock,
        on_tick=None if launcher.on_tick is None else partial(launcher.on_tick, spec.folder / JOURNAL),
    )
    try:
        return run_watched(worker)
    except KeyboardInterrupt:
        save_record(_died_record(spec, -signal.SIGINT), spec.folder / RESULT)
        raise


def _died_record(spec: JobSpec, exit_code: int | None) -> RunRecord:
    journal = read_journal(spec.folder / JOURNAL)
    if exit_code is None:
        grace_s = float(spec.config["sweep"]["grace_s"])
        reason = f"ended after {limit_s(spec.config):g} s, {grace_s:g} s over measure.time_limit_s"
        remedy = "raise measure.time_limit_s or choose fewer sentences (workload.limit)"
    elif exit_code < 0:
        reason = f"killed by {by_signal(-exit_code)}"
        remedy = _SIGNAL_REMEDIES.get(-exit_code, "see log.txt")
    else:
        reason = f"the worker ended with exit code {exit_code}: {(log_tail(spec.folder / LOG) or ('no output',))[-1]}"
        remedy = "see log.txt"
    end: Ending = {"status": "failed", "reason": f"{reason}; trials kept: {len(journal.trials)}", "remedy": remedy}
    return compose_record(spec, journal, end)
