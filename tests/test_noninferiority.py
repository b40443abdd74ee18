"""Bounds of paired differences: exact cases by hand, simulated coverage and false acceptance; the planner's tables."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from baselines.quality import noninferiority
from baselines.quality.noninferiority import (
    METHODS,
    Method,
    Question,
    answer,
    answer_share,
    bounds_of,
    num_for_share,
    precision_of,
    share_bounds,
    values_needed,
)
from baselines.quality.samples import clips_for_rate, pairs_for_margin, pairs_for_margin_t
from metrics.paired import Errors, t_quantile

TWO_SIDED = Errors(low=0.025, high=0.025)
ONE_SIDED = Errors(low=0.05, high=0.05)


def question(margin: float, method: Method = "auto", alarm_error: float = 0.05) -> Question:
    return Question(limit=-margin, accept_error=0.05, alarm_error=alarm_error, is_difference=True, method=method)


def test_signed_ranks_by_hand() -> None:
    # n = 5: P(T <= 0) = 1/32 < 0.05 < P(T <= 1) = 2/32, so the bounds are the smallest and largest mean of a pair
    found = bounds_of([1.0, 2.0, 4.0, 8.0, 16.0], ONE_SIDED, "signed_rank")
    assert (found.low, found.high) == (1.0, 16.0)
    assert found.estimate == 5.0  # the 8th of the 15 means: 1 1.5 2 2.5 3 4 4.5 5 6 8 8.5 9 10 12 16
    # n = 4 has no one-sided bound at 5 %: 1/16 is more
    assert bounds_of([1.0, 2.0, 4.0, 8.0], ONE_SIDED, "signed_rank").low == -math.inf


def test_permutation_of_few_values_is_the_sign_flip_test_itself() -> None:
    values = np.array([0.3, -0.1, 0.7, 0.2, 0.9, -0.4, 0.5])
    found = bounds_of(values.tolist(), ONE_SIDED, "permutation")

    def p_value(shift: float) -> float:
        centred = values - shift
        sums = [float(np.dot(signs, centred)) for signs in itertools.product((1, -1), repeat=values.size)]
        return float(np.mean([total >= centred.sum() - 1e-12 for total in sums]))

    assert p_value(found.low - 1e-6) <= 0.05 < p_value(found.low + 1e-6)
    assert -found.high == bounds_of((-values).tolist(), ONE_SIDED, "permutation").low


@pytest.mark.parametrize(
    ("method", "num", "lowest"),
    [("bca", 30, 0.93), ("signed_rank", 8, 0.93), ("signed_rank", 20, 0.93), ("sign", 20, 0.93),
     ("permutation", 10, 0.93), ("permutation", 30, 0.93)],
)  # fmt: skip
def test_coverage_and_false_acceptance(
    method: Method, num: int, lowest: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """95 % intervals cover in 93 to 97 % of normal samples; what lies at the margin is accepted in 5 % at most."""
    monkeypatch.setattr(noninferiority, "DRAWS", 1000)
    rng = np.random.default_rng(11)
    simulations = 800
    samples = rng.normal(0.0, 1.0, (simulations, num)) - 0.5  # the truth is at the margin of 0.5
    covered = accepted = 0
    for sample in samples:
        found = bounds_of(sample.tolist(), TWO_SIDED, method)
        covered += found.low <= -0.5 <= found.high
        accepted += bounds_of(sample.tolist(), ONE_SIDED, method).low > -0.5
    assert lowest <= covered / simulations <= 0.97
    # 5 % and three standard errors of 800 simulations
    assert accepted / simulations <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / simulations)


def test_bca_of_skewed_differences_keeps_false_acceptance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noninferiority, "DRAWS", 1000)
    rng = np.random.default_rng(3)
    samples = 1.0 - rng.exponential(1.0, (300, 30))  # a few sentences lose much: mean 0
    covered = np.mean([(b := bounds_of(s.tolist(), TWO_SIDED, "bca")).low <= 0 <= b.high for s in samples])
    assert 0.90 <= covered <= 0.98


def test_four_outcomes() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 0.5, 40)
    noise -= noise.mean()
    said = {shift: answer((noise + shift).tolist(), question(1.0)).outcome for shift in (0.5, 0.0, -0.5, -1.0, -2.0)}
    assert said == {0.5: "better", 0.0: "not worse", -0.5: "not worse", -1.0: "inconclusive", -2.0: "worse"}


def test_what_more_sentences_would_settle_is_true() -> None:
    """Were mean and spread to stay, the number that is printed settles it."""
    values = [0.9, -3.1, 1.2, -2.4, 0.3, -1.9, 0.2, -1.2, 0.4, -0.7]
    first = answer(values, question(1.5))
    assert first.outcome == "inconclusive"
    assert first.needed is not None
    again = (values * math.ceil(first.needed / len(values) + 1))[: first.needed + len(values)]
    assert answer(again, question(1.5)).outcome == "not worse"
    assert values_needed([0.0, -3.0], question(1.5)) is None  # exactly at the margin: no number will do


def test_too_few_values_are_inconclusive_however_good() -> None:
    found = answer([5.0, 5.1, 4.9], question(1.0))
    assert (found.outcome, found.bounds.low, found.needed) == ("inconclusive", -math.inf, 5)


def test_an_alarm_has_its_share_of_the_budget() -> None:
    values = (np.random.default_rng(1).normal(-1.3, 1.0, 40)).tolist()
    assert answer(values, question(1.0, alarm_error=0.05)).outcome == "worse"
    assert answer(values, question(1.0, alarm_error=0.001)).outcome == "inconclusive"


@pytest.mark.parametrize("method", METHODS)
def test_equal_differences_have_no_spread(method: Method) -> None:
    found = bounds_of([0.25] * 30, ONE_SIDED, method)
    assert (found.low, found.estimate, found.high) == (0.25, 0.25, 0.25)


@pytest.mark.parametrize("values", [[], [math.nan, 1.0], [math.inf]])
def test_what_is_no_number_is_refused(values: list[float]) -> None:
    with pytest.raises(ValueError, match="finite values only"):
        bounds_of(values, ONE_SIDED)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-100, 100), min_size=1, max_size=25),
    st.sampled_from([m for m in METHODS if m != "bca"]),
    st.floats(-50, 50),
)
def test_bounds_move_with_the_values_and_mirror(values: list[float], method: Method, shift: float) -> None:
    found, moved = bounds_of(values, ONE_SIDED, method), bounds_of([v + shift for v in values], ONE_SIDED, method)
    mirrored = bounds_of([-v for v in values], ONE_SIDED, method)
    assert found.low <= found.estimate + 1e-9
    assert found.estimate <= found.high + 1e-9
    assert moved.low == pytest.approx(found.low + shift, abs=1e-6)
    assert mirrored.low == pytest.approx(-found.high, abs=1e-9)


def test_shares_and_the_number_needed() -> None:
    asked = Question(limit=0.01, accept_error=0.05, alarm_error=0.05, is_difference=False)
    assert share_bounds(0, 30, ONE_SIDED).high == pytest.approx(1 - 0.05 ** (1 / 30))
    found = answer_share(0, 30, asked)
    assert (found.outcome, found.needed) == ("inconclusive", 299)
    assert answer_share(0, 298, asked).outcome == "inconclusive"
    assert answer_share(0, 299, asked).outcome == "not worse"
    assert answer_share(1, 473, asked).outcome == "not worse"
    assert answer_share(3, 30, asked).outcome == "worse"
    assert [num_for_share(0.01, 0.05, events) for events in (0, 1, 4)] == [299, 473, 913]


def test_precision_of_pairs() -> None:
    first = [1.0, 2.0, 3.0, 4.0]
    found = precision_of(first, [1.1, 2.1, 3.1, 4.3])
    assert found is not None
    assert found.paired_se == pytest.approx(0.05)
    assert found.gain is not None
    assert found.gain > 10
    same = precision_of(first, first)
    assert same is not None
    assert same.gain is None
    assert precision_of([1.0], [2.0]) is None


@pytest.mark.parametrize(
    ("margin", "sd", "num"),
    [(0.1, 0.15, 14), (0.1, 0.3, 56), (1, 3, 56), (1, 5, 155), (0.01, 0.02, 25), (0.02, 0.05, 39), (0.1, 1.0, 619),
     (0.1, 1.2, 891), (0.5, 1.2, 36)],
)  # fmt: skip
def test_planner_has_the_tables_of_the_literature(margin: float, sd: float, num: int) -> None:
    assert pairs_for_margin(margin, sd) == num
    assert num <= pairs_for_margin_t(margin, sd) <= num + 2


def test_planned_power_is_reached_and_one_fewer_misses_it() -> None:
    num = pairs_for_margin_t(1.0, 1.5, 0.9)
    rng = np.random.default_rng(5)
    passed = []
    for count in (num, num - 4):
        samples = rng.normal(0, 1.5, (20_000, count))
        bound = samples.mean(1) - t_quantile(count, 0.05) * samples.std(1, ddof=1) / math.sqrt(count)
        passed.append(float(np.mean(bound > -1.0)))
    assert passed[0] == pytest.approx(0.9, abs=0.012)
    assert passed[1] < 0.89


def test_clips_for_a_rate_are_exact() -> None:
    assert clips_for_rate(0.01) == clips_for_rate(0.01, power=0.9) == 299
    num = clips_for_rate(0.05, 0.01, 0.8)

    def power(n: int) -> float:
        most = max((k for k in range(n) if binom.cdf(k, n, 0.05) <= 0.05), default=-1)
        return float(binom.cdf(most, n, 0.01))

    assert power(num) >= 0.8
    assert power(num - 1) < 0.8
    with pytest.raises(ValueError, match=r"true_rate=0.05: must lie from 0 to under the limit 0.05"):
        clips_for_rate(0.05, 0.05)
