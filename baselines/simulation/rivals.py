"""How other benchmark tools decide "slower", restated in a few lines each, to be tried on the same times as our rule.

Each takes the seconds of an old and of a new run, measured one after the other, and says whether it would report a
slowdown. Sources, of 2025 and 2026: pytest-benchmark `utils.py` (--benchmark-compare-fail=mean:5%),
asv `asv/_stats.py`, `commands/compare.py` (Mann-Whitney p < 0.002, factor 1.1), criterion.rs `src/analysis/compare.rs`
(bootstrapped t, p < 0.05, interval of the change outside 1 %), google/benchmark `tools/gbench/report.py` (Mann-Whitney
p < 0.05), nvbench `python/scripts/nvbench_compare.py` (mean change over the smaller relative deviation).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice

import numpy as np

from baselines.paired.data import REFERENCE, Block

RESAMPLES = 1000
BLOCKS_A_RUN = 3
Rival = Callable[[np.ndarray, np.ndarray], bool]


def pytest_benchmark(old_s: np.ndarray, new_s: np.ndarray) -> bool:
    """Mean worse by 5 %."""
    return bool(new_s.mean() > 1.05 * old_s.mean())


def asv(old_s: np.ndarray, new_s: np.ndarray) -> bool:
    """U test at 0.002, and medians apart by the default factor of 1.1."""
    return _u_test_p(old_s, new_s) < 0.002 and bool(np.median(new_s) > 1.1 * np.median(old_s))


def criterion(old_s: np.ndarray, new_s: np.ndarray) -> bool:
    """Bootstrapped t test at 0.05 under the pooled null, and the 95 % interval of the mean's change above +1 %."""
    rng = np.random.default_rng(0)
    pooled = np.concatenate([old_s, new_s])
    null = rng.choice(pooled, (RESAMPLES, pooled.size))
    statistics = _t(null[:, : old_s.size], null[:, old_s.size :])
    t = _t(old_s[None], new_s[None])[0]
    tail = min(np.mean(statistics <= t), np.mean(statistics >= t))
    old = rng.choice(old_s, (RESAMPLES, old_s.size)).mean(axis=1)
    new = rng.choice(new_s, (RESAMPLES, new_s.size)).mean(axis=1)
    return bool(2 * tail < 0.05 and np.quantile(new / old - 1, 0.025) > 0.01)


def google_benchmark(old_s: np.ndarray, new_s: np.ndarray) -> bool:
    """U test at 0.05; no size is asked for."""
    return _u_test_p(old_s, new_s) < 0.05 and bool(np.median(new_s) > np.median(old_s))


def nvbench(old_s: np.ndarray, new_s: np.ndarray) -> bool:
    """Mean change over the smaller of both relative standard deviations."""
    noise = min(old_s.std(ddof=1) / old_s.mean(), new_s.std(ddof=1) / new_s.mean())
    return bool(new_s.mean() / old_s.mean() - 1 > noise)


RIVALS: Mapping[str, Rival] = {
    "pytest-benchmark mean:5%": pytest_benchmark, "asv U test + 1.1": asv, "criterion": criterion,
    "google/benchmark U test": google_benchmark, "nvbench (legacy)": nvbench,
}  # fmt: skip


def run_after_run(blocks: Iterator[Block], true_ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """(old, new) as such tools measure: one engine's calls of three blocks, then the other's of the next three.

    Three processes a run instead of the usual one: that favours them.
    """
    taken = list(islice(blocks, 2 * BLOCKS_A_RUN))
    return _seconds(taken[:BLOCKS_A_RUN]), true_ratio * _seconds(taken[BLOCKS_A_RUN:])


def _seconds(blocks: Sequence[Block]) -> np.ndarray:
    return np.array([turn.seconds("wall_time", REFERENCE) for block in blocks for turn in block.turns])


def _u_test_p(old_s: np.ndarray, new_s: np.ndarray) -> float:
    from scipy.stats import mannwhitneyu

    return float(mannwhitneyu(old_s, new_s, alternative="two-sided").pvalue)


def _t(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Welch's t of every row."""
    error = first.var(axis=1, ddof=1) / first.shape[1] + second.var(axis=1, ddof=1) / second.shape[1]
    return (first.mean(axis=1) - second.mean(axis=1)) / np.sqrt(np.maximum(error, 1e-300))
