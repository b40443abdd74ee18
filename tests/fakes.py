"""An engine with exact answers and a clock that moves only when told, behind the real contract.

As a program (`python -m tests.fakes JOBDIR`) it is a worker whose engine is a fake. What it does hangs on its name:
fp32 and upstream speak, bf16 speaks with an error of -60 dB, fp16 is unsupported, int8 raises in its third call, amp is
killed in it. FAKE_NAME=BEHAVIOUR in the environment gives an engine another: refuse, raise, die, hang, interrupt, hog
(asks for more memory than there is), grow (asks for 2 GiB, then speaks), exit (the process ends inside the call, as a
device library may), "" (speaks).
FAKE_CALL_S: what a call takes. FAKE_WEIGHTS=1: the hash of the configured weights stands in the facts.
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any

import numpy as np

from engine.clock import Clock
from engine.contract import AudioBlock, EngineFacts, StageTimes, Synthesis, SynthesisRequest, UnsupportedEngine
from engine.weights.checkpoint import content_sha256, locate
from experiments.measuring import worker
from experiments.measuring.calibration import Calibration
from experiments.measuring.measure import MeasurePlan, Probes

RATE_HZ, HOP, MEL_BINS = 24000, 256, 100
CHARS_PER_S = 14
BROKEN = "RuntimeError: the quantiser\nfell over"


@dataclass
class FakeClock:
    """Moves by what is added; keeps every call in `log`."""

    t_s: float = 100.0
    log: list[str] = field(default_factory=list)

    def now_s(self) -> float:
        self.log.append("now")
        return self.t_s

    def sync(self) -> None:
        self.log.append("sync")

    def cpu_s(self) -> float:
        self.log.append("cpu")
        return self.t_s * 2  # two threads, both busy


def frames_of(text: str) -> int:
    """Frames of a sentence at the fake's speaking rate."""
    return max(16, round(len(text) / CHARS_PER_S * RATE_HZ / HOP))


def pitch_of(utterance_id: str) -> float:
    """Hz; sentences of other names sound differently, as replayed audio is refused."""
    return 100.0 + 7.0 * (sum(utterance_id.encode()) % 17)


def speech(num_samples: int, pitch_hz: float) -> np.ndarray:
    """(S,) float32 that the validity rules accept: a tone whose loudness moves like syllables."""
    t = np.arange(num_samples) / RATE_HZ
    return (0.2 * np.sin(2 * np.pi * pitch_hz * t) * (0.7 + 0.3 * np.sin(2 * np.pi * 4 * t))).astype(np.float32)


def facts(name: str = "fp32", steps: int = 7, evals_per_step: int = 1) -> EngineFacts:
    return EngineFacts(
        name=name, denoiser="fake", precision=name, solver=f"euler_{steps}", steps=steps, evals_per_step=evals_per_step,
        time_grid=tuple(i / steps for i in range(steps + 1)), sway=0.0, cfg_strength=2.0, vocoder="fake:0",
        model="fake", device_name="cpu", num_threads=1, weights_bytes=4, weights_sha256="0" * 64, random_weights=False,
        sample_rate_hz=RATE_HZ, max_batch=1, versions={"fake": "1"}, proof={"calls": 0},
    )  # fmt: skip


