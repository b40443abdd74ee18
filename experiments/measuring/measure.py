"""The measuring loop: first call, warm-up, then rounds over all utterances in shuffled order.

The timed region is `synthesize` alone, device-synchronised at both ends, with the garbage collector switched off. Every
trial is in the journal, on the disk, before the next one starts. Knows no engine, no folder and no torch.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from engine.clock import Clock
from engine.contract import Engine, Synthesis, SynthesisRequest
from experiments.common.journal import JournalWriter
from experiments.common.plain import MeasureSettings
from experiments.measuring.calibration import Calibration
from experiments.measuring.timed import collector_off, time_call
from experiments.measuring.warmup import WINDOW_ROUNDS, Timed, warm_up
from metrics.record import Trial


class OutOfTime(Exception):
    """The time limit was reached between two trials; what was measured is in the journal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasurePlan:
    """How often. A round is one pass over all utterances; a warm-up round takes only some of them, always the same.

    warmup_rounds: at most; warm-up ends earlier when it is steady. calibrations_per_round: of each kind.
    """

    warmup_rounds: int
    rounds: int
    order_seed: int
    time_limit_s: float
    warmup_utterances: int = 3
    calibrations_per_round: int = 4

    def num_trials(self, num_utterances: int) -> int:
        """First call not included, of warm-up the rounds that a steady engine takes."""
        warm = min(self.warmup_rounds, WINDOW_ROUNDS)
        return warm * min(self.warmup_utterances, num_utterances) + self.rounds * num_utterances


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Probes:
    """What is read around a call. cpu_s: CPU seconds of all threads of this process.

    reset_peak starts a new memory peak after warm-up; after_round is called between rounds, where slow readings belong.
    calibrations: by the name of their work. counters: what must not change in the timed region (metrics.speed.steady).
    """

    clock: Clock
    reset_peak: Callable[[], None]
    peak_bytes: Callable[[], int]
    after_round: Callable[[], None]
    calibrations: Mapping[str, Callable[[], Calibration]]
    counters: Callable[[], Mapping[str, int]] = dict
    cpu_s: Callable[[], float] = time.process_time
    unix_s: Callable[[], float] = time.time


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Measured:
    """The audio of the first steady round by utterance id, and whether every later round repeated it bit by bit."""

    spoken: Mapping[str, Synthesis]
    repeats_identical: Mapping[str, bool]


@dataclass(frozen=True, slots=True, eq=False)
class _Call:
    """One timed call."""

    synthesis: Synthesis
    wall_s: float
    cpu_s: float
    started_unix_s: float


@dataclass(slots=True, eq=False)
class _Heard:
    """What is kept of the steady rounds."""

    spoken: dict[str, Synthesis] = field(default_factory=dict)
    identical: dict[str, bool] = field(default_factory=dict)

    def take(self, synthesis: Synthesis) -> None:
        name = synthesis.utterance_id
        if name not in self.spoken:
            self.spoken[name] = synthesis
            return
        same = same_bits(self.spoken[name].audio_S, synthesis.audio_S)
        self.identical[name] = self.identical.get(name, True) and same


def plan_for(measure: MeasureSettings, num_evals: int) -> MeasurePlan:
    """The plan of the `measure` group for an engine that makes num_evals velocity evaluations per chunk."""
    slow = num_evals >= measure["slow_from_evals"]
    return MeasurePlan(
        warmup_rounds=int(measure["slow_warmup_rounds" if slow else "warmup_rounds"]),
        rounds=int(measure["slow_rounds" if slow else "rounds"]),
        order_seed=int(measure["order_seed"]),
        time_limit_s=float(measure["time_limit_s"]),
        warmup_utterances=int(measure["warmup_utterances"]),
        calibrations_per_round=int(measure["calibrations_per_round"]),
    )


def measure(
    engine: Engine, requests: Sequence[SynthesisRequest], plan: MeasurePlan, probes: Probes, journal: JournalWriter
) -> Measured:
    """Raises OutOfTime between trials when the limit is reached, and whatever the engine raises."""
    deadline_s = probes.clock.now_s() + plan.time_limit_s
    first = _timed(engine, requests[0], probes)
    journal.append("first_call", {"first_call_s": first.wall_s, "utterance_id": first.synthesis.utterance_id})
    loop = TrialLoop(engine, requests, plan, probes, journal, deadline_s)
    journal.append("warm_up", asdict(warm_up(loop.warmup_round, plan.warmup_rounds, probes.counters)))
    probes.reset_peak()
    before = probes.counters()
    for repeat in range(plan.rounds):
        loop.round(repeat, loop.requests, is_warmup=False)
    journal.append("counters", {"before": dict(before), "after": dict(probes.counters())})
    return Measured(spoken=loop.heard.spoken, repeats_identical=loop.heard.identical)


