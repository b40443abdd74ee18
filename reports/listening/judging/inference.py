"""Statistics of votes. Listeners hear the same sentences, so votes are not independent: errors cluster both ways.

Variance of a mean over two crossed clusters: Cameron, Gelbach and Miller, J. Business Economic Statistics 29 (2011),
each part with its own G/(G-1); degrees of freedom: one less than the fewer clusters, as they advise for few of them.
Exact signed ranks: the permutation distribution of the ranks as they are, ties and all. Wilson, JASA 22 (1927); Holm,
Scandinavian J. of Statistics 6 (1979). N: votes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from baselines.refused import SettingRefused

MIN_CLUSTERS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A mean over votes. low, high, p_value (two-sided, of `null`) are None where too few clusters leave no interval.

    clusters: what the interval lets vary: "sentence and listener", or "sentence" where only one person listened.
    """

    mean: float
    low: float | None
    high: float | None
    p_value: float | None
    clusters: str
    num_votes: int
    num_sentences: int
    num_listeners: int


def clustered_mean(
    values_N: np.ndarray,
    sentence_N: Sequence[str],
    listener_N: Sequence[str],
    null: float,
    confidence: float = 0.95,
    scale: tuple[float, float] = (-math.inf, math.inf),
) -> Estimate:
    """Mean with an interval for other sentences and other listeners of the same kind. ValueError without votes.

    The interval is Student's, cut at the ends of the scale: no true mean lies beyond them, so it covers as often as
    uncut. ValueError for a value that is not on the scale.
    """
    values_N = np.asarray(values_N, dtype=np.float64)
    if values_N.size == 0 or not np.isfinite(values_N).all():
        raise ValueError("needs one vote at least, and finite ones only")
    if values_N.min() < scale[0] or values_N.max() > scale[1]:
        raise ValueError(f"votes from {values_N.min():g} to {values_N.max():g} on a scale {scale[0]:g} to {scale[1]:g}")
    mean = float(values_N.mean())
    num_sentences, num_listeners = len(set(sentence_N)), len(set(listener_N))
    variance, freedom = _clustered_variance((values_N - mean)[:, None], sentence_N, listener_N)
    low = high = p_value = None
    if freedom is not None:
        error = math.sqrt(float(variance[0, 0]))
        reach = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
        low, high = max(scale[0], mean - reach), min(scale[1], mean + reach)
        p_value = _p_of(mean - null, error, freedom)
    return Estimate(
        mean=mean,
        low=low,
        high=high,
        p_value=p_value,
        clusters="sentence and listener" if num_listeners >= MIN_CLUSTERS else "sentence",
        num_votes=values_N.size,
        num_sentences=num_sentences,
        num_listeners=num_listeners,
    )


def _p_of(distance: float, error: float, freedom: float) -> float:
    if error == 0:
        return 1.0 if distance == 0 else 0.0
    return float(2 * stats.t.sf(abs(distance) / error, freedom))


def _clustered_variance(
    residuals_NK: np.ndarray, sentence_N: Sequence[str], listener_N: Sequence[str]
) -> tuple[np.ndarray, float | None]:
    """(K, K) covariance of the mean of K scores per vote, and its degrees of freedom; None where nothing can vary.

    What both count, the votes' own noise, is taken off once: the variance left beside sentence and listener means.
    """
    num = len(residuals_NK)
    codes = [_codes(labels) for labels in (sentence_N, listener_N)]
    (by_sentence, sentence_df), (by_listener, listener_df) = (_cluster_part(residuals_NK, code_N) for code_N in codes)
    if sentence_df < 1:
        return by_sentence, None
    if listener_df < 1:
        return by_sentence, float(sentence_df)
    own_NK = residuals_NK - sum(_means_of(residuals_NK, code_N) for code_N in codes)
    own_df = num - sentence_df - listener_df - 1
    by_vote = own_NK.T @ own_NK / num / own_df if own_df > 0 else np.zeros_like(by_sentence)
    total = by_sentence + by_listener - by_vote
    largest = by_sentence if np.trace(by_sentence) >= np.trace(by_listener) else by_listener
    # The difference can come out below either part, even negative, when nothing but noise varies
    if np.trace(total) < np.trace(largest) or np.linalg.eigvalsh(total)[0] < 0:
        total = largest
    return total, float(min(sentence_df, listener_df))


def _codes(labels: Sequence[str]) -> np.ndarray:
    numbers = {label: i for i, label in enumerate(dict.fromkeys(labels))}
    return np.array([numbers[label] for label in labels])


