"""Statistics of times and counts that assume nothing about the distribution: order statistics and exact binomials.

Formulae: intervals for a quantile by order statistics, Hahn and Meeker, Statistical Intervals (1991), section 5.2;
Clopper and Pearson, Biometrika 26 (1934); early stopping, MLPerf loadgen/early_stopping.cc.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy


@dataclass(frozen=True, kw_only=True, slots=True)
class RatioInterval:
    """The median ratio of paired measurements, with an interval that covers it in `confidence` of all experiments."""

    ratio: float
    low: float
    high: float
    num_pairs: int
    confidence: float


def _finite(values: Sequence[float]) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError("needs one value at least, and finite values only")
    return array


def _check_open_unit(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"{name}={value}: must lie between 0 and 1")


def quantile(values: Sequence[float], q: float) -> float:
    """The q-quantile, linear between order statistics (numpy's default). Raises ValueError on nothing, NaN or bad q."""
    return float(np.quantile(_finite(values), q))


def min_trials(q: float, confidence: float = 0.95) -> int:
    """Smallest n whose maximum lies at or above the q-quantile with `confidence`: 1 - q**n >= confidence.

    With fewer trials a printed p95 or p99 may be a number that the tail never touched.
    """
    _check_open_unit("q", q)
    _check_open_unit("confidence", confidence)
    num = max(1, math.floor(math.log1p(-confidence) / math.log(q)) - 1)  # just under the answer, whatever the rounding
    while 1 - q**num < confidence:
        num += 1
    return num


MIN_TRIALS: dict[float, int] = {q: min_trials(q) for q in (0.95, 0.99)}


def quantile_interval(values: Sequence[float], q: float, confidence: float = 0.95) -> tuple[float, float] | None:
    """Interval (low, high) for the q-quantile from order statistics; exact for any continuous distribution.

    Of all pairs (x_l, x_u) that cover with at least `confidence`, the one with the fewest values between them, and of
    those the one whose tails are the most alike: near the end of the sample the tails cannot be alike, and equal ones
    would cover more than was asked. None where even the smallest and the largest do not cover it: a 95 % interval
    takes 6 values for the median, 59 for the 95th and 299 for the 99th percentile.
    """
    _check_open_unit("q", q)
    _check_open_unit("confidence", confidence)
    ordered = np.sort(_finite(values))
    count = ordered.size
    below = scipy.special.bdtr(np.arange(count), count, q)  # [k]: P(at most k values lie below the quantile)
    # x_l lies above the quantile with P(Binomial <= l - 1), x_u below it with P(Binomial >= u)
    best: tuple[int, float, int, int] | None = None
    for lower in range(1, count + 1):
        under = float(below[lower - 1])
        if under > 1 - confidence:
            break
        upper = int(np.searchsorted(below, confidence + under, side="left")) + 1
        if upper <= count:
            found = (upper - lower, abs(under - (1 - float(below[upper - 1]))), lower, upper)
            best = found if best is None else min(best, found)
    return None if best is None else (float(ordered[best[2] - 1]), float(ordered[best[3] - 1]))


def trend_interval(
    values: Sequence[float], groups: Sequence[str], confidence: float = 0.95
) -> tuple[float, float] | None:
    """Least-squares slope per step of `values` taken in this order, with an own level for each group; its interval.

    None where fewer than two degrees of freedom are left. Values that lie exactly on the line give a point.
    """
    if len(values) != len(groups):
        raise ValueError(f"{len(values)} values of {len(groups)} groups")
    _check_open_unit("confidence", confidence)
    y = _finite(values).copy()
    x = np.arange(y.size, dtype=np.float64)
    names = np.asarray(groups)
    for name in np.unique(names):
        y[names == name] -= y[names == name].mean()
        x[names == name] -= x[names == name].mean()
    df = y.size - np.unique(names).size - 1
    spread = float(x @ x)
    if df < 2 or spread == 0:
        return None
    slope = float(x @ y) / spread
    residual = y - slope * x
    half = float(scipy.special.stdtrit(df, 0.5 + confidence / 2)) * float(np.sqrt(residual @ residual / df / spread))
    return slope - half, slope + half


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float] | None:
    """Interval (low, high) for the median from order statistics; exact for any continuous distribution.

    The k-th smallest and k-th largest value, with the largest k that P(Binomial(n, 1/2) < k) <= (1 - confidence) / 2
    allows. None where even k = 1 does not: under 6 values at 0.95, under 8 at 0.99.
    """
    _check_open_unit("confidence", confidence)
    ordered = np.sort(_finite(values))
    below = scipy.special.bdtr(np.arange(ordered.size // 2), ordered.size, 0.5)  # P(Binomial <= k - 1), k = 1, 2, ..
    k = int(np.searchsorted(below, (1 - confidence) / 2, side="right"))
    if k == 0:
        return None
    return float(ordered[k - 1]), float(ordered[-k])


def ratio_interval(
    numerators: Sequence[float], denominators: Sequence[float], confidence: float = 0.95
) -> RatioInterval | None:
    """Median of numerator / denominator over pairs measured side by side, on the log scale (so that a/b inverts b/a).

    None where there are too few pairs for the confidence. Raises ValueError on unequal lengths or times not above 0.
    """
    if len(numerators) != len(denominators):
        raise ValueError(f"{len(numerators)} numerators and {len(denominators)} denominators are not pairs")
    over, under = _finite(numerators), _finite(denominators)
    if min(over.min(), under.min()) <= 0:
        raise ValueError("a ratio of times needs values above 0")
    logs = np.log(over) - np.log(under)
    interval = median_interval(logs.tolist(), confidence)
    if interval is None:
        return None
    return RatioInterval(
        ratio=math.exp(float(np.median(logs))),
        low=math.exp(interval[0]),
        high=math.exp(interval[1]),
        num_pairs=logs.size,
        confidence=confidence,
    )


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Exact two-sided interval (low, high) for a binomial share; (1 - confidence) / 2 is left on either side."""
    _check_open_unit("confidence", confidence)
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is not a share")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(scipy.special.betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes == n else float(scipy.special.betaincinv(successes + 1, n - successes, 1 - tail))
    return low, high
