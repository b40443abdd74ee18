"""F5Engine: front end -> bind -> solve -> vocode -> join. The one pipeline behind all of our own variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Protocol

import numpy as np
import torch

from engine.clock import Clock
from engine.conditioner import Conditioner
from engine.contract import EngineFacts, StageTimes, Synthesis, SynthesisRequest
from engine.frontend import Chunk, FrontEnd, Prepared
from engine.noise import initial_noise, noise_key, noise_sha256
from engine.postprocess import join_chunks
from engine.solver import SolverSpec
from engine.vocoder import Vocoder


class Denoiser(Protocol):
    """A backend: binds an utterance's constant terms, counts its evaluations, shows its proof."""

    num_evals: int

    def bind(self, projected: torch.Tensor, convolved: torch.Tensor) -> Callable[[torch.Tensor, int], torch.Tensor]: ...

    def proof(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, eq=False, kw_only=True, slots=True)
class Parts:
    """What an F5Engine is composed of. fade_s and target_rms as upstream's cross_fade_duration and target_rms."""

    frontend: FrontEnd
    conditioner: Conditioner
    denoiser: Denoiser
    solver: SolverSpec
    vocoder: Vocoder
    clock: Clock
    device: str
    mel_bins: int
    target_rms: float
    fade_s: float


class F5Engine:
    """Implements engine.contract.Engine."""

    def __init__(self, parts: Parts, facts: EngineFacts):
        self._parts = parts
        self._facts = facts
        self._calls = 0

    @property
    def facts(self) -> EngineFacts:
        proof = {
            "calls": self._calls,
            "reference_cache_hits": self._parts.frontend.reference_cache_hits,
            **self._parts.denoiser.proof(),
        }
        return replace(self._facts, proof=proof)

    @torch.inference_mode()
    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        if len(requests) > self._facts.max_batch:
            raise ValueError(f"{len(requests)} requests in a batch, this engine takes {self._facts.max_batch}")
        return [self._one(request) for request in requests]

    def _one(self, request: SynthesisRequest) -> Synthesis:
        parts, clock = self._parts, self._parts.clock
        self._calls += 1
        evals_before = parts.denoiser.num_evals
        marks = [clock.now_s()]
        prepared = parts.frontend.prepare(request, parts.target_rms)
        noises = [self._noise(request, chunk, i) for i, chunk in enumerate(prepared.chunks)]
        marks.append(clock.now_s())
        mels = [self._denoise(prepared, c, x0) for c, x0 in zip(prepared.chunks, noises, strict=True)]
        clock.sync()
        marks.append(clock.now_s())
        waves = [self._vocode(mel) * np.float32(prepared.gain) for mel in mels]
        marks.append(clock.now_s())
        audio_S = join_chunks(waves, int(parts.fade_s * self._facts.sample_rate_hz))
        marks.append(clock.now_s())
        return Synthesis(
            utterance_id=request.utterance_id,
            audio_S=audio_S,
            sample_rate_hz=self._facts.sample_rate_hz,
            mel_ND=torch.cat(mels).cpu().numpy(),
            num_evals=parts.denoiser.num_evals - evals_before,
            num_chunks=len(mels),
            noise_sha256=noise_sha256([noise.numpy() for noise in noises]),
            stages=StageTimes(
                frontend_s=marks[1] - marks[0],
                denoise_s=marks[2] - marks[1],
                vocoder_s=marks[3] - marks[2],
                join_s=marks[4] - marks[3],
            ),
        )

    def _noise(self, request: SynthesisRequest, chunk: Chunk, index: int) -> torch.Tensor:
        key = noise_key(request.utterance_id, request.seed, chunk.num_frames, index)
        return initial_noise(key, chunk.num_frames, self._parts.mel_bins)

    def _denoise(self, prepared: Prepared, chunk: Chunk, x0: torch.Tensor) -> torch.Tensor:
        """(generated frames, D) float32 on the device; the reference's frames are cut off, as upstream counts them."""
        parts, mel_ND = self._parts, prepared.reference.mel_ND
        guided = parts.solver.cfg_strength >= 1e-5  # upstream's bound
        constants = parts.conditioner.constants(chunk.token_ids, mel_ND, chunk.num_frames, guided)
        x = parts.solver.solve(parts.denoiser.bind(*constants), x0[None].to(parts.device))[0]
        # Upstream writes the reference back over its own frames, one more than it cuts off
        x[: len(mel_ND)] = mel_ND.to(x.device)
        return x[chunk.ref_frames :]

    def _vocode(self, mel_ND: torch.Tensor) -> np.ndarray:
        audio = self._parts.vocoder.decode(mel_ND.T[None])
        return audio[0].float().cpu().numpy()

    def close(self) -> None:
        """Drop the parts; the engine cannot be used afterwards."""
        del self._parts

    def __enter__(self) -> F5Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
