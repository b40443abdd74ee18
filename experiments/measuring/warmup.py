"""When warm-up ends: the last rounds' times have no slope left, and no counter of the engine moved in the last one.

A fixed number of warm-up calls is wrong for most programs (Barrett et al., arXiv:1602.00602): some are steady at once,
some never. The warm-up calls are kept and flagged, and where no steady state came in time the record says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from metrics.speed.steady import changed_counters
from metrics.stats import trend_interval

WINDOW_ROUNDS = 3  # with three sentences nine calls, five degrees of freedom beside a level for each sentence

Timed = tuple[str, float]  # utterance id, wall seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class WarmUp:
    """is_steady: None where too few rounds were made to know. slope_frac: relative change per call, of the window."""

    num_rounds: int
    is_steady: bool | None
    slope_frac: float | None
    slope_interval_frac: tuple[float, float] | None


def warm_up(
    one_round: Callable[[int, bool], Sequence[Timed]], most_rounds: int, counters: Callable[[], Mapping[str, int]]
) -> WarmUp:
    """Make rounds until they are steady, at most `most_rounds`. one_round: (number, whether to take every sentence).

    An engine with counters hears every sentence once, whatever the settings say: what it builds for a shape, it must
    have built before the timed region.
    """
    before = counters()
    every_shape = bool(before)
    rounds: list[Sequence[Timed]] = []
    found: WarmUp | None = None
    for repeat in range(max(most_rounds, 1) if every_shape else most_rounds):
        rounds.append(one_round(repeat, every_shape and repeat == 0))
        after = counters()
        is_settled, before = not changed_counters(before, after), after
        found = _judge(rounds, is_settled)
        if found is not None and found.is_steady:
            return found
    return found or WarmUp(num_rounds=len(rounds), is_steady=None, slope_frac=None, slope_interval_frac=None)


def _judge(rounds: Sequence[Sequence[Timed]], is_settled: bool) -> WarmUp | None:
    """None where the window is not full, or its calls are too few for a slope."""
    window = [timed for one in rounds[-WINDOW_ROUNDS:] for timed in one]
    if len(rounds) < WINDOW_ROUNDS:
        return None
    interval = trend_interval([math.log(max(wall_s, 1e-9)) for _, wall_s in window], [name for name, _ in window])
    if interval is None:
        return None
    return WarmUp(
        num_rounds=len(rounds),
        is_steady=is_settled and interval[0] <= 0 <= interval[1],
        slope_frac=(interval[0] + interval[1]) / 2,
        slope_interval_frac=interval,
    )
