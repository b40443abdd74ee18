"""Bounds for paired differences, and what they say about a margin: better, not worse, worse, inconclusive.

Every bound is one-sided with its own error. From 30 values on, BCa bootstrap (Efron 1987) at levels widened for small
samples (Hesterberg, The American Statistician 69, 2015), and never narrower than Student's t. Below, signed ranks with
their exact distribution (Walsh averages; assumes symmetry) or order statistics (of the median, assumes nothing). Error
rates: sign-flip permutation turned into an interval through means of random subsets (Hartigan, JASA 64, 1969). Shares:
Clopper and Pearson, Biometrika 26 (1934).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

from metrics.paired import Errors, sign_bounds, t_quantile

Method = Literal["auto", "bca", "signed_rank", "sign", "permutation"]
QualityOutcome = Literal["better", "not worse", "worse", "inconclusive"]
METHODS: tuple[Method, ...] = ("auto", "bca", "signed_rank", "sign", "permutation")

BCA_FROM = 30
DRAWS = 10_000  # bootstrap samples, and subsets where 2**n are too many
EXACT_UP_TO = 13  # 2**13 subsets
DRAW_SEED = 20_240_917
MOST_NEEDED = 1_000_000  # beyond it, "more" is no advice


@dataclass(frozen=True, kw_only=True, slots=True)
class Bounds:
    """low and high are infinite where there are too few values for their error. method: what was used."""

    estimate: float
    low: float
    high: float
    method: str


def bounds_of(values: Sequence[float], errors: Errors, method: Method = "auto") -> Bounds:
    """Of the centre of independent values: P(low > truth) <= errors.low, P(high < truth) <= errors.high.

    The centre is the mean (bca, permutation), the pseudo-median (signed_rank) or the median (sign). Deterministic.
    Raises ValueError on no value or one that is not finite.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError("needs one value at least, and finite values only")
    if method == "auto":
        method = "bca" if array.size >= BCA_FROM else "signed_rank"
    if method == "sign":
        found = sign_bounds(values, errors)
        low, high = (-math.inf, math.inf) if found is None else (found.low, found.high)
        return Bounds(estimate=float(np.median(array)), low=low, high=high, method="order statistics")
    if method == "signed_rank":
        return _signed_rank(array, errors)
    return _permutation(array, errors) if method == "permutation" else _bca(array, errors)


def _bca(array: np.ndarray, errors: Errors) -> Bounds:
    mean, name = float(array.mean()), f"BCa bootstrap, {DRAWS} draws, at least Student's t"
    if array.size < 2:
        return Bounds(estimate=mean, low=-math.inf, high=math.inf, method=name)
    if float(np.ptp(array)) <= 1e-12 * max(1.0, abs(mean)):
        return Bounds(estimate=mean, low=mean, high=mean, method="all differences are equal")
    se = float(array.std(ddof=1)) / math.sqrt(array.size)
    low = min(_bca_bounds(array, errors.low)[0], mean - t_quantile(array.size, errors.low) * se)
    high = max(_bca_bounds(array, errors.high)[1], mean + t_quantile(array.size, errors.high) * se)
    return Bounds(estimate=mean, low=low, high=high, method=name)


def _bca_bounds(array: np.ndarray, error: float) -> tuple[float, float]:
    """Both bounds at one error, at the level that a normal sample of this size needs to keep it."""
    from scipy import stats  # takes a second to import

    widened = float(scipy.special.ndtr(-math.sqrt(array.size / (array.size - 1)) * t_quantile(array.size, error)))
    interval = stats.bootstrap(
        (array,), np.mean, n_resamples=DRAWS, confidence_level=1 - 2 * widened, method="BCa", vectorized=True,
        rng=np.random.default_rng(DRAW_SEED),
    ).confidence_interval  # fmt: skip
    low, high = float(interval.low), float(interval.high)
    # A sample that is all but constant leaves BCa without an acceleration; Student's bound then stands alone
    return (low if math.isfinite(low) else math.inf), (high if math.isfinite(high) else -math.inf)


def _signed_rank(array: np.ndarray, errors: Errors) -> Bounds:
    """Order statistics of the n (n + 1) / 2 means of pairs, by the null distribution of Wilcoxon's T."""
    upper = np.triu_indices(array.size)
    walsh = np.sort((array[:, None] + array[None, :])[upper] / 2)
    below = np.cumsum(_signed_rank_chances(array.size))
    ends = [int(np.searchsorted(below, error, side="right")) - 1 for error in (errors.low, errors.high)]
    low = float(walsh[ends[0]]) if ends[0] >= 0 else -math.inf
    high = float(walsh[-1 - ends[1]]) if ends[1] >= 0 else math.inf
    return Bounds(estimate=float(np.median(walsh)), low=low, high=high, method="signed ranks, exact")


