"""From prepared chunks to sound: what the pipeline asks for, and how it is done stage by stage.

A backend that makes the whole of it one call implements `Speaker` itself. Shape letters: B batch, N mel frames, D mel
bins, S samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from engine.clock import Clock
from engine.contract import Proof
from engine.frontend import Chunk, Prepared
from engine.solver.methods import SolverSpec
from engine.solver.sampler import Sampler
from engine.step.batching import plan_batches
from engine.step.conditioner import Conditioner, stack
from engine.vocoders.vocos import Vocoder, with_vocoder


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
class Spoken:
    """What became of a job: the generated frames' mel (N, D) float32, their sound (S,) float32 at the voice's loudness,
    and how often the velocity was evaluated for it."""

    mel_ND: torch.Tensor
    wave_S: np.ndarray
    num_evals: int


@dataclass(frozen=True, eq=False, slots=True)
class Said:
    """All jobs of a call, in order. vocoder_s: 0 where one call makes mel and sound together, denoise_s is then that of
    both."""

    spoken: Sequence[Spoken]
    denoise_s: float
    vocoder_s: float


class Speaker(Protocol):
    """`proof` is the engine's own, with its vocoder's in it."""

    def speak(self, jobs: Sequence[Job]) -> Said: ...

    def proof(self) -> Proof: ...


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class StagedSpeaker:
    """Implements Speaker: chunks of near lengths share a solve, then each is vocoded by itself."""

    conditioner: Conditioner
    sampler: Sampler
    solver: SolverSpec
    vocoder: Vocoder
    clock: Clock
    device: str
    max_batch: int
    max_padding_frac: float

    def speak(self, jobs: Sequence[Job]) -> Said:
        started_s = self.clock.now_s()
        solved = self._solve(jobs)
        self.clock.sync()
        solved_s = self.clock.now_s()
        spoken = [
            Spoken(mel_ND, self._vocode(mel_ND) * np.float32(job.prepared.gain), num_evals)
            for job, (mel_ND, num_evals) in zip(jobs, solved, strict=True)
        ]
        return Said(spoken, solved_s - started_s, self.clock.now_s() - solved_s)

    def _solve(self, jobs: Sequence[Job]) -> list[tuple[torch.Tensor, int]]:
        """Only chunks of one grid share a solve."""
        done: dict[int, tuple[torch.Tensor, int]] = {}
        for grid in sorted({job.grid for job in jobs}):
            places = [i for i, job in enumerate(jobs) if job.grid == grid]
            lengths = [jobs[i].chunk.num_frames for i in places]
            for batch in plan_batches(lengths, self.max_batch, self.max_padding_frac):
                own = [places[i] for i in batch]
                done.update(zip(own, self._solve_batch([jobs[i] for i in own]), strict=True))
        return [done[i] for i in range(len(jobs))]

    def _solve_batch(self, jobs: Sequence[Job]) -> list[tuple[torch.Tensor, int]]:
        """One solve for all of `jobs` (of one grid); the reference's frames are cut off, as upstream counts them."""
        before = self.sampler.num_evals
        conditioning = stack(
            [
                self.conditioner.constants(
                    j.chunk.token_ids, j.prepared.reference.mel_ND, j.chunk.num_frames, self.solver.guided
                )
                for j in jobs
            ]
        )
        x0 = torch.nn.utils.rnn.pad_sequence([job.noise_ND for job in jobs], batch_first=True)
        x = self.sampler.sample(conditioning, x0.to(self.device), jobs[0].grid)
        num_evals = self.sampler.num_evals - before
        solved = []
        for job, x_ND in zip(jobs, x, strict=True):
            ref_ND = job.prepared.reference.mel_ND
            # Upstream writes the reference back over its own frames, with a centred mel one more than it cuts off
            x_ND[: len(ref_ND)] = ref_ND.to(x_ND.device)
            solved.append((x_ND[job.chunk.ref_frames : job.chunk.num_frames], num_evals))
        return solved

    def _vocode(self, mel_ND: torch.Tensor) -> np.ndarray:
        audio = self.vocoder.decode(mel_ND.T[None])
        return audio[0].float().cpu().numpy()

    def proof(self) -> Proof:
        own = {"dropped_text_cache_hits": self.conditioner.dropped_text_hits, **self.sampler.proof()}
        return with_vocoder(own, self.vocoder)
