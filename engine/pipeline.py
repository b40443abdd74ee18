"""F5Engine: front end -> speak (solve, vocode) -> join. The one pipeline behind all of our own variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
import torch

from engine.clock import Clock
from engine.contract import AudioBlock, EngineFacts, StageTimes, Synthesis, SynthesisRequest, UnsupportedEngine
from engine.frontend import Chunk, FrontEnd, Prepared
from engine.noise import initial_noise, noise_key, noise_sha256
from engine.postprocess import Fade, Joiner, join_chunks
from engine.solver.methods import SolverSpec
from engine.solver.sampler import Denoiser, StepSampler
from engine.speaking import Job, Speaker, Spoken, StagedSpeaker
from engine.step.precision import tf32_allowed
from engine.text.streaming import StreamRule


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Parts:
    """What an F5Engine is composed of. fade and target_rms as upstream's cross_fade_duration and target_rms; stream:
    where a streamed text is cut."""

    frontend: FrontEnd
    speaker: Speaker
    solver: SolverSpec
    clock: Clock
    mel_bins: int
    target_rms: float
    fade: Fade
    stream: StreamRule


class F5Engine:
    """Implements engine.contract.Engine."""

    def __init__(self, parts: Parts, facts: EngineFacts):
        self._parts = parts
        self._facts = facts
        self._calls = 0

    @property
    def facts(self) -> EngineFacts:
        parts = self._parts
        proof = {
            "calls": self._calls,
            "tf32_allowed": tf32_allowed(),
            **parts.frontend.proof(),
            **parts.speaker.proof(),
        }
        return replace(self._facts, proof=proof)

    def tap(self, wrap: Callable[[Denoiser], Denoiser]) -> None:
        """Put something around the denoiser. Raises UnsupportedEngine where the whole solve is one call."""
        speaker = self._parts.speaker
        if not isinstance(speaker, StagedSpeaker) or not isinstance(speaker.sampler, StepSampler):
            raise UnsupportedEngine(
                f"{self._facts.name} solves in one call: its evaluations cannot be looked at one by one",
                "use an engine that evaluates step by step",
            )
        speaker.sampler.tap(wrap)

    @torch.inference_mode()
    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        """Chunks of all requests share solves where their lengths are near; stage times are the whole call's."""
        if len(requests) > self._facts.max_batch:
            raise ValueError(f"{len(requests)} requests in a batch, this engine takes {self._facts.max_batch}")
        parts, clock = self._parts, self._parts.clock
        self._calls += 1
        marks = [clock.now_s()]
        jobs = [job for i, request in enumerate(requests) for job in self._jobs(i, request)]
        marks.append(clock.now_s())
        said = parts.speaker.speak(jobs)
        marks.append(clock.now_s())
        pairs = list(zip(jobs, said.spoken, strict=True))
        found = [[(job, spoken) for job, spoken in pairs if job.request == i] for i in range(len(requests))]
        audios = [join_chunks([spoken.wave_S for _, spoken in own], parts.fade) for own in found]
        marks.append(clock.now_s())
        stages = StageTimes(
            frontend_s=marks[1] - marks[0], denoise_s=said.denoise_s, vocoder_s=said.vocoder_s,
            join_s=marks[3] - marks[2],
        )  # fmt: skip
        return [
            self._result(request, own, audio_S, stages)
            for request, own, audio_S in zip(requests, found, audios, strict=True)
        ]

    @torch.inference_mode()
    def stream(self, request: SynthesisRequest) -> Iterator[AudioBlock]:
        """Chunk by chunk, each solved alone; the end that the next cross-fade may change comes with the next block."""
        parts, joiner = self._parts, Joiner(self._parts.fade)
        self._calls += 1
        prepared = parts.frontend.prepare(request, parts.target_rms, parts.stream.split)
        last, num_evals = len(prepared.chunks) - 1, 0
        for place in range(last + 1):
            spoken = parts.speaker.speak([self._job(0, request, prepared, place)]).spoken[0]
            num_evals += spoken.num_evals
            audio_S = joiner.add(spoken.wave_S)
            if place == last:
                audio_S = np.concatenate((audio_S, joiner.finish()))
            if len(audio_S):
                yield AudioBlock(
                    audio_S=audio_S, sample_rate_hz=self._facts.sample_rate_hz, chunk=place, num_evals=num_evals
                )
                num_evals = 0

    def _result(
        self, request: SynthesisRequest, own: Sequence[tuple[Job, Spoken]], audio_S: np.ndarray, stages: StageTimes
    ) -> Synthesis:
        return Synthesis(
            utterance_id=request.utterance_id,
            audio_S=audio_S,
            sample_rate_hz=self._facts.sample_rate_hz,
            mel_ND=torch.cat([spoken.mel_ND for _, spoken in own]).cpu().numpy(),
            num_evals=sum(spoken.num_evals for _, spoken in own),
            num_chunks=len(own),
            noise_sha256=noise_sha256([job.noise_ND.numpy() for job, _ in own]),
            stages=stages,
        )

    def _jobs(self, index: int, request: SynthesisRequest) -> list[Job]:
        prepared = self._parts.frontend.prepare(request, self._parts.target_rms)
        return [self._job(index, request, prepared, i) for i in range(len(prepared.chunks))]

    def _job(self, index: int, request: SynthesisRequest, prepared: Prepared, place: int) -> Job:
        chunk = prepared.chunks[place]
        noise_ND = self._noise(request, chunk, place)
        return Job(index, prepared, chunk, noise_ND, self._parts.solver.choose(chunk.text))

    def _noise(self, request: SynthesisRequest, chunk: Chunk, index: int) -> torch.Tensor:
        key = noise_key(request.utterance_id, request.seed, chunk.num_frames, index)
        return initial_noise(key, chunk.num_frames, self._parts.mel_bins)

    def close(self) -> None:
        """Drop the parts; the engine cannot be used afterwards. Closing it again does nothing."""
        vars(self).pop("_parts", None)

    def __enter__(self) -> F5Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
