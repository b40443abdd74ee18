"""What a metric answers: a number, or the status and the reason why there is none. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from metrics.record import ScoreStatus


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """A number with status ok, or None with the status and the reason why there is none."""

    value: float | None
    status: ScoreStatus
    reason: str | None

    @staticmethod
    def ok(value: float) -> Outcome:
        return Outcome(value=value, status="ok", reason=None)

    @staticmethod
    def none(status: ScoreStatus, reason: str) -> Outcome:
        return Outcome(value=None, status=status, reason=reason)
