"""Speed as functions of the raw trials: RTF, latency, CPU seconds, stage shares, memory.

Warm-up trials are left out here, so callers pass what the record holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metrics.record import Trial
from metrics.stats import MIN_TRIALS, median_interval, quantile

INTERVAL_CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class StageShares:
    """Each stage's share of the time of all stages; they add up to 1."""

    frontend_frac: float
    denoise_frac: float
    vocoder_frac: float
    join_frac: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What the steady trials say.

    rtf_ratio: wall seconds / generated audio seconds, both summed over the same trials; lower is better.
    latency_p95_s is None where the trials are too few, and p95_reason says how many it takes.
    latency_p50_interval_s: 95 % interval, None under 6 trials. stages: None where the engine timed no stage.
    """

    num_trials: int
    rtf_ratio: float
    latency_p50_s: float
    latency_p50_interval_s: tuple[float, float] | None
    latency_p95_s: float | None
    p95_reason: str | None
    cpu_s_per_call: float
    stages: StageShares | None
    evals_per_call: float
    peak_bytes: int


def speed_of(trials: Sequence[Trial]) -> Speed:
    """Raises ValueError where there is no steady trial, or no generated audio to divide by."""
    steady = [trial for trial in trials if not trial.is_warmup]
    if not steady:
        raise ValueError("no steady trial: nothing was timed after the warm-up")
    audio_s = sum(trial.audio_s for trial in steady)
    if audio_s <= 0:
        raise ValueError(f"{len(steady)} trials generated no audio: they have no RTF")
    latencies_s = [trial.wall_s for trial in steady]
    p95_s, p95_reason = _tail(latencies_s, 0.95)
    return Speed(
        num_trials=len(steady),
        rtf_ratio=sum(latencies_s) / audio_s,
        latency_p50_s=quantile(latencies_s, 0.5),
        latency_p50_interval_s=median_interval(latencies_s, INTERVAL_CONFIDENCE),
        latency_p95_s=p95_s,
        p95_reason=p95_reason,
        cpu_s_per_call=quantile([trial.cpu_s for trial in steady], 0.5),
        stages=_stages(steady),
        evals_per_call=quantile([trial.num_evals for trial in steady], 0.5),
        peak_bytes=max(trial.peak_bytes for trial in steady),
    )


def latency_by_category(trials: Sequence[Trial], categories: Mapping[str, str]) -> dict[str, Speed]:
    """The speed of each category on its own, sorted by name; `categories` maps utterance id to category.

    Raises ValueError on a trial of an utterance that has no category: leaving it out would flatter somebody.
    """
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.is_warmup:
            continue
        if trial.utterance_id not in categories:
            raise ValueError(f"utterance {trial.utterance_id} has no category")
        groups.setdefault(categories[trial.utterance_id], []).append(trial)
    return {category: speed_of(groups[category]) for category in sorted(groups)}


def _tail(latencies_s: Sequence[float], q: float) -> tuple[float | None, str | None]:
    needed = MIN_TRIALS[q]
    if len(latencies_s) < needed:
        return None, f"n too small: {needed} trials needed, {len(latencies_s)} measured"
    return quantile(latencies_s, q), None


def _stages(steady: Sequence[Trial]) -> StageShares | None:
    frontend_s = sum(trial.frontend_s for trial in steady)
    denoise_s = sum(trial.denoise_s for trial in steady)
    vocoder_s = sum(trial.vocoder_s for trial in steady)
    join_s = sum(trial.join_s for trial in steady)
    total_s = frontend_s + denoise_s + vocoder_s + join_s
    if total_s <= 0:
        return None
    return StageShares(
        frontend_frac=frontend_s / total_s,
        denoise_frac=denoise_s / total_s,
        vocoder_frac=vocoder_s / total_s,
        join_frac=join_s / total_s,
    )
