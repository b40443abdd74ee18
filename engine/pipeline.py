"""F5Engine: front end -> bind -> solve -> vocode -> join. The one pipeline behind all of our own variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
import torch

from engine.batching import plan_batches
from engine.clock import Clock
from engine.contract import AudioBlock, EngineFacts, StageTimes, Synthesis, SynthesisRequest, UnsupportedEngine
from engine.frontend import Chunk, FrontEnd, Prepared
from engine.noise import initial_noise, noise_key, noise_sha256
from engine.postprocess import Fade, Joiner, join_chunks
from engine.solver.methods import SolverSpec
from engine.solver.sampler import Denoiser, Sampler, StepSampler
from engine.step.conditioner import Conditioner, stack
from engine.step.precision import tf32_allowed
from engine.text.streaming import StreamRule
from engine.vocoders.vocos import Vocoder, with_vocoder


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Parts:
    """What an F5Engine is composed of. fade and target_rms as upstream's cross_fade_duration and target_rms; stream:
    where a streamed text is cut."""

    frontend: FrontEnd
    conditioner: Conditioner
    sampler: Sampler
    solver: SolverSpec
    vocoder: Vocoder
    clock: Clock
    device: str
    mel_bins: int
    target_rms: float
    fade: Fade
    stream: StreamRule
    max_padding_frac: float


@dataclass(frozen=True, eq=False, slots=True)
class Job:
    """One chunk on its way to the solver: which request it belongs to, its noise x0 (N, D) float32 on the CPU, which of
    the solver's grids it is solved on."""

    request: int
    prepared: Prepared
    chunk: Chunk
    noise_ND: torch.Tensor
    grid: int


@dataclass(frozen=True, eq=False, slots=True)
class Solved:
    """The generated frames' mel (N, D) float32 on the device, and how often the velocity was evaluated for it."""

    mel_ND: torch.Tensor
    num_evals: int


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
            "dropped_text_cache_hits": parts.conditioner.dropped_text_hits,
            **parts.sampler.proof(),
        }
        return replace(self._facts, proof=with_vocoder(proof, parts.vocoder))

    def tap(self, wrap: Callable[[Denoiser], Denoiser]) -> None:
        """Put something around the denoiser. Raises UnsupportedEngine where the whole solve is one call."""
        sampler = self._parts.sampler
        if not isinstance(sampler, StepSampler):
            raise UnsupportedEngine(
                f"{self._facts.name} solves in one call: its evaluations cannot be looked at one by one",
                "use an engine that evaluates step by step",
            )
        sampler.tap(wrap)

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
        solved = self._solve(jobs)
        clock.sync()
        marks.append(clock.now_s())
        waves = [self._vocode(s.mel_ND) * np.float32(j.prepared.gain) for j, s in zip(jobs, solved, strict=True)]
        marks.append(clock.now_s())
        audios = [
            join_chunks(
                [wave for job, wave in zip(jobs, waves, strict=True) if job.request == i],
                parts.fade,
            )
            for i in range(len(requests))
        ]  # fmt: skip
        marks.append(clock.now_s())
        stages = StageTimes(
            frontend_s=marks[1] - marks[0],
            denoise_s=marks[2] - marks[1],
            vocoder_s=marks[3] - marks[2],
            join_s=marks[4] - marks[3],
        )
        return [
            self._result(
                request, [(j, s) for j, s in zip(jobs, solved, strict=True) if j.request == i], audio_S, stages
            )
            for i, (request, audio_S) in enumerate(zip(requests, audios, strict=True))
        ]

    @torch.inference_mode()
    def stream(self, request: SynthesisRequest) -> Iterator[AudioBlock]:
        """Chunk by chunk, each solved alone; the end that the next cross-fade may change comes with the next block."""
        parts, joiner = self._parts, Joiner(self._parts.fade)
        self._calls += 1
        prepared = parts.frontend.prepare(request, parts.target_rms, parts.stream.split)
        last, num_evals = len(prepared.chunks) - 1, 0
        for place in range(last + 1):
            solved = self._solve_batch([self._job(0, request, prepared, place)])[0]
            num_evals += solved.num_evals
            audio_S = joiner.add(self._vocode(solved.mel_ND) * np.float32(prepared.gain))
            if place == last:
                audio_S = np.concatenate((audio_S, joiner.finish()))
            if len(audio_S):
                yield AudioBlock(
                    audio_S=audio_S, sample_rate_hz=self._facts.sample_rate_hz, chunk=place, num_evals=num_evals
                )
                num_evals = 0

    def _result(
        self, request: SynthesisRequest, own: Sequence[tuple[Job, Solved]], audio_S: np.ndarray, stages: StageTimes
    ) -> Synthesis:
        return Synthesis(
            utterance_id=request.utterance_id,
            audio_S=audio_S,
            sample_rate_hz=self._facts.sample_rate_hz,
            mel_ND=torch.cat([solved.mel_ND for _, solved in own]).cpu().numpy(),
            num_evals=sum(solved.num_evals for _, solved in own),
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

    def _solve(self, jobs: Sequence[Job]) -> list[Solved]:
        """Only chunks of one grid share a solve."""
        done: dict[int, Solved] = {}
        for grid in sorted({job.grid for job in jobs}):
            places = [i for i, job in enumerate(jobs) if job.grid == grid]
            lengths = [jobs[i].chunk.num_frames for i in places]
            for batch in plan_batches(lengths, self._facts.max_batch, self._parts.max_padding_frac):
                own = [places[i] for i in batch]
                done.update(zip(own, self._solve_batch([jobs[i] for i in own]), strict=True))
        return [done[i] for i in range(len(jobs))]

    def _solve_batch(self, jobs: Sequence[Job]) -> list[Solved]:
        """One solve for all of `jobs` (of one grid); the reference's frames are cut off, as upstream counts them."""
        parts, before = self._parts, self._parts.sampler.num_evals
        conditioning = stack(
            [
                parts.conditioner.constants(
                    j.chunk.token_ids, j.prepared.reference.mel_ND, j.chunk.num_frames, parts.solver.guided
                )
                for j in jobs
            ]
        )
        x0 = torch.nn.utils.rnn.pad_sequence([job.noise_ND for job in jobs], batch_first=True)
        x = parts.sampler.sample(conditioning, x0.to(parts.device), jobs[0].grid)
        num_evals = parts.sampler.num_evals - before
        solved = []
        for job, x_ND in zip(jobs, x, strict=True):
            ref_ND = job.prepared.reference.mel_ND
            # Upstream writes the reference back over its own frames, with a centred mel one more than it cuts off
            x_ND[: len(ref_ND)] = ref_ND.to(x_ND.device)
            solved.append(Solved(x_ND[job.chunk.ref_frames : job.chunk.num_frames], num_evals))
        return solved

    def _vocode(self, mel_ND: torch.Tensor) -> np.ndarray:
        audio = self._parts.vocoder.decode(mel_ND.T[None])
        return audio[0].float().cpu().numpy()

    def close(self) -> None:
        """Drop the parts; the engine cannot be used afterwards. Closing it again does nothing."""
        vars(self).pop("_parts", None)

    def __enter__(self) -> F5Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
