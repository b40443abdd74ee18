"""Was a Jetson slowed down while it was measured? From its counters before and after.

OC1 is under-voltage, OC2 average over-current: neither is normal. OC3, instantaneous over-current, is: in the fastest
mode it rises even when nothing runs, and each event halves the clocks for about a millisecond, which no frequency file
shows (NVIDIA developer forum, 321989). So OC3 counts by the share of the time that it took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NOT_NORMAL = {"oc1": "under-voltage (OC1)", "oc2": "average over-current (OC2)"}
SHORT = "oc3"
SHORT_S = 1.1e-3  # an event of OC3 and its way back
MOST_SHORT_FRAC = 0.01


@dataclass(frozen=True, kw_only=True, slots=True)
class Slowed:
    """events: counters since the board was started, as far as they can be read. acting: what throttles right now, None
    where what can be read does not tell."""

    events: Mapping[str, int] = field(default_factory=dict)
    acting: tuple[str, ...] | None = ()


def short_frac(before: Slowed, after: Slowed, seconds: float) -> float | None:
    """The share of the time that OC3 took, None where it was not counted. Raises ValueError for seconds not above 0."""
    if seconds <= 0:
        raise ValueError(f"seconds={seconds}: must be above 0")
    then, now = before.events.get(SHORT), after.events.get(SHORT)
    return None if then is None or now is None or now < then else (now - then) * SHORT_S / seconds


def throttling(before: Slowed, after: Slowed, seconds: float) -> list[str]:
    """Why the time between is no measurement; empty where nothing says so."""
    found = []
    for name, now in sorted(after.events.items()):
        then = before.events.get(name)
        if then is None or now == then:
            continue
        if now < then:
            found.append(f"the counter {name} went back from {then} to {now}: the board was started again")
        elif name in NOT_NORMAL:
            found.append(f"{now - then} events of {NOT_NORMAL[name]}: look at the power supply")
    frac = short_frac(before, after, seconds)
    if frac is not None and frac > MOST_SHORT_FRAC:
        found.append(
            f"instantaneous over-current (OC3) held the clocks down for {100 * frac:.1f} % of the time, more than "
            f"{100 * MOST_SHORT_FRAC:g} %: choose a smaller power mode"
        )
    acting = sorted({*(before.acting or ()), *(after.acting or ())})
    return [*found, *(f"{name} was throttling: let the board cool down" for name in acting)]
