"""First audio and gaps of a stream, beside the call that is not streamed: `python -m experiments.stream engine=int8`.

Streams and plain calls of the same sentence alternate in random order in one process, so that what the machine does in
the meantime hits both. Every stream's arrivals are in the journal; playback is computed from them
(metrics.speed.streaming).
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np
import soundfile

from baselines.class_history import machine_fault
from engine.clock import Clock, make_clock
from engine.contract import ConfigError, Engine, SynthesisRequest
from engine.enhance.stages import check_streamed
from experiments.common.cli import EXIT_ENVIRONMENT, EXIT_JOB_FAILED, EXIT_OK, complain, note, run_verb
from experiments.common.device_lock import device_lock
from experiments.common.environment import fingerprint, now_iso
from experiments.common.journal import JOURNAL, About, JournalWriter
from experiments.common.presets import with_presets
from experiments.measuring.engines import build_by_name, facts_content
from experiments.measuring.running import default_out
from experiments.measuring.timed import time_call
from experiments.measuring.validate import one_cell, validate_out
from experiments.scoring.audio import invalid_reason
from experiments.settings.front import answered
from experiments.settings.keys import refuse_misspelt, refuse_unread
from experiments.telemetry.watch import watched, watching
from experiments.workload.requests import load_workload
from metrics.record import to_json, write_atomically
from metrics.speed.streaming import AUDIBLE_DB, first_audible_s, leading_silence_s, play
from metrics.stats import median_interval, quantile

HELP = """Stream texts, and say when the first sound is heard and whether playback runs dry.

examples:
  python -m experiments.stream engine=bf16 solver=euler_7
  python -m experiments.stream stream=growing workload=en_long workload.limit=2 rounds=5
  python -m experiments.stream engine=upstream            (its own streaming: slices of a finished chunk)

rounds=N: how often each text is streamed after one warm-up (default 3). workload: en_long unless another is given.
"""
RESULT = "stream.json"
UNREAD = ("gate", "measure", "quality")
CONFIDENCE = 0.95
MOST_DIGITS = 6  # of rounds


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamTrial:
    """One stream: seconds from the request to each block, the block's own seconds, what it is made of."""

    utterance_id: str
    repeat: int
    arrivals_s: tuple[float, ...]
    durations_s: tuple[float, ...]
    silence_s: float | None
    num_chunks: int
    num_evals: int


@dataclass(frozen=True, kw_only=True, slots=True)
class CallTrial:
    """One call that is not streamed."""

    utterance_id: str
    repeat: int
    wall_s: float
    audio_s: float
    silence_s: float | None


@dataclass(slots=True, eq=False)
class Measured:
    """Trials in the order they were made, and each text's streamed audio of its last repeat."""

    streams: list[StreamTrial] = field(default_factory=list)
    calls: list[CallTrial] = field(default_factory=list)
    audio: dict[str, tuple[np.ndarray, int]] = field(default_factory=dict)


class StreamLoop:
    """Streams and calls over all requests; one round of warm-up that is not kept."""

    def __init__(self, engine: Engine, clock: Clock, journal: JournalWriter):
        self._engine, self._clock, self._journal = engine, clock, journal
        self.measured = Measured()

    def run(self, requests: Sequence[SynthesisRequest], rounds: int) -> Measured:
        chance = random.Random(0)
        for repeat in range(rounds + 1):
            for request in chance.sample(requests, len(requests)):
                for turn in chance.sample((self._stream, self._call), 2):
                    turn(request, repeat - 1)
        return self.measured

    def _stream(self, request: SynthesisRequest, repeat: int) -> None:
        clock, blocks, arrivals = self._clock, [], []
        clock.sync()
        before_s = clock.now_s()
        for block in self._engine.stream(request):
            arrivals.append(clock.now_s() - before_s)
            blocks.append(block)
        rate_hz = blocks[0].sample_rate_hz
        audio_S = np.concatenate([block.audio_S for block in blocks])
        trial = StreamTrial(
            utterance_id=request.utterance_id, repeat=repeat, arrivals_s=tuple(arrivals),
            durations_s=tuple(len(block.audio_S) / rate_hz for block in blocks),
            silence_s=leading_silence_s(audio_S, rate_hz), num_chunks=blocks[-1].chunk + 1,
            num_evals=sum(block.num_evals for block in blocks),
        )  # fmt: skip
        self._journal.append("stream", asdict(trial))
        if repeat >= 0:
            self.measured.streams.append(trial)
            self.measured.audio[request.utterance_id] = audio_S, rate_hz

    def _call(self, request: SynthesisRequest, repeat: int) -> None:
        call = time_call(self._clock, lambda: self._engine.synthesize([request])[0])
        audio_S, rate_hz = call.result.audio_S, call.result.sample_rate_hz
        trial = CallTrial(
            utterance_id=request.utterance_id, repeat=repeat, wall_s=call.wall_s, audio_s=len(audio_S) / rate_hz,
            silence_s=leading_silence_s(audio_S, rate_hz),
        )  # fmt: skip
        self._journal.append("call", asdict(trial))
        if repeat >= 0:
            self.measured.calls.append(trial)


