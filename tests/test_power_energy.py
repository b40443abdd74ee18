"""Energy from samples: known power curves through a sensor's filter come back; what does not carry a figure is refused.

The sensor is that of a Jetson as observed: a first-order mean (0.43 s), a value held for 0.43 s, read at 10 Hz.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.power.energy import (
    IDLE_S,
    NoEnergy,
    PowerSample,
    energy_of_counter,
    energy_of_power,
    integrate_j,
    tail_s,
    unwrapped,
)
from metrics.power.throttling import Slowed, short_frac, throttling

TAU_S, HOLD_S, READ_S, STEP_S = 0.43, 0.43, 0.1, 0.001
IDLE_W, START_S = 12.0, 15.0
Curve = Callable[[float], float]  # seconds since the work began, 0 to 1 of the work -> watts above idle

SHAPES: dict[str, Curve] = {
    "constant": lambda x: 18.0,
    "ramp": lambda x: 30.0 * x,
    "pulses": lambda x: 25.0 if int(x * 8) % 2 else 3.0,
    "sine": lambda x: 15.0 + 10.0 * math.sin(40 * x),
}


def sensed(shape: Curve, busy_s: float, phase_s: float = 0.0, idle_w: float = IDLE_W) -> list[PowerSample]:
    """What is read while the board idles, works for busy_s from START_S on, and idles again."""
    end_s = START_S + busy_s + tail_s(HOLD_S) + IDLE_S + 2
    state, held, found = idle_w, idle_w, []
    next_hold_s, next_read_s = phase_s, 0.0
    for i in range(round(end_s / STEP_S)):
        t_s = i * STEP_S
        watts = idle_w + (shape((t_s - START_S) / busy_s) if START_S <= t_s < START_S + busy_s else 0.0)
        state += (watts - state) * STEP_S / TAU_S
        if t_s >= next_hold_s:
            held, next_hold_s = state, next_hold_s + HOLD_S
        if t_s >= next_read_s:
            found.append(PowerSample(t_s, held))
            next_read_s += READ_S
    return found


def exact_j(shape: Curve, busy_s: float) -> float:
    num = 100_000
    return sum(shape((i + 0.5) / num) for i in range(num)) / num * busy_s


def measured(samples: Sequence[PowerSample], busy_s: float):  # type: ignore[no-untyped-def]
    return energy_of_power(samples, START_S, START_S + busy_s, interval_s=READ_S, update_interval_s=HOLD_S)


@pytest.mark.parametrize("phase_s", [0.0, 0.13, 0.29, 0.41])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("busy_s", "bound"), [(10.0, 0.01), (30.0, 0.005)])
def test_a_known_curve_comes_back_through_the_filter(shape: str, busy_s: float, bound: float, phase_s: float) -> None:
    found = measured(sensed(SHAPES[shape], busy_s, phase_s), busy_s)
    net_j = exact_j(SHAPES[shape], busy_s)
    assert found.net_j == pytest.approx(net_j, rel=bound)
    assert found.gross_j == pytest.approx(net_j + IDLE_W * busy_s, rel=bound)
    assert found.power_mean_w == pytest.approx(net_j / busy_s + IDLE_W, rel=bound)
    assert found.power_idle_w == pytest.approx(IDLE_W, rel=0.01)
    assert found.drift is None
    assert found.longest_gap_s < 0.2


def test_without_the_tail_the_same_curve_is_four_percent_low() -> None:
    """Why there is one."""
    samples = sensed(SHAPES["constant"], 10.0)
    raw_j = integrate_j(samples, START_S, START_S + 10.0)
    assert raw_j / (10 * 30.0) - 1 < -0.015
    net = raw_j - 10 * IDLE_W
    assert net / 180.0 - 1 < -0.03


def test_a_board_that_stays_warm_is_told() -> None:
    samples = sensed(SHAPES["constant"], 30.0)
    warmer = [PowerSample(one.t_s, one.watts + (1.0 if one.t_s > START_S + 34 else 0.0)) for one in samples]
    assert "12.00 W before and 13.00 W after" in (measured(warmer, 30.0).drift or "")


WHOLE = sensed(SHAPES["sine"], 12.0)


@pytest.mark.parametrize(
    ("samples", "busy_s", "said"),
    [
        (WHOLE, 9.9, "9.9 s of work are too short"),
        ([one for one in WHOLE if not 20 < one.t_s < 21.6], 12.0, "without a sample, allowed are 1.29 s"),
        ([one for one in WHOLE if one.t_s > 8], 12.0, "3.10 s without a sample"),
        ([one for one in WHOLE if one.t_s < 31], 12.0, "without a sample"),
        ([PowerSample(one.t_s, 12.0) for one in WHOLE], 12.0, "0 new values while busy"),
        ([*WHOLE[:200], PowerSample(1.0, 12.0), *WHOLE[200:]], 12.0, "it must go forward"),
        ([*WHOLE[:200], WHOLE[200], WHOLE[200], *WHOLE[201:]], 12.0, "it must go forward"),
        ([*WHOLE[:200], PowerSample(WHOLE[200].t_s, -1.0), *WHOLE[201:]], 12.0, "is no power"),
        ([*WHOLE[:200], PowerSample(WHOLE[200].t_s, math.nan), *WHOLE[201:]], 12.0, "is no power"),
        ([], 12.0, "without a sample"),
    ],
)
def test_what_does_not_carry_a_figure_is_refused_with_the_reason(
    samples: list[PowerSample], busy_s: float, said: str
) -> None:
    with pytest.raises(NoEnergy, match=said):
        measured(samples, busy_s)


@given(st.floats(0, 100), st.floats(0, 100), st.floats(0.01, 5), st.floats(0.01, 5))
def test_a_straight_line_is_integrated_exactly(low: float, high: float, from_s: float, length_s: float) -> None:
    end_s = from_s + length_s
    samples = [PowerSample(t * 11 / 40, low * (1 - t / 40) + high * t / 40) for t in range(41)]
    middle = low + (high - low) * (from_s + end_s) / 2 / 11
    assert integrate_j(samples, from_s, end_s) == pytest.approx(middle * length_s, rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(0, 500), min_size=12, max_size=40), st.integers(1, 10))
def test_two_parts_are_the_whole(watts: list[float], cut: int) -> None:
    samples = [PowerSample(float(i), value) for i, value in enumerate(watts)]
    end = float(len(watts) - 1)
    parts = integrate_j(samples, 0, cut + 0.3) + integrate_j(samples, cut + 0.3, end)
    assert parts == pytest.approx(integrate_j(samples, 0, end), rel=1e-9, abs=1e-9)


def counted(idle_w: float, busy_w: float, busy_s: float, step_s: float = 0.1) -> list[tuple[float, float]]:
    """A counter that idles, works from START_S on, and idles."""
    found, joules = [(0.0, 5000.0)], 5000.0
    for i in range(1, round((START_S + busy_s + 12) / step_s) + 1):
        t_s = i * step_s
        joules += step_s * (busy_w if START_S < t_s <= START_S + busy_s + 1e-9 else idle_w)
        found.append((t_s, joules))
    return found


def test_a_counter_is_read_at_both_ends() -> None:
    found = energy_of_counter(counted(70.0, 400.0, 30.0), START_S, START_S + 30.0, interval_s=0.1)
    assert (found.gross_j, found.net_j) == (pytest.approx(12000, rel=1e-6), pytest.approx(9900, rel=1e-6))
    assert (found.power_idle_w, found.tail_s) == (pytest.approx(70), 0)


@pytest.mark.parametrize(
    ("readings", "said"),
    [
        ([(t, j if t < 20 else j - 5000) for t, j in counted(70, 400, 30)], "the counter went back"),
        ([(t, j) for t, j in counted(70, 400, 30) if not 20 < t < 21], "without a reading of the counter"),
        ([(t, 7000.0) for t, _ in counted(70, 400, 30)], "0 new values while busy"),
    ],
)
def test_a_counter_that_was_set_back_or_stood_still_is_refused(readings: list[tuple[float, float]], said: str) -> None:
    with pytest.raises(NoEnergy, match=said):
        energy_of_counter(readings, START_S, START_S + 30.0, interval_s=0.1)


@given(st.lists(st.floats(0, 40), min_size=2, max_size=60), st.floats(0, 99))
def test_a_counter_that_begins_anew_at_its_span_goes_on(steps: list[float], first: float) -> None:
    true = [first]
    for step in steps:
        true.append(true[-1] + step)
    found = unwrapped([value % 100.0 for value in true], 100.0)
    assert found == pytest.approx(true, abs=1e-6)


def test_a_counter_that_was_reset_stays_one() -> None:
    assert any(two < one for one, two in pairwise(unwrapped([10.0, 40.0, 0.0, 5.0], 100.0)))


BEFORE = Slowed(events={"oc1": 1, "oc2": 0, "oc3": 100})


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (BEFORE, []),
        (Slowed(events={"oc1": 1, "oc2": 0, "oc3": 800}), []),  # 700 events in 100 s: 0.8 %
        (Slowed(events={"oc1": 1, "oc2": 0, "oc3": 1100}), ["held the clocks down for 1.1 % of the time"]),
        (Slowed(events={"oc1": 3, "oc2": 0, "oc3": 100}), ["2 events of under-voltage"]),
        (Slowed(events={"oc1": 1, "oc2": 1, "oc3": 100}), ["1 events of average over-current"]),
        (Slowed(events={"oc1": 0, "oc2": 0, "oc3": 0}), ["oc1 went back from 1 to 0", "oc3 went back"]),
        (Slowed(events=BEFORE.events, acting=("cpu-throttle-alert",)), ["cpu-throttle-alert was throttling"]),
        (Slowed(), []),
    ],
)
def test_what_slowed_the_board_is_named_and_what_is_normal_is_not(after: Slowed, said: list[str]) -> None:
    found = throttling(BEFORE, after, 100.0)
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))


def test_the_share_of_short_events_is_known_or_is_none() -> None:
    assert short_frac(BEFORE, Slowed(events={"oc3": 200}), 110.0) == pytest.approx(1e-3)
    assert short_frac(BEFORE, Slowed(), 110.0) is None
    with pytest.raises(ValueError, match="must be above 0"):
        short_frac(BEFORE, BEFORE, 0.0)
