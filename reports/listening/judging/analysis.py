"""From answers to comparisons: what listeners preferred, how sure that is, and what it would take to be surer.

Every comparison is "candidate against baseline", in the order in which the runs were given to build: over 0 (or over
half of the votes) means that the candidate was liked better. Practice, controls and repeats are not counted.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.listening.judging import bradley_terry
from reports.listening.judging.inference import (
    Estimate,
    binomial_p,
    clustered_mean,
    holm,
    signed_rank_p,
    votes_needed,
    wilson,
)
from reports.listening.judging.results import Answer, Key, Listener, lead_of_first

PREFERENCE = "preference_frac"
RATING = "rating_difference"
CCR = "ccr"
DCR = "dcr_difference"
MUSHRA = "mushra_difference"
ABX = "abx_correct_frac"
SHARES = (PREFERENCE, ABX)
# What a vote of each measure can be, and a rating of each method: no interval goes beyond
SCALES = {
    PREFERENCE: (0.0, 1.0), ABX: (0.0, 1.0), RATING: (-4.0, 4.0), CCR: (-3.0, 3.0), DCR: (-4.0, 4.0),
    MUSHRA: (-100.0, 100.0),
}  # fmt: skip
RATING_SCALES = {"ab": (1.0, 5.0), "dcr": (1.0, 5.0), "mushra": (0.0, 100.0)}
PLANNED_SHARE = 0.6
PLANNED_POWER = 0.8


@dataclass(frozen=True, kw_only=True, slots=True)
class Vote:
    """One listener's word on one comparison of one sentence."""

    measure: str
    baseline: str
    candidate: str
    value: float
    sentence: str
    listener: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Votes of a preference or ABX test. binomial_p takes votes as independent, which they are not."""

    num_for_candidate: int
    num_for_baseline: int
    num_ties: int
    binomial_p: float
    wilson_low: float
    wilson_high: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """p_value: the larger of the exact one over sentences and the clustered one; adjusted_p after Holm."""

    measure: str
    baseline: str
    candidate: str
    estimate: Estimate
    signed_rank_p: float
    p_value: float
    adjusted_p: float
    counts: Counts | None

    def winner(self, alpha: float) -> str | None:
        """The one that was liked better (in ABX: the candidate, where they can be told apart)."""
        if self.adjusted_p > alpha:
            return None
        null = 0.5 if self.measure in SHARES else 0.0
        return self.candidate if self.estimate.mean > null else self.baseline


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """Mean rating of one system on the method's scale."""

    system: str
    estimate: Estimate


@dataclass(frozen=True, kw_only=True, slots=True)
class SideBias:
    """How often each side was preferred, whoever was on it (identical pairs among them); binomial_p of a fair coin."""

    num_first: int
    num_second: int
    binomial_p: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Analysis:
    """strengths: Bradley-Terry, a reason where it has no answer, None where it is not asked. bias: of AB and CCR."""

    comparisons: tuple[Comparison, ...]
    opinions: tuple[Opinion, ...]
    strengths: tuple[bradley_terry.Strength, ...] | str | None
    bias: SideBias | None
    votes_needed_60: int


def analyse(key: Key, listeners: Sequence[Listener]) -> Analysis | None:
    """None where nobody is left who counts."""
    confidence = float(key.rules["confidence"])
    votes = [vote for listener in listeners for answer in listener.counted for vote in _votes(key, listener, answer)]
    votes += _dcr_votes(key, listeners)
    ratings = [rating for listener in listeners for answer in listener.counted for rating in _ratings(listener, answer)]
    if not votes and not ratings:
        return None
    return Analysis(
        comparisons=_comparisons(key, votes, confidence),
        opinions=_opinions(key, ratings, confidence),
        strengths=_strengths(key, votes, confidence),
        bias=_side_bias(listeners),
        votes_needed_60=votes_needed(PLANNED_SHARE, PLANNED_POWER),
    )


def _votes(key: Key, listener: Listener, answer: Answer) -> Iterator[Vote]:
    def vote(measure: str, pair: tuple[str, str], value: float) -> Vote:
        return _vote(measure, pair, value, (answer.utterance_id, listener.name))

    response, names = answer.response, key.names
    if key.method == "dcr":
        return
    if key.method == "mushra":
        given = _mushra_ratings(answer)
        for pair in itertools.combinations(names, 2):
            yield vote(MUSHRA, pair, given[pair[1]] - given[pair[0]])
        return
    first, second = answer.systems
    is_turned = names.index(first) > names.index(second)
    pair = (second, first) if is_turned else (first, second)
    sign = -1 if is_turned else 1
    if key.method == "abx":
        yield vote(ABX, pair, float(response["match"] == answer.x))
    elif key.method == "ccr":
        yield vote(CCR, pair, sign * float(response["ccr"]))
    else:
        lead = {"first": -1, "none": 0, "second": 1}[response["preference"]] * sign
        yield vote(PREFERENCE, pair, 0.5 + 0.5 * lead)
        yield vote(RATING, pair, sign * float(response["rating_b"] - response["rating_a"]))


def _vote(measure: str, pair: tuple[str, str], value: float, origin: tuple[str, str]) -> Vote:
    """origin: (sentence, listener)."""
    baseline, candidate = pair
    sentence, listener = origin
    return Vote(
        measure=measure, baseline=baseline, candidate=candidate, value=value, sentence=sentence, listener=listener
    )


