"""The contract between the harness and an engine variant.

Shape letters: B batch, N mel frames, D mel bins, T text tokens, S samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

import numpy as np

# What shows that an engine ran as its facts say: counters, histograms, providers; which ones is each backend's own
Proof = Mapping[str, object]
STEADY = "steady_counters"  # those of a proof that must not change while an engine is timed


def counts_in(proof: Proof, name: str) -> dict[str, int]:
    """A group of counters; empty where there is none of that name. Raises TypeError for what is no such group."""
    counts = proof.get(name, {})
    if not isinstance(counts, Mapping):
        raise TypeError(f"proof.{name}={counts!r}: must be a group of counters")
    return {str(key): int(count) for key, count in counts.items()}


class UnsupportedEngine(Exception):
    """What was asked cannot be built here exactly as asked. Carries the reason and the way out."""

    def __init__(self, reason: str, remedy: str):
        super().__init__(f"{reason}; {remedy}")
        self.reason = reason
        self.remedy = remedy


class ConfigError(ValueError):
    """A setting that cannot be used: key, value, what is allowed, what to do, in one line."""

    def __init__(self, key: str, value: object, allowed: str, remedy: str):
        super().__init__(f"{key}={value}: {allowed}; {remedy}")
        self.key = key
        self.value = value
        self.allowed = allowed
        self.remedy = remedy


class InvalidRequest(ConfigError):
    """A request that no engine can serve (text, reference audio), said like a setting."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SynthesisRequest:
    """One utterance to speak.

    ref_audio_S: mono float32 in [-1, 1] at ref_sample_rate_hz, the voice to clone; ref_text: its transcript. Both are
    empty where `style` names one of the model's own voices.
    seed: with the utterance id and the number of frames it keys the initial noise (see engine.noise).
    speed_ratio: 1.0 speaks at the reference's rate. num_frames: frames to generate, None for upstream's duration rule.
    """

    utterance_id: str
    text: str
    ref_audio_S: np.ndarray
    ref_sample_rate_hz: int
    ref_text: str
    seed: int = 0
    speed_ratio: float = 1.0
    num_frames: int | None = None
    style: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageTimes:
    """Wall seconds per stage of one call, device-synchronised where the engine's clock synchronises. denoise_s: of the
    model; vocoder_s: 0 where the model makes audio by itself, or
    where one captured graph is the whole call; enhance_s: 0 where nothing is done after the join."""

    frontend_s: float
    denoise_s: float
    vocoder_s: float
    join_s: float
    enhance_s: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Synthesis:
    """What one request became.

    audio_S: float32 mono at sample_rate_hz, generated part only. mel_ND: natural log-mel of the generated frames before
    the vocoder, chunks in order; a model without a mel has D = 0 and a frame for every sample. num_evals: velocity
    evaluations (of another model: its runs) counted while running, a guided pair counts as one.
    noise_sha256: what two answers must share before they may be paired: of the float32 noise really used, None where
    the engine cannot know it; where no noise is drawn `inputs:` and the hash of all that the model was given.
    num_cut_samples: how many fewer samples there are than the vocoder and the joins made, where silence was taken out.
    """

    utterance_id: str
    audio_S: np.ndarray
    sample_rate_hz: int
    mel_ND: np.ndarray
    num_evals: int
    num_chunks: int
    noise_sha256: str | None
    stages: StageTimes
    num_cut_samples: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFacts:
    """What was built, read back from the built thing, not copied from the request.

    time_grid: the explicit t values. evals_per_step: 1 euler, 2 midpoint and heun, 4 rk4. max_batch: largest
    `synthesize` call. random_weights: True when the weights were drawn, not trained: speed only, no quality.
    noise: request, or not_applicable where the model draws none: the same text then sounds the same with any seed.
    solver: not_applicable where there is none; steps and evals_per_step are then 1, time_grid is empty, sway and
    cfg_strength are 0. vocoder: not_applicable where the model makes audio by itself.
    proof: what shows that the engine ran as named (counters, dtype histogram, quantised linears, providers).
    solver_options: what the solver does beyond a guided evaluation at every point of one grid: guidance on part of the
    interval, reuse of steps, grids chosen by length (then steps and time_grid are those of the longest), the weights of
    a fitted method; else empty.
    enhance: what is done to the sound after the vocoder, form by form with its numbers; else empty.
    student: of a model that another one taught, who and how (engine.settings.StudentSettings); else empty.
    """

    name: str
    denoiser: str
    precision: str
    solver: str
    steps: int
    evals_per_step: int
    time_grid: tuple[float, ...]
    sway: float
    cfg_strength: float
    vocoder: str
    model: str
    device_name: str
    num_threads: int
    weights_bytes: int
    weights_sha256: str
    random_weights: bool
    sample_rate_hz: int
    max_batch: int
    versions: Mapping[str, str]
    proof: Proof
    solver_options: Mapping[str, object] = field(default_factory=dict)
    enhance: Mapping[str, object] = field(default_factory=dict)
    noise: str = "request"
    student: Mapping[str, object] = field(default_factory=dict)


# By the first word of a precision: what most of its weights are stored as. amp keeps float32 and rounds as it goes
STORED_AS = {
    "fp32": ("float32",), "amp": ("float32",), "bf16": ("bfloat16",), "fp16": ("float16",),
    "int8": ("int8", "qint8", "quint8"), "fp8": ("float8_e4m3fn",),
}  # fmt: skip


def precision_fault(facts: EngineFacts) -> str | None:
    """Why the proof speaks against the precision; None where it does not, or has counted no weights."""
    stored = facts.proof.get("weight_elements_by_dtype")
    allowed = STORED_AS.get(facts.precision.partition("_")[0])
    if allowed is None or not isinstance(stored, Mapping) or not stored:
        return None
    most = max(stored, key=lambda dtype: stored[dtype])
    if most in allowed:
        return None
    return (
        f"engine {facts.name} says precision {facts.precision}, and {stored[most]:,} of its {sum(stored.values()):,} "
        f"weights are {most}; a row says what was built: name the precision that they have"
    )


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class AudioBlock:
    """A piece of a streamed utterance that will not change any more.

    audio_S: float32 mono at sample_rate_hz; blocks in order are the whole audio. chunk: which solve it came with.
    num_evals: velocity evaluations counted since the block before.
    """

    audio_S: np.ndarray
    sample_rate_hz: int
    chunk: int
    num_evals: int


class Engine(Protocol):
    """One engine variant. A context manager; leaving it closes it."""

    @property
    def facts(self) -> EngineFacts:
        """What was built; `proof` is current at the time of reading."""
        ...

    def synthesize(self, requests: Sequence[SynthesisRequest]) -> list[Synthesis]:
        """One result per request, in order. Raises InvalidRequest, and ValueError above `facts.max_batch`."""
        ...

    def stream(self, request: SynthesisRequest) -> Iterator[AudioBlock]:
        """One request, each block as soon as it is final. Raises InvalidRequest at the first step."""
        ...

    def close(self) -> None:
        """Free device memory. The engine cannot be used afterwards; closing it again does nothing."""
        ...

    def __enter__(self) -> Engine: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
