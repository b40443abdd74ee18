"""What a gate can find: a rule that does not say so passes for strict where it is blind."""

from __future__ import annotations

import math
from dataclasses import dataclass

import scipy

LEAST_SESSIONS = 3
MOST_SESSIONS = 20  # more are not advised: the same-run comparison is cheaper
SURELY = 0.95
MAX_LOG_RATIO = 700.0
HOPELESS_RATIO = 3.0  # beyond it, how blind a gate is need not be said to three digits


@dataclass(frozen=True, kw_only=True, slots=True)
class Power:
    """A rule that fails where the lower bound, at false_alarm_frac, of a log ratio lies above ignore_ratio."""

    ignore_ratio: float
    catch_ratio: float
    false_alarm_frac: float

    def detectable_ratio(self, se: float, df: float) -> float:
        """The slowdown that fails in 95 % of gates, for a standard error of the log ratio with df degrees of freedom.

        Sum of two Student quantiles: a little more than the exact one of the noncentral distribution.
        """
        return self.ignore_ratio * bounded_exp(self._reach(df) * se)

    def sessions_needed(self, spread: float) -> int | None:
        """Sessions of this SD from which on a baseline finds catch_ratio; None beyond MOST_SESSIONS."""
        room = math.log(self.catch_ratio / self.ignore_ratio)
        for count in range(LEAST_SESSIONS, MOST_SESSIONS + 1):
            if self._reach(count - 1) * spread * math.sqrt(1 + 1 / count) <= room:
                return count
        return None

    def _reach(self, df: float) -> float:
        return float(scipy.special.stdtrit(df, 1 - self.false_alarm_frac)) + float(scipy.special.stdtrit(df, SURELY))


def power_words(power: Power, detectable: float, spread: float, num_sessions: int) -> str:
    """What this gate can find, and where that is less than was asked, what would find it."""
    found = f"from x{detectable:.3f} on" if detectable < HOPELESS_RATIO else f"only beyond x{HOPELESS_RATIO:g}"
    words = f"a slowdown is found 95 % surely {found}"
    if detectable <= power.catch_ratio:
        return words
    needed = power.sessions_needed(spread)
    if needed is not None and needed > num_sessions:
        return f"{words}; {needed} sessions of this noise in the baseline would find x{power.catch_ratio:g}"
    return f"{words}; for x{power.catch_ratio:g} on a machine like this use `python -m experiments.compare`"


def bounded_exp(log_ratio: float) -> float:
    """exp, bounded: with two wild rounds an upper bound can lie beyond what a float holds."""
    return math.exp(min(log_ratio, MAX_LOG_RATIO))