def _cluster_part(residuals_NK: np.ndarray, code_N: np.ndarray) -> tuple[np.ndarray, int]:
    """Covariance of the mean from the sums of each cluster, and the number of clusters less one."""
    count = int(code_N.max()) + 1
    sums_GK = np.zeros((count, residuals_NK.shape[1]))
    np.add.at(sums_GK, code_N, residuals_NK)
    scale = count / (count - 1) if count > 1 else 0.0
    return scale * sums_GK.T @ sums_GK / len(residuals_NK) ** 2, count - 1


def _means_of(residuals_NK: np.ndarray, code_N: np.ndarray) -> np.ndarray:
    """(N, K): each vote's cluster mean."""
    sums_GK = np.zeros((int(code_N.max()) + 1, residuals_NK.shape[1]))
    np.add.at(sums_GK, code_N, residuals_NK)
    return np.asarray(sums_GK[code_N] / np.bincount(code_N)[code_N][:, None])


def clustered_covariance(
    scores_NK: np.ndarray, sentence_N: Sequence[str], listener_N: Sequence[str]
) -> tuple[np.ndarray, float | None]:
    """(K, K) covariance of the *sum* of every vote's K scores (which sum to about 0), and its degrees of freedom."""
    covariance, freedom = _clustered_variance(scores_NK, sentence_N, listener_N)
    return covariance * len(scores_NK) ** 2, freedom


def signed_rank_p(differences: Sequence[float]) -> float:
    """Exact two-sided p of Wilcoxon's signed ranks; zeros are left out, equal sizes share their rank. 1.0 for none."""
    values = np.asarray([value for value in differences if value != 0], dtype=np.float64)
    if values.size == 0:
        return 1.0
    # Means of votes carry rounding errors, which would break ties
    ranks = np.rint(2 * stats.rankdata(np.round(np.abs(values), 9))).astype(int)
    total = int(ranks.sum())
    chances = np.zeros(total + 1)
    chances[0] = 1.0
    for rank in ranks:
        chances[rank:] = (chances[rank:] + chances[: total + 1 - rank]) / 2
        chances[:rank] /= 2
    observed = int(ranks[values > 0].sum())
    tail = min(chances[: observed + 1].sum(), chances[observed:].sum())
    return float(min(1.0, 2 * tail))


def binomial_p(successes: int, n: int, sides: int = 2) -> float:
    """Exact p of a fair coin; sides=1 asks for more successes only. 1.0 for no throws."""
    if not 0 <= successes <= n or sides not in (1, 2):
        raise ValueError(f"{successes} of {n} with {sides} sides is no test")
    if n == 0:
        return 1.0
    return float(stats.binomtest(successes, n, alternative="greater" if sides == 1 else "two-sided").pvalue)


def wilson(successes: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for a share; half successes (ties) are allowed."""
    if not 0 <= successes <= n or n == 0:
        raise ValueError(f"{successes} of {n} is not a share")
    z = float(stats.norm.ppf((1 + confidence) / 2))
    share = successes / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, middle - reach), min(1.0, middle + reach)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values in the order given."""
    adjusted = [0.0] * len(p_values)
    worst = 0.0
    for place, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        worst = max(worst, min(1.0, (len(p_values) - place) * p_values[index]))
        adjusted[index] = worst
    return adjusted


def votes_to_win(n: int, alpha: float = 0.05) -> int | None:
    """Fewest of n votes that a two-sided exact test calls a preference; None where not even all would."""
    return next((k for k in range(n // 2, n + 1) if k > n / 2 and binomial_p(k, n) <= alpha), None)


def power_of(n: int, share: float, alpha: float = 0.05) -> float:
    """Chance that n independent votes at a true preference of `share` (over 1/2) win."""
    needed = votes_to_win(n, alpha)
    return 0.0 if needed is None else float(special.bdtrc(needed - 1, n, share))


def votes_needed(share: float, power: float = 0.8, alpha: float = 0.05) -> int:
    """Fewest independent votes from which on the power at a true preference of `share` is reached.

    Raises SettingRefused.
    """
    if not 0.5 < share < 1:
        raise SettingRefused("share", share, "must lie between 0.5 and 1", "0.6 is a preference that listeners notice")
    normal = ((stats.norm.ppf(1 - alpha / 2) + stats.norm.ppf(power)) / (share - 0.5) / 2) ** 2
    # The power of an exact test goes up in a saw tooth: the last n that falls short decides
    short = [n for n in range(4, int(1.4 * normal) + 30) if power_of(n, share, alpha) < power]
    return short[-1] + 1