def _mushra_ratings(answer: Answer) -> dict[str, float]:
    """System -> rating, of the hidden reference for the reference; the open one (place 0) is not rated."""
    return {name: answer.response["ratings"][place] for place, name in enumerate(answer.systems) if place > 0}


def _dcr_votes(key: Key, listeners: Sequence[Listener]) -> Iterator[Vote]:
    """Two systems are compared where one listener rated both for one sentence."""
    if key.method != "dcr":
        return
    for listener in listeners:
        rated = {(answer.utterance_id, answer.systems[1]): answer.response["dcr"] for answer in listener.counted}
        for baseline, candidate in itertools.combinations(key.names, 2):
            for (sentence, system), value in rated.items():
                if system == candidate and (sentence, baseline) in rated:
                    difference = float(value - rated[sentence, baseline])
                    yield _vote(DCR, (baseline, candidate), difference, (sentence, listener.name))


def _ratings(listener: Listener, answer: Answer) -> Iterator[tuple[str, float, str, str]]:
    """(system, rating, sentence, listener)."""
    response = answer.response
    given: dict[str, float] = {}
    if "rating_a" in response:
        given = dict(zip(answer.systems, (response["rating_a"], response["rating_b"]), strict=True))
    elif "dcr" in response:
        given = {answer.systems[1]: response["dcr"]}
    elif "ratings" in response:
        given = _mushra_ratings(answer)
    for system, value in given.items():
        yield system, float(value), answer.utterance_id, listener.name


def _comparisons(key: Key, votes: Sequence[Vote], confidence: float) -> tuple[Comparison, ...]:
    """Holm's correction goes over all comparisons of one measure."""
    found = []
    for measure in dict.fromkeys(vote.measure for vote in votes):
        own = []
        for pair in itertools.combinations(key.names, 2):
            chosen = [v for v in votes if v.measure == measure and (v.baseline, v.candidate) == pair]
            if chosen:
                own.append(_compare(measure, pair, chosen, confidence))
        adjusted = holm([comparison.p_value for comparison in own])
        found += [replace(comparison, adjusted_p=p) for comparison, p in zip(own, adjusted, strict=True)]
    return tuple(found)


def _compare(measure: str, pair: tuple[str, str], votes: Sequence[Vote], confidence: float) -> Comparison:
    null = 0.5 if measure in SHARES else 0.0
    values_N = np.array([vote.value for vote in votes])
    sentences = [vote.sentence for vote in votes]
    listeners = [vote.listener for vote in votes]
    estimate = clustered_mean(values_N, sentences, listeners, null, confidence, SCALES[measure])
    means = [float(np.mean([v.value for v in votes if v.sentence == name])) - null for name in dict.fromkeys(sentences)]
    exact = signed_rank_p(means)
    p_value = max(exact, 1.0 if estimate.p_value is None else estimate.p_value)
    return Comparison(
        measure=measure,
        baseline=pair[0],
        candidate=pair[1],
        estimate=estimate,
        signed_rank_p=exact,
        p_value=p_value,
        adjusted_p=p_value,
        counts=_counts(measure, values_N, confidence) if measure in SHARES else None,
    )


def _counts(measure: str, values_N: np.ndarray, confidence: float) -> Counts:
    wins, losses = int((values_N > 0.5).sum()), int((values_N < 0.5).sum())
    low, high = wilson(float(values_N.sum()), values_N.size, confidence)
    return Counts(
        num_for_candidate=wins,
        num_for_baseline=losses,
        num_ties=values_N.size - wins - losses,
        binomial_p=binomial_p(wins, wins + losses, sides=1 if measure == ABX else 2),
        wilson_low=low,
        wilson_high=high,
    )


def _opinions(key: Key, ratings: Sequence[tuple[str, float, str, str]], confidence: float) -> tuple[Opinion, ...]:
    found = []
    for name in key.names:
        own = [rating for rating in ratings if rating[0] == name]
        if own:
            values_N = np.array([value for _, value, _, _ in own])
            sentences, listeners = [row[2] for row in own], [row[3] for row in own]
            scale = RATING_SCALES[key.method]
            estimate = clustered_mean(values_N, sentences, listeners, 0.0, confidence, scale)
            found.append(Opinion(system=name, estimate=estimate))
    return tuple(found)


def _strengths(key: Key, votes: Sequence[Vote], confidence: float) -> tuple[bradley_terry.Strength, ...] | str | None:
    """Asked for preferences among more than two systems."""
    duels = [
        bradley_terry.Duel(
            first=vote.baseline,
            second=vote.candidate,
            outcome={0.0: 0, 1.0: 1}.get(vote.value, 2),
            sentence=vote.sentence,
            listener=vote.listener,
        )
        for vote in votes
        if vote.measure == PREFERENCE
    ]
    if not duels or len(key.names) < 3:
        return None
    return bradley_terry.fit(key.names, duels, confidence)


def _side_bias(listeners: Sequence[Listener]) -> SideBias | None:
    answers = [answer for listener in listeners for answer in (*listener.counted, *listener.of_kind("identical"))]
    leads = [lead_of_first(answer) for answer in answers if {"preference", "ccr"} & set(answer.response)]
    if not leads:
        return None
    first, second = leads.count(1), leads.count(-1)
    return SideBias(num_first=first, num_second=second, binomial_p=binomial_p(first, first + second))
