"""Does memory grow under a steady load? The slope of PSS with an interval, and leak, no leak or cannot tell."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy

LeakOutcome = Literal["leak", "no leak", "cannot tell"]
SETTLING_FRAC = 0.25  # caches and allocators fill at first, in any service
NUM_BLOCKS = 12
FEWEST_SAMPLES = 2 * NUM_BLOCKS
HOUR_S = 3600.0


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakVerdict:
    """slope_bytes_per_h with its 95 % interval; None with a reason where the samples are too few."""

    outcome: LeakOutcome
    slope_bytes_per_h: float | None
    interval_bytes_per_h: tuple[float, float] | None
    limit_bytes_per_h: float
    num_samples: int
    soak_s: float
    reason: str


def judge_leak(
    times_s: Sequence[float], pss_bytes: Sequence[int], limit_bytes_per_h: float, confidence: float = 0.95
) -> LeakVerdict:
    """A leak is growth that is above the limit beyond doubt, no leak is growth below it beyond doubt.

    The first quarter of the time is left out, the rest is cut into twelve blocks of equal time and each block is its
    median. The interval is the wider one of two: least squares over the blocks (right for noise about a line) and the
    mean of the steps from block to block (right for memory that wanders, and not fooled by one single step).
    """
    if len(times_s) != len(pss_bytes):
        raise ValueError(f"{len(times_s)} times of {len(pss_bytes)} readings")
    soak_s = max(times_s) - min(times_s) if len(times_s) else 0.0
    blocks = _block_medians(np.asarray(times_s, dtype=np.float64), np.asarray(pss_bytes, dtype=np.float64))
    if blocks is None:
        reason = f"too few: every twelfth of the last three quarters needs two readings, {len(times_s)} were made"
        return LeakVerdict(
            outcome="cannot tell", slope_bytes_per_h=None, interval_bytes_per_h=None, num_samples=len(times_s),
            limit_bytes_per_h=limit_bytes_per_h, soak_s=soak_s, reason=f"{reason}; soak longer or sample more often",
        )  # fmt: skip
    per_block_h = soak_s * (1 - SETTLING_FRAC) / NUM_BLOCKS / HOUR_S
    slope, half = _slope(blocks, confidence)
    low, high = (slope - half) / per_block_h, (slope + half) / per_block_h
    outcome: LeakOutcome = (
        "leak" if low > limit_bytes_per_h else "no leak" if high < limit_bytes_per_h else "cannot tell"
    )
    reasons = {
        "leak": "the whole interval lies above the limit",
        "no leak": "the whole interval lies below the limit",
        "cannot tell": "the interval holds the limit: soak longer",
    }
    return LeakVerdict(
        outcome=outcome, slope_bytes_per_h=slope / per_block_h, interval_bytes_per_h=(low, high), soak_s=soak_s,
        num_samples=len(times_s), limit_bytes_per_h=limit_bytes_per_h, reason=reasons[outcome],
    )  # fmt: skip


def _block_medians(times_s: np.ndarray, values: np.ndarray) -> np.ndarray | None:
    """Of NUM_BLOCKS blocks of equal time after the settling, None where one of them has fewer than two readings."""
    if times_s.size < FEWEST_SAMPLES:
        return None
    begin_s, end_s = float(times_s.min()), float(times_s.max())
    edges = np.linspace(begin_s + SETTLING_FRAC * (end_s - begin_s), end_s, NUM_BLOCKS + 1)
    places = np.clip(np.searchsorted(edges, times_s, side="right") - 1, -1, NUM_BLOCKS - 1)
    groups = [values[places == block] for block in range(NUM_BLOCKS)]
    if min(group.size for group in groups) < 2:
        return None
    return np.array([np.median(group) for group in groups])


def _slope(blocks: np.ndarray, confidence: float) -> tuple[float, float]:
    """(slope per block, half the width of its interval). Both estimates lie inside."""
    x = np.arange(blocks.size) - (blocks.size - 1) / 2
    spread = float(x @ x)
    slope = float(x @ blocks) / spread
    residual = blocks - blocks.mean() - slope * x
    df = blocks.size - 2
    t = float(scipy.special.stdtrit(df, 0.5 + confidence / 2))
    by_line = t * math.sqrt(float(residual @ residual) / df / spread)
    steps = np.diff(blocks)
    by_steps = t * float(steps.std(ddof=1)) / math.sqrt(steps.size) + abs(float(steps.mean()) - slope)
    return slope, max(by_line, by_steps)
