"""The worker: `python -m experiments.measuring.worker JOBDIR` builds one engine, measures it, writes its audio and its
record.

A fresh process per variant: nothing of an earlier engine is left in memory, caches or thread pools. Whatever happens
becomes a record: unsupported -> skipped with the remedy, any error -> failed with one line, the traceback in error.txt.
"""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
import soundfile

from engine.clock import Clock, make_clock
from engine.contract import ConfigError, Engine, Synthesis, UnsupportedEngine
from experiments.common.cli import one_line
from experiments.common.environment import fingerprint, now_iso
from experiments.common.journal import JOURNAL, JournalWriter, read_journal
from experiments.common.plain import Config
from experiments.measuring.calibration import make_calibrations
from experiments.measuring.cold import cold_start
from experiments.measuring.energy import work_for
from experiments.measuring.engines import build_by_name, facts_content, resident_peak_bytes
from experiments.measuring.job import ERROR, RESULT, Ending, JobSpec, compose_record, read_job
from experiments.measuring.measure import OutOfTime, Probes, measure, plan_for
from experiments.measuring.peaks import gemm_peaks
from experiments.workload.requests import Workload, load_workload
from metrics.process import settle
from metrics.record import Utterance, save_record
from metrics.speed.memory import read_memory, reset_peak
from metrics.speed.steady import counted

Build = Callable[[Config, Clock], Engine]


def main(argv: Sequence[str], build: Build) -> int:
    """JOBDIR [--watch-parent]. 0 whenever a record was written; its status says what became of the run."""
    settle()
    if "--watch-parent" in argv:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    run_job(read_job(Path(argv[0])), build)
    return 0


def run_job(spec: JobSpec, build: Build) -> None:
    """Measure (or, for kind "reference", speak once), then write result.json from the journal."""
    path = spec.folder / JOURNAL
    with JournalWriter(path) as journal:
        ending = _Ending(spec.folder)
        with ending:
            _perform(spec, build, journal)
        journal.append("end", ending.content)
    save_record(compose_record(spec, read_journal(path), ending.content), spec.folder / RESULT)


