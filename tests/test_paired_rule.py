"""The verdict of a same-run comparison as a function of times: exact cases, the error budget, and what may not pass."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baselines.paired.data import CANDIDATE, REFERENCE, SENTINEL, Block, Turn, relabelled, scaled, turn_content
from baselines.paired.rule import PairedLimits, decide, judge, replay
from metrics.paired import Errors, between_sd, between_sd_upper, blocks_to_settle, sign_bounds, t_bounds

LIMITS = PairedLimits()


def block(*ratios: float, sentinel: float | None = None) -> Block:
    turns = []
    for ratio in ratios:
        wall_s = {REFERENCE: 0.2, CANDIDATE: 0.2 * ratio}
        if sentinel is not None:
            wall_s[SENTINEL] = 0.2 * sentinel
        turns.append(Turn(utterance_id="a", order=tuple(wall_s), wall_s=wall_s, cpu_s=wall_s))
    return Block(turns=tuple(turns))


def blocks(*ratios: float) -> list[Block]:
    return [block(ratio, ratio) for ratio in ratios]


@pytest.mark.parametrize(
    ("ratios", "outcome", "exit_code"),
    [
        ((1.0, 1.001, 0.999, 1.0), "PASS", 0),
        ((1.02, 1.021, 1.019, 1.02), "WARN", 0),
        ((1.10, 1.11, 1.09, 1.10), "FAIL", 10),
        ((0.90, 0.91, 0.89, 0.90), "PASS", 0),
        ((1.00, 1.20, 0.90, 1.10), "INCONCLUSIVE", 11),
    ],
)
def test_what_four_blocks_say(ratios: tuple[float, ...], outcome: str, exit_code: int) -> None:
    verdict = judge(blocks(*ratios), LIMITS)
    assert (verdict.outcome, verdict.exit_code) == (outcome, exit_code)
    assert verdict.findings[0].ratio == pytest.approx(math.exp(sum(map(math.log, ratios)) / 4))


def test_the_devices_own_clock_is_a_metric_of_its_own() -> None:
    """The host hides a kernel that became slower, as long as it waits for other things anyway."""
    times = {REFERENCE: 0.1, CANDIDATE: 0.1}
    turn = Turn(
        utterance_id="a", order=tuple(times), wall_s=times, cpu_s=times, device_s={REFERENCE: 0.05, CANDIDATE: 0.06}
    )
    four = [Block(turns=(turn, turn))] * 4
    assert judge(four, LIMITS).outcome == "PASS"
    by_device = judge(four, PairedLimits(metrics=("device_time",)))
    assert (by_device.outcome, by_device.findings[0].ratio) == ("FAIL", pytest.approx(1.2))
    assert turn_content(turn)["device_s"] == {REFERENCE: 0.05, CANDIDATE: 0.06}
    assert "device_s" not in turn_content(block(1.0).turns[0])
    faster = scaled(four[0], CANDIDATE, 0.5).turns[0]
    assert faster.device_s == {REFERENCE: 0.05, CANDIDATE: 0.03}
    assert relabelled(four[0], {CANDIDATE: REFERENCE}).turns[0].device_s == {REFERENCE: 0.06}


def test_a_look_that_does_not_decide_goes_on_and_the_last_is_inconclusive() -> None:
    noisy = [1.2, 0.85] * 8
    assert decide(blocks(*noisy[:4]), LIMITS) is None
    assert decide(blocks(*noisy[:5]), LIMITS) is None
    last = decide(blocks(*noisy), LIMITS)
    assert last is not None
    assert last.outcome == "INCONCLUSIVE"
    needed = last.findings[0].needed
    assert needed is not None
    assert needed > 16


def test_nothing_decides_between_looks() -> None:
    assert decide(blocks(1.0, 1.0, 1.0), LIMITS) is None
    assert replay(blocks(*[1.5] * 16), LIMITS).num_blocks == 4
    with pytest.raises(ValueError, match="3 blocks end before"):
        replay(blocks(1.0, 1.0, 1.0), LIMITS)


def test_four_blocks_that_agree_by_luck_are_not_believed_to_be_exact() -> None:
    finding = judge(blocks(1.0, 1.0, 1.0, 1.0), LIMITS).findings[0]
    assert finding.sd_frac == 0
    assert finding.high > 1.005


def test_one_wild_call_does_not_move_a_block() -> None:
    calm = judge([block(1.0, 1.0, 1.0)] * 4, LIMITS).findings[0].ratio
    assert judge([block(1.0, 1.0, 9.0)] * 4, LIMITS).findings[0].ratio == calm == 1.0


def test_a_sentinel_that_moved_invalidates_whatever_the_candidate_did() -> None:
    moved = [block(1.0, 1.0, sentinel=s) for s in (1.03, 1.031, 1.029, 1.03)]
    verdict = judge(moved, LIMITS)
    assert (verdict.outcome, verdict.exit_code) == ("INVALID_ENV", 12)
    still = judge([block(1.1, 1.1, sentinel=s) for s in (1.0, 1.001, 0.999, 1.0)], LIMITS)
    assert (still.outcome, still.sentinel and still.sentinel.outcome) == ("FAIL", "PASS")


def test_the_budget_is_split_over_looks_and_metrics() -> None:
    assert LIMITS.errors == Errors(0.005 / 3, 0.005 / 3)
    both = PairedLimits(metrics=("wall_time", "cpu_time"))
    assert both.errors == Errors(0.005 / 6, 0.005 / 6)
    narrow, wide = (judge(blocks(1.0, 1.01, 0.99, 1.0), limits).findings[0] for limits in (LIMITS, both))
    assert wide.high > narrow.high


def test_quick_mode_bounds_the_median_turn_exactly() -> None:
    quick = PairedLimits(mode="quick", looks=(12, 24, 48, 96, 192))
    finding = judge([block(*[1 + i / 1000 for i in range(12)])], quick).findings[0]
    assert (finding.low, finding.high) == (pytest.approx(1.0), pytest.approx(1.011))
    assert judge([block(*[1.1 + i / 1000 for i in range(12)])], quick).outcome == "FAIL"
    assert judge([block(1.1, 1.1)], quick).outcome == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"ignore_ratio": 1.1}, "catch_ratio"), ({"looks": (8, 4)}, "looks"), ({"looks": ()}, "looks"),
        ({"metrics": ("rtf",)}, "metrics"), ({"false_alarm_frac": 0.0}, "false_alarm_frac"),
        ({"miss_frac": math.nan}, "miss_frac"),
    ],
)  # fmt: skip
def test_limits_that_mean_nothing_are_refused_by_name(change: dict, key: str) -> None:
    with pytest.raises(ValueError, match=key):
        PairedLimits(**change)


def test_times_that_are_no_times_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        judge(blocks(1.0, 1.0, 0.0, 1.0), LIMITS)
    with pytest.raises(ValueError, match="above 0"):
        judge(blocks(1.0, 1.0, math.nan, 1.0), LIMITS)


@given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=20), st.floats(-1, 1))
def test_bounds_hold_the_mean_and_move_with_it(values: list[float], shift: float) -> None:
    errors = Errors(0.01, 0.01)
    here, there = t_bounds(values, errors), t_bounds([v + shift for v in values], errors)
    assert here.low <= here.log_ratio <= here.high
    assert there.low == pytest.approx(here.low + shift, abs=1e-9)


def test_t_bounds_are_those_of_the_tables() -> None:
    bounds = t_bounds([-1.0, 1.0, -1.0, 1.0], Errors(0.05, 0.01))
    sem = math.sqrt(4 / 3) / 2
    assert bounds.low == pytest.approx(-2.3534 * sem, rel=1e-4)
    assert bounds.high == pytest.approx(4.5407 * sem, rel=1e-4)


def test_order_statistics_need_enough_values() -> None:
    assert sign_bounds([0.0] * 6, Errors(0.01, 0.01)) is None
    bounds = sign_bounds([float(i) for i in range(8)], Errors(0.01, 0.01))
    assert bounds is not None
    assert (bounds.low, bounds.high) == (0.0, 7.0)


def test_how_many_more_would_settle_it() -> None:
    errors, limits = Errors(0.01, 0.01), (0.0, math.log(1.05))
    bounds = t_bounds([0.02, -0.02] * 4, errors)
    needed = blocks_to_settle(bounds, limits, errors, 8)
    assert needed == 9
    hopeless = t_bounds([1.0 + math.log(1.05) / 2, -1.0 + math.log(1.05) / 2] * 8, errors)
    assert blocks_to_settle(hopeless, limits, errors, 16) is None


def test_what_processes_differ_by_is_told_from_what_calls_differ_by() -> None:
    assert between_sd([[1.0, 1.0], [3.0, 3.0]]) == pytest.approx(math.sqrt(2))
    assert between_sd([[0.0, 2.0], [0.0, 2.0]]) == 0.0
    assert between_sd([[0.0, 2.0]]) is None


def test_groups_that_agree_by_luck_have_a_bound_above_zero() -> None:
    few = [[0.0, 2.0], [0.5, 2.5], [1.0, 3.0]]
    assert between_sd(few) == 0.0
    assert (between_sd_upper(few) or 0.0) > 1.0
    assert between_sd_upper([[0.0, 2.0]]) is None


def test_the_bound_of_the_spread_between_groups_holds_as_often_as_it_says() -> None:
    chance = np.random.default_rng(0)
    held = 0
    for _ in range(1000):
        means = chance.normal(0, 1, size=(8, 1))
        held += (between_sd_upper((means + chance.normal(0, 1, size=(8, 6))).tolist()) or 0.0) >= 1.0
    assert held >= 930
