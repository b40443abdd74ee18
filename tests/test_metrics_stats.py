"""metrics.stats: exact answers where a formula gives one, coverage by simulation, properties by hypothesis."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from metrics.stats import (
    MIN_TRIALS,
    clopper_pearson,
    median_interval,
    min_trials,
    quantile,
    quantile_interval,
    ratio_interval,
    trend_interval,
)

values = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=60)
times = st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=6, max_size=40)


def test_the_trials_a_percentile_takes():
    assert MIN_TRIALS == {0.95: 59, 0.99: 299}
    assert min_trials(0.5, 0.75) == 2  # 1 - 0.25 is 0.75 exactly


@given(q=st.floats(0.01, 0.999), confidence=st.floats(0.01, 0.999))
def test_min_trials_is_the_smallest_that_suffices(q, confidence):
    num = min_trials(q, confidence)
    assert 1 - q**num >= confidence
    assert num == 1 or 1 - q ** (num - 1) < confidence


@given(values, st.floats(0, 1))
def test_quantile_is_numpys(data, q):
    assert quantile(data, q) == np.quantile(data, q)


@pytest.mark.parametrize("data", [[], [1.0, math.nan], [math.inf]])
def test_statistics_refuse_what_is_not_a_number(data):
    with pytest.raises(ValueError, match="finite"):
        quantile(data, 0.5)
    with pytest.raises(ValueError, match="finite"):
        median_interval(data)


@pytest.mark.parametrize(("confidence", "smallest"), [(0.95, 6), (0.99, 8)])
def test_median_interval_needs_enough_values(confidence, smallest):
    assert median_interval(list(range(smallest - 1)), confidence) is None
    assert median_interval(list(range(smallest)), confidence) == (0, smallest - 1)


def test_median_interval_of_a_known_table():
    # n = 20 at 95 %: the 6th and the 15th value (coverage 0.9586), the textbook's sign-test interval.
    assert median_interval(list(range(1, 21)), 0.95) == (6, 15)


@given(values, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_median_interval_holds_the_sample_median(data, confidence):
    interval = median_interval(data, confidence)
    if interval is not None:
        assert min(data) <= interval[0] <= np.median(data) <= interval[1] <= max(data)


@pytest.mark.parametrize("num", [8, 25, 60])
def test_median_interval_covers_as_promised(num):
    rng = np.random.default_rng(20)
    samples = rng.lognormal(0.0, 1.0, size=(4000, num))  # skewed like latencies; the true median is 1
    covered = 0
    for sample in samples:
        interval = median_interval(sample, 0.95)
        assert interval is not None
        covered += interval[0] <= 1.0 <= interval[1]
    assert covered / 4000 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 4000)


def test_ratio_interval_of_a_constant_ratio_is_exact():
    result = ratio_interval([2.0 * t for t in range(1, 11)], list(range(1, 11)), 0.95)
    assert result is not None
    assert (result.ratio, result.low, result.high) == pytest.approx((2.0, 2.0, 2.0))
    assert (result.num_pairs, result.confidence) == (10, 0.95)


@given(times)
def test_ratio_interval_inverts_when_the_sides_swap(pairs):
    over, under = zip(*pairs, strict=True)
    forward, backward = ratio_interval(over, under), ratio_interval(under, over)
    assert forward is not None
    assert backward is not None
    assert forward.low <= forward.ratio * (1 + 1e-12)
    assert forward.ratio <= forward.high * (1 + 1e-12)
    inverted = (1 / backward.ratio, 1 / backward.high, 1 / backward.low)
    assert (forward.ratio, forward.low, forward.high) == pytest.approx(inverted)


def test_ratio_interval_refuses_what_is_not_pairs_of_times():
    assert ratio_interval([1.0] * 5, [1.0] * 5) is None  # too few for 95 %
    with pytest.raises(ValueError, match="not pairs"):
        ratio_interval([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="above 0"):
        ratio_interval([1.0, 0.0], [1.0, 1.0])


def test_clopper_pearson_says_what_no_hit_proves():
    # The rule of three, exactly: 0 of n excludes shares over 1 - (alpha / 2) ** (1 / n).
    assert clopper_pearson(0, 30, 0.90) == pytest.approx((0.0, 1 - 0.05 ** (1 / 30)))
    assert clopper_pearson(30, 30, 0.90) == pytest.approx((0.05 ** (1 / 30), 1.0))
    assert clopper_pearson(0, 300, 0.90)[1] < 0.01


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_clopper_pearson_leaves_half_of_the_error_on_either_side(counts, confidence):
    successes, n = counts
    low, high = clopper_pearson(successes, n, confidence)
    assert 0 <= low <= successes / n <= high <= 1
    if successes > 0:
        assert stats.binom.sf(successes - 1, n, low) == pytest.approx((1 - confidence) / 2)
    if successes < n:
        assert stats.binom.cdf(successes, n, high) == pytest.approx((1 - confidence) / 2)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (-1, 5), (6, 5)])
def test_clopper_pearson_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match="not a share"):
        clopper_pearson(successes, n)


def test_the_table_of_minimal_trials_is_the_published_one():
    quantiles = (0.5, 0.9, 0.95, 0.99)
    assert [min_trials(q) for q in quantiles] == [5, 29, 59, 299]


@pytest.mark.parametrize(("q", "smallest"), [(0.5, 6), (0.95, 59), (0.99, 299)])
def test_a_percentile_has_an_interval_from_the_trials_on_that_it_is_printed_from(q, smallest):
    assert quantile_interval(list(range(smallest - 1)), q) is None
    interval = quantile_interval(list(range(smallest)), q)
    assert interval is not None
    assert interval[0] <= quantile(list(range(smallest)), q) <= interval[1] == smallest - 1


@pytest.mark.parametrize(("q", "num"), [(0.5, 25), (0.5, 60), (0.95, 59), (0.95, 100), (0.99, 299), (0.99, 400)])
def test_percentile_intervals_cover_93_to_97_percent(q, num):
    """Order statistics come in steps: exactly covered are 95.0 to 97.5 %, more only under 20 values (n = 6: 96.9 %)."""
    rng = np.random.default_rng(21)
    truth = stats.lognorm.ppf(q, 1.0)
    covered = 0
    for sample in rng.lognormal(0.0, 1.0, size=(2000, num)):
        interval = quantile_interval(sample, q)
        assert interval is not None
        covered += interval[0] <= truth <= interval[1]
    assert 0.93 <= covered / 2000 <= 0.97


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_no_percentile_interval_covers_less_than_it_says(q):
    for num in (6, 7, 13, 59, 72, 93, 139, 299, 541, 680):
        interval = quantile_interval(list(range(1, num + 1)), q)
        if interval is not None:
            low, high = (int(end) for end in interval)
            exact = stats.binom.cdf(high - 1, num, q) - stats.binom.cdf(low - 1, num, q)
            assert 0.95 - 1e-12 <= exact <= (0.985 if num < 20 else 0.975)


def test_a_trend_is_found_across_levels_that_differ():
    groups = ["a", "b", "c"] * 4
    level = {"a": 0.0, "b": 5.0, "c": -2.0}
    falling = [level[g] - 0.5 * i for i, g in enumerate(groups)]
    assert trend_interval(falling, groups) == pytest.approx((-0.5, -0.5))
    assert trend_interval([level[g] for g in groups], groups) == pytest.approx((0.0, 0.0))
    assert trend_interval([1.0, 2.0, 3.0], ["a", "a", "a"]) is None


def test_a_trend_interval_holds_zero_for_95_of_100_steady_series():
    rng = np.random.default_rng(22)
    groups = ["a", "b", "c"] * 3
    intervals = [trend_interval(noise, groups) for noise in rng.normal(0, 1, (2000, 9)).tolist()]
    steady = sum(low <= 0 <= high for low, high in (pair for pair in intervals if pair is not None))
    assert 0.93 <= steady / 2000 <= 0.97