class Median(TypedDict):
    """With its interval, where there are trials enough for one."""

    median: float
    interval: tuple[float, float] | None


class Summary(TypedDict):
    """`summary` of stream.json. None: no sound."""

    first_audible_s: Median | None
    first_block_s: Median | None
    whole_call_first_audible_s: Median | None
    num_streams: int
    num_silent: int
    num_underruns: int
    num_streams_with_underrun: int
    gap_s: float
    longest_gap_s: float
    wait_s: float
    audio_s: float
    audible_db: float


def summary_of(measured: Measured) -> Summary:
    """Medians with their 95 % intervals (None where the trials are too few), and what playback did in all streams."""
    played = [play(trial.arrivals_s, trial.durations_s) for trial in measured.streams]
    heard = [
        first_audible_s(playback, trial.durations_s, trial.silence_s)
        for playback, trial in zip(played, measured.streams, strict=True)
    ]
    whole = [trial.wall_s + trial.silence_s for trial in measured.calls if trial.silence_s is not None]
    return {
        "first_audible_s": _median([at for at in heard if at is not None]),
        "first_block_s": _median([trial.arrivals_s[0] for trial in measured.streams]),
        "whole_call_first_audible_s": _median(whole),
        "num_streams": len(played),
        "num_silent": sum(at is None for at in heard),
        "num_underruns": sum(playback.num_underruns for playback in played),
        "num_streams_with_underrun": sum(playback.num_underruns > 0 for playback in played),
        "gap_s": sum(playback.gap_s for playback in played),
        "longest_gap_s": max((gap for playback in played for gap in playback.gaps_s), default=0.0),
        "wait_s": max(playback.wait_s for playback in played),
        "audio_s": sum(sum(trial.durations_s) for trial in measured.streams),
        "audible_db": AUDIBLE_DB,
    }


def _median(values: Sequence[float]) -> Median | None:
    if not values:
        return None
    return {"median": quantile(values, 0.5), "interval": median_interval(values, CONFIDENCE)}


def sentences(label: str, rule: str, summary: Summary) -> str:
    """What a person reads."""
    streams, whole = summary["first_audible_s"], summary["whole_call_first_audible_s"]
    times = f" ({whole['median'] / streams['median']:.1f} x later)" if streams and whole else ""
    return "\n".join(
        [
            f"{label}, stream={rule}: {summary['num_streams']} streams, {summary['audio_s']:.1f} s of audio",
            f"first audible sample   {_seconds(streams)}, the first block after {_seconds(summary['first_block_s'])}",
            f"without streaming      {_seconds(whole)}{times}",
            f"underruns              {summary['num_underruns']} in {summary['num_streams_with_underrun']} streams, "
            f"{summary['gap_s']:.2f} s of silence, the longest {summary['longest_gap_s']:.2f} s; "
            f"a start {summary['wait_s']:.2f} s later would have had none",
        ]
    )


