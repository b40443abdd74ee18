"""Seconds to ms, bytes to MiB, fractions to %: the only place of the project that scales units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metrics.record import Trial
from metrics.speed.trials import Speed, StageShares, speed_of

MS_PER_S = 1000.0
BYTES_PER_MIB = 2.0**20
PERCENT = 100.0


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSplit:
    """Share of each stage in the call, in percent; enhance_pct: 0.0 where nothing is done after the join."""

    frontend_pct: float
    denoise_pct: float
    vocoder_pct: float
    join_pct: float
    enhance_pct: float = 0.0

    @property
    def parts(self) -> tuple[float, ...]:
        """In the order of the call; the last one only where there is one."""
        always = self.frontend_pct, self.denoise_pct, self.vocoder_pct, self.join_pct
        return (*always, self.enhance_pct) if self.enhance_pct else always


@dataclass(frozen=True, kw_only=True, slots=True)
class Timing:
    """The speed of a row in the reader's units. Present only where the audio behind it may be believed.

    p95_ms is None below 59 trials and p99_ms below 299; their reasons say so. *_low_ms..*_high_ms: 95 % intervals, of
    the median None under 6 trials. stages: None where the engine timed none. times_base: how many times as fast as the
    table's base row; times_upstream: as the upstream row at the same counted evaluations; None where there is none.
    """

    num_trials: int
    evals_per_call: float
    rtf: float
    p50_ms: float
    p50_low_ms: float | None
    p50_high_ms: float | None
    p95_ms: float | None
    p95_low_ms: float | None
    p95_high_ms: float | None
    p95_reason: str | None
    p99_ms: float | None
    p99_low_ms: float | None
    p99_high_ms: float | None
    p99_reason: str | None
    cpu_ms: float
    first_call_s: float | None
    stages: StageSplit | None
    times_base: float | None = None
    times_upstream: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Ratios:
    """How many times as fast as the base row, and as upstream at the same evaluations."""

    base: float | None
    upstream: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class SentenceTiming:
    """The steady trials of one sentence."""

    num_trials: int
    p50_ms: float
    rtf: float


def scaled(speed: Speed, first_call_s: float | None, ratios: Ratios) -> Timing:
    """A speed in the reader's units."""
    low_s, high_s = speed.latency_p50_interval_s or (None, None)
    p95_low_s, p95_high_s = speed.latency_p95_interval_s or (None, None)
    p99_low_s, p99_high_s = speed.latency_p99_interval_s or (None, None)
    return Timing(
        num_trials=speed.num_trials,
        evals_per_call=speed.evals_per_call,
        rtf=speed.rtf_ratio,
        p50_ms=speed.latency_p50_s * MS_PER_S,
        p50_low_ms=_ms(low_s),
        p50_high_ms=_ms(high_s),
        p95_ms=_ms(speed.latency_p95_s),
        p95_low_ms=_ms(p95_low_s),
        p95_high_ms=_ms(p95_high_s),
        p95_reason=speed.p95_reason,
        p99_ms=_ms(speed.latency_p99_s),
        p99_low_ms=_ms(p99_low_s),
        p99_high_ms=_ms(p99_high_s),
        p99_reason=speed.p99_reason,
        cpu_ms=speed.cpu_s_per_call * MS_PER_S,
        first_call_s=first_call_s,
        stages=_split(speed.stages),
        times_base=ratios.base,
        times_upstream=ratios.upstream,
    )


def _split(shares: StageShares | None) -> StageSplit | None:
    if shares is None:
        return None
    return StageSplit(
        frontend_pct=shares.frontend_frac * PERCENT,
        denoise_pct=shares.denoise_frac * PERCENT,
        vocoder_pct=shares.vocoder_frac * PERCENT,
        join_pct=shares.join_frac * PERCENT,
        enhance_pct=shares.enhance_frac * PERCENT,
    )


def sentence_timing(trials: Sequence[Trial]) -> SentenceTiming:
    """Of the steady trials of one sentence."""
    speed = speed_of(trials)
    return SentenceTiming(num_trials=speed.num_trials, p50_ms=speed.latency_p50_s * MS_PER_S, rtf=speed.rtf_ratio)


def trial_ms(trial: Trial) -> float:
    return trial.wall_s * MS_PER_S


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * MS_PER_S


def mib(num_bytes: int | None) -> float | None:
    return None if num_bytes is None else num_bytes / BYTES_PER_MIB
