"""Cold starts: what a fresh process costs until its first audio, as a distribution over several processes.

`measure=cold` makes measure.cold_starts processes that build the engine, speak the first sentence and end; then the
ordinary measurement, whose audio is checked. A cold start of an engine whose audio is not valid is no number.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from engine.clock import Clock
from engine.contract import Engine, SynthesisRequest
from experiments.measuring.job import RESULT, JobResult, JobSpec, Launcher, launch
from experiments.measuring.machine_check import checked
from experiments.measuring.timed import time_call
from experiments.telemetry.watch import watching
from metrics.record import ColdStart, save_record

FOLDER = "cold"


def launch_with_cold_starts(spec: JobSpec, launcher: Launcher) -> JobResult:
    """As job.launch, after the cold starts that the configuration asks for; they stand in the record.

    The first cold start that fails is the run's failure, with its folder's name in the reason.
    """
    wanted = int(spec.config["measure"]["cold_starts"]) if spec.kind == "measure" else 0
    if wanted == 0:
        return launch(spec, launcher)
    quiet = replace(launcher, on_tick=None)
    starts: list[ColdStart] = []
    (spec.folder / FOLDER).mkdir(parents=True, exist_ok=True)
    with watching(spec.folder / FOLDER) as watch:
        for number in range(1, wanted + 1):
            folder = spec.folder / FOLDER / f"{number:02d}"
            result = launch(replace(spec, folder=folder, kind="cold"), quiet)
            if result.record.status != "ok":
                reason = f"cold start {number} of {wanted}: {result.record.reason}"
                failed = replace(result.record, reason=reason, cold_starts=tuple(starts))
                save_record(failed, spec.folder / RESULT)
                return replace(result, record=failed)
            starts += result.record.cold_starts
    fault = None if watch is None else watch.fault(result.record.environment)
    result = launch(spec, launcher)
    record = replace(result.record, cold_starts=tuple(starts))
    if fault is not None and launcher.machines is not None and record.status == "ok":
        record = checked(record, launcher.machines(), fault)
    save_record(record, spec.folder / RESULT)
    return replace(result, record=record)


def cold_start(
    engine: Engine, request: SynthesisRequest, clock: Clock, build_s: float, age_s: Callable[[], float] | None = None
) -> ColdStart:
    """The first call of this process. age_s: seconds since the process was created, the kernel's word by default."""
    call = time_call(clock, lambda: engine.synthesize([request])[0])
    audio_S = np.ascontiguousarray(call.result.audio_S, dtype=np.float32)
    return ColdStart(
        build_s=build_s,
        first_call_s=call.wall_s,
        start_s=(age_s or process_age_s)(),
        audio_sha256=hashlib.sha256(audio_S.tobytes()).hexdigest(),
    )


def process_age_s() -> float:
    """Seconds since this process was created: field 22 of /proc/self/stat, in ticks (10 ms) since the machine started.

    Without /proc: CPU seconds of this process, which is the least that it can be.
    """
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return time.process_time()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
