"""Bounds for paired log ratios: Student t over blocks, order statistics over pairs, and how many more would settle it.

Formulae: one-sided t bound of a mean; one-sided bound of a median by order statistics (Hahn and Meeker, Statistical
Intervals, 1991, section 5.2), exact for any continuous distribution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

MOST_BLOCKS = 256  # beyond it, "more" is no advice


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """Natural logs. low holds with 1 - low_error, high with 1 - high_error, each one-sided; sd: of one value."""

    log_ratio: float
    low: float
    high: float
    sd: float


@dataclass(frozen=True, slots=True)
class Errors:
    """One-sided error probabilities of a lower and an upper bound."""

    low: float
    high: float


def t_bounds(values: Sequence[float], errors: Errors, se_floor: float = 0.0) -> Bounds:
    """Of the mean of independent values (blocks). se_floor: the standard error that luck alone may not go under.

    Raises ValueError for fewer than two values: one has no spread.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size < 2 or not np.isfinite(array).all():
        raise ValueError("needs two finite values at least")
    mean, sd = float(array.mean()), float(array.std(ddof=1))
    se = max(sd / math.sqrt(array.size), se_floor)
    return Bounds(
        log_ratio=mean,
        low=mean - t_quantile(array.size, errors.low) * se,
        high=mean + t_quantile(array.size, errors.high) * se,
        sd=sd,
    )


def t_quantile(num_values: int, error: float) -> float:
    """The upper `error` quantile of t with num_values - 1 degrees of freedom."""
    return float(scipy.special.stdtrit(num_values - 1, 1 - error))


def sign_bounds(values: Sequence[float], errors: Errors) -> Bounds | None:
    """Of the median, from order statistics. None where there are too few values for either error."""
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    if ordered.size == 0 or not np.isfinite(ordered).all():
        raise ValueError("needs one finite value at least")
    low, high = (_order_statistic(ordered.size, error) for error in (errors.low, errors.high))
    if low is None or high is None:
        return None
    sd = float(ordered.std(ddof=1)) if ordered.size > 1 else 0.0
    return Bounds(log_ratio=float(np.median(ordered)), low=float(ordered[low]), high=float(ordered[-1 - high]), sd=sd)


def _order_statistic(num: int, error: float) -> int | None:
    """Largest k with P(Binomial(num, 1/2) <= k) <= error: the k-th smallest of 0.. is under the median that surely."""
    below = scipy.special.bdtr(np.arange(num), num, 0.5)
    k = int(np.searchsorted(below, error, side="right")) - 1
    return k if k >= 0 else None


def blocks_to_settle(bounds: Bounds, limits: tuple[float, float], errors: Errors, num_done: int) -> int | None:
    """Blocks in all after which one bound clears its limit, were mean and spread to stay; None beyond MOST_BLOCKS.

    limits: (ln ignore_ratio, ln catch_ratio).
    """
    for num in range(max(2, num_done + 1), MOST_BLOCKS + 1):
        se = bounds.sd / math.sqrt(num)
        if bounds.log_ratio - t_quantile(num, errors.low) * se > limits[0]:
            return num
        if bounds.log_ratio + t_quantile(num, errors.high) * se < limits[1]:
            return num
    return None


def pooled_sd_within(groups: Sequence[Sequence[float]]) -> float | None:
    """SD inside groups, pooled over them; None where no group has two values."""
    squares = sum(float(np.var(group, ddof=1)) * (len(group) - 1) for group in groups if len(group) > 1)
    freedom = sum(len(group) - 1 for group in groups if len(group) > 1)
    return math.sqrt(squares / freedom) if freedom else None


def between_sd(groups: Sequence[Sequence[float]]) -> float | None:
    """SD of the groups' true means (one-way random effects, method of moments), 0 where the values explain it all.

    For blocks of fresh processes: what a process pair differs from the next one. None for fewer than two groups.
    """
    spread = _spread_of_means(groups)
    return None if spread is None else math.sqrt(max(0.0, spread.variance - spread.by_values))


def between_sd_upper(groups: Sequence[Sequence[float]], error: float = 0.05) -> float | None:
    """Upper bound of the same SD, which holds with 1 - error: chi-square bound of the variance of the groups' means.

    What the values explain is then taken off as if known (it has many more degrees of freedom). Few groups whose means
    agree by luck have an SD of 0, but not a bound of 0.
    """
    spread = _spread_of_means(groups)
    if spread is None:
        return None
    freedom = spread.num - 1
    upper = spread.variance * freedom / float(scipy.special.chdtri(freedom, 1 - error))
    return math.sqrt(max(0.0, upper - spread.by_values))


@dataclass(frozen=True, slots=True)
class _Spread:
    """Of the groups' means: how many, their variance, and what part of it the values inside groups explain."""

    num: int
    variance: float
    by_values: float


def _spread_of_means(groups: Sequence[Sequence[float]]) -> _Spread | None:
    means = [float(np.mean(group)) for group in groups if len(group)]
    within = pooled_sd_within(groups)
    if len(means) < 2 or within is None:
        return None
    size = len(means) / sum(1 / len(group) for group in groups if len(group))  # harmonic mean
    return _Spread(len(means), float(np.var(means, ddof=1)), within**2 / size)
