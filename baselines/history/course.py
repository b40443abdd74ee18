"""The course of one figure on one host class: the verdict of a history, as a pure function of its values.

Rule `course-1`. Runs are met in the order in which they were made. After each one the runs since the last change are
scanned for a step (baselines.history.scan); a p-value of at most false_alarm_frac / runs_a_month is a change, and the
count begins anew from it. So of series in which nothing changes at most false_alarm_frac alarm in a month of that many
runs (Bonferroni over the looks), provided that runs do not hang together; measured on recorded machines in
tests/test_history_rates.py. What was found once is found in every later reading. Where exactly a change lies is then
told with all runs known today, by ruptures (exact, least squares), with the places that are as likely.

FAIL: worse in the time that is reviewed, by what must be caught or perhaps by it. WARN: worse, surely by less. PASS:
neither, and a change of catch_ratio would have been seen within `found_within` runs. INCONCLUSIVE: too few runs, or
runs that differ by too much, for saying that.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from baselines.history.scan import LEAST_SIDE, largest_step
from baselines.refused import SettingRefused
from metrics.paired import t_quantile
from metrics.verdict import Outcome

RULE = "course-1"
WINDOW, MOST_BACK = 60, 30  # runs that a scan sees, and how far back in them a new level may begin
LIKELY = 6.0  # twice the log of 20: a split that much less likely is left out of the range
BOUND_FRAC = 0.025  # of either bound of a change
REACH = (6.0, 45.0)
SEED = 20261128

Better = Literal["lower", "higher"]


@dataclass(frozen=True, kw_only=True, slots=True)
class CourseLimits:
    """What a history is judged by; runs_a_month: how often one series is looked at."""

    catch_ratio: float = 1.05
    false_alarm_frac: float = 0.01
    runs_a_month: int = 30
    found_within: int = 5

    def __post_init__(self) -> None:
        if not 1 < self.catch_ratio <= 10:
            raise SettingRefused("catch_ratio", self.catch_ratio, "must be above 1, up to 10", "1.05 is usual")
        if not 0.0001 <= self.false_alarm_frac < 0.5:
            raise SettingRefused(
                "false_alarm_frac", self.false_alarm_frac, "must be a share from 0.0001, below 0.5", "0.01 is usual"
            )
        if not 1 <= self.runs_a_month <= 1000:
            raise SettingRefused("runs_a_month", self.runs_a_month, "must be from 1 to 1000", "30 is nightly")
        if not LEAST_SIDE <= self.found_within <= MOST_BACK:
            raise SettingRefused(
                "found_within", self.found_within, f"must be from {LEAST_SIDE} to {MOST_BACK} runs", "5 is usual"
            )

    @property
    def p_limit(self) -> float:
        """Of one look."""
        return self.false_alarm_frac / self.runs_a_month

    @property
    def fewest(self) -> int:
        """Runs of one level before a step after them can be significant at all within `found_within` runs.

        All orders being as likely, one with the new runs at the end comes by chance once in (N choose new) orders, and
        about as often with them at the beginning.
        """
        num = self.found_within + 1
        while 4 / math.comb(num, self.found_within) > self.p_limit:
            num += 1
        return num - self.found_within


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A step. place: the first run of the new level; it may be any from `first` to `last`. found: the run after which
    it was significant. effect: new level over the old one, or less the old one for figures on no ratio scale."""

    place: int
    first: int
    last: int
    found: int
    effect: float
    low: float
    high: float
    p_value: float
    is_worse: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Course:
    """levels: (first run, its typical value) of every stretch. sd: inside the last one, of the logarithms for ratios.
    detectable: the smallest ratio that would be found within `found_within` runs; None where it is not known."""

    outcome: Outcome
    reason: str
    changes: tuple[Change, ...]
    levels: tuple[tuple[int, float], ...]
    sd: float | None
    detectable: float | None


def judge_course(
    values: Sequence[float] | np.ndarray, limits: CourseLimits, *, better: Better, is_ratio: bool, since: int = 0
) -> Course:
    """values: by time, all finite; is_ratio: above 0, and changes are ratios. since: the first run under review.

    Raises ValueError for values that cannot be judged so.
    """
    raw_N = np.asarray(values, dtype=np.float64)
    if raw_N.size == 0 or not np.isfinite(raw_N).all() or (is_ratio and raw_N.min() <= 0):
        raise ValueError("a course needs finite values, above 0 for ratios")
    scaled_N = np.log(raw_N) if is_ratio else raw_N
    found = _alarms(scaled_N, limits)
    places = _placed(scaled_N, [place for place, _, _ in found], [after for _, after, _ in found])
    edges = [0, *places, raw_N.size]
    changes = tuple(
        _change(scaled_N, (before, place, after), alarm, better, is_ratio)
        for before, place, after, alarm in zip(edges, edges[1:], edges[2:], found, strict=False)
    )
    now_N = scaled_N[edges[-2] :]
    sd = statistics.stdev(now_N.tolist()) if now_N.size > 1 else None
    detectable = _detectable(now_N.size, sd, limits) if is_ratio else None
    outcome, reason = _verdict(changes, now_N.size, detectable, limits, since, is_ratio)
    levels = tuple((first, _level(scaled_N[first:last], is_ratio)) for first, last in pairwise(edges))
    return Course(outcome=outcome, reason=reason, changes=changes, levels=levels, sd=sd, detectable=detectable)