class FakeEngine:
    """Speaks tones. Every call takes `seconds` of the clock that it is given; `audio_gain` changes repeat by repeat."""

    def __init__(self, built: EngineFacts, clock: FakeClock | None = None, seconds: float = 0.25):
        self.facts = built
        self.calls: list[str] = []
        self.closed = False
        self._clock, self._seconds = clock, seconds

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        return [self._one(request) for request in requests]

    def _one(self, request: SynthesisRequest) -> Synthesis:
        self.calls.append(request.utterance_id)
        time.sleep(float(os.environ.get("FAKE_CALL_S", "0")))
        if self._clock is not None:
            self._clock.log.append(f"synthesize {request.utterance_id}")
            self._clock.t_s += self._seconds
        num_frames = frames_of(request.text)
        audio_S = speech((num_frames - 1) * HOP, pitch_of(request.utterance_id))
        if self.facts.name == "bf16":
            audio_S = audio_S + np.float32(1e-3) * speech(len(audio_S), 3000.0)
        noise = hashlib.sha256(f"{request.utterance_id} {request.seed} {num_frames}".encode()).hexdigest()
        return Synthesis(
            utterance_id=request.utterance_id,
            audio_S=audio_S,
            sample_rate_hz=RATE_HZ,
            mel_ND=np.zeros((num_frames, MEL_BINS), dtype=np.float32),
            num_evals=self.facts.steps * self.facts.evals_per_step,
            num_chunks=1,
            noise_sha256=noise,
            stages=StageTimes(frontend_s=0.01, denoise_s=0.2, vocoder_s=0.03, join_s=0.01),
        )

    def stream(self, request: SynthesisRequest) -> Iterator[AudioBlock]:
        """The same audio in two halves; each takes half of `seconds`."""
        whole = self._one(request)
        if self._clock is not None:
            self._clock.t_s -= self._seconds
        for chunk, audio_S in enumerate(np.array_split(whole.audio_S, 2)):
            if self._clock is not None:
                self._clock.t_s += self._seconds / 2
            yield AudioBlock(audio_S=audio_S, sample_rate_hz=RATE_HZ, chunk=chunk, num_evals=whole.num_evals // 2)

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> FakeEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class FailingEngine(FakeEngine):
    """Does `then` at its third call."""

    def __init__(self, built: EngineFacts, then: str):
        super().__init__(built)
        self._then = then

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        if len(self.calls) == 2:
            if self._then == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            if self._then == "interrupt":
                os.kill(os.getppid(), signal.SIGINT)
            if self._then == "hog":
                np.ones(1 << 50, dtype=np.uint8)
            if self._then == "grow":
                np.empty(1 << 31, dtype=np.uint8)
                return super().synthesize(requests)
            if self._then == "exit":
                os._exit(7)
            if self._then in ("interrupt", "hang"):
                while True:
                    signal.pause()
            raise RuntimeError(BROKEN.partition(": ")[2])
        return super().synthesize(requests)


def calibrate_with(clock: FakeClock) -> Calibration:
    clock.log.append("calibrate")
    clock.t_s += 0.03
    return Calibration(wall_s=0.03, cpu_s=0.06)


def request(name: str) -> SynthesisRequest:
    """A sentence of a measuring loop; `facts`, `plan` and `probes` are what else such a loop takes."""
    return SynthesisRequest(
        utterance_id=name, text=f"this is {name}", ref_audio_S=np.zeros(10, np.float32), ref_sample_rate_hz=24000,
        ref_text="a",
    )  # fmt: skip


def plan(**changes: float) -> MeasurePlan:
    """One warm-up round, two rounds, one calibration in each."""
    default = MeasurePlan(
        warmup_rounds=1, rounds=2, order_seed=0, time_limit_s=1e6, warmup_utterances=99, calibrations_per_round=1
    )
    return replace(default, **changes)


def probes(clock: FakeClock, calibrated: bool = True) -> Probes:
    """Everything that a loop asks of its machine, answered and logged by the clock."""

    def peak_bytes() -> int:
        clock.log.append("peak")
        return 1000

    return Probes(
        clock=clock,
        reset_peak=lambda: clock.log.append("reset peak"),
        peak_bytes=peak_bytes,
        after_round=lambda: clock.log.append("round over"),
        calibrations={"gemm": lambda: calibrate_with(clock)} if calibrated else {},
        cpu_s=clock.cpu_s,
        unix_s=lambda: 1.5e9,
    )


def build(config: Mapping[str, Any], clock: Clock) -> FakeEngine:
    """The build function of the fake worker. FAKE_ENGINE in the environment overrides what an engine does."""
    name, steps = config["engine"]["name"], config["solver"]["steps"] or config["solver"]["num_evals"] // 2
    built = replace(
        facts(name, steps, 1 if config["solver"]["method"] == "euler" else 2),
        cfg_strength=config["solver"]["cfg_strength"],
    )
    if os.environ.get("FAKE_WEIGHTS"):
        weights = content_sha256(locate("model.checkpoint", config["model"]["checkpoint"]))
        built = replace(built, weights_sha256=weights)
    behaviour = os.environ.get(f"FAKE_{name.upper()}", {"fp16": "refuse", "int8": "raise", "amp": "die"}.get(name, ""))
    if behaviour == "refuse":
        raise UnsupportedEngine("fp16 has no kernels here", "use engine=bf16")
    return FailingEngine(built, behaviour) if behaviour else FakeEngine(built)


if __name__ == "__main__":
    sys.exit(worker.main(sys.argv[1:], build))