def _signed_rank_chances(num: int) -> np.ndarray:
    """P(T = t), t from 0 to n (n + 1) / 2: every rank falls on the positive side by a fair coin."""
    chances = np.zeros(num * (num + 1) // 2 + 1)
    chances[0] = 1.0
    for rank in range(1, num + 1):
        shifted = np.zeros_like(chances)
        shifted[rank:] = chances[:-rank]
        chances = (chances + shifted) / 2
    return chances


def _permutation(array: np.ndarray, errors: Errors) -> Bounds:
    """Shifts that a sign-flip test of sum(values - shift) does not refuse."""
    num = array.size
    exact = num <= EXACT_UP_TO
    if exact:
        masks = (np.arange(2**num)[:, None] >> np.arange(num)) & 1
    else:
        masks = np.random.default_rng(DRAW_SEED).integers(0, 2, (DRAWS - 1, num), dtype=np.int8)
    counts = masks.sum(axis=1)
    means = np.sort((masks @ array)[counts > 0] / counts[counts > 0])
    # Subsets that may lie beyond the bound; the empty one (nothing flipped) and the data as they are always do
    num_empty = 1 if exact else 1 + int((counts == 0).sum())
    kept = [math.floor(error * (2**num if exact else DRAWS) + 1e-9) - num_empty for error in (errors.low, errors.high)]
    low = float(means[kept[0]]) if 0 <= kept[0] < means.size else -math.inf
    high = float(means[-1 - kept[1]]) if 0 <= kept[1] < means.size else math.inf
    name = "sign-flip permutation" + (", all of them" if exact else f", {DRAWS} draws")
    return Bounds(estimate=float(array.mean()), low=low, high=high, method=name)


def share_bounds(events: int, num: int, errors: Errors) -> Bounds:
    """Of a share, each bound exact at its own error."""
    if not 0 <= events <= num or num == 0:
        raise ValueError(f"{events} of {num} is not a share")
    low = 0.0 if events == 0 else float(scipy.special.betaincinv(events, num - events + 1, errors.low))
    high = 1.0 if events == num else float(scipy.special.betaincinv(events + 1, num - events, 1 - errors.high))
    return Bounds(estimate=events / num, low=low, high=high, method="Clopper-Pearson")


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """Values where more is better, against a limit (minus the margin of a difference).

    accept_error: of taking what lies at the limit for not worse. alarm_error: of calling worse, or better, what is not.
    """

    limit: float
    accept_error: float
    alarm_error: float
    is_difference: bool
    method: Method = "auto"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """bounds: low at accept_error, high at alarm_error. needed: values in all that would settle an inconclusive one."""

    outcome: QualityOutcome
    bounds: Bounds
    needed: int | None


def answer(values: Sequence[float], question: Question) -> Answer:
    """What the values say. Raises ValueError on none."""
    errors = Errors(low=question.accept_error, high=question.alarm_error)
    bounds = bounds_of(values, errors, question.method)
    if bounds.high < question.limit:
        return Answer(outcome="worse", bounds=bounds, needed=None)
    if bounds.low <= question.limit:
        return Answer(outcome="inconclusive", bounds=bounds, needed=values_needed(values, question))
    strict = bounds_of(values, Errors(low=question.alarm_error, high=question.alarm_error), question.method)
    better = question.is_difference and strict.low > 0
    return Answer(outcome="better" if better else "not worse", bounds=bounds, needed=None)


def answer_share(events: int, num: int, question: Question) -> Answer:
    """Whether a share of bad events lies under the limit. needed: values in all, were no further event to come."""
    bounds = share_bounds(events, num, Errors(low=question.alarm_error, high=question.accept_error))
    if bounds.low > question.limit:
        return Answer(outcome="worse", bounds=bounds, needed=None)
    if bounds.high < question.limit:
        return Answer(outcome="not worse", bounds=bounds, needed=None)
    needed = num_for_share(question.limit, question.accept_error, events)
    return Answer(outcome="inconclusive", bounds=bounds, needed=needed)


def num_for_share(limit: float, error: float, events: int = 0) -> int:
    """Fewest values with `events` bad ones among them whose upper bound lies under the limit: 299 for none and 1 %."""
    low, high = events, max(2, 2 * events)
    while scipy.special.bdtr(events, high, limit) > error:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if scipy.special.bdtr(events, middle, limit) > error else (low, middle)
    return high


def values_needed(values: Sequence[float], question: Question) -> int | None:
    """Values in all after which a bound clears the limit, were mean and spread to stay; None where out of reach.

    At least five: with fewer no exact method has a one-sided bound at 5 %.
    """
    array = np.asarray(values, dtype=np.float64)
    distance = float(array.mean()) - question.limit
    sd = float(array.std(ddof=1)) if array.size > 1 else math.inf
    error = question.accept_error if distance > 0 else question.alarm_error
    fewest = max(array.size + 1, math.ceil(-math.log2(error)))
    if sd == 0:
        return fewest
    if distance == 0 or not math.isfinite(sd):
        return None
    z = -float(scipy.special.ndtri(error))
    num = math.ceil((z * sd / distance) ** 2)
    while num < MOST_NEEDED and t_quantile(max(num, 2), error) * sd / math.sqrt(num) >= abs(distance):
        num += 1 + num // 1000
    return max(num, fewest) if num < MOST_NEEDED else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Precision:
    """Standard errors of the difference of two means over the same sentences: by pairs, and as if unpaired."""

    paired_se: float
    unpaired_se: float

    @property
    def gain(self) -> float | None:
        """How many times smaller pairing makes the error; None where every difference is the same."""
        return self.unpaired_se / self.paired_se if self.paired_se > 0 else None


def precision_of(first: Sequence[float], second: Sequence[float]) -> Precision | None:
    """None for fewer than two pairs. Raises ValueError on unequal lengths."""
    if len(first) != len(second):
        raise ValueError(f"{len(first)} and {len(second)} values are not pairs")
    if len(first) < 2:
        return None
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    unpaired = math.sqrt((float(a.var(ddof=1)) + float(b.var(ddof=1))) / a.size)
    return Precision(paired_se=float((b - a).std(ddof=1)) / math.sqrt(a.size), unpaired_se=unpaired)
