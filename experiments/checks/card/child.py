"""One engine of the GPU check, built once: `python -m experiments.checks.card.child OUT NAME GUIDANCE ROUNDS_S
FRAMES [OVERRIDE ...]`.

Its one build speaks the cases that equality and correctness are judged by, each twice, and is then timed on the longest
for ROUNDS_S seconds (0: not at all). FRAMES: generated frames of the cases, with commas. OUT/NAME-GUIDANCE.json says
after every stage how far it came, OUT/NAME-GUIDANCE/ holds what was spoken: whoever started this may end it at any time
and has what is there. Started by experiments.checks.card.steps.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from engine.clock import Clock, make_clock
from engine.contract import ConfigError, Engine, Synthesis, SynthesisRequest, UnsupportedEngine
from engine.runtimes.onnx_package import runtime_failures
from experiments.checks.card.cases import PEAKS, batches, engine_of
from experiments.measuring.engines import facts_content
from experiments.measuring.peaks import gemm_peaks
from experiments.measuring.timed import time_call
from experiments.settings.compose import compose_config
from metrics.parts.facts import Facts
from metrics.process import settle
from metrics.record import to_json, write_atomically

FAILURES: tuple[type[Exception], ...] = (ConfigError, *runtime_failures())
FEWEST_CALLS, MOST_CALLS, WARM_CALLS = 3, 60, 2


@dataclass(slots=True)
class Told:
    """status: starting, built, spoken, timed; skipped or failed with its reason. cases: what was spoken, in order."""

    engine: str
    guidance: str
    status: str = "starting"
    reason: str | None = None
    precision: str | None = None
    build_s: float | None = None
    first_call_s: float | None = None
    cases: list[str] = field(default_factory=list)
    repeats_equal: bool | None = None
    walls_s: list[float] = field(default_factory=list)
    stages_s: list[dict[str, float]] = field(default_factory=list)
    audio_s: float | None = None
    peaks: dict[str, Any] = field(default_factory=dict)
    facts: Facts = field(default_factory=Facts)

    def write(self, folder: Path) -> None:
        write_atomically(folder / f"{self.engine}-{self.guidance}.json", to_json(asdict(self)) + "\n")


def main(argv: Sequence[str]) -> int:
    """0 whenever a file was written that says how it ended."""
    settle()
    folder, told = Path(argv[0]), Told(engine=argv[1], guidance=argv[2])
    told.write(folder)
    try:
        if told.engine == PEAKS:
            _peaks(told, argv[5:])
        else:
            cases = list(batches(argv[5:], [int(frames) for frames in argv[4].split(",")]))
            _prove(folder, told, float(argv[3]), cases, argv[5:])
    except UnsupportedEngine as refusal:
        told.status, told.reason = "skipped", f"{refusal.reason}; {refusal.remedy}"
    except FAILURES as failure:
        told.status = "failed"
        told.reason = f"{type(failure).__name__}: {(str(failure).splitlines() or [''])[0]}"
    told.write(folder)
    return 0


def _peaks(told: Told, overrides: Sequence[str]) -> None:
    config = compose_config(["engine=bf16", *overrides])
    told.peaks = gemm_peaks(config, make_clock(str(config["device"]["kind"])))
    told.status = "timed"


Cases = Sequence[tuple[str, list[SynthesisRequest]]]


def _prove(folder: Path, told: Told, rounds_s: float, cases: Cases, overrides: Sequence[str]) -> None:
    clock = make_clock(str(compose_config([f"engine={told.engine}", *overrides])["device"]["kind"]))
    before_s = clock.now_s()
    with engine_of(told.engine, overrides, told.guidance) as engine:
        clock.sync()
        told.build_s, told.precision, told.status = clock.now_s() - before_s, engine.facts.precision, "built"
        told.write(folder)
        for place, (name, asks) in enumerate(cases):
            if len(asks) > engine.facts.max_batch:
                continue
            call = time_call(clock, partial(engine.synthesize, asks))
            told.first_call_s = call.wall_s if told.first_call_s is None else told.first_call_s
            again = engine.synthesize(asks)  # of a captured engine a replay of what was captured
            same = all(map(_same, call.result, again))
            told.repeats_equal = same and told.repeats_equal is not False
            keep(folder / f"{told.engine}-{told.guidance}", place, call.result)
            told.cases.append(name)
            told.write(folder)
        told.status = "spoken"
        if rounds_s > 0:
            longest = [asks[0] for _, asks in cases if len(asks) == 1][-1]
            _time(folder, told, engine, longest, rounds_s, clock)
            told.status = "timed"
        told.facts = facts_content(engine.facts)


def _time(folder: Path, told: Told, engine: Engine, ask: SynthesisRequest, rounds_s: float, clock: Clock) -> None:
    """Whole calls, drained at both ends; after some that do not count."""
    for _ in range(WARM_CALLS):
        engine.synthesize([ask])
    began_s = clock.now_s()
    while len(told.walls_s) < FEWEST_CALLS or (
        len(told.walls_s) < MOST_CALLS and clock.now_s() - began_s < rounds_s
    ):  # fmt: skip
        call = time_call(clock, lambda: engine.synthesize([ask])[0])
        told.walls_s.append(call.wall_s)
        told.stages_s.append(asdict(call.result.stages))
        told.audio_s = len(call.result.audio_S) / call.result.sample_rate_hz
        told.write(folder)


def keep(folder: Path, place: int, spoken: Sequence[Synthesis]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for i, one in enumerate(spoken):
        np.savez(folder / f"{place}-{i}.npz", mel_ND=one.mel_ND, audio_S=one.audio_S)


def _same(one: Synthesis, other: Synthesis) -> bool:
    return np.array_equal(one.audio_S, other.audio_S) and np.array_equal(one.mel_ND, other.mel_ND)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
