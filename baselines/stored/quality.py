"""Memory, validity, steadiness and paired quality of a new run against a stored baseline.

Quality is exactly paired: the same text, voice and noise on both sides, so a sentence's difference has no noise of
drawing in it, and on one host class with deterministic kernels it is exactly zero.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import scipy

from baselines.stored.verdict import Finding, Limits
from metrics.record import RunRecord, Score
from metrics.speed.peak import unified_bytes
from metrics.speed.steady import REMEDY, STEADY_COUNTERS, unsteady_reason
from metrics.verdict import Outcome

SNR = "snr_vs_reference_db"
VALID = "audio_valid"
# A score that is missing for these reasons says nothing about the audio.
SILENT_STATUSES = ("unavailable", "not_applicable")
SAID: Mapping[Outcome, str] = {
    "FAIL": "worse",
    "WARN": "worse, but inside the margin: real but small",
    "PASS": "not worse than the margin allows",
    "INCONCLUSIVE": "of too few sentences, or too much spread between them for the margin",
}


def is_valid(run: RunRecord, score: Score) -> bool:
    """Whether an audio_valid score lets speed be believed: ok, or drawn weights, which only ever say noise."""
    drawn = bool((run.facts or {}).get("random_weights"))
    return score.status == "ok" or (drawn and score.status == "not_applicable")


def judge_validity(new: RunRecord, expected_ids: Sequence[str]) -> Finding:
    """FAIL for a sentence that was not spoken or whose audio failed the checks; its speed means nothing."""
    valid = {s.utterance_id: s for s in new.scores_of(VALID)}
    spoken = {u.utterance_id for u in new.utterances}
    missing = [name for name in expected_ids if name not in spoken]
    broken = [f"{name} ({s.reason})" for name, s in valid.items() if name in spoken and not is_valid(new, s)]
    unchecked = [name for name in sorted(spoken) if name not in valid]
    if missing or broken:
        said = [f"not spoken: {', '.join(missing)}"] if missing else []
        said += [f"invalid audio: {'; '.join(broken)}"] if broken else []
        return Finding(metric=VALID, outcome="FAIL", explanation="; ".join(said), baseline=1.0, new=0.0, limit=1.0)
    if unchecked:
        said_unchecked = f"no {VALID} score for {', '.join(unchecked)}; run again with this version"
        return Finding(metric=VALID, outcome="INCONCLUSIVE", explanation=said_unchecked)
    said_valid = f"audio of all {len(spoken)} sentences is valid"
    return Finding(metric=VALID, outcome="PASS", explanation=said_valid, baseline=1.0, new=1.0, limit=1.0)


def judge_steadiness(new: RunRecord) -> list[Finding]:
    """FAIL where the engine compiled, captured or grew its pools while it was timed; none where it does not count."""
    reason, counted = unsteady_reason(new), new.scores_of(STEADY_COUNTERS)
    if reason is not None:
        return [Finding(metric=STEADY_COUNTERS, outcome="FAIL", explanation=f"{reason}; {REMEDY}", limit=0.0)]
    if not counted:
        return []
    return [Finding(metric=STEADY_COUNTERS, outcome="PASS", explanation="no counter moved in the timed region")]


def judge_memory(baselines: Sequence[RunRecord], new: RunRecord, limits: Limits) -> list[Finding]:
    """Peak host memory (PSS, else RSS; of a board with one memory what MemAvailable lost) and device memory where there
    is any: ratio plus bytes, no statistics."""
    runs = [*baselines, new]
    readers: list[tuple[str, Callable[[RunRecord], int | None]]] = [("peak_rss_bytes", lambda r: r.peak_rss_bytes)]
    if any(unified_bytes(run) for run in runs):
        readers = [("peak_unified_bytes", unified_bytes)]
    elif all(run.peak_pss_bytes for run in runs):
        readers = [("peak_pss_bytes", lambda r: r.peak_pss_bytes)]
    if any(run.peak_device_bytes for run in runs):
        readers.append(("peak_device_bytes", lambda r: r.peak_device_bytes))
    return [_judge_peak(metric, [read(r) for r in baselines], read(new), limits) for metric, read in readers]


def _judge_peak(metric: str, stored: Sequence[int | None], new: int | None, limits: Limits) -> Finding:
    known = [value for value in stored if value]
    if not known or not new:
        side = "this run" if known else "the baseline"
        return Finding(
            metric=metric, outcome="INCONCLUSIVE", explanation=f"{metric} is missing in {side}; run it again"
        )
    base = max(known)
    limit = base * limits.memory_ratio + limits.memory_extra_bytes
    grew = new > limit
    explanation = (
        f"peak {new / 2**20:.0f} MiB against {base / 2**20:.0f} MiB, allowed {limit / 2**20:.0f} MiB "
        f"(x{limits.memory_ratio:g} + {limits.memory_extra_bytes / 2**20:.0f} MiB); compared without statistics"
    )
    return Finding(
        metric=metric,
        outcome="FAIL" if grew else "PASS",
        explanation=explanation,
        baseline=float(base),
        new=float(new),
        effect=new / base,
        effect_kind="ratio",
        limit=limit,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pairs:
    """Paired differences in dB by sentence, what was lost, and what could not be paired."""

    differences_db: Mapping[str, float]
    old_db: Mapping[str, float]
    lost: Mapping[str, str]
    unpaired: Mapping[str, str]


def judge_snr(baselines: Sequence[RunRecord], new: RunRecord, limits: Limits, false_alarm_frac: float) -> Finding:
    """Non-inferiority of the mean over sentences, and no sentence may lose more than the worst-sentence margin."""
    if identical_audio(baselines, new):
        explanation = f"audio of all {len(new.utterances)} sentences is bit-identical to the baseline's"
        return Finding(
            metric=SNR,
            outcome="PASS",
            explanation=explanation,
            effect=0.0,
            effect_kind="difference",
            interval=(0.0, 0.0),
            limit=-limits.snr_margin_db,
        )
    if (new.facts or {}).get("random_weights"):
        return Finding(metric=SNR, outcome="PASS", explanation="not gated: random weights, a speed workload")
    pairs = _pair(baselines, new)
    scores = new.scores_of(SNR)
    if pairs.lost and any(s.status not in SILENT_STATUSES for s in scores):
        lost = "; ".join(f"{name}: {reason}" for name, reason in pairs.lost.items())
        return Finding(metric=SNR, outcome="FAIL", explanation=f"had a score in the baseline, now none: {lost}")
    if pairs.lost:
        reason = f"this run has no {SNR} ({next(iter(pairs.lost.values()))}); run with quality=standard"
        return Finding(metric=SNR, outcome="INCONCLUSIVE", explanation=reason)
    if not pairs.differences_db:
        why = next(iter(pairs.unpaired.values()), "no sentence")
        reason = f"the audio changed and the baseline has no {SNR} ({why})"
        return Finding(metric=SNR, outcome="INCONCLUSIVE", explanation=reason)
    return _decide(pairs, limits, false_alarm_frac)


def identical_audio(baselines: Sequence[RunRecord], new: RunRecord) -> bool:
    """True where every sentence's audio equals that of a session of the baseline, byte for byte."""
    return bool(new.utterances) and all(_same_audio(baselines, u.utterance_id, u.audio_sha256) for u in new.utterances)


