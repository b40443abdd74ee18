"""Is there a step in a row of numbers? The largest one, and how often a row in another order has one as large.

The statistic is the gain of the best split: by how much the sum of squares falls where two levels take the place of one
(a cumulative sum, scaled; E. S. Page 1955; the scan of Olshen et al. 2004, Biostatistics 5(4)). Its p-value is of
permutations: where nothing has changed, any order of the runs was as likely. No distribution is assumed; that runs do
not hang together is. Most rows are far from an alarm, so drawing ends early there (Besag and Clifford 1991, Biometrika
78(2)): the p-value is then only known to be large.

Shape letters: P permutations, N runs, K places of a split.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LEAST_SIDE = 3  # runs on either side of a split: a single wild one is no new level
FIRST_DRAWS, ENOUGH_EXCEEDED = 199, 20


@dataclass(frozen=True, slots=True)
class Step:
    """place: the first run of the new level. p_value: of permutations, the row itself counted as one of them."""

    place: int
    p_value: float


def largest_step(values_N: np.ndarray, p_limit: float, most_back: int, seed: int) -> Step | None:
    """None where the row is too short for two levels, or flat. p_limit: what the p-value will be held against.

    most_back: runs from the end in which the new level may begin. Deterministic for a seed.
    """
    splits_K = _splits(values_N.size, most_back)
    if splits_K.size == 0 or np.ptp(values_N) == 0:
        return None
    gains_K = _gains(values_N[None], splits_K)[0]
    best = int(np.argmax(gains_K))
    exceeded, drawn = 0, 0
    generator = np.random.default_rng([seed, values_N.size])
    for batch_PN in _orders(values_N, draws_for(p_limit), generator):
        # What is equal but for rounding counts as exceeded
        exceeded += int(np.count_nonzero(_gains(batch_PN, splits_K).max(axis=1) >= gains_K[best] * (1 - 1e-9)))
        drawn += len(batch_PN)
        if exceeded >= ENOUGH_EXCEEDED:
            break
    return Step(int(splits_K[best]), (exceeded + 1) / (drawn + 1))


def draws_for(p_limit: float) -> int:
    """Permutations that tell a p-value of p_limit from one of a third of it."""
    return math.ceil(3 / p_limit)


def _orders(values_N: np.ndarray, most: int, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Batches (P, N) of the values in random orders, the first one small."""
    left, size = most, FIRST_DRAWS
    while left > 0:
        num = min(left, size)
        yield generator.permuted(np.broadcast_to(values_N, (num, values_N.size)).copy(), axis=1)
        left, size = left - num, min(4 * size, 20_000)


def _splits(num: int, most_back: int) -> np.ndarray:
    return np.arange(max(LEAST_SIDE, num - most_back), num - LEAST_SIDE + 1)


def _gains(rows_PN: np.ndarray, splits_K: np.ndarray) -> np.ndarray:
    """(P, K): the root of what a split saves of the sum of squares."""
    num = rows_PN.shape[1]
    centred_PN = rows_PN - rows_PN.mean(axis=1, keepdims=True)
    sums_PK = np.cumsum(centred_PN, axis=1)[:, splits_K - 1]
    return np.abs(sums_PK) * np.sqrt(num / (splits_K * (num - splits_K)))
