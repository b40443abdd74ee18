"""Joules of a stretch of work, from samples of power or from a counter of energy; a reason where they do not carry it.

Sensors filter: on a Jetson the chip averages over some hundred milliseconds, so at the end of the work part of its
energy is still to come. Integrating on into the quiet time behind it and taking away what the idle board would have
used needs no knowledge of the filter, only that it is linear with gain one:

    net J   = integral from t0 to t1 + tail of (P - P_idle) dt
    gross J = net J + P_idle * (t1 - t0)

P_idle is the mean of two medians, before the work and behind the tail. Error of that in simulation (first order,
0.43 s, values held for 0.43 s, read at 10 Hz): under 0.5 % for 10 s of work, 0.1 % for 30 s; 1 % where the power swings
from low to high every 1.5 s all the while, which so few values cannot follow.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

FEWEST_BUSY_S = 10.0
FEWEST_UPDATES = 20  # new values while busy: what is held and read again says nothing new
MOST_MISSED = 3.0  # intervals without a sample
IDLE_S = 10.0
FEWEST_IDLE = 5
SHORTEST_TAIL_S = 4.0
TAIL_INTERVALS = 8.0
IDLE_DRIFT_FRAC = 0.05


class NoEnergy(ValueError):
    """The samples do not carry a figure. Its text says why, and what would."""


@dataclass(frozen=True, slots=True)
class PowerSample:
    """t_s: by a clock that only goes forward. watts: of the whole board by its rule."""

    t_s: float
    watts: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Energy:
    """gross_j: all that was used in busy_s; net_j: of that, what an idle board would not have used.

    drift: a line where the idle board before and after were not the same. num_updates: samples that said something new.
    """

    gross_j: float
    net_j: float
    busy_s: float
    tail_s: float
    power_mean_w: float
    idle_before_w: float
    idle_after_w: float
    num_samples: int
    num_updates: int
    longest_gap_s: float
    drift: str | None = None

    @property
    def power_idle_w(self) -> float:
        return (self.idle_before_w + self.idle_after_w) / 2


def tail_s(update_interval_s: float) -> float:
    """How long the board must stay quiet before what the sensor still holds back has come."""
    return max(SHORTEST_TAIL_S, TAIL_INTERVALS * update_interval_s)


def integrate_j(samples: Sequence[PowerSample], start_s: float, end_s: float) -> float:
    """By trapezoids, the edges interpolated. Raises NoEnergy where the samples do not reach them, or are no curve."""
    _check(samples)
    if not samples or samples[0].t_s > start_s or samples[-1].t_s < end_s:
        raise NoEnergy(f"no samples from {start_s:g} s to {end_s:g} s: the sampler must run before and after the work")
    joules = 0.0
    for one, two in pairwise(samples):
        from_s, to_s = max(one.t_s, start_s), min(two.t_s, end_s)
        if to_s > from_s:
            joules += (_at(one, two, from_s) + _at(one, two, to_s)) / 2 * (to_s - from_s)
    return joules


def energy_of_power(
    samples: Sequence[PowerSample], start_s: float, end_s: float, *, interval_s: float, update_interval_s: float
) -> Energy:
    """interval_s: between two readings as it was asked for; update_interval_s: between two values of the sensor.

    The samples must cover 10 s before the work, the tail, and 10 s behind it. Raises NoEnergy.
    """
    tail = tail_s(update_interval_s)
    _check(samples)
    _refuse_short(end_s - start_s)
    first_s, last_s = start_s - IDLE_S, end_s + tail + IDLE_S
    used = [sample for sample in samples if first_s <= sample.t_s <= last_s]
    gap_s = _longest_gap(used, first_s, last_s)
    limit_s = MOST_MISSED * max(interval_s, update_interval_s)
    if gap_s > limit_s:
        raise NoEnergy(f"{gap_s:.2f} s without a sample, allowed are {limit_s:.2f} s: what was used then is not known")
    before_w = _idle(used, first_s, start_s)
    after_w = _idle(used, end_s + tail, last_s)
    busy = [sample.watts for sample in used if start_s <= sample.t_s <= end_s + tail]
    num_updates = sum(one != two for one, two in pairwise(busy))
    if num_updates < FEWEST_UPDATES:
        raise NoEnergy(f"{num_updates} new values while busy, it takes {FEWEST_UPDATES}: too coarse; work longer")
    idle_w, busy_s = (before_w + after_w) / 2, end_s - start_s
    net_j = integrate_j(samples, start_s, end_s + tail) - idle_w * (busy_s + tail)
    gross_j = net_j + idle_w * busy_s
    return Energy(
        gross_j=gross_j, net_j=net_j, busy_s=busy_s, tail_s=tail, power_mean_w=gross_j / busy_s,
        idle_before_w=before_w, idle_after_w=after_w, num_samples=len(used), num_updates=num_updates,
        longest_gap_s=gap_s, drift=_drift(before_w, after_w),
    )  # fmt: skip


def energy_of_counter(
    readings: Sequence[tuple[float, float]], start_s: float, end_s: float, *, interval_s: float
) -> Energy:
    """readings: (seconds, joules since some beginning), wraparound already undone. Same figures, and no tail: a counter
    holds nothing back. Raises NoEnergy, also where the counter was set back."""
    _refuse_short(end_s - start_s)
    for (_, one), (_, two) in pairwise(readings):
        if two < one:
            raise NoEnergy(f"the counter went back from {one:g} J to {two:g} J: it was reset while the board worked")
    curve = [PowerSample(t_s, joules) for t_s, joules in readings]  # its "watts" are joules: only looked up, not summed
    _check(curve)
    first_s, last_s = start_s - IDLE_S, end_s + IDLE_S
    used = [sample for sample in curve if first_s <= sample.t_s <= last_s]
    gap_s = _longest_gap(used, first_s, last_s)
    if gap_s > MOST_MISSED * interval_s:
        raise NoEnergy(f"{gap_s:.2f} s without a reading of the counter, allowed are {MOST_MISSED * interval_s:.2f} s")
    busy = [sample.watts for sample in used if start_s <= sample.t_s <= end_s]
    num_updates = sum(one != two for one, two in pairwise(busy))
    if num_updates < FEWEST_UPDATES:
        raise NoEnergy(f"{num_updates} new values while busy, it takes {FEWEST_UPDATES}: too coarse; work longer")
    before_w = _slope(curve, max(first_s, curve[0].t_s), start_s)
    after_w = _slope(curve, end_s, min(last_s, curve[-1].t_s))
    busy_s, gross_j = end_s - start_s, _read_at(curve, end_s) - _read_at(curve, start_s)
    return Energy(
        gross_j=gross_j, net_j=gross_j - (before_w + after_w) / 2 * busy_s, busy_s=busy_s, tail_s=0.0,
        power_mean_w=gross_j / busy_s, idle_before_w=before_w, idle_after_w=after_w, num_samples=len(used),
        num_updates=num_updates, longest_gap_s=gap_s, drift=_drift(before_w, after_w),
    )  # fmt: skip


def unwrapped(values: Sequence[float], span: float) -> list[float]:
    """A counter that begins at 0 again beyond `span` (RAPL's max_energy_range_uj), as one that does not.

    Only from its upper half to its lower one: anything else that goes back is a reset, and stays one.
    """
    if span <= 0:
        raise ValueError(f"span={span}: must be above 0")
    found: list[float] = []
    added = 0.0
    for i, value in enumerate(values):
        if i and value < values[i - 1] and values[i - 1] > span / 2 > value:
            added += span
        found.append(value + added)
    return found


def _check(samples: Sequence[PowerSample]) -> None:
    for sample in samples:
        if not math.isfinite(sample.watts) or sample.watts < 0 or not math.isfinite(sample.t_s):
            raise NoEnergy(f"a sample of {sample.watts} at {sample.t_s} s is no power")
    for one, two in pairwise(samples):
        if two.t_s <= one.t_s:
            raise NoEnergy(f"the clock of the samples went from {one.t_s:g} s to {two.t_s:g} s: it must go forward")


def _refuse_short(busy_s: float) -> None:
    if busy_s < FEWEST_BUSY_S:
        raise NoEnergy(f"{busy_s:.1f} s of work are too short for its energy, it takes {FEWEST_BUSY_S:g} s: repeat it")


def _longest_gap(used: Sequence[PowerSample], first_s: float, last_s: float) -> float:
    """With the way from the edges to the first and from the last sample."""
    times = [first_s, *(sample.t_s for sample in used), last_s]
    return max(two - one for one, two in pairwise(times))


def _idle(used: Sequence[PowerSample], from_s: float, to_s: float) -> float:
    values = [sample.watts for sample in used if from_s <= sample.t_s <= to_s]
    if len(values) < FEWEST_IDLE:
        raise NoEnergy(f"{len(values)} samples of the idle board, it takes {FEWEST_IDLE}: read more often")
    return statistics.median(values)


def _drift(before_w: float, after_w: float) -> str | None:
    most = max(before_w, after_w)
    if most == 0 or abs(before_w - after_w) <= IDLE_DRIFT_FRAC * most:
        return None
    return f"the idle board used {before_w:.2f} W before and {after_w:.2f} W after: net_j depends on which is meant"


def _at(one: PowerSample, two: PowerSample, t_s: float) -> float:
    return one.watts + (two.watts - one.watts) * (t_s - one.t_s) / (two.t_s - one.t_s)


def _read_at(curve: Sequence[PowerSample], t_s: float) -> float:
    """The counter between its readings."""
    for one, two in pairwise(curve):
        if one.t_s <= t_s <= two.t_s:
            return _at(one, two, t_s)
    raise NoEnergy(f"no reading of the counter around {t_s:g} s: the sampler must run before and after the work")


def _slope(curve: Sequence[PowerSample], from_s: float, to_s: float) -> float:
    if to_s <= from_s:
        raise NoEnergy("the counter was not read while the board was idle, before the work and after it")
    return (_read_at(curve, to_s) - _read_at(curve, from_s)) / (to_s - from_s)