def _same_audio(baselines: Sequence[RunRecord], utterance_id: str, sha256: str) -> bool:
    return any(u.utterance_id == utterance_id and u.audio_sha256 == sha256 for r in baselines for u in r.utterances)


def _pair(baselines: Sequence[RunRecord], new: RunRecord) -> _Pairs:
    now = {s.utterance_id: s for s in new.scores_of(SNR)}
    differences: dict[str, float] = {}
    old: dict[str, float] = {}
    lost: dict[str, str] = {}
    unpaired: dict[str, str] = {}
    for utterance in new.utterances:
        name = utterance.utterance_id
        stored = [s for run in baselines for s in run.scores_of(SNR) if s.utterance_id == name]
        values = [s.value for s in stored if s.value is not None]
        score = now.get(name)
        if values:
            old[name] = statistics.fmean(values)
        if _same_audio(baselines, name, utterance.audio_sha256):
            differences[name] = 0.0
        elif not values:
            unpaired[name] = (stored[0].reason if stored else None) or "no score in the baseline"
        elif score is None or score.value is None:
            lost[name] = (f"{score.status}, {score.reason}" if score else None) or "no score"
        else:
            differences[name] = score.value - old[name]
    return _Pairs(differences_db=differences, old_db=old, lost=lost, unpaired=unpaired)


def _decide(pairs: _Pairs, limits: Limits, false_alarm_frac: float) -> Finding:
    differences = pairs.differences_db
    values = list(differences.values())
    mean, count = statistics.fmean(values), len(values)
    se = statistics.stdev(values) / math.sqrt(count) if count > 1 else math.inf
    low = mean - _quantile(count, limits.pass_confidence) * se
    high = mean + _quantile(count, 1 - false_alarm_frac) * se
    worst = min(differences, key=lambda name: differences[name])
    broken = differences[worst] < -limits.worst_sentence_snr_margin_db
    inferior, harmless = high < -limits.snr_margin_db, low > -limits.snr_margin_db
    outcome: Outcome = (
        "FAIL" if inferior or broken else "INCONCLUSIVE" if not harmless else "WARN" if high < 0 else "PASS"
    )
    said = "one sentence lost too much" if broken and not inferior else SAID[outcome]
    explanation = (
        f"SNR {said}: mean of {count} paired sentences {mean:+.2f} dB, worst {worst} {differences[worst]:+.2f} dB "
        f"(margins {-limits.snr_margin_db:g} and {-limits.worst_sentence_snr_margin_db:g} dB); "
        f"false alarm rate at most {100 * false_alarm_frac:.2g} %"
    )
    if pairs.unpaired:
        explanation += f"; without a score in the baseline: {', '.join(pairs.unpaired)}"
    old = [pairs.old_db[name] for name in differences if name in pairs.old_db]
    now = [pairs.old_db[name] + differences[name] for name in differences if name in pairs.old_db]
    return Finding(
        metric=SNR,
        outcome=outcome,
        explanation=explanation,
        baseline=statistics.fmean(old) if old else None,
        new=statistics.fmean(now) if now else None,
        effect=mean,
        effect_kind="difference",
        interval=(low, high) if count > 1 else None,
        limit=-limits.snr_margin_db,
    )


def _quantile(count: int, probability: float) -> float:
    """Student quantile with count - 1 degrees of freedom; of one observation there is none, its error is infinite."""
    return float(scipy.special.stdtrit(count - 1, probability)) if count > 1 else 1.0
