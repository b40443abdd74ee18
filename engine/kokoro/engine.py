"""KokoroEngine: text -> phonemes -> tokens -> one run of the graph -> silence off -> joined. All of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from engine.clock import Clock
from engine.contract import (
    AudioBlock,
    EngineFacts,
    InvalidRequest,
    StageTimes,
    Synthesis,
    SynthesisRequest,
)
from engine.kokoro.phonemes import Batch, Phonemes
from engine.kokoro.session import Model
from engine.kokoro.trim import trimmed
from engine.text.streaming import StreamRule

RATE_HZ = 24000
SLOWEST, FASTEST = 0.5, 2.0  # what kokoro-onnx allows
WHOLE_TEXT = 1 << 30


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Parts:
    """What a KokoroEngine is composed of. voices: name -> (510, 1, 256) float32, a row for every number of tokens.
    trim: silence off both ends of every run."""

    phonemes: Phonemes
    model: Model
    voices: Mapping[str, np.ndarray]
    trim: bool
    stream: StreamRule
    clock: Clock


class KokoroEngine:
    """Implements engine.contract.Engine."""

    def __init__(self, parts: Parts, facts: EngineFacts):
        self._parts, self._facts = parts, facts
        self._calls = 0
        self._spent = dict.fromkeys(("phonemes", "inference", "trim"), 0.0)

    @property
    def facts(self) -> EngineFacts:
        parts = self._parts
        own = {"calls": self._calls, "num_evals": parts.model.num_runs, "stage_s": dict(self._spent)}
        return replace(self._facts, proof={**self._facts.proof, **own, **parts.phonemes.proof()})

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        refuse_batch(requests, self._facts.max_batch)
        return [self._one(request) for request in requests]

    def _one(self, request: SynthesisRequest) -> Synthesis:
        clock = self._parts.clock
        marks = [clock.now_s()]
        voice, batches = self._begin(request)
        marks.append(clock.now_s())
        raw = [self._run(batch, voice, request.speed_ratio) for batch in batches]
        marks.append(clock.now_s())
        audio_S = np.concatenate(
            [piece for one, batch in zip(raw, batches, strict=True) for piece in ended(one, batch, self._parts.trim)]
        )
        marks.append(clock.now_s())
        stages = StageTimes(
            frontend_s=marks[1] - marks[0], denoise_s=marks[2] - marks[1], vocoder_s=0.0, join_s=marks[3] - marks[2]
        )
        for stage, seconds in zip(self._spent, (stages.frontend_s, stages.denoise_s, stages.join_s), strict=True):
            self._spent[stage] += seconds
        return spoken(request, audio_S, len(batches), inputs_sha256(batches, voice, request.speed_ratio), stages)

    def stream(self, request: SynthesisRequest) -> Iterator[AudioBlock]:
        """By clause: each is spelt and spoken alone, so it sounds as a sentence of its own would."""
        texts = self._parts.stream.split(request.text, WHOLE_TEXT) or [request.text]
        for place, text in enumerate(texts):
            voice, batches = self._begin(replace(request, text=text))
            for batch in batches:
                audio_S = np.concatenate(ended(self._run(batch, voice, request.speed_ratio), batch, self._parts.trim))
                yield AudioBlock(audio_S=audio_S, sample_rate_hz=RATE_HZ, chunk=place, num_evals=1)

    def _begin(self, request: SynthesisRequest) -> tuple[np.ndarray, list[Batch]]:
        check_request(request, tuple(self._parts.voices))
        self._calls += 1
        return self._parts.voices[request.style], self._parts.phonemes.batches(request.text, request.utterance_id)

    def _run(self, batch: Batch, voice: np.ndarray, speed_ratio: float) -> np.ndarray:
        return self._parts.model.run(batch.tokens, style_of(voice, batch), speed_ratio)

    def close(self) -> None:
        """Drop the parts; the engine cannot be used afterwards. Closing it again does nothing."""
        parts = vars(self).pop("_parts", None)
        if parts is not None:
            parts.phonemes.close()

    def __enter__(self) -> KokoroEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def ended(raw_S: np.ndarray, batch: Batch, trim: bool) -> list[np.ndarray]:
    """Without the silence at both ends, and with the pause that the text asks for; untrimmed as it is."""
    if not trim:
        return [raw_S]
    return [trimmed(raw_S), np.zeros(int(batch.pause_s * RATE_HZ), dtype=np.float32)]


def style_of(voice: np.ndarray, batch: Batch) -> np.ndarray:
    """(1, 256): the row of so many tokens."""
    return np.asarray(voice[min(len(batch.tokens), len(voice)) - 1])


def refuse_batch(requests: Sequence[SynthesisRequest], most: int) -> None:
    if len(requests) > most:
        raise ValueError(f"{len(requests)} requests in a batch, this engine takes {most}")


def check_request(request: SynthesisRequest, styles: Sequence[str]) -> None:
    """Raises InvalidRequest for a voice that the model has not, a speed that it does not take, or a fixed length."""
    name = request.utterance_id
    if request.style not in styles:
        raise InvalidRequest(
            f"style of {name}", repr(request.style), f"must be one of {', '.join(styles)}", "see conf/reference"
        )
    if not SLOWEST <= request.speed_ratio <= FASTEST:
        raise InvalidRequest(
            f"speed_ratio of {name}", request.speed_ratio, f"must be from {SLOWEST:g} to {FASTEST:g}", "use 1.0"
        )
    if request.num_frames is not None:
        raise InvalidRequest(
            f"num_frames of {name}", request.num_frames, "the model sets its own lengths", "leave it out"
        )


def inputs_sha256(batches: Sequence[Batch], voice: np.ndarray, speed_ratio: float) -> str:
    """Of all that the graph is given, as contract.Synthesis wants it where no noise is drawn: tokens, style, speed."""
    digest = hashlib.sha256(np.float32(speed_ratio).tobytes())
    for batch in batches:
        digest.update(np.array([len(batch.tokens), *batch.tokens], dtype=np.int64).tobytes())
        digest.update(np.ascontiguousarray(style_of(voice, batch), dtype=np.float32).tobytes())
    return f"inputs:{digest.hexdigest()}"


def spoken(request: SynthesisRequest, audio_S: np.ndarray, num_runs: int, inputs: str, stages: StageTimes) -> Synthesis:
    return Synthesis(
        utterance_id=request.utterance_id,
        audio_S=np.asarray(audio_S, dtype=np.float32),
        sample_rate_hz=RATE_HZ,
        mel_ND=np.zeros((len(audio_S), 0), dtype=np.float32),
        num_evals=num_runs,
        num_chunks=num_runs,
        noise_sha256=inputs,
        stages=stages,
    )