def same_bits(a_S: np.ndarray, b_S: np.ndarray) -> bool:
    """Whether two float32 arrays are the same bit by bit, NaN included."""
    return a_S.shape == b_S.shape and a_S.dtype == b_S.dtype and a_S.tobytes() == b_S.tobytes()


@dataclass(slots=True, eq=False)
class TrialLoop:
    """The state of a measurement; `trial` is one turn of the loop, everything of the harness included."""

    engine: Engine
    requests: Sequence[SynthesisRequest]
    plan: MeasurePlan
    probes: Probes
    journal: JournalWriter
    deadline_s: float
    heard: _Heard = field(default_factory=_Heard)
    num_done: int = 0

    def warmup_round(self, repeat: int, every_sentence: bool) -> list[Timed]:
        """The same few utterances in every warm-up round, so that a slope is the engine's; their times."""
        chance = random.Random(f"{self.plan.order_seed}/warmup")
        few = chance.sample(list(self.requests), min(self.plan.warmup_utterances, len(self.requests)))
        return self.round(repeat, self.requests if every_sentence else few, is_warmup=True)

    def round(self, repeat: int, requests: Sequence[SynthesisRequest], *, is_warmup: bool) -> list[Timed]:
        """These utterances once, the calibrations at random places among them; what each call took."""
        gc.collect()
        chance = random.Random(f"{self.plan.order_seed}/{is_warmup}/{repeat}")
        turns: list[str | SynthesisRequest] = list(requests)
        chance.shuffle(turns)
        for _ in range(self.plan.calibrations_per_round):
            for work in self.probes.calibrations:
                turns.insert(chance.randrange(len(turns) + 1), work)
        timed: list[Timed] = []
        for turn in turns:
            if isinstance(turn, str):
                self._calibrate(turn, repeat, is_warmup)
            else:
                timed.append((turn.utterance_id, self.trial(turn, repeat, is_warmup)))
        self.probes.after_round()
        return timed

    def _calibrate(self, work: str, repeat: int, is_warmup: bool) -> None:
        with collector_off():
            reading = self.probes.calibrations[work]()
        self.journal.append("calibration", {"work": work, "repeat": repeat, "is_warmup": is_warmup, **asdict(reading)})

    def trial(self, request: SynthesisRequest, repeat: int, is_warmup: bool) -> float:
        """One turn of the loop; the wall seconds of its call."""
        if self.probes.clock.now_s() >= self.deadline_s:
            total = self.plan.num_trials(len(self.requests))
            raise OutOfTime(
                f"time limit of {self.plan.time_limit_s:g} s reached, {self.num_done} of {total} trials made"
            )
        call = _timed(self.engine, request, self.probes)
        self.journal.append("trial", _content(call, repeat, is_warmup, self.probes.peak_bytes()))
        self.num_done += 1
        if not is_warmup:
            self.heard.take(call.synthesis)
        return call.wall_s


def _timed(engine: Engine, request: SynthesisRequest, probes: Probes) -> _Call:
    """One call of `synthesize` alone."""
    started_unix_s = probes.unix_s()
    with collector_off():
        call = time_call(probes.clock, lambda: engine.synthesize([request]), probes.cpu_s)
    answered = [result.utterance_id for result in call.result]
    if answered != [request.utterance_id]:
        raise ValueError(f"asked for {request.utterance_id}, the engine returned {answered}")
    return _Call(call.result[0], call.wall_s, call.cpu_s, started_unix_s)


def _content(call: _Call, repeat: int, is_warmup: bool, peak_bytes: int) -> dict[str, Any]:
    synthesis = call.synthesis
    trial = Trial(
        utterance_id=synthesis.utterance_id,
        repeat=repeat,
        wall_s=call.wall_s,
        cpu_s=call.cpu_s,
        audio_s=len(synthesis.audio_S) / synthesis.sample_rate_hz,
        frontend_s=synthesis.stages.frontend_s,
        denoise_s=synthesis.stages.denoise_s,
        vocoder_s=synthesis.stages.vocoder_s,
        join_s=synthesis.stages.join_s,
        enhance_s=synthesis.stages.enhance_s,
        num_evals=synthesis.num_evals,
        peak_bytes=peak_bytes,
        started_unix_s=call.started_unix_s,
        is_warmup=is_warmup,
    )
    return asdict(trial)
