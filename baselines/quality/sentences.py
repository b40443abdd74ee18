"""Two runs sentence by sentence: which scores are a pair, which sentence failed, what was lost and why.

Every sentence of the baseline run is in the table with a state; a pair of scores is one of the same text, frames and
initial noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from baselines.stored.quality import VALID, is_valid
from metrics.fidelity.catalog import by_name
from metrics.record import RunRecord, Score, Utterance

IS_REFERENCE = "is the reference"


@dataclass(frozen=True, kw_only=True, slots=True)
class Pairs:
    """One metric of two runs, by sentence. failed: spoken well by the baseline, not by the candidate, with the reason.

    lost: no pair of scores, though nothing says that the candidate's audio is bad. unasked: the sentence has no such
    score on either side (no pause in it, no question).
    """

    first: Mapping[str, float]
    second: Mapping[str, float]
    failed: Mapping[str, str]
    lost: Mapping[str, str]
    unasked: Mapping[str, str]

    @property
    def num_expected(self) -> int:
        return len(self.second) + len(self.failed) + len(self.lost)


def expected_ids(baseline: RunRecord) -> list[str]:
    """Sentences that the baseline run spoke validly: what the candidate is asked for."""
    valid = {s.utterance_id for s in baseline.scores_of(VALID) if is_valid(baseline, s)}
    return [u.utterance_id for u in baseline.utterances if u.utterance_id in valid]


def failed_sentences(baseline: RunRecord, candidate: RunRecord) -> dict[str, str]:
    """Sentence -> why the candidate's audio of it counts as a failure."""
    spoken = {u.utterance_id for u in candidate.utterances}
    checked = {s.utterance_id: s for s in candidate.scores_of(VALID)}
    failed = {}
    for name in expected_ids(baseline):
        score = checked.get(name)
        if name not in spoken:
            failed[name] = "not spoken"
        elif score is not None and not is_valid(candidate, score):
            failed[name] = f"invalid audio: {score.reason or score.status}"
    return failed


def pair_scores(baseline: RunRecord, candidate: RunRecord, metric: str, is_difference: bool = True) -> Pairs:
    """is_difference: both sides are needed; otherwise the candidate's score is enough, `first` has what there is."""
    ours, theirs = _by_id(baseline, metric), _by_id(candidate, metric)
    old = {u.utterance_id: u for u in baseline.utterances}
    new = {u.utterance_id: u for u in candidate.utterances}
    failed = failed_sentences(baseline, candidate)
    first: dict[str, float] = {}
    second: dict[str, float] = {}
    lost: dict[str, str] = {}
    unasked: dict[str, str] = {}
    for name in expected_ids(baseline):
        if name in failed:
            continue
        if _of_the_text(ours.get(name)) and _of_the_text(theirs.get(name)):
            unasked[name] = str(theirs[name].reason)
            continue
        refusal = _refusal(old[name], new[name])
        then, now = _value(ours.get(name), metric), _value(theirs.get(name), metric)
        if not is_difference and not isinstance(now, str):
            second[name] = now
            first.update({} if isinstance(then, str) else {name: then})
        elif is_difference and refusal is not None:
            lost[name] = refusal
        elif isinstance(now, str) and not isinstance(then, str) and theirs.get(name) and theirs[name].status == "error":
            failed[name] = f"had a score, now none: {now}"
        elif isinstance(now, str):
            lost[name] = f"candidate: {now}"
        elif isinstance(then, str):
            lost[name] = f"baseline: {then}"
        else:
            first[name], second[name] = then, now
    return Pairs(first=first, second=second, failed=failed, lost=lost, unasked=unasked)


def _refusal(old: Utterance, new: Utterance) -> str | None:
    """Why two utterances are no pair; the same audio always is one."""
    if old.audio_sha256 == new.audio_sha256:
        return None
    if old.noise_sha256 is None or new.noise_sha256 is None:
        return "the initial noise is not known on both sides"
    for what in ("text", "num_frames", "sample_rate_hz", "noise_sha256"):
        if getattr(old, what) != getattr(new, what):
            return f"{what} differs: {str(getattr(old, what))[:40]} and {str(getattr(new, what))[:40]}"
    return None


def _of_the_text(score: Score | None) -> bool:
    """Whether a score is missing for what the sentence is, not for what became of it."""
    return score is not None and (
        score.status == "too_few" or (score.status == "not_applicable" and score.reason != IS_REFERENCE)
    )


def _by_id(run: RunRecord, metric: str) -> dict[str, Score]:
    return {s.utterance_id: s for s in run.scores_of(metric) if s.utterance_id is not None}


def _value(score: Score | None, metric: str) -> float | str:
    """The number, or why there is none. The reference itself has what identical audio gets, if that is 0 or 1."""
    if score is None:
        return f"no {metric}; {_remedy(metric)}"
    if score.value is not None:
        return score.value
    identical = by_name()[metric].identical
    if score.status == "not_applicable" and score.reason == IS_REFERENCE and identical in (0.0, 1.0):
        return float(identical)
    return f"{score.status}, {score.reason}"


@lru_cache(maxsize=64)
def _remedy(metric: str) -> str:
    return f"score it with quality.metrics=[..., {by_name()[metric].family}], or quality=full"
