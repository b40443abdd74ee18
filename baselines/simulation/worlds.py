"""Synthetic machines for testing a verdict: times of unchanged or changed code with the noise that real machines make.

Every world is a recipe of the same parts: what processes differ by, what calls differ by, and what the machine does
meanwhile. Fixed seeds give the same blocks for ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from baselines.paired.data import CANDIDATE, REFERENCE, Block, Turn

CALL_S = 0.3
THREADS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """Relative sizes. process_sd: from process to process; call_sd: from call to call; tail_df: Student t of the calls
    (None: normal); drift_sd: step of a random walk per call; burst_frac of the calls are up to burst_size slower;
    slow_clock: the lower of two speeds, kept for a while; warmup: excess of a process's first call, halved by each;
    second: penalty of whoever is called second.
    """

    name: str
    process_sd: float = 0.003
    call_sd: float = 0.01
    tail_df: float | None = None
    drift_sd: float = 0.0
    burst_frac: float = 0.0
    burst_size: float = 0.0
    slow_clock: float = 0.0
    warmup: float = 0.0
    second: float = 0.0


WORLDS = (
    World(name="quiet"),
    World(name="drift", drift_sd=0.02, call_sd=0.015),
    World(name="bursts", burst_frac=0.2, burst_size=0.5, second=0.02),
    World(name="bimodal clocks", slow_clock=0.25, call_sd=0.01),
    World(name="slow warm-up", warmup=0.15, process_sd=0.005, second=0.02),
    World(name="heavy tails, processes differ", tail_df=2.5, call_sd=0.02, process_sd=0.02),
)
CLOCK_CHANGE = 0.1  # probability per call


def world_blocks(world: World, seed: int, true_ratio: float, turns: int = 6) -> Iterator[Block]:
    """Blocks without end of a candidate that takes true_ratio of the reference's time."""
    rng = np.random.default_rng([seed, *world.name.encode()])
    machine = _Machine(world, rng)
    while True:
        processes = {side: world.process_sd * rng.standard_normal() for side in (REFERENCE, CANDIDATE)}
        heat = {side: world.warmup * rng.random() for side in processes}
        block = []
        for turn in range(turns):
            order = (REFERENCE, CANDIDATE) if rng.random() < 0.5 else (CANDIDATE, REFERENCE)
            wall_s = {}
            for place, side in enumerate(order):
                log = processes[side] + heat[side] * 0.5**turn + world.second * place + machine.call()
                wall_s[side] = CALL_S * math.exp(log) * (true_ratio if side == CANDIDATE else 1.0)
            cpu_s = {side: THREADS * seconds for side, seconds in wall_s.items()}
            block.append(Turn(utterance_id="world", order=order, wall_s=wall_s, cpu_s=cpu_s))
        yield Block(turns=tuple(block))


class _Machine:
    """What the machine does while time goes on; one call moves it on."""

    def __init__(self, world: World, rng: np.random.Generator):
        self._world, self._rng = world, rng
        self._level, self._slow = 0.0, False

    def call(self) -> float:
        """ln of this call's factor."""
        world, rng = self._world, self._rng
        self._level = 0.95 * self._level + world.drift_sd * rng.standard_normal()
        noise = rng.standard_normal() if world.tail_df is None else rng.standard_t(world.tail_df)
        log = self._level + world.call_sd * noise
        if rng.random() < world.burst_frac:
            log += math.log1p(world.burst_size * rng.random())
        if rng.random() < CLOCK_CHANGE:
            self._slow = not self._slow
        return log + (math.log1p(world.slow_clock) if self._slow else 0.0)
