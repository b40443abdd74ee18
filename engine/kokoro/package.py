"""kokoro-onnx as its users run it, behind the contract: the peer to beat.

`Kokoro.create` runs as it is. Thin wrappers stand around its tokenizer and its session: they read the clock and keep
what the graph was given; they change nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any

import numpy as np

from engine.clock import Clock
from engine.contract import AudioBlock, EngineFacts, InvalidRequest, StageTimes, Synthesis, SynthesisRequest
from engine.kokoro.engine import check_request, inputs_sha256, refuse_batch, spoken
from engine.kokoro.phonemes import Batch
from engine.settings import ModelSettings

Make = Callable[[], Any]


class _Watched:
    """Stands where kokoro-onnx has its session; only `run` is called while it speaks."""

    def __init__(self, session: Any, package: PackageEngine):
        self._session, self._package = session, package

    def run(self, names: Any, feeds: Mapping[str, np.ndarray]) -> Any:
        return self._package.timed("inference", lambda: self._session.run(names, feeds), feeds)


class PackageEngine:
    """Implements engine.contract.Engine over kokoro_onnx.Kokoro. make: the package with its session; keep: made once,
    not anew for every call."""

    def __init__(self, make: Make, model: ModelSettings, keep: bool, facts: EngineFacts, clock: Clock):
        self._make, self._facts, self._clock = make, facts, clock
        self._options = {"lang": model["language"], "trim": model["trim"]}
        self._spent = dict.fromkeys(("session", "phonemes", "inference"), 0.0)
        self._fed: list[Mapping[str, np.ndarray]] = []
        self._calls = self._sessions = self._runs = 0
        self._kept = self._made() if keep else None

    @property
    def facts(self) -> EngineFacts:
        own = {
            "calls": self._calls, "num_evals": self._runs, "sessions": self._sessions, "stage_s": dict(self._spent),
        }  # fmt: skip
        return replace(self._facts, proof={**self._facts.proof, **own})

    def timed(self, stage: str, call: Callable[[], Any], feeds: Mapping[str, np.ndarray] | None = None) -> Any:
        before_s = self._clock.now_s()
        result = call()
        self._spent[stage] += self._clock.now_s() - before_s
        if feeds is not None:
            self._runs += 1
            self._fed.append(feeds)
        return result

    def _made(self) -> Any:
        package = self.timed("session", self._make)
        self._sessions += 1
        package.sess = _Watched(package.sess, self)
        spell = package.tokenizer.phonemize
        package.tokenizer.phonemize = lambda *asked, **more: self.timed("phonemes", lambda: spell(*asked, **more))
        return package

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        refuse_batch(requests, self._facts.max_batch)
        return [self._one(request) for request in requests]

    def _one(self, request: SynthesisRequest) -> Synthesis:
        started_s, before = self._clock.now_s(), dict(self._spent)
        package = self._begin(request)
        try:
            audio_S, _ = package.create(request.text, request.style, speed=request.speed_ratio, **self._options)
        except ValueError as error:
            raise _refused(request, error) from error
        total_s = self._clock.now_s() - started_s
        spent = {stage: seconds - before[stage] for stage, seconds in self._spent.items()}
        frontend_s = spent["session"] + spent["phonemes"]
        stages = StageTimes(
            frontend_s=frontend_s, denoise_s=spent["inference"], vocoder_s=0.0,
            join_s=max(0.0, total_s - frontend_s - spent["inference"]),
        )  # fmt: skip
        return spoken(request, audio_S, len(self._fed), self._inputs(package, request), stages)

    def stream(self, request: SynthesisRequest) -> Iterator[AudioBlock]:
        """The package's own create_stream: a block for every 510 phonemes at most, so one for most texts."""
        package, loop = self._begin(request), asyncio.new_event_loop()
        blocks = package.create_stream(request.text, request.style, speed=request.speed_ratio, **self._options)
        place = 0
        try:
            while True:
                try:
                    audio_S, rate_hz = loop.run_until_complete(anext(blocks))
                except StopAsyncIteration:
                    return
                except ValueError as error:
                    raise _refused(request, error) from error
                yield AudioBlock(audio_S=np.asarray(audio_S), sample_rate_hz=rate_hz, chunk=place, num_evals=1)
                place += 1
        finally:
            loop.run_until_complete(blocks.aclose())
            loop.close()

    def _begin(self, request: SynthesisRequest) -> Any:
        self._calls += 1
        self._fed = []
        if not request.text.strip():
            raise InvalidRequest(f"text of {request.utterance_id}", repr(request.text), "is empty", "write a sentence")
        package = self._kept or self._made()
        check_request(request, tuple(package.voices))
        return package

    def _inputs(self, package: Any, request: SynthesisRequest) -> str:
        """As ours, from what the session was really given."""
        tokens = [tuple(int(one) for one in next(iter(feeds.values())).ravel()[1:-1]) for feeds in self._fed]
        return inputs_sha256(
            [Batch(one, 0.0) for one in tokens], package.get_voice_style(request.style), request.speed_ratio
        )

    def close(self) -> None:
        for part in ("_make", "_kept"):
            vars(self).pop(part, None)

    def __enter__(self) -> PackageEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _refused(request: SynthesisRequest, error: ValueError) -> InvalidRequest:
    """What the package raises for a text without phonemes."""
    name = f"text of {request.utterance_id}"
    return InvalidRequest(name, repr(request.text), " ".join(str(error).split()), "write words of the language")
