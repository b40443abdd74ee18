"""Was the timed region steady? By what the engine counted, and by the slope of the warm-up; as scores of a record.

An engine that compiles, captures graphs or grows its pools counts that in facts.proof["steady_counters"] (name ->
whole number). None of these counts may change while calls are timed: a call that compiles is not the call a user waits
for. Engines without counters are not checked, and their records have no such score.
"""

from __future__ import annotations

from collections.abc import Mapping

from metrics.record import RunRecord, Score
from metrics.typed import number_in, part_of

STEADY_COUNTERS = "steady_counters"
WARM_UP_STEADY = "warm_up_steady"
REMEDY = "let the warm-up see every shape: raise measure.warmup_rounds, or repair the engine"
EVICTED = "graphs_evicted"
KEEP_MORE = "raise engine.max_graphs to at least the number of lengths and batches of the workload"


def changed_counters(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, tuple[int, int]]:
    """Name -> (before, after) of every counter that moved; one that is missing on a side counts as 0 there."""
    both = {name: (int(before.get(name, 0)), int(after.get(name, 0))) for name in sorted({*before, *after})}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def counted(proof: Mapping[str, object]) -> dict[str, int]:
    """The counters of facts.proof; empty where an engine counts nothing. Raises ValueError for what is no number."""
    counters = part_of(proof, STEADY_COUNTERS)
    return {name: int(number_in(counters, name)) for name in counters}


def changed_text(before: Mapping[str, int], after: Mapping[str, int]) -> str | None:
    """The counters that moved, in words, with the cause where a setting is at fault; None where all stood still."""
    changed = changed_counters(before, after)
    cause = " (more lengths than engine.max_graphs keeps)" if EVICTED in changed else ""
    said = ", ".join(f"{name} went from {old} to {new}" for name, (old, new) in changed.items())
    return f"{said}{cause}" if said else None


def counters_score(before: Mapping[str, int], after: Mapping[str, int]) -> Score | None:
    """1.0 where nothing changed in the timed region, status error with the counters that did; None without counters."""
    if not before and not after:
        return None
    said = changed_text(before, after)
    return Score(
        metric=STEADY_COUNTERS,
        utterance_id=None,
        value=None if said else 1.0,
        status="error" if said else "ok",
        reason=f"{said} in the timed region" if said else None,
        better="higher",
    )


def warm_up_score(is_steady: bool | None, num_rounds: int, slope_frac: float | None) -> Score | None:
    """1.0 where the warm-up ended because its times had no slope left, 0.0 where it ended by its limit.

    slope_frac: relative change per call over the last rounds. None where too few rounds were made to know.
    """
    if is_steady is None:
        return None
    slope = "" if slope_frac is None else f", the times still moved by {100 * slope_frac:+.2g} % a call"
    return Score(
        metric=WARM_UP_STEADY,
        utterance_id=None,
        value=1.0 if is_steady else 0.0,
        status="ok",
        reason=None if is_steady else f"no steady state within {num_rounds} warm-up rounds{slope}",
        better="higher",
    )


def unsteady_reason(record: RunRecord) -> str | None:
    """Why the timed calls of a record are not those of a steady engine; None where nothing speaks against them."""
    broken = [score for score in record.scores_of(STEADY_COUNTERS) if score.status == "error"]
    return broken[0].reason if broken else None


def remedy_of(reason: str) -> str:
    """What helps against an `unsteady_reason`."""
    return KEEP_MORE if EVICTED in reason else REMEDY
