"""Columns about power and heat; of each only what at least one row has."""

from __future__ import annotations

from collections.abc import Callable

from reports.data.power import PowerUse, power_of
from reports.data.table import Row, Table
from reports.sections.column import Column
from reports.words import ABSENT, significant

EXPLANATION = (
    "Joules of a pass of its own behind the timed rounds (measure=energy), per second of generated speech: all that "
    "the board or card used, and what of it an idle one would not have. Board rails are not the wall: supply and "
    "carrier add to them. Watts of another source or rule are another quantity."
)


def headline_columns(table: Table) -> tuple[Column, ...]:
    """What stands beside the speed."""
    return _with_content((_GROSS, _MEAN), table)


def power_columns(table: Table) -> tuple[Column, ...]:
    """Empty where nothing was measured: the name of a variant alone is no table."""
    return _with_content((_GROSS, _NET, _MEAN, _IDLE, _HOTTEST, _THROTTLING, _SWAP, _MODE, _HOW), table)


def _with_content(columns: tuple[Column, ...], table: Table) -> tuple[Column, ...]:
    return tuple(column for column in columns if any(column.text(row) != ABSENT for row in table.rows))


def _number(key: str, header: str, what: str, read: Callable[[PowerUse], float | None]) -> Column:
    def value(row: Row) -> float | None:
        use = power_of(row)
        return None if use is None else read(use)

    def text(row: Row) -> str:
        number = value(row)
        return ABSENT if number is None else significant(number)

    return Column(key=key, header=header, help=what, text=text, sort=value)


def _words(key: str, header: str, what: str, read: Callable[[PowerUse], str | None]) -> Column:
    def text(row: Row) -> str:
        use = power_of(row)
        return (None if use is None else read(use)) or ABSENT

    return Column(key=key, header=header, help=what, text=text)


def _throttling(use: PowerUse) -> str | None:
    """none only where somebody looked."""
    acted, events = use.seen.get("throttles"), use.seen.get("events") or {}
    counted = [f"{name.upper()} {count} times" for name, count in sorted(events.items()) if count]
    if acted is None and not events:
        return None
    return ", ".join([*(acted or ()), *counted]) or "none"


_GROSS = _number(
    "energy_j_per_audio_s", "J per s of speech",
    "joules of board or card per second of generated speech, idle power included; lower is better", lambda u: u.gross_j,
)  # fmt: skip
_NET = _number(
    "energy_net_j_per_audio_s", "J above idle", "the same without what an idle board would have used meanwhile",
    lambda u: u.net_j,
)  # fmt: skip
_MEAN = _number("power_mean_w", "W busy", "mean watts while the workload was spoken again and again",
                lambda u: u.mean_w)  # fmt: skip
_IDLE = _number("power_idle_w", "W idle", "mean watts before and after, the model loaded", lambda u: u.idle_w)
_HOTTEST = _number("hottest_c", "hottest °C", "highest temperature of any zone", lambda u: u.hottest_c)
_THROTTLING = _words(
    "throttling", "throttling",
    "what slowed the machine down while it was watched, and what its over-current counters rose by (OC3, of about a "
    "millisecond each, is normal in the fastest mode of a Jetson)", _throttling,
)  # fmt: skip
_SWAP = _number(
    "swap_grew_mib", "swap +MiB", "what was written out to swap while it was measured: memory did not suffice, and the "
    "times include that", lambda u: u.swap_grew_mib,
)  # fmt: skip
_MODE = _words("power_mode", "mode", "power mode, and whether the clocks were locked", lambda u: u.mode)
_HOW = _words("power_source", "watts by", "where the watts come from, and the rule of the board's total",
              lambda u: u.how)  # fmt: skip
