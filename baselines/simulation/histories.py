"""Histories of code that does not change, of recorded and synthetic machines, on which the rule of courses is tried.

A run of such a history is a few blocks of fresh processes, as a small gate every night makes them. Its figure is the
candidate's time over the reference's, both the same engine: what is left when a calibration takes the machine's own
drift away. A change is put in by scaling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from baselines.history.course import CourseLimits, judge_course
from baselines.paired.data import CANDIDATE, REFERENCE, Block
from baselines.simulation.traces import load_traces, trace_blocks
from baselines.simulation.worlds import WORLDS, world_blocks

BLOCKS_A_RUN = 4
RUNS_BEFORE, RUNS_A_MONTH = 20, 30
Machine = Callable[[int], Iterator[Block]]  # seed -> blocks of unchanged code without end


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Of `num` histories. alarms: of those without a change, in the month after RUNS_BEFORE runs. found: of those with
    a change of catch_ratio after RUNS_BEFORE runs, within found_within of them. sure: where RUNS_BEFORE runs gave a
    PASS, so that the change should be found; found_sure: of these. unsure: where they gave INCONCLUSIVE."""

    num: int
    alarms: int
    found: int
    sure: int
    found_sure: int
    unsure: int


def machines() -> Mapping[str, Machine]:
    """The recorded traces, then the synthetic worlds, by name."""
    traces = {trace.name: (lambda seed, trace=trace: trace_blocks(trace, seed, 1.0)) for trace in load_traces()}
    worlds = {world.name: (lambda seed, world=world: world_blocks(world, seed, 1.0)) for world in WORLDS}
    return {**traces, **worlds}


def rates_of(machine: Machine, num: int, limits: CourseLimits) -> Rates:
    """How often the rule of courses is wrong on `num` histories of that machine."""
    alarms = found = sure = found_sure = unsure = 0
    for seed in range(num):
        history_N = history_of(machine(seed), RUNS_BEFORE + RUNS_A_MONTH)
        course = judge_course(history_N.tolist(), limits, better="lower", is_ratio=True, since=RUNS_BEFORE)
        alarms += any(change.found >= RUNS_BEFORE for change in course.changes)
        before = judge_course(history_N[:RUNS_BEFORE].tolist(), limits, better="lower", is_ratio=True)
        slower_N = changed(history_N[: RUNS_BEFORE + limits.found_within], RUNS_BEFORE, limits.catch_ratio)
        after = judge_course(slower_N.tolist(), limits, better="lower", is_ratio=True, since=RUNS_BEFORE)
        is_found = any(change.found >= RUNS_BEFORE and change.is_worse for change in after.changes)
        found += is_found
        sure += before.outcome == "PASS"
        found_sure += before.outcome == "PASS" and is_found
        unsure += before.outcome == "INCONCLUSIVE"
    return Rates(num=num, alarms=alarms, found=found, sure=sure, found_sure=found_sure, unsure=unsure)


def history_of(blocks: Iterator[Block], num_runs: int) -> np.ndarray:
    """(num_runs,) ratios, each of the next BLOCKS_A_RUN blocks."""
    return np.array([math.exp(_log_ratio(list(islice(blocks, BLOCKS_A_RUN)))) for _ in range(num_runs)])


def changed(history_N: np.ndarray, place: int, ratio: float) -> np.ndarray:
    """The same runs, from `place` on with `ratio` times the figure."""
    factor_N = np.where(np.arange(history_N.size) >= place, ratio, 1.0)
    return history_N * factor_N


def _log_ratio(blocks: list[Block]) -> float:
    return float(np.mean([np.median(block.log_ratios("wall_time", CANDIDATE, REFERENCE)) for block in blocks]))