def _alarms(scaled_N: np.ndarray, limits: CourseLimits) -> list[tuple[int, int, float]]:
    """(first run of the new level, run after which it was found, p-value), as they were met."""
    found: list[tuple[int, int, float]] = []
    start = 0
    for seen in range(2 * LEAST_SIDE, scaled_N.size + 1):
        first = max(start, seen - WINDOW)
        step = largest_step(scaled_N[first:seen], limits.p_limit, MOST_BACK, SEED)
        if step is not None and step.p_value <= limits.p_limit:
            start = first + step.place
            found.append((start, seen - 1, step.p_value))
    return found


def _placed(scaled_N: np.ndarray, places: Sequence[int], found: Sequence[int]) -> list[int]:
    """Where the steps lie, all runs known: the places of as many steps that leave the least sum of squares.

    One that would then begin after it was found, or before the one before was, stays where it was found; all do where
    they would not follow each other any more.
    """
    if not places:
        return []
    from ruptures import KernelCPD

    fitted = KernelCPD(kernel="linear", min_size=LEAST_SIDE).fit(scaled_N.reshape(-1, 1))
    best = [int(place) for place in fitted.predict(n_bkps=len(places))[:-1]]
    bounds = zip(best, places, [0, *found], found, strict=False)
    placed = [new if before < new <= after else old for new, old, before, after in bounds]
    return placed if all(one < other for one, other in pairwise(placed)) else list(places)


def _change(
    scaled_N: np.ndarray, edges: tuple[int, int, int], alarm: tuple[int, int, float], better: Better, is_ratio: bool
) -> Change:
    before, place, after = edges
    old_N, new_N = scaled_N[before:place], scaled_N[place:after]
    effect = float(new_N.mean() - old_N.mean())
    freedom = old_N.size + new_N.size - 2
    squares = float(((old_N - old_N.mean()) ** 2).sum() + ((new_N - new_N.mean()) ** 2).sum())
    half = t_quantile(freedom + 1, BOUND_FRAC) * math.sqrt(squares / freedom * (1 / old_N.size + 1 / new_N.size))
    first, last = _range(scaled_N[before:after], place - before, squares / freedom)
    shown = (lambda value: math.exp(value)) if is_ratio else (lambda value: value)
    return Change(
        place=place, first=before + first, last=before + last, found=alarm[1], effect=shown(effect),
        low=shown(effect - half), high=shown(effect + half), p_value=alarm[2],
        is_worse=effect > 0 if better == "lower" else effect < 0,
    )  # fmt: skip


def _range(both_N: np.ndarray, place: int, variance: float) -> tuple[int, int]:
    """The first and the last split that is not less than a twentieth as likely as `place` (normal likelihood)."""
    rest = [_squares(both_N, k) for k in range(1, both_N.size)]
    most = rest[place - 1] + LIKELY * variance
    likely = [k for k, squares in enumerate(rest, start=1) if squares <= most]
    return min(likely), max(likely)


def _squares(both_N: np.ndarray, k: int) -> float:
    return float(both_N[:k].var() * k + both_N[k:].var() * (both_N.size - k))


def _detectable(num: int, sd: float | None, limits: CourseLimits) -> float | None:
    """A ratio that is found within `found_within` runs in 95 % of histories; None where too few runs say so.

    In standard errors of the difference that takes REACH[0] + REACH[1] / num at nightly looks: simulated with normal
    runs, 9.0 at 15 runs, 8.3 at 20, 7.3 at 30 and 6.5 at 60, the spread of `sd` itself included.
    """
    if sd is None or num < limits.fewest:
        return None
    se = sd * math.sqrt(1 / limits.found_within + 1 / min(num, WINDOW))
    quantile = statistics.NormalDist().inv_cdf
    strictness = quantile(1 - limits.p_limit) / quantile(1 - CourseLimits().p_limit)
    return math.exp(min((REACH[0] + REACH[1] / num) * strictness * se, 700.0))


def _verdict(
    changes: Sequence[Change], num: int, detectable: float | None, limits: CourseLimits, since: int, is_ratio: bool
) -> tuple[Outcome, str]:
    worse = [change for change in changes if change.is_worse and change.found >= since]
    if worse:
        small = is_ratio and all(max(one.high, 1 / one.low) < limits.catch_ratio for one in worse)
        if small:
            return "WARN", "worse, by less than what must be caught"
        return "FAIL", "worse in the time under review"
    if num < limits.fewest:
        runs = "1 run" if num == 1 else f"{num} runs"
        return "INCONCLUSIVE", f"{runs} of this level, it takes {limits.fewest} before a change can be told"
    if is_ratio and detectable is not None and detectable > limits.catch_ratio:
        return "INCONCLUSIVE", (
            f"runs differ by too much: a change has to be {100 * (detectable - 1):.0f} % to be found within "
            f"{limits.found_within} runs"
        )
    return "PASS", "no change for the worse in the time under review"


def _level(values_N: np.ndarray, is_ratio: bool) -> float:
    """The typical value in the figure's own unit."""
    mean = float(values_N.mean())
    return math.exp(mean) if is_ratio else mean
