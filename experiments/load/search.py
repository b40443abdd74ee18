"""The highest rate of requests whose p95 keeps under a limit: bisection, with "cannot tell" as an answer of a probe.

It relies on one thing only: more load is never better. The answer is a bracket: the highest rate that was shown to hold
and the lowest one that was shown to fail; what lies between is not known.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from metrics.speed.load import LimitOutcome, LimitVerdict

Probe = Callable[[float, int, int], LimitVerdict]  # (rate a second, requests, number of the probe)
SearchOutcome = Literal["found", "holds everywhere", "fails everywhere", "cannot tell"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Search:
    """Rates are requests a second. ratio: fails / holds at which the search ends."""

    highest: float
    lowest: float
    ratio: float
    num_requests: int
    num_requests_most: int
    time_limit_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    rate_per_s: float
    verdict: LimitVerdict


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchResult:
    """holds_per_s: the highest rate shown to keep the limit; fails_per_s: the lowest one shown to break it; either may
    be None. "found": the two are no further apart than asked for."""

    outcome: SearchOutcome
    holds_per_s: float | None
    fails_per_s: float | None
    probes: tuple[Probed, ...]
    reason: str


class _Bisection:
    """What was asked so far, and how a rate is asked."""

    def __init__(self, plan: Search, probe: Probe, elapsed_s: Callable[[], float]):
        self.plan, self._probe, self._elapsed_s = plan, probe, elapsed_s
        self.probes: list[Probed] = []
        self.lacked_time = False

    def ask(self, rate_per_s: float) -> LimitOutcome:
        """With more requests where the first ones decide nothing; every attempt stands for itself."""
        num = self.plan.num_requests
        while True:
            verdict = self._probe(rate_per_s, num, len(self.probes))
            self.probes.append(Probed(rate_per_s=rate_per_s, verdict=verdict))
            num *= 2
            if verdict.outcome != "cannot tell" or num > self.plan.num_requests_most:
                return verdict.outcome
            if not self._fits(rate_per_s, num):
                self.lacked_time = True
                return verdict.outcome

    def _fits(self, rate_per_s: float, num: int) -> bool:
        """Whether so many requests will be over within the time limit."""
        return self._elapsed_s() + num / rate_per_s <= self.plan.time_limit_s

    def is_late(self) -> bool:
        return self._elapsed_s() >= self.plan.time_limit_s

    def rates(self, outcome: LimitOutcome) -> list[float]:
        return [one.rate_per_s for one in self.probes if one.verdict.outcome == outcome]


def search_rate(plan: Search, probe: Probe, elapsed_s: Callable[[], float]) -> SearchResult:
    """From the highest rate down by halves until one holds, then halves of what lies between, on a logarithmic scale.

    In this order because a low rate takes long: as many requests at a twentieth of the capacity last twenty times as
    long as at the capacity.
    """
    state = _Bisection(plan, probe, elapsed_s)
    low = high = plan.highest
    while state.ask(low) != "holds":
        if low <= plan.lowest or state.is_late():
            return _result(state)
        low, high = max(plan.lowest, low / 2), low
    while high / low > plan.ratio and not state.is_late():
        middle = math.sqrt(low * high)
        if state.ask(middle) == "holds":
            low = middle
        else:
            high = middle
    return _result(state)


def _result(state: _Bisection) -> SearchResult:
    fails = min(state.rates("fails"), default=None)
    # More load is never better: a rate above one that fails held by luck
    holds = max((rate for rate in state.rates("holds") if fails is None or rate < fails), default=None)
    outcome, reason = _word(state, holds, fails)
    return SearchResult(
        outcome=outcome, holds_per_s=holds, fails_per_s=fails, probes=tuple(state.probes), reason=reason
    )


def _word(state: _Bisection, holds: float | None, fails: float | None) -> tuple[SearchOutcome, str]:
    plan = state.plan
    if holds is not None and fails is not None and fails / holds <= plan.ratio * (1 + 1e-9):
        return "found", f"the rate is known within a factor of {fails / holds:.2f}"
    if fails is None and holds == plan.highest:
        return "holds everywhere", "even the highest rate, above what a saturated loop reached, keeps the limit"
    if holds is None and fails == plan.lowest:
        return "fails everywhere", "even the lowest rate breaks the limit"
    if state.is_late():
        return "cannot tell", f"the time limit of {plan.time_limit_s:g} s ended the search: raise search_time_limit_s"
    if state.lacked_time:
        return "cannot tell", "more requests would have taken longer than was left: raise search_time_limit_s"
    errors = next((one.verdict.reason for one in reversed(state.probes) if one.verdict.reason is not None), None)
    if errors is not None:
        return "cannot tell", f"{errors}, but not beyond doubt: raise probe_requests_most, or see requests.jsonl"
    return "cannot tell", "rates between the two have too few samples for a p95: raise probe_requests_most"
