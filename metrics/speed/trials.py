"""Speed as functions of the raw trials: RTF, latency, CPU seconds, stage shares, memory.

Warm-up trials are left out here, so callers pass what the record holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metrics.record import Trial
from metrics.stats import MIN_TRIALS, quantile, quantile_interval

INTERVAL_CONFIDENCE = 0.95
LENGTHS = ("short", "medium", "long")
LENGTH_LIMITS_CHARS = (40, 100)  # up to 40 characters is short (two to three seconds), over 100 is long


@dataclass(frozen=True, kw_only=True, slots=True)
class StageShares:
    """Each stage's share of the time of all stages; they add up to 1."""

    frontend_frac: float
    denoise_frac: float
    vocoder_frac: float
    join_frac: float
    enhance_frac: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Speed:
    """What the steady trials say.

    rtf_ratio: wall seconds / generated audio seconds, both summed over the same trials; lower is better.
    latency_p95_s and latency_p99_s are None where the trials are too few (59, 299), and their reason says how many it
    takes. Intervals: 95 %, from order statistics; of the median None under 6 trials, of the others never without their
    percentile. stages: None where the engine timed no stage.
    """

    num_trials: int
    rtf_ratio: float
    latency_p50_s: float
    latency_p50_interval_s: tuple[float, float] | None
    latency_p95_s: float | None
    latency_p95_interval_s: tuple[float, float] | None
    p95_reason: str | None
    latency_p99_s: float | None
    latency_p99_interval_s: tuple[float, float] | None
    p99_reason: str | None
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
    p95, p99 = tail_of(latencies_s, 0.95), tail_of(latencies_s, 0.99)
    return Speed(
        num_trials=len(steady),
        rtf_ratio=sum(latencies_s) / audio_s,
        latency_p50_s=quantile(latencies_s, 0.5),
        latency_p50_interval_s=quantile_interval(latencies_s, 0.5, INTERVAL_CONFIDENCE),
        latency_p95_s=p95.value_s,
        latency_p95_interval_s=p95.interval_s,
        p95_reason=p95.reason,
        latency_p99_s=p99.value_s,
        latency_p99_interval_s=p99.interval_s,
        p99_reason=p99.reason,
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


def length_of(text: str) -> str:
    """short, medium or long, by the characters of the text."""
    return LENGTHS[sum(len(text) > limit for limit in LENGTH_LIMITS_CHARS)]


def latency_by_length(trials: Sequence[Trial], texts: Mapping[str, str]) -> dict[str, Speed]:
    """The speed of short, medium and long sentences apart, in that order, without lengths that were not spoken.

    `texts` maps utterance id to text. One figure over a mix of lengths says what the mix was, not how fast the engine
    is. Raises ValueError as latency_by_category does.
    """
    found = latency_by_category(trials, {name: length_of(text) for name, text in texts.items()})
    return {length: found[length] for length in LENGTHS if length in found}


@dataclass(frozen=True, kw_only=True, slots=True)
class Tail:
    """A percentile with its 95 % interval; both None where the values are too few, and `reason` says so."""

    value_s: float | None
    interval_s: tuple[float, float] | None
    reason: str | None


def tail_of(latencies_s: Sequence[float], q: float) -> Tail:
    """The q-quantile of q in MIN_TRIALS, or why it is not printed."""
    needed = MIN_TRIALS[q]
    if len(latencies_s) < needed:
        reason = f"n too small: {needed} trials needed, {len(latencies_s)} measured"
        return Tail(value_s=None, interval_s=None, reason=reason)
    interval_s = quantile_interval(latencies_s, q, INTERVAL_CONFIDENCE)
    return Tail(value_s=quantile(latencies_s, q), interval_s=interval_s, reason=None)


def _stages(steady: Sequence[Trial]) -> StageShares | None:
    frontend_s = sum(trial.frontend_s for trial in steady)
    denoise_s = sum(trial.denoise_s for trial in steady)
    vocoder_s = sum(trial.vocoder_s for trial in steady)
    join_s = sum(trial.join_s for trial in steady)
    enhance_s = sum(trial.enhance_s for trial in steady)
    total_s = frontend_s + denoise_s + vocoder_s + join_s + enhance_s
    if total_s <= 0:
        return None
    return StageShares(
        frontend_frac=frontend_s / total_s,
        denoise_frac=denoise_s / total_s,
        vocoder_frac=vocoder_s / total_s,
        join_frac=join_s / total_s,
        enhance_frac=enhance_s / total_s,
    )