class _Ending:
    """How a run ended. A context manager, so that every exception of an engine, of any kind, becomes a status."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.content: Ending = {"status": "ok", "reason": None, "remedy": None, "error": None}

    def __enter__(self) -> _Ending:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(error, Exception):
            return False
        self.content = _ending_of(error)
        if self.content["status"] == "failed":
            text = "".join(traceback.format_exception(error))
            (self._folder / ERROR).write_text(text, encoding="utf-8")
        return True


def _ending_of(error: Exception) -> Ending:
    name = type(error).__name__
    if isinstance(error, UnsupportedEngine):
        return {"status": "skipped", "reason": error.reason, "remedy": error.remedy, "error": name}
    if isinstance(error, ConfigError):
        reason = one_line(f"{error.key}={error.value}: {error.allowed}")
        return {"status": "failed", "reason": reason, "remedy": error.remedy, "error": name}
    if isinstance(error, OutOfTime):
        remedy = "raise measure.time_limit_s or choose fewer sentences (workload.limit)"
        return {"status": "failed", "reason": one_line(error), "remedy": remedy, "error": name}
    return {"status": "failed", "reason": one_line(f"{name}: {error}"), "remedy": f"see {ERROR}", "error": name}


def _perform(spec: JobSpec, build: Build, journal: JournalWriter) -> None:
    config = spec.config
    workload = load_workload(config)
    clock = make_clock(str(config["device"]["kind"]))
    if spec.kind != "cold":  # a cold start is what a user's process does, and that measures and reads nothing first
        journal.append(
            "start",
            {
                "created": now_iso(),
                "environment": {**fingerprint(config["device"]), **gemm_peaks(config, clock)},
                "workload": workload.describe(),
                "num_utterances": len(workload.requests),
            },
        )
    _limit_memory(config["measure"]["memory_limit_bytes"])
    before_s = clock.now_s()
    with build(config, clock) as engine:
        clock.sync()
        build_s = clock.now_s() - before_s
        journal.append("build", {"build_s": build_s})
        journal.append("facts", facts_content(engine.facts))
        if spec.kind == "reference":
            _speak(spec.folder, engine, workload, journal)
        elif spec.kind == "cold":
            journal.append("cold", asdict(cold_start(engine, workload.requests[0], clock, build_s)))
        elif spec.kind == "energy":
            journal.append("energy", work_for(engine, workload.requests, clock, config["measure"]["energy_busy_s"]))
        else:
            _measure(spec, engine, workload, clock, journal)
        journal.append("facts", facts_content(engine.facts))


def _speak(folder: Path, engine: Engine, workload: Workload, journal: JournalWriter) -> None:
    """One pass, nothing timed: the audio that others are compared with."""
    for request, line in zip(workload.requests, workload.lines, strict=True):
        synthesis = engine.synthesize([request])[0]
        journal.append("spoken", {"utterance_id": request.utterance_id})
        journal.append("utterance", asdict(write_utterance(folder, synthesis, line.category, line.text)))


def _measure(spec: JobSpec, engine: Engine, workload: Workload, clock: Clock, journal: JournalWriter) -> None:
    facts = engine.facts
    plan = plan_for(spec.config["measure"], facts.steps * facts.evals_per_step)
    device = str(spec.config["device"]["kind"])
    calibrations = make_calibrations(spec.config, clock)
    memory = _Memory(device, calibrations.num_bytes)
    journal.append("plan", {"num_trials": plan.num_trials(len(workload.requests)), **asdict(plan)})
    probes = Probes(
        clock=clock,
        reset_peak=memory.reset,
        peak_bytes=memory.peak_bytes,
        after_round=memory.sample,
        calibrations=calibrations.by_work,
        counters=lambda: steady_counters(engine, device),
    )
    measured = measure(engine, workload.requests, plan, probes, journal)
    journal.append("memory", memory.content())
    for line in workload.lines:
        spoken = measured.spoken[line.utterance_id]
        journal.append("utterance", asdict(write_utterance(spec.folder, spoken, line.category, line.text)))
    journal.append("determinism", {"identical": dict(measured.repeats_identical)})


def steady_counters(engine: Engine, device: str) -> dict[str, int]:
    """What the engine says must not change while it is timed, and on a GPU the segments its allocator has asked for."""
    counters = counted(engine.facts.proof)
    if device != "cpu":
        import torch

        counters["device_memory_segments"] = int(torch.cuda.memory_stats(device).get("segment.all.allocated", 0))
    return counters


def write_utterance(folder: Path, synthesis: Synthesis, category: str, text: str) -> Utterance:
    """audio/ID.wav (float32, mono) and mel/ID.npy (float32 (N, D)) below the folder."""
    name = synthesis.utterance_id
    audio_S = np.ascontiguousarray(synthesis.audio_S, dtype=np.float32)
    mel_ND = np.ascontiguousarray(synthesis.mel_ND, dtype=np.float32)
    audio_path, mel_path = f"audio/{name}.wav", f"mel/{name}.npy"
    for path in (audio_path, mel_path):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(folder / audio_path, audio_S, synthesis.sample_rate_hz, subtype="FLOAT")
    np.save(folder / mel_path, mel_ND, allow_pickle=False)
    return Utterance(
        utterance_id=name,
        category=category,
        text=text,
        sample_rate_hz=synthesis.sample_rate_hz,
        num_samples=len(audio_S),
        num_frames=len(mel_ND),
        num_chunks=synthesis.num_chunks,
        noise_sha256=synthesis.noise_sha256,
        audio_sha256=hashlib.sha256(audio_S.tobytes()).hexdigest(),
        audio_path=audio_path,
        mel_path=mel_path,
    )


@dataclass(slots=True)
class _Memory:
    """Peaks since `reset`: resident set, proportional set (sampled between rounds: reading it is slow), device.

    own_bytes: what the calibrations hold on the device; it is the harness's, so no peak contains it.
    """

    device: str
    own_bytes: int = 0
    peak_rss_bytes: int | None = None
    peak_pss_bytes: int | None = None

    def reset(self) -> None:
        reset_peak()
        self.peak_pss_bytes = None
        if self.device != "cpu":
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_bytes(self) -> int:
        """Of the device where there is one, else resident."""
        if self.device == "cpu":
            return resident_peak_bytes() - self.own_bytes
        return self._device_peak_bytes() or 0

    def sample(self) -> None:
        reading = read_memory()
        own_bytes = self.own_bytes if self.device == "cpu" else 0
        self.peak_rss_bytes = reading.peak_rss_bytes - own_bytes
        if reading.pss_bytes is not None:
            self.peak_pss_bytes = max(reading.pss_bytes - own_bytes, self.peak_pss_bytes or 0)

    def content(self) -> dict[str, int | None]:
        self.sample()
        return {
            "peak_rss_bytes": self.peak_rss_bytes,
            "peak_pss_bytes": self.peak_pss_bytes,
            "peak_device_bytes": self._device_peak_bytes(),
        }

    def _device_peak_bytes(self) -> int | None:
        if self.device == "cpu":
            return None
        import torch

        return int(torch.cuda.max_memory_allocated(self.device)) - self.own_bytes


def _limit_memory(limit_bytes: int | None) -> None:
    """Writable private memory of this process; None: no limit. Not its address space, which CUDA reserves freely."""
    if limit_bytes is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (int(limit_bytes), int(limit_bytes)))


def _end_with_parent() -> None:
    """The coordinator holds the other end of stdin: when it is gone, so is the one who wanted this measurement."""
    os.read(sys.stdin.fileno(), 1)  # not through sys.stdin: its lock would be held when the interpreter ends
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], build_by_name))