def _seconds(found: Median | None) -> str:
    if found is None:
        return "no sound"
    interval = found["interval"]
    return f"{found['median']:.3f} s" + (f" [{interval[0]:.3f}, {interval[1]:.3f}]" if interval else "")


def invalid_reasons(measured: Measured, requests: Sequence[SynthesisRequest]) -> list[str]:
    """Why the streamed audio cannot be believed, by text; empty where it can."""
    found = (invalid_reason(request, *measured.audio[request.utterance_id]) for request in requests)
    return [reason for reason in found if reason is not None]


def split_arguments(argv: Sequence[str]) -> tuple[list[str], int]:
    """Overrides with the default workload, and the rounds."""
    rounds = [text.partition("=")[2] for text in argv if text.startswith("rounds=")] or ["3"]
    if not rounds[-1].isdecimal() or len(rounds[-1]) > MOST_DIGITS or int(rounds[-1]) < 1:
        raise ConfigError(
            "rounds", rounds[-1], f"must be a whole number from 1, of {MOST_DIGITS} digits", "use rounds=3"
        )
    overrides = [text for text in argv if not text.startswith("rounds=")]
    refuse_unread(overrides, UNREAD, "a stream")
    for text in overrides:
        refuse_misspelt(*text.partition("=")[::2], ["rounds"])
    if not any(text.startswith("workload=") for text in overrides):
        overrides.insert(0, "workload=en_long")
    return overrides, int(rounds[-1])


@with_presets
def main(argv: Sequence[str]) -> int:
    if answered(argv, HELP):
        return EXIT_OK
    overrides, rounds = split_arguments(argv)
    cell = one_cell(overrides)
    check_streamed(cell.config)
    config, workload = cell.config, load_workload(cell.config)
    out = Path(config["out"] or default_out(f"stream-{cell.label}"))
    validate_out(out, 1, len(workload.requests))
    device = str(config["device"]["kind"])
    clock = make_clock(device)
    with device_lock(device, config["sweep"]["lock"], note), JournalWriter(out / JOURNAL) as journal:
        environment = fingerprint(config["device"])
        journal.append("start", {"created": now_iso(), "environment": environment, "workload": workload.describe()})
        with build_by_name(config, clock) as engine:
            with watching(out) as watch:
                measured = StreamLoop(engine, clock, journal).run(workload.requests, rounds)
            facts = facts_content(engine.facts)
        journal.append("facts", facts)
    environment = watched(environment, watch, out)
    return _finish(out, cell.label, measured, {"config": config, "facts": facts, "environment": environment,
                                               "workload": workload.describe()}, workload.requests)  # fmt: skip


def _finish(out: Path, label: str, measured: Measured, about: About, requests: Sequence[SynthesisRequest]) -> int:
    """Audio, stream.json, and the words; numbers only of audio that can be believed."""
    (out / "audio").mkdir(exist_ok=True)
    for name, (audio_S, rate_hz) in measured.audio.items():
        soundfile.write(out / "audio" / f"{name}.wav", audio_S, rate_hz, subtype="FLOAT")
    is_random = bool(about["facts"]["random_weights"])
    invalid = [] if is_random else invalid_reasons(measured, requests)
    void = machine_fault(about["environment"])
    summary = None if invalid or void else summary_of(measured)
    content = {
        "schema_version": 1, "label": label, "created": now_iso(), **about, "invalid": invalid, "summary": summary,
        "streams": [asdict(trial) for trial in measured.streams], "calls": [asdict(trial) for trial in measured.calls],
    }  # fmt: skip
    write_atomically(out / RESULT, to_json(content) + "\n")
    if void is not None:
        complain(f"{label}: no number, {void}; set the board as it was and stream again")
        return EXIT_ENVIRONMENT
    if summary is None:
        complain(
            f"{label}: no number, the streamed audio is not valid ({'; '.join(invalid)}); listen to {out / 'audio'}"
        )
        return EXIT_JOB_FAILED
    print(sentences(label, about["config"]["stream"]["name"], summary))
    print(f"record  {out / RESULT}")
    return EXIT_OK


if __name__ == "__main__":
    sys.exit(run_verb(main))
