"""Histories of code that does not change, of recorded and synthetic machines, on which the rule of courses is tried.

A run of such a history is a few blocks of fresh processes, as a small gate every night makes them. Its figure is the
candidate's time over the reference's, both the same engine: what is left when a calibration takes the machine's own
drift away. A change is put in by scaling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np

from baselines.paired.data import CANDIDATE, REFERENCE, Block

BLOCKS_A_RUN = 4


def history_of(blocks: Iterator[Block], num_runs: int) -> np.ndarray:
    """(num_runs,) ratios, each of the next BLOCKS_A_RUN blocks."""
    return np.array([math.exp(_log_ratio(list(islice(blocks, BLOCKS_A_RUN)))) for _ in range(num_runs)])


def changed(history_N: np.ndarray, place: int, ratio: float) -> np.ndarray:
    """The same runs, from `place` on with `ratio` times the figure."""
    factor_N = np.where(np.arange(history_N.size) >= place, ratio, 1.0)
    return history_N * factor_N


def _log_ratio(blocks: list[Block]) -> float:
    return float(np.mean([np.median(block.log_ratios("wall_time", CANDIDATE, REFERENCE)) for block in blocks]))
